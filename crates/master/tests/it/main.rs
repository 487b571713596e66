//! The suites of the master, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod deletes;
mod direct;
mod followers;
mod leads;
mod listings;
mod mounts;
mod others;
mod pipeline;
mod repeats;
mod s3;
mod support;
mod sync;
mod writes;
