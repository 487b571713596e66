//! The servers.

use super::{Client, cluster};
use crate::error::Result;
use crate::types::{ClusterStatus, WorkerInfo};
use forebay_proto::v1;

impl Client {
    /// The live workers.
    pub async fn workers(&self) -> Result<Vec<WorkerInfo>> {
        let request = v1::WorkersRequest::default();
        let reply = self.inner.call(request, |channel, request| async move { cluster(channel).workers(request).await });
        Ok(reply.await?.workers.into_iter().map(WorkerInfo::from).collect())
    }

    /// Masters, workers, tiers and mounts.
    pub async fn status(&self) -> Result<ClusterStatus> {
        let request = v1::StatusRequest {};
        let reply = self.inner.call(request, |channel, request| async move { cluster(channel).status(request).await });
        reply.await?.try_into()
    }
}
