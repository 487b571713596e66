//! Metrics of the client, over the `metrics` facade.

use metrics::Counter;

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

const RPC_RETRIES: &str = "forebay_client_rpc_retries_total";

/// All metrics of this crate.
pub const ALL: &[Metric] = &[Metric {
    name: RPC_RETRIES,
    kind: "counter",
    help: "calls to masters that were sent again",
}];

pub(crate) fn rpc_retries() -> Counter {
    metrics::counter!(RPC_RETRIES)
}
