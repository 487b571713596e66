//! The master's metrics: their names, each in one place. The binary describes them and a test compares them with the documentation.

use crate::admission::Class;
use forebay_base::ErrorKind;

/// The changes of [`names::SYNC_CHANGES`], in the order of their counts.
pub(crate) const SYNC_CHANGES: [&str; 4] = ["added", "changed", "removed", "skipped"];
/// The tasks of [`names::BACKGROUND_FAILURES`].
pub(crate) const TASKS: [&str; 3] = ["purge", "rename", "uploads"];
/// The outcomes of [`names::FOLLOWER_READS`].
const FOLLOWER_READS: [&str; 3] = ["served", "behind", "leader"];
/// The outcomes of [`names::FOLLOWER_QUESTIONS`].
const FOLLOWER_QUESTIONS: [&str; 2] = ["answered", "failed"];

/// Has all metrics shown from the start, at zero, with each value that their labels can have.
pub(crate) fn register() {
    for class in Class::ALL.map(Class::as_str) {
        for outcome in ErrorKind::ALL.iter().map(|kind| kind.as_str()).chain(["ok"]) {
            ::metrics::counter!(names::REQUESTS, "class" => class, "outcome" => outcome).increment(0);
        }
        ::metrics::counter!(names::REQUESTS_REFUSED, "class" => class).increment(0);
        let _: ::metrics::Histogram = ::metrics::histogram!(names::REQUEST_SECONDS, "class" => class);
    }
    for change in SYNC_CHANGES {
        ::metrics::counter!(names::SYNC_CHANGES, "change" => change).increment(0);
    }
    for outcome in ["ok", "failed"] {
        ::metrics::counter!(names::BACKUPS, "outcome" => outcome).increment(0);
    }
    for outcome in FOLLOWER_READS {
        ::metrics::counter!(names::FOLLOWER_READS, "outcome" => outcome).increment(0);
    }
    for outcome in FOLLOWER_QUESTIONS {
        ::metrics::counter!(names::FOLLOWER_QUESTIONS, "outcome" => outcome).increment(0);
    }
    for task in TASKS {
        ::metrics::counter!(names::BACKGROUND_FAILURES, "task" => task).increment(0);
    }
    for (name, kind, ..) in ALL.iter().filter(|(name, ..)| !LABELLED.contains(name)) {
        match kind {
            Kind::Counter => ::metrics::counter!(*name).increment(0),
            Kind::Gauge => ::metrics::gauge!(*name).increment(0.0),
            Kind::Histogram => drop(::metrics::histogram!(*name)),
        }
    }
}

/// Metrics with labels; without them there is nothing to show.
const LABELLED: [&str; 8] = [
    names::FOLLOWER_READS,
    names::FOLLOWER_QUESTIONS,
    names::REQUESTS,
    names::REQUESTS_REFUSED,
    names::REQUEST_SECONDS,
    names::SYNC_CHANGES,
    names::BACKUPS,
    names::BACKGROUND_FAILURES,
];

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// Names.
pub mod names {
    /// Requests served, by `class` and `outcome`.
    pub const REQUESTS: &str = "forebay_master_requests_total";
    /// Requests refused because their class was full, by `class`.
    pub const REQUESTS_REFUSED: &str = "forebay_master_requests_refused_total";
    /// Time in the master, by `class`.
    pub const REQUEST_SECONDS: &str = "forebay_master_request_seconds";
    /// Reads of clients that allow old answers, while another master leads, by `outcome` (served, behind, leader).
    pub const FOLLOWER_READS: &str = "forebay_master_follower_reads_total";
    /// Questions to the leader how far everything is, by `outcome` (answered, failed).
    pub const FOLLOWER_QUESTIONS: &str = "forebay_master_follower_questions_total";
    /// Commands proposed to the log.
    pub const COMMANDS: &str = "forebay_master_commands_total";
    /// Single objects asked of stores.
    pub const SYNC_STATS: &str = "forebay_master_sync_stats_total";
    /// Pages of listings asked of stores.
    pub const SYNC_PAGES: &str = "forebay_master_sync_pages_total";
    /// Differences applied, by `change` (added, changed, removed, skipped).
    pub const SYNC_CHANGES: &str = "forebay_master_sync_changes_total";
    /// Objects of stores that cannot be names of the tree.
    pub const SYNC_SKIPPED: &str = "forebay_master_sync_skipped_total";
    /// Comparisons that failed at the store.
    pub const SYNC_FAILURES: &str = "forebay_master_sync_failures_total";
    /// Workers that are live.
    pub const WORKERS_LIVE: &str = "forebay_master_workers_live";
    /// Writes abandoned since their lease ended.
    pub const WRITES_EXPIRED: &str = "forebay_master_writes_expired_total";
    /// Objects deleted from stores in the background.
    pub const PURGED_OBJECTS: &str = "forebay_master_purged_objects_total";
    /// Objects copied for renames.
    pub const RENAME_COPIES: &str = "forebay_master_rename_copies_total";
    /// Rights to read a file from its store itself, given to clients.
    pub const DIRECT_GRANTS: &str = "forebay_master_direct_grants_total";
    /// The version of the cluster's behaviour.
    pub const CLUSTER_VERSION: &str = "forebay_master_cluster_version";
    /// Deletes that the background has not finished.
    pub const PENDING_DELETES: &str = "forebay_master_pending_deletes";
    /// Backups, by `outcome`.
    pub const BACKUPS: &str = "forebay_master_backups_total";
    /// Bytes of backups that the target did not have.
    pub const BACKUP_SENT_BYTES: &str = "forebay_master_backup_sent_bytes_total";
    /// When the last backup was made.
    pub const BACKUP_LAST: &str = "forebay_master_backup_last_timestamp_seconds";
    /// Background work that failed and is tried again, by `task`.
    pub const BACKGROUND_FAILURES: &str = "forebay_master_background_failures_total";
}

/// Every metric: name, kind, unit, help.
pub const ALL: &[(&str, Kind, &str, &str)] = &[
    (names::REQUESTS, Kind::Counter, "requests", "Requests served, by class and outcome"),
    (names::REQUESTS_REFUSED, Kind::Counter, "requests", "Requests refused because their class was full, by class"),
    (names::REQUEST_SECONDS, Kind::Histogram, "seconds", "Time of a request in the master, by class"),
    (
        names::FOLLOWER_READS,
        Kind::Counter,
        "requests",
        "Reads that came with a bound to a master that does not lead, by outcome: served, refused as too old (behind), sent to the leader",
    ),
    (
        names::FOLLOWER_QUESTIONS,
        Kind::Counter,
        "requests",
        "Questions to the leader how far everything is, for reads of clients that allow old answers, by outcome",
    ),
    (names::COMMANDS, Kind::Counter, "commands", "Commands proposed to the log"),
    (names::SYNC_STATS, Kind::Counter, "requests", "Single objects asked of stores to compare metadata"),
    (names::SYNC_PAGES, Kind::Counter, "requests", "Pages of listings asked of stores to compare metadata"),
    (
        names::SYNC_CHANGES,
        Kind::Counter,
        "entries",
        "Differences between stores and namespace that were applied, by change",
    ),
    (
        names::SYNC_SKIPPED,
        Kind::Counter,
        "objects",
        "Objects of stores that cannot be names of the tree and are not shown",
    ),
    (names::SYNC_FAILURES, Kind::Counter, "requests", "Comparisons of metadata that failed at the store"),
    (names::WORKERS_LIVE, Kind::Gauge, "workers", "Workers whose heartbeats arrive"),
    (names::WRITES_EXPIRED, Kind::Counter, "writes", "Writes abandoned since their lease ended"),
    (names::PURGED_OBJECTS, Kind::Counter, "objects", "Objects deleted from stores in the background"),
    (names::RENAME_COPIES, Kind::Counter, "objects", "Objects copied for renames"),
    (
        names::DIRECT_GRANTS,
        Kind::Counter,
        "grants",
        "Rights to read a file from its store itself, given to clients that no worker served",
    ),
    (
        names::CLUSTER_VERSION,
        Kind::Gauge,
        "versions",
        "The version of the cluster's behaviour that this master has applied: forebay masters upgrade raises it",
    ),
    (names::PENDING_DELETES, Kind::Gauge, "deletes", "Deletes that the background has not finished"),
    (names::BACKUPS, Kind::Counter, "backups", "Backups that this master has made, or failed to make, by outcome"),
    (names::BACKUP_SENT_BYTES, Kind::Counter, "bytes", "Bytes of backups that the target did not have yet"),
    (
        names::BACKUP_LAST,
        Kind::Gauge,
        "seconds",
        "When the last backup was made that this master has made, or found at the target of the schedule, since 1970",
    ),
    (names::BACKGROUND_FAILURES, Kind::Counter, "failures", "Background work that failed and is tried again, by task"),
];
