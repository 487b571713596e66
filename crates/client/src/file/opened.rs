//! One version of a file with the right to read it.

use super::grants::Grants;
use crate::client::Inner;
use crate::error::{Error, Result};
use crate::types::{Entry, SyncMode};
use bytes::Bytes;
use forebay_base::{BlockId, BlockIndex, ErrorKind, FileId, NsPath};
use forebay_proto::v1::{OpenReply, OpenRequest};
use parking_lot::RwLock;
use std::sync::Arc;

/// The smallest block that a server may speak of; a smaller one would cut requests to nothing.
const BLOCK_SIZE_MIN: u64 = forebay_base::checksum::CHECKSUM_CHUNK as u64;

/// One version of a file. Its ticket can be renewed; all else never changes.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) entry: Arc<Entry>,
    ticket: RwLock<Bytes>,
    /// Held while the ticket is renewed.
    renewing: tokio::sync::Mutex<()>,
    pub(super) grants: Grants,
}

/// The file has another version by now.
#[derive(Debug)]
pub(crate) enum RenewError {
    Changed,
    Failed(Error),
}

impl Opened {
    /// Asks the masters, any of them where the settings allow old answers.
    pub(crate) async fn open(client: &Inner, path: &NsPath, sync: SyncMode) -> Result<Opened> {
        let request = OpenRequest { path: path.to_bytes(), sync: sync.to_wire(), bound: None };
        let reply = client.read(sync, request).await?;
        Opened::from_reply(client, path, reply).await
    }

    /// Asks the master that leads: what another one knows has turned out to be old, or something is to be done to what is true now.
    pub(crate) async fn open_at_leader(client: &Inner, path: &NsPath) -> Result<Opened> {
        let request = OpenRequest { path: path.to_bytes(), sync: SyncMode::ByInterval.to_wire(), bound: None };
        let reply = client.ask(request).await?;
        client.masters.saw(reply.index);
        Opened::from_reply(client, path, reply).await
    }

    async fn from_reply(client: &Inner, path: &NsPath, reply: OpenReply) -> Result<Opened> {
        let entry = Entry::at(path.clone(), reply.entry)?;
        let chunk = forebay_base::checksum::CHECKSUM_CHUNK as u64;
        if entry.block_size < BLOCK_SIZE_MIN || !entry.block_size.is_multiple_of(chunk) {
            let message = format!("{path} has blocks of {} bytes", entry.block_size);
            return Err(Error::new(ErrorKind::Internal, message).with_hint("block sizes are multiples of 16KiB"));
        }
        client.workers.at_least(reply.workers_epoch).await;
        Ok(Opened {
            entry: Arc::new(entry),
            ticket: RwLock::new(reply.ticket),
            renewing: tokio::sync::Mutex::new(()),
            grants: Grants::default(),
        })
    }

    /// Which version this is.
    pub(crate) fn file_id(&self) -> FileId {
        self.entry.file_id()
    }

    /// The ticket for the workers.
    pub(crate) fn ticket(&self) -> Bytes {
        self.ticket.read().clone()
    }

    /// Gets a new ticket in place of `refused`, unless somebody has done so.
    pub(crate) async fn renew(&self, client: &Inner, refused: &Bytes) -> Result<(), RenewError> {
        let _renewing = self.renewing.lock().await;
        if self.ticket() != *refused {
            return Ok(());
        }
        let fresh = Opened::open_at_leader(client, &self.entry.path).await.map_err(RenewError::Failed)?;
        if fresh.file_id() != self.file_id() {
            return Err(RenewError::Changed);
        }
        *self.ticket.write() = fresh.ticket();
        Ok(())
    }

    /// The block that holds a byte, and where it ends in the file.
    pub(crate) fn block_at(&self, offset: u64) -> (BlockId, u64) {
        let size = self.entry.block_size;
        let index = offset / size;
        let block = BlockId {
            file: self.file_id(),
            // The masters allow no file of more blocks; were there one, its far blocks would share owners.
            index: BlockIndex(u32::try_from(index).unwrap_or(u32::MAX)),
        };
        (block, ((index + 1) * size).min(self.entry.length))
    }
}
