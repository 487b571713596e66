//! Files and directories: what processes see, and what the disk has.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::SystemTime;

use super::file::{Change, FileData};
use super::loss::Loss;
use super::names::{Journal, NameChange, NodeId, Place};

/// The directory at the top.
pub(super) const ROOT: NodeId = 1;
/// Names may be so long.
const NAME_BYTES_MAX: usize = 255;
/// What nothing leads to is looked for after so many changes of names.
const SWEEP_AFTER: usize = 512;

/// An errno: `libc::ENOENT`, ….
pub(super) type Errno = i32;
pub(super) type Result<T> = std::result::Result<T, Errno>;

/// What stat(2) tells besides length and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) modified: SystemTime,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) attributes: Attributes,
    durable_attributes: Attributes,
    /// Names that it has, durable or not.
    pub(super) links: u32,
    /// Open descriptors.
    handles: u32,
}

#[derive(Debug)]
pub(super) enum Kind {
    File(FileData),
    Directory(Directory),
    Link(PathBuf),
    /// The kernel knows what to do with it.
    Socket,
}

/// A directory's entries.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<OsString, NodeId>,
    durable: BTreeMap<OsString, NodeId>,
    pub(super) parent: NodeId,
    /// Where the disk has it: a directory has one name.
    durable_place: Option<Place>,
}

/// What a power cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lost {
    /// Changes of names.
    pub(super) names: usize,
    /// Files whose bytes are not what they were.
    pub(super) files: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: HashMap<NodeId, Node>,
    journal: Journal,
    next_id: NodeId,
    /// Pages in memory for what processes see; the disk's own copy has as many at most.
    pages: u64,
    pages_max: u64,
    unswept: usize,
}

impl Tree {
    pub(super) fn new(root: Attributes, pages_max: u64) -> Tree {
        let kind = Kind::Directory(Directory { parent: ROOT, ..Directory::default() });
        let root = Node { kind, attributes: root, durable_attributes: root, links: 1, handles: 0 };
        let nodes = HashMap::from([(ROOT, root)]);
        Tree { nodes, journal: Journal::default(), next_id: ROOT + 1, pages: 0, pages_max, unswept: 0 }
    }

    pub(super) fn node(&self, id: NodeId) -> Result<&Node> {
        self.nodes.get(&id).ok_or(libc::ESTALE)
    }

    fn node_mut(&mut self, id: NodeId) -> Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or(libc::ESTALE)
    }

    pub(super) fn directory(&self, id: NodeId) -> Result<&Directory> {
        match &self.node(id)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory> {
        match &mut self.node_mut(id)?.kind {
            Kind::Directory(directory) => Ok(directory),
            _ => Err(libc::ENOTDIR),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> Result<&FileData> {
        match &self.node(id)?.kind {
            Kind::File(file) => Ok(file),
            Kind::Directory(_) => Err(libc::EISDIR),
            Kind::Link(_) | Kind::Socket => Err(libc::EINVAL),
        }
    }

    pub(super) fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<NodeId> {
        self.directory(parent)?.names.get(name).copied().ok_or(libc::ENOENT)
    }

    /// Pages there may be, and pages there are.
    pub(super) fn space(&self) -> (u64, u64) {
        (self.pages_max, self.pages)
    }

    /// Makes a file, directory or symbolic link.
    pub(super) fn make(&mut self, parent: NodeId, name: &OsStr, kind: Kind, attributes: Attributes) -> Result<NodeId> {
        self.check_free(parent, name)?;
        let id = self.next_id;
        self.next_id += 1;
        self.nodes.insert(id, Node { kind, attributes, durable_attributes: attributes, links: 0, handles: 0 });
        self.change_names(NameChange::Add { at: place(parent, name), node: id })?;
        Ok(id)
    }

    /// Gives a file one more name.
    pub(super) fn link(&mut self, id: NodeId, parent: NodeId, name: &OsStr) -> Result<()> {
        self.check_free(parent, name)?;
        match self.node(id)?.kind {
            Kind::Directory(_) => Err(libc::EPERM),
            _ => self.change_names(NameChange::Add { at: place(parent, name), node: id }),
        }
    }

    pub(super) fn unlink(&mut self, parent: NodeId, name: &OsStr) -> Result<()> {
        let node = self.lookup(parent, name)?;
        match self.node(node)?.kind {
            Kind::Directory(_) => Err(libc::EISDIR),
            _ => self.change_names(NameChange::Remove { at: place(parent, name), node }),
        }
    }

    pub(super) fn remove_directory(&mut self, parent: NodeId, name: &OsStr) -> Result<()> {
        let node = self.lookup(parent, name)?;
        match self.directory(node)?.names.is_empty() {
            false => Err(libc::ENOTEMPTY),
            true => self.change_names(NameChange::Remove { at: place(parent, name), node }),
        }
    }

    pub(super) fn rename(&mut self, from: (NodeId, &OsStr), to: (NodeId, &OsStr), replace: bool) -> Result<()> {
        let node = self.lookup(from.0, from.1)?;
        if let Ok(other) = self.lookup(to.0, to.1) {
            if other == node {
                return Ok(());
            }
            let is_directory = matches!(self.node(node)?.kind, Kind::Directory(_));
            match (&self.node(other)?.kind, is_directory) {
                _ if !replace => return Err(libc::EEXIST),
                (Kind::Directory(_), false) => return Err(libc::EISDIR),
                (Kind::Directory(directory), true) if !directory.names.is_empty() => return Err(libc::ENOTEMPTY),
                (Kind::Directory(_), true) => {}
                (_, true) => return Err(libc::ENOTDIR),
                (_, false) => {}
            }
        }
        check_name(to.1)?;
        self.change_names(NameChange::Move { from: place(from.0, from.1), to: place(to.0, to.1), node })
    }

    pub(super) fn change(&mut self, id: NodeId, change: Change) -> Result<()> {
        let (pages, pages_max) = (self.pages, self.pages_max);
        let node = self.node_mut(id)?;
        let Kind::File(file) = &mut node.kind else { return Err(libc::EISDIR) };
        let before = file.current().stored_pages();
        if let Change::Write { bytes, .. } = &change
            && pages + bytes.len() as u64 / super::content::PAGE >= pages_max
        {
            return Err(libc::ENOSPC);
        }
        file.change(change);
        let after = file.current().stored_pages();
        node.attributes.modified = SystemTime::now();
        self.pages = pages + after - before;
        Ok(())
    }

    pub(super) fn set_attributes(&mut self, id: NodeId, change: impl FnOnce(&mut Attributes)) -> Result<()> {
        change(&mut self.node_mut(id)?.attributes);
        Ok(())
    }

    /// fsync(2) of a file, or fdatasync(2): its bytes and length are durable, its names are not.
    pub(super) fn sync_file(&mut self, id: NodeId, data_only: bool) -> Result<()> {
        let node = self.node_mut(id)?;
        if let Kind::File(file) = &mut node.kind {
            file.sync();
        }
        if !data_only {
            node.durable_attributes = node.attributes;
        }
        Ok(())
    }

    /// fsync(2) of a directory: its entries are durable, what they lead to is not.
    pub(super) fn sync_directory(&mut self, id: NodeId) -> Result<()> {
        self.directory(id)?;
        for change in self.journal.take_synced(id) {
            self.make_durable(&change);
        }
        let node = self.node_mut(id)?;
        node.durable_attributes = node.attributes;
        self.sweep_now_and_then();
        Ok(())
    }

    pub(super) fn opened(&mut self, id: NodeId) -> Result<()> {
        self.node_mut(id)?.handles += 1;
        Ok(())
    }

    pub(super) fn closed(&mut self, id: NodeId) {
        if let Ok(node) = self.node_mut(id) {
            node.handles = node.handles.saturating_sub(1);
        }
    }

    /// The power is cut. What is seen from now on is what the disk has.
    pub(super) fn lose(&mut self, loss: &mut Loss) -> Lost {
        let (survivors, names) = self.journal.take_survivors(loss);
        survivors.iter().for_each(|change| self.make_durable(change));
        let mut lost = Lost { names, files: 0 };
        // In the order of their numbers, for the same chance each time.
        let ids: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            (node.handles, node.links) = (0, 0);
            if node.attributes != node.durable_attributes && loss.takes_attributes() {
                node.attributes = node.durable_attributes;
            }
            node.durable_attributes = node.attributes;
            match &mut node.kind {
                Kind::File(file) => lost.files += usize::from(file.lose(loss)),
                Kind::Directory(directory) => directory.names = directory.durable.clone(),
                Kind::Link(_) | Kind::Socket => {}
            }
        }
        self.sweep();
        self.join_again();
        lost
    }

    /// Counts the names anew.
    fn join_again(&mut self) {
        let directories = self.nodes.iter().filter_map(|(id, node)| match &node.kind {
            Kind::Directory(directory) => Some((*id, directory.names.values().copied().collect::<Vec<_>>())),
            _ => None,
        });
        for (parent, children) in directories.collect::<Vec<_>>() {
            for child in children {
                let Some(node) = self.nodes.get_mut(&child) else { continue };
                node.links += 1;
                if let Kind::Directory(directory) = &mut node.kind {
                    directory.parent = parent;
                }
            }
        }
        self.nodes.get_mut(&ROOT).expect("the root is always found").links = 1;
        self.pages = self.nodes.values().map(Node::stored_pages).sum();
    }

    fn check_free(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        check_name(name)?;
        let directory = self.directory(parent)?;
        // A directory that was removed while somebody held it open takes nothing more.
        match (directory.names.contains_key(name), self.node(parent)?.links) {
            (true, _) => Err(libc::EEXIST),
            (false, 0) => Err(libc::ENOENT),
            (false, _) => Ok(()),
        }
    }

    /// Changes what processes see, and remembers that the disk has not got it.
    fn change_names(&mut self, change: NameChange) -> Result<()> {
        match &change {
            NameChange::Add { at, node } => self.add_name(at, *node)?,
            NameChange::Remove { at, .. } => self.remove_name(at)?,
            NameChange::Move { from, to, node } => {
                self.remove_name(from)?;
                if self.directory(to.directory)?.names.contains_key(&to.name) {
                    self.remove_name(to)?;
                }
                self.add_name(to, *node)?;
            }
        }
        self.journal.push(change);
        for change in self.journal.take_written_back() {
            self.make_durable(&change);
        }
        self.sweep_now_and_then();
        Ok(())
    }

    fn add_name(&mut self, at: &Place, id: NodeId) -> Result<()> {
        self.directory_mut(at.directory)?.names.insert(at.name.clone(), id);
        let node = self.node_mut(id)?;
        node.links += 1;
        if let Kind::Directory(directory) = &mut node.kind {
            directory.parent = at.directory;
        }
        self.set_attributes(at.directory, |attributes| attributes.modified = SystemTime::now())
    }

    fn remove_name(&mut self, at: &Place) -> Result<()> {
        let id = self.directory_mut(at.directory)?.names.remove(&at.name).ok_or(libc::ENOENT)?;
        let node = self.node_mut(id)?;
        node.links = node.links.saturating_sub(1);
        self.set_attributes(at.directory, |attributes| attributes.modified = SystemTime::now())
    }

    /// Does to the disk's names what was done to those that processes see. Earlier changes may be missing, so nothing is taken for granted.
    fn make_durable(&mut self, change: &NameChange) {
        match change {
            NameChange::Add { at, node } => self.add_durable(at, *node),
            NameChange::Remove { at, node } => self.remove_durable(at, *node),
            NameChange::Move { from, to, node } => {
                self.remove_durable(from, *node);
                self.add_durable(to, *node);
            }
        }
    }

    fn add_durable(&mut self, at: &Place, id: NodeId) {
        if let Ok(directory) = self.directory_mut(id)
            && let Some(old) = directory.durable_place.replace(at.clone())
            && old != *at
        {
            self.remove_durable_name(&old, id);
        }
        if let Ok(directory) = self.directory_mut(at.directory) {
            directory.durable.insert(at.name.clone(), id);
        }
    }

    fn remove_durable(&mut self, at: &Place, id: NodeId) {
        self.remove_durable_name(at, id);
        if let Ok(directory) = self.directory_mut(id)
            && directory.durable_place.as_ref() == Some(at)
        {
            directory.durable_place = None;
        }
    }

    fn remove_durable_name(&mut self, at: &Place, id: NodeId) {
        if let Ok(directory) = self.directory_mut(at.directory)
            && directory.durable.get(&at.name) == Some(&id)
        {
            directory.durable.remove(&at.name);
        }
    }

    fn sweep_now_and_then(&mut self) {
        self.unswept += 1;
        if self.unswept >= SWEEP_AFTER {
            self.sweep();
        }
    }

    /// Forgets what neither a name, nor a change under way, nor an open descriptor leads to.
    fn sweep(&mut self) {
        self.unswept = 0;
        let held = self.nodes.iter().filter(|(_, node)| node.handles > 0).map(|(id, _)| *id);
        let mut found: BTreeSet<NodeId> = held.chain([ROOT]).collect();
        let mut left: Vec<NodeId> = found.iter().copied().collect();
        while let Some(id) = left.pop() {
            let Ok(directory) = self.directory(id) else { continue };
            let changes = self.journal.iter().filter(|change| change.places().any(|place| place.directory == id));
            let changed =
                changes.flat_map(|change| change.places().map(|place| place.directory).chain([change.node()]));
            let named = directory.names.values().chain(directory.durable.values()).copied();
            left.extend(named.chain(changed).filter(|id| found.insert(*id)));
        }
        self.nodes.retain(|id, _| found.contains(id));
        self.journal.retain(|change| change.places().any(|place| found.contains(&place.directory)));
        self.pages = self.nodes.values().map(Node::stored_pages).sum();
    }
}

impl Node {
    fn stored_pages(&self) -> u64 {
        match &self.kind {
            Kind::File(file) => file.current().stored_pages(),
            _ => 0,
        }
    }
}

fn place(directory: NodeId, name: &OsStr) -> Place {
    Place { directory, name: name.to_owned() }
}

fn check_name(name: &OsStr) -> Result<()> {
    if name.len() > NAME_BYTES_MAX { Err(libc::ENAMETOOLONG) } else { Ok(()) }
}
