//! Records the multipart upload of a write.

/// Records that a multipart upload has begun for a write. The first one recorded stays.
/// Reply: [`crate::reply::Payload::Write`] with the upload that counts; when it is another one, the proposer aborts its own.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SetUpload {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
    /// The store's name of the upload.
    #[prost(string, tag = "2")]
    pub upload: String,
}
