//! Reading a file through the descriptors of a worker on this host, as far as that goes.

use super::FileInner;
use super::opened::Opened;
use crate::buffers::CHUNK;
use crate::data::fault::Fault;
use crate::local::file::{LocalFile, Miss, Waiting};
use crate::metrics;
use crate::types::ReadType;
use crate::workers::Worker;
use forebay_base::WorkerId;
use forebay_proto::frame::LocalFillHead;
use parking_lot::{Mutex, RwLock};
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// The longest read that is done at once, without letting other tasks run.
pub(super) const AT_ONCE_MAX: usize = CHUNK;
/// A file up to here that is read whole by its first read comes over the network: one request, where descriptors take two and one more to give them back.
const WHOLE_MAX: u64 = 256 << 10;
/// After descriptors could not be had, or a range could not be cached, the network is used for so long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Where a file keeps its descriptors, if it has any.
#[derive(Debug, Default)]
pub(super) struct Near {
    file: RwLock<Option<(WorkerId, Weak<LocalFile>)>>,
    /// Held while descriptors are asked for.
    opening: tokio::sync::Mutex<()>,
    retry_at: Mutex<Option<Instant>>,
}

impl Near {
    fn get(&self, opened: &Opened) -> Option<(WorkerId, Arc<LocalFile>)> {
        let current = self.file.read();
        let (worker, file) = current.as_ref()?;
        // A thread that still waits for a disk keeps the file open.
        let file = file.upgrade().filter(|file| file.id() == opened.file_id() && !file.is_silent())?;
        Some((*worker, file))
    }

    /// Whether it makes sense to ask for descriptors now.
    fn may_try(&self) -> bool {
        let mut retry_at = self.retry_at.lock();
        match *retry_at {
            Some(at) if Instant::now() < at => false,
            _ => {
                *retry_at = None;
                true
            }
        }
    }

    fn pause(&self) {
        *self.retry_at.lock() = Some(Instant::now() + RETRY_AFTER);
    }
}

impl FileInner {
    /// Reads what is cached here and in memory, without any waiting. Bytes that were read are handed out.
    pub(super) fn read_hot(&self, offset: u64, buffer: &mut [u8]) -> Option<usize> {
        if buffer.len() > AT_ONCE_MAX {
            return None;
        }
        // Locked until the bytes are handed out, so that the version cannot be exchanged in between.
        let opened = self.opened.read();
        let (_, file) = self.near.get(&opened)?;
        let length = super::clamp(&opened, offset, buffer.len());
        file.read(offset, &mut buffer[..length], Waiting::Forbidden).ok()?;
        self.handed_out.store(true, std::sync::atomic::Ordering::Release);
        metrics::local_bytes().increment(length as u64);
        file.link().hit(length as u64);
        Some(length)
    }

    /// Reads from the start of `out` as far as descriptors serve. Returns how many bytes that were; the rest is for the network.
    pub(super) async fn read_near(&self, opened: &Opened, offset: u64, out: &mut [u8], read_ahead: u64) -> usize {
        let mut done = 0;
        // One attempt for each of: the descriptors at hand, a fill, new descriptors and another fill.
        let mut attempts = 3;
        // The worker was asked for the rest, and has counted it.
        let mut asked = false;
        while done < out.len() {
            let is_whole = out.len() as u64 == opened.entry.length;
            let Some((worker, file)) = self.near_file(opened, is_whole).await else {
                break;
            };
            let at = offset + done as u64;
            let end = super::stream::cut(at, 1).min(offset + out.len() as u64);
            let piece = &mut out[done..][..(end - at) as usize];
            let miss = match self.read_piece(&file, at, piece).await {
                Ok(()) => {
                    metrics::local_bytes().increment(piece.len() as u64);
                    if !asked {
                        file.link().hit(piece.len() as u64);
                    }
                    done += piece.len();
                    // Pieces in memory never wait, so other tasks must be given their turn.
                    tokio::task::coop::consume_budget().await;
                    continue;
                }
                Err(miss) => miss,
            };
            attempts -= 1;
            let rest = at..offset + out.len() as u64;
            if attempts == 0 {
                self.near.pause();
                break;
            }
            if !self.mend(&worker, &file, opened, rest, miss, read_ahead).await {
                break;
            }
            asked |= matches!(miss, Miss::Missing | Miss::Damaged);
        }
        done
    }

    /// The descriptors of the file, asked for if need be and if that pays.
    async fn near_file(&self, opened: &Opened, is_whole: bool) -> Option<(Arc<Worker>, Arc<LocalFile>)> {
        let table = self.client.workers.table();
        let worker = table.near(opened.file_id())?;
        if let Some((id, file)) = self.near.get(opened)
            && id == worker.info.id
        {
            return Some((worker.clone(), file));
        }
        if opened.entry.length == 0 || !self.near.may_try() {
            return None;
        }
        let is_first = !self.handed_out.load(std::sync::atomic::Ordering::Relaxed);
        if is_whole
            && is_first
            && opened.entry.length <= WHOLE_MAX
            && !self.client.local_files.has(worker.info.id, opened.file_id())
        {
            return None;
        }
        let _opening = self.near.opening.lock().await;
        if let Some((id, file)) = self.near.get(opened)
            && id == worker.info.id
        {
            return Some((worker.clone(), file));
        }
        let file = match self.client.local_files.get(worker.info.id, opened.file_id()) {
            Some(file) => file,
            None => match self.lease(worker, opened).await {
                Ok(file) => file?,
                Err(fault) => {
                    tracing::debug!(%fault, worker = %worker.info.unix_socket, "no descriptors, reading over the network");
                    self.near.pause();
                    return None;
                }
            },
        };
        *self.near.file.write() = Some((worker.info.id, Arc::downgrade(&file)));
        Some((worker.clone(), file))
    }

    async fn lease(&self, worker: &Worker, opened: &Opened) -> Result<Option<Arc<LocalFile>>, Fault> {
        let deadlines = &self.client.config.deadlines;
        let id = opened.file_id();
        let Some(link) = worker.links.get(id, deadlines.worker_connect).await? else {
            self.near.pause();
            return Ok(None);
        };
        let threads = &self.client.local_files.threads;
        let file = link.open(opened.ticket(), id, opened.entry.length, threads, deadlines.worker_silence).await?;
        let file = Arc::new(file);
        self.client.local_files.insert(worker.info.id, &file);
        Ok(Some(file))
    }

    /// Does what may make a missed read succeed. False when the network is the better way.
    async fn mend(
        &self,
        worker: &Arc<Worker>,
        file: &Arc<LocalFile>,
        opened: &Opened,
        range: Range<u64>,
        miss: Miss,
        read_ahead: u64,
    ) -> bool {
        match miss {
            Miss::WouldBlock => false,
            Miss::Silent => {
                tracing::warn!(file = %opened.file_id(), "the disk of a cached file does not answer, reading over the network");
                file.set_silent();
                self.client.local_files.remove(worker.info.id, file);
                self.near.pause();
                false
            }
            Miss::Gone => {
                self.client.local_files.remove(worker.info.id, file);
                true
            }
            Miss::Missing if self.read_type == ReadType::NoCache => false,
            Miss::Missing | Miss::Damaged if !self.near.may_try() => false,
            Miss::Missing | Miss::Damaged => {
                let verify = miss == Miss::Damaged;
                if verify {
                    metrics::checksum_errors().increment(1);
                }
                let head = LocalFillHead {
                    ticket: opened.ticket(),
                    offset: range.start,
                    length: range.end - range.start,
                    read_ahead,
                    verify,
                };
                let deadlines = &self.client.config.deadlines;
                let filled = file.link().fill(&head, deadlines.worker_silence);
                let silent = |_| Some(Err(Fault::Silent(deadlines.read)));
                match tokio::time::timeout(deadlines.read, filled).await.unwrap_or_else(silent) {
                    Some(Ok(done)) => {
                        metrics::served(done.hit, done.missed);
                        true
                    }
                    Some(Err(fault)) => {
                        tracing::debug!(%fault, file = %opened.file_id(), "range not cached, reading over the network");
                        self.cause.set(fault.to_string());
                        self.near.pause();
                        false
                    }
                    None => false,
                }
            }
        }
    }

    /// Reads a piece: at once if it is in memory, else on a thread that may wait for a disk.
    async fn read_piece(&self, file: &Arc<LocalFile>, at: u64, out: &mut [u8]) -> Result<(), Miss> {
        match file.read(at, out, Waiting::Forbidden) {
            Err(Miss::WouldBlock) => {}
            result => return result,
        }
        let (file, device, length) = (file.clone(), file.device(), out.len());
        let read = move || {
            let mut bytes = vec![0; length];
            file.read(at, &mut bytes, Waiting::Allowed).map(|()| bytes)
        };
        let patience = self.client.config.deadlines.worker_silence;
        let bytes = self.client.local_files.threads.run(device, patience, read).await?;
        out.copy_from_slice(&bytes);
        Ok(())
    }
}
