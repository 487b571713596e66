//! What the parts of one write share: its name at the masters, its ticket, its lease.

use crate::client::Inner;
use crate::error::{Error, Result};
use crate::types::bad_reply;
use bytes::Bytes;
use forebay_base::{BlockId, BlockIndex, ErrorKind, FileId, NsPath};
use forebay_proto::ticket::Ticket;
use forebay_proto::v1;
use parking_lot::{Mutex, RwLock};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;

/// How long the masters are told for that a write is abandoned; after that its lease must end by itself.
const ABANDON_DEADLINE: Duration = Duration::from_secs(10);

/// A `WHOLE` part makes the object at once. It is sent only when the masters said within this time that the write goes on: a small file that is
/// written in one go costs no call more, and one that was removed while its writer waited for bytes does not come back.
const CERTAIN: Duration = Duration::from_millis(500);

/// A write under way.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) client: Arc<Inner>,
    pub(super) path: NsPath,
    id: u64,
    /// The version that the write makes: its blocks decide which workers take the parts.
    file: FileId,
    block_size: u64,
    lease: Duration,
    ticket: RwLock<Bytes>,
    /// When the last call was begun to which the masters said that the write goes on.
    certain: Mutex<Instant>,
    /// Held while the write is renewed, so that an older ticket never takes the place of a newer one.
    renewing: tokio::sync::Mutex<()>,
    /// Why the write cannot be completed any more.
    lost: OnceLock<Error>,
}

impl Write {
    /// Takes over what the masters replied to what they were asked at `asked`.
    pub(super) fn new(client: Arc<Inner>, path: NsPath, reply: &v1::CreateReply, asked: Instant) -> Result<Write> {
        let ticket = Ticket::peek(&reply.ticket).map_err(|error| bad_reply(&error.to_string()))?;
        if ticket.block_size == 0 || reply.part_size == 0 || reply.lease_ms == 0 {
            return Err(bad_reply("a write without block size, part size or lease"));
        }
        Ok(Write {
            client,
            path,
            id: reply.write,
            file: ticket.file(),
            block_size: ticket.block_size,
            lease: Duration::from_millis(reply.lease_ms),
            ticket: RwLock::new(reply.ticket.clone()),
            certain: Mutex::new(asked),
            renewing: tokio::sync::Mutex::new(()),
            lost: OnceLock::new(),
        })
    }

    pub(super) fn ticket(&self) -> Bytes {
        self.ticket.read().clone()
    }

    pub(super) fn block_at(&self, offset: u64) -> BlockId {
        let index = u32::try_from(offset / self.block_size).unwrap_or(u32::MAX);
        BlockId { file: self.file, index: BlockIndex(index) }
    }

    /// Fails when the write was given up, by the masters or its writer.
    pub(super) fn check_lease(&self) -> Result<()> {
        self.lost.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Has the masters begin the upload that parts belong to.
    pub(super) async fn start_upload(&self) -> Result<()> {
        let _renewing = self.renewing.lock().await;
        self.renew(true, self.client.config.deadlines.write).await
    }

    /// Gets a new ticket in place of `refused`, unless there is one already.
    pub(super) async fn renew_ticket(&self, refused: &Bytes) -> Result<()> {
        let _renewing = self.renewing.lock().await;
        match self.ticket() == *refused {
            true => self.renew(false, self.client.config.deadlines.metadata).await,
            false => Ok(()),
        }
    }

    /// Asks the masters whether the write still goes on, unless they have just said so.
    pub(super) async fn make_certain(&self, deadline: Instant) -> Result<()> {
        let late =
            |_| Error::new(ErrorKind::DeadlineExceeded, "the masters have not said in time that the write goes on");
        let _renewing = tokio::time::timeout_at(deadline, self.renewing.lock()).await.map_err(late)?;
        self.check_lease()?;
        if self.certain.lock().elapsed() < CERTAIN {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let renewed = self.renew(false, left).await;
        renewed.map_err(|error| if is_lost(&error) { self.lose(error) } else { error })
    }

    /// Has parts that are not on their way yet, and those that go to another worker, fail.
    pub(super) fn give_up(&self) {
        let given_up = || Error::new(ErrorKind::Conflict, format!("the write of {} was given up", self.path));
        self.lost.get_or_init(given_up);
    }

    /// Notes that the masters have given the write up, and says so.
    fn lose(&self, error: Error) -> Error {
        let message = format!("the write of {} was given up", self.path);
        self.lost.get_or_init(|| error.context(message)).clone()
    }

    /// Keeps the lease until the write is lost. Three calls fit into a lease, so that one may fail.
    pub(super) async fn keep_lease(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.lease / 3).await;
            let renewing = self.renewing.lock().await;
            let result = self.renew(false, self.lease).await;
            drop(renewing);
            match result {
                Err(error) if is_lost(&error) => {
                    self.lose(error);
                    return;
                }
                Err(error) => tracing::debug!(%error, path = %self.path, "lease not renewed yet"),
                Ok(()) => {}
            }
        }
    }

    async fn renew(&self, start_upload: bool, deadline: Duration) -> Result<()> {
        let request = v1::RenewWriteRequest { write: self.id, start_upload };
        let asked = Instant::now();
        let reply = self.client.ask_within(deadline, request).await?;
        *self.ticket.write() = reply.ticket;
        *self.certain.lock() = asked;
        Ok(())
    }

    /// Makes the file visible.
    pub(super) async fn complete(
        &self,
        length: u64,
        parts: Vec<v1::Part>,
        whole_tag: String,
        modified_ms: u64,
    ) -> Result<v1::CompleteReply> {
        let id = self.client.request_ids.begin(self.client.config.deadlines.write).await?;
        let request = v1::CompleteRequest { meta: id.meta(), write: self.id, length, parts, whole_tag, modified_ms };
        self.client.ask_within(id.left(), request).await
    }

    /// Tells the masters that nothing more will come.
    pub(super) async fn abandon(&self) -> Result<()> {
        let id = self.client.request_ids.begin(ABANDON_DEADLINE).await?;
        let request = v1::AbandonWriteRequest { meta: id.meta(), write: self.id };
        self.client.ask_within(id.left(), request).await.map(|_| ())
    }
}

/// Whether repeating cannot help.
fn is_lost(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Internal)
}
