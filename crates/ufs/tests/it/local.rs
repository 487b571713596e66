//! What is particular to directories of this host.

use bytes::Bytes;
use forebay_ufs::local::LocalUfs;
use forebay_ufs::{
    DeleteTarget, ListEntry, ObjectKind, PartPosition, PutCondition, Ufs, UfsError, UploadedPart, conformance,
};
use futures::{StreamExt, TryStreamExt};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::sync::Arc;

struct Local {
    dir: tempfile::TempDir,
    store: LocalUfs,
}

impl Local {
    fn new() -> Local {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("root");
        std::fs::create_dir(&root).expect("root");
        Local { store: LocalUfs::new(&root), dir }
    }

    fn path(&self, below: &str) -> std::path::PathBuf {
        self.dir.path().join("root").join(below)
    }

    fn write(&self, below: &str, body: &str) {
        let path = self.path(below);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("parents");
        std::fs::write(path, body).expect("write");
    }

    async fn names(&self, directory: &str) -> Vec<Bytes> {
        let page = self.store.list(directory.as_bytes(), None, 1000).await.expect("list");
        page.entries.into_iter().map(|entry| entry.name).collect()
    }

    async fn read(&self, key: &str) -> Result<Vec<u8>, UfsError> {
        let meta = self.store.stat(key.as_bytes()).await?.expect(key);
        let stream = self.store.read(key.as_bytes(), 0..meta.length, &meta.expected()).await?;
        let chunks: Vec<Bytes> = stream.try_collect().await?;
        Ok(chunks.concat())
    }

    async fn put(&self, key: &str, body: &'static str) -> Result<(), UfsError> {
        let put = self.store.put(key.as_bytes(), vec![body.into()], &PutCondition::None).await;
        put.map(|_| ())
    }
}

#[tokio::test]
async fn links_within_the_root_are_files_and_nothing_leads_out() {
    let local = Local::new();
    local.write("real/file", "content");
    std::fs::write(local.dir.path().join("secret"), "secret").expect("write");
    std::fs::create_dir(local.dir.path().join("outside")).expect("outside");
    std::fs::write(local.dir.path().join("outside/file"), "secret").expect("write");
    for (target, link) in [
        ("real/file", "to-file"),
        ("real", "to-directory"),
        ("nothing", "to-nothing"),
        ("../secret", "to-secret"),
        ("../outside", "to-outside"),
        ("loop", "loop"),
    ] {
        symlink(target, local.path(link)).expect("link");
    }
    symlink(local.dir.path().join("secret"), local.path("to-secret-absolutely")).expect("link");
    let page = local.store.list(b"", None, 100).await.expect("list");
    let names: Vec<_> = page.entries.iter().map(|entry| (&entry.name[..], entry.meta.kind)).collect();
    assert_eq!(names, [(&b"real"[..], ObjectKind::Directory), (&b"to-file"[..], ObjectKind::File)]);
    assert_eq!(page.skipped.count, 6, "{:?}", page.skipped);
    assert_eq!(local.read("to-file").await.expect("read"), b"content");
    let expected = local.store.stat(b"real/file").await.expect("stat").expect("file").expected();
    for key in ["to-secret", "to-outside/file", "to-secret-absolutely", "loop", "to-directory/file"] {
        assert_eq!(local.store.stat(key.as_bytes()).await.expect(key), None, "{key}");
        let read = local.store.read(key.as_bytes(), 0..1, &expected).await;
        assert!(read.is_err(), "{key}");
    }
    assert!(local.put("to-outside/new", "x").await.is_err());
    assert!(!local.dir.path().join("outside/new").exists());
    let deleted = local.store.delete(&[DeleteTarget::file("to-outside/file"), DeleteTarget::file("to-file")]).await;
    assert!(deleted.expect("delete").iter().all(Result::is_ok));
    assert!(local.dir.path().join("outside/file").exists());
    assert!(local.path("real/file").exists() && !local.path("to-file").exists());
    local.put("to-secret", "replaced").await.expect("put");
    assert_eq!(std::fs::read(local.dir.path().join("secret")).expect("read"), b"secret");
    assert_eq!(local.read("to-secret").await.expect("read"), b"replaced");
}

#[tokio::test]
async fn special_files_are_skipped_and_never_opened() {
    let local = Local::new();
    let fifo = local.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .expect("fifo");
    let _socket = std::os::unix::net::UnixListener::bind(local.path("socket")).expect("socket");
    local.write("file", "x");
    let page = local.store.list(b"", None, 10).await.expect("list");
    assert_eq!((page.entries.len(), page.skipped.count), (1, 2));
    assert_eq!(local.store.stat(b"pipe").await.expect("stat"), None);
    let expected = local.store.stat(b"file").await.expect("stat").expect("file").expected();
    assert!(local.store.read(b"pipe", 0..1, &expected).await.is_err());
}

#[tokio::test]
async fn names_are_any_bytes() {
    let local = Local::new();
    let name = b"bytes \xff\xfe\n\x01";
    std::fs::write(local.dir.path().join("root").join(OsStr::from_bytes(name)), "x").expect("write");
    assert_eq!(local.names("").await, [Bytes::from_static(name)]);
    let meta = local.store.stat(name).await.expect("stat").expect("the file");
    local.store.copy(name, b"d/\xff", &meta.expected(), &PutCondition::IfAbsent).await.expect("copy");
    assert_eq!(local.names("d").await, [Bytes::from_static(b"\xff")]);
}

#[tokio::test]
async fn a_write_in_place_under_a_reader_is_told() {
    let local = Local::new();
    local.write("file", &"a".repeat(3 << 20));
    let meta = local.store.stat(b"file").await.expect("stat").expect("the file");
    let mut stream = local.store.read(b"file", 0..meta.length, &meta.expected()).await.expect("read");
    stream.next().await.expect("a chunk").expect("bytes");
    local.write("file", &"b".repeat(3 << 20));
    let rest: Result<Vec<Bytes>, UfsError> = stream.try_collect().await;
    assert!(matches!(rest, Err(UfsError::VersionChanged(_))), "{rest:?}");
}

#[tokio::test]
async fn a_missing_root_is_an_error_and_not_an_empty_store() {
    let local = Local::new();
    local.write("file", "x");
    let root = local.dir.path().join("root");
    std::fs::rename(&root, local.dir.path().join("away")).expect("rename");
    assert!(matches!(local.store.stat(b"file").await, Err(UfsError::RootMissing(_))));
    assert!(matches!(local.store.list(b"", None, 10).await, Err(UfsError::RootMissing(_))));
    let error = local.store.check(forebay_ufs::Access::Read).await.expect_err("no root");
    assert!(error.to_string().contains("the root directory does not exist"), "{error}");
    std::fs::write(&root, "a file").expect("write");
    let error = local.store.check(forebay_ufs::Access::Read).await.expect_err("a file");
    assert!(matches!(error, UfsError::NotADirectory(_)), "{error:?}");
}

#[tokio::test]
async fn what_is_being_written_is_never_shown() {
    let local = Local::new();
    let upload = local.store.begin_upload(b"file").await.expect("begin");
    assert_eq!(local.names("").await, [] as [Bytes; 0]);
    for key in [".forebay-uploads", ".forebay-uploads/x", "d/.forebay-uploads/x"] {
        assert!(matches!(local.store.stat(key.as_bytes()).await, Err(UfsError::Invalid(_))), "{key}");
    }
    local.store.abort_upload(b"file", &upload).await.expect("abort");
    let left = std::fs::read_dir(local.path(".forebay-uploads")).expect("the directory").count();
    assert_eq!(left, 0, "an aborted upload leaves nothing");
    let refused = local.store.put(b"file", vec!["x".into()], &PutCondition::IfAbsent).await;
    refused.expect("put");
    let refused = local.store.put(b"file", vec!["y".into()], &PutCondition::IfAbsent).await;
    assert!(matches!(refused, Err(UfsError::AlreadyExists(_))));
    let left = std::fs::read_dir(local.path(".forebay-uploads")).expect("the directory").count();
    assert_eq!(left, 0, "a refused write leaves nothing");
}

#[tokio::test]
async fn parts_that_leave_a_gap_are_refused() {
    let local = Local::new();
    let upload = local.store.begin_upload(b"file").await.expect("begin");
    let mut parts: Vec<UploadedPart> = Vec::new();
    for (number, offset) in [(1, 0), (2, 7)] {
        let position = PartPosition { number, offset };
        let part = local.store.put_part(b"file", &upload, position, vec!["five!".into()]).await;
        parts.push(part.expect("part"));
    }
    let completed = local.store.complete_upload(b"file", &upload, &parts, &PutCondition::None).await;
    assert!(matches!(completed, Err(UfsError::Invalid(_))), "{completed:?}");
    assert_eq!(local.store.stat(b"file").await.expect("stat"), None);
}

#[tokio::test]
async fn kinds_in_the_way_are_named() {
    let local = Local::new();
    local.write("file", "x");
    local.write("directory/entry", "x");
    assert!(matches!(local.put("file/below", "x").await, Err(UfsError::NotADirectory(_))));
    assert!(matches!(local.put("directory", "x").await, Err(UfsError::IsADirectory(_))));
    assert!(matches!(local.store.make_directory(b"file").await, Err(UfsError::AlreadyExists(_))));
    assert!(matches!(local.store.make_directory(b"file/d").await, Err(UfsError::NotADirectory(_))));
    assert!(matches!(local.store.rename(b"file", b"directory").await, Err(UfsError::IsADirectory(_))));
    assert!(matches!(local.store.rename(b"directory", b"directory/x").await, Err(UfsError::Invalid(_))));
    let deleted = local.store.delete(&[DeleteTarget::file("directory"), DeleteTarget::directory("file")]).await;
    let errors: Vec<_> = deleted.expect("delete").into_iter().map(Result::unwrap_err).collect();
    assert!(matches!(errors[0], UfsError::IsADirectory(_)), "{errors:?}");
    assert!(matches!(errors[1], UfsError::NotADirectory(_)), "{errors:?}");
    assert_eq!(local.read("directory/entry").await.expect("read"), b"x");
}

/// More names than one window holds: every one is listed once, in order.
#[tokio::test]
async fn a_directory_larger_than_a_window_is_listed_whole() {
    let local = Local::new();
    let count = 70_000;
    for number in 0..count {
        std::fs::File::create(local.path(&format!("{number:06}"))).expect("create");
    }
    let store: Arc<dyn Ufs> = Arc::new(local.store.clone());
    let (mut listed, mut last, mut from) = (0, None, None);
    loop {
        let page = store.list(b"", from.as_ref(), 1000).await.expect("list");
        for place in page.entries.iter().map(ListEntry::list_key) {
            assert!(last.as_ref() < Some(&place), "{place:?} after {last:?}");
            last = Some(place);
            listed += 1;
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(listed, count);
}

/// A URI makes the same store.
#[tokio::test]
async fn the_store_is_opened_by_its_uri() {
    let local = Local::new();
    let uri = format!("file://{}", local.path("").display());
    let store = forebay_ufs::open(&uri, &forebay_ufs::OpenOptions::default()).expect("open");
    let holds = conformance::Holds { side_by_side: false, ..conformance::Holds::ALL };
    conformance::run(store, holds).await;
    let error = forebay_ufs::open("file://relative/path", &forebay_ufs::OpenOptions::default()).expect_err("relative");
    assert_eq!(error.hint(), "write it with three slashes: file:///relative/path");
}
