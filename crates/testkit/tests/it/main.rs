//! The suites of the test kit, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod fault_proxy;
mod lossy_fs;
mod s3_servers;
