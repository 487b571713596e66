//! Reading cached files of a worker on this host through their descriptors (`docs/formats/page-store.md`).
//!
//! The worker hands out the data file and the checksum file of a cached file version over its Unix socket, and for as long as that connection
//! lives ([`link::Link`]) it changes no byte that was valid once. So a chunk is checked once ([`file::LocalFile`]), and later reads
//! of it are one `pread`. What is not cached there is asked for with `LocalFill`, or read over the network like any other.
//! Descriptors are kept for files that are read often, in a bounded number ([`registry::Registry`]).

pub(crate) mod file;
pub(crate) mod link;
pub(crate) mod links;
pub(crate) mod registry;
pub(crate) mod threads;
