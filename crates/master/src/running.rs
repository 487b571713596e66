//! Starting and stopping a master.

use crate::backups::{self, Turns};
use crate::data_dir::{DataDir, DataDirError};
use crate::follower::Follower;
use crate::group::{self, GrpcTransport, MESSAGE_BYTES_MAX, Place};
use crate::log_clock::Witness;
use crate::restore::{self, RestoreError};
use crate::seat::{self, Lasting, Leading, Seat, watch_time};
use crate::service::backups::BackupsService;
use crate::service::cluster::ClusterService;
use crate::service::masters::MastersService;
use crate::service::members::MembersService;
use crate::service::mounts::MountsService;
use crate::service::namespace::NamespaceService;
use crate::service::pipeline::PipelineService;
use crate::service::registry::RegistryService;
use crate::settings::Settings;
use crate::state::{self, Machine, State, StateSettings};
use crate::upgrade;
use forebay_base::ErrorKind;
use forebay_consensus::{Consensus, Observer};
use forebay_metastore::RocksSettings;
use forebay_proto::v1::backups_server::BackupsServer;
use forebay_proto::v1::cluster_server::ClusterServer;
use forebay_proto::v1::masters_server::MastersServer;
use forebay_proto::v1::members_server::MembersServer;
use forebay_proto::v1::mounts_server::MountsServer;
use forebay_proto::v1::namespace_server::NamespaceServer;
use forebay_proto::v1::pipeline_server::PipelineServer;
use forebay_proto::v1::registry_server::RegistryServer;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

/// How long a stopping master tries to give its lead to another one: that takes some messages, or does not work.
const HAND_OVER: Duration = Duration::from_secs(3);
/// How long a stopping master waits for requests under way.
const DRAIN: Duration = Duration::from_secs(10);
/// Connections at a time: a client or a worker has one. Each costs a descriptor and some 10 KiB, so all of them some 160 MiB.
const CONNECTIONS_MAX: usize = 16_384;
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
    /// A backup cannot be restored.
    #[error("cannot restore: {0}")]
    Restore(RestoreError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] forebay_consensus::OpenError),
    /// The state cannot be opened.
    #[error("the state of the master cannot be opened: {0}")]
    State(String),
}

impl From<RestoreError> for StartError {
    fn from(error: RestoreError) -> StartError {
        StartError::Restore(error)
    }
}

impl StartError {
    /// What can be done about it, where that is known.
    pub fn kind(&self) -> Option<ErrorKind> {
        match self {
            StartError::Restore(error) => error.kind(),
            StartError::Log(error) => Some(error.kind()),
            StartError::DataDir(_) | StartError::Listen { .. } | StartError::State(_) => None,
        }
    }
}

/// A master.
#[derive(Debug)]
pub struct Master;

/// A master that serves. Dropping it ends it at once, as a crash would, but for work that has begun in the background;
/// [`RunningMaster::shutdown`] drains first.
pub struct RunningMaster {
    address: SocketAddr,
    /// Who serves.
    seat: Arc<Seat>,
    consensus: Arc<Consensus>,
    stop: CancellationToken,
    server: AbortOnDrop<()>,
    leading: AbortOnDrop<JoinSet<()>>,
    watching: AbortOnDrop<()>,
    following: AbortOnDrop<()>,
    /// Locked as long as this lives.
    _data: DataDir,
}

impl std::fmt::Debug for RunningMaster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningMaster").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Master {
    /// Opens the data directory, catches up with the log and serves. The only master leads and is ready when this returns. One of several
    /// answers from then on, as the leader or by naming it; a new one returns when it has found the others.
    pub async fn start(settings: Settings) -> Result<RunningMaster, StartError> {
        crate::metrics::register();
        let data = DataDir::open(&settings.data_dir)?;
        // Before anything in it is changed.
        state::check_version(&data.state()).map_err(|error| StartError::State(error.to_string()))?;
        let listen_error = |source| StartError::Listen { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let advertise = advertised(&settings.advertise, address);
        let (seat, stop) = (Arc::new(Seat::default()), CancellationToken::new());
        // Before anything else: others may have to ask before this one can go on.
        let server = AbortOnDrop(tokio::spawn(serve(Arc::clone(&seat), listener, stop.clone())));
        if let Some(from) = &settings.restore {
            restore::restore(&data, from, &settings, &advertise).await?;
        }
        data.check_restored()?;
        backups::remove_copies(&settings.data_dir);
        let place = Place::find(&settings, &advertise, &data.log())?;
        let keys = match place.all.len() {
            1 => data.keys_or_draw()?,
            _ => group::find_keys(&data, &place, &seat).await?,
        };
        seat.keys_are(keys.clone());
        let (state, machine) = open_state(&settings, &data)?;
        let log = log_settings(&settings, &place);
        let transport = Arc::new(GrpcTransport::default());
        let consensus = Consensus::open_in_group(log, &data.log(), Box::new(machine), transport.clone()).await?;
        let consensus = Arc::new(consensus);
        seat.consensus_is(Arc::clone(&consensus));
        warn_if_moved(&consensus);
        let witness = Arc::new(Witness::new(Arc::clone(&settings.clock)));
        let mut observer = Observer::default();
        observer.look(&consensus.status());
        let watching = watch_time(state.clone(), Arc::clone(&witness), Arc::clone(&consensus), observer, stop.clone());
        let watching = AbortOnDrop(tokio::spawn(watching));
        let follower = Follower::new(settings.clone(), keys.clone(), state.clone(), Arc::clone(&consensus), transport);
        let follower = Arc::new(follower);
        let following = AbortOnDrop(tokio::spawn(Arc::clone(&follower).run(stop.clone())));
        seat.follower_is(Some(follower));
        let leading = Leading {
            seat: Arc::clone(&seat),
            settings,
            address: advertise,
            state,
            keys,
            consensus: Arc::clone(&consensus),
            lasting: Lasting { witness, backup_turns: Turns::default() },
            stop: stop.clone(),
        };
        // The only one leads by now, also when it is to be the first of several.
        let first = match consensus.is_leader() && consensus.status().members.len() == 1 {
            true => Some(leading.begin(None).await.map_err(|error| StartError::State(error.to_string()))?),
            false => None,
        };
        let leading = AbortOnDrop(tokio::spawn(leading.run(first)));
        Ok(RunningMaster { address, seat, consensus, stop, server, leading, watching, following, _data: data })
    }
}

/// The others call a master at the address that they know, and need to be told another one.
fn warn_if_moved(consensus: &Consensus) {
    let status = consensus.status();
    let others = status.members.iter().any(|member| member.id != status.member.id);
    let known = status.members.iter().find(|member| member.id == status.member.id);
    if let Some(known) = known.filter(|known| others && known.address != status.member.address) {
        let (old, new) = (&known.address, &status.member.address);
        tracing::warn!(
            "the other masters call this one at {old}, and it is at {new} now; tell them: forebay masters add {new} --replace {old}"
        );
    }
}

fn open_state(settings: &Settings, data: &DataDir) -> Result<(State, Machine), StartError> {
    let memory = StateSettings {
        store: RocksSettings {
            block_cache: settings.store_cache,
            write_buffer: settings.store_write_buffer,
            ..RocksSettings::default()
        },
        cache: settings.namespace_cache,
    };
    state::open(&data.state(), memory).map_err(|error| StartError::State(error.to_string()))
}

fn log_settings(settings: &Settings, place: &Place) -> forebay_consensus::Settings {
    forebay_consensus::Settings {
        heartbeat_interval: settings.group.heartbeat_interval,
        election_timeout: settings.group.election_timeout,
        clock_drift_percent: settings.group.clock_drift_percent,
        snapshot_bytes_per_second: settings.group.snapshot_bytes_per_second,
        segment_bytes: settings.log.segment_bytes,
        flush_bytes: settings.log.flush_bytes,
        retained_entries: settings.log.retained_entries,
        formation: place.formation(),
        build: upgrade::build(),
        ..forebay_consensus::Settings::new(place.own.clone())
    }
}

/// A task that ends with its owner, also when that gives up on the way.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How others reach this master: "any address" is one to listen on, not one to call.
fn advertised(setting: &str, bound: SocketAddr) -> String {
    match setting {
        "" if bound.ip().is_unspecified() => {
            format!("{}:{}", rustix::system::uname().nodename().to_string_lossy(), bound.port())
        }
        "" => bound.to_string(),
        advertise => advertise.to_owned(),
    }
}

impl RunningMaster {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the log or the state has failed, with the reason: the process must end then.
    pub async fn failed(&self) -> String {
        self.consensus.failed().await
    }

    /// Says, whenever it is called, why requests can neither be served here nor sent to a leader: no majority, or this one is no member any more. It is no
    /// trouble that another one leads.
    pub fn trouble(&self) -> impl Fn() -> Option<String> + Send + 'static {
        let seat = Arc::downgrade(&self.seat);
        move || {
            let seat = seat.upgrade()?;
            match seat.core() {
                Ok(_) => None,
                Err(_) => seat::trouble(&seat.consensus().ok()?.status()).map(|trouble| trouble.message),
            }
        }
    }

    /// Comparisons with stores that are going on: of paths and of listings.
    #[cfg(any(test, feature = "testing"))]
    pub fn comparisons(&self) -> (usize, usize) {
        self.seat.core().map_or((0, 0), |core| core.syncs.running())
    }

    /// How many follow listings that are going on.
    #[cfg(any(test, feature = "testing"))]
    pub fn listing_followers(&self) -> usize {
        self.seat.core().map_or(0, |core| core.syncs.listing_followers())
    }

    /// Gives its lead to another master, takes no more requests, gives those under way some seconds to end, flushes and closes.
    pub async fn shutdown(mut self) {
        // First of all: as long as it leads and serves nobody, nobody is served.
        match tokio::time::timeout(HAND_OVER, self.consensus.hand_over()).await {
            Ok(Some(next)) => tracing::info!(member = next.0, "another master leads now"),
            Ok(None) => {}
            Err(_) => tracing::warn!("no other master took the lead in time"),
        }
        self.stop.cancel();
        if tokio::time::timeout(DRAIN, &mut self.server.0).await.is_err() {
            self.server.0.abort();
            tracing::warn!("requests under way did not end in time and are cut off");
        }
        let background = async {
            if let Ok(mut background) = (&mut self.leading.0).await {
                while background.join_next().await.is_some() {}
            }
        };
        if tokio::time::timeout(DRAIN, background).await.is_err() {
            tracing::warn!("work in the background did not end in time and goes on at the next start");
        }
        // The state is closed when nobody holds it any more: the directory can be opened again at once.
        let _ = (&mut self.watching.0).await;
        let _ = (&mut self.following.0).await;
        self.seat.follower_is(None);
        self.seat.take(None);
        if let Err(error) = self.consensus.shutdown().await {
            tracing::warn!(%error, "the log was not closed cleanly; the next start reads it again");
        }
    }
}

impl Drop for RunningMaster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve(seat: Arc<Seat>, listener: TcpListener, stop: CancellationToken) {
    let connections = forebay_proto::connections::accept(listener, "master", CONNECTIONS_MAX);
    let namespace = NamespaceService(Arc::clone(&seat));
    let pipeline = PipelineService { namespace: namespace.clone(), stop: stop.clone() };
    let members = MembersService { seat: Arc::clone(&seat), stop: stop.clone() };
    let members = MembersServer::new(members);
    let members = members.max_decoding_message_size(MESSAGE_BYTES_MAX).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(PipelineServer::new(pipeline))
        .add_service(NamespaceServer::new(namespace))
        .add_service(MountsServer::new(MountsService(Arc::clone(&seat))))
        .add_service(ClusterServer::new(ClusterService(Arc::clone(&seat))))
        .add_service(MastersServer::new(MastersService(Arc::clone(&seat))))
        .add_service(BackupsServer::new(BackupsService(Arc::clone(&seat))))
        .add_service(members)
        .add_service(RegistryServer::new(RegistryService(seat)))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the master's server ended");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_names_an_address_that_can_be_called() {
        let bound = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(advertised("m1.example:7400", bound("0.0.0.0:7400")), "m1.example:7400");
        assert_eq!(advertised("", bound("127.0.0.1:7400")), "127.0.0.1:7400");
        for any in ["0.0.0.0:7400", "[::]:7400"] {
            let named = advertised("", bound(any));
            assert!(named.ends_with(":7400") && !named.contains("0.0.0.0") && !named.contains("[::]"), "{named}");
        }
    }
}
