//! The toolbox: `cargo xtask setup|test|lint|bench|demo|env`.

mod cache;
mod cargo;
mod rocksdb;

use anyhow::Result;

fn main() -> Result<()> {
    rocksdb::build()
}
