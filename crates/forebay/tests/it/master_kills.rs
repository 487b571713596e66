//! `kill -9` of a server, or of the leader of three masters, under the load of several clients, at random moments, again and again on the same data directory. What was
//! acknowledged is there afterwards; what was under way when its client went away too has happened whole or not at all; what a client
//! that stays had sent is done once.
//!
//! Each client changes a tree of its own, by [`own`], outside of mounts and in a local directory, and takes part in what is
//! [`shared`]. After each round the whole tree is compared, and every file read.
//!
//! `FOREBAY_KILL_ROUNDS` sets how many rounds, `FOREBAY_KILL_SEED` the seed; a failure names it. Where the kills strike is the machine's matter.

mod own;
mod shared;

use crate::common::{DEADLINE, broken_off, program};
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, ClientConfig, Entry, ErrorKind, ListOptions, MountSpec, SyncMode};
use forebay_testkit::{
    cluster::{Cluster, Layout, Tier},
    lossy_fs::{LossyFs, Lost},
    wait,
};
use futures::TryStreamExt;
use own::Own;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use shared::Shared;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const ROUNDS_DEFAULT: u64 = 24;
/// Of three masters: an election for each.
const LEADERS_DEFAULT: u64 = 8;
const CLIENTS: usize = 4;
/// A kill comes after at most so many operations of a round.
const OPERATIONS_MAX: u64 = 300;

/// Operations between two snapshots of the state.
const SNAPSHOT_EVERY: u64 = 40;
/// A disk is pulled out after at most so many changes.
const CHANGES_MAX: u64 = 60;
/// A server without load may not change so much.
const UNPLUG_PATIENCE: Duration = Duration::from_millis(500);

/// What the operations of a round share.
struct Round {
    /// Operations that have been answered.
    done: AtomicU64,
    /// No further ones are begun.
    stop: AtomicBool,
}

/// One client, and what it knows.
struct Actor {
    index: usize,
    client: Client,
    random: Arc<Mutex<StdRng>>,
    own: Arc<Mutex<Own>>,
    shared: Arc<Shared>,
}

impl Actor {
    /// Does one thing after the other until told to stop.
    async fn run(&self, round: &Round) -> Result<()> {
        while !round.stop.load(Ordering::Relaxed) {
            let dice = self.random.lock().random_range(0..10);
            match dice {
                0..7 => own::step(&self.client, &self.own, &self.random).await?,
                _ => self.shared.step(self.index, &self.client, &self.random).await?,
            }
            round.done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// What a file or directory looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    /// None: a directory.
    content: Option<Vec<u8>>,
    /// Not yet, while a new file is being written.
    complete: bool,
    mode: u32,
    owner: String,
    /// The number in the extended attribute that the test sets; 0: none.
    mark: u64,
}

/// A tree as it was found: all paths below a directory.
type Tree = BTreeMap<String, Node>;

/// The name of the extended attribute that operations set.
const MARK: &str = "mark";

fn mark_of(entry: &Entry, name: &str) -> u64 {
    let found = entry.xattrs.iter().find(|xattr| xattr.name == name.as_bytes());
    found.map_or(0, |xattr| String::from_utf8_lossy(&xattr.value).parse().unwrap())
}

/// All that lies below a directory; files are read.
async fn look(client: &Client, directory: &str, sync: SyncMode) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        let options = ListOptions { with_xattrs: true, sync, ..ListOptions::default() };
        let entries: Vec<Entry> = client.list_with(directory.as_str(), options)?.try_collect().await?;
        for entry in entries {
            let path = entry.path.to_string();
            if entry.is_directory() {
                left.push(path.clone());
            }
            tree.insert(path, node(client, &entry).await?);
        }
    }
    Ok(tree)
}

/// A file's bytes. When the store has another version by then, the first read goes on with that one, which may be longer.
async fn read_whole(client: &Client, path: &str) -> Result<Vec<u8>> {
    let file = client.open(path).await?;
    loop {
        let length = file.len();
        let bytes = file.read_at(0, length as usize).await?;
        if file.len() == length {
            return Ok(bytes.to_vec());
        }
    }
}

async fn node(client: &Client, entry: &Entry) -> Result<Node> {
    let content = match (entry.is_file(), entry.complete && entry.length > 0) {
        (false, _) => None,
        (true, false) => Some(Vec::new()),
        (true, true) => {
            Some(read_whole(client, &entry.path.to_string()).await.with_context(|| format!("reading {}", entry.path))?)
        }
    };
    let (mode, owner, mark) = (entry.mode, entry.owner.clone(), mark_of(entry, MARK));
    Ok(Node { content, complete: entry.complete, mode, owner, mark })
}

pub(crate) struct World {
    pub(crate) cluster: Cluster,
    actors: Vec<Arc<Actor>>,
    shared: Arc<Shared>,
    pub(crate) random: StdRng,
    /// What the one server's data lies on: the power is cut after each kill.
    pub(crate) lossy: Option<LossyFs>,
    /// Times that the disk was pulled out while the server ran.
    pulled: u64,
    /// Power cuts that took something.
    cuts_that_took: u64,
    /// Backups that were acknowledged, by their ids.
    backups: Vec<String>,
    /// The local directory that is mounted, unless it lies with the data; removed after the processes have ended.
    _disk: tempfile::TempDir,
}

impl World {
    /// Of one process, or of several masters and a worker.
    async fn start(seed: u64, masters: usize) -> Result<World> {
        let layout = Layout {
            program: Some(program()),
            masters,
            workers: usize::from(masters > 1),
            tiers: vec![Tier::ssd("cache", "64MiB")],
            extra_toml: "master.write_lease = \"3s\"\n".to_owned(),
            ..Layout::default()
        };
        World::of(seed, layout, None).await
    }

    /// Of one process whose data lies on a file system that forgets.
    pub(crate) async fn on(lossy: LossyFs, seed: u64, extra_toml: &str) -> Result<World> {
        let layout = Layout {
            program: Some(lossy.program(&program())?),
            tiers: vec![Tier::ssd("cache", "64MiB")],
            data_in: Some(lossy.point()),
            extra_toml: format!("master.write_lease = \"3s\"\n{extra_toml}"),
            ..Layout::default()
        };
        World::of(seed, layout, Some(lossy)).await
    }

    async fn of(seed: u64, layout: Layout, lossy: Option<LossyFs>) -> Result<World> {
        let cluster = Cluster::start(layout).await?;
        let disk = tempfile::tempdir()?;
        let admin = connect(&cluster, 0).await?;
        let uri = match &lossy {
            None => format!("file://{}", disk.path().display()),
            Some(lossy) => {
                for made in ["store", "backups"] {
                    std::fs::create_dir(lossy.path().join(made))?;
                }
                forebay_base::data_dir::sync_names_in(&lossy.path())?;
                format!("file://{}", lossy.point().join("store").display())
            }
        };
        let spec = MountSpec { uri, sync_interval: "never".to_owned(), ..MountSpec::default() };
        admin.add_mount("/disk", spec, false).await?;
        let shared = Arc::new(Shared::make(&admin, CLIENTS).await?);
        let mut actors = Vec::new();
        for index in 0..CLIENTS {
            let random = StdRng::seed_from_u64(seed + 1 + index as u64);
            actors.push(Arc::new(Actor {
                index,
                client: connect(&cluster, index).await?,
                random: Arc::new(Mutex::new(random)),
                own: Arc::new(Mutex::new(Own::make(&admin, index).await?)),
                shared: Arc::clone(&shared),
            }));
        }
        Ok(World {
            cluster,
            actors,
            shared,
            random: StdRng::seed_from_u64(seed),
            lossy,
            pulled: 0,
            cuts_that_took: 0,
            backups: Vec::new(),
            _disk: disk,
        })
    }

    /// What the only server keeps, where the disk can forget.
    pub(crate) fn below(&self, path: &str) -> Result<PathBuf> {
        let lossy = self.lossy.as_ref().context("a lossy disk")?;
        Ok(lossy.path().join("master").join(path))
    }

    /// The master that leads, by its number.
    async fn leader(&self) -> Result<usize> {
        let group = self.actors[0].client.masters().await?;
        let leader = group.masters.into_iter().find(|master| master.leader).context("one leads")?;
        let mut masters = 0..group_size(&self.cluster);
        masters.find(|index| self.cluster.master_address(*index) == leader.address).context("the leader is one of ours")
    }

    /// Load, a kill in the middle of it, some clients that go away with the server, a restart, and a comparison.
    pub(crate) async fn round(&mut self) -> Result<u64> {
        let round = Arc::new(Round { done: AtomicU64::new(0), stop: AtomicBool::new(false) });
        let run = |actor: &Arc<Actor>| {
            let (actor, round) = (Arc::clone(actor), Arc::clone(&round));
            tokio::spawn(async move { actor.run(&round).await })
        };
        let tasks: Vec<_> = self.actors.iter().map(run).collect();
        let backup = self.begin_backup();
        let snapshots =
            self.lossy.is_some().then(|| tokio::spawn(make_snapshots(Arc::clone(&self.actors[0]), Arc::clone(&round))));
        let enough = self.random.random_range(0..OPERATIONS_MAX);
        let ended = || tasks.iter().any(|task| task.is_finished());
        wait::until("operations to be answered", DEADLINE, || async {
            round.done.load(Ordering::Relaxed) >= enough || ended()
        })
        .await?;
        let leader = self.leader().await?;
        let moment = Duration::from_micros(self.random.random_range(0..5_000));
        tokio::time::sleep(moment).await;
        self.kill(leader).await?;
        // With nobody there to hear of it: those who go away now leave no request behind that could come later.
        let mut leaves = Vec::new();
        for task in &tasks {
            leaves.push(self.random.random_bool(0.4) && !task.is_finished());
            if leaves.last() == Some(&true) {
                task.abort();
            }
        }
        let mut staying = Vec::new();
        for (index, (task, leaves)) in tasks.into_iter().zip(leaves).enumerate() {
            match leaves {
                true => broken_off(task.await).with_context(|| format!("client {index}, which goes"))?,
                false => staying.push((index, task)),
            }
        }
        round.stop.store(true, Ordering::Relaxed);
        self.end_backup(backup).await?;
        self.start_again(leader).await?;
        let stayed: Vec<usize> = staying.iter().map(|(index, _)| *index).collect();
        for (index, task) in staying {
            task.await?.with_context(|| format!("client {index}, which stays"))?;
        }
        if let Some(snapshots) = snapshots {
            snapshots.await?;
        }
        self.check_backup().await?;
        for index in (0..CLIENTS).filter(|index| !stayed.contains(index)) {
            let (client, old) = (connect(&self.cluster, index).await?, &self.actors[index]);
            let (random, own, shared) = (Arc::clone(&old.random), Arc::clone(&old.own), Arc::clone(&old.shared));
            self.actors[index] = Arc::new(Actor { index, client, random, own, shared });
        }
        self.compare(SyncMode::ByInterval).await?;
        Ok(round.done.load(Ordering::Relaxed))
    }

    /// Kills it; where the disk can forget, sometimes at one of its next changes of the disk, which is gone from then on.
    async fn kill(&mut self, leader: usize) -> Result<()> {
        if let Some(lossy) = &self.lossy
            && (self.pulled == 0 || self.random.random_bool(0.3))
        {
            lossy.unplug_after(self.random.random_range(0..CHANGES_MAX))?;
            // Under load that many changes come; the first time they are waited for.
            let patience = if self.pulled == 0 { DEADLINE } else { UNPLUG_PATIENCE };
            self.pulled += u64::from(goes(lossy, patience).await?);
        }
        self.cluster.master_at(leader).kill()
    }

    /// Cuts the power, if the disk can forget, perhaps more than once while it starts, and waits until it serves.
    async fn start_again(&mut self, leader: usize) -> Result<()> {
        while let Some(lossy) = &self.lossy {
            let seed = self.random.random();
            let lost = lossy.power_cut(seed)?;
            println!("power cut {seed}: {lost:?}");
            self.cuts_that_took += u64::from(lost != Lost::default());
            if self.random.random_bool(0.7) {
                break;
            }
            lossy.unplug_after(self.random.random_range(0..CHANGES_MAX))?;
            self.cluster.master_at(leader).restart()?;
            self.pulled += u64::from(goes(lossy, UNPLUG_PATIENCE).await?);
            self.cluster.master_at(leader).kill()?;
        }
        self.cluster.master_at(leader).restart()?;
        self.cluster.master_at(leader).wait_ready(DEADLINE).await
    }

    /// Where all can be lost that is not on disk, a backup is made in some rounds.
    fn begin_backup(&mut self) -> Option<tokio::process::Child> {
        let to = self.backups_uri()?;
        let mut command = self.cluster.command(&["backup", "create", "--json", "--to", &to]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        self.random.random_bool(0.3).then(|| command.spawn().unwrap())
    }

    /// Its server is gone: it has ended before, or is given up.
    async fn end_backup(&mut self, backup: Option<tokio::process::Child>) -> Result<()> {
        let Some(mut backup) = backup else { return Ok(()) };
        if backup.try_wait()?.is_none_or(|status| !status.success()) {
            return Ok(backup.kill().await?);
        }
        let told: serde_json::Value = serde_json::from_slice(&backup.wait_with_output().await?.stdout)?;
        self.backups.push(told["id"].as_str().context("an id")?.to_owned());
        Ok(())
    }

    /// The last one that was acknowledged is there, whole.
    async fn check_backup(&self) -> Result<()> {
        let Some((to, id)) = self.backups_uri().zip(self.backups.last()) else { return Ok(()) };
        let verified = self.cluster.cli_ok(&["backup", "verify", "--to", &to, id]).await;
        verified.map(drop).context("a backup that was acknowledged")
    }

    fn backups_uri(&self) -> Option<String> {
        let lossy = self.lossy.as_ref()?;
        Some(format!("file://{}", lossy.point().join("backups").display()))
    }

    async fn compare(&self, sync: SyncMode) -> Result<()> {
        let client = connect(&self.cluster, 1).await?;
        for actor in &self.actors {
            let found = self.look_at_own(actor, &client, sync).await?;
            actor.own.lock().compare(found, sync).with_context(|| format!("the tree of client {}", actor.index))?;
        }
        self.shared.compare(&client).await
    }
}

impl World {
    /// The trees of an actor. While the server ends in the background what the actor has not seen the end of, a directory may go between being listed and
    /// being looked into: then they are looked at again.
    async fn look_at_own(&self, actor: &Actor, client: &Client, sync: SyncMode) -> Result<Tree> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let (roots, is_steady) = {
                let own = actor.own.lock();
                (own.roots(), own.is_steady())
            };
            let looked = async {
                let mut found = Tree::new();
                for root in roots {
                    found.extend(look(client, &root, sync).await?);
                }
                anyhow::Ok(found)
            };
            match looked.await {
                Err(error) if !is_steady && is_not_found(&error) && Instant::now() < deadline => {}
                outcome => return outcome.with_context(|| format!("looking at the trees of client {}", actor.index)),
            }
        }
    }
}

/// Whether a disk that is to be pulled out is gone by then: without load there may not be so many changes.
async fn goes(lossy: &LossyFs, patience: Duration) -> Result<bool> {
    let gone = || async { lossy.is_unplugged().unwrap_or(true) };
    // What it is worth is told by the last look.
    let _ = wait::until("the disk to go", patience, gone).await;
    lossy.is_unplugged()
}

/// Has the state written to its files again and again, and what that makes dispensable of the log removed.
async fn make_snapshots(actor: Arc<Actor>, round: Arc<Round>) {
    let mut next = SNAPSHOT_EVERY;
    while !round.stop.load(Ordering::Relaxed) {
        let enough = || async { round.done.load(Ordering::Relaxed) >= next || round.stop.load(Ordering::Relaxed) };
        if wait::until("operations", DEADLINE, enough).await.is_err() {
            return;
        }
        // Its server may just die.
        let _ = actor.client.snapshot_masters().await;
        next += SNAPSHOT_EVERY;
    }
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error: &forebay_client::Error| is_kind(error, &[ErrorKind::NotFound]))
}

/// Every second one reads through descriptors of the same host.
async fn connect(cluster: &Cluster, index: usize) -> Result<Client> {
    let config = ClientConfig { same_host: index.is_multiple_of(2), ..ClientConfig::new(cluster.masters().split(',')) };
    Ok(Client::connect(config).await?)
}

fn group_size(cluster: &Cluster) -> usize {
    cluster.masters().split(',').count()
}

pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kills_under_load() -> Result<()> {
    Box::pin(kill_under_load(1, setting("FOREBAY_KILL_ROUNDS").unwrap_or(ROUNDS_DEFAULT))).await
}

/// Each kill is of the leader, and clients go on with the next one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_kills_of_leaders_under_load() -> Result<()> {
    Box::pin(kill_under_load(3, setting("FOREBAY_KILL_ROUNDS").unwrap_or(LEADERS_DEFAULT))).await
}

async fn kill_under_load(masters: usize, rounds: u64) -> Result<()> {
    let seed = setting("FOREBAY_KILL_SEED").unwrap_or_else(rand::random);
    let world = World::start(seed, masters).await.context("starting")?;
    Box::pin(live(world, rounds, seed, || Ok(()))).await
}

/// So many rounds, and what is left when all that was under way has ended; `look` sees the disk then.
pub(crate) async fn live(mut world: World, rounds: u64, seed: u64, look: impl Fn() -> Result<()>) -> Result<()> {
    let mut done = 0;
    for round in 0..rounds {
        done += world.round().await.with_context(|| format!("round {round} of seed {seed}"))?;
    }
    // What was being written when its writer went away is decided when the lease has ended.
    wait::until("leases to end", DEADLINE, || async { Box::pin(world.compare(SyncMode::Now)).await.is_ok() })
        .await
        .or(world.compare(SyncMode::Now).await)
        .with_context(|| format!("at the end of seed {seed}"))?;
    look()?;
    let backups = world.backups.len();
    println!("{rounds} kills, {done} operations answered, {}, {backups} backups", world.shared.summary());
    ensure!(rounds < 10 || done > rounds, "only {done} operations were answered");
    if world.lossy.is_some() {
        let World { pulled, cuts_that_took, .. } = world;
        println!("the disk was pulled out {pulled} times, and {cuts_that_took} power cuts took something");
        // Each takes something in nine of ten cases: what a server tells of itself is never synced.
        ensure!(rounds < 10 || (pulled > 0 && cuts_that_took > 0), "neither pulls nor power cuts have broken anything");
    }
    Ok(())
}

/// An outcome that a test allows for.
fn is_kind(error: &forebay_client::Error, kinds: &[ErrorKind]) -> bool {
    kinds.contains(&error.kind())
}
