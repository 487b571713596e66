//! Who is there.

use crate::admission::Class;
use crate::core::Core;
use crate::service::serve;
use forebay_proto::v1;
use forebay_proto::v1::cluster_server::Cluster;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct ClusterService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn workers(&self, _: Request<v1::WorkersRequest>) -> Result<Response<v1::WorkersReply>, Status> {
        // As a client's read: every client asks for it, and administration has few places.
        serve(&self.0, Class::Read, async {
            let view = self.0.registry.view();
            Ok(v1::WorkersReply { epoch: view.epoch, workers: view.workers })
        })
        .await
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusReply>, Status> {
        serve(&self.0, Class::Administration, async { self.0.status().await }).await
    }
}
