//! Moves log time on.

/// Does nothing but carry a time, so that leases end on an idle cluster. Reply: [`crate::reply::Payload::Done`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct AdvanceTime {}
