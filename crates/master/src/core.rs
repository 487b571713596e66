//! What all services of one master share.

use crate::admission::Admission;
use crate::data_dir::DataDir;
use crate::registry::Registry;
use crate::settings::Settings;
use forebay_proto::error::WireError;
use forebay_proto::v1;

/// What all services of one master share.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) data: DataDir,
    pub(crate) admission: Admission,
    pub(crate) registry: Registry,
    pub(crate) address: String,
    pub(crate) started_ms: u64,
}

impl Core {
    pub(crate) fn new(settings: Settings, data: DataDir, address: String) -> Core {
        Core {
            admission: Admission::new(settings.limits),
            registry: Registry::new(settings.worker_timeout, settings.clock.now().0),
            started_ms: settings.clock.now().0,
            settings,
            data,
            address,
        }
    }

    /// The applied position of the log.
    pub(crate) fn position(&self) -> u64 {
        0
    }

    /// What a worker must know to serve alone.
    pub(crate) fn cluster_view(&self) -> Result<v1::ClusterView, WireError> {
        let view = self.registry.view();
        Ok(v1::ClusterView {
            epoch: view.epoch,
            workers: view.workers,
            mounts: Vec::new(),
            ticket_keys: vec![self.data.ticket_key.to_vec().into()],
            heartbeat_ms: self.settings.heartbeat.as_millis() as u64,
        })
    }

    /// The cluster on one screen.
    pub(crate) async fn status(&self) -> Result<v1::StatusReply, WireError> {
        Ok(v1::StatusReply {
            cluster_id: self.data.cluster_id.clone(),
            masters: vec![v1::MasterStatus {
                id: 1,
                address: self.address.clone(),
                leader: true,
                applied_index: self.position(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_ms: self.started_ms,
            }],
            workers: self.registry.statuses(),
            mounts: Vec::new(),
            inodes: 0,
            pending_deletes: 0,
        })
    }
}
