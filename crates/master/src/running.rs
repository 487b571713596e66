//! Starting and stopping a master.

use crate::core::Core;
use crate::data_dir::{DataDir, DataDirError};
use crate::ops::{purge, rename, uploads};
use crate::service::cluster::ClusterService;
use crate::service::mounts::MountsService;
use crate::service::namespace::NamespaceService;
use crate::service::pipeline::PipelineService;
use crate::service::registry::RegistryService;
use crate::settings::Settings;
use crate::state::{self, StateSettings};
use forebay_consensus::{Consensus, Member, MemberId};
use forebay_metastore::RocksSettings;
use forebay_proto::v1::cluster_server::ClusterServer;
use forebay_proto::v1::mounts_server::MountsServer;
use forebay_proto::v1::namespace_server::NamespaceServer;
use forebay_proto::v1::pipeline_server::PipelineServer;
use forebay_proto::v1::registry_server::RegistryServer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// How long a stopping master waits for requests under way.
const DRAIN: Duration = Duration::from_secs(10);
/// A connection that answers no ping for this long is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

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
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] forebay_consensus::OpenError),
    /// The state cannot be opened.
    #[error("the state of the master cannot be opened: {0}")]
    State(String),
}

/// A master.
#[derive(Debug)]
pub struct Master;

/// A master that serves. Dropping it ends it at once, as a crash would, but for work that has begun in the background;
/// [`RunningMaster::shutdown`] drains first.
pub struct RunningMaster {
    address: SocketAddr,
    core: Arc<Core>,
    stop: CancellationToken,
    server: JoinHandle<()>,
    background: JoinSet<()>,
}

impl std::fmt::Debug for RunningMaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningMaster").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Master {
    /// Opens the data directory, catches up with the log and serves. Ready when it returns.
    pub async fn start(settings: Settings) -> Result<RunningMaster, StartError> {
        let data = DataDir::open(&settings.data_dir)?;
        let listen_error = |source| StartError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let core = Arc::new(open(settings, data, address).await?);
        let stop = CancellationToken::new();
        let mut background = JoinSet::new();
        background.spawn(watch_workers(Arc::clone(&core), stop.clone()));
        background.spawn(purge::run(Arc::clone(&core), stop.clone()));
        background.spawn(uploads::run(Arc::clone(&core), stop.clone()));
        background.spawn(rename::run(Arc::clone(&core), stop.clone()));
        let server = tokio::spawn(serve(Arc::clone(&core), listener, stop.clone()));
        Ok(RunningMaster { address, core, stop, server, background })
    }
}

async fn open(settings: Settings, data: DataDir, address: SocketAddr) -> Result<Core, StartError> {
    let advertise = match settings.advertise.as_str() {
        "" => address.to_string(),
        advertise => advertise.to_owned(),
    };
    let memory = StateSettings {
        store: RocksSettings {
            block_cache: settings.store_cache,
            write_buffer: settings.store_write_buffer,
            ..RocksSettings::default()
        },
        cache: settings.namespace_cache,
    };
    let (state, machine) = state::open(&data.state(), memory).map_err(|error| StartError::State(error.to_string()))?;
    let member = Member { id: MemberId(1), address: advertise.clone() };
    let log = forebay_consensus::Settings::new(member);
    let consensus = Consensus::open(log, &data.log(), Box::new(machine)).await?;
    Core::new(settings, data, advertise, state, consensus).map_err(|error| StartError::State(error.to_string()))
}

impl RunningMaster {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the log or the state has failed, with the reason: the process must end then.
    pub async fn failed(&self) -> String {
        self.core.consensus().failed().await
    }

    /// Comparisons with stores that are going on: of paths and of listings.
    #[cfg(any(test, feature = "testing"))]
    pub fn comparisons(&self) -> (usize, usize) {
        self.core.syncs.running()
    }

    /// Takes no more requests, gives those under way some seconds to end, flushes and closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(DRAIN, &mut self.server).await.is_err() {
            self.server.abort();
        }
        let background = async { while self.background.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, background).await.is_err() {
            tracing::warn!("work in the background did not end in time and goes on at the next start");
        }
        if let Err(error) = self.core.consensus().shutdown().await {
            tracing::warn!(%error, "the log was not closed cleanly; the next start reads it again");
        }
    }
}

impl Drop for RunningMaster {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.abort();
        self.background.abort_all();
    }
}

async fn serve(core: Arc<Core>, listener: TcpListener, stop: CancellationToken) {
    let namespace = NamespaceService(Arc::clone(&core));
    let pipeline = PipelineService { namespace: namespace.clone(), stop: stop.clone() };
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(PipelineServer::new(pipeline))
        .add_service(NamespaceServer::new(namespace))
        .add_service(MountsServer::new(MountsService(Arc::clone(&core))))
        .add_service(ClusterServer::new(ClusterService(Arc::clone(&core))))
        .add_service(RegistryServer::new(RegistryService(core)))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the master's server ended");
    }
}

async fn watch_workers(core: Arc<Core>, stop: CancellationToken) {
    use crate::metrics::names;
    let mut tick = tokio::time::interval(core.settings.tick);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        core.registry.expire(Instant::now(), core.position());
        let live = core.registry.view().workers.len();
        metrics::gauge!(names::WORKERS_LIVE).set(live as f64);
    }
}
