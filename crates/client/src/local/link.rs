//! The Unix connection to a worker on which descriptors are leased.
//!
//! The hard problem is to notice its end in time. When it ends the worker may punch holes into files that we hold open, and a read
//! of a hole gives zeros. It waits [`LEASE_GRACE`] before it does (so does one that was started anew), and every read through descriptors
//! is only believed if the connection was seen alive less than that before the read was over: [`Link::is_alive`].

use super::file::LocalFile;
use super::threads::DiskThreads;
use crate::data::connection::{Answer, Connection, unexpected};
use crate::data::fault::Fault;
use crate::data::socket::{Sent, Socket};
use bytes::Bytes;
use forebay_base::{FileId, InodeId};
use forebay_cache::LEASE_GRACE;
use forebay_proto::frame::{DoneHead, Kind, LocalCloseHead, LocalFillHead, LocalOpenHead, encode_frame};
use parking_lot::Mutex;
use rustix::net::{RecvFlags, SendFlags, recv};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long the connection is believed to be alive after it was looked at: well below the grace, for the read itself takes
/// time too.
const BELIEVED: Duration = LEASE_GRACE.checked_div(4).expect("four is not zero");

/// How often a worker is told what was read through its descriptors: as often as it tells the masters.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long it may take to hear it.
const REPORT_PATIENCE: Duration = Duration::from_secs(1);

/// A connection with the leases on it.
#[derive(Debug)]
pub(crate) struct Link {
    connection: tokio::sync::Mutex<Connection>,
    /// The same socket, to look at it while a request is under way.
    probe: OwnedFd,
    began: Instant,
    /// When it was seen alive last, in milliseconds since `began`.
    alive_ms: AtomicU64,
    broken: AtomicBool,
    /// Bytes that were read through descriptors, and cached without our asking, that the worker does not know of yet: it counts them as hits.
    hits: AtomicU64,
    /// The connection is in use for telling it, and free in a moment.
    reporting: AtomicBool,
    leases: Mutex<Leases>,
}

/// How often each file is open here, and which are to be given back.
#[derive(Debug, Default)]
struct Leases {
    open: HashMap<FileId, usize>,
    closing: Vec<FileId>,
}

impl Link {
    pub(crate) async fn connect(path: &Path, patience: Duration) -> Result<Arc<Link>, Fault> {
        let began = Instant::now();
        let socket = Socket::unix(path, patience).await?;
        let probe = socket.as_fd().try_clone_to_owned()?;
        let link = Arc::new(Link {
            connection: tokio::sync::Mutex::new(Connection::new(socket)),
            probe,
            began,
            alive_ms: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            reporting: AtomicBool::new(false),
            leases: Mutex::default(),
        });
        let this = Arc::downgrade(&link);
        tokio::spawn(async move { while report_later(&this).await {} });
        Ok(link)
    }

    /// Notes that bytes were read that nobody had to be asked for.
    pub(crate) fn hit(&self, bytes: u64) {
        self.hits.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tells the worker what was read, unless it is told in passing, by the request that uses the connection just now or the next one.
    async fn report(&self) {
        if self.hits.load(Ordering::Relaxed) == 0 || !self.is_alive() {
            return;
        }
        self.reporting.store(true, Ordering::Release);
        if let Ok(mut connection) = self.connection.try_lock() {
            let head = self.close_head(FileId { inode: InodeId(0), version: 0 });
            let told = async {
                request(&mut connection, Kind::LocalClose, &head, REPORT_PATIENCE).await?;
                // Not left to the next request: there may be none for long, and the answers would fill the socket.
                connection.answer(REPORT_PATIENCE).await.map(drop)
            };
            if let Err(fault) = told.await {
                self.note(&fault);
            }
        }
        self.reporting.store(false, Ordering::Release);
    }

    fn close_head(&self, file: FileId) -> LocalCloseHead {
        let read_bytes = self.hits.swap(0, Ordering::Relaxed);
        LocalCloseHead { inode: file.inode.0, version: file.version, read_bytes }
    }

    /// Whether the leases were good a moment ago, so that what was read through descriptors until now is right.
    pub(crate) fn is_alive(&self) -> bool {
        if self.broken.load(Ordering::Relaxed) {
            return false;
        }
        let now_ms = self.began.elapsed().as_millis() as u64;
        if now_ms.saturating_sub(self.alive_ms.load(Ordering::Relaxed)) < BELIEVED.as_millis() as u64 {
            return true;
        }
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let alive = match recv(&self.probe, &mut [0; 1], flags) {
            Ok((_, bytes)) => bytes > 0,
            Err(error) => matches!(error, rustix::io::Errno::AGAIN | rustix::io::Errno::INTR),
        };
        match alive {
            true => self.alive_ms.store(now_ms, Ordering::Relaxed),
            false => self.broken.store(true, Ordering::Relaxed),
        }
        alive
    }

    /// Leases a file.
    pub(crate) async fn open(
        self: &Arc<Self>,
        ticket: Bytes,
        file: FileId,
        length: u64,
        threads: &DiskThreads,
        patience: Duration,
    ) -> Result<LocalFile, Fault> {
        let connection = self.connection.lock();
        let mut connection = tokio::time::timeout(patience, connection).await.map_err(|_| Fault::Silent(patience))?;
        let lease = self.take_lease(file);
        let opened = self.open_on(&mut connection, ticket, patience).await;
        // Before `lease` is dropped on a failure: the worker may have given it.
        let descriptors = opened.inspect_err(|fault| self.note(fault))?;
        drop(connection);
        LocalFile::open(lease, length, descriptors, threads, patience).await
    }

    async fn open_on(
        &self,
        connection: &mut Connection,
        ticket: Bytes,
        patience: Duration,
    ) -> Result<(OwnedFd, OwnedFd), Fault> {
        self.close_unused(connection, patience).await?;
        let head = LocalOpenHead { ticket };
        request(connection, Kind::LocalOpen, &head, patience).await?;
        match connection.answer(patience).await? {
            Answer::LocalOpened => {}
            Answer::Error(error) => return Err(Fault::refused(error)),
            other => return Err(unexpected(other)),
        }
        let mut descriptors = connection.take_descriptors().into_iter();
        match (descriptors.next(), descriptors.next()) {
            (Some(data), Some(sums)) => Ok((data, sums)),
            _ => Err(Fault::Broken("an answer without descriptors".to_owned())),
        }
    }

    /// Has the worker cache a range. None when the connection is busy with another request: reading over the network is quicker
    /// than waiting for it.
    pub(crate) async fn fill(&self, head: &LocalFillHead, patience: Duration) -> Option<Result<DoneHead, Fault>> {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(_) if self.reporting.load(Ordering::Acquire) => {
                tokio::time::timeout(patience, self.connection.lock()).await.ok()?
            }
            Err(_) => return None,
        };
        let filled = async {
            request(&mut connection, Kind::LocalFill, head, patience).await?;
            match connection.answer_after_signs_of_life(patience).await? {
                Answer::Done(done) => Ok(done),
                Answer::Error(error) => Err(Fault::refused(error)),
                other => Err(unexpected(other)),
            }
        };
        Some(filled.await.inspect_err(|fault| self.note(fault)))
    }

    /// Gives back what nobody has open any more. The answers are skipped by the next request.
    async fn close_unused(&self, connection: &mut Connection, patience: Duration) -> Result<(), Fault> {
        let unused = self.leases.lock().take_unused();
        for file in unused {
            let head = self.close_head(file);
            request(connection, Kind::LocalClose, &head, patience).await?;
        }
        Ok(())
    }

    /// Gives back what nobody has open any more, unless the connection is busy: whoever uses it does so then.
    pub(crate) async fn tidy(&self, patience: Duration) {
        if let Ok(mut connection) = self.connection.try_lock()
            && let Err(fault) = self.close_unused(&mut connection, patience).await
        {
            self.note(&fault);
        }
    }

    fn note(&self, fault: &Fault) {
        if matches!(fault, Fault::Broken(_)) {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    fn take_lease(self: &Arc<Self>, file: FileId) -> Lease {
        *self.leases.lock().open.entry(file).or_default() += 1;
        Lease { link: self.clone(), file }
    }
}

/// Waits, and reports; false when the connection is gone.
async fn report_later(link: &Weak<Link>) -> bool {
    tokio::time::sleep(REPORT_EVERY).await;
    match link.upgrade() {
        Some(link) if !link.broken.load(Ordering::Relaxed) => {
            link.report().await;
            true
        }
        _ => false,
    }
}

/// The last report: a program that ends has read most of what it reads in its last second.
impl Drop for Link {
    fn drop(&mut self) {
        let idle = self.connection.get_mut().next_request();
        if let Some(number) = idle.filter(|_| *self.hits.get_mut() > 0 && !*self.broken.get_mut()) {
            let head = self.close_head(FileId { inode: InodeId(0), version: 0 });
            let frame = encode_frame(Kind::LocalClose, number, &head, 0);
            // Nobody waits for its answer, and nothing depends on it.
            let _ = rustix::net::send(&self.probe, &frame, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
    }
}

impl Leases {
    fn take_unused(&mut self) -> Vec<FileId> {
        let open = &self.open;
        let mut unused = std::mem::take(&mut self.closing);
        unused.retain(|file| !open.contains_key(file));
        unused.sort_unstable();
        unused.dedup();
        unused
    }
}

/// Sends a request without a body.
async fn request(
    connection: &mut Connection,
    kind: Kind,
    head: &impl prost::Message,
    patience: Duration,
) -> Result<(), Fault> {
    match connection.send(kind, head, &[], patience).await? {
        Sent::All => Ok(()),
        // The peer is flooding us: the end of an earlier answer fits its socket's buffer.
        Sent::Answered => Err(Fault::Broken("the worker does not read its requests".to_owned())),
    }
}

/// That a file is open here. The worker is told when the last one of a file is gone.
#[derive(Debug)]
pub(crate) struct Lease {
    link: Arc<Link>,
    file: FileId,
}

impl Lease {
    pub(crate) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(crate) fn file(&self) -> FileId {
        self.file
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = self.link.leases.lock();
        if let Some(open) = leases.open.get_mut(&self.file) {
            *open -= 1;
            if *open == 0 {
                leases.open.remove(&self.file);
                leases.closing.push(self.file);
            }
        }
    }
}
