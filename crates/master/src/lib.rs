//! The master: the namespace's services, mounts, the comparison with stores, writes, renames, deletes, the register of workers.

pub mod admission;
pub mod data_dir;
pub mod freshness;
pub mod inflight;
pub mod metrics;
pub mod path_locks;
pub mod registry;
pub mod secrets;
pub mod settings;
mod sync;
