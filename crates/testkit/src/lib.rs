//! What tests, demo and benches need around Forebay: real S3 servers, a proxy that injects faults and counts, clusters of
//! `forebay` processes, and data that can be made again from its seed.
//!
//! Everything started here ends with the value that stands for it, on a panic too, and with this process however it
//! dies. Ports are shared with nobody, directories are temporary.
//!
//! ```no_run
//! use forebay_testkit::{cluster::Cluster, data::Seeded, fault::{Fault, Proxy, When}, s3::Versitygw};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let store = Versitygw::start().await?;
//! store.create_bucket("lake").await?;
//! store.client().put("lake", "big", Seeded::named("big").bytes(0..10_000_000)).await?;
//! let proxy = Proxy::start(store.endpoint()).await?;
//!
//! let cluster = Cluster::embedded().await?;
//! let endpoint = proxy.endpoint();
//! cluster.cli_ok(&["mount", "add", "/lake", "s3://lake", "--endpoint", &endpoint]).await?;
//! proxy.inject(When::get().nth(2), Fault::CutBody(1_000));
//! let read = cluster.cli(&["fs", "cat", "/lake/big"]).await?.stdout;
//! Seeded::named("big").check(0, &read)?;
//! assert!(proxy.totals().asked < 11_000_000);
//! # Ok(())
//! # }
//! ```

pub mod cluster;
pub mod data;
pub mod fault;
pub mod linearize;
pub mod lossy_fs;
pub mod network;
pub mod port;
pub mod process;
pub mod s3;
pub mod scratch;
pub mod wait;
