//! The suites of the program, as one program: linked once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

mod backup;
mod cluster_clocks;
mod cluster_direct;
mod cluster_faults;
mod cluster_kills;
mod command_line;
mod common;
mod copies;
mod debug;
mod documents;
mod embedded_default;
mod endings;
mod follower_reads;
mod hit_ratio;
mod interrupted;
mod large_directories;
mod linearizable;
mod master_kills;
mod masters;
mod moves;
mod power_cuts;
mod server_process;
mod store_refusals;
mod upgrade;
