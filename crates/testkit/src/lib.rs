//! What tests, demo and benches need around Forebay: real S3 servers, a proxy that injects faults and counts, clusters of
//! `forebay` processes, and data that can be made again from its seed.
//!
//! Everything started here ends with the value that stands for it, on a panic too, and with this process however it
//! dies. Ports come from the kernel, directories are temporary.

pub mod cluster;
pub mod data;
pub mod fault;
pub mod port;
pub mod process;
pub mod s3;
pub mod wait;
