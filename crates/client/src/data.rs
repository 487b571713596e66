//! The data plane, from the client's side: connections to workers and the requests on them.

pub(crate) mod connection;
pub(crate) mod fault;
mod pace;
pub(crate) mod part;
pub(crate) mod pool;
pub(crate) mod read;
pub(crate) mod socket;
