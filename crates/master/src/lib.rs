//! The master: the namespace's services, mounts, the comparison with stores, writes, renames, deletes, the register of workers.

mod admission;
mod backups;
mod core;
mod data_dir;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fault;
#[cfg(not(any(test, feature = "testing")))]
mod fault;
mod follower;
mod freshness;
mod group;
mod inflight;
mod log_clock;
pub mod metrics;
mod mounts;
mod ops;
mod path_locks;
mod registry;
mod restore;
mod running;
mod seat;
mod secrets;
mod service;
mod settings;
mod state;
mod sync;
mod upgrade;

pub use admission::{ClassLimit, Limits};
pub use data_dir::{DataDirError, is_unused, set_aside};
pub use restore::RestoreError;
pub use running::{Master, RunningMaster, StartError};
pub use settings::{BackupSchedule, Group, Log, RestoreFrom, Settings};
