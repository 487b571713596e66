//! The data plane's server: connections ([`server`]), requests ([`read`], [`write_part`], [`local`]) and what they stand on.

pub(crate) mod buffers;
pub(crate) mod caching;
pub(crate) mod local;
pub(crate) mod read;
pub(crate) mod reply;
pub(crate) mod resident;
pub(crate) mod send;
pub(crate) mod server;
pub(crate) mod socket;
pub(crate) mod write_part;
