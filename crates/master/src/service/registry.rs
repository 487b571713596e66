//! Workers' calls.

use crate::admission::Class;
use crate::core::Core;
use crate::registry::Beat;
use crate::seat::Seat;
use crate::service::serve;
use forebay_base::{ErrorKind, WorkerId};
use forebay_proto::error::{self, WireError};
use forebay_proto::v1;
use forebay_proto::v1::registry_server::Registry;
use std::sync::Arc;
use std::time::Instant;
use tonic::{Request, Response, Status};

/// The service.
#[derive(Clone)]
pub(crate) struct RegistryService(pub(crate) Arc<Seat>);

#[tonic::async_trait]
impl Registry for RegistryService {
    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterReply>, Status> {
        let core = self.0.core()?;
        serve(&core, Class::Heartbeat, async { register(&core, request.into_inner()).await }).await
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Result<Response<v1::HeartbeatReply>, Status> {
        let core = self.0.core()?;
        serve(&core, Class::Heartbeat, async { heartbeat(&core, request.into_inner()) }).await
    }
}

/// Fails for a worker whose cache belongs to another cluster, as those of the cluster do that this one was restored from: the same inodes are other files there, and clients
/// must not be sent to it. One that names none is new.
fn check_cluster(core: &Core, named: &str) -> Result<(), WireError> {
    let own = &core.keys.cluster_id;
    if named.is_empty() || named == own {
        return Ok(());
    }
    Err(error::other_cluster(named, own))
}

async fn register(core: &Core, request: v1::RegisterRequest) -> Result<v1::RegisterReply, WireError> {
    let address = request.address.as_ref();
    if address.is_none_or(|address| address.worker == 0 || address.data.is_empty()) {
        return Err(WireError::new(
            ErrorKind::InvalidArgument,
            "a worker registers with its id and the address of its data plane",
        ));
    }
    check_cluster(core, &request.cluster_id)?;
    core.registry.register(request, Instant::now(), core.settings.clock.now().0, core.position());
    Ok(v1::RegisterReply { cluster_id: core.keys.cluster_id.clone(), view: Some(core.cluster_view()) })
}

fn heartbeat(core: &Core, request: v1::HeartbeatRequest) -> Result<v1::HeartbeatReply, WireError> {
    check_cluster(core, &request.cluster_id)?;
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
