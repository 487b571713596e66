//! The master: the namespace's services, mounts, the comparison with stores, writes, renames, deletes, the register of workers.

mod admission;
mod core;
mod data_dir;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fault;
#[cfg(not(any(test, feature = "testing")))]
mod fault;
mod freshness;
mod inflight;
mod log_clock;
pub mod metrics;
mod mounts;
mod ops;
mod path_locks;
mod registry;
mod running;
mod secrets;
mod service;
mod settings;
mod state;
mod sync;

pub use admission::{ClassLimit, Limits};
pub use data_dir::DataDirError;
pub use running::{Master, RunningMaster, StartError};
pub use settings::Settings;
