//! Workers' calls.

use crate::admission::Class;
use crate::core::Core;
use crate::registry::Beat;
use crate::service::serve;
use forebay_base::{ErrorKind, WorkerId};
use forebay_proto::error::WireError;
use forebay_proto::v1;
use forebay_proto::v1::registry_server::Registry;
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct RegistryService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Registry for RegistryService {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterReply>, Status> {
        serve(&self.0, Class::Heartbeat, async { register(&self.0, request.into_inner()).await }).await
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Result<Response<v1::HeartbeatReply>, Status> {
        serve(&self.0, Class::Heartbeat, async { heartbeat(&self.0, request.into_inner()) }).await
    }
}

async fn register(core: &Core, request: v1::RegisterRequest) -> Result<v1::RegisterReply, WireError> {
    let address = request.address.as_ref();
    if address.is_none_or(|address| address.worker == 0 || address.data.is_empty()) {
        return Err(WireError::new(
            ErrorKind::InvalidArgument,
            "a worker registers with its id and the address of its data plane",
        ));
    }
    core.registry.register(request, Instant::now(), core.settings.clock.now().0, core.position());
    Ok(v1::RegisterReply { cluster_id: core.data.cluster_id.clone(), view: Some(core.cluster_view()) })
}

fn heartbeat(core: &Core, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatReply, WireError> {
    let now_ms = core.settings.clock.now().0;
    let worker = WorkerId(request.worker);
    let beat = core.registry.beat(worker, request.status, Instant::now(), now_ms);
    match beat {
        Beat::Unknown => Ok(v1::HeartbeatReply { register_again: true, ..v1::HeartbeatReply::default() }),
        Beat::Heard { epoch, freed } => Ok(v1::HeartbeatReply {
            register_again: false,
            view: match epoch == request.epoch {
                true => None,
                false => Some(core.cluster_view()),
            },
            freed_inodes: freed,
        }),
    }
}
