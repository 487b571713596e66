//! A master in this process, and the words in which the tests speak to it.
#![allow(unreachable_pub)]

use bytes::Bytes;
use forebay_base::{Clock, TimestampMs};
use forebay_master::{Master, RunningMaster, Settings};
use forebay_proto::error::WireError;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::cluster_client::ClusterClient;
use forebay_proto::v1::mounts_client::MountsClient;
use forebay_proto::v1::namespace_client::NamespaceClient;
use forebay_proto::v1::registry_client::RegistryClient;
use forebay_proto::v1::*;
use forebay_testkit::scratch::Scratch;
use forebay_ufs::{Access, ObjectMeta, PutCondition, Ufs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::Status;
use tonic::transport::Channel;

pub const DEADLINE: Duration = Duration::from_secs(30);

/// A clock that the test turns.
#[derive(Default)]
pub struct TestClock(pub AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> TimestampMs {
        TimestampMs(self.0.load(Ordering::SeqCst))
    }
}

impl TestClock {
    pub fn starting() -> Arc<TestClock> {
        Arc::new(TestClock(AtomicU64::new(1_000_000_000_000)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as u64, Ordering::SeqCst);
    }
}

/// Where a master lives over several starts.
pub struct Home {
    pub dir: Scratch,
}

impl Home {
    pub fn new() -> Home {
        Home { dir: Scratch::make().unwrap() }
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.dir.path().join("master"));
        settings.tick = Duration::from_millis(20);
        settings.purge_objects_per_second = 1_000_000;
        settings.store_cache = forebay_base::ByteSize::mib(16);
        settings
    }

    pub async fn start(&self) -> Fixture {
        Fixture::start(self.settings()).await
    }

    /// A directory that can be mounted.
    pub fn store_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

/// A running master and one client.
pub struct Fixture {
    pub master: RunningMaster,
    pub namespace: NamespaceClient<Channel>,
    pub mounts: MountsClient<Channel>,
    pub cluster: ClusterClient<Channel>,
    pub registry: RegistryClient<Channel>,
    client: u64,
    sequence: AtomicU64,
}

static CLIENTS: AtomicU64 = AtomicU64::new(1);

/// The store of a memory mount, under a name of its own.
pub fn memory_store() -> (Arc<forebay_ufs::memory::MemoryUfs>, String) {
    let name = format!("test-{:016x}", rand::random::<u64>());
    (forebay_ufs::memory::MemoryUfs::shared(&name), format!("memory://{name}"))
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn error(status: Status) -> WireError {
    WireError::from(&status)
}

impl Fixture {
    pub async fn start(settings: Settings) -> Fixture {
        Fixture::over(Master::start(settings).await.unwrap()).await
    }

    /// A client of a master that runs.
    pub async fn over(master: RunningMaster) -> Fixture {
        let endpoint = format!("http://{}", master.address());
        let channel = Channel::from_shared(endpoint).unwrap().connect().await.unwrap();
        Fixture {
            master,
            namespace: NamespaceClient::new(channel.clone()),
            mounts: MountsClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            registry: RegistryClient::new(channel),
            client: CLIENTS.fetch_add(1, Ordering::SeqCst) + 0x1000,
            sequence: AtomicU64::new(0),
        }
    }

    pub fn meta(&self) -> Option<RequestMeta> {
        Some(RequestMeta {
            client: self.client,
            sequence: self.sequence.fetch_add(1, Ordering::SeqCst) + 1,
            acked_below: 0,
        })
    }

    pub async fn mount(&self, path: &str, uri: &str) -> MountEntry {
        self.mount_with(path, uri, &[]).await.unwrap()
    }

    /// Mounts with the interval `sync`, and options.
    pub async fn mount_with(&self, path: &str, uri: &str, options: &[(&str, &str)]) -> Result<MountEntry, WireError> {
        let mut spec = MountSpec { uri: uri.to_owned(), ..MountSpec::default() };
        for (name, value) in options {
            match *name {
                "sync" => spec.sync_interval = value.to_string(),
                "read_only" => spec.read_only = *value == "true",
                name => {
                    spec.options.insert(name.to_owned(), value.to_string());
                }
            }
        }
        let request =
            AddMountRequest { meta: self.meta(), path: path.to_owned().into(), spec: Some(spec), skip_check: false };
        let reply = self.mounts.clone().add_mount(request).await.map_err(error)?;
        Ok(reply.into_inner().mount.unwrap())
    }

    pub async fn stat_as(&self, path: &str, sync: SyncMode) -> Result<Entry, WireError> {
        let request = StatRequest { path: path.to_owned().into(), sync: sync as i32, with_xattrs: true, bound: None };
        let reply = self.namespace.clone().stat(request).await.map_err(error)?;
        Ok(reply.into_inner().entry.unwrap())
    }

    pub async fn stat(&self, path: &str) -> Result<Entry, WireError> {
        self.stat_as(path, SyncMode::ByInterval).await
    }

    pub async fn exists(&self, path: &str) -> bool {
        match self.stat(path).await {
            Ok(_) => true,
            Err(error) if error.kind == forebay_base::ErrorKind::NotFound => false,
            Err(error) => panic!("stat {path}: {error:?}"),
        }
    }

    pub async fn list_with(&self, request: ListRequest) -> Result<Vec<Entry>, WireError> {
        let mut stream = self.namespace.clone().list(request).await.map_err(error)?.into_inner();
        let mut entries = Vec::new();
        while let Some(page) = stream.message().await.map_err(error)? {
            assert!(page.entries.len() <= 1000);
            entries.extend(page.entries);
        }
        Ok(entries)
    }

    pub async fn list_as(&self, path: &str, sync: SyncMode) -> Result<Vec<Entry>, WireError> {
        let request = ListRequest { path: path.to_owned().into(), sync: sync as i32, ..ListRequest::default() };
        self.list_with(request).await
    }

    /// The names of a directory, those of directories with a slash.
    pub async fn names_as(&self, path: &str, sync: SyncMode) -> Vec<String> {
        let entries = self.list_as(path, sync).await.unwrap();
        let name = |entry: &Entry| {
            let slash = if entry.kind() == EntryKind::Directory { "/" } else { "" };
            format!("{}{slash}", String::from_utf8_lossy(&entry.path))
        };
        entries.iter().map(name).collect()
    }

    pub async fn names(&self, path: &str) -> Vec<String> {
        self.names_as(path, SyncMode::ByInterval).await
    }

    pub async fn mkdir(&self, path: &str) -> Result<Entry, WireError> {
        let request = MakeDirectoryRequest {
            meta: self.meta(),
            path: path.to_owned().into(),
            parents: true,
            mode: 0o755,
            ..MakeDirectoryRequest::default()
        };
        let reply = self.namespace.clone().make_directory(request).await.map_err(error)?;
        Ok(reply.into_inner().entry.unwrap())
    }

    pub fn create_request(&self, path: &str) -> CreateRequest {
        CreateRequest {
            meta: self.meta(),
            path: path.to_owned().into(),
            mode: 0o644,
            parents: true,
            ..CreateRequest::default()
        }
    }

    pub async fn create_with(&self, request: CreateRequest) -> Result<CreateReply, WireError> {
        Ok(self.namespace.clone().create(request).await.map_err(error)?.into_inner())
    }

    pub async fn create(&self, path: &str) -> Result<CreateReply, WireError> {
        self.create_with(self.create_request(path)).await
    }

    pub async fn complete_with(&self, request: CompleteRequest) -> Result<Entry, WireError> {
        let reply = self.namespace.clone().complete(request).await.map_err(error)?;
        Ok(reply.into_inner().entry.unwrap())
    }

    /// Puts the whole content as a worker would, by the ticket.
    pub async fn put_whole(&self, store: &dyn Ufs, created: &CreateReply, content: &[u8]) -> ObjectMeta {
        let ticket = Ticket::peek(&created.ticket).unwrap();
        let condition = match ticket.version_tag.is_empty() {
            true => PutCondition::IfAbsent,
            false => PutCondition::IfTag(ticket.tag()),
        };
        store.put(&ticket.key, vec![Bytes::copy_from_slice(content)], &condition).await.unwrap()
    }

    /// Writes a file as a client and a worker would.
    pub async fn write(&self, store: &dyn Ufs, path: &str, content: &[u8]) -> Result<Entry, WireError> {
        let request = CreateRequest { overwrite: true, ..self.create_request(path) };
        let created = self.create_with(request).await?;
        let meta = self.put_whole(store, &created, content).await;
        self.complete_with(CompleteRequest {
            meta: self.meta(),
            write: created.write,
            length: content.len() as u64,
            whole_tag: meta.tag.0,
            ..CompleteRequest::default()
        })
        .await
    }

    pub async fn delete_with(&self, path: &str, recursive: bool) -> Result<(), WireError> {
        self.delete_as(DeleteRequest { path: path.to_owned().into(), recursive, ..DeleteRequest::default() }).await
    }

    pub async fn delete_as(&self, request: DeleteRequest) -> Result<(), WireError> {
        let request = DeleteRequest { meta: self.meta(), ..request };
        self.namespace.clone().delete(request).await.map(|_| ()).map_err(error)
    }

    pub async fn delete(&self, path: &str) -> Result<(), WireError> {
        self.delete_with(path, true).await
    }

    pub async fn rename(&self, from: &str, to: &str) -> Result<(), WireError> {
        let request = RenameRequest {
            meta: self.meta(),
            from: from.to_owned().into(),
            to: to.to_owned().into(),
            no_replace: false,
        };
        self.namespace.clone().rename(request).await.map(|_| ()).map_err(error)
    }

    pub async fn status(&self) -> StatusReply {
        self.cluster.clone().status(StatusRequest {}).await.unwrap().into_inner()
    }

    /// Waits until the trash is empty.
    pub async fn purged(&self) {
        eventually("the trash is empty", async || self.status().await.pending_deletes == 0).await;
    }
}

/// A directory as a store of its own, to look behind the master's back.
pub async fn local_store(directory: &Path) -> Arc<dyn Ufs> {
    let uri = format!("file://{}", directory.display());
    let store = forebay_ufs::open(&uri, &forebay_ufs::OpenOptions::default()).unwrap();
    store.check(Access::ReadWrite).await.unwrap();
    store
}

/// All keys of a memory store as text.
pub fn keys(store: &forebay_ufs::memory::MemoryUfs) -> Vec<String> {
    store.keys().iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
}
