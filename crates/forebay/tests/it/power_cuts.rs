//! Power cuts of a server: its data lies on a file system that loses what was not synced, in any part, as follows from a seed. What was
//! acknowledged is there afterwards, nothing is that cannot be, and it starts without help.
//!
//! `FOREBAY_POWER_CUT_ROUNDS` sets how many rounds, `FOREBAY_POWER_CUT_SEED` the seed of the first; a failure names it. Where the kills strike is the
//! machine's matter, what is lost then is the seed's.

mod pages;
mod start;

use crate::master_kills::{World, live, setting};
use anyhow::{Context, Result, ensure};
use forebay_testkit::lossy_fs::LossyFs;
use std::path::Path;

const ROUNDS_DEFAULT: u64 = 12;

fn rounds(default: u64) -> u64 {
    setting("FOREBAY_POWER_CUT_ROUNDS").unwrap_or(default)
}

fn seed() -> u64 {
    let seed = setting("FOREBAY_POWER_CUT_SEED").unwrap_or_else(rand::random);
    println!("seed {seed}");
    seed
}

/// Everything happens often: new segments of the log, flushes of the state, purges.
const SMALL_LOG: &str = "master.log_segment = \"8KiB\"\nmaster.log_flush = \"24KiB\"\nmaster.log_keep = 20\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_by_power_cuts_under_load() -> Result<()> {
    let seed = seed();
    let world = World::on(LossyFs::mount()?, seed, SMALL_LOG).await.context("starting")?;
    let (rounds, log, state) =
        (rounds(ROUNDS_DEFAULT), world.below("data/master/log")?, world.below("data/master/state/1")?);
    Box::pin(live(world, rounds, seed, || {
        let has = |names: &[String], wanted: fn(&str) -> bool| names.iter().any(|name| wanted(name));
        let (log, state) = (names(&log)?, names(&state)?);
        ensure!(rounds < 10 || !has(&log, |name| name == "00000000000000000000.log"), "nothing was purged: {log:?}");
        ensure!(rounds < 10 || has(&state, |name| name.ends_with(".sst")), "the state was never flushed: {state:?}");
        Ok(())
    }))
    .await
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(directory).with_context(|| format!("listing {}", directory.display()))?;
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
