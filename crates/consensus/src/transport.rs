//! The way from member to member, as a boundary: whoever runs the members brings one; tests bring one that loses and delays.
//!
//! What goes over it are opaque bytes (docs/formats/raft-messages.md). The receiving side hands them to
//! [`Consensus::handle`](crate::Consensus::handle) and [`Consensus::handle_stream`](crate::Consensus::handle_stream), which check
//! that they are whole, and meant for this member of this group.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::settings::Member;

/// Reaches other members.
///
/// Nothing is expected of the network but that whole messages arrive or none: they may be lost, late, doubled, and overtake each
/// other. In one stream they arrive in order, or the stream ends with an error.
pub trait Transport: Send + Sync + 'static {
    /// Sends a request and waits for its reply, no longer than `deadline`; the caller drops the future then.
    fn call(
        &self,
        to: &Member,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// Sends requests as they come and returns their replies in the same order, one each. Takes the next request only when there is room to
    /// send it. Dropping the replies ends the stream on both sides.
    fn stream(
        &self,
        to: &Member,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, TransportError>>, TransportError>>;
}

/// Why a message did not get there or its reply not back.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens there; trying again at once is of no use.
    #[error("cannot reach it: {0}")]
    Unreachable(String),
    /// It broke on the way; whether the message has arrived is not known.
    #[error("lost on the way: {0}")]
    Broken(String),
}
