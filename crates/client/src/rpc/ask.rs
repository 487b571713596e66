//! The calls of the namespace service, each of which can go over the stream or alone.

use super::REPLY_LEN_MAX;
use forebay_proto::v1;
use forebay_proto::v1::answer::Outcome;
use forebay_proto::v1::namespace_client::NamespaceClient;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// A request of the namespace service.
pub(crate) trait Ask: Clone + Send + Sync {
    /// What answers it.
    type Reply;

    /// As it goes over the stream.
    fn to_call(&self) -> v1::call::Request;

    /// The reply in an answer; none when it answers another kind of request.
    fn reply(outcome: Outcome) -> Option<Self::Reply>;

    /// Sends it in a stream of its own.
    fn send(
        channel: Channel,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;
}

/// A request that a master may answer which does not lead.
pub(crate) trait Read: Ask {
    /// Says how old the answer may be.
    fn set_bound(&mut self, bound: v1::ReadBound);

    /// Up to where a reply can know of the log.
    fn index(reply: &Self::Reply) -> u64;
}

macro_rules! read {
    ($($request:ident)*) => {$(
        impl Read for v1::$request {
            fn set_bound(&mut self, bound: v1::ReadBound) {
                self.bound = Some(bound);
            }

            fn index(reply: &Self::Reply) -> u64 {
                reply.index
            }
        }
    )*};
}

read!(StatRequest ContentSummaryRequest OpenRequest);

macro_rules! ask {
    ($($kind:ident $method:ident $request:ident $reply:ident;)*) => {$(
        impl Ask for v1::$request {
            type Reply = v1::$reply;

            fn to_call(&self) -> v1::call::Request {
                v1::call::Request::$kind(self.clone())
            }

            fn reply(outcome: Outcome) -> Option<v1::$reply> {
                match outcome {
                    Outcome::$kind(reply) => Some(reply),
                    _ => None,
                }
            }

            async fn send(channel: Channel, request: Request<Self>) -> Result<Response<v1::$reply>, Status> {
                NamespaceClient::new(channel).max_decoding_message_size(REPLY_LEN_MAX).$method(request).await
            }
        }
    )*};
}

ask! {
    Stat stat StatRequest StatReply;
    ContentSummary content_summary ContentSummaryRequest ContentSummaryReply;
    MakeDirectory make_directory MakeDirectoryRequest MakeDirectoryReply;
    Open open OpenRequest OpenReply;
    Create create CreateRequest CreateReply;
    RenewWrite renew_write RenewWriteRequest RenewWriteReply;
    Complete complete CompleteRequest CompleteReply;
    AbandonWrite abandon_write AbandonWriteRequest AbandonWriteReply;
    Rename rename RenameRequest RenameReply;
    Delete delete DeleteRequest DeleteReply;
    SetAttributes set_attributes SetAttributesRequest SetAttributesReply;
}
