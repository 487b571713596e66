//! The namespace against a reference model: random commands in random batches, random flushes, and crashes after which what was not
//! flushed is replayed. Compared: every reply, and again and again the whole tree. Queries go through a cache of a few records, and their
//! snapshots, kept for a while, are held against the store's own of the same moment.
//!
//! `FOREBAY_MODEL_COMMANDS` sets how many commands (`FOREBAY_MODEL_COMMANDS_ON_DISK` on RocksDB), `FOREBAY_MODEL_SEED` the first seed. A failure names its seed.

mod compare;
mod disk;
mod draw;
mod reference;

use bytes::Bytes;
use disk::Disk;
use forebay_base::ErrorKind;
use forebay_metastore::{Direction, KeyRange, Snapshot, Store};
use forebay_namespace::command::*;
use forebay_namespace::query;
use forebay_namespace::record::MountSpec;
use forebay_namespace::{Command, Request, StateMachine};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reference::{MOUNTS, Model};
use std::{collections::BTreeMap, collections::BTreeSet, collections::VecDeque, sync::Arc};

const COMMANDS_DEFAULT: u64 = 300_000;
const COMMANDS_ON_DISK_DEFAULT: u64 = 4_000;
const COMMANDS_PER_SEED: u64 = 2_000;
const LEASE_MS: u64 = 40;
/// About 60 records, so that they are evicted and read again all the time.
const CACHE_BYTES: u64 = 12 << 10;
const VIEWS_MAX: usize = 3;

/// What a reply must say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Refused(ErrorKind),
    Fine,
    Inode { id: u64 },
    Created { write: u64, version: u64 },
    Version(u64),
    Synced([u64; 5]),
    Purged { removed: u64, done: bool },
    Same(Bytes),
}

/// One entry of the log, and its reply.
#[derive(Clone)]
struct Logged {
    position: Bytes,
    command: Bytes,
    reply: Bytes,
}

struct Run {
    seed: u64,
    random: StdRng,
    model: Model,
    disk: Option<Disk>,
    store: Arc<dyn Store>,
    machine: StateMachine,
    log: Vec<Logged>,
    /// The latest requests of each client, to be repeated: sequence, command, place in the log.
    sent: BTreeMap<u64, Vec<(u64, Bytes, usize)>>,
    /// An older base of a comparison, to be used late.
    old_base: (u64, u64),
    /// Snapshots through the cache beside those of the store itself, of the same moments.
    views: VecDeque<(Snapshot, Snapshot)>,
    commands: u64,
    crashes: u64,
    refusals: u64,
}

impl Run {
    fn new(seed: u64, disk: Disk) -> Run {
        let store = disk.store();
        let mut run = Run {
            seed,
            random: StdRng::seed_from_u64(seed),
            model: Model::root(),
            machine: StateMachine::open_with(store.clone(), CACHE_BYTES).unwrap(),
            store,
            disk: Some(disk),
            log: Vec::new(),
            sent: BTreeMap::new(),
            old_base: (0, 0),
            views: VecDeque::new(),
            commands: 0,
            crashes: 0,
            refusals: 0,
        };
        run.store.flush().unwrap();
        for (at, _) in MOUNTS {
            run.model.now_ms += 1;
            let spec = MountSpec { uri: "file:///x".to_owned(), ..MountSpec::default() };
            let mount =
                AddMount { path: at.into(), spec, owner: "maker".to_owned(), mode: 0o755, ..Default::default() };
            let command = Command::internal(run.model.now_ms, mount).to_bytes();
            run.model.mkdir(at, true, false, false).unwrap();
            let node = run.model.nodes.get_mut(at).unwrap();
            node.loaded = false;
            node.generation += 1;
            run.apply(vec![(command, Expected::Fine)]);
        }
        run
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random.random_range(0..below)
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.pick(one_in) == 0
    }

    /// A batch of commands; now and then one is a repetition.
    fn step(&mut self) {
        let mut batch = Vec::new();
        for _ in 0..=self.pick(8) {
            let (action, expected) = self.draw();
            let command = Command::internal(self.model.now_ms, action);
            batch.push(self.with_request(command, expected));
        }
        self.apply(batch);
        self.look();
        match self.pick(40) {
            0..4 => self.disk.as_mut().unwrap().flush(),
            4 => self.crash(),
            5..10 => self.purge(),
            10 => self.compare(),
            11..14 => self.repeat(),
            14 if self.chance(10) => self.pass_an_hour(),
            _ => {}
        }
    }

    fn with_request(&mut self, mut command: Command, expected: Expected) -> (Bytes, Expected) {
        if self.chance(2) && expected != Expected::Refused(ErrorKind::Unavailable) {
            let client = self.pick(3);
            let sent = self.sent.entry(client).or_default();
            let sequence = sent.last().map_or(1, |(sequence, ..)| sequence + 1);
            command.request = Some(Request { client, sequence, acked_below: sequence.saturating_sub(2) });
            // Its place in the log is known once it is applied.
            sent.push((sequence, command.to_bytes(), usize::MAX));
            let keep = sent.len().saturating_sub(3);
            sent.drain(..keep);
        }
        (command.to_bytes(), expected)
    }

    /// Sends a request again that may have been answered long before.
    fn repeat(&mut self) {
        let client = self.pick(3);
        let Some(sent) = self.sent.get(&client).filter(|sent| !sent.is_empty()) else { return };
        let (_, command, at) = sent[self.random.random_range(0..sent.len())].clone();
        let first = self.log[at].reply.clone();
        self.apply(vec![(command, Expected::Same(first))]);
    }

    /// After an hour without a request sessions are forgotten, a few with each command: the same clients begin anew.
    fn pass_an_hour(&mut self) {
        self.model.now_ms += 62 * 60_000;
        let advance = || (Command::internal(self.model.now_ms, AdvanceTime {}).to_bytes(), Expected::Fine);
        let batch = vec![advance(), advance()];
        self.apply(batch);
        self.sent.clear();
        let snapshot = self.store.snapshot();
        let sessions =
            snapshot.scan(KeyRange::all(), Direction::Forward).filter(|row| row.as_ref().unwrap().0[0] == b'S');
        assert_eq!(sessions.count(), 0, "seed {}", self.seed);
    }

    fn purge(&mut self) {
        let entries = query::trash(&*self.store, 0, 100).unwrap();
        assert_eq!(entries.len(), self.model.trash.len(), "seed {}", self.seed);
        if entries.is_empty() {
            return;
        }
        let entry = &entries[self.random.random_range(0..entries.len())];
        let limit = 1 + self.pick(4) as usize;
        let page = query::trash_page(&*self.store, entry.id, limit).unwrap();
        let writes: BTreeSet<u64> = page.iter().map(|it| it.inode.write).filter(|write| *write != 0).collect();
        let removed = page.len() as u64;
        let done = self.model.purge(entry.id, removed, &writes);
        let entries = page.into_iter().map(|it| TrashedName { parent: it.parent.0, name: it.name }).collect();
        let command = Command::internal(self.model.now_ms, PurgeTrash { trash: entry.id, entries });
        self.apply(vec![(command.to_bytes(), Expected::Purged { removed, done })]);
    }

    fn apply(&mut self, batch: Vec<(Bytes, Expected)>) {
        let first = self.log.len();
        let entries: Vec<(Bytes, Bytes)> = batch
            .iter()
            .enumerate()
            .map(|(n, (command, _))| (Bytes::copy_from_slice(&((first + n + 1) as u64).to_be_bytes()), command.clone()))
            .collect();
        let replies = self.machine.apply(&entries).unwrap();
        for (((position, command), reply), (_, expected)) in entries.into_iter().zip(replies).zip(batch) {
            self.check_reply(&command, &reply, &expected);
            for (_, sent, at) in self.sent.values_mut().flatten() {
                if *at == usize::MAX && *sent == command {
                    *at = self.log.len();
                }
            }
            self.log.push(Logged { position, command, reply });
            self.commands += 1;
        }
    }

    /// Loses what is not flushed but for some of it, and replays the log from there, in other batches.
    fn crash(&mut self) {
        self.crashes += 1;
        let disk = self.disk.take().unwrap().crash(|below| self.pick(below));
        self.store = disk.store();
        self.disk = Some(disk);
        self.machine = StateMachine::open_with(self.store.clone(), CACHE_BYTES).unwrap();
        let position = self.machine.applied_position().clone();
        let done = position.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)) as usize;
        let lost: Vec<Logged> = self.log[done..].to_vec();
        let mut rest = &lost[..];
        while !rest.is_empty() {
            let (batch, later) = rest.split_at((1 + self.pick(12) as usize).min(rest.len()));
            let entries: Vec<_> = batch.iter().map(|it| (it.position.clone(), it.command.clone())).collect();
            let replies = self.machine.apply(&entries).unwrap();
            for (replayed, first) in replies.iter().zip(batch) {
                assert_eq!(replayed, &first.reply, "seed {}: a replayed command answers differently", self.seed);
            }
            rest = later;
        }
        self.compare();
    }

    /// Ends all writes and purges all trash: nothing may be left behind in the store.
    fn wind_up(&mut self) {
        while let Some(write) = self.model.writes.keys().next().copied() {
            self.model.abandon(write);
            self.model.forget(write);
            let now_ms = self.model.now_ms;
            let abandon = Command::internal(now_ms, AbandonWrite { write }).to_bytes();
            let forget = Command::internal(now_ms, ForgetWrites { writes: vec![write] }).to_bytes();
            self.apply(vec![(abandon, Expected::Fine), (forget, Expected::Fine)]);
        }
        while !self.model.trash.is_empty() {
            self.purge();
        }
        while let Some(intent) = self.model.intents.keys().next().copied() {
            self.model.end_rename(intent);
            let command = Command::internal(self.model.now_ms, EndRename { intent }).to_bytes();
            self.apply(vec![(command, Expected::Fine)]);
        }
        while let Some(((intent, key), _)) = self.model.copies.pop_first() {
            let command = ForgetCopies { intent, keys: vec![key.into()] };
            self.apply(vec![(Command::internal(self.model.now_ms, command).to_bytes(), Expected::Fine)]);
        }
        self.compare();
        self.check_rows();
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_namespace_agrees_with_its_model_through_crashes() {
    check(setting("FOREBAY_MODEL_COMMANDS", COMMANDS_DEFAULT), Disk::memory);
}

/// On the store that servers use; each crash and each flush costs syncs, so it goes less far.
#[test]
fn the_namespace_agrees_with_its_model_on_rocksdb() {
    check(setting("FOREBAY_MODEL_COMMANDS_ON_DISK", COMMANDS_ON_DISK_DEFAULT), Disk::rocks);
}

fn check(commands: u64, disk: fn() -> Disk) {
    let first_seed = setting("FOREBAY_MODEL_SEED", 1);
    let (mut done, mut crashes, mut refusals, mut seeds) = (0, 0, 0, 0);
    while done < commands {
        let mut run = Run::new(first_seed + seeds, disk());
        while run.commands < COMMANDS_PER_SEED {
            run.step();
        }
        run.wind_up();
        done += run.commands;
        crashes += run.crashes;
        refusals += run.refusals;
        seeds += 1;
    }
    println!("seeds {first_seed}..{}: {done} commands, {refusals} refused, {crashes} crashes", first_seed + seeds);
    // The draws must not all be refused, nor all be harmless.
    assert!(crashes > seeds / 2 && refusals * 4 < done * 3 && refusals * 20 > done);
}
