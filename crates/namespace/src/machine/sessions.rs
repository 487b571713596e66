//! Each request takes effect once: the replies of a client's latest requests are kept, and a repeated one gets the first one's.
//!
//! A client says with each request below which sequence it has all replies; those are forgotten. Bounds: [`RequestId::SPAN_MAX`] replies a client
//! (the oldest go first, and a request as old as that is refused), and an hour of log time without a request, after which the session
//! goes whole. Expired sessions go a few with each command, so that no command pays for all.

use super::{ApplyError, Tx};
use crate::command::Request;
use crate::keys;
use crate::record::Session;
use crate::reply::{self, Outcome, Reason, Refusal};
use bytes::Bytes;
use forebay_base::{ErrorKind, RequestId};

/// Log time without a request after which a session is forgotten.
pub(crate) const IDLE_MIN_MAX: u64 = 60;
const MINUTE_MS: u64 = 60_000;
/// Expired sessions that one command takes away.
const SWEEP_MAX: usize = 2;
/// Up to so many replies are forgotten without looking which of them exist.
const BLIND_DELETES_MAX: u64 = 16;

/// Whether a request is to be carried out.
pub(super) enum Admission {
    /// Not seen before.
    New,
    /// Done before, with this reply.
    Answered(Bytes),
    /// Not to be done.
    Refused(Refusal),
}

/// Looks whether a request was answered before.
pub(super) fn admit(tx: &Tx, request: &Request) -> Result<Admission, ApplyError> {
    if request.sequence == 0 {
        let refusal = Refusal::new(ErrorKind::InvalidArgument, "request sequence 0: sequences start at 1");
        return Ok(Admission::Refused(refusal));
    }
    let Some(session) = keys::session::get(&tx.pending, request.client)? else {
        return Ok(Admission::New);
    };
    if request.sequence > session.sequence_max {
        return Ok(Admission::New);
    }
    if request.sequence < session.replies_from {
        return Ok(Admission::Refused(forgotten(request)));
    }
    Ok(match keys::reply::get(&tx.pending, request.client, request.sequence)? {
        Some(reply) if !reply::is_begun(&reply) => Admission::Answered(reply),
        _ => Admission::New,
    })
}

fn forgotten(request: &Request) -> Refusal {
    let message = format!(
        "request {} of client {:016x} was answered before and its reply is forgotten",
        request.sequence, request.client
    );
    Refusal::new(ErrorKind::Conflict, message)
        .because(Reason::Forgotten)
        .hint("look at what it was to change; a new attempt needs a new sequence")
}

/// Encodes the reply of a new request and keeps it. A refusal that asks for a later attempt is not kept: the attempt is to be carried out.
pub(super) fn answer(tx: &mut Tx, request: &Request, outcome: Outcome) -> Result<Bytes, ApplyError> {
    let is_kept = match &outcome {
        Ok(_) => true,
        Err(refusal) => refusal.error_kind() != ErrorKind::Unavailable,
    };
    let reply = reply::encode(outcome);
    if is_kept {
        keep(tx, request, reply.clone())?;
    }
    Ok(reply)
}

fn keep(tx: &mut Tx, request: &Request, reply: Bytes) -> Result<(), ApplyError> {
    let client = request.client;
    let minute = tx.now_ms() / MINUTE_MS;
    let before = keys::session::get(&tx.pending, client)?;
    if before.as_ref().map(|session| session.seen_min) != Some(minute) {
        if let Some(session) = &before {
            keys::session_age::delete(&mut tx.pending, session.seen_min, client);
        }
        keys::session_age::put(&mut tx.pending, minute, client);
    }
    let mut session = before
        .unwrap_or(Session { replies_from: request.sequence.min(request.acked_below.max(1)), ..Session::default() });
    session.seen_min = minute;
    session.sequence_max = session.sequence_max.max(request.sequence);
    keys::reply::put(&mut tx.pending, client, request.sequence, reply);
    // A client cannot have the reply of the request that it is sending.
    let acked = request.acked_below.min(request.sequence);
    let oldest_kept = session.sequence_max.saturating_sub(RequestId::SPAN_MAX - 1);
    let from = session.replies_from.max(acked).max(oldest_kept);
    forget(tx, client, session.replies_from, from)?;
    session.replies_from = from;
    keys::session::put(&mut tx.pending, client, &session);
    Ok(())
}

/// Forgets a client's replies from `from` to before `until`.
fn forget(tx: &mut Tx, client: u64, from: u64, until: u64) -> Result<(), ApplyError> {
    let sequences = match until.saturating_sub(from) {
        0 => return Ok(()),
        n if n <= BLIND_DELETES_MAX => (from..until).collect(),
        _ => keys::reply::sequences(&tx.pending, client, from, until)?,
    };
    for sequence in sequences {
        keys::reply::delete(&mut tx.pending, client, sequence);
    }
    Ok(())
}

/// Takes away a few expired sessions. Whether there may be any is looked up once a minute of log time, then until none is left.
pub(super) fn sweep(tx: &mut Tx, time_before_ms: u64) -> Result<(), ApplyError> {
    let minute = tx.now_ms() / MINUTE_MS;
    if minute > time_before_ms / MINUTE_MS {
        tx.state.sweeping = true;
    }
    if !tx.state.sweeping {
        return Ok(());
    }
    let oldest_kept = minute.saturating_sub(IDLE_MIN_MAX);
    let expired = keys::session_age::before(&tx.pending, oldest_kept).take(SWEEP_MAX).collect::<Result<Vec<_>, _>>()?;
    tx.state.sweeping = expired.len() == SWEEP_MAX;
    for (seen_min, client) in expired {
        keys::session_age::delete(&mut tx.pending, seen_min, client);
        if let Some(session) = keys::session::get(&tx.pending, client)? {
            let until = session.sequence_max.saturating_add(1);
            forget(tx, client, session.replies_from, until)?;
            keys::session::delete(&mut tx.pending, client);
        }
    }
    Ok(())
}
