//! What the random runs do next, and what the model says that its reply must be.

use super::reference::{Changes, Refusable, Seen, join};
use super::{Expected, LEASE_MS, Run};
use bytes::Bytes;
use forebay_namespace::Action;
use forebay_namespace::command::*;
use forebay_namespace::record::{Copied, Xattr};

impl Run {
    fn name(&mut self) -> String {
        ["a", "b", "c", "a b", "ü"][self.pick(5) as usize].to_owned()
    }

    /// Mostly what exists, or would be new in an existing directory; sometimes anything.
    pub(super) fn path(&mut self) -> String {
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

    pub(super) fn write_number(&mut self) -> u64 {
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
    pub(super) fn draw(&mut self) -> (Action, Expected) {
        self.model.now_ms += self.pick(4);
        match self.pick(100) {
            0..11 => self.draw_mkdir(),
            11..28 => self.draw_create(),
            28..43 => self.draw_complete(),
            43..53 => self.draw_rename(),
            53..60 => self.draw_intent(),
            60..67 => self.draw_delete(),
            67..82 => self.draw_sync(),
            82..87 => self.draw_set_attributes(),
            87 => (AdvanceTime {}.into(), Expected::Fine),
            _ => self.draw_write_care(),
        }
    }

    fn draw_mkdir(&mut self) -> (Action, Expected) {
        let (path, parents, loaded, begun) = (self.path(), self.chance(2), !self.chance(4), self.chance(2));
        let expected = self.model.mkdir(&path, parents, loaded, begun);
        let command = MakeDirectory {
            path: path.into(),
            parents,
            loaded,
            begun,
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
        (
            Delete { path: path.into(), recursive, namespace_only, ..Delete::default() }.into(),
            expect(expected, |()| Expected::Fine),
        )
    }

    /// A rename in steps: begun, or one that goes on; its steps come in any order.
    fn draw_intent(&mut self) -> (Action, Expected) {
        if self.model.intents.len() < 3 && self.chance(3) {
            let (from, to, no_replace) = (self.path(), self.path(), self.chance(5));
            let expected = self.model.begin_rename(&from, &to, no_replace);
            let command = BeginRename { from: from.into(), to: to.into(), no_replace, client: 9, sequence: 9 };
            return (command.into(), expect(expected, |()| Expected::Fine));
        }
        let intent = match self.model.intents.len() as u64 {
            0 => self.pick(3),
            _ if self.chance(10) => self.pick(self.model.intent_last + 2),
            count => {
                let at = self.pick(count) as usize;
                *self.model.intents.keys().nth(at).unwrap()
            }
        };
        let tag = ["", "t1", "t3"][self.pick(3) as usize].to_owned();
        let key = self.name();
        match self.pick(7) {
            0 | 1 => {
                let modified_ms = self.pick(3) * 1000;
                let expected = self.model.commit_rename(intent, &tag, modified_ms);
                (CommitRename { intent, tag, modified_ms }.into(), expect(expected, |()| Expected::Fine))
            }
            2 => {
                let expected = self.model.undo_rename(intent);
                (UndoRename { intent }.into(), expect(expected, |()| Expected::Fine))
            }
            3 | 4 => {
                self.model.end_rename(intent);
                (EndRename { intent }.into(), Expected::Fine)
            }
            5 => {
                let expected = self.model.record_copy(intent, &key, &tag);
                let copies = vec![Copied { key: key.into(), source_tag: tag, ..Copied::default() }];
                (RecordCopies { intent, copies }.into(), expect(expected, |()| Expected::Fine))
            }
            _ => {
                self.model.copies.remove(&(intent, key.clone()));
                (ForgetCopies { intent, keys: vec![key.into()] }.into(), Expected::Fine)
            }
        }
    }

    fn draw_set_attributes(&mut self) -> (Action, Expected) {
        let path = self.path();
        if self.chance(4) {
            return self.draw_retag(&path);
        }
        let name = self.name();
        let changes = Changes {
            owner: self.chance(2).then(|| "eve".to_owned()),
            group: self.chance(2).then(|| "staff".to_owned()),
            mode: self.chance(2).then(|| self.pick(0o10000) as u32),
            modified_ms: self.chance(2).then(|| self.pick(3000)),
            set: if self.chance(2) { vec![(name.clone(), self.pick(9).to_string())] } else { vec![] },
            remove: if self.chance(3) { vec![self.name()] } else { vec![] },
        };
        let expected = self.model.set_attributes(&path, changes.clone());
        let set = |(name, value): (String, String)| Xattr { name: name.into(), value: value.into() };
        let changes = AttributeChanges {
            owner: changes.owner,
            group: changes.group,
            mode: changes.mode,
            modified_ms: changes.modified_ms,
            accessed_ms: None,
            set_xattrs: changes.set.into_iter().map(set).collect(),
            remove_xattrs: changes.remove.into_iter().map(Bytes::from).collect(),
        };
        let command = SetAttributes { path: path.into(), targets: vec![], changes };
        (command.into(), expect(expected, |()| Expected::Fine))
    }

    fn draw_retag(&mut self, path: &str) -> (Action, Expected) {
        let other = self.chance(4);
        let before = match self.model.nodes.get(path) {
            Some(node) if !other => node.tag.clone(),
            _ => "t2".to_owned(),
        };
        let tag = ["t1", "t4"][self.pick(2) as usize].to_owned();
        let (above, name) = path.rsplit_once('/').unwrap();
        let directory = self.model.nodes.get(if above.is_empty() { "/" } else { above });
        let parent = directory.filter(|node| node.directory).map_or(u64::MAX, |node| node.id);
        let files = vec![Retagged { parent, name: name.to_owned().into(), before: before.clone(), tag: tag.clone() }];
        self.model.retag(path, &before, &tag);
        (RetagFiles { files }.into(), Expected::Fine)
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
}

fn expect<T>(outcome: Refusable<T>, fine: impl FnOnce(T) -> Expected) -> Expected {
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
