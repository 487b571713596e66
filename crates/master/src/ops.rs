//! What the services do, one file for each operation.

pub(crate) mod attributes;
pub(crate) mod complete;
pub(crate) mod content_summary;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod direct;
pub(crate) mod directory;
pub(crate) mod entry;
pub(crate) mod lanes;
pub(crate) mod list;
pub(crate) mod mount;
pub(crate) mod open;
pub(crate) mod purge;
pub(crate) mod rename;
pub(crate) mod store_walk;
pub(crate) mod tickets;
pub(crate) mod tree;
pub(crate) mod uploads;
pub(crate) mod wait;
