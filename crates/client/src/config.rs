//! Settings of a client.

use crate::types::ReadType;
use crate::waits::OnWait;
use forebay_base::ByteSize;
use std::time::Duration;

/// Settings of a [`Client`](crate::Client). Start from [`ClientConfig::new`] and change what differs.
///
/// ```
/// use forebay_client::ClientConfig;
///
/// let config = ClientConfig { same_host: false, ..ClientConfig::new(["10.0.0.1:7400"]) };
/// assert_eq!(config.masters, ["10.0.0.1:7400"]);
/// ```
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Masters as `host:port`; any one that answers is enough.
    pub masters: Vec<String>,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// Read files through descriptors and the Unix socket of a worker on this host.
    pub same_host: bool,
    /// Read from a file's store itself when no worker serves it, as far as its mount allows that.
    pub direct_reads: bool,
    /// Bound of all buffers of streams and writers together. At the bound streams read less far ahead and writers keep
    /// fewer parts in flight; each still has the one buffer that it needs to go on.
    pub buffer_memory: ByteSize,
    /// The largest read-ahead of one stream. It starts small and grows while the reader goes on sequentially.
    pub read_ahead_max: ByteSize,
    /// What reading does to the cache, where [`OpenOptions`](crate::OpenOptions) do not say.
    pub read_type: ReadType,
    /// Parts of one writer that may be under way at once, its memory being this many times the part size.
    pub parts_in_flight_max: usize,
    /// Data connections to one worker. At the bound reads wait for one to become free.
    pub connections_per_worker_max: usize,
    /// Cached files of same-host workers whose descriptors are kept open, two each; the longest unused are closed first.
    pub local_files_max: usize,
    /// How old what is read of the metadata may be: `stat`, listings, sums and opening for reading are then answered by any master, not just by the one that
    /// leads. A client's own changes, and what it has seen, stay seen. Zero: only by the one that leads, which knows what is true now.
    pub max_staleness: Duration,
    /// Who is told of calls that take long, and why.
    pub on_wait: Option<OnWait>,
    /// Age at which the list of workers is fetched again, even if nothing hints that it has changed.
    pub workers_refresh: Duration,
}

/// How long calls may take: 30 days at most, whatever is set.
#[derive(Clone, Debug)]
pub struct Deadlines {
    /// [`Client::connect`](crate::Client::connect).
    pub connect: Duration,
    /// A metadata call, all its retries included. For listings the time until the next page.
    pub metadata: Duration,
    /// A read, from the call until its bytes are there; for streams and sequential readers the wait for the next bytes.
    pub read: Duration,
    /// A part of a file from its sending to its acknowledgement, resends included; also the completion of a file.
    pub write: Duration,
    /// A connection to one worker.
    pub worker_connect: Duration,
    /// Silence of one worker after which a read goes on with the next one; doubled each time that all have been tried, and five
    /// times as long for a part of a file that is written. A worker that waits for a slow store is not silent; one that sends less than 64 KiB
    /// of an answer in that time is.
    pub worker_silence: Duration,
}

impl ClientConfig {
    /// Default settings for these masters.
    pub fn new(masters: impl IntoIterator<Item = impl Into<String>>) -> ClientConfig {
        ClientConfig { masters: masters.into_iter().map(Into::into).collect(), ..ClientConfig::default() }
    }
}

impl Default for ClientConfig {
    /// The masters are empty and must be set; the rest fits a machine with 4 GiB of memory.
    fn default() -> Self {
        ClientConfig {
            masters: Vec::new(),
            deadlines: Deadlines::default(),
            same_host: true,
            direct_reads: true,
            buffer_memory: ByteSize::mib(256),
            read_ahead_max: ByteSize::mib(32),
            read_type: ReadType::default(),
            parts_in_flight_max: 4,
            connections_per_worker_max: 64,
            local_files_max: 512,
            max_staleness: Duration::ZERO,
            on_wait: None,
            workers_refresh: Duration::from_secs(10),
        }
    }
}

/// Longer waits than any call is worth; moments that far ahead can be computed with.
const DEADLINE_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

impl Deadlines {
    /// None longer than 30 days.
    pub(crate) fn bounded(&self) -> Deadlines {
        Deadlines {
            connect: self.connect.min(DEADLINE_MAX),
            metadata: self.metadata.min(DEADLINE_MAX),
            read: self.read.min(DEADLINE_MAX),
            write: self.write.min(DEADLINE_MAX),
            worker_connect: self.worker_connect.min(DEADLINE_MAX),
            worker_silence: self.worker_silence.min(DEADLINE_MAX),
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            connect: Duration::from_secs(10),
            metadata: Duration::from_secs(60),
            read: Duration::from_secs(60),
            write: Duration::from_secs(300),
            worker_connect: Duration::from_secs(1),
            worker_silence: Duration::from_secs(3),
        }
    }
}
