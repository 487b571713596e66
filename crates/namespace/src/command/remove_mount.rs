//! Unmounts a store.

/// Takes a mount out of the tree, and forgets the metadata below it; nothing in the store is touched. Refused while another mount lies below, and, without `discard`, while
/// files below are being written. Reply: [`crate::reply::Payload::Mount`] as it was.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RemoveMount {
    /// Which mount.
    #[prost(uint32, tag = "1")]
    pub mount: u32,
    /// Give up unfinished writes below.
    #[prost(bool, tag = "2")]
    pub discard: bool,
}
