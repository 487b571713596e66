//! Metrics of the client, over the `metrics` facade.

use metrics::Counter;
use std::sync::LazyLock;

/// Name and meaning of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says.
    pub help: &'static str,
}

/// The counters, looked up once: a look-up costs as much as the rest of a small read.
struct Counters {
    rpc_retries: Counter,
    follower_reads: Counter,
    follower_fallbacks: Counter,
    connections_opened: Counter,
    worker_failures: Counter,
    checksum_errors: Counter,
    part_resends: Counter,
    local_bytes: Counter,
    remote_bytes: Counter,
    direct_bytes: Counter,
    written_bytes: Counter,
    hit_bytes: Counter,
    miss_bytes: Counter,
}

macro_rules! metrics {
    ($($field:ident $name:literal $help:literal;)*) => {
        /// All metrics of this crate.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: "counter", help: $help }),*];

        static COUNTERS: LazyLock<Counters> = LazyLock::new(|| Counters {
            $($field: ::metrics::counter!($name)),*
        });
    };
}

metrics! {
    rpc_retries "forebay_client_rpc_retries_total" "calls to masters that were sent again";
    follower_reads "forebay_client_follower_reads_total" "reads of metadata that another master than the leader answered, as `client.max_staleness` allows";
    follower_fallbacks "forebay_client_follower_fallbacks_total" "reads of metadata that another master than the leader did not answer, so that the leader was asked";
    connections_opened "forebay_client_connections_opened_total" "data connections opened to workers";
    worker_failures "forebay_client_worker_failures_total" "requests that were taken from a worker to the next one, because it failed or stayed silent";
    checksum_errors "forebay_client_checksum_errors_total" "pieces whose bytes did not match their checksum";
    part_resends "forebay_client_part_resends_total" "parts of files that were sent again";
    local_bytes "forebay_client_read_local_bytes_total" "bytes read through descriptors of a worker on this host";
    remote_bytes "forebay_client_read_remote_bytes_total" "bytes read over connections to workers";
    direct_bytes "forebay_client_read_direct_bytes_total" "bytes read from stores themselves, because no worker served them";
    written_bytes "forebay_client_written_bytes_total" "bytes of files written and acknowledged";
    hit_bytes "forebay_client_hit_bytes_total" "bytes that workers said were cached when asked for";
    miss_bytes "forebay_client_miss_bytes_total" "bytes that workers said had to be fetched";
}

pub(crate) fn rpc_retries() -> &'static Counter {
    &COUNTERS.rpc_retries
}

pub(crate) fn follower_reads() -> &'static Counter {
    &COUNTERS.follower_reads
}

pub(crate) fn follower_fallbacks() -> &'static Counter {
    &COUNTERS.follower_fallbacks
}

pub(crate) fn connections_opened() -> &'static Counter {
    &COUNTERS.connections_opened
}

pub(crate) fn worker_failures() -> &'static Counter {
    &COUNTERS.worker_failures
}

pub(crate) fn checksum_errors() -> &'static Counter {
    &COUNTERS.checksum_errors
}

pub(crate) fn part_resends() -> &'static Counter {
    &COUNTERS.part_resends
}

pub(crate) fn local_bytes() -> &'static Counter {
    &COUNTERS.local_bytes
}

pub(crate) fn remote_bytes() -> &'static Counter {
    &COUNTERS.remote_bytes
}

pub(crate) fn direct_bytes() -> &'static Counter {
    &COUNTERS.direct_bytes
}

pub(crate) fn written_bytes() -> &'static Counter {
    &COUNTERS.written_bytes
}

/// What a worker said at the end of its answer.
pub(crate) fn served(hit: u64, missed: u64) {
    COUNTERS.hit_bytes.increment(hit);
    COUNTERS.miss_bytes.increment(missed);
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_are_distinct_and_of_this_crate() {
        let mut names: Vec<_> = super::ALL.iter().map(|metric| metric.name).collect();
        assert!(names.iter().all(|name| name.starts_with("forebay_client_")));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), super::ALL.len());
    }
}
