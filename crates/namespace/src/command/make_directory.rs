//! Makes a directory.

use crate::keys;
use crate::machine::{Stop, Tx};
use crate::query::Step;
use crate::record::Inode;
use crate::reply::{InodeReply, Payload};
use crate::tree::{self, Attributes, Site};
use bytes::Bytes;
use forebay_base::InodeId;

/// Makes a directory. Reply: [`crate::reply::Payload::Inode`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MakeDirectory {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// As `mkdir -p`: makes missing parents too, and an existing directory is no error.
    #[prost(bool, tag = "2")]
    pub parents: bool,
    /// Who owns what is made.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// Its group.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Permission bits, `0o7777` at most.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// The under store is known to have nothing at the path itself, so that nothing is left to load there. Of parents that are made it says nothing.
    #[prost(bool, tag = "6")]
    pub loaded: bool,
    /// This request has begun to make it ([`super::BeginRequest`]) when nothing was at the path. What a comparison with the store has found there
    /// since is its own doing then.
    #[prost(bool, tag = "7")]
    pub begun: bool,
}

impl MakeDirectory {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_attributes(&self.owner, &self.group, self.mode)?;
        let site = Site::find(tx, &self.path)?;
        if let Some(step) = site.found() {
            if self.parents && step.inode.is_directory() {
                return Ok(reply(step.inode.clone(), &site));
            }
            if self.begun && was_found_in_store(&step.inode) {
                return Ok(reply(self.adopt(tx, step), &site));
            }
            return Err(site.already_exists().into());
        }
        site.check_leads_through_directories()?;
        if !self.parents {
            site.existing_parent()?;
        }
        tree::check_writable(&site)?;
        tree::check_no_blocker(tx, &site)?;
        let attributes = Attributes { owner: &self.owner, group: &self.group, mode: Some(self.mode) };
        let made = tree::make_directories(tx, &site, 0, attributes, self.loaded);
        Ok(reply(made.inode, &site))
    }

    /// Gives what was found in the store the attributes of what this makes.
    fn adopt(&self, tx: &mut Tx, step: &Step) -> Inode {
        let mut inode = step.inode.clone();
        inode.owner = self.owner.clone();
        inode.group = self.group.clone();
        inode.set_mode(self.mode);
        inode.set_made();
        keys::inode::put(&mut tx.pending, step.parent.0, &step.name, &inode);
        inode
    }
}

fn was_found_in_store(inode: &Inode) -> bool {
    inode.is_directory() && !inode.is_made() && !inode.is_mount_point() && inode.inode_id() != InodeId::ROOT
}

fn reply(inode: Inode, site: &Site) -> Payload {
    Payload::Inode(InodeReply { inode, mount: site.mount_number(), replaced_version: 0 })
}
