//! Mounts: administration.

use crate::admission::Class;
use crate::core::{Core, parse_meta};
use crate::ops::mount;
use crate::service::{change, serve};
use forebay_proto::v1;
use forebay_proto::v1::mounts_server::Mounts;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct MountsService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Mounts for MountsService {
    async fn add_mount(&self, request: Request<v1::AddMountRequest>) -> Result<Response<v1::AddMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Administration, id, move |core| mount::add(core, id, request)).await
    }

    async fn list_mounts(&self, _: Request<v1::ListMountsRequest>) -> Result<Response<v1::ListMountsReply>, Status> {
        serve(&self.0, Class::Administration, async {
            self.0.read().await?;
            Ok(mount::list(&self.0))
        })
        .await
    }

    async fn update_mount(
        &self,
        request: Request<v1::UpdateMountRequest>,
    ) -> Result<Response<v1::UpdateMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Administration, id, move |core| mount::update(core, id, request)).await
    }

    async fn remove_mount(
        &self,
        request: Request<v1::RemoveMountRequest>,
    ) -> Result<Response<v1::RemoveMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0, Class::Administration, id, move |core| mount::remove(core, id, request)).await
    }
}
