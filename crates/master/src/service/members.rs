//! The other masters' calls.

use crate::seat::Seat;
use forebay_proto::v1::members_server::Members;
use forebay_proto::v1::{ConfirmReply, ConfirmRequest, KeysReply, KeysRequest, MemberMessage};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::pin::pin;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// The service.
#[derive(Clone)]
pub(crate) struct MembersService {
    pub(crate) seat: Arc<Seat>,
    /// Ends the streams, which end by nothing else.
    pub(crate) stop: CancellationToken,
}

#[tonic::async_trait]
impl Members for MembersService {
    type AppendStream = BoxStream<'static, Result<MemberMessage, Status>>;

    async fn call(&self, request: Request<MemberMessage>) -> Result<Response<MemberMessage>, Status> {
        let consensus = self.seat.consensus()?;
        let message = consensus.handle(request.into_inner().message).await;
        Ok(Response::new(MemberMessage { message }))
    }

    async fn append(&self, request: Request<Streaming<MemberMessage>>) -> Result<Response<Self::AppendStream>, Status> {
        let consensus = self.seat.consensus()?;
        // A broken connection ends the stream; the leader sends again what was not confirmed.
        let messages = request.into_inner().take_while(|message| std::future::ready(message.is_ok()));
        // The engine reads them until they end, and as long as somebody reads them the connection does not.
        let messages = messages.take_until(self.stop.clone().cancelled_owned());
        let messages =
            messages.filter_map(|message| std::future::ready(message.ok().map(|message| message.message))).boxed();
        let replies = consensus.handle_stream(messages).map(|message| Ok(MemberMessage { message }));
        let replies = replies.take_until(self.stop.clone().cancelled_owned());
        Ok(Response::new(replies.boxed()))
    }

    async fn keys(&self, _: Request<KeysRequest>) -> Result<Response<KeysReply>, Status> {
        let reply = self.seat.keys().map(|keys| KeysReply {
            settled: true,
            cluster_id: keys.cluster_id.clone(),
            ticket_key: keys.ticket_key.to_vec().into(),
            secret_key: keys.secret_key.to_vec().into(),
        });
        Ok(Response::new(reply.unwrap_or_default()))
    }

    async fn confirm(&self, request: Request<ConfirmRequest>) -> Result<Response<ConfirmReply>, Status> {
        let core = self.seat.core()?;
        let confirmed = core.while_leading(pin!(core.confirm(request.into_inner()))).await?;
        Ok(Response::new(confirmed))
    }
}
