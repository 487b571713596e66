//! A worker and its masters: registration, heartbeats, views; and what clients ask over gRPC.
use crate::common::*;
use bytes::Bytes;
use forebay_base::ErrorKind;
use forebay_proto::error::{self, WireError};
use forebay_proto::v1::registry_server::{Registry, RegistryServer};
use forebay_proto::v1::worker_control_client::WorkerControlClient;
use forebay_proto::v1::*;
use forebay_ufs::memory::{MemoryUfs, Operation};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::{Request, Response, Status};

/// What the test's master knows and has heard.
#[derive(Default)]
struct Known {
    view: ClusterView,
    registered: Vec<RegisterRequest>,
    heartbeats: Vec<HeartbeatRequest>,
    /// Workers that registered since the master started.
    members: Vec<u64>,
    freed: Vec<u64>,
    /// What it says to whoever registers, if it takes nobody.
    refuses: Option<WireError>,
    /// How often it has refused.
    refused: u64,
}

#[derive(Clone, Default)]
struct Master(Arc<Mutex<Known>>);

#[tonic::async_trait]
impl Registry for Master {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<RegisterReply>, Status> {
        let (mut known, request) = (self.0.lock(), request.into_inner());
        if let Some(error) = known.refuses.clone() {
            known.refused += 1;
            return Err(error.into());
        }
        let address = request.address.clone().unwrap();
        known.members.push(address.worker);
        known.view.workers.retain(|worker| worker.worker != address.worker);
        known.view.workers.push(address);
        known.view.epoch += 1;
        known.registered.push(request);
        Ok(Response::new(RegisterReply { cluster_id: "test".into(), view: Some(known.view.clone()) }))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Result<Response<HeartbeatReply>, Status> {
        let (mut known, request) = (self.0.lock(), request.into_inner());
        let reply = HeartbeatReply {
            register_again: !known.members.contains(&request.worker),
            view: (request.epoch != known.view.epoch).then(|| known.view.clone()),
            freed_inodes: std::mem::take(&mut known.freed),
        };
        known.heartbeats.push(request);
        Ok(Response::new(reply))
    }
}

impl Master {
    fn new() -> Master {
        let view = ClusterView {
            mounts: mounts(),
            ticket_keys: vec![Bytes::from_static(KEY)],
            heartbeat_ms: 20,
            ..ClusterView::default()
        };
        Master(Arc::new(Mutex::new(Known { view, ..Known::default() })))
    }

    /// Serves at an address until the sender goes.
    async fn serve(&self, address: SocketAddr) -> (SocketAddr, oneshot::Sender<()>) {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let service = RegistryServer::new(self.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming_shutdown(
            tokio_stream::wrappers::TcpListenerStream::new(listener),
            async {
                let _ = stopped.await;
            },
        ));
        (address, stop)
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.0.lock();
        change(&mut known);
        known.view.epoch += 1;
    }
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

async fn start(store: &Arc<MemoryUfs>, masters: Vec<SocketAddr>) -> TestWorker {
    let masters = masters.iter().map(ToString::to_string).collect();
    Setup::new(store)
        .change(|settings| {
            settings.masters = masters;
            settings.limits.heartbeat_interval = Duration::from_millis(20);
            settings.limits.master_timeout = Duration::from_secs(1);
        })
        .start_alone()
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_registers_and_says_how_it_is() {
    let store = Arc::new(MemoryUfs::new());
    let master = Master::new();
    let gone = TcpListener::bind(any()).await.unwrap().local_addr().unwrap();
    let (address, _stop) = master.serve(any()).await;
    // The first one in the list is down.
    let worker = start(&store, vec![gone, address]).await;
    eventually("it has heard of the cluster", || worker.running.epoch() == 1).await;
    let file = TestFile::put(&store, 1, 3 * PAGE);
    let mut client = worker.client().await;
    client.read(&file.ticket(), 0, PAGE).await.ok();
    client.read(&file.ticket(), 0, 3 * PAGE).await.ok();
    let seen = || master.0.lock().heartbeats.last().and_then(|beat| beat.status.clone()).unwrap_or_default();
    eventually("the master hears of it", || seen().miss_bytes == 3 * PAGE).await;
    let status = seen();
    assert_eq!((status.hit_bytes, status.fetched_bytes), (PAGE, 3 * PAGE));
    assert_eq!((status.tiers.len(), status.tiers[0].name.as_str()), (1, "SSD"));
    assert!(status.tiers[0].used >= 3 * PAGE && status.started_ms > 0);
    let known = master.0.lock();
    assert_eq!(known.registered.len(), 1);
    assert_eq!(known.registered[0].cluster_id, "", "it is new");
    assert!(known.heartbeats.iter().all(|beat| beat.cluster_id == "test"), "it says where it belongs");
    let told = known.registered[0].address.clone().unwrap();
    assert_eq!(told.data, worker.running.addresses().data.to_string());
    assert_eq!(told.weight, 1 << 10, "MiB of quota");
    assert!(!told.host_id.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_on_while_the_masters_are_away_and_registers_again() {
    let store = Arc::new(MemoryUfs::new());
    let master = Master::new();
    let (address, stop) = master.serve(any()).await;
    let worker = start(&store, vec![address]).await;
    eventually("registered", || worker.running.epoch() == 1).await;
    drop(stop);
    let file = TestFile::put(&store, 1, PAGE);
    let mut client = worker.client().await;
    assert!(client.read(&file.ticket(), 0, PAGE).await.ok() == file.bytes);
    // The master comes back without memory of its workers, at another epoch.
    master.change(|known| known.members.clear());
    let heard = master.0.lock().heartbeats.len();
    let mut served = None;
    for _ in 0..200 {
        // The port is free again when the old server's last connection is gone.
        if TcpListener::bind(address).await.is_ok() {
            served = Some(master.serve(address).await);
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(served.is_some(), "the port stays taken");
    eventually("registered again", || master.0.lock().registered.len() == 2).await;
    assert_eq!(master.0.lock().registered[1].cluster_id, "test", "it says whose cache it has");
    eventually("heartbeats go on", || master.0.lock().heartbeats.len() > heard + 2).await;
    assert!(client.read(&file.ticket(), 0, PAGE).await.ok() == file.bytes);
}

/// What is logged on this thread, as long as the guard lives.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Logged {
    fn begin() -> (Logged, tracing::subscriber::DefaultGuard) {
        let logged = Logged::default();
        let writer = logged.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (logged, tracing::subscriber::set_default(subscriber))
    }

    fn count(&self, what: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock()).matches(what).count()
    }
}

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A restore: the masters are away first, then one of them leads another cluster, and the other one does not lead.
#[tokio::test]
async fn a_refusal_for_good_is_logged_after_an_outage_and_beside_masters_that_do_not_lead() {
    let (logged, _guard) = Logged::begin();
    let store = Arc::new(MemoryUfs::new());
    let (leader, follower) = (Master::new(), Master::new());
    let away = WireError::new(ErrorKind::Unavailable, "another one leads");
    leader.change(|known| known.refuses = Some(away.clone()));
    follower.change(|known| known.refuses = Some(away));
    let ((first, _first), (second, _second)) = (leader.serve(any()).await, follower.serve(any()).await);
    let _worker = start(&store, vec![first, second]).await;
    eventually("nobody leads", || logged.count("no master answers") == 1).await;
    leader.change(|known| known.refuses = Some(error::other_cluster("old", "new")));
    eventually("the refusal is logged", || logged.count("cannot join the cluster") == 1).await;
    assert_eq!(logged.count("stop the worker, empty its data directory"), 1, "with what mends it");
    // Once, however often it is refused, and whoever is asked first.
    let before = leader.0.lock().refused;
    eventually("refused again", || leader.0.lock().refused > before + 4).await;
    assert_eq!((logged.count("cannot join the cluster"), logged.count("no master answers")), (1, 1));
    leader.change(|known| known.refuses = None);
    eventually("it is taken in", || logged.count("the masters answer again") == 1).await;
}

#[tokio::test]
async fn a_file_that_names_no_cluster_is_told_as_what_it_is() {
    let (logged, _guard) = Logged::begin();
    let store = Arc::new(MemoryUfs::new());
    let master = Master::new();
    let (address, _stop) = master.serve(any()).await;
    let _worker = Setup::new(&store)
        .change(move |settings| {
            settings.masters = vec![address.to_string()];
            settings.limits.heartbeat_interval = Duration::from_millis(20);
            std::fs::create_dir_all(&settings.data_dir).unwrap();
            std::fs::write(settings.data_dir.join("cluster-id"), "").unwrap();
        })
        .start_alone()
        .await;
    eventually("it is told", || logged.count("names no cluster") == 1).await;
    assert_eq!(logged.count("no master answers"), 0);
    assert_eq!(master.0.lock().registered.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_mount_or_key_is_asked_for_when_a_ticket_needs_it() {
    let store = Arc::new(MemoryUfs::new());
    let master = Master::new();
    // Heartbeats so rare that only asking can help.
    master.change(|known| {
        known.view.mounts.clear();
        known.view.heartbeat_ms = 3_600_000;
    });
    let (address, _stop) = master.serve(any()).await;
    let worker = start(&store, vec![address]).await;
    eventually("registered", || worker.running.epoch() == 2).await;
    let file = TestFile::put(&store, 1, PAGE);
    let mut client = worker.client().await;
    master.change(|known| known.view.mounts = mounts());
    assert!(client.read(&file.ticket(), 0, PAGE).await.ok() == file.bytes);
    master.change(|known| known.view.ticket_keys.insert(0, Bytes::from_static(b"new key")));
    // Who asked a moment ago does not ask again at once: the first tickets may be refused.
    let deadline = Instant::now() + Duration::from_secs(20);
    let bytes = loop {
        let answer = client.read(&file.ticket.sign(b"new key"), 0, PAGE).await;
        if answer.end.is_ok() {
            break answer.bytes;
        }
        assert_eq!(answer.error_kind(), ErrorKind::PermissionDenied);
        assert!(Instant::now() < deadline, "the new key is never asked for");
    };
    assert!(bytes == file.bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_freed_inodes_go() {
    let store = Arc::new(MemoryUfs::new());
    let master = Master::new();
    let (address, _stop) = master.serve(any()).await;
    let worker = start(&store, vec![address]).await;
    eventually("registered", || worker.running.epoch() == 1).await;
    let (kept, freed) = (TestFile::put(&store, 1, 4 * PAGE), TestFile::put(&store, 2, 4 * PAGE));
    let mut client = worker.client().await;
    for file in [&kept, &freed] {
        client.read(&file.ticket(), 0, 4 * PAGE).await.ok();
        worker.keeps(file, 0, 4 * PAGE).await;
    }
    let used = || worker.running.tiers()[0].used;
    let before = used();
    master.0.lock().freed.push(2);
    eventually("the space is free", || used() <= before - 4 * PAGE).await;
    let reads = store.count(Operation::Read);
    client.read(&kept.ticket(), 0, 4 * PAGE).await.ok();
    assert_eq!(store.count(Operation::Read), reads);
    client.read(&freed.ticket(), 0, 4 * PAGE).await.ok();
    assert!(store.count(Operation::Read) > reads);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_location_and_free() {
    let store = Arc::new(MemoryUfs::new());
    let worker = Setup::new(&store).start().await;
    let file = TestFile::put(&store, 1, 50 * PAGE + 1);
    let ticket = file.ticket();
    let channel = format!("http://{}", worker.running.addresses().control);
    let mut control = WorkerControlClient::connect(channel).await.unwrap();
    worker.client().await.read(&ticket, 10 * PAGE, PAGE).await.ok();
    worker.keeps(&file, 10 * PAGE, PAGE).await;
    let location = control.location(LocationRequest { ticket: ticket.clone() }).await.unwrap().into_inner();
    let range = |offset, length| CachedRange { offset, length, tier: "SSD".into() };
    assert_eq!(location.ranges, [range(10 * PAGE, PAGE)]);

    let request = LoadRequest { ticket: ticket.clone(), offset: 0, length: 0 };
    let mut progress = control.load(request).await.unwrap().into_inner();
    let mut last = LoadReply::default();
    while let Some(reply) = progress.message().await.unwrap() {
        assert!(reply.loaded >= last.loaded);
        last = reply;
    }
    assert_eq!(last, LoadReply { loaded: 50 * PAGE + 1, fetched: 49 * PAGE + 1, pressed: false });
    let location = control.location(LocationRequest { ticket: ticket.clone() }).await.unwrap().into_inner();
    assert_eq!(location.ranges, [range(0, 50 * PAGE + 1)]);
    assert!(worker.client().await.read(&ticket, 0, 51 * PAGE).await.ok() == file.bytes);
    assert_eq!(worker.fetched(), 50 * PAGE + 1);

    let freed = control.free(FreeRequest { ticket: ticket.clone() }).await.unwrap().into_inner().freed;
    assert_eq!(freed, 50 * PAGE + 1);
    let location = control.location(LocationRequest { ticket: ticket.clone() }).await.unwrap().into_inner();
    assert!(location.ranges.is_empty());

    store.remove(b"file-1");
    let request = LoadRequest { ticket, offset: 0, length: 0 };
    let mut progress = control.load(request).await.unwrap().into_inner();
    let error = loop {
        match progress.message().await {
            Ok(reply) => assert!(reply.is_some(), "a load that cannot be done must not end well"),
            Err(status) => break WireError::from(&status),
        }
    };
    assert_eq!(error.kind, ErrorKind::Conflict);
    let bad = FreeRequest { ticket: file.ticket.sign(b"another key") };
    let error = WireError::from(&control.free(bad).await.unwrap_err());
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
}
