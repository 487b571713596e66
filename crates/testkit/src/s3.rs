//! Real S3 servers for tests: versitygw (the default), MinIO (the second opinion), moto (every odd key).
//!
//! Each instance has its own port, data directory and secret, so that tests never meet. `cargo xtask setup` installs
//! the programs; a test that misses one fails and says so.

mod client;
mod minio;
mod moto;
mod server;
mod versitygw;

pub use client::{Access, Client, Object, Upload};
pub use minio::Minio;
pub use moto::Moto;
pub use server::S3Server;
pub use versitygw::{Options, Versitygw};
