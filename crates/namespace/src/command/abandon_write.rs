//! Gives up a write.

/// Gives up a write: a new file vanishes, an overwritten one keeps its old content. No error when the write is gone already.
/// Reply: [`crate::reply::Payload::Abandoned`]. A write with an upload stays listed by [`crate::query::abandoned_writes`] until [`super::ForgetWrites`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AbandonWrite {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
}
