//! The limits: what this machine does with the same bytes and nothing of ours in between.
//!
//! Each function measures for about as long as it is told, so that a benchmark can take its limit next to its own figure.

mod disk;
mod wire;

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

pub use disk::{pread_random, pread_sequential, sync_rate};
pub use wire::{random_over_loopback, sendfile_loopback};

use crate::Setting;
use crate::report::{Better, Limit, Report};

/// MB are decimal, as disks and networks count.
pub const MB: f64 = 1e6;

/// Larger than the CPU's caches, small enough to stay in the page cache.
const FILE_BYTES: usize = 256 << 20;

/// Runs all of them; the figure is its own limit.
pub async fn run(setting: Setting) -> Result<Report> {
    let each = setting.pick(Duration::from_secs(5), Duration::from_secs(1));
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("file");
    tokio::task::spawn_blocking(move || measure(&file, each)).await?
}

fn measure(file: &Path, each: Duration) -> Result<Report> {
    std::fs::write(file, forebay_testkit::data::Seeded::new(1).bytes(0..FILE_BYTES as u64))?;
    let mut report = Report::default();
    let mut add = |name: &str, value: f64, unit| {
        report.row(name, (value, unit), Better::Higher, Limit::new("itself", value), None);
    };
    add("sendfile over loopback, 1 stream", sendfile_loopback(file, 1, each)? / MB, "MB/s");
    add("sendfile over loopback, 8 streams", sendfile_loopback(file, 8, each)? / MB, "MB/s");
    add("pread of the page cache, 1 MiB sequential", pread_sequential(file, 1 << 20, each)? / MB, "MB/s");
    add("pread of the page cache, 4 KiB random", pread_random(file, 4096, each)?, "reads/s");
    add("write 512 bytes and fdatasync", sync_rate(file.with_extension("log").as_path(), 512, each)?, "syncs/s");
    Ok(report)
}
