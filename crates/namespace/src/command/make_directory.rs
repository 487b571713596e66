//! Makes a directory.

use bytes::Bytes;

/// Makes a directory. Reply: [`crate::reply::Payload::Inode`].
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct MakeDirectory {
    /// Where, in normal form.
    #[prost(bytes = "bytes", tag = "1")]
    pub path: Bytes,
    /// As `mkdir -p`: makes missing parents too, and an existing directory is no error.
    #[prost(bool, tag = "2")]
    pub parents: bool,
    /// Who owns what is made.
    #[prost(string, tag = "3")]
    pub owner: String,
    /// Its group.
    #[prost(string, tag = "4")]
    pub group: String,
    /// Permission bits, `0o7777` at most.
    #[prost(uint32, tag = "5")]
    pub mode: u32,
    /// The under store is known to have nothing there, so that nothing is left to load.
    #[prost(bool, tag = "6")]
    pub loaded: bool,
}
