//! Settings of a member, with the arithmetic behind the defaults.

use std::fmt;
use std::time::Duration;

use forebay_base::ByteSize;

/// Names a member of the group; never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member and where the others reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// `host:port` of its control service, as clients and the other members reach it.
    pub address: String,
}

/// How a member keeps its log and its lead.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This member. The identifier is written into the directory at first open, and another one is refused later.
    pub member: Member,
    /// A segment of the log is closed when it is this long. Purging removes whole segments. 32 MiB: a file that ext4 unlinks in
    /// a few milliseconds, and at most that much more on disk than needed.
    pub segment_bytes: ByteSize,
    /// Newest entries kept in memory, so that applying does not read the disk.
    pub cache_bytes: ByteSize,
    /// Bytes of commands proposed and not answered; more proposals wait.
    pub in_flight_bytes: ByteSize,
    /// A longer command is refused.
    pub command_bytes_max: ByteSize,
    /// The state machine is flushed, and the log purged, when the log has grown by this much. It bounds what a restart applies again.
    pub flush_bytes: ByteSize,
    /// ... or when this much time has passed since the last flush and something was applied.
    pub flush_interval: Duration,
    /// Entries kept in the log behind the flushed position, for members that lag.
    pub retained_entries: u64,
    /// Time between two signs of life of a leader.
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing this long calls an election; drawn between this and its double.
    pub election_timeout: Duration,
}

impl Settings {
    /// The defaults for `member`: 32 MiB of log between flushes, an election after one to two seconds.
    pub fn new(member: Member) -> Settings {
        Settings {
            member,
            segment_bytes: ByteSize::mib(32),
            cache_bytes: ByteSize::mib(32),
            in_flight_bytes: ByteSize::mib(64),
            command_bytes_max: ByteSize::mib(4),
            flush_bytes: ByteSize::mib(32),
            flush_interval: Duration::from_secs(300),
            retained_entries: 10_000,
            heartbeat_interval: Duration::from_millis(200),
            election_timeout: Duration::from_millis(1000),
        }
    }
}
