//! Ends a write: its content becomes the file.

/// Ends a write: its content becomes the file's, at once. The under store has it already.
/// Reply: [`crate::reply::Payload::Inode`]. Not found when the write was abandoned or the file deleted.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CompleteFile {
    /// Which write.
    #[prost(uint64, tag = "1")]
    pub write: u64,
    /// Bytes of the content.
    #[prost(uint64, tag = "2")]
    pub length: u64,
    /// The store's mark of it.
    #[prost(string, tag = "3")]
    pub tag: String,
    /// Modification time; 0: log time.
    #[prost(uint64, tag = "4")]
    pub modified_ms: u64,
}
