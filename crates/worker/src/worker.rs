//! A worker from start to shutdown.

use crate::control;
use crate::data::server::{self, Listener};
use crate::error::StartError;
use crate::identity;
use crate::node::Node;
use crate::registration::Registration;
use crate::settings::Settings;
use crate::status::Counted;
use forebay_base::WorkerId;
use forebay_cache::PageStore;
use forebay_proto::v1::{ClusterView, TierStatus, WorkerAddress};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

/// Where a worker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The data plane.
    pub data: SocketAddr,
    /// The control plane.
    pub control: SocketAddr,
    /// The data plane for clients on this host.
    pub unix_socket: Option<PathBuf>,
}

/// A worker that serves. Dropping it stops it at once; [`RunningWorker::shutdown`] drains it first.
pub struct RunningWorker {
    node: Arc<Node>,
    addresses: Addresses,
    address: WorkerAddress,
}

impl Worker {
    /// Opens the page store, listens, and registers with the masters in the background. Must be called within a tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When a directory cannot be used, is used by another process or holds a newer format, and when an address cannot be listened on.
    /// Masters that do not answer are no error: they are called until they do.
    pub async fn start(settings: Settings) -> Result<RunningWorker, StartError> {
        crate::metrics::register();
        let started_ms = settings.clock.now().0;
        let (id, pages) = open(&settings).await?;
        let listeners = Listeners::bind(&settings).await?;
        let addresses = listeners.addresses.clone();
        let address = advertised(&settings, id, &addresses);
        let node = Arc::new(Node::new(id, &settings, pages));
        let registration =
            Registration::new(node.clone(), settings.data_dir.clone(), &settings.masters, address.clone(), started_ms)
                .map_err(StartError::Settings)?;
        node.tasks.spawn(registration.run());
        node.tasks.spawn(server::serve(node.clone(), Listener::Tcp(listeners.data)));
        if let Some(unix) = listeners.unix {
            node.tasks.spawn(server::serve(node.clone(), Listener::Unix(unix)));
        }
        node.tasks.spawn(control::serve(node.clone(), listeners.control));
        node.tasks.spawn(node.clone().watch_disks());
        tracing::info!(worker = format_args!("{:016x}", id.0), data = %addresses.data, control = %addresses.control, "worker listens");
        Ok(RunningWorker { node, addresses, address })
    }
}

/// What blocks at the start: the worker's directory and the page store.
async fn open(settings: &Settings) -> Result<(WorkerId, PageStore), StartError> {
    let (data_dir, cache) = (settings.data_dir.clone(), settings.cache.clone());
    tokio::task::spawn_blocking(move || Ok((identity::worker_id(&data_dir)?, PageStore::open(cache)?)))
        .await
        .map_err(|error| StartError::Settings(format!("opening the page store failed: {error}")))?
}

struct Listeners {
    data: TcpListener,
    control: TcpListener,
    unix: Option<UnixListener>,
    addresses: Addresses,
}

impl Listeners {
    async fn bind(settings: &Settings) -> Result<Listeners, StartError> {
        let (data, data_address) = listen(settings.data_listen).await?;
        let (control, control_address) = listen(settings.control_listen).await?;
        let unix = settings.unix_socket.as_deref().map(listen_unix).transpose()?;
        Ok(Listeners {
            data,
            control,
            unix,
            addresses: Addresses {
                data: data_address,
                control: control_address,
                unix_socket: settings.unix_socket.clone(),
            },
        })
    }
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address: address.to_string(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// A socket left by a killed worker is replaced. That no living one is robbed of it is the page store's lock's doing, which is taken before.
fn listen_unix(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |source| StartError::Listen { address: path.display().to_string(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if let Some(parent) = path.parent() {
        forebay_base::data_dir::create_private(parent).map_err(failed)?;
    }
    UnixListener::bind(path).map_err(failed)
}

/// How others reach this worker.
fn advertised(settings: &Settings, id: WorkerId, bound: &Addresses) -> WorkerAddress {
    let at = |address: SocketAddr| match &settings.advertise_host {
        Some(host) => join_host(host, address.port()),
        None if is_any(address.ip()) => join_host(&identity::host_name(), address.port()),
        None => address.to_string(),
    };
    let quota: u64 = settings.cache.tiers.iter().flat_map(|tier| &tier.dirs).map(|dir| dir.quota.bytes()).sum();
    WorkerAddress {
        worker: id.0,
        data: at(bound.data),
        control: at(bound.control),
        unix_socket: bound.unix_socket.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
        host_id: identity::host_id(),
        // In MiB: what is set, not what is free at the moment, or blocks would wander with every full disk.
        weight: (quota >> 20).max(1),
    }
}

fn is_any(ip: IpAddr) -> bool {
    ip.is_unspecified()
}

/// `host:port`, with brackets around an IPv6 address.
fn join_host(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

impl RunningWorker {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it tells others of itself.
    pub fn address(&self) -> &WorkerAddress {
        &self.address
    }

    /// Who it is.
    pub fn id(&self) -> WorkerId {
        self.node.id
    }

    /// What it has done since it started.
    pub fn counted(&self) -> Counted {
        self.node.counters.now()
    }

    /// How full its tiers are.
    pub fn tiers(&self) -> Vec<TierStatus> {
        crate::status::tiers(&self.node.pages)
    }

    /// The epoch of what it knows of the cluster; 0 before the masters have told it anything (not ready yet).
    pub fn epoch(&self) -> u64 {
        self.node.view.epoch()
    }

    /// Tells the worker of the cluster, in place of a master.
    pub fn set_view(&self, view: &ClusterView) {
        self.node.set_view(view);
    }

    /// Takes no more requests, waits for those under way ([`crate::Limits::drain_timeout`] at most), then closes the page store.
    pub async fn shutdown(self) {
        let node = &self.node;
        node.pages.stop_punching();
        node.stop.cancel();
        node.tasks.close();
        if tokio::time::timeout(node.limits.drain_timeout, node.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = node.tasks.len(), "requests did not end in time; cutting them off");
            node.abort.cancel();
            let _ = tokio::time::timeout(node.limits.drain_timeout, node.tasks.wait()).await;
        }
        // While the page store is locked: a successor's socket must not go.
        if let Some(path) = &self.addresses.unix_socket {
            let _ = std::fs::remove_file(path);
        }
        let pages = node.pages.clone();
        let _ = tokio::task::spawn_blocking(move || pages.close()).await;
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        self.node.pages.stop_punching();
        self.node.stop.cancel();
        self.node.abort.cancel();
    }
}
