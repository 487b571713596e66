//! Writing files: complete or absent, once, under a lease, over a restart.
use crate::support::{Fixture, Home, TestClock, error, eventually, keys, local_store, memory_store};
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_master::{ClassLimit, fault};
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::*;
use forebay_ufs::memory::{Fault, MemoryUfs, Operation};
use forebay_ufs::{PartPosition, Ufs, UploadId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

async fn setup() -> (Home, Arc<MemoryUfs>, Fixture) {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/m", &uri).await;
    (home, store, fixture)
}

impl Fixture {
    async fn renew(&self, write: u64, start_upload: bool) -> Result<RenewWriteReply, forebay_proto::error::WireError> {
        let request = RenewWriteRequest { write, start_upload };
        Ok(self.namespace.clone().renew_write(request).await.map_err(error)?.into_inner())
    }

    async fn put_part(&self, store: &dyn Ufs, ticket: &[u8], number: u32, content: &[u8]) -> Part {
        let ticket = Ticket::peek(ticket).unwrap();
        let offset = u64::from(number - 1) * ticket.part_size;
        let part = store
            .put_part(
                &ticket.key,
                &UploadId(ticket.upload.clone()),
                PartPosition { number, offset },
                vec![Bytes::copy_from_slice(content)],
            )
            .await
            .unwrap();
        Part { number, length: part.length, tag: part.tag.0 }
    }

    fn complete_parts(&self, write: u64, parts: Vec<Part>) -> CompleteRequest {
        CompleteRequest {
            meta: self.meta(),
            write,
            length: parts.iter().map(|part| part.length).sum(),
            parts,
            ..CompleteRequest::default()
        }
    }
}

#[tokio::test]
async fn whole_files_and_their_tickets() {
    let (_home, store, fixture) = setup().await;
    let created = fixture.create("/m/d/a").await.unwrap();
    let ticket = Ticket::peek(&created.ticket).unwrap();
    assert_eq!((&ticket.key[..], ticket.version, ticket.write, ticket.read), (&b"d/a"[..], 1, true, false));
    assert_eq!(ticket.version_tag, "");
    assert_eq!(ticket.block_size % created.part_size, 0);
    let meta = fixture.put_whole(&*store, &created, b"hello").await;
    let entry = fixture
        .complete_with(CompleteRequest {
            meta: fixture.meta(),
            write: created.write,
            length: 5,
            whole_tag: meta.tag.0.clone(),
            modified_ms: 77,
            ..CompleteRequest::default()
        })
        .await
        .unwrap();
    assert_eq!((entry.length, entry.version, entry.modified_ms, entry.mode), (5, 1, 77, 0o644));
    assert_eq!(entry.version_tag, meta.tag.0);
    let open =
        fixture.namespace.clone().open(OpenRequest { path: "/m/d/a".into(), ..OpenRequest::default() }).await.unwrap();
    let open = open.into_inner();
    let ticket = Ticket::peek(&open.ticket).unwrap();
    assert_eq!((ticket.inode, ticket.version, ticket.length, ticket.read), (entry.inode, 1, 5, true));
    assert_eq!((&ticket.key[..], ticket.version_tag), (&b"d/a"[..], meta.tag.0));
    assert!(Ticket::verify(&open.ticket, &[b"wrong"]).is_err());
}

#[tokio::test]
async fn an_overwrite_keeps_the_old_content_until_the_end() {
    let (_home, store, fixture) = setup().await;
    let first = fixture.write(&*store, "/m/a", b"one").await.unwrap();
    let error = fixture.create("/m/a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::AlreadyExists);
    let request = CreateRequest { overwrite: true, ..fixture.create_request("/m/a") };
    let created = fixture.create_with(request).await.unwrap();
    let ticket = Ticket::peek(&created.ticket).unwrap();
    assert_eq!((ticket.version, ticket.version_tag.clone()), (2, first.version_tag.clone()));
    assert_eq!(fixture.stat_as("/m/a", SyncMode::Now).await.unwrap().version, 1);
    let reply = fixture.renew(created.write, true).await.unwrap();
    let part = fixture.put_part(&*store, &reply.ticket, 1, b"two!").await;
    assert_eq!(fixture.stat_as("/m/a", SyncMode::Now).await.unwrap().length, 3);
    let entry = fixture.complete_with(fixture.complete_parts(created.write, vec![part])).await.unwrap();
    assert_eq!((entry.inode, entry.version, entry.length), (first.inode, 2, 4));
    assert_eq!(store.bytes(b"a").unwrap(), b"two!");
    assert_eq!(fixture.stat_as("/m/a", SyncMode::Now).await.unwrap().version, 2);
}

#[tokio::test]
async fn parts_make_one_object() {
    let (_home, store, fixture) = setup().await;
    let created = fixture.create("/m/big").await.unwrap();
    let first = fixture.renew(created.write, true).await.unwrap();
    let second = fixture.renew(created.write, true).await.unwrap();
    let upload = |reply: &RenewWriteReply| Ticket::peek(&reply.ticket).unwrap().upload;
    assert_eq!(upload(&first), upload(&second), "begun once");
    assert_eq!(store.count(Operation::BeginUpload), 1);
    let size = created.part_size as usize;
    let one = fixture.put_part(&*store, &first.ticket, 1, &vec![1; size]).await;
    let two = fixture.put_part(&*store, &first.ticket, 2, b"tail").await;
    for wrong in [vec![two.clone(), one.clone()], vec![one.clone(), one.clone()]] {
        let error = fixture.complete_with(fixture.complete_parts(created.write, wrong)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
    }
    assert_eq!(keys(&store), [""; 0], "nothing visible before");
    let request = fixture.complete_parts(created.write, vec![one, two]);
    let entry = fixture.complete_with(request.clone()).await.unwrap();
    assert_eq!(entry.length as usize, size + 4);
    let again = fixture.complete_with(request).await.unwrap();
    assert_eq!(
        (again.inode, again.version),
        (entry.inode, entry.version),
        "a repeated request has the first one's reply"
    );
    assert_eq!(store.bytes(b"big").unwrap().len(), size + 4);
}

#[tokio::test]
async fn empty_files_are_stored_by_the_master() {
    let (_home, store, fixture) = setup().await;
    let created = fixture.create("/m/empty").await.unwrap();
    let request = CompleteRequest { meta: fixture.meta(), write: created.write, ..CompleteRequest::default() };
    let entry = fixture.complete_with(request).await.unwrap();
    assert_eq!((entry.length, entry.version, entry.complete), (0, 1, true));
    assert_eq!(keys(&store), ["empty"]);
    let created = fixture.create("/m/none").await.unwrap();
    let request =
        CompleteRequest { meta: fixture.meta(), write: created.write, length: 3, ..CompleteRequest::default() };
    assert_eq!(fixture.complete_with(request).await.unwrap_err().kind, ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn somebody_else_was_faster_at_the_store() {
    let (_home, store, fixture) = setup().await;
    let created = fixture.create("/m/a").await.unwrap();
    let reply = fixture.renew(created.write, true).await.unwrap();
    let part = fixture.put_part(&*store, &reply.ticket, 1, b"mine").await;
    store.insert(b"a", "theirs");
    let error = fixture.complete_with(fixture.complete_parts(created.write, vec![part])).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict, "{error:?}");
    assert_eq!(store.bytes(b"a").unwrap(), b"theirs");
    let request = AbandonWriteRequest { meta: fixture.meta(), write: created.write };
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    assert_eq!(fixture.stat("/m/a").await.unwrap().length, 6);
}

#[tokio::test]
async fn an_abandoned_write_leaves_nothing() {
    let (_home, store, fixture) = setup().await;
    let created = fixture.create("/m/gone").await.unwrap();
    fixture.renew(created.write, true).await.unwrap();
    let request = AbandonWriteRequest { meta: fixture.meta(), write: created.write };
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    assert!(!fixture.exists("/m/gone").await);
    eventually("the upload is aborted", async || store.list_uploads(b"", None, 10).await.unwrap().uploads.is_empty())
        .await;
    let error = fixture.renew(created.write, false).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Conflict);
}

/// A part that was under way when the upload was aborted may come to the store afterwards.
#[tokio::test]
async fn an_upload_is_aborted_again_until_a_lease_has_passed() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let mut settings = home.settings();
    settings.write_lease = Duration::from_secs(2);
    let fixture = Fixture::start(settings).await;
    fixture.mount("/m", &uri).await;
    let created = fixture.create("/m/gone").await.unwrap();
    fixture.renew(created.write, true).await.unwrap();
    let request = AbandonWriteRequest { meta: fixture.meta(), write: created.write };
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    eventually("it is aborted at once", async || store.count(Operation::AbortUpload) >= 1).await;
    eventually("and three times in all", async || store.count(Operation::AbortUpload) >= 3).await;
    // Were it not forgotten then, or aborted all the time, there would be more of it.
    let other = fixture.create("/m/other").await.unwrap();
    fixture.renew(other.write, true).await.unwrap();
    let request = AbandonWriteRequest { meta: fixture.meta(), write: other.write };
    fixture.namespace.clone().abandon_write(request).await.unwrap();
    eventually("the other one, too", async || store.count(Operation::AbortUpload) >= 6).await;
    assert_eq!(store.count(Operation::AbortUpload), 6);
}

#[tokio::test]
async fn a_write_ends_with_its_lease() {
    let (home, (store, uri), clock) = (Home::new(), memory_store(), TestClock::starting());
    let mut settings = home.settings();
    settings.clock = clock.clone();
    settings.write_lease = Duration::from_secs(60);
    let fixture = Fixture::start(settings).await;
    fixture.mount("/m", &uri).await;
    let kept = fixture.create("/m/kept").await.unwrap();
    let lost = fixture.create("/m/lost").await.unwrap();
    fixture.renew(lost.write, true).await.unwrap();
    clock.advance(Duration::from_secs(40));
    fixture.renew(kept.write, false).await.unwrap();
    assert!(fixture.exists("/m/lost").await);
    clock.advance(Duration::from_secs(30));
    eventually("the lost write is gone", async || !fixture.exists("/m/lost").await).await;
    eventually("its upload is aborted", async || store.list_uploads(b"", None, 10).await.unwrap().uploads.is_empty())
        .await;
    let meta = fixture.put_whole(&*store, &kept, b"x").await;
    let request = CompleteRequest {
        meta: fixture.meta(),
        write: kept.write,
        length: 1,
        whole_tag: meta.tag.0,
        ..CompleteRequest::default()
    };
    fixture.complete_with(request).await.unwrap();
    // A clock that jumps back ends nothing early and hangs nothing.
    clock.0.store(5, std::sync::atomic::Ordering::SeqCst);
    fixture.write(&*store, "/m/after", b"y").await.unwrap();
    assert!(fixture.exists("/m/after").await);
}

#[tokio::test]
async fn uploads_of_other_programs_stay() {
    let (home, (store, uri), clock) = (Home::new(), memory_store(), TestClock::starting());
    clock.advance(Duration::from_millis(forebay_base::Clock::now(&forebay_base::SystemClock).0 - 1_000_000_000_000));
    let mut settings = home.settings();
    settings.clock = clock.clone();
    let fixture = Fixture::start(settings).await;
    fixture.mount("/m", &uri).await;
    fixture.create("/m/half").await.unwrap();
    let parts = fixture.create("/m/parts").await.unwrap();
    fixture.renew(parts.write, true).await.unwrap();
    let theirs = [store.begin_upload(b"half").await.unwrap(), store.begin_upload(b"parts").await.unwrap()];
    clock.advance(Duration::from_secs(61));
    eventually("the writes are gone", async || !fixture.exists("/m/half").await && !fixture.exists("/m/parts").await)
        .await;
    eventually("our upload is aborted", async || store.list_uploads(b"", None, 10).await.unwrap().uploads.len() == 2)
        .await;
    let left = store.list_uploads(b"", None, 10).await.unwrap().uploads;
    assert_eq!(left.into_iter().map(|left| left.upload).collect::<Vec<_>>(), theirs);
}

#[tokio::test]
async fn a_store_that_hangs_holds_up_no_aborts_of_others() {
    let (home, (hung, hung_uri), (store, uri)) = (Home::new(), memory_store(), memory_store());
    let fixture = home.start().await;
    fixture.mount("/hung", &hung_uri).await;
    fixture.mount("/m", &uri).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = Arc::clone(&gate);
    hung.set_faults(move |operation, _| match operation {
        Operation::AbortUpload => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    for path in ["/hung/a", "/m/a"] {
        let created = fixture.create(path).await.unwrap();
        fixture.renew(created.write, true).await.unwrap();
        let request = AbandonWriteRequest { meta: fixture.meta(), write: created.write };
        fixture.namespace.clone().abandon_write(request).await.unwrap();
    }
    let uploads = async |store: &MemoryUfs| store.list_uploads(b"", None, 10).await.unwrap().uploads.len();
    eventually("the other store's upload is aborted", async || uploads(&store).await == 0).await;
    assert_eq!(uploads(&hung).await, 1);
    gate.add_permits(100);
    eventually("this one in the end, too", async || uploads(&hung).await == 0).await;
}

#[tokio::test]
async fn a_master_that_dies_between_store_and_commit() {
    let (home, store, fixture) = setup().await;
    let created = fixture.create("/m/a").await.unwrap();
    let reply = fixture.renew(created.write, true).await.unwrap();
    let part = fixture.put_part(&*store, &reply.ticket, 1, b"data").await;
    let request = fixture.complete_parts(created.write, vec![part]);
    fault::plant("complete: stored, not committed");
    let error = fixture.complete_with(request.clone()).await.unwrap_err();
    fault::clear("complete: stored, not committed");
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(keys(&store), ["a"]);
    drop(fixture);
    let fixture = restart(&home).await;
    assert_eq!(fixture.stat("/m/a").await.unwrap().length, 0, "not complete yet");
    let entry = fixture.complete_with(request).await.unwrap();
    assert_eq!((entry.length, entry.version), (4, 1));
}

async fn restart(home: &Home) -> Fixture {
    let deadline = std::time::Instant::now() + crate::support::DEADLINE;
    // What ran in the background lets go of the data directory a moment after the master was dropped.
    loop {
        match forebay_master::Master::start(home.settings()).await {
            Ok(master) => {
                master.shutdown().await;
                return home.start().await;
            }
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn acknowledged_writes_survive_a_drop() {
    let (home, store, fixture) = setup().await;
    for n in 0..50 {
        fixture.write(&*store, &format!("/m/d/{n:02}"), b"x").await.unwrap();
    }
    fixture.rename("/m/d/00", "/m/d/zz").await.unwrap();
    fixture.delete("/m/d/01").await.unwrap();
    drop(fixture);
    let fixture = restart(&home).await;
    let names = fixture.names_as("/m/d", SyncMode::Never).await;
    assert_eq!(names.len(), 49);
    assert_eq!((names[0].as_str(), names[48].as_str()), ("02", "zz"));
    fixture.purged().await;
    assert_eq!(keys(&store).len(), 49);
}

#[tokio::test]
async fn repeated_requests_take_effect_once_also_at_the_same_time() {
    let (_home, store, fixture) = setup().await;
    let fixture = Arc::new(fixture);
    let request = fixture.create_request("/m/a");
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (fixture, request) = (Arc::clone(&fixture), request.clone());
            tokio::spawn(async move { fixture.create_with(request).await.unwrap().write })
        })
        .collect();
    let mut writes = Vec::new();
    for one in tries {
        writes.push(one.await.unwrap());
    }
    writes.dedup();
    assert_eq!(writes.len(), 1);
    let created = fixture.create_with(request).await.unwrap();
    assert_eq!(created.write, writes[0]);
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::Put => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let request = CompleteRequest { meta: fixture.meta(), write: created.write, ..CompleteRequest::default() };
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let (fixture, request) = (Arc::clone(&fixture), request.clone());
            tokio::spawn(async move { fixture.complete_with(request).await.unwrap().version })
        })
        .collect();
    eventually("the put has begun", async || store.count(Operation::Put) > 0).await;
    gate.add_permits(100);
    for one in tries {
        assert_eq!(one.await.unwrap(), 1);
    }
    assert_eq!(store.count(Operation::Put), 1);
}

#[tokio::test]
async fn places_where_no_file_can_be_made() {
    let (home, _store, fixture) = setup().await;
    let (_, uri) = memory_store();
    fixture.mount_with("/ro", &uri, &[("read_only", "true")]).await.unwrap();
    let error = fixture.create("/ro/a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.hint.contains("--read-only=false"), "{error:?}");
    assert_eq!(fixture.mkdir("/ro/d").await.unwrap_err().kind, ErrorKind::PermissionDenied);
    assert_eq!(fixture.delete("/ro/a").await.unwrap_err().kind, ErrorKind::PermissionDenied);
    let error = fixture.create("/nowhere/a").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidArgument);
    assert!(error.hint.contains("forebay mount add"), "{error:?}");
    fixture.mkdir("/nowhere/d").await.unwrap();
    assert_eq!(fixture.names("/").await, ["m/", "nowhere/", "ro/"]);
    assert_eq!(fixture.create("/m").await.unwrap_err().kind, ErrorKind::IsADirectory);
    let request = CreateRequest { parents: false, ..fixture.create_request("/m/none/a") };
    assert_eq!(fixture.create_with(request).await.unwrap_err().kind, ErrorKind::NotFound);
    let request = CreateRequest { page_size: 5000, ..fixture.create_request("/m/a") };
    assert_eq!(fixture.create_with(request).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    let request = CreateRequest { meta: None, ..fixture.create_request("/m/a") };
    assert_eq!(fixture.create_with(request).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    let _ = home;
}

#[tokio::test]
async fn a_local_directory_takes_files() {
    let home = Home::new();
    let dir = home.store_dir("data");
    let fixture = home.start().await;
    fixture.mount("/l", &format!("file://{}", dir.display())).await;
    let store = local_store(&dir).await;
    fixture.mkdir("/l/made").await.unwrap();
    assert!(dir.join("made").is_dir());
    let entry = fixture.write(&*store, "/l/made/new/a", b"12345").await.unwrap();
    assert_eq!(std::fs::read(dir.join("made/new/a")).unwrap(), b"12345");
    let again = fixture.stat_as("/l/made/new/a", SyncMode::Now).await.unwrap();
    assert_eq!((again.inode, again.version), (entry.inode, 1));
    let entry = fixture.write(&*store, "/l/made/new/a", b"123").await.unwrap();
    assert_eq!(entry.version, 2);
    assert_eq!(fixture.stat_as("/l/made/new/a", SyncMode::Now).await.unwrap().version, 2);
}

#[tokio::test]
async fn a_full_class_refuses_while_others_go_on() {
    let (home, (store, uri)) = (Home::new(), memory_store());
    let mut settings = home.settings();
    settings.limits.write = ClassLimit { running: 1, waiting: 0 };
    let fixture = Arc::new(Fixture::start(settings).await);
    fixture.mount("/m", &uri).await;
    let write = fixture.create("/m/written").await.unwrap().write;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::MakeDirectory => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let slow = Arc::clone(&fixture);
    let slow = tokio::spawn(async move { slow.mkdir("/m/slow").await });
    eventually("the slow one is at the store", async || store.count(Operation::MakeDirectory) > 0).await;
    let error = fixture.mkdir("/m/other").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.hint.contains("try again"), "{error:?}");
    fixture.renew(write, false).await.expect("a lease does not wait for those who wait for a store");
    assert!(!fixture.exists("/m/none").await);
    assert_eq!(fixture.status().await.mounts.len(), 1);
    gate.add_permits(10);
    slow.await.unwrap().unwrap();
    fixture.mkdir("/m/other").await.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_the_wait_but_not_the_work() {
    let (_home, store, fixture) = setup().await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    store.set_faults(move |operation, _| match operation {
        Operation::MakeDirectory => Fault::Hold(Arc::clone(&held)),
        _ => Fault::None,
    });
    let mut request = tonic::Request::new(MakeDirectoryRequest {
        meta: fixture.meta(),
        path: "/m/d".into(),
        mode: 0o755,
        ..MakeDirectoryRequest::default()
    });
    request.set_timeout(Duration::from_millis(100));
    let outcome = fixture.namespace.clone().make_directory(request).await;
    assert_eq!(error(outcome.unwrap_err()).kind, ErrorKind::DeadlineExceeded);
    gate.add_permits(10);
    eventually("the directory is made all the same", async || fixture.exists("/m/d").await).await;
}
