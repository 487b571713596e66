//! The suites of the state machine, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod fixture;
mod format;
mod model;
mod mounts;
mod readers;
mod restored;
mod sessions;
mod sync;
mod tree;
mod versions;
