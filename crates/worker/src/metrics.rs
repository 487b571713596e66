//! The names of what a worker counts.

use forebay_base::ErrorKind;

/// Has all metrics shown from the start, at zero, with each value that their labels can have.
pub(crate) fn register() {
    for kind in ErrorKind::ALL {
        ::metrics::counter!(REQUEST_FAILURES, "kind" => kind.as_str()).increment(0);
    }
    for (name, kind, ..) in ALL.iter().filter(|(name, ..)| *name != REQUEST_FAILURES) {
        match *kind {
            "counter" => ::metrics::counter!(*name).increment(0),
            "gauge" => ::metrics::gauge!(*name).increment(0.0),
            _ => drop(::metrics::histogram!(*name)),
        }
    }
}

/// Every metric of this crate: name, kind, unit, what it says.
pub const ALL: &[(&str, &str, &str, &str)] = &[
    (
        READ_HIT_BYTES,
        "counter",
        "bytes",
        "Bytes served to readers that were cached when they asked, or that clients on this host read without asking",
    ),
    (READ_MISS_BYTES, "counter", "bytes", "Bytes that readers had to wait for"),
    (STORE_READ_BYTES, "counter", "bytes", "Bytes received from under stores"),
    (STORE_READS, "counter", "requests", "Ranged reads sent to under stores"),
    (STORE_READ_FAILURES, "counter", "requests", "Ranged reads of under stores that failed after all retries"),
    (PEER_READ_BYTES, "counter", "bytes", "Bytes received from other workers"),
    (
        PEER_READ_FAILURES,
        "counter",
        "requests",
        "Reads from other workers that failed; the store is asked in their place",
    ),
    (
        READ_THROUGH_BYTES,
        "counter",
        "bytes",
        "Bytes served past the cache, for want of space or because the reader wished it",
    ),
    (
        DAMAGED_PAGES,
        "counter",
        "pages",
        "Cached pages that did not match their checksums and were dropped while serving",
    ),
    (
        DISK_TIMEOUTS,
        "counter",
        "requests",
        "Reads that a disk of the cache did not answer in time, and that went past the cache",
    ),
    (WRITE_BYTES, "counter", "bytes", "Bytes of parts that were stored"),
    (WRITE_FAILURES, "counter", "parts", "Parts that could not be stored"),
    (READ_SECONDS, "histogram", "seconds", "From the request of a range to the last byte handed to the kernel"),
    (FETCH_SECONDS, "histogram", "seconds", "From the start of a fetch to its last page"),
    (CONNECTIONS, "gauge", "connections", "Open data connections"),
    (CONNECTIONS_REFUSED, "counter", "connections", "Data connections refused at the bound"),
    (REQUEST_FAILURES, "counter", "requests", "Requests answered with an error, by kind"),
    (FETCHES, "gauge", "fetches", "Fetches under way"),
    (
        KNOWN_WORKERS,
        "gauge",
        "workers",
        "Workers that this one knows of, itself included: whose blocks are whose follows from them",
    ),
    (HEARTBEAT_FAILURES, "counter", "calls", "Calls to the masters that failed"),
];

/// See [`ALL`].
pub const READ_HIT_BYTES: &str = "forebay_worker_read_hit_bytes_total";
/// See [`ALL`].
pub const READ_MISS_BYTES: &str = "forebay_worker_read_miss_bytes_total";
/// See [`ALL`].
pub const STORE_READ_BYTES: &str = "forebay_worker_store_read_bytes_total";
/// See [`ALL`].
pub const STORE_READS: &str = "forebay_worker_store_reads_total";
/// See [`ALL`].
pub const STORE_READ_FAILURES: &str = "forebay_worker_store_read_failures_total";
/// See [`ALL`].
pub const PEER_READ_BYTES: &str = "forebay_worker_peer_read_bytes_total";
/// See [`ALL`].
pub const PEER_READ_FAILURES: &str = "forebay_worker_peer_read_failures_total";
/// See [`ALL`].
pub const READ_THROUGH_BYTES: &str = "forebay_worker_read_through_bytes_total";
/// See [`ALL`].
pub const DAMAGED_PAGES: &str = "forebay_worker_damaged_pages_total";
/// See [`ALL`].
pub const DISK_TIMEOUTS: &str = "forebay_worker_disk_timeouts_total";
/// See [`ALL`].
pub const WRITE_BYTES: &str = "forebay_worker_write_bytes_total";
/// See [`ALL`].
pub const WRITE_FAILURES: &str = "forebay_worker_write_failures_total";
/// See [`ALL`].
pub const READ_SECONDS: &str = "forebay_worker_read_seconds";
/// See [`ALL`].
pub const FETCH_SECONDS: &str = "forebay_worker_fetch_seconds";
/// See [`ALL`].
pub const CONNECTIONS: &str = "forebay_worker_connections";
/// See [`ALL`].
pub const CONNECTIONS_REFUSED: &str = "forebay_worker_connections_refused_total";
/// See [`ALL`].
pub const REQUEST_FAILURES: &str = "forebay_worker_request_failures_total";
/// See [`ALL`].
pub const FETCHES: &str = "forebay_worker_fetches";
/// See [`ALL`].
pub const KNOWN_WORKERS: &str = "forebay_worker_known_workers";
/// See [`ALL`].
pub const HEARTBEAT_FAILURES: &str = "forebay_worker_heartbeat_failures_total";
