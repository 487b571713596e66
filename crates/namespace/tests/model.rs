//! The namespace against a reference model: random commands in random batches, random flushes, and crashes after which what was not
//! flushed is replayed. Compared: every reply, and again and again the whole tree. Queries go through a cache of a few records, and their
//! snapshots, kept for a while, are held against the store's own of the same moment.
//!
//! `FOREBAY_MODEL_COMMANDS` sets how many commands, `FOREBAY_MODEL_SEED` the first seed. A failure names its seed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "model/reference.rs"]
mod reference;

use bytes::Bytes;
use forebay_base::{ErrorKind, InodeId, NsPath};
use forebay_metastore::{Direction, KeyRange, MemStore, Snapshot, Store};
use forebay_namespace::command::*;
use forebay_namespace::query::{self, Step};
use forebay_namespace::record::MountSpec;
use forebay_namespace::reply::{self, Payload, Synced};
use forebay_namespace::{Action, Command, Inode, Request, StateMachine};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use reference::{MOUNTS, Model, Node, Seen, join};
use std::{collections::BTreeMap, collections::BTreeSet, collections::VecDeque, sync::Arc};

const COMMANDS_DEFAULT: u64 = 300_000;
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
    store: Arc<MemStore>,
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
    fn new(seed: u64) -> Run {
        let store = Arc::new(MemStore::for_crashes());
        let mut run = Run {
            seed,
            random: StdRng::seed_from_u64(seed),
            model: Model::root(),
            machine: StateMachine::open_with(store.clone(), CACHE_BYTES).unwrap(),
            store,
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
            run.model.mkdir(at, true, false).unwrap();
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

    fn name(&mut self) -> String {
        ["a", "b", "c", "a b", "ü"][self.pick(5) as usize].to_owned()
    }

    /// Mostly what exists, or would be new in an existing directory; sometimes anything.
    fn path(&mut self) -> String {
        let mut path = if self.chance(4) {
            "/lake".to_owned()
        } else {
            let at = self.pick(self.model.nodes.len() as u64) as usize;
            self.model.nodes.keys().nth(at).unwrap().clone()
        };
        for _ in 0..self.pick(3) {
            path = join(&path, &self.name());
        }
        match path.split('/').count() > 6 {
            true => "/lake/a".to_owned(),
            false => path,
        }
    }

    fn write_number(&mut self) -> u64 {
        match self.model.writes.len() as u64 {
            0 => self.pick(5),
            _ if self.chance(10) => self.pick(self.model.write_last + 2),
            count => {
                let at = self.pick(count) as usize;
                *self.model.writes.keys().nth(at).unwrap()
            }
        }
    }

    /// Draws a command, and what its reply must be.
    fn draw(&mut self) -> (Action, Expected) {
        self.model.now_ms += self.pick(4);
        match self.pick(100) {
            0..12 => self.draw_mkdir(),
            12..30 => self.draw_create(),
            30..46 => self.draw_complete(),
            46..60 => self.draw_rename(),
            60..68 => self.draw_delete(),
            68..84 => self.draw_sync(),
            84..88 => self.draw_set_attributes(),
            _ => self.draw_write_care(),
        }
    }

    fn draw_mkdir(&mut self) -> (Action, Expected) {
        let (path, parents, loaded) = (self.path(), self.chance(2), !self.chance(4));
        let expected = self.model.mkdir(&path, parents, loaded);
        let command = MakeDirectory {
            path: path.into(),
            parents,
            loaded,
            owner: "maker".to_owned(),
            mode: 0o755,
            ..Default::default()
        };
        (command.into(), expect(expected, |id| Expected::Inode { id }))
    }

    fn draw_create(&mut self) -> (Action, Expected) {
        let (path, overwrite, parents) = (self.path(), self.chance(2), self.chance(4));
        let expected = self.model.create(&path, overwrite, parents, LEASE_MS);
        let owner = "writer".to_owned();
        let path = path.into();
        let command =
            CreateFile { path, overwrite, parents, owner, mode: 0o640, lease_ms: LEASE_MS, ..Default::default() };
        (command.into(), expect(expected, |(write, version)| Expected::Created { write, version }))
    }

    fn draw_complete(&mut self) -> (Action, Expected) {
        let (write, length, modified_ms) = (self.write_number(), self.pick(100), self.pick(3) * 1000);
        let tag = ["", "t1", "t2"][self.pick(3) as usize].to_owned();
        let expected = self.model.complete(write, length, &tag, modified_ms);
        (CompleteFile { write, length, tag, modified_ms }.into(), expect(expected, Expected::Version))
    }

    fn draw_rename(&mut self) -> (Action, Expected) {
        let (from, to, no_replace) = (self.path(), self.path(), self.chance(5));
        let expected = self.model.rename(&from, &to, no_replace);
        let command = Rename { from: from.into(), to: to.into(), no_replace, ..Default::default() };
        (command.into(), expect(expected, |()| Expected::Fine))
    }

    fn draw_delete(&mut self) -> (Action, Expected) {
        let (path, recursive, namespace_only) = (self.path(), self.chance(2), self.chance(4));
        let expected = self.model.delete(&path, recursive, namespace_only);
        (Delete { path: path.into(), recursive, namespace_only }.into(), expect(expected, |()| Expected::Fine))
    }

    fn draw_set_attributes(&mut self) -> (Action, Expected) {
        let (path, modified_ms) = (self.path(), self.pick(3000));
        let expected = self.model.set_owner(&path, "eve", modified_ms);
        let changes =
            AttributeChanges { owner: Some("eve".to_owned()), modified_ms: Some(modified_ms), ..Default::default() };
        let command = SetAttributes { path: path.into(), targets: vec![], changes };
        (command.into(), expect(expected, |()| Expected::Fine))
    }

    fn draw_write_care(&mut self) -> (Action, Expected) {
        let write = self.write_number();
        let action: Action = match self.pick(5) {
            0 => {
                let expected = self.model.set_upload(write);
                return (SetUpload { write, upload: "u".to_owned() }.into(), expect(expected, |()| Expected::Fine));
            }
            1 => {
                self.model.abandon(write);
                AbandonWrite { write }.into()
            }
            2 => {
                let writes: Vec<u64> = self.model.writes.keys().copied().collect();
                writes.iter().for_each(|write| self.model.expire(*write));
                ExpireWrites { writes }.into()
            }
            3 => {
                self.model.renew(write, LEASE_MS);
                RenewWrite { writes: vec![write], lease_ms: LEASE_MS }.into()
            }
            _ => {
                self.model.forget(write);
                ForgetWrites { writes: vec![write] }.into()
            }
        };
        (action, Expected::Fine)
    }

    fn draw_sync(&mut self) -> (Action, Expected) {
        let directory = match self.path() {
            path if self.model.nodes.get(&path).is_some_and(|node| !node.directory) && !self.chance(9) => {
                "/lake".to_owned()
            }
            path => path,
        };
        let deepest = &self.model.nodes[self.model.deepest(&directory)];
        let current = (deepest.id, deepest.generation);
        let base = if self.chance(8) { self.old_base } else { current };
        if self.chance(4) {
            self.old_base = current;
        }
        let seen: Vec<Seen> = (0..self.pick(5)).map(|_| self.draw_seen(&directory)).collect();
        let mark = self.chance(2);
        let expected = self.model.sync(&directory, base, &seen, mark);
        let entries = seen.iter().map(sync_entry).collect();
        let command = SyncApply {
            directory: directory.into(),
            base_inode: base.0,
            base_generation: base.1,
            entries,
            mark_loaded: mark,
            ..Default::default()
        };
        (command.into(), expect(expected, Expected::Synced))
    }

    fn draw_seen(&mut self, directory: &str) -> Seen {
        let name = self.name();
        let current = self.model.nodes.get(&join(directory, &name)).map_or((0, 0), |node| (node.id, node.version));
        let is_late = self.chance(8);
        Seen {
            name,
            removed: self.chance(3),
            directory: self.chance(3),
            length: self.pick(3),
            tag: ["", "t1", "t2"][self.pick(3) as usize].to_owned(),
            modified_ms: self.pick(3) * 1000,
            expected: if is_late { (current.0, current.1 + 1) } else { current },
        }
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
            0..4 => self.store.flush().unwrap(),
            4 => self.crash(),
            5..10 => self.purge(),
            10 => self.compare(),
            11..14 => self.repeat(),
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

    /// Looks at some paths now, and at a moment that is some batches ago.
    fn look(&mut self) {
        for _ in 0..3 {
            let path = self.path();
            let resolved = query::resolve(&*self.machine.reader().snapshot(), &path.parse().unwrap()).unwrap();
            let found = resolved.found().map(|step| node(&step.inode));
            assert_eq!(found.as_ref(), self.model.nodes.get(&path), "seed {}: {path}", self.seed);
        }
        if self.chance(3) {
            self.views.push_back((self.machine.reader().snapshot(), self.store.snapshot()));
        }
        if self.views.len() > VIEWS_MAX {
            let (view, snapshot) = self.views.pop_front().unwrap();
            // What is there now may not have been there then, and the other way round.
            for from in [&snapshot, &self.store.snapshot()] {
                for row in from.scan(KeyRange::all(), Direction::Forward) {
                    let (key, _) = row.unwrap();
                    let (cached, stored) = (view.get(&key).unwrap(), snapshot.get(&key).unwrap());
                    assert_eq!(cached, stored, "seed {}: key {}", self.seed, key.escape_ascii());
                }
            }
        }
    }

    fn check_reply(&mut self, command: &Bytes, reply: &Bytes, expected: &Expected) {
        let outcome = reply::decode(reply);
        let found = match (&outcome, expected) {
            (_, Expected::Same(first)) if first == reply => expected.clone(),
            (Err(refusal), _) => Expected::Refused(refusal.error_kind()),
            (Ok(_), Expected::Fine) => Expected::Fine,
            (Ok(Payload::Inode(it)), Expected::Inode { .. }) => Expected::Inode { id: it.inode.id },
            (Ok(Payload::Inode(it)), Expected::Version(_)) => Expected::Version(it.inode.version),
            (Ok(Payload::Created(it)), _) => Expected::Created { write: it.write.id, version: it.write.version },
            (Ok(Payload::Purged(it)), _) => Expected::Purged { removed: it.removed, done: it.done },
            (Ok(Payload::Synced(it)), _) => {
                let Synced { added, changed, removed, skipped, unchanged } = *it;
                Expected::Synced([added, changed, removed, skipped, unchanged])
            }
            (Ok(other), _) => panic!("seed {}: {other:?}, expected {expected:?}", self.seed),
        };
        self.refusals += u64::from(outcome.is_err());
        assert_eq!(
            &found,
            expected,
            "seed {}, command {}: {:?} got {outcome:?}",
            self.seed,
            self.commands,
            <Command as prost::Message>::decode(command.clone())
        );
    }

    /// Loses what is not flushed but for some of it, and replays the log from there, in other batches.
    fn crash(&mut self) {
        self.crashes += 1;
        let kept = self.pick(self.store.unflushed_batches() as u64 + 1) as usize;
        self.store = Arc::new(self.store.crashed(kept));
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

    /// Compares the whole tree, what hangs on it, and the counters.
    fn compare(&self) {
        let seed = self.seed;
        let snapshot = self.machine.reader().snapshot();
        let mut found = BTreeMap::new();
        let root = query::resolve(&*snapshot, &NsPath::root()).unwrap().steps.remove(0);
        found.insert("/".to_owned(), node(&root.inode));
        for walked in query::Walk::pre_order(&*snapshot, InodeId::ROOT) {
            let Step { parent, name, inode } = walked.unwrap().step;
            let path = query::path_of(&*snapshot, parent, &name).unwrap().unwrap();
            found.insert(path.to_string(), node(&inode));
        }
        assert_eq!(found, self.model.nodes, "seed {seed}, after {} commands", self.commands);
        let writes = query::writes(&*snapshot, 0, usize::MAX).unwrap();
        let writes: Vec<_> = writes.iter().map(|it| (it.id, it.version, it.abandoned, it.expires_ms)).collect();
        let expected = self.model.writes.iter();
        let expected: Vec<_> = expected.map(|(id, it)| (*id, it.version, it.abandoned, it.expires_ms)).collect();
        assert_eq!(writes, expected, "seed {seed}, after {} commands", self.commands);
        let trashed: u64 = self.model.trash.values().map(|it| it.inodes_left).sum();
        let summary = query::summary(&*snapshot).unwrap();
        assert_eq!(summary.inodes, found.len() as u64 + trashed, "seed {seed}");
        assert_eq!(summary.trash_entries, self.model.trash.len() as u64, "seed {seed}");
        assert_eq!(summary.writes, self.model.writes.len() as u64, "seed {seed}");
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
        self.compare();
        self.check_rows();
    }

    /// Each inode has one row, each directory but the root one more; other kinds of rows are few.
    fn check_rows(&self) {
        let mut kinds: BTreeMap<u8, u64> = BTreeMap::new();
        for row in self.store.snapshot().scan(KeyRange::all(), Direction::Forward) {
            *kinds.entry(row.unwrap().0[0]).or_default() += 1;
        }
        let count = |kind: u8| kinds.get(&kind).copied().unwrap_or_default();
        let directories = self.model.nodes.values().filter(|node| node.directory).count() as u64;
        assert_eq!(count(b'I'), self.model.nodes.len() as u64, "seed {}", self.seed);
        assert_eq!(count(b'D'), directories - 1, "seed {}", self.seed);
        for gone in [b'W', b'P', b'T', b'B', b'N'] {
            assert_eq!(count(gone), 0, "seed {}: rows of kind {}", self.seed, gone as char);
        }
    }
}

fn expect<T>(outcome: reference::Refusable<T>, fine: impl FnOnce(T) -> Expected) -> Expected {
    match outcome {
        Ok(value) => fine(value),
        Err(kind) => Expected::Refused(kind),
    }
}

fn sync_entry(seen: &Seen) -> SyncEntry {
    SyncEntry {
        name: seen.name.clone().into(),
        removed: seen.removed,
        directory: seen.directory,
        length: seen.length,
        modified_ms: seen.modified_ms,
        tag: seen.tag.clone(),
        expected_inode: seen.expected.0,
        expected_version: seen.expected.1,
    }
}

/// An inode as the model sees it.
fn node(inode: &Inode) -> Node {
    Node {
        id: inode.id,
        directory: inode.is_directory(),
        length: inode.length,
        version: inode.version,
        complete: inode.is_complete(),
        loaded: inode.is_loaded(),
        tag: inode.tag.clone(),
        modified_ms: inode.modified_ms,
        owner: inode.owner.clone(),
        write: inode.write,
        generation: inode.generation,
        reserved: inode.reserved_version,
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

#[test]
fn the_namespace_agrees_with_its_model_through_crashes() {
    let commands = setting("FOREBAY_MODEL_COMMANDS", COMMANDS_DEFAULT);
    let first_seed = setting("FOREBAY_MODEL_SEED", 1);
    let (mut done, mut crashes, mut refusals, mut seeds) = (0, 0, 0, 0);
    while done < commands {
        let mut run = Run::new(first_seed + seeds);
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
