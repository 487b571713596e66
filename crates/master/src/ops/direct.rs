//! The right to read a file version from its store itself, for clients that no worker serves.
//!
//! Who may read through a worker may read so: the ticket says it, and is checked as a worker checks it. The credentials stay here.

use crate::core::Core;
use crate::error::{Result, store_error};
use crate::metrics::names;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use forebay_proto::ticket::{Ticket, TicketError};
use forebay_proto::v1;
use forebay_proto::v1::grant_direct_read_reply::Way;
use forebay_ufs::{Expected, GrantedWay, ReadGrant, UfsError};
use std::os::unix::ffi::OsStringExt;

pub(crate) async fn grant(core: &Core, request: v1::GrantDirectReadRequest) -> Result<v1::GrantDirectReadReply> {
    let ticket = check(core, &request.ticket)?;
    // A master that leads no more does not know what a mount forbids by now.
    core.read().await?;
    let mount = core.mounts.get(ticket.mount_id()).ok_or_else(|| {
        WireError::new(ErrorKind::NotFound, "the mount that had the file is gone").with_hint("open the file again")
    })?;
    mount.check_direct_reads()?;
    let expected = Expected { tag: ticket.tag(), length: ticket.length };
    let lifetime = core.settings.direct_grant_lifetime;
    let grant = mount.store()?.grant_read(&ticket.key, &expected, lifetime).await.map_err(refused)?;
    metrics::counter!(names::DIRECT_GRANTS).increment(1);
    Ok(to_wire(grant))
}

/// What the ticket is for, if it is good for reading now.
fn check(core: &Core, ticket: &[u8]) -> Result<Ticket> {
    let ticket = Ticket::verify(ticket, &[core.keys.ticket_key]).map_err(no_ticket)?;
    ticket.check_time(core.settings.clock.now()).map_err(no_ticket)?;
    if !ticket.read {
        return Err(WireError::new(ErrorKind::PermissionDenied, "the ticket is not for reading"));
    }
    Ok(ticket)
}

fn no_ticket(error: TicketError) -> WireError {
    WireError::new(ErrorKind::PermissionDenied, error.to_string()).with_hint("open the file again")
}

/// Credentials that the master does not have are no fault of the ticket, and may be back in a moment.
fn refused(error: UfsError) -> WireError {
    match error {
        UfsError::Denied(_) => {
            WireError::new(ErrorKind::Unavailable, error.to_string()).with_hint(error.hint()).as_last_word()
        }
        error => store_error(error),
    }
}

fn to_wire(grant: ReadGrant) -> v1::GrantDirectReadReply {
    let way = match grant.way {
        GrantedWay::Http(http) => {
            let headers = http.headers.into_iter().map(|(name, value)| v1::HttpHeader { name, value });
            Way::Http(v1::DirectHttp { url: http.url, headers: headers.collect(), authorities: http.authorities })
        }
        GrantedWay::Directory(root) => Way::Directory(root.into_os_string().into_vec().into()),
    };
    v1::GrantDirectReadReply {
        store: grant.store,
        key: grant.key,
        length: grant.expected.length,
        version_tag: grant.expected.tag.0,
        lifetime_ms: u64::try_from(grant.lifetime.as_millis()).unwrap_or(u64::MAX),
        way: Some(way),
    }
}
