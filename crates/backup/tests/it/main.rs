//! Backups against the stores themselves: what is sent, kept and swept while others do the same.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod newer;
mod sending;
mod sweeping;
