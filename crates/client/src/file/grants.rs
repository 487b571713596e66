//! The right to read one version of a file from its store, asked of the masters when it is needed.

use super::opened::{Opened, RenewError};
use crate::client::{Inner, namespace};
use crate::error::{Error, Result};
use forebay_base::{ErrorKind, VersionTag};
use forebay_proto::error::WireError;
use forebay_proto::v1::grant_direct_read_reply::Way;
use forebay_proto::v1::{DirectHttp, GrantDirectReadReply, GrantDirectReadRequest};
use forebay_ufs::{Expected, GrantedWay, HttpGrant, ReadGrant};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Status};

/// The right at hand, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Grants {
    current: Mutex<Option<Arc<Grant>>>,
    /// Held while one is asked for.
    asking: tokio::sync::Mutex<()>,
}

/// A right and its end.
#[derive(Debug)]
pub(crate) struct Grant {
    pub(crate) right: ReadGrant,
    /// A tenth before it ends: a request that begins now must reach the store in time.
    good_until: Instant,
}

impl Grants {
    /// One that is good, and another than the one `refused`.
    fn good(&self, refused: Option<&Arc<Grant>>) -> Option<Arc<Grant>> {
        let current = self.current.lock();
        let usable = |grant: &&Arc<Grant>| {
            Instant::now() < grant.good_until && refused.is_none_or(|refused| !Arc::ptr_eq(refused, grant))
        };
        current.as_ref().filter(usable).cloned()
    }
}

impl Opened {
    /// Whether there is a right to read this version from its store.
    pub(super) fn has_right(&self) -> bool {
        self.grants.good(None).is_some()
    }

    /// The right to read this version from its store, which the masters are asked for with so much patience unless there is one. `refused`
    /// is one that the store has refused.
    pub(super) async fn grant(
        &self,
        client: &Inner,
        refused: Option<&Arc<Grant>>,
        patience: Duration,
    ) -> Result<Arc<Grant>, RenewError> {
        let _asking = self.grants.asking.lock().await;
        if let Some(good) = self.grants.good(refused) {
            return Ok(good);
        }
        let asked = Instant::now();
        let right = self.ask_for_right(client, patience).await?;
        let good_until = asked + right.lifetime.mul_f64(0.9);
        let grant = Arc::new(Grant { right, good_until });
        *self.grants.current.lock() = Some(grant.clone());
        Ok(grant)
    }

    /// Asks with the ticket at hand, and once more with a new one when that is refused: most have expired.
    async fn ask_for_right(&self, client: &Inner, patience: Duration) -> Result<ReadGrant, RenewError> {
        let ticket = self.ticket();
        let ask = |ticket| {
            let request = GrantDirectReadRequest { ticket };
            client.call_within(patience, request, |channel, request| async move {
                namespace(channel).grant_direct_read(request).await.map_err(name_unknown)
            })
        };
        let reply = match ask(ticket.clone()).await {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.renew(client, &ticket).await?;
                ask(self.ticket()).await
            }
            reply => reply,
        };
        match reply {
            Ok(reply) => self.right(reply).map_err(RenewError::Failed),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(RenewError::Changed),
            Err(error) => Err(RenewError::Failed(error)),
        }
    }

    /// The right that the masters gave, which must be for this version.
    fn right(&self, reply: GrantDirectReadReply) -> Result<ReadGrant> {
        let way = match reply.way {
            Some(Way::Http(http)) => GrantedWay::Http(http_grant(http)),
            Some(Way::Directory(root)) => GrantedWay::Directory(PathBuf::from(OsString::from_vec(root.into()))),
            None => {
                let message = "the masters know a way to its store that this version does not";
                return Err(Error::new(ErrorKind::InvalidArgument, message));
            }
        };
        let expected = Expected { tag: VersionTag(reply.version_tag), length: reply.length };
        if expected.length != self.entry.length || expected.tag != self.entry.version_tag {
            let message = format!(
                "the masters gave the right to another version than {} of {} bytes",
                self.entry.version_tag, self.entry.length
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let lifetime = Duration::from_millis(reply.lifetime_ms);
        Ok(ReadGrant { store: reply.store, key: reply.key, expected, lifetime, way })
    }
}

/// A master of before there was such a call refuses it without a word.
fn name_unknown(status: Status) -> Status {
    match status.code() {
        Code::Unimplemented => {
            let message = "the masters are of a version that does not know this";
            WireError::new(ErrorKind::InvalidArgument, message).into()
        }
        _ => status,
    }
}

fn http_grant(http: DirectHttp) -> HttpGrant {
    let headers = http.headers.into_iter().map(|header| (header.name, header.value));
    HttpGrant { url: http.url, headers: headers.collect(), authorities: http.authorities }
}
