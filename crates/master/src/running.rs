//! Starting and stopping a master.

use crate::core::Core;
use crate::data_dir::{DataDir, DataDirError};
use crate::service::cluster::ClusterService;
use crate::service::registry::RegistryService;
use crate::settings::Settings;
use forebay_proto::v1::cluster_server::ClusterServer;
use forebay_proto::v1::registry_server::RegistryServer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Why a master does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; set master.listen to a free address of this host")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: std::io::Error,
    },
}

/// A master.
#[derive(Debug)]
pub struct Master;

/// A master that serves. Dropping it ends it at once, as a crash would; [`RunningMaster::shutdown`] drains first.
pub struct RunningMaster {
    address: SocketAddr,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Master {
    /// Opens the data directory, catches up with the log and serves. Ready when it returns.
    pub async fn start(settings: Settings) -> Result<RunningMaster, StartError> {
        let data = DataDir::open(&settings.data_dir)?;
        let listen_error = |source| StartError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let advertise = match settings.advertise.as_str() {
            "" => address.to_string(),
            advertise => advertise.to_owned(),
        };
        let core = Arc::new(Core::new(settings, data, advertise));
        let stop = CancellationToken::new();
        tokio::spawn(watch_workers(Arc::clone(&core), stop.clone()));
        let server = tokio::spawn(run(core, listener, stop.clone()));
        Ok(RunningMaster { address, stop, server })
    }
}

impl RunningMaster {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests, ends those under way, flushes and closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let _ = (&mut self.server).await;
    }
}

impl Drop for RunningMaster {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
    }
}

async fn run(core: Arc<Core>, listener: TcpListener, stop: CancellationToken) {
    let served = Server::builder()
        .add_service(ClusterServer::new(ClusterService(Arc::clone(&core))))
        .add_service(RegistryServer::new(RegistryService(core)))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the master's server ended");
    }
}

async fn watch_workers(core: Arc<Core>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(core.settings.tick);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        core.registry.expire(Instant::now(), core.position());
    }
}
