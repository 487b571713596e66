//! Who is there.

use crate::admission::Class;
use crate::seat::Seat;
use crate::service::serve;
use forebay_proto::v1;
use forebay_proto::v1::cluster_server::Cluster;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct ClusterService(pub(crate) Arc<Seat>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn workers(&self, request: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersReply>, Status> {
        match self.0.core() {
            // As a client's read: every client asks for it, and administration has few places.
            Ok(core) => serve(&core, Class::Read, async { Ok(core.registry.view().into()) }).await,
            Err(elsewhere) => match self.0.follower(request.into_inner().bound) {
                Some((follower, bound)) => Ok(Response::new(follower.workers(bound).await?)),
                None => Err(elsewhere.into()),
            },
        }
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        let core = self.0.core()?;
        serve(&core, Class::Administration, async { core.status().await }).await
    }
}
