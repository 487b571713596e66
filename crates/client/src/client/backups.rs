//! Backups of the masters.

use super::Client;
use crate::error::{Error, Result};
use crate::types::{BackupMade, BackupProgress, BackupTarget};
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::backups_client::BackupsClient;
use std::time::Duration;
use tonic::Request;
use tonic::transport::Channel;

/// A master that makes a backup says something each half second.
const SILENCE_MAX: Duration = Duration::from_secs(30);

impl Client {
    /// Has the masters make a backup, and returns when it is there. With `full` what the target has already is sent again; with `keep` only the newest so
    /// many stay there.
    ///
    /// # Errors
    /// `conflict` while another one is made; `unavailable` when the master that made it does not lead any more: nothing was made then.
    pub async fn create_backup(
        &self,
        target: BackupTarget,
        full: bool,
        keep: u32,
        progress: impl Fn(BackupProgress),
    ) -> Result<BackupMade> {
        let BackupTarget { uri, options, secrets } = target;
        let target =
            v1::BackupTarget { uri, options: options.into_iter().collect(), secrets: secrets.into_iter().collect() };
        let request = v1::CreateBackupRequest { target: Some(target), full, keep };
        let send = |channel: Channel, request: Request<v1::CreateBackupRequest>| async move {
            // The deadline is that of the first answer, not of the whole.
            BackupsClient::new(channel).create_backup(Request::new(request.into_inner())).await
        };
        let mut replies = self.inner.call(request, send).await?;
        loop {
            let reply = match tokio::time::timeout(SILENCE_MAX, replies.message()).await {
                Ok(Ok(Some(reply))) => reply,
                Ok(Ok(None)) => return Err(given_up("the master ended")),
                Ok(Err(status)) if status.details().is_empty() => return Err(given_up(&crate::rpc::cause_of(&status))),
                Ok(Err(status)) => return Err(WireError::from(&status).into()),
                Err(_) => return Err(given_up("the master says nothing")),
            };
            progress(BackupProgress { done: reply.done, total: reply.total, sent: reply.sent });
            if let Some(made) = reply.made {
                return Ok(made.into());
            }
        }
    }
}

fn given_up(why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("the backup was not made: {why}")).with_hint("ask for it again")
}
