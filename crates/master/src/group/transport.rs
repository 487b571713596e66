//! Messages of the log over gRPC, on connections of their own: clients' traffic to the same port cannot hold them up, and entries and
//! snapshots, which are large, cannot hold up votes and heartbeats, which have deadlines.

use super::MESSAGE_BYTES_MAX;
use bytes::Bytes;
use forebay_consensus::{Member, Transport, TransportError};
use forebay_proto::v1::MemberMessage;
use forebay_proto::v1::members_client::MembersClient;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Calls of more bytes go with the entries.
const SMALL: usize = 64 << 10;

/// A peer that answers no ping for this long is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Most addresses whose connections are kept; a group is far smaller, also with those that it had.
const ADDRESSES_MAX: usize = 64;

/// The way to the other masters.
#[derive(Default)]
pub(crate) struct GrpcTransport {
    channels: Mutex<HashMap<String, Channels>>,
}

#[derive(Clone)]
struct Channels {
    urgent: MembersClient<Channel>,
    bulk: MembersClient<Channel>,
}

impl GrpcTransport {
    fn to(&self, member: &Member) -> Result<Channels, TransportError> {
        let mut channels = self.channels.lock();
        if let Some(known) = channels.get(&member.address) {
            return Ok(known.clone());
        }
        let client = || {
            let channel = channel(&member.address).map_err(|e| TransportError::Unreachable(e.to_string()))?;
            let client = MembersClient::new(channel);
            Ok(client.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX))
        };
        let made = Channels { urgent: client()?, bulk: client()? };
        if channels.len() >= ADDRESSES_MAX {
            channels.clear();
        }
        channels.insert(member.address.clone(), made.clone());
        Ok(made)
    }
}

impl GrpcTransport {
    /// For questions beside the log, which share the connection of entries.
    pub(crate) fn members(&self, to: &Member) -> Result<MembersClient<Channel>, TransportError> {
        Ok(self.to(to)?.bulk)
    }
}

impl Transport for GrpcTransport {
    fn call(
        &self,
        to: &Member,
        request: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let channels = self.to(to);
        async move {
            let Channels { urgent, bulk } = channels?;
            let mut client = if request.len() > SMALL { bulk } else { urgent };
            let mut request = Request::new(MemberMessage { message: request });
            request.set_timeout(deadline);
            let reply = client.call(request).await.map_err(|status| lost(&status))?;
            Ok(reply.into_inner().message)
        }
        .boxed()
    }

    fn stream(
        &self,
        to: &Member,
        requests: BoxStream<'static, Bytes>,
    ) -> BoxFuture<'static, Result<BoxStream<'static, Result<Bytes, TransportError>>, TransportError>> {
        let channels = self.to(to);
        open_stream(channels, Requests(requests)).boxed()
    }
}

/// Requests as gRPC has them. A type of its own, whose being sendable the compiler can see.
struct Requests(BoxStream<'static, Bytes>);

impl Stream for Requests {
    type Item = MemberMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<MemberMessage>> {
        self.0.poll_next_unpin(context).map(|message| message.map(|message| MemberMessage { message }))
    }
}

type Replies = BoxStream<'static, Result<Bytes, TransportError>>;

async fn open_stream(
    channels: Result<Channels, TransportError>,
    requests: Requests,
) -> Result<Replies, TransportError> {
    let mut client = channels?.bulk;
    let replies = client.append(Request::new(requests)).await.map_err(|status| lost(&status))?;
    Ok(replies.into_inner().map(reply_of).boxed())
}

fn reply_of(reply: Result<MemberMessage, Status>) -> Result<Bytes, TransportError> {
    reply.map(|reply| reply.message).map_err(|status| lost(&status))
}

/// A channel that connects when first used, and again when it broke.
pub(super) fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(16 << 20);
    Ok(forebay_proto::dial::lazy_channel(endpoint, Duration::from_secs(1)))
}

fn lost(status: &Status) -> TransportError {
    let reason = reason(status);
    match status.code() {
        tonic::Code::Unavailable | tonic::Code::Unimplemented => TransportError::Unreachable(reason),
        _ => TransportError::Broken(reason),
    }
}

/// The innermost cause: "connection refused" says more than "transport error".
pub(super) fn reason(status: &Status) -> String {
    let first = std::error::Error::source(status);
    let causes = std::iter::successors(first, |error| error.source());
    causes.last().map_or_else(|| status.message().to_owned(), ToString::to_string)
}
