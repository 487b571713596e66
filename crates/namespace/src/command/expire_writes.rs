//! Gives up writes whose lease has ended.

/// Gives up those of the writes whose lease has ended by log time. At most [`crate::BATCH_MAX`] at once.
/// Reply: [`crate::reply::Payload::Abandoned`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ExpireWrites {
    /// Which writes, from [`crate::query::expired_writes`].
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
}
