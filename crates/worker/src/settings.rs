//! What the operator decides about a worker.

use crate::stores::{OpenStore, RealStores};
use forebay_base::{ByteSize, Clock, SystemClock};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How a worker runs.
#[derive(Clone)]
pub struct Settings {
    /// The worker's own directory: holds its id. Made when it is missing.
    pub data_dir: PathBuf,
    /// Where pages are cached.
    pub cache: forebay_cache::Settings,
    /// Where the data plane listens; port 0 takes a free one.
    pub data_listen: SocketAddr,
    /// Where the control plane (gRPC) listens; port 0 takes a free one.
    pub control_listen: SocketAddr,
    /// Socket for clients on the same host, at most 107 bytes long; none: only TCP.
    pub unix_socket: Option<PathBuf>,
    /// The name or address by which others reach this host; none: the address listened on, or the host's name when that is "any address".
    pub advertise_host: Option<String>,
    /// The masters, `host:port` each; without any the worker serves what it is told by [`crate::RunningWorker::set_view`].
    pub masters: Vec<String>,
    /// Bounds and deadlines.
    pub limits: Limits,
    /// How the stores of mounts are opened.
    pub stores: Arc<dyn OpenStore>,
    /// Against which the end of tickets is checked.
    pub clock: Arc<dyn Clock>,
}

impl Settings {
    /// The defaults: loopback, free ports, no masters.
    pub fn new(data_dir: impl Into<PathBuf>, cache: forebay_cache::Settings) -> Settings {
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        Settings {
            data_dir: data_dir.into(),
            cache,
            data_listen: loopback,
            control_listen: loopback,
            unix_socket: None,
            advertise_host: None,
            masters: Vec::new(),
            limits: Limits::default(),
            stores: Arc::new(RealStores),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Bounds and deadlines of a worker. What happens at each bound stands beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Data connections at one time; one more is answered with `unavailable` and closed.
    pub connections_max: usize,
    /// A connection without a request for so long is closed.
    pub idle_timeout: Duration,
    /// A peer that takes or sends nothing for so long in the middle of a frame is cut off.
    pub stall_timeout: Duration,
    /// A body that memory is held for, in either direction, is given [`Limits::stall_timeout`] and a second for so many bytes; a peer that is slower is cut off.
    pub body_rate_min: ByteSize,
    /// Bytes of file data held in memory for requests (parts being written, reads that pass the cache by) and for fetches, half each; what needs more waits its turn. Short cached reads from a disk have 32 MiB of their own.
    pub memory_max: ByteSize,
    /// Largest ranged GET.
    pub get_len_max: ByteSize,
    /// GETs at one time in all; more wait in line.
    pub gets_max: usize,
    /// GETs at one time for one file version; more wait in line.
    pub gets_per_file_max: usize,
    /// How far ahead of what it has sent a reader's own request is fetched; never more than a twentieth of the cache.
    pub window: ByteSize,
    /// Most bytes that a reader's wish to read ahead is followed, and never more than a twentieth of the cache; read-ahead never waits in line: without a free GET it is left out.
    pub read_ahead_max: ByteSize,
    /// To connect to another worker.
    pub peer_connect_timeout: Duration,
    /// Another worker that sends nothing for so long is left for the store.
    pub peer_idle_timeout: Duration,
    /// An answer of another worker that brings next to nothing (less than 64 KiB) for so long is left, whatever signs of life come: the store is asked.
    pub peer_progress_timeout: Duration,
    /// How long a request waits for a disk of the cache; then it gets its bytes elsewhere.
    pub disk_patience: Duration,
    /// A worker that failed is not asked again for so long.
    pub peer_rest: Duration,
    /// Idle connections kept to each other worker; more are closed after use.
    pub peer_connections_idle_max: usize,
    /// How long after a change of membership the previous owner of a block is asked for it.
    pub previous_owner_period: Duration,
    /// Verified tickets remembered; the least used are verified again.
    pub tickets_max: usize,
    /// Files whose descriptors one connection may hold; more are refused, and the client reads over the connection.
    pub leases_per_connection_max: usize,
    /// Loads at one time; one more is refused with `unavailable`.
    pub loads_max: usize,
    /// How long a shutdown waits for the requests under way.
    pub drain_timeout: Duration,
    /// How often the master is called when it does not say.
    pub heartbeat_interval: Duration,
    /// To call a master.
    pub master_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4096,
            idle_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(30),
            body_rate_min: ByteSize::kib(128),
            memory_max: ByteSize::mib(512),
            get_len_max: ByteSize::mib(8),
            gets_max: 64,
            gets_per_file_max: 16,
            window: ByteSize::mib(32),
            read_ahead_max: ByteSize::mib(64),
            peer_connect_timeout: Duration::from_secs(1),
            peer_idle_timeout: Duration::from_secs(5),
            peer_progress_timeout: Duration::from_secs(10),
            disk_patience: Duration::from_secs(3),
            peer_rest: Duration::from_secs(5),
            peer_connections_idle_max: 8,
            previous_owner_period: Duration::from_secs(300),
            tickets_max: 65536,
            leases_per_connection_max: 1024,
            loads_max: 64,
            drain_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(1),
            master_timeout: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// How long a body of `len` bytes may take a peer.
    pub(crate) fn time_for_body(&self, len: u64) -> Duration {
        self.stall_timeout + Duration::from_millis(len.saturating_mul(1000) / self.body_rate_min.bytes().max(1))
    }
}
