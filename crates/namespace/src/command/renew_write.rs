//! Keeps writes alive.

/// Keeps writes alive: each may be given up `lease_ms` after this command's log time at the earliest. At most [`crate::BATCH_MAX`] at once.
/// Reply: [`crate::reply::Payload::Renewed`], with those that do not exist any more.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RenewWrite {
    /// Which writes.
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
    /// How long they live from now.
    #[prost(uint64, tag = "2")]
    pub lease_ms: u64,
}
