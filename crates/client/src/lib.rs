//! The client of Forebay: what programs and doors use to reach the tree.
//!
//! A [`Client`] asks the masters about paths, computes which worker has a block, and reads and writes there. It holds no
//! store credentials and caches no metadata, so what it says is what the masters say now.
//!
//! ```no_run
//! use forebay_client::{Client, ClientConfig, CreateOptions};
//! use futures::TryStreamExt;
//!
//! # async fn example() -> forebay_client::Result<()> {
//! let client = Client::connect(ClientConfig::new(["127.0.0.1:7400"])).await?;
//!
//! let mut entries = client.list("/lake")?;
//! while let Some(entry) = entries.try_next().await? {
//!     println!("{} {}", entry.path, entry.length);
//! }
//!
//! let file = client.open("/lake/t/part-0.parquet").await?;
//! let footer = file.read_at(file.len().saturating_sub(8), 8).await?;
//! println!("{} bytes, ends with {footer:?}", file.len());
//!
//! let mut writer = client.create("/lake/t/_SUCCESS", CreateOptions::default()).await?;
//! writer.write("done\n").await?;
//! writer.close().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Deadlines, retries, memory
//! Each call ends by a deadline of [`Deadlines`]. Within it the client tries again what failed for now, with jitter: reads
//! always, changes because each carries an id by which the masters know a repetition. A restart of a master or the loss of a
//! worker is thus no error, only a pause. What no worker serves is read from its store itself, where the mount allows it. Buffers of streams and writers share one bound, [`ClientConfig::buffer_memory`].
//!
//! # Errors
//! All calls fail with [`Error`]; its [`ErrorKind`] says what the caller can do.

pub mod config;
pub mod error;
pub mod metrics;
pub mod types;

mod bounds;
mod buffers;
mod client;
mod data;
mod direct;
mod file;
mod list;
mod local;
mod look;
mod path;
mod request_ids;
mod rpc;
mod waits;
mod workers;
mod writer;

pub use client::Client;
pub use client::cached::LoadStream;
pub use config::{ClientConfig, Deadlines};
pub use error::{Error, Result};
pub use file::{File, FileReader, ReadStream};
pub use forebay_base::{ErrorKind, Name, NsPath};
pub use list::ListStream;
pub use path::ToPath;
pub use types::{
    AddedMount, AttributeChanges, BackupMade, BackupProgress, BackupStatus, BackupTarget, CachedRange, ClusterStatus,
    ContentSummary, CreateOptions, DeleteOptions, Entry, EntryKind, ListOptions, LoadProgress, Location,
    MakeDirectoryOptions, MasterAnswer, MasterGroup, MasterMember, MasterSeen, MasterSnapshot, MasterStatus,
    MastersSeen, Mount, MountChanges, MountSpec, OpenOptions, ReadType, RenameOptions, StatOptions, SyncMode,
    TierStatus, WorkerInfo, WorkerStatus, WriteType, Xattr,
};
pub use waits::{OnWait, Wait};
pub use writer::Writer;
