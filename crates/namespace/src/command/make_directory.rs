//! Makes a directory.

use crate::machine::{Stop, Tx};
use crate::reply::{InodeReply, Payload};
use crate::tree::{self, Attributes, Site};
use bytes::Bytes;

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
    /// The under store is known to have nothing there, so that nothing is left to load.
    #[prost(bool, tag = "6")]
    pub loaded: bool,
}

impl MakeDirectory {
    pub(super) fn apply(&self, tx: &mut Tx) -> Result<Payload, Stop> {
        tree::check_attributes(&self.owner, &self.group, self.mode)?;
        let site = Site::find(tx, &self.path)?;
        if let Some(step) = site.found() {
            return match self.parents && step.inode.is_directory() {
                true => Ok(reply(step.inode.clone(), &site)),
                false => Err(site.already_exists().into()),
            };
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
}

fn reply(inode: crate::Inode, site: &Site) -> Payload {
    Payload::Inode(InodeReply { inode, mount: site.mount_number(), replaced_version: 0 })
}
