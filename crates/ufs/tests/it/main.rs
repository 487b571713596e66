//! The suites of the stores, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod conformance;
mod documents;
mod local;
mod s3_check;
mod s3_faults;
mod s3_grants;
mod s3_servers;
