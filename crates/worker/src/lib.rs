//! The worker: holds cached bytes and is the only one that moves file data between stores and clients.
//!
//! - The data plane (`data`, `docs/formats/data-plane.md`) answers readers and writers over TCP and a Unix socket.
//! - The read-through engine (`fetch`) gets missing pages: each once however many wait for it, neighbours together, several GETs at a time.
//! - The control plane (`control`) is gRPC: load, free, location. `registration` keeps the masters informed.
//!
//! The hard problem is to do all of it within fixed memory, whatever readers, stores and disks do: every part holds at most a fixed number of
//! bytes ([`Limits`]), and waits for the slower side in place of queueing.
//!
//! Invariants: a worker knows no paths, only tickets. A byte is served only if the store's tag matched the ticket's when it was fetched. A page goes into the cache
//! whole, with checksums made as it arrived. A fetch under way belongs to nobody: readers come and go, the pages are kept.

mod control;
mod data;
mod disk_threads;
mod error;
mod fetch;
mod file;
mod identity;
pub mod metrics;
mod node;
mod peer;
mod registration;
mod settings;
mod status;
mod stores;
mod tickets;
mod view;
mod worker;

pub use error::StartError;
pub use settings::{Limits, Settings};
pub use status::Counted;
pub use stores::{OpenStore, RealStores};
pub use worker::{Addresses, RunningWorker, Worker};
