//! The vocabulary of Forebay: ids, paths, byte sizes, durations, time and error kinds.
//!
//! Every other crate speaks in these types. Nothing here does I/O except [`clock::SystemClock`], [`data_dir`] and [`file_lock`].

pub mod bytesize;
pub mod checksum;
pub mod clock;
pub mod data_dir;
pub mod error;
pub mod file_lock;
pub mod human_duration;
pub mod id;
pub mod path;
#[cfg(test)]
mod test_dir;
pub mod version;
pub mod version_range;

pub use bytesize::ByteSize;
pub use clock::{Clock, SystemClock, TimestampMs};
pub use error::ErrorKind;
pub use file_lock::{FileLock, LockError};
pub use human_duration::HumanDuration;
pub use id::{BlockId, BlockIndex, ClientId, FileId, InodeId, MountId, PageIndex, RequestId, WorkerId};
pub use path::{Name, NsPath, PathError};
pub use version::VersionTag;
pub use version_range::VersionRange;
