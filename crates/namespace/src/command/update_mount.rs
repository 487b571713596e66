//! Changes a mount.

/// Replaces what a mount says. Reply: [`crate::reply::Payload::Mount`]. Conflict when `revision` is not the mount's.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateMount {
    /// Which mount.
    #[prost(uint32, tag = "1")]
    pub mount: u32,
    /// All of the new settings. The URI cannot change.
    #[prost(message, required, tag = "2")]
    pub spec: crate::record::MountSpec,
    /// The revision that the new settings were made from.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}
