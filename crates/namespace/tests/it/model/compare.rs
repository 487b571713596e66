//! The replies and the state of the namespace, held against those of the model.

use super::reference::{Node, Phase};
use super::{Expected, Run, VIEWS_MAX};
use bytes::Bytes;
use forebay_base::{InodeId, NsPath};
use forebay_metastore::{Direction, KeyRange};
use forebay_namespace::query::{self, Step};
use forebay_namespace::record::IntentPhase;
use forebay_namespace::reply::{self, Payload, Synced};
use forebay_namespace::{Command, Inode};
use std::collections::BTreeMap;

impl Run {
    /// Looks at some paths now, and at a moment that is some batches ago.
    pub(super) fn look(&mut self) {
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

    pub(super) fn check_reply(&mut self, command: &Bytes, reply: &Bytes, expected: &Expected) {
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

    /// Compares the whole tree, what hangs on it, and the counters.
    pub(super) fn compare(&self) {
        let seed = self.seed;
        let snapshot = self.machine.reader().snapshot();
        if let Err(error) = forebay_namespace::census::census(&*snapshot) {
            panic!("seed {seed}: {error}");
        }
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
        let intents = query::rename_intents(&*snapshot).unwrap();
        let intents: Vec<_> = intents.iter().map(|it| (it.id, it.inode, it.phase())).collect();
        let expected = self.model.intents.iter().map(|(id, it)| (*id, it.node, phase(it.phase)));
        assert_eq!(intents, expected.collect::<Vec<_>>(), "seed {seed}, after {} commands", self.commands);
        for ((intent, key), tag) in &self.model.copies {
            let copied = query::copied(&*snapshot, *intent, key.as_bytes()).unwrap();
            assert_eq!(copied.map(|copied| copied.source_tag).as_ref(), Some(tag), "seed {seed}: copy of {key}");
        }
        let trashed: u64 = self.model.trash.values().map(|it| it.inodes_left).sum();
        let summary = query::summary(&*snapshot).unwrap();
        assert_eq!(summary.inodes, found.len() as u64 + trashed, "seed {seed}");
        assert_eq!(summary.trash_entries, self.model.trash.len() as u64, "seed {seed}");
        assert_eq!(summary.writes, self.model.writes.len() as u64, "seed {seed}");
    }

    /// Each inode has one row, each directory but the root one more; other kinds of rows are few.
    pub(super) fn check_rows(&self) {
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

/// An inode as the model sees it.
fn node(inode: &Inode) -> Node {
    Node {
        id: inode.id,
        directory: inode.is_directory(),
        length: inode.length,
        version: inode.version,
        complete: inode.is_complete(),
        loaded: inode.is_loaded(),
        made: inode.is_made(),
        tag: inode.tag.clone(),
        modified_ms: inode.modified_ms,
        owner: inode.owner.clone(),
        group: inode.group.clone(),
        mode: inode.mode(),
        xattrs: inode.xattrs.iter().map(|xattr| (text(&xattr.name), text(&xattr.value))).collect(),
        write: inode.write,
        generation: inode.generation,
        reserved: inode.reserved_version,
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn phase(phase: Phase) -> IntentPhase {
    match phase {
        Phase::Copying => IntentPhase::Copying,
        Phase::Undoing => IntentPhase::Undoing,
        Phase::Cleaning => IntentPhase::Cleaning,
    }
}
