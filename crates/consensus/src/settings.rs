//! Settings of a member, with the arithmetic behind the defaults.

use std::fmt;
use std::time::Duration;

use forebay_base::ByteSize;

use crate::build::Build;
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
    /// Entries kept in the log behind the flushed position, for members that lag ...
    pub retained_entries: u64,
    /// ... unless they have more bytes than this: then the oldest segments go.
    pub retained_bytes: ByteSize,
    /// Time between two signs of life of a leader.
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing this long, after the lease of the last leader, calls an election; drawn between this and one and a half
    /// of it. The lease is one and a half of it, too, so all members must have the same: with another one they take nothing from each other.
    pub election_timeout: Duration,
    /// How much faster the clock of one member may run than that of another, in percent. A leader serves reads without asking the others
    /// only for that much less than its lease. 100: it asks for each read.
    pub clock_drift_percent: u32,
    /// A proposal of a group of several that is not answered after this long has an unknown outcome: a leader that has lost the others does not
    /// keep its callers for ever.
    pub propose_timeout: Duration,
    /// Bytes of entries sent to one follower and not confirmed by it; more wait in the log. It bounds the leader's memory for a slow one.
    pub peer_window_bytes: ByteSize,
    /// Bytes a second of a snapshot on its way to another member, so that it leaves the network and the disk to others.
    pub snapshot_bytes_per_second: ByteSize,
    /// A new member that gets nothing more for this long, neither entries nor bytes of a snapshot, is not taken in.
    pub catch_up_timeout: Duration,
    /// What a new directory begins.
    pub formation: Formation,
    /// What this program is.
    pub build: Build,
}

/// What a member with a new directory does. One that has been in a group goes on in it, whatever this says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Formation {
    /// It is a group of one.
    Alone,
    /// These make a group, all having been given the same list; this member is one of them. The one with the lowest identifier does it
    /// once it has found all others, and each of them without a group.
    Group(Vec<Member>),
    /// It waits until a group takes it in.
    Join,
}

impl Settings {
    /// The defaults for `member`, a group of one: 32 MiB of log between flushes, and where there are several, a new leader 1.8 to 2.2 seconds
    /// after the old one was heard last: the lease of 1,050 ms, 700 to 1,050 ms more, and two rounds of messages.
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
            retained_bytes: ByteSize::mib(256),
            heartbeat_interval: Duration::from_millis(150),
            election_timeout: Duration::from_millis(700),
            clock_drift_percent: 10,
            propose_timeout: Duration::from_secs(10),
            peer_window_bytes: ByteSize::mib(8),
            snapshot_bytes_per_second: ByteSize::mib(128),
            catch_up_timeout: Duration::from_secs(60),
            formation: Formation::Alone,
            build: Build::default(),
        }
    }

    /// How long a follower that has heard from a leader votes for nobody else.
    pub(crate) fn lease(&self) -> Duration {
        self.election_timeout * 3 / 2
    }

    /// [`Settings::lease`] as members tell it each other.
    pub(crate) fn lease_ms(&self) -> u64 {
        self.lease().as_millis() as u64
    }

    /// How long after sending what a quorum confirmed a leader may answer reads alone.
    pub(crate) fn read_lease(&self) -> Duration {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_planted(crate::simulation::Fault::LeaseWithoutDrift) {
            return self.lease();
        }
        self.lease() * (100 - self.clock_drift_percent) / 100
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
        if self.clock_drift_percent > 100 {
            let reason = format!("clock_drift_percent is {}, and must be from 0 to 100", self.clock_drift_percent);
            return Err(OpenError::Start { reason });
        }
        self.check_formation()?;
        if self.heartbeat_interval.is_zero() || self.election_timeout < 2 * self.heartbeat_interval {
            let (election, heartbeat) = (self.election_timeout, self.heartbeat_interval);
            let reason = format!(
                "election_timeout is {election:?}, and must be at least twice heartbeat_interval, {heartbeat:?}"
            );
            return Err(OpenError::Start { reason });
        }
        Ok(())
    }

    fn check_formation(&self) -> Result<(), OpenError> {
        let Formation::Group(members) = &self.formation else {
            return Ok(());
        };
        let wrong = |reason: String| Err(OpenError::Start { reason });
        if !(1..=MEMBERS_MAX).contains(&members.len()) {
            return wrong(format!(
                "a group of {} masters is not possible, only one of 1 to {MEMBERS_MAX}",
                members.len()
            ));
        }
        for (at, member) in members.iter().enumerate() {
            let again = |other: &Member| other.id == member.id || other.address == member.address;
            if members[..at].iter().any(again) {
                return wrong(format!("the list of masters names member {} at {} twice", member.id, member.address));
            }
        }
        if !members.contains(&self.member) {
            let Member { id, address } = &self.member;
            return wrong(format!("the list of masters lacks this one, member {id} at {address}"));
        }
        Ok(())
    }
}

/// Most members of a group: each change waits for a majority of them.
pub(crate) const MEMBERS_MAX: usize = 7;
