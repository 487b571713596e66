//! The Unix socket of a fake worker: descriptors of cached files, and faults in them.

use super::{KEY, PAGE, State};
use forebay_base::{FileId, InodeId};
use forebay_cache::Geometry;
use forebay_cache::sidecar::{Header as Sums, encode_record};
use forebay_proto::frame::*;
use forebay_proto::ticket::Ticket;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};

/// A cached file.
#[derive(Debug)]
pub struct Cached {
    pub data: File,
    pub sums: File,
    header: Sums,
}

pub struct NearSide {
    pub files: Arc<Mutex<HashMap<FileId, Cached>>>,
    pub opens: Arc<AtomicUsize>,
    pub closes: Arc<Mutex<Vec<FileId>>>,
    /// What clients said that they have read by themselves.
    pub read_bytes: Arc<AtomicU64>,
    pub fills: Arc<Mutex<Vec<LocalFillHead>>>,
    /// Fills are answered, but nothing is cached.
    pub keeps_nothing: Arc<AtomicBool>,
    /// Requests are read and never answered.
    pub silent: Arc<AtomicBool>,
    /// Such requests.
    pub ignored: Arc<AtomicUsize>,
    serving: Arc<Mutex<tokio::task::JoinSet<()>>>,
    task: tokio::task::JoinHandle<()>,
    pub directory: tempfile::TempDir,
}

impl Drop for NearSide {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Serving {
    state: Arc<State>,
    directory: std::path::PathBuf,
    files: Arc<Mutex<HashMap<FileId, Cached>>>,
    opens: Arc<AtomicUsize>,
    closes: Arc<Mutex<Vec<FileId>>>,
    read_bytes: Arc<AtomicU64>,
    fills: Arc<Mutex<Vec<LocalFillHead>>>,
    keeps_nothing: Arc<AtomicBool>,
    silent: Arc<AtomicBool>,
    ignored: Arc<AtomicUsize>,
}

impl NearSide {
    /// Makes the worker at `index` of the list one of this host.
    pub fn start(state: Arc<State>, index: usize) -> NearSide {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        {
            let mut workers = state.workers.lock();
            workers[index].unix_socket = path.to_str().unwrap().to_owned();
            let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            workers[index].host_id = boot.trim().to_owned();
        }
        let side = Serving {
            state,
            directory: directory.path().to_owned(),
            files: Arc::default(),
            opens: Arc::default(),
            closes: Arc::default(),
            read_bytes: Arc::default(),
            fills: Arc::default(),
            keeps_nothing: Arc::default(),
            silent: Arc::default(),
            ignored: Arc::default(),
        };
        let serving: Arc<Mutex<tokio::task::JoinSet<()>>> = Arc::default();
        let (accepting, accepted) = (side.clone(), serving.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let side = accepting.clone();
                accepted.lock().spawn(async move {
                    let _ = side.serve(stream).await;
                });
            }
        });
        NearSide {
            files: side.files,
            opens: side.opens,
            closes: side.closes,
            read_bytes: side.read_bytes,
            fills: side.fills,
            keeps_nothing: side.keeps_nothing,
            silent: side.silent,
            ignored: side.ignored,
            serving,
            task,
            directory,
        }
    }

    /// As after a restart: the leases are gone.
    pub fn break_connections(&self) {
        self.serving.lock().abort_all();
    }

    /// Later leases are of new files.
    pub fn retire(&self) -> Vec<Cached> {
        self.files.lock().drain().map(|(_, cached)| cached).collect()
    }

    /// Drops all pages in place, as the store may once nobody has a lease: records first, then the bytes.
    pub fn punch(&self, files: &[Cached]) {
        for cached in files {
            let sums_len = cached.sums.metadata().unwrap().len();
            cached.sums.write_all_at(&vec![0; sums_len as usize - 64], 64).unwrap();
            let data_len = cached.data.metadata().unwrap().len();
            cached.data.write_all_at(&vec![0; data_len as usize], 0).unwrap();
        }
    }

    /// Flips a byte of a cached file.
    pub fn damage(&self, at: u64) {
        for cached in self.files.lock().values() {
            let mut byte = [0; 1];
            cached.data.read_exact_at(&mut byte, at).unwrap();
            cached.data.write_all_at(&[byte[0] ^ 1], at).unwrap();
        }
    }
}

impl Serving {
    async fn serve(&self, mut stream: UnixStream) -> std::io::Result<()> {
        loop {
            let mut header = [0; HEADER_LEN];
            stream.read_exact(&mut header).await?;
            let header = Header::decode(&header).unwrap();
            let mut head = vec![0; header.head_len as usize];
            stream.read_exact(&mut head).await?;
            if self.silent.load(Ordering::Relaxed) {
                self.ignored.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            match header.kind {
                Kind::LocalOpen => {
                    let head: LocalOpenHead = decode_head(&head).unwrap();
                    self.opens.fetch_add(1, Ordering::Relaxed);
                    self.open(&stream, header.request, &head).await?;
                    continue;
                }
                Kind::LocalFill => {
                    let head: LocalFillHead = decode_head(&head).unwrap();
                    self.fill(&head);
                    self.fills.lock().push(head);
                }
                Kind::LocalClose => {
                    let head: LocalCloseHead = decode_head(&head).unwrap();
                    self.read_bytes.fetch_add(head.read_bytes, Ordering::Relaxed);
                    if head.inode != 0 {
                        self.closes.lock().push(FileId { inode: InodeId(head.inode), version: head.version });
                    }
                }
                other => panic!("{other:?}"),
            }
            let done = encode_frame(Kind::Done, header.request, &DoneHead::default(), 0);
            stream.write_all(&done).await?;
        }
    }

    async fn open(&self, stream: &UnixStream, request: u64, head: &LocalOpenHead) -> std::io::Result<()> {
        let ticket = Ticket::verify(&head.ticket, &[KEY]).unwrap();
        let (data, sums) = {
            let mut files = self.files.lock();
            let cached = files.entry(ticket.file()).or_insert_with(|| self.cache(ticket.file()));
            (cached.data.try_clone()?, cached.sums.try_clone()?)
        };
        let frame = encode_frame(Kind::LocalOpened, request, &LocalOpenedHead::default(), 0);
        stream.writable().await?;
        stream.try_io(Interest::WRITABLE, || Ok(send(stream, &frame, &[data.as_fd(), sums.as_fd()])?))?;
        Ok(())
    }

    fn cache(&self, file: FileId) -> Cached {
        let create = |suffix: &str| {
            let path = self.directory.join(format!("{file}.{suffix}"));
            let _ = std::fs::remove_file(&path);
            File::options().read(true).write(true).create_new(true).open(path).unwrap()
        };
        let header = Sums { file, geometry: Geometry::new(PAGE).unwrap() };
        let (data, sums) = (create("data"), create("sums"));
        sums.write_all_at(&header.encode(), 0).unwrap();
        Cached { data, sums, header }
    }

    fn fill(&self, head: &LocalFillHead) {
        if self.keeps_nothing.load(Ordering::Relaxed) {
            return;
        }
        let ticket = Ticket::verify(&head.ticket, &[KEY]).unwrap();
        let content = self.state.by_ticket(&ticket).unwrap().content;
        let files = self.files.lock();
        let cached = &files[&ticket.file()];
        let geometry = cached.header.geometry;
        let end = (head.offset + head.length).min(content.len() as u64);
        let pages = geometry.page_of(head.offset).unwrap()..=geometry.page_of(end - 1).unwrap();
        for page in pages {
            let start = geometry.page_offset(page) as usize;
            let bytes = &content[start..(start + PAGE as usize).min(content.len())];
            cached.data.write_all_at(bytes, start as u64).unwrap();
            let checksums: Vec<u32> = forebay_base::checksum::chunk_checksums(bytes).collect();
            let record = encode_record(&cached.header, page, bytes.len() as u32, &checksums);
            cached.sums.write_all_at(&record, geometry.record_offset(page)).unwrap();
        }
    }
}

fn send(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<usize> {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())
}
