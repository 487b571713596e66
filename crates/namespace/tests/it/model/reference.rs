//! The namespace once more, in plain maps of whole paths: slow, simple, and written apart from the real one.
#![allow(unreachable_pub, reason = "a part of a test")]

use forebay_base::ErrorKind;
use std::collections::{BTreeMap, BTreeSet};

pub type Refusable<T> = Result<T, ErrorKind>;

/// Mount points, which are always there: number by path.
pub const MOUNTS: [(&str, u32); 2] = [("/lake", 1), ("/lake/c", 2)];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub id: u64,
    pub directory: bool,
    pub length: u64,
    pub version: u64,
    pub complete: bool,
    pub loaded: bool,
    pub made: bool,
    pub tag: String,
    pub modified_ms: u64,
    pub owner: String,
    pub group: String,
    pub mode: u32,
    pub xattrs: BTreeMap<String, String>,
    pub write: u64,
    pub generation: u64,
    pub reserved: u64,
}

impl Node {
    fn next_version(&self) -> u64 {
        self.version.max(self.reserved) + 1
    }
}

#[derive(Clone, Debug)]
pub struct Write {
    pub path: String,
    pub node: u64,
    pub version: u64,
    pub upload: bool,
    pub abandoned: bool,
    pub expires_ms: u64,
    pub replaces: bool,
    /// The trash entry that its file lies in, below a directory.
    pub in_trash: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct Trash {
    pub path: String,
    pub purge_store: bool,
    pub inodes_left: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    pub removed: bool,
    pub directory: bool,
    pub length: u64,
    pub tag: String,
    pub modified_ms: u64,
    pub expected: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Copying,
    Undoing,
    Cleaning,
}

/// A rename that takes several steps in a store.
#[derive(Clone, Debug)]
pub struct Intent {
    pub from: String,
    pub to: String,
    pub no_replace: bool,
    pub node: u64,
    pub phase: Phase,
}

impl Intent {
    /// Where nothing may be made or loaded.
    fn blocked(&self) -> impl Iterator<Item = &String> {
        [Some(&self.from), (self.phase != Phase::Cleaning).then_some(&self.to)].into_iter().flatten()
    }
}

/// New values; what is not given stays.
#[derive(Clone, Default)]
pub struct Changes {
    pub owner: Option<String>,
    pub group: Option<String>,
    pub mode: Option<u32>,
    pub modified_ms: Option<u64>,
    pub set: Vec<(String, String)>,
    pub remove: Vec<String>,
}

#[derive(Default)]
pub struct Model {
    pub nodes: BTreeMap<String, Node>,
    pub writes: BTreeMap<u64, Write>,
    pub trash: BTreeMap<u64, Trash>,
    pub intents: BTreeMap<u64, Intent>,
    /// What renames have recorded of keys, under their numbers.
    pub copies: BTreeMap<(u64, String), String>,
    pub intent_last: u64,
    pub now_ms: u64,
    pub inode_last: u64,
    pub write_last: u64,
}

pub fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

pub fn join(directory: &str, name: &str) -> String {
    format!("{}/{name}", directory.trim_end_matches('/'))
}

fn is_at_or_below(path: &str, top: &str) -> bool {
    path == top || top == "/" || path.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'))
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

/// The mount of a path; 0: none.
fn mount_of(path: &str) -> u32 {
    let mounts = MOUNTS.iter().filter(|(at, _)| is_at_or_below(path, at));
    mounts.max_by_key(|(at, _)| at.len()).map_or(0, |(_, mount)| *mount)
}

fn has_mount_at_or_below(path: &str) -> bool {
    MOUNTS.iter().any(|(at, _)| is_at_or_below(at, path))
}

impl Model {
    fn new_node(&mut self, directory: bool) -> Node {
        self.inode_last += 1;
        let now_ms = self.now_ms;
        let mode = if directory { 0o755 } else { 0o644 };
        Node { id: self.inode_last, directory, complete: true, modified_ms: now_ms, mode, ..Node::default() }
    }

    pub fn root() -> Model {
        let mut model = Model { inode_last: 15, ..Model::default() };
        let root = Node { id: 1, directory: true, complete: true, loaded: true, mode: 0o755, ..Node::default() };
        model.nodes.insert("/".to_owned(), root);
        model
    }

    pub fn deepest<'a>(&self, path: &'a str) -> &'a str {
        let mut at = path;
        while !self.nodes.contains_key(at) {
            at = parent(at);
        }
        at
    }

    fn missing(&self, path: &str) -> usize {
        depth(path) - depth(self.deepest(path))
    }

    fn leads_through_file(&self, path: &str) -> bool {
        self.missing(path) > 0 && !self.nodes[self.deepest(path)].directory
    }

    fn missing_kind(&self, path: &str) -> ErrorKind {
        if self.leads_through_file(path) { ErrorKind::NotADirectory } else { ErrorKind::NotFound }
    }

    fn check_parent(&self, path: &str) -> Refusable<()> {
        match self.missing(path) {
            0 => Ok(()),
            1 if self.nodes[self.deepest(path)].directory => Ok(()),
            _ => Err(self.missing_kind(path)),
        }
    }

    /// What is being deleted or renamed in the store of a path.
    fn blocked_paths<'a>(&'a self, path: &str) -> impl Iterator<Item = &'a String> {
        let mount = mount_of(path);
        let trash = self.trash.values().filter(|it| it.purge_store).map(|it| &it.path);
        trash.chain(self.intents.values().flat_map(Intent::blocked)).filter(move |it| mount_of(it) == mount)
    }

    fn is_blocked(&self, path: &str) -> bool {
        self.blocked_paths(path).any(|it| is_at_or_below(path, it))
    }

    fn is_blocked_below(&self, path: &str) -> bool {
        self.blocked_paths(path).any(|it| it != path && is_at_or_below(it, path))
    }

    fn check_free(&self, path: &str) -> Refusable<()> {
        if self.is_blocked(path) { Err(ErrorKind::Unavailable) } else { Ok(()) }
    }

    fn has_write(&self, path: &str) -> bool {
        let mut writes = self.writes.values().filter(|write| !write.abandoned && write.in_trash.is_none());
        writes.any(|write| mount_of(&write.path) == mount_of(path) && is_at_or_below(&write.path, path))
    }

    fn below(&self, path: &str) -> Vec<String> {
        let below = |at: &&String| at.as_str() != path && is_at_or_below(at, path);
        self.nodes.keys().filter(below).cloned().collect()
    }

    fn touch(&mut self, path: &str, removed: bool) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(path).unwrap();
        node.modified_ms = now_ms;
        node.generation += u64::from(removed);
    }

    fn make_directories(&mut self, path: &str, loaded: bool, owner: &str) {
        let at = self.deepest(path).to_owned();
        if at == path {
            return;
        }
        self.touch(&at, false);
        let mut at = at;
        for name in path.split('/').filter(|name| !name.is_empty()).skip(depth(&at)) {
            at = join(&at, name);
            let mut node = self.new_node(true);
            node.loaded = loaded && at == path || mount_of(&at) == 0;
            node.made = true;
            node.owner = owner.to_owned();
            self.nodes.insert(at.clone(), node);
        }
    }

    pub fn mkdir(&mut self, path: &str, parents: bool, loaded: bool, begun: bool) -> Refusable<u64> {
        let is_special = path == "/" || MOUNTS.iter().any(|(at, _)| *at == path);
        if let Some(node) = self.nodes.get_mut(path) {
            if begun && !parents && node.directory && !node.made && !is_special {
                node.made = true;
                node.owner = "maker".to_owned();
                node.group = String::new();
                node.mode = 0o755;
                return Ok(node.id);
            }
            return if parents && node.directory { Ok(node.id) } else { Err(ErrorKind::AlreadyExists) };
        }
        if self.leads_through_file(path) {
            return Err(ErrorKind::NotADirectory);
        }
        if !parents {
            self.check_parent(path)?;
        }
        self.check_free(path)?;
        self.make_directories(path, loaded, "maker");
        Ok(self.inode_last)
    }

    fn release(&mut self, write: u64) {
        match self.writes.get_mut(&write) {
            Some(write) if write.abandoned => {}
            Some(write) if write.upload => write.abandoned = true,
            _ => {
                self.writes.remove(&write);
            }
        }
    }

    /// Gives the write's number and version.
    pub fn create(&mut self, path: &str, overwrite: bool, parents: bool, lease_ms: u64) -> Refusable<(u64, u64)> {
        match self.nodes.get(path) {
            Some(node) if node.directory => return Err(ErrorKind::IsADirectory),
            Some(_) if !overwrite => return Err(ErrorKind::AlreadyExists),
            Some(_) => {}
            None if self.leads_through_file(path) => return Err(ErrorKind::NotADirectory),
            None if parents => {}
            None => self.check_parent(path)?,
        }
        self.check_free(path)?;
        match self.nodes.get(path).map(|node| node.write) {
            Some(0) => {}
            Some(write) => self.release(write),
            None => {
                self.make_directories(parent(path), false, "writer");
                self.touch(parent(path), false);
                let mut node = self.new_node(false);
                node.complete = false;
                node.owner = "writer".to_owned();
                node.mode = 0o640;
                self.nodes.insert(path.to_owned(), node);
            }
        }
        self.write_last += 1;
        let node = self.nodes.get_mut(path).unwrap();
        node.reserved = node.next_version();
        node.write = self.write_last;
        let write = Write {
            path: path.to_owned(),
            node: node.id,
            version: node.reserved,
            upload: false,
            abandoned: false,
            expires_ms: self.now_ms + lease_ms,
            replaces: node.complete,
            in_trash: None,
        };
        let version = write.version;
        self.writes.insert(self.write_last, write);
        Ok((self.write_last, version))
    }

    pub fn set_upload(&mut self, write: u64) -> Refusable<()> {
        let write = self.writes.get_mut(&write).filter(|write| !write.abandoned).ok_or(ErrorKind::NotFound)?;
        write.upload = true;
        Ok(())
    }

    pub fn complete(&mut self, number: u64, length: u64, tag: &str, modified_ms: u64) -> Refusable<u64> {
        let write = self.writes.get(&number).filter(|write| !write.abandoned && write.in_trash.is_none());
        let write = write.ok_or(ErrorKind::NotFound)?.clone();
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&write.path).unwrap();
        assert_eq!((node.id, node.write), (write.node, number));
        node.length = length;
        node.tag = tag.to_owned();
        node.modified_ms = if modified_ms == 0 { now_ms } else { modified_ms };
        node.version = write.version;
        node.reserved = 0;
        node.write = 0;
        node.complete = true;
        self.writes.remove(&number);
        Ok(write.version)
    }

    pub fn abandon(&mut self, number: u64) {
        let Some(write) = self.writes.get(&number).filter(|write| !write.abandoned).cloned() else { return };
        self.release(number);
        if let Some(trash) = write.in_trash {
            // An unfinished file vanishes from the trash too.
            self.trash.get_mut(&trash).unwrap().inodes_left -= u64::from(!write.replaces);
            return;
        }
        let node = self.nodes.get_mut(&write.path).unwrap();
        node.write = 0;
        if !node.complete {
            self.nodes.remove(&write.path);
        }
    }

    pub fn expire(&mut self, number: u64) {
        if self.writes.get(&number).is_some_and(|write| write.expires_ms <= self.now_ms) {
            self.abandon(number);
        }
    }

    pub fn renew(&mut self, number: u64, lease_ms: u64) {
        let expires_ms = self.now_ms + lease_ms;
        if let Some(write) = self.writes.get_mut(&number).filter(|write| !write.abandoned) {
            write.expires_ms = write.expires_ms.max(expires_ms);
        }
    }

    pub fn forget(&mut self, number: u64) {
        if self.writes.get(&number).is_some_and(|write| write.abandoned) {
            self.writes.remove(&number);
        }
    }

    fn check_empty(&self, path: &str) -> Refusable<()> {
        if !self.below(path).is_empty() {
            return Err(ErrorKind::NotEmpty);
        }
        if self.nodes[path].loaded { Ok(()) } else { Err(ErrorKind::Conflict) }
    }

    pub fn rename(&mut self, from: &str, to: &str, no_replace: bool) -> Refusable<()> {
        self.check_rename(from, to, no_replace)?;
        if from != to {
            self.move_node(from, to);
        }
        Ok(())
    }

    fn move_node(&mut self, from: &str, to: &str) {
        if let Some(node) = self.nodes.remove(to)
            && node.write != 0
        {
            self.release(node.write);
        }
        let mut moved = self.below(from);
        moved.push(from.to_owned());
        for at in moved {
            let node = self.nodes.remove(&at).unwrap();
            self.nodes.insert(format!("{to}{}", &at[from.len()..]), node);
        }
        self.touch(parent(from), true);
        if parent(from) != parent(to) {
            self.touch(parent(to), false);
        }
    }

    pub fn begin_rename(&mut self, from: &str, to: &str, no_replace: bool) -> Refusable<()> {
        self.check_rename(from, to, no_replace)?;
        if from == to || mount_of(from) == 0 {
            return Err(ErrorKind::InvalidArgument);
        }
        self.intent_last += 1;
        let node = self.nodes[from].id;
        let intent = Intent { from: from.to_owned(), to: to.to_owned(), no_replace, node, phase: Phase::Copying };
        self.intents.insert(self.intent_last, intent);
        Ok(())
    }

    pub fn commit_rename(&mut self, number: u64, tag: &str, modified_ms: u64) -> Refusable<()> {
        let copying = self.intents.get(&number).filter(|intent| intent.phase == Phase::Copying);
        let intent = copying.ok_or(ErrorKind::Conflict)?.clone();
        // It does not stand in its own way.
        self.intents.remove(&number);
        let checked = self.check_rename(&intent.from, &intent.to, intent.no_replace);
        let checked = checked.and_then(|()| match self.nodes[&intent.from].id == intent.node {
            true => Ok(()),
            false => Err(ErrorKind::Conflict),
        });
        if checked.is_ok() {
            self.move_node(&intent.from, &intent.to);
            let node = self.nodes.get_mut(&intent.to).unwrap();
            if !tag.is_empty() {
                node.tag = tag.to_owned();
            }
            if modified_ms != 0 {
                node.modified_ms = modified_ms;
            }
        }
        let phase = if checked.is_ok() { Phase::Cleaning } else { Phase::Copying };
        self.intents.insert(number, Intent { phase, ..intent });
        checked
    }

    pub fn undo_rename(&mut self, number: u64) -> Refusable<()> {
        let intent = self.intents.get_mut(&number).filter(|intent| intent.phase != Phase::Cleaning);
        intent.ok_or(ErrorKind::Conflict)?.phase = Phase::Undoing;
        Ok(())
    }

    pub fn end_rename(&mut self, number: u64) {
        if let Some(intent) = self.intents.remove(&number) {
            self.age_listings(&intent.from);
            self.age_listings(&intent.to);
        }
    }

    /// Listings from before may show what is gone.
    fn age_listings(&mut self, path: &str) {
        let mut at = parent(path);
        while !self.nodes.get(at).is_some_and(|node| node.directory) {
            at = parent(at);
        }
        self.nodes.get_mut(at).unwrap().generation += 1;
    }

    pub fn record_copy(&mut self, intent: u64, key: &str, tag: &str) -> Refusable<()> {
        match self.intents.get(&intent) {
            Some(Intent { phase: Phase::Copying, .. }) => {
                self.copies.insert((intent, key.to_owned()), tag.to_owned());
                Ok(())
            }
            _ => Err(ErrorKind::Conflict),
        }
    }

    pub fn retag(&mut self, path: &str, before: &str, tag: &str) {
        if let Some(node) = self.nodes.get_mut(path).filter(|node| !node.directory && node.tag == before) {
            node.tag = tag.to_owned();
        }
    }

    fn check_rename(&self, from: &str, to: &str, no_replace: bool) -> Refusable<()> {
        let source = self.nodes.get(from).ok_or_else(|| self.missing_kind(from))?;
        self.check_parent(to)?;
        if from == "/" || to == "/" || (from != to && is_at_or_below(to, from)) {
            return Err(ErrorKind::InvalidArgument);
        }
        let target = self.nodes.get(to);
        if no_replace && target.is_some() {
            return Err(ErrorKind::AlreadyExists);
        }
        if from != to {
            if has_mount_at_or_below(from) || (target.is_some() && has_mount_at_or_below(to)) {
                return Err(ErrorKind::InvalidArgument);
            }
            if mount_of(from) != mount_of(to) {
                return Err(ErrorKind::InvalidArgument);
            }
            match target.map(|target| (source.directory, target.directory)) {
                None | Some((false, false)) => {}
                Some((false, true)) => return Err(ErrorKind::IsADirectory),
                Some((true, false)) => return Err(ErrorKind::NotADirectory),
                Some((true, true)) => self.check_empty(to)?,
            }
            if self.is_blocked_below(from) || self.is_blocked_below(to) {
                return Err(ErrorKind::Unavailable);
            }
            if self.has_write(from) {
                return Err(ErrorKind::Conflict);
            }
        }
        self.check_free(from)?;
        self.check_free(to)
    }

    pub fn delete(&mut self, path: &str, recursive: bool, namespace_only: bool) -> Refusable<()> {
        let node = self.nodes.get(path).ok_or_else(|| self.missing_kind(path))?;
        if path == "/" || has_mount_at_or_below(path) {
            return Err(ErrorKind::InvalidArgument);
        }
        self.check_free(path)?;
        if self.intents.values().any(|it| is_at_or_below(&it.from, path) || is_at_or_below(&it.to, path)) {
            return Err(ErrorKind::Unavailable);
        }
        if node.directory && !recursive {
            self.check_empty(path)?;
        }
        self.discard(path, !namespace_only && mount_of(path) != 0);
        if namespace_only && mount_of(path) != 0 {
            self.nodes.get_mut(parent(path)).unwrap().loaded = false;
        }
        self.touch(parent(path), true);
        Ok(())
    }

    fn discard(&mut self, path: &str, purge_store: bool) {
        let below = self.below(path);
        let node = self.nodes.remove(path).unwrap();
        self.release(node.write);
        for at in &below {
            self.nodes.remove(at);
        }
        let alive = self.writes.values_mut().filter(|write| !write.abandoned && write.in_trash.is_none());
        for write in alive.filter(|write| is_at_or_below(&write.path, path)) {
            write.in_trash = Some(node.id);
        }
        if purge_store || node.directory {
            let inodes_left = 1 + below.len() as u64;
            self.trash.insert(node.id, Trash { path: path.to_owned(), purge_store, inodes_left });
        }
    }

    /// `writes`: those of the inodes that are purged. Gives whether the entry is through.
    pub fn purge(&mut self, trash: u64, inodes: u64, writes: &BTreeSet<u64>) -> bool {
        for write in writes {
            self.release(*write);
        }
        let entry = self.trash.get_mut(&trash).unwrap();
        entry.inodes_left -= inodes;
        if entry.inodes_left > 0 {
            return false;
        }
        let entry = self.trash.remove(&trash).unwrap();
        if entry.purge_store {
            self.age_listings(&entry.path);
        }
        true
    }

    pub fn set_attributes(&mut self, path: &str, changes: Changes) -> Refusable<()> {
        let missing = self.missing_kind(path);
        let node = self.nodes.get_mut(path).ok_or(missing)?;
        node.owner = changes.owner.unwrap_or(std::mem::take(&mut node.owner));
        node.group = changes.group.unwrap_or(std::mem::take(&mut node.group));
        node.mode = changes.mode.unwrap_or(node.mode);
        node.modified_ms = changes.modified_ms.unwrap_or(node.modified_ms);
        node.xattrs.retain(|name, _| !changes.remove.contains(name));
        node.xattrs.extend(changes.set);
        Ok(())
    }

    /// Gives (added, changed, removed, skipped, unchanged).
    pub fn sync(&mut self, directory: &str, base: (u64, u64), seen: &[Seen], mark: bool) -> Refusable<[u64; 5]> {
        if mount_of(directory) == 0 {
            return Err(ErrorKind::InvalidArgument);
        }
        let deepest = &self.nodes[self.deepest(directory)];
        if !deepest.directory {
            return Err(ErrorKind::NotADirectory);
        }
        if (deepest.id, deepest.generation) != base {
            return Err(ErrorKind::Conflict);
        }
        self.check_free(directory)?;
        let mut counts = [self.missing(directory) as u64, 0, 0, 0, 0];
        self.make_directories(directory, false, "");
        self.nodes.get_mut(directory).unwrap().loaded |= mark;
        for entry in seen {
            counts[self.merge(&join(directory, &entry.name), entry)] += 1;
        }
        Ok(counts)
    }

    fn merge(&mut self, path: &str, seen: &Seen) -> usize {
        const ADDED: usize = 0;
        const CHANGED: usize = 1;
        const REMOVED: usize = 2;
        const SKIPPED: usize = 3;
        const UNCHANGED: usize = 4;
        let current = self.nodes.get(path).cloned();
        let found = current.as_ref().map_or((0, 0), |node| (node.id, node.version));
        let key_blocked = self.blocked_paths(path).any(|it| it == path);
        if found != seen.expected || key_blocked {
            return SKIPPED;
        }
        let Some(node) = current else {
            if seen.removed {
                return UNCHANGED;
            }
            self.add(path, seen);
            return ADDED;
        };
        let is_mount = MOUNTS.iter().any(|(at, _)| *at == path);
        if node.write != 0 || is_mount {
            return SKIPPED;
        }
        if !seen.removed && node.directory == seen.directory {
            let same_tag = match node.tag.is_empty() || seen.tag.is_empty() {
                true => node.modified_ms == seen.modified_ms,
                false => node.tag == seen.tag,
            };
            if node.directory || (node.length == seen.length && same_tag) {
                return UNCHANGED;
            }
            self.fill(path, seen);
            return CHANGED;
        }
        if node.directory && (has_mount_at_or_below(path) || self.has_write(path)) {
            return SKIPPED;
        }
        self.discard(path, false);
        if seen.removed {
            return REMOVED;
        }
        self.add(path, seen);
        CHANGED
    }

    fn add(&mut self, path: &str, seen: &Seen) {
        let node = self.new_node(seen.directory);
        self.nodes.insert(path.to_owned(), node);
        if !seen.directory {
            self.fill(path, seen);
        }
    }

    fn fill(&mut self, path: &str, seen: &Seen) {
        let node = self.nodes.get_mut(path).unwrap();
        node.version = node.next_version();
        node.reserved = 0;
        node.length = seen.length;
        node.tag = seen.tag.clone();
        node.modified_ms = seen.modified_ms;
    }
}
