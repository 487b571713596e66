//! What is remembered of a client so that its repeated requests get their first replies.

/// One client's window of requests. The replies themselves lie under keys of their own.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Session {
    /// Replies of sequences below this one are forgotten: the client has them, or they were too many.
    #[prost(uint64, tag = "1")]
    pub replies_from: u64,
    /// The greatest sequence seen.
    #[prost(uint64, tag = "2")]
    pub sequence_max: u64,
    /// The log time of the last request, in whole minutes since 1970-01-01 UTC.
    #[prost(uint64, tag = "3")]
    pub seen_min: u64,
}
