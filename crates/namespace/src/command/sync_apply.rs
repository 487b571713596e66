//! Takes over what an under store says of one directory.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::{self, Step};
use crate::record::{Inode, Kind};
use crate::reply::{Payload, Reason, Refusal, Synced};
use crate::tree::{self, Attributes, Site};
use bytes::Bytes;
use forebay_base::{ErrorKind, InodeId, Name};

/// One difference between the store and the directory.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SyncEntry {
    /// The entry's name.
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    /// The store has it no more; what follows but the expectations is ignored.
    #[prost(bool, tag = "2")]
    pub removed: bool,
    /// It is a directory.
    #[prost(bool, tag = "3")]
    pub directory: bool,
    /// Bytes of the file.
    #[prost(uint64, tag = "4")]
    pub length: u64,
    /// When the store says that it changed.
    #[prost(uint64, tag = "5")]
    pub modified_ms: u64,
    /// The store's mark of the content; empty when it gives none.
    #[prost(string, tag = "6")]
    pub tag: String,
    /// The inode that had this name when the difference was found; 0: none had. If it is another now, nothing is done.
    #[prost(uint64, tag = "7")]
    pub expected_inode: u64,
    /// The version of that inode.
    #[prost(uint64, tag = "8")]
    pub expected_version: u64,
}

/// Takes over what an under store says of one directory, at most [`crate::BATCH_MAX`] entries, each guarded by what was there when it was compared: a
/// local change in the meantime wins. Files that are being written are left alone, as are paths whose objects are being deleted or renamed.
///
/// The proposer takes ONE snapshot before it asks the store, and gets from it both the base ([`crate::query::sync_base`]) and what it compares with. When
/// something was removed from the base since, the listing may be stale: the command fails with [`crate::reply::Reason::Stale`] and changes nothing; compare again.
/// Reply: [`crate::reply::Payload::Synced`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SyncApply {
    /// The directory, in normal form. It and missing parents are made, inside the mount.
    #[prost(bytes = "bytes", tag = "1")]
    pub directory: Bytes,
    /// The deepest directory that existed on that path in the snapshot.
    #[prost(uint64, tag = "2")]
    pub base_inode: u64,
    /// Its generation in the snapshot.
    #[prost(uint64, tag = "3")]
    pub base_generation: u64,
    /// The differences.
    #[prost(message, repeated, tag = "4")]
    pub entries: Vec<SyncEntry>,
    /// With this command all entries of the directory have been compared once.
    #[prost(bool, tag = "5")]
    pub mark_loaded: bool,
    /// Owner of what is made.
    #[prost(string, tag = "6")]
    pub owner: String,
    /// Group of what is made.
    #[prost(string, tag = "7")]
    pub group: String,
    /// Mode of files that are made; 0: 0o644.
    #[prost(uint32, tag = "8")]
    pub file_mode: u32,
    /// Mode of directories that are made; 0: 0o755.
    #[prost(uint32, tag = "9")]
    pub directory_mode: u32,
}

impl SyncApply {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_batch(self.entries.len())?;
        tree::check_attributes(&self.owner, &self.group, self.file_mode | self.directory_mode)?;
        let site = Site::find(tx, &self.directory)?;
        self.check(tx, &site)?;
        let mut synced = Synced { added: site.resolved.missing as u64, ..Synced::default() };
        let attributes = self.attributes(Kind::Directory);
        let mut directory = tree::make_directories(tx, &site, 0, attributes, false);
        if self.mark_loaded && !directory.inode.is_loaded() {
            directory.inode.set_loaded(true);
            keys::inode::put(&mut tx.pending, directory.parent.0, &directory.name, &directory.inode);
        }
        for entry in &self.entries {
            let merge = Merge { sync: self, site: &site, directory: &directory, entry };
            *merge.apply(tx)?.counter(&mut synced) += 1;
        }
        Ok(Payload::Synced(synced))
    }

    fn check(&self, tx: &Tx, site: &Site) -> Result<(), Stop> {
        if site.mount.is_none() {
            let message = format!("{} lies in no mount", site.path);
            return Err(Refusal::new(ErrorKind::InvalidArgument, message).into());
        }
        for entry in &self.entries {
            Name::new(entry.name.clone())
                .map_err(|error| Refusal::new(ErrorKind::InvalidArgument, error.to_string()))?;
        }
        let base = site.resolved.deepest();
        if !base.inode.is_directory() {
            let message = format!("{}: a name on the way is a file", site.path);
            return Err(Refusal::new(ErrorKind::NotADirectory, message).into());
        }
        if base.inode.id != self.base_inode || base.inode.generation != self.base_generation {
            let message = format!("the listing of {} may be older than a removal", site.path);
            return Err(Refusal::new(ErrorKind::Conflict, message).because(Reason::Stale).hint("compare again").into());
        }
        tree::check_no_blocker(tx, site)
    }

    fn attributes(&self, kind: Kind) -> Attributes<'_> {
        let mode = match kind {
            Kind::File => self.file_mode,
            Kind::Directory => self.directory_mode,
        };
        Attributes { owner: &self.owner, group: &self.group, mode: (mode != 0).then_some(mode) }
    }
}

/// What became of an entry.
enum Merged {
    Added,
    Changed,
    Removed,
    Skipped,
    Unchanged,
}

impl Merged {
    fn counter(self, synced: &mut Synced) -> &mut u64 {
        match self {
            Merged::Added => &mut synced.added,
            Merged::Changed => &mut synced.changed,
            Merged::Removed => &mut synced.removed,
            Merged::Skipped => &mut synced.skipped,
            Merged::Unchanged => &mut synced.unchanged,
        }
    }
}

/// One entry of the store against the one of the same name here.
struct Merge<'a> {
    sync: &'a SyncApply,
    site: &'a Site,
    directory: &'a Step,
    entry: &'a SyncEntry,
}

impl Merge<'_> {
    fn apply(&self, tx: &mut Tx) -> Result<Merged, Stop> {
        let current = query::lookup(&tx.pending, self.parent(), &self.entry.name)?;
        if !self.is_expected(current.as_ref()) || self.is_blocked(tx)? {
            return Ok(Merged::Skipped);
        }
        match current {
            None if self.entry.removed => Ok(Merged::Unchanged),
            None => {
                self.add(tx);
                Ok(Merged::Added)
            }
            Some(inode) if inode.write != 0 || inode.is_mount_point() => Ok(Merged::Skipped),
            Some(inode) if self.entry.removed => self.remove(tx, inode),
            Some(inode) if inode.is_directory() == self.entry.directory => Ok(self.update(tx, inode)),
            Some(inode) => match self.remove(tx, inode)? {
                Merged::Removed => {
                    self.add(tx);
                    Ok(Merged::Changed)
                }
                other => Ok(other),
            },
        }
    }

    fn parent(&self) -> InodeId {
        self.directory.inode.inode_id()
    }

    fn is_expected(&self, current: Option<&Inode>) -> bool {
        let (inode, version) = current.map_or((0, 0), |inode| (inode.id, inode.version));
        inode == self.entry.expected_inode && version == self.entry.expected_version
    }

    /// The entry's key in the store.
    fn key(&self) -> Bytes {
        query::join_key(&self.site.key, &self.entry.name)
    }

    fn is_blocked(&self, tx: &Tx) -> Result<bool, Stop> {
        if tx.state.counters.blocked_keys == 0 {
            return Ok(false);
        }
        Ok(keys::blocker::get(&tx.pending, self.site.mount_number(), &self.key())?.is_some())
    }

    fn put(&self, tx: &mut Tx, inode: &Inode) {
        keys::inode::put(&mut tx.pending, self.parent().0, &self.entry.name, inode);
    }

    fn add(&self, tx: &mut Tx) {
        let kind = match self.entry.directory {
            true => Kind::Directory,
            false => Kind::File,
        };
        let mut inode = self.sync.attributes(kind).inode(tx, kind);
        if kind == Kind::Directory {
            keys::directory::put(&mut tx.pending, inode.id, self.parent().0, &self.entry.name);
        } else {
            self.fill(tx, &mut inode);
        }
        self.put(tx, &inode);
    }

    /// Gives a file the store's content, as a new version.
    fn fill(&self, tx: &Tx, inode: &mut Inode) {
        let (entry, now_ms) = (self.entry, tx.now_ms());
        inode.version = inode.next_version(tx.state.version_floor);
        inode.reserved_version = 0;
        inode.length = entry.length;
        inode.tag.clone_from(&entry.tag);
        inode.set_times(entry.modified_ms, entry.modified_ms, now_ms);
        if let Some(mount) = &self.site.mount {
            let (block_size, page_size) = tree::sizes(&mount.spec);
            inode.set_block_size(block_size);
            inode.set_page_size(page_size);
        }
    }

    fn update(&self, tx: &mut Tx, mut inode: Inode) -> Merged {
        if inode.is_directory() || !self.is_changed(&inode) {
            return Merged::Unchanged;
        }
        self.fill(tx, &mut inode);
        self.put(tx, &inode);
        Merged::Changed
    }

    /// Whether the store has other content than this. Marks decide where both have one: a time may differ for equal content, since
    /// stores keep it more or less exactly.
    fn is_changed(&self, inode: &Inode) -> bool {
        let entry = self.entry;
        if inode.length != entry.length {
            return true;
        }
        match inode.tag.is_empty() || entry.tag.is_empty() {
            true => inode.modified_ms != entry.modified_ms,
            false => inode.tag != entry.tag,
        }
    }

    /// Takes an entry out without touching the store; not when a mount or a write below would go with it.
    fn remove(&self, tx: &mut Tx, inode: Inode) -> Result<Merged, Stop> {
        let key = self.key();
        let mount = self.site.mount_number();
        if inode.is_directory() {
            let name = Name::new(self.entry.name.clone());
            let path = name.and_then(|name| self.site.path.join(&name));
            let holds_mount = path.is_ok_and(|path| tree::has_mount_below(tx, &path));
            if holds_mount || tree::has_write_at_or_below(tx, mount, &key)? {
                return Ok(Merged::Skipped);
            }
        }
        let step = Step { parent: self.parent(), name: self.entry.name.clone(), inode };
        tree::discard(tx, &step, mount, &key, tree::Purge::Nothing)?;
        Ok(Merged::Removed)
    }
}
