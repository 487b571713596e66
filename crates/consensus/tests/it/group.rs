//! Several members in one process, over a network that loses, delays, doubles and cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{Consensus, Formation, Member, MemberId, OpenError, Settings, Transport, TransportError};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;

use crate::ledger::Ledger;

/// Nothing may take longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What goes wrong between the members.
#[derive(Default)]
pub struct Faults {
    /// Nothing goes from the first to the second.
    pub cut: BTreeSet<(u64, u64)>,
    /// Of a hundred messages so many are lost, ...
    pub lost_percent: u64,
    /// ... and so many come a second time, later.
    pub doubled_percent: u64,
    /// Each takes up to this long.
    pub delay_ms_max: u64,
    chance: u64,
}

/// The network.
#[derive(Clone, Default)]
pub struct Net {
    faults: Arc<Mutex<Faults>>,
    members: Arc<Mutex<BTreeMap<u64, Weak<Consensus>>>>,
    /// How often each was killed. What one says after that was never said: the files that it left do not know of it.
    deaths: Arc<Mutex<BTreeMap<u64, u64>>>,
    /// What each applies.
    ledgers: Arc<Mutex<BTreeMap<u64, Ledger>>>,
}

impl Net {
    pub fn faults(&self) -> parking_lot::MutexGuard<'_, Faults> {
        self.faults.lock()
    }

    /// Cuts a member off from all others, both ways.
    pub fn isolate(&self, id: u64) {
        for other in 0..20 {
            self.faults().cut.extend([(id, other), (other, id)]);
        }
    }

    pub fn heal(&self) {
        let mut faults = self.faults();
        *faults = Faults { chance: faults.chance, ..Faults::default() };
    }

    /// What is lost, doubled and late follows from it.
    pub fn seed(&self, seed: u64) {
        self.faults().chance = seed;
    }

    fn random(&self, below: u64) -> u64 {
        let mut faults = self.faults.lock();
        faults.chance = faults.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (faults.chance >> 33) % below
    }

    /// Takes a message over a link: waits as long as it takes, for ever when it is lost.
    async fn pass(&self, from: u64, to: u64) {
        let (lost, delay) = {
            let faults = self.faults.lock();
            (faults.lost_percent, faults.delay_ms_max)
        };
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(self.random(delay + 1))).await;
        }
        if self.faults.lock().cut.contains(&(from, to)) || self.random(100) < lost {
            std::future::pending::<()>().await;
        }
    }

    /// Somebody who thinks that it leads, with its deaths so far.
    fn leader(&self) -> Option<(u64, u64, Arc<Consensus>)> {
        // Who dies is taken out of the table before the death counts.
        let members = self.members.lock();
        let mut living = members.iter().filter_map(|(id, member)| Some((*id, self.deaths(*id), member.upgrade()?)));
        living.find(|(.., member)| member.is_leader())
    }

    fn deaths(&self, id: u64) -> u64 {
        self.deaths.lock().get(&id).copied().unwrap_or_default()
    }

    fn member(&self, id: u64) -> Result<Arc<Consensus>, TransportError> {
        let member = self.members.lock().get(&id).and_then(Weak::upgrade);
        member.ok_or_else(|| TransportError::Unreachable("connection refused".to_owned()))
    }
}

/// One member's end of the network.
struct Link {
    net: Net,
    from: u64,
    /// Those that it had died when it was made.
    deaths: u64,
}

/// Addresses are `member N`.
fn id_of(member: &Member) -> u64 {
    member.address.trim_start_matches("member ").parse().unwrap()
}

impl Transport for Link {
    fn call(&self, to: &Member, request: Bytes, _: Duration) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (net, from, deaths, to) = (self.net.clone(), self.from, self.deaths, id_of(to));
        async move {
            net.pass(from, to).await;
            let there = net.deaths(to);
            let member = net.member(to)?;
            if net.deaths(from) != deaths {
                return Err(dead());
            }
            if net.random(100) < net.faults().doubled_percent {
                let (net, member, request) = (net.clone(), member.clone(), request.clone());
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(net.random(300))).await;
                    member.handle(request).await;
                });
            }
            let reply = member.handle(request).await;
            drop(member);
            if net.deaths(to) != there {
                return Err(dead());
            }
            net.pass(to, from).await;
            Ok(reply)
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Member,
        mut requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, TransportError>>, TransportError>> {
        let (net, from, deaths, to) = (self.net.clone(), self.from, self.deaths, id_of(to));
        async move {
            net.pass(from, to).await;
            let lives = net.deaths(to);
            let member = net.member(to)?;
            let (forth, arrive) = tokio::sync::mpsc::channel::<Bytes>(4);
            let there = net.clone();
            tokio::spawn(async move {
                loop {
                    let request = tokio::select! {
                        request = requests.next() => request,
                        () = forth.closed() => None,
                    };
                    let Some(request) = request else { return };
                    tokio::select! {
                        () = there.pass(from, to) => {}
                        () = forth.closed() => return,
                    }
                    if there.deaths(from) != deaths || forth.send(request).await.is_err() {
                        return;
                    }
                }
            });
            let arriving = futures::stream::unfold(arrive, |mut arrive| async { Some((arrive.recv().await?, arrive)) });
            let replies = member.handle_stream(arriving.boxed());
            let replies = replies.then(move |reply| {
                let net = net.clone();
                async move {
                    // Said before it died, or never.
                    if net.deaths(to) != lives {
                        return Err(dead());
                    }
                    net.pass(to, from).await;
                    net.member(to)?;
                    Ok(reply)
                }
            });
            Ok(replies.boxed())
        }
        .boxed()
    }
}

fn dead() -> TransportError {
    TransportError::Unreachable("connection reset by peer".to_owned())
}

/// One member with its directory.
pub struct Node {
    pub id: u64,
    pub consensus: Option<Arc<Consensus>>,
    pub ledger: Ledger,
    dir: PathBuf,
    lives: u32,
}

/// A group under test.
pub struct Group {
    pub net: Net,
    pub nodes: BTreeMap<u64, Node>,
    root: tempfile::TempDir,
    adjust: fn(&mut Settings),
}

pub fn member(id: u64) -> Member {
    Member { id: MemberId(id), address: format!("member {id}") }
}

pub fn list(ids: impl IntoIterator<Item = u64>) -> Formation {
    Formation::Group(ids.into_iter().map(member).collect())
}

pub fn settings(id: u64) -> Settings {
    let mut settings = Settings::new(member(id));
    // So that a test of many elections takes seconds.
    settings.heartbeat_interval = Duration::from_millis(60);
    settings.election_timeout = Duration::from_millis(300);
    settings.propose_timeout = Duration::from_secs(3);
    settings.catch_up_timeout = Duration::from_secs(5);
    settings
}

impl Group {
    /// Starts `count` members with one list, and returns without waiting for a leader.
    pub async fn start(count: u64) -> Group {
        Group::start_with(count, |_| ()).await
    }

    pub async fn start_with(count: u64, adjust: fn(&mut Settings)) -> Group {
        let mut group =
            Group { net: Net::default(), nodes: BTreeMap::new(), root: tempfile::tempdir().unwrap(), adjust };
        for id in 1..=count {
            group.begin(id, list(1..=count)).await;
        }
        group
    }

    /// Starts a member with a new directory.
    pub async fn begin(&mut self, id: u64, formation: Formation) {
        let lives = self.nodes.get(&id).map_or(0, |node| node.lives + 1);
        let dir = self.root.path().join(format!("{id}.{lives}"));
        fs::create_dir(&dir).unwrap();
        let ledger = Ledger::at(&dir.join("state"));
        self.nodes.insert(id, Node { id, consensus: None, ledger, dir, lives });
        self.open(id, formation).await.unwrap();
    }

    async fn open(&mut self, id: u64, formation: Formation) -> Result<(), OpenError> {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut settings = Settings { formation, ..settings(id) };
        (self.adjust)(&mut settings);
        node.ledger = Ledger::at(&node.dir.join("state"));
        let link = Arc::new(Link { net: self.net.clone(), from: id, deaths: self.net.deaths(id) });
        let opened = Consensus::open_in_group(settings, &node.dir.join("log"), node.ledger.boxed(), link).await;
        let consensus = Arc::new(opened?);
        self.net.members.lock().insert(id, Arc::downgrade(&consensus));
        self.net.ledgers.lock().insert(id, node.ledger.clone());
        node.consensus = Some(consensus);
        Ok(())
    }

    /// As `kill -9`: what its files hold at this moment is all that is left.
    pub fn kill(&mut self, id: u64) {
        self.net.members.lock().remove(&id);
        *self.net.deaths.lock().entry(id).or_default() += 1;
        let node = self.nodes.get_mut(&id).unwrap();
        let killed = node.consensus.take().unwrap();
        node.lives += 1;
        let left = self.root.path().join(format!("{id}.{}", node.lives));
        copy(&node.dir, &left);
        node.dir = left;
        drop(killed);
    }

    /// Starts a killed member again.
    pub async fn restart(&mut self, id: u64) {
        let count = self.nodes.len() as u64;
        self.open(id, list(1..=count)).await.unwrap();
    }

    /// Starts a killed member again, after something was done to its log's directory.
    pub async fn restart_after(&mut self, id: u64, harm: impl FnOnce(&Path)) -> Result<(), OpenError> {
        harm(&self.nodes[&id].dir.join("log"));
        let count = self.nodes.len() as u64;
        self.open(id, list(1..=count)).await
    }

    pub fn at(&self, id: u64) -> Arc<Consensus> {
        self.nodes[&id].consensus.clone().unwrap()
    }

    pub fn living(&self) -> impl Iterator<Item = (u64, Arc<Consensus>)> + '_ {
        self.nodes.values().filter_map(|node| Some((node.id, node.consensus.clone()?)))
    }

    /// Waits for a leader that serves, other than those.
    pub async fn leader_besides(&self, not: &[u64]) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (id, member) in self.living().filter(|(id, _)| !not.contains(id)) {
                if member.is_leader() && member.read_barrier().await.is_ok() {
                    return id;
                }
            }
            assert!(Instant::now() < deadline, "no leader: {}", self.describe());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn leader(&self) -> u64 {
        self.leader_besides(&[]).await
    }

    pub fn describe(&self) -> String {
        let states = self.living().map(|(id, member)| format!("{id}: {:?}", member.status()));
        states.collect::<Vec<_>>().join("\n")
    }

    /// Proposes to whoever leads until it is acknowledged. It may take effect more than once.
    pub async fn propose(&self, command: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for (_, member) in self.living().filter(|(_, member)| member.is_leader()) {
                if member.propose(Bytes::from(command.to_owned())).await.is_ok() {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "{command} is not acknowledged: {}", self.describe());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every living member has applied the same, and returns that.
    pub async fn settled(&self) -> Vec<Bytes> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            let last = self.at(leader).status().last_index;
            let same = self.living().all(|(_, member)| member.status().applied_index == last);
            if same {
                let all: Vec<Vec<Bytes>> = self.living().map(|(id, _)| self.nodes[&id].ledger.commands()).collect();
                assert!(all.windows(2).all(|two| two[0] == two[1]), "members have applied different commands");
                return all[0].clone();
            }
            assert!(Instant::now() < deadline, "members do not catch up: {}", self.describe());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn shutdown(&self) {
        for (_, member) in self.living() {
            member.shutdown().await.unwrap();
        }
    }
}

/// Waits for a condition that must come true.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Proposes numbered commands to whoever leads, one after the other, until told to stop; returns those acknowledged.
pub fn keep_proposing(
    group: &Group,
    name: &'static str,
) -> (Arc<std::sync::atomic::AtomicBool>, tokio::task::JoinHandle<Vec<String>>) {
    keep_proposing_and_tell(group, name, Arc::default())
}

/// As [`keep_proposing`]; tells what was acknowledged last.
pub fn keep_proposing_and_tell(
    group: &Group,
    name: &'static str,
    last: Arc<Mutex<Option<String>>>,
) -> (Arc<std::sync::atomic::AtomicBool>, tokio::task::JoinHandle<Vec<String>>) {
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (stopped, net) = (stop.clone(), group.net.clone());
    let task = tokio::spawn(async move {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let command = format!("{name} {n}");
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                let is_acknowledged = match net.leader() {
                    // What a dead one says was never said.
                    Some((id, deaths, member)) => {
                        member.propose(Bytes::from(command.clone())).await.is_ok() && net.deaths(id) == deaths
                    }
                    None => false,
                };
                if is_acknowledged {
                    *last.lock() = Some(command.clone());
                    acknowledged.push(command.clone());
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if stopped.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
        }
        acknowledged
    });
    (stop, task)
}

/// Reads at whoever says that it may be read from, until told to stop, and checks that nothing that was acknowledged before is missing there; how
/// often it did.
pub fn keep_reading(
    group: &Group,
    stop: Arc<std::sync::atomic::AtomicBool>,
    acknowledged: Arc<Mutex<Option<String>>>,
) -> tokio::task::JoinHandle<usize> {
    let net = group.net.clone();
    tokio::spawn(async move {
        let mut reads = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let members: Vec<_> = net.members.lock().iter().map(|(id, member)| (*id, member.clone())).collect();
            for (id, member) in members {
                let deaths = net.deaths(id);
                let (Some(member), Some(before)) = (member.upgrade(), acknowledged.lock().clone()) else { continue };
                let ledger = net.ledgers.lock().get(&id).cloned();
                if member.read_barrier().await.is_err() {
                    continue;
                }
                let there = ledger.is_some_and(|ledger| ledger.commands().iter().any(|c| c == before.as_bytes()));
                // What a dead one says was never said.
                if net.deaths(id) == deaths {
                    assert!(there, "member {id} serves reads without {before}, which was acknowledged before");
                    reads += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        reads
    })
}

/// Everything acknowledged is there, and for the first time in the order of its acknowledgement.
pub fn check_kept(applied: &[Bytes], acknowledged: &[String]) {
    let mut first = BTreeMap::new();
    for (place, command) in applied.iter().enumerate() {
        first.entry(command.clone()).or_insert(place);
    }
    let mut before = None;
    for command in acknowledged {
        let place = first.get(command.as_bytes());
        assert!(place.is_some(), "{command} was acknowledged and is lost");
        assert!(place > before, "{command} is out of order");
        before = place;
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    let mut entries: Vec<PathBuf> = fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Newest segments first: the oldest may go away meanwhile.
    entries.sort();
    for path in entries.into_iter().rev() {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.exists() {
            let _ = fs::copy(&path, &target);
        }
    }
}

/// Takes the segments of a log away, and leaves the rest.
pub fn remove_segments(log: &Path) {
    for entry in fs::read_dir(log).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Takes the last `entries` away from the newest segment of a log, as if they had never been.
pub fn cut_tail(log: &Path, entries: usize) {
    let segments = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path());
    let newest = segments.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
    let bytes = fs::read(&newest).unwrap();
    let mut records = Vec::new();
    let mut at = 64;
    while at < bytes.len() {
        records.push(at);
        let length = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        at += (32 + length).next_multiple_of(8);
    }
    let end = records[records.len() - entries];
    fs::OpenOptions::new().write(true).open(&newest).unwrap().set_len(end as u64).unwrap();
}

/// Small segments, and a log that forgets early.
pub fn forgetful(settings: &mut Settings) {
    settings.segment_bytes = ByteSize::kib(4);
    settings.cache_bytes = ByteSize::kib(8);
    settings.flush_bytes = ByteSize::kib(16);
    settings.retained_entries = 10;
}
