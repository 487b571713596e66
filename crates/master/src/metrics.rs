//! The master's metrics: their names, each in one place. The binary describes them and a test compares them with the documentation.

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
    /// Commands proposed to the log.
    pub const COMMANDS: &str = "forebay_master_commands_total";
    /// Single objects asked of stores.
    pub const SYNC_STATS: &str = "forebay_master_sync_stats_total";
    /// Pages of listings asked of stores.
    pub const SYNC_PAGES: &str = "forebay_master_sync_pages_total";
    /// Differences applied, by `change` (added, changed, removed).
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
    /// Deletes that the background has not finished.
    pub const PENDING_DELETES: &str = "forebay_master_pending_deletes";
    /// Background work that failed and is tried again, by `task`.
    pub const BACKGROUND_FAILURES: &str = "forebay_master_background_failures_total";
}

/// Every metric: name, kind, unit, help.
pub const ALL: &[(&str, Kind, &str, &str)] = &[
    (names::REQUESTS, Kind::Counter, "requests", "Requests served, by class and outcome"),
    (names::REQUESTS_REFUSED, Kind::Counter, "requests", "Requests refused because their class was full, by class"),
    (names::REQUEST_SECONDS, Kind::Histogram, "seconds", "Time of a request in the master, by class"),
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
    (names::PENDING_DELETES, Kind::Gauge, "deletes", "Deletes that the background has not finished"),
    (names::BACKGROUND_FAILURES, Kind::Counter, "failures", "Background work that failed and is tried again, by task"),
];
