//! Three masters in this process: the ones that do not lead answer reads of those who say how old an answer may be.

use crate::support::{DEADLINE, Fixture, Home, error, eventually, memory_store};
use forebay_base::ByteSize;
use forebay_base::ErrorKind;
use forebay_master::Log;
use forebay_master::{Master, RunningMaster};
use forebay_proto::error::WireError;
use forebay_proto::ticket::Ticket;
use forebay_proto::v1::cluster_client::ClusterClient;
use forebay_proto::v1::masters_client::MastersClient;
use forebay_proto::v1::namespace_client::NamespaceClient;
use forebay_proto::v1::*;
use forebay_testkit::port::Port;
use forebay_ufs::{PutCondition, Ufs};
use futures::future::join_all;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

const HOUR: Duration = Duration::from_secs(3600);
/// What was acknowledged before the request was made is to be in the answer.
const NOW: Duration = Duration::from_micros(1);

/// Between all others and one master: lets nothing through when told so.
struct Relay {
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Relay {
    async fn start(listener: TcpListener, to: SocketAddr) -> Relay {
        let open = watch::Sender::new(true);
        let gate = open.clone();
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut gate = gate.subscribe();
                tokio::spawn(async move {
                    if !*gate.borrow() {
                        return;
                    }
                    let Ok(mut to) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut from, &mut to) => {}
                        _ = gate.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Relay { open, task }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Three masters, each behind a relay for the other ones; the tests reach them past it.
pub(crate) struct Group {
    /// None: its fixture has it.
    masters: Vec<Option<RunningMaster>>,
    addresses: Vec<SocketAddr>,
    relays: Vec<Relay>,
    /// What they call each other: the relays' addresses.
    names: Vec<String>,
    _ports: Vec<Port>,
    home: Home,
}

impl Group {
    pub(crate) async fn start() -> Group {
        Group::start_with(Log::default()).await
    }

    async fn start_with(log: Log) -> Group {
        let home = Home::new();
        let ports: Vec<Port> = (0..3).map(|_| Port::reserve().unwrap()).collect();
        let mut listeners = Vec::new();
        for _ in 0..3 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let mut relays = Vec::new();
        for (listener, port) in listeners.into_iter().zip(&ports) {
            relays.push(Relay::start(listener, port.address()).await);
        }
        let starts = ports.iter().zip(&addresses).enumerate().map(|(n, (port, address))| {
            let mut settings = home.settings();
            settings.data_dir = home.dir.path().join(n.to_string());
            settings.listen = port.address();
            settings.advertise.clone_from(address);
            settings.masters.clone_from(&addresses);
            settings.log = log.clone();
            // Those that are registered here never call again.
            settings.worker_timeout = HOUR;
            Master::start(settings)
        });
        let masters = join_all(starts).await.into_iter().map(|master| Some(master.unwrap())).collect();
        let reached = ports.iter().map(Port::address).collect();
        Group { masters, addresses: reached, relays, names: addresses, _ports: ports, home }
    }

    pub(crate) fn reader(&self, at: usize) -> Reader {
        let endpoint = format!("http://{}", self.addresses[at]);
        Reader { namespace: NamespaceClient::new(Channel::from_shared(endpoint).unwrap().connect_lazy()) }
    }

    /// The number of the one that leads, once one does, and a client of it.
    pub(crate) async fn leader(&mut self) -> (usize, Fixture) {
        let mut leader = None;
        eventually("a leader", async || {
            for at in (0..self.masters.len()).filter(|at| self.masters[*at].is_some()) {
                leader = leader.or(self.reader(at).stat(None, "/").await.is_ok().then_some(at));
            }
            leader.is_some()
        })
        .await;
        let at = leader.unwrap();
        (at, Fixture::over(self.masters[at].take().unwrap()).await)
    }

    /// For changes of the group, at the one that leads.
    fn admin(&self, at: usize) -> MastersClient<Channel> {
        MastersClient::new(Channel::from_shared(format!("http://{}", self.addresses[at])).unwrap().connect_lazy())
    }

    /// How often the state of a master has been replaced by a snapshot, and once more.
    fn generation(&self, at: usize) -> u64 {
        let current = self.home.dir.path().join(at.to_string()).join("state/CURRENT");
        std::fs::read_to_string(current).unwrap().trim().parse().unwrap()
    }

    pub(crate) async fn shutdown(self, leader: Fixture) {
        let all = self.masters.into_iter().flatten().chain([leader.master]);
        join_all(all.map(RunningMaster::shutdown)).await;
        drop(self.relays);
    }
}

/// Asks one master, whether it leads or not.
pub(crate) struct Reader {
    namespace: NamespaceClient<Channel>,
}

fn bound(staleness: Option<Duration>) -> Option<ReadBound> {
    staleness.map(|staleness| ReadBound { max_staleness_us: staleness.as_micros() as u64, seen_index: 0 })
}

/// On a machine with too much to do the leader's answer may come too late; that is as good as any other refusal, and nobody's failure here.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, WireError>) -> Result<T, WireError> {
    let begun = Instant::now();
    loop {
        match ask().await {
            Err(late) if late.message.contains("cannot answer as") && begun.elapsed() < DEADLINE => {}
            outcome => return outcome,
        }
    }
}

/// As [`patiently`], of what the leader may not tell in time to be asked of its store.
async fn patiently_led<T>(mut ask: impl AsyncFnMut() -> Result<T, WireError>) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(late) => assert!(late.kind == ErrorKind::Unavailable && begun.elapsed() < DEADLINE, "{late:?}"),
        }
    }
}

impl Reader {
    async fn stat_by(&self, bound: Option<ReadBound>, path: &str) -> Result<StatReply, WireError> {
        let request = StatRequest { path: path.to_owned().into(), bound, ..StatRequest::default() };
        Ok(self.namespace.clone().stat(request).await.map_err(error)?.into_inner())
    }

    async fn stat(&self, staleness: Option<Duration>, path: &str) -> Result<Entry, WireError> {
        Ok(self.stat_by(bound(staleness), path).await?.entry.unwrap())
    }

    /// With all that was acknowledged before.
    async fn stat_now(&self, path: &str) -> Result<Entry, WireError> {
        patiently(async || self.stat(Some(NOW), path).await).await
    }

    async fn open_now(&self, path: &str) -> Result<OpenReply, WireError> {
        patiently(async || self.open(path).await).await
    }

    pub(crate) async fn names_now(&self, path: &str, limit: u32) -> Result<Vec<String>, WireError> {
        patiently(async || self.names(path, limit).await).await
    }

    async fn sum_now(&self, path: &str) -> Result<(u64, u64, u64), WireError> {
        patiently(async || self.sum(path).await).await
    }

    async fn open(&self, path: &str) -> Result<OpenReply, WireError> {
        let request = OpenRequest { path: path.to_owned().into(), bound: bound(Some(NOW)), ..OpenRequest::default() };
        Ok(self.namespace.clone().open(request).await.map_err(error)?.into_inner())
    }

    async fn names(&self, path: &str, limit: u32) -> Result<Vec<String>, WireError> {
        let request =
            ListRequest { path: path.to_owned().into(), bound: bound(Some(NOW)), limit, ..ListRequest::default() };
        let mut pages = self.namespace.clone().list(request).await.map_err(error)?.into_inner();
        let mut names = Vec::new();
        while let Some(page) = pages.message().await.map_err(error)? {
            assert!(page.index > 0);
            names.extend(page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()));
        }
        Ok(names)
    }

    async fn sum(&self, path: &str) -> Result<(u64, u64, u64), WireError> {
        let request = ContentSummaryRequest {
            path: path.to_owned().into(),
            bound: bound(Some(NOW)),
            ..ContentSummaryRequest::default()
        };
        let sum = self.namespace.clone().content_summary(request).await.map_err(error)?.into_inner();
        Ok((sum.directories, sum.files, sum.length))
    }
}

fn sent_to_the_leader<T: std::fmt::Debug>(outcome: Result<T, WireError>, said: &str) {
    let refused = outcome.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
    assert!(refused.message.contains(said) && !refused.leader.is_empty(), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_does_not_lead_answers_what_needs_no_leader() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let readers = [group.reader((at + 1) % 3), group.reader((at + 2) % 3)];
    for n in 0..30 {
        leader.mkdir(&format!("/d/{n:02}")).await.unwrap();
        for reader in &readers {
            let path = format!("/d/{n:02}");
            sent_to_the_leader(reader.stat(None, &path).await, "not the leader");
            let seen = patiently(async || reader.stat_by(bound(Some(NOW)), &path).await).await.unwrap();
            assert!(seen.index > 0 && seen.entry.unwrap().kind() == EntryKind::Directory);
        }
    }
    let missing = readers[0].stat_now("/d/none").await.unwrap_err();
    assert!(missing.kind == ErrorKind::NotFound && missing.index > 0, "{missing:?}");
    assert_eq!(readers[0].names_now("/d", 0).await.unwrap().len(), 30);
    assert_eq!(readers[1].names_now("/d", 3).await.unwrap(), ["00", "01", "02"]);
    assert_eq!(readers[1].sum_now("/d").await.unwrap(), (31, 0, 0));
    let request = StatRequest {
        path: "/d".into(),
        sync: SyncMode::Now as i32,
        bound: bound(Some(HOUR)),
        ..StatRequest::default()
    };
    let now = readers[0].namespace.clone().stat(request).await.map_err(error);
    sent_to_the_leader(now, "the store is to be asked");
    let ahead = ReadBound { max_staleness_us: HOUR.as_micros() as u64, seen_index: 1 << 40 };
    sent_to_the_leader(readers[0].stat_by(Some(ahead), "/d").await, "has not applied entry");
    group.shutdown(leader).await;
}

/// What the leader has compared with stores, and what it has forgotten, is known here no later than its next answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_compared_with_a_store_is_told_to_the_others() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let reader = group.reader((at + 1) % 3);
    let (store, uri) = memory_store();
    leader.mount("/m", &uri).await;
    let put = async |key: &'static str| {
        store.put(key.as_bytes(), vec![b"abc".as_slice().into()], &PutCondition::None).await.unwrap()
    };
    put("d/x").await;
    sent_to_the_leader(reader.stat_now("/m/d/x").await, "may have to be asked first");
    leader.stat("/m/d/x").await.unwrap();
    assert_eq!(reader.stat_now("/m/d/x").await.unwrap().length, 3);
    sent_to_the_leader(reader.names_now("/m/d", 0).await, "first");
    assert_eq!(leader.names("/m/d").await, ["x"]);
    assert_eq!(reader.names_now("/m/d", 0).await.unwrap(), ["x"]);
    assert_eq!(reader.sum_now("/m/d").await.unwrap(), (1, 1, 3));
    // By the entries of its directory, as at the leader, as long as the interval lasts.
    put("d/new").await;
    assert_eq!(reader.stat_now("/m/d/new").await.unwrap_err().kind, ErrorKind::NotFound);

    let opened = reader.open_now("/m/d/x").await.unwrap();
    let (own, mut leaders) = (Ticket::peek(&opened.ticket).unwrap(), leader.namespace.clone());
    let request = OpenRequest { path: "/m/d/x".into(), ..OpenRequest::default() };
    let leaders = Ticket::peek(&leaders.open(request).await.unwrap().into_inner().ticket).unwrap();
    assert_eq!(Ticket { expires_ms: 0, ..own }, Ticket { expires_ms: 0, ..leaders });
    leader.create("/m/d/w").await.unwrap();
    sent_to_the_leader(reader.open_now("/m/d/w").await, "is being written");

    let forget =
        DeleteRequest { meta: leader.meta(), path: "/m/d/x".into(), namespace_only: true, ..DeleteRequest::default() };
    leader.namespace.clone().delete(forget).await.unwrap();
    sent_to_the_leader(reader.stat_now("/m/d/x").await, "may have to be asked first");
    // One that began a moment after that may be taken for one from before: clocks are not compared.
    eventually("a comparison that counts", async || {
        leader.stat_as("/m/d/x", SyncMode::Now).await.unwrap();
        reader.stat_now("/m/d/x").await.is_ok_and(|entry| entry.length == 3)
    })
    .await;
    group.shutdown(leader).await;
}

/// The leader compared it while nobody could ask, and has told others of so much since that it does not tell of this any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_leader_tells_no_more_is_asked_for() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let reader = group.reader((at + 1) % 3);
    let (store, uri) = memory_store();
    leader.mount_with("/m", &uri, &[("sync", "1h")]).await.unwrap();
    store.put(b"d/x", vec![b"abc".as_slice().into()], &PutCondition::None).await.unwrap();
    reader.stat_now("/").await.unwrap();
    group.relays[at].open.send_replace(false);
    eventually("that it cannot ask", async || reader.stat(Some(NOW), "/").await.is_err()).await;
    leader.stat("/m/d/x").await.unwrap();
    assert_eq!(leader.names("/m/d").await, ["x"]);
    // More than half a MiB of names.
    let long = ["n".repeat(200), "a".repeat(200), "m".repeat(200), "e".repeat(200)].join("/");
    for n in 0..800 {
        // Each in a directory of its own, which nobody lists.
        assert_eq!(leader.stat(&format!("/m/{n}/{long}")).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    group.relays[at].open.send_replace(true);
    eventually("what the leader knows", async || reader.stat(Some(HOUR), "/m/d/x").await.is_ok()).await;
    assert_eq!(patiently_led(async || reader.names("/m/d", 0).await).await, ["x"]);
    assert_eq!(patiently_led(async || reader.sum("/m/d").await).await, (1, 1, 3));
    // And nothing that it knows no more.
    let forget =
        DeleteRequest { meta: leader.meta(), path: "/m/d/x".into(), namespace_only: true, ..DeleteRequest::default() };
    leader.namespace.clone().delete(forget).await.unwrap();
    sent_to_the_leader(reader.stat_now("/m/d/x").await, "may have to be asked first");
    group.shutdown(leader).await;
}

/// Who allows an hour asks for half an hour nothing by itself, in which the leader compares.
#[tokio::test(flavor = "multi_thread")]
async fn however_old_answers_may_be_the_next_read_is_answered_without_the_leader() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let reader = group.reader((at + 1) % 3);
    let (store, uri) = memory_store();
    leader.mount("/m", &uri).await;
    // Each in a directory of its own, which nobody lists.
    for n in 0..20 {
        store.put(format!("{n}/x").as_bytes(), vec![b"abc".as_slice().into()], &PutCondition::None).await.unwrap();
    }
    for n in 0..20 {
        let path = format!("/m/{n}/x");
        eventually("the mount", async || {
            let refused = reader.stat(Some(HOUR), &path).await.unwrap_err();
            refused.message.contains("may have to be asked first")
        })
        .await;
        leader.stat(&path).await.unwrap();
        assert_eq!(patiently_led(async || reader.stat(Some(HOUR), &path).await).await.length, 3);
    }
    group.shutdown(leader).await;
}

/// Whoever asks for the first time needs what nobody had to ask for before: that the state was young a moment ago, and the workers.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_never_asked_keeps_up_and_knows_the_workers() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    leader.mkdir("/d").await.unwrap();
    let address = WorkerAddress { worker: 7, data: "127.0.0.1:1".into(), weight: 1, ..WorkerAddress::default() };
    let register = RegisterRequest { address: Some(address), ..RegisterRequest::default() };
    leader.registry.clone().register(register).await.unwrap();
    let cluster = |at: usize| {
        let endpoint = format!("http://{}", group.addresses[at]);
        ClusterClient::new(Channel::from_shared(endpoint).unwrap().connect_lazy())
    };
    let follower = (at + 1) % 3;
    let workers = async |at: usize, bound| {
        let reply = cluster(at).workers(WorkersRequest { bound }).await.map_err(error)?.into_inner();
        Ok::<_, WireError>(reply.workers.iter().map(|worker| worker.worker).collect::<Vec<_>>())
    };
    sent_to_the_leader(workers(follower, None).await, "not the leader");
    eventually("the workers", async || workers(follower, bound(Some(HOUR))).await.is_ok_and(|ids| ids == [7])).await;
    // The one that led goes on with what it knew itself.
    let others: Vec<RunningMaster> = group.masters.iter_mut().filter_map(Option::take).collect();
    join_all(others.into_iter().map(RunningMaster::shutdown)).await;
    let reader = group.reader(at);
    eventually("that nobody leads", async || reader.stat(None, "/d").await.is_err()).await;
    eventually("an answer", async || reader.stat(Some(HOUR), "/d").await.is_ok()).await;
    assert_eq!(workers(at, bound(Some(HOUR))).await.unwrap(), [7]);
    reader.stat(Some(NOW), "/d").await.unwrap_err();
    group.shutdown(leader).await;
}

/// It gets all entries and hears of all commits, and cannot ask: what it answers gets older than a bound, whatever it has.
#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_ask_the_leader_answers_nothing_older_than_its_bound() {
    const SHORT: Duration = Duration::from_millis(300);
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let reader = group.reader((at + 1) % 3);
    leader.mkdir("/d").await.unwrap();
    reader.stat_now("/d").await.unwrap();
    group.relays[at].open.send_replace(false);
    eventually("what it knows to be too old", async || reader.stat(Some(SHORT), "/d").await.is_err()).await;
    // From here on the last answer is older than the bound, for good.
    leader.mkdir("/e").await.unwrap();
    for _ in 0..20 {
        sent_to_the_leader(reader.stat(Some(SHORT), "/d").await, "this master cannot answer");
        sent_to_the_leader(reader.names("/", 0).await, "this master cannot answer");
    }
    eventually("the entry to come", async || reader.stat(Some(HOUR), "/e").await.is_ok()).await;
    group.relays[at].open.send_replace(true);
    eventually("an answer", async || reader.stat(Some(SHORT), "/e").await.is_ok()).await;
    reader.stat_now("/e").await.unwrap();
    group.shutdown(leader).await;
}

/// The old leader's answers count for nothing, nor does what it said of stores.
#[tokio::test(flavor = "multi_thread")]
async fn another_leader_is_asked_when_there_is_one() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let (store, uri): (Arc<forebay_ufs::memory::MemoryUfs>, String) = memory_store();
    leader.mount("/m", &uri).await;
    store.put(b"x", vec![b"abc".as_slice().into()], &PutCondition::None).await.unwrap();
    let others = [group.reader((at + 1) % 3), group.reader((at + 2) % 3)];
    // The leader tells others what it compares from their first question on.
    others[0].stat_now("/").await.unwrap();
    others[1].stat_now("/").await.unwrap();
    leader.stat("/m/x").await.unwrap();
    for reader in &others {
        reader.stat_now("/m/x").await.unwrap();
    }
    leader.master.shutdown().await;
    let (next, leader) = group.leader().await;
    let reader = group.reader(3 - at - next);
    leader.mkdir("/e").await.unwrap();
    eventually("the new leader's word", async || reader.stat_now("/e").await.is_ok()).await;
    sent_to_the_leader(reader.stat_now("/m/x").await, "may have to be asked first");
    leader.stat("/m/x").await.unwrap();
    reader.stat_now("/m/x").await.unwrap();
    group.shutdown(leader).await;
}

/// An answer is right, or there is none: what was acknowledged before it was asked for is there.
fn is_right_or_refused(outcome: Result<Entry, WireError>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(refused) => {
            assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused:?}");
            false
        }
    }
}

/// It gets no entries any more, and finds that something is missing as soon as something is.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_was_removed_answers_nothing_that_it_may_have_missed() {
    let mut group = Group::start().await;
    let (at, leader) = group.leader().await;
    let removed = (at + 1) % 3;
    let reader = group.reader(removed);
    leader.mkdir("/d").await.unwrap();
    reader.stat_now("/d").await.unwrap();
    let address = group.names[removed].clone();
    group.admin(at).remove_master(RemoveMasterRequest { address }).await.unwrap();
    let mut last = true;
    for n in 0..20 {
        let path = format!("/e{n}");
        leader.mkdir(&path).await.unwrap();
        last = is_right_or_refused(reader.stat(Some(NOW), &path).await);
    }
    assert!(!last, "it still gets entries, or answers without");
    group.shutdown(leader).await;
}

/// One that was away gets the whole state at once, and answers from the old one until then only what is old enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_gets_a_snapshot_answers_nothing_older_than_its_bound() {
    let log = Log { segment_bytes: ByteSize::kib(4), flush_bytes: ByteSize::kib(8), retained_entries: 10 };
    let mut group = Group::start_with(log).await;
    let (at, leader) = group.leader().await;
    let away = (at + 1) % 3;
    let reader = group.reader(away);
    leader.mkdir("/d").await.unwrap();
    reader.stat_now("/d").await.unwrap();
    let generation = group.generation(away);
    group.relays[away].open.send_replace(false);
    for n in 0..300 {
        leader.mkdir(&format!("/d/{n}")).await.unwrap();
    }
    group.admin(at).take_snapshot(TakeSnapshotRequest::default()).await.unwrap();
    leader.mkdir("/d/last").await.unwrap();
    group.relays[away].open.send_replace(true);
    eventually("an answer", async || {
        let right = is_right_or_refused(reader.stat(Some(NOW), "/d/last").await);
        right && reader.names_now("/d", 0).await.is_ok_and(|names| names.len() == 301)
    })
    .await;
    assert!(group.generation(away) > generation, "it got the log instead");
    group.shutdown(leader).await;
}
