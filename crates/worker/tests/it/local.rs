//! Clients on the worker's host: descriptors of cached files.
use crate::common::wire::Descriptors;
use crate::common::*;
use forebay_base::ErrorKind;
use forebay_proto::frame::{Kind, LocalCloseHead, LocalFillHead, LocalOpenHead};
use forebay_ufs::memory::MemoryUfs;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

fn connect(worker: &TestWorker) -> Descriptors {
    Descriptors::connect(worker.running.addresses().unix_socket.as_ref().expect("it has one"))
}

fn fill(file: &TestFile, offset: u64, length: u64) -> LocalFillHead {
    LocalFillHead { ticket: file.ticket(), offset, length, ..LocalFillHead::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_local_client_reads_the_cached_file_itself() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 20 * PAGE + 3);
    let mut client = connect(&worker);
    let (data, checksums) = client.open(&file.ticket()).unwrap();
    let done = client.call(Kind::LocalFill, &fill(&file, PAGE + 1, 2 * PAGE)).unwrap();
    assert_eq!((done.hit, done.missed), (0, 2 * PAGE));
    assert_eq!(worker.fetched(), 3 * PAGE);
    let data = File::from(data);
    let mut got = vec![0; 2 * PAGE as usize];
    data.read_exact_at(&mut got, PAGE + 1).unwrap();
    assert!(got == file.range(PAGE + 1, 2 * PAGE), "later pages appear in the file that was handed out");
    let done = client.call(Kind::LocalFill, &fill(&file, 0, u64::from(u32::MAX) >> 4)).unwrap();
    assert_eq!((done.hit, done.missed), (3 * PAGE, 17 * PAGE + 3));
    let mut got = vec![0; file.bytes.len()];
    data.read_exact_at(&mut got, 0).unwrap();
    assert!(got == file.bytes);
    assert!(data.write_at(b"x", 0).is_err(), "descriptors are for reading");
    assert!(File::from(checksums).write_at(b"x", 0).is_err());
    // The same over the wire, through the same socket.
    assert!(worker.local_client().await.read(&file.ticket(), 0, 20 * PAGE + 3).await.ok() == file.bytes);
    assert_eq!(worker.fetched(), file.bytes.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_bytes_stay_until_the_connection_closes() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).quota(40 * PAGE).start().await;
    let file = TestFile::put(&store, 1, 10 * PAGE);
    let mut client = connect(&worker);
    let (data, _) = client.open(&file.ticket()).unwrap();
    client.call(Kind::LocalFill, &fill(&file, 0, 10 * PAGE)).unwrap();
    // Far more than fits goes through the cache.
    for inode in 2..12 {
        let other = TestFile::put(&store, inode, 20 * PAGE);
        assert!(worker.client().await.read(&other.ticket(), 0, 20 * PAGE).await.ok() == other.bytes);
    }
    let mut got = vec![0; file.bytes.len()];
    File::from(data).read_exact_at(&mut got, 0).unwrap();
    assert!(got == file.bytes, "nobody has punched the leased file");
    let close = LocalCloseHead { inode: 1, version: 1, ..LocalCloseHead::default() };
    client.call(Kind::LocalClose, &close).unwrap();
    client.call(Kind::LocalClose, &close).unwrap();
    assert!(client.open(&file.ticket()).is_ok(), "it can be had again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_read_by_themselves_counts_as_hits() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 4 * PAGE);
    let mut client = connect(&worker);
    client.open(&file.ticket()).unwrap();
    client.call(Kind::LocalFill, &fill(&file, 0, 4 * PAGE)).unwrap();
    let before = worker.running.counted();
    assert_eq!((before.hit_bytes, before.miss_bytes), (0, 4 * PAGE));
    let report = LocalCloseHead { read_bytes: 3 * PAGE, ..LocalCloseHead::default() };
    client.call(Kind::LocalClose, &report).unwrap();
    let close = LocalCloseHead { inode: 1, version: 1, read_bytes: PAGE };
    client.call(Kind::LocalClose, &close).unwrap();
    let after = worker.running.counted();
    assert_eq!((after.hit_bytes, after.miss_bytes), (4 * PAGE, 4 * PAGE));
    let lie = LocalCloseHead { read_bytes: u64::MAX, ..LocalCloseHead::default() };
    client.call(Kind::LocalClose, &lie).unwrap();
    assert!(worker.running.counted().hit_bytes > after.hit_bytes, "it does not run over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_are_bounded_and_never_go_over_tcp() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).change(|settings| settings.limits.leases_per_connection_max = 2).start().await;
    let files: Vec<TestFile> = (1..4).map(|inode| TestFile::put(&store, inode, PAGE)).collect();
    let mut client = connect(&worker);
    for _ in 0..3 {
        assert!(client.open(&files[0].ticket()).is_ok(), "the same file counts once");
    }
    assert!(client.open(&files[1].ticket()).is_ok());
    let error = client.open(&files[2].ticket()).unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::Unavailable);
    client.call(Kind::LocalClose, &LocalCloseHead { inode: 1, version: 1, ..LocalCloseHead::default() }).unwrap();
    assert!(client.open(&files[2].ticket()).is_ok());
    assert!(connect(&worker).open(&files[2].ticket()).is_ok(), "the bound is one connection's");
    let head = LocalOpenHead { ticket: files[0].ticket() };
    let error = worker.client().await.call(Kind::LocalOpen, &head).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_kept_is_said_so() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).quota(PAGE).start().await;
    let file = TestFile::put(&store, 1, 10 * PAGE);
    let error = connect(&worker).call(Kind::LocalFill, &fill(&file, 0, 10 * PAGE)).unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::Unavailable);
    assert!(worker.local_client().await.read(&file.ticket(), 0, 10 * PAGE).await.ok() == file.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fill_with_verify_heals() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 10 * PAGE);
    let mut client = connect(&worker);
    client.call(Kind::LocalFill, &fill(&file, 0, 10 * PAGE)).unwrap();
    let data = worker.cache_files().into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let disk = File::options().write(true).open(data).unwrap();
    disk.write_all_at(&[!file.bytes[3 * PAGE as usize]], 3 * PAGE).unwrap();
    let verify = LocalFillHead { verify: true, ..fill(&file, 2 * PAGE, 4 * PAGE) };
    let done = client.call(Kind::LocalFill, &verify).unwrap();
    assert_eq!(done.missed, PAGE);
    let (data, _) = client.open(&file.ticket()).unwrap();
    let mut got = vec![0; 4 * PAGE as usize];
    File::from(data).read_exact_at(&mut got, 2 * PAGE).unwrap();
    assert!(got == file.range(2 * PAGE, 4 * PAGE));
}
