//! Forgets abandoned writes once their uploads are aborted.

/// Forgets abandoned writes once their uploads are aborted in the store. Others are left alone.
/// Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ForgetWrites {
    /// Which writes.
    #[prost(uint64, repeated, tag = "1")]
    pub writes: Vec<u64>,
}
