//! Mounts: administration.

use crate::admission::Class;
use crate::core::parse_meta;
use crate::ops::mount;
use crate::seat::Seat;
use crate::service::{change, serve};
use forebay_proto::v1;
use forebay_proto::v1::mounts_server::Mounts;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct MountsService(pub(crate) Arc<Seat>);

#[tonic::async_trait]
impl Mounts for MountsService {
    async fn add_mount(&self, request: Request<v1::AddMountRequest>) -> Result<Response<v1::AddMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Administration, id, move |core| mount::add(core, id, request)).await
    }

    async fn list_mounts(&self, _: Request<v1::ListMountsRequest>) -> Result<Response<v1::ListMountsReply>, Status> {
        let core = self.0.core()?;
        serve(&core, Class::Administration, async {
            core.read().await?;
            Ok(mount::list(&core))
        })
        .await
    }

    async fn update_mount(
        &self,
        request: Request<v1::UpdateMountRequest>,
    ) -> Result<Response<v1::UpdateMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Administration, id, move |core| mount::update(core, id, request)).await
    }

    async fn remove_mount(
        &self,
        request: Request<v1::RemoveMountRequest>,
    ) -> Result<Response<v1::RemoveMountReply>, Status> {
        let mut request = request.into_inner();
        let id = parse_meta(request.meta.take())?;
        change(&self.0.core()?, Class::Administration, id, move |core| mount::remove(core, id, request)).await
    }
}
