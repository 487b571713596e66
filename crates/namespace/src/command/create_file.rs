//! Starts the writing of a file.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::Step;
use crate::record::{BLOCK_SIZE_DEFAULT, Inode, Kind, PAGE_SIZE_DEFAULT, Write};
use crate::reply::{Created, Payload};
use crate::tree::{self, Attributes, Entries, Site};
use bytes::Bytes;

/// Starts the writing of a file. A new file is visible with length 0 and not complete; an existing one keeps its content until the write is completed.
/// An earlier write of the same file that is still going on is abandoned when `overwrite` is set: the last creator wins.
/// Reply: [`crate::reply::Payload::Created`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateFile {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// Replace an existing file; otherwise it is an error.
    #[prost(bool, tag = "2")]
    pub overwrite: bool,
    /// Make missing parent directories, with the same owner and group and the usual mode.
    #[prost(bool, tag = "3")]
    pub parents: bool,
    /// Who owns what is made.
    #[prost(string, tag = "4")]
    pub owner: String,
    /// Its group.
    #[prost(string, tag = "5")]
    pub group: String,
    /// Permission bits, `0o7777` at most.
    #[prost(uint32, tag = "6")]
    pub mode: u32,
    /// Bytes of a block; 0: the mount's. A multiple of the page size.
    #[prost(uint64, tag = "7")]
    pub block_size: u64,
    /// Bytes of a page, a power of two; 0: the mount's.
    #[prost(uint32, tag = "8")]
    pub page_size: u32,
    /// When it is acknowledged, and where its bytes stay.
    #[prost(enumeration = "crate::record::WriteType", tag = "9")]
    pub write_type: i32,
    /// How long the write lives by log time unless renewed.
    #[prost(uint64, tag = "10")]
    pub lease_ms: u64,
}

impl CreateFile {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_attributes(&self.owner, &self.group, self.mode)?;
        let site = Site::find(tx, &self.path)?;
        let (block_size, page_size) = self.sizes(&site);
        tree::check_sizes(block_size, page_size)?;
        self.check(tx, &site)?;
        let (mut place, abandoned) = match site.found() {
            Some(step) => {
                let abandoned = match step.inode.write {
                    0 => None,
                    write => tree::release_write(tx, write)?,
                };
                (step.clone(), abandoned)
            }
            None => (self.make_inode(tx, &site), None),
        };
        let write = self.begin_write(tx, &site, &mut place, (block_size, page_size));
        keys::inode::put(&mut tx.pending, place.parent.0, &place.name, &place.inode);
        Ok(Payload::Created(Created { inode: place.inode, write, abandoned }))
    }

    /// Bytes of a block and of a page.
    fn sizes(&self, site: &Site) -> (u64, u32) {
        let (block_size, page_size) = match &site.mount {
            Some(mount) => tree::sizes(&mount.spec),
            None => (BLOCK_SIZE_DEFAULT, PAGE_SIZE_DEFAULT),
        };
        (
            if self.block_size == 0 { block_size } else { self.block_size },
            if self.page_size == 0 { page_size } else { self.page_size },
        )
    }

    fn check(&self, tx: &Tx, site: &Site) -> Result<(), Stop> {
        match site.found() {
            Some(step) if step.inode.is_directory() => return Err(site.is_a_directory().into()),
            Some(_) if !self.overwrite => return Err(site.already_exists().into()),
            Some(_) => {}
            None if self.parents => site.check_leads_through_directories()?,
            None => {
                site.existing_parent()?;
            }
        }
        tree::check_writable(site)?;
        tree::check_no_blocker(tx, site)
    }

    /// Makes missing directories, and a file that is not complete; it is not stored yet.
    fn make_inode(&self, tx: &mut Tx, site: &Site) -> Step {
        let mut attributes = Attributes { owner: &self.owner, group: &self.group, mode: None };
        let is_parent_new = site.resolved.missing > 1;
        let parent = tree::make_directories(tx, site, 1, attributes, false);
        if !is_parent_new {
            tree::touch(tx, &parent, Entries::Added);
        }
        attributes.mode = Some(self.mode);
        let mut inode: Inode = attributes.inode(tx, Kind::File);
        inode.set_complete(false);
        Step {
            parent: parent.inode.inode_id(),
            name: site.path.file_name().map(|name| name.to_bytes()).unwrap_or_default(),
            inode,
        }
    }

    /// Records the write, and its mark in the file.
    fn begin_write(&self, tx: &mut Tx, site: &Site, place: &mut Step, sizes: (u64, u32)) -> Write {
        tx.state.counters.write_last += 1;
        tx.state.counters.writes += 1;
        let inode = &mut place.inode;
        let write = Write {
            id: tx.state.counters.write_last,
            parent: place.parent.0,
            name: place.name.clone(),
            inode: inode.id,
            version: inode.next_version(tx.state.version_floor),
            mount: site.mount_number(),
            key: site.key.clone(),
            expires_ms: tx.now_ms().saturating_add(self.lease_ms),
            base_tag: inode.tag.clone(),
            replaces: inode.is_complete(),
            base_version: inode.version,
            upload: String::new(),
            block_size: sizes.0,
            page_size: sizes.1,
            write_type: self.write_type,
            abandoned: false,
            started_ms: tx.now_ms(),
        };
        inode.write = write.id;
        inode.reserved_version = write.version;
        keys::write::put(&mut tx.pending, &write);
        keys::write_path::put(&mut tx.pending, &write);
        write
    }
}
