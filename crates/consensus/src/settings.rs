//! Settings of a member, with the arithmetic behind the defaults.

use std::fmt;
use std::time::Duration;

use forebay_base::ByteSize;

use crate::error::OpenError;

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

    /// Refuses settings that do not fit together, naming the one that mends it.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let command = self.command_bytes_max.bytes();
        let limits = [
            ("segment_bytes", self.segment_bytes.bytes(), 1 << 10, 1 << 30),
            ("command_bytes_max", command, 1, 128 << 20),
            ("in_flight_bytes", self.in_flight_bytes.bytes(), command, 4 << 30),
        ];
        for (name, value, low, high) in limits {
            if !(low..=high).contains(&value) {
                let reason = format!("{name} is {value}, and must be from {low} to {high} bytes");
                return Err(OpenError::Start { reason });
            }
        }
        if self.heartbeat_interval.is_zero() || self.election_timeout < 2 * self.heartbeat_interval {
            let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
            let reason = format!(
                "election_timeout is {election:?}, and must be at least twice heartbeat_interval, {heartbeat:?}"
            );
            return Err(OpenError::Start { reason });
        }
        Ok(())
    }
}
