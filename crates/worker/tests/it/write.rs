//! Parts of files that are being written: into the store and into the cache at once.
use crate::common::*;
use bytes::Bytes;
use forebay_base::{ByteSize, ErrorKind};
use forebay_proto::frame::{Kind, WritePartHead};
use forebay_proto::ticket::Ticket;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use forebay_ufs::{PutCondition, Ufs, UfsError, UploadedPart};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PART: u64 = 4 * PAGE;

fn write_ticket(inode: u64) -> Ticket {
    Ticket {
        inode,
        version: 1,
        page_size: PAGE as u32,
        block_size: BLOCK,
        mount: MOUNT,
        key: Bytes::from(format!("file-{inode}")),
        write: true,
        cache_writes: true,
        part_size: PART,
        expires_ms: u64::MAX,
        ..Ticket::default()
    }
}

/// The ticket that readers get once the write is complete.
fn read_ticket(written: &Ticket, length: u64, tag: &str) -> Bytes {
    let ticket = Ticket {
        length,
        version_tag: tag.into(),
        read: true,
        write: false,
        cache_writes: false,
        upload: String::new(),
        ..written.clone()
    };
    ticket.sign(KEY)
}

fn whole(ticket: &Ticket) -> WritePartHead {
    WritePartHead { ticket: ticket.sign(KEY), number: 1, whole: true, ..WritePartHead::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_file_is_stored_and_hot() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    for (inode, len) in [(1, 10), (2, PAGE), (3, PART - 1), (4, 3 * PAGE + 17)] {
        let (ticket, body) = (write_ticket(inode), content(inode, len));
        let tag = client.write(whole(&ticket), &body).await.unwrap();
        assert!(store.bytes(&ticket.key).unwrap() == body);
        let read = read_ticket(&ticket, len, &tag);
        assert!(client.read(&read, 0, len).await.ok() == body);
    }
    assert_eq!(store.count(Operation::Read), 0, "readers found it all in the cache");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_stored_and_hot() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let len = 3 * PART + PAGE + 99;
    let body = content(5, len);
    let mut ticket = write_ticket(5);
    let upload = store.begin_upload(&ticket.key).await.unwrap();
    ticket.upload = upload.0.clone();
    let mut parts = Vec::new();
    // From the last to the first, each over a connection of its own: order is the master's business.
    for (at, bytes) in body.chunks(PART as usize).enumerate().rev() {
        let head = WritePartHead {
            ticket: ticket.sign(KEY),
            number: at as u32 + 1,
            offset: at as u64 * PART,
            ..WritePartHead::default()
        };
        worker.client().await.write(head.clone(), bytes).await.unwrap();
        // Sent again, as after a lost answer.
        let tag = worker.client().await.write(head, bytes).await.unwrap();
        let tag = forebay_base::VersionTag(tag);
        parts.push(UploadedPart { number: at as u32 + 1, length: bytes.len() as u64, tag });
    }
    parts.reverse();
    let meta = store.complete_upload(&ticket.key, &upload, &parts, &PutCondition::IfAbsent).await.unwrap();
    let read = read_ticket(&ticket, len, &meta.tag.0);
    assert!(worker.client().await.read(&read, 0, len).await.ok() == body);
    assert_eq!(store.count(Operation::Read), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_writes_leave_the_cache_alone() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    let (mut ticket, body) = (write_ticket(6), content(6, PART));
    ticket.cache_writes = false;
    let tag = client.write(whole(&ticket), &body).await.unwrap();
    assert!(client.read(&read_ticket(&ticket, PART, &tag), 0, PART).await.ok() == body);
    assert_eq!(worker.fetched(), PART);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_of_whole_files_hold() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    let mut ticket = write_ticket(7);
    let first = store.insert(&ticket.key, content(70, 100));
    let error = client.write(whole(&ticket), &content(7, 50)).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::AlreadyExists);
    (ticket.version, ticket.version_tag) = (2, first.tag.0);
    client.write(whole(&ticket), &content(7, 50)).await.unwrap();
    let error = client.write(whole(&ticket), &content(8, 60)).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::Conflict, "the version to replace is gone");
    assert!(store.bytes(&ticket.key).unwrap() == content(7, 50));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_failed_upload_are_dropped() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    let (ticket, lost) = (write_ticket(8), content(80, PART));
    let error = store.error(UfsError::Unavailable, "no more disks");
    store.set_faults(move |operation, _| match operation {
        Operation::Put => Fault::Fail(error.clone()),
        _ => Fault::None,
    });
    let failed = client.write(whole(&ticket), &lost).await.unwrap_err();
    assert_eq!(failed.error_kind(), ErrorKind::Unavailable);
    store.clear_faults();
    let other = content(81, PART);
    let meta = store.insert(&ticket.key, other.clone());
    assert!(client.read(&read_ticket(&ticket, PART, &meta.tag.0), 0, PART).await.ok() == other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_without_space_does_not_hinder_a_write() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).quota(PAGE).start().await;
    let mut client = worker.client().await;
    let (ticket, body) = (write_ticket(9), content(9, PART));
    let tag = client.write(whole(&ticket), &body).await.unwrap();
    assert!(store.bytes(&ticket.key).unwrap() == body);
    assert!(client.read(&read_ticket(&ticket, PART, &tag), 0, PART).await.ok() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_parts_are_refused_and_the_connection_goes_on() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    let (ticket, body) = (write_ticket(10), content(10, PART));
    let mut damaged = whole(&ticket);
    damaged.checksums = forebay_proto::frame::checksum_pieces(0, &body);
    damaged.checksums[3] ^= 1;
    client.send(Kind::WritePart, &damaged, &body).await;
    let error = client.written().await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::Unavailable, "damaged on its way: send it again");

    let part = |number, offset| WritePartHead { number, offset, whole: false, ..whole(&ticket) };
    let error = client.write(part(1, 0), &body).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::InvalidArgument, "no upload has begun");
    let mut begun = ticket.clone();
    begun.upload = store.begin_upload(&ticket.key).await.unwrap().0;
    for (number, offset, len) in [(0, 0, 10), (2, 0, 10), (1, 0, PART + 1), (1, 0, 0)] {
        let head = WritePartHead { ticket: begun.sign(KEY), ..part(number, offset) };
        let error = client.write(head, &content(1, len)).await.unwrap_err();
        assert_eq!(error.error_kind(), ErrorKind::InvalidArgument, "part {number} at {offset}");
    }
    let head = WritePartHead { ticket: begun.sign(KEY), checksums: vec![0], ..part(u32::MAX, u64::MAX - 5) };
    client.send(Kind::WritePart, &head, &[0; 10]).await;
    let error = client.written().await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::InvalidArgument, "beyond any file");
    let reading = read_ticket(&ticket, PART, "tag");
    let error = client.write(WritePartHead { ticket: reading, ..whole(&ticket) }, &body).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::PermissionDenied);
    assert!(store.keys().is_empty(), "nothing of all that got anywhere");
    client.write(whole(&ticket), &body).await.unwrap();
    assert!(store.bytes(&ticket.key).unwrap() == body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_no_conflict_at_the_next_worker() {
    let store = Arc::new(MemoryUfs::new());
    let (first, next) = (Setup::new(&store).start().await, Setup::new(&store).start().await);
    let (mut ticket, body) = (write_ticket(11), content(11, PART));
    for version in 1..=2 {
        let lost = store.error(UfsError::Unavailable, "answer lost");
        store.set_faults(move |operation, _| match operation {
            Operation::Put => Fault::FailAfter(lost.clone()),
            _ => Fault::None,
        });
        let error = first.client().await.write(whole(&ticket), &body).await.unwrap_err();
        assert_eq!(error.error_kind(), ErrorKind::Unavailable);
        let away = store.error(UfsError::Unavailable, "away");
        store.set_faults(move |operation, _| match operation {
            Operation::Stat => Fault::Fail(away.clone()),
            _ => Fault::None,
        });
        let error = next.client().await.write(whole(&ticket), &body).await.unwrap_err();
        assert_eq!(error.error_kind(), ErrorKind::Unavailable, "nobody knows: ask again");
        store.clear_faults();
        let other = content(12, PART);
        let error = next.client().await.write(whole(&ticket), &other).await.unwrap_err();
        let expected = if version == 1 { ErrorKind::AlreadyExists } else { ErrorKind::Conflict };
        assert_eq!(error.error_kind(), expected, "what another has written stays");
        let tag = next.client().await.write(whole(&ticket), &body).await.unwrap();
        assert!(next.client().await.read(&read_ticket(&ticket, PART, &tag), 0, PART).await.ok() == body);
        // Once more, over a version of somebody else.
        ticket.version_tag = store.insert(&ticket.key, content(70, 100)).tag.0;
        ticket.version += 1;
    }
}

/// Begins a part so large that there is memory for no other, and sends none of it.
async fn begin_largest(worker: &TestWorker) -> wire::Client {
    let body = forebay_proto::frame::BODY_LEN_MAX;
    let head = WritePartHead { checksums: vec![0; (body >> 14) as usize], ..whole(&write_ticket(12)) };
    let mut client = worker.client().await;
    client.send_raw(&forebay_proto::frame::encode_frame(Kind::WritePart, 1, &head, body)).await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_memory_hears_of_it() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).change(|settings| settings.limits.memory_max = ByteSize(1)).start().await;
    let hog = begin_largest(&worker).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let (mut inode, mut client) = (13, worker.client().await);
    loop {
        let (ticket, body) = (write_ticket(inode), content(13, PART));
        let head = WritePartHead { checksums: forebay_proto::frame::checksum_pieces(0, &body), ..whole(&ticket) };
        client.send(Kind::WritePart, &head, &body).await;
        let (header, _, body) = client.frame().await.unwrap();
        if header.kind == Kind::Data {
            assert_eq!(body.len(), 0, "a sign of life");
            break;
        }
        // The other has not been heard yet.
        assert!(header.kind == Kind::Written && Instant::now() < deadline, "{header:?}");
        inode += 1;
    }
    assert_eq!(store.keys().len(), inode as usize - 13);
    drop(hog);
    client.written().await.unwrap();
}

/// A store that hangs keeps writers' memory for as long as it likes. What is cached still reads, also when it must come from the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_hang_do_not_hold_up_cached_reads() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).change(|settings| settings.limits.memory_max = ByteSize(1)).start().await;
    let file = TestFile::put(&store, 14, 4 * MIB);
    let mut client = worker.client().await;
    assert!(client.read(&file.ticket(), 0, 4 * MIB).await.ok() == file.bytes);
    worker.keeps(&file, 0, 4 * MIB).await;
    let hog = begin_largest(&worker).await;
    let (ticket, body) = (write_ticket(13), content(13, PART));
    let mut waiting = worker.client().await;
    let head = WritePartHead { checksums: forebay_proto::frame::checksum_pieces(0, &body), ..whole(&ticket) };
    waiting.send(Kind::WritePart, &head, &body).await;
    waiting.frame().await.expect("a sign of life: the memory is used up");
    for (offset, len) in [(0, 4 * MIB), (777, 4096), (100, 3 * MIB)] {
        worker.drop_from_page_cache();
        let ticket = file.ticket();
        let read = tokio::time::timeout(Duration::from_secs(20), client.read(&ticket, offset, len));
        let answer = read.await.expect("cached bytes wait for no writer");
        assert!(answer.ok() == file.range(offset, len), "{len} bytes at {offset}");
    }
    drop((hog, waiting));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_slowly_does_not_hold_memory_for_ever() {
    let store = Arc::new(MemoryUfs::new());
    let change = |settings: &mut forebay_worker::Settings| {
        settings.limits.memory_max = ByteSize(1);
        settings.limits.stall_timeout = Duration::from_secs(2);
        settings.limits.body_rate_min = ByteSize::gib(1);
    };
    let worker = Setup::new(&store).change(change).start().await;
    let mut hog = begin_largest(&worker).await;
    let trickle = tokio::spawn(async move {
        let deadline = Instant::now() + Duration::from_secs(60);
        while hog.try_send_raw(b"x").await {
            assert!(Instant::now() < deadline, "the worker takes bytes for ever");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (ticket, body) = (write_ticket(13), content(13, PART));
    worker.client().await.write(whole(&ticket), &body).await.unwrap();
    trickle.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn later_parts_are_larger() {
    use forebay_proto::parts::{PARTS_OF_A_SIZE, PartSizes};
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let mut client = worker.client().await;
    let mut ticket = write_ticket(12);
    ticket.upload = store.begin_upload(&ticket.key).await.unwrap().0;
    let sizes = PartSizes::new(PART);
    let number = PARTS_OF_A_SIZE + 2;
    let head =
        WritePartHead { ticket: ticket.sign(KEY), number, offset: sizes.offset_of(number), ..WritePartHead::default() };
    assert_eq!(head.offset, (u64::from(PARTS_OF_A_SIZE) + 2) * PART);
    client.write(head.clone(), &content(12, 2 * PART)).await.unwrap();
    let wrong = WritePartHead { offset: u64::from(number - 1) * PART, ..head };
    let error = client.write(wrong, &content(12, PART)).await.unwrap_err();
    assert_eq!(error.error_kind(), ErrorKind::InvalidArgument);
}
