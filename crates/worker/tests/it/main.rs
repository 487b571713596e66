//! The suites of the worker, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod common;
mod disks;
mod lifecycle;
mod local;
mod peers;
mod read;
mod write;
