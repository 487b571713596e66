//! A server without data starts, and the power is cut, or it is killed, at any of its first changes of the disk.

use super::{rounds, seed};
use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    cluster::{Cluster, Layout},
    lossy_fs::LossyFs,
    wait,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const ROUNDS_DEFAULT: u64 = 8;

/// What it takes to start depends on the machine a little; all that comes later is an end like others.
struct Fresh {
    cluster: Cluster,
    lossy: LossyFs,
    /// Changes of the disk until it serves.
    changes: u64,
}

impl Fresh {
    async fn start() -> Result<Fresh> {
        let lossy = LossyFs::mount()?;
        let layout =
            Layout { program: Some(lossy.program(&program())?), data_in: Some(lossy.point()), ..Layout::default() };
        let cluster = Cluster::start(layout).await?;
        let changes = lossy.changes()?;
        Ok(Fresh { cluster, lossy, changes })
    }

    /// Takes its data away, for good.
    fn wipe(&mut self) -> Result<()> {
        self.cluster.master().kill()?;
        for entry in std::fs::read_dir(self.lossy.path())? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        std::fs::File::open(self.lossy.path())?.sync_all()?;
        self.lossy.lose_all_unsynced().map(drop)
    }

    async fn restart(&mut self) -> Result<()> {
        self.cluster.master().restart()?;
        self.cluster.master().wait_ready(DEADLINE).await
    }

    /// Its first start comes so far, and ends with the power or alone; the next one is to serve, and to keep what it acknowledges.
    async fn round(&mut self, changes: u64, cut: Option<u64>) -> Result<()> {
        self.wipe()?;
        match cut {
            Some(cut) => {
                self.lossy.unplug_after(changes)?;
                self.cluster.master().restart()?;
                wait::until("the disk to go", DEADLINE, || async { self.lossy.is_unplugged().unwrap_or(true) }).await?;
                self.cluster.master().kill()?;
                self.lossy.power_cut(cut)?;
            }
            None => {
                let end = self.lossy.changes()? + changes;
                self.cluster.master().restart()?;
                wait::until("the kill", DEADLINE, || async { self.lossy.changes().is_ok_and(|now| now >= end) })
                    .await?;
                self.cluster.master().kill()?;
            }
        }
        self.restart().await.context("the start after that")?;
        self.cluster.cli_ok(&["fs", "mkdir", "/kept"]).await?;
        self.cluster.master().kill()?;
        self.lossy.lose_all_unsynced()?;
        self.restart().await.context("the start after the second power cut")?;
        let listed = self.cluster.cli_ok(&["fs", "ls", "/"]).await?;
        ensure!(listed.contains("kept"), "an acknowledged directory is lost; there is {listed:?}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_a_power_cut_ends_anywhere_is_no_harm() -> Result<()> {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fresh = Fresh::start().await?;
    println!("{} changes of the disk until it serves", fresh.changes);
    for round in 0..rounds(ROUNDS_DEFAULT) {
        let changes = random.random_range(0..fresh.changes);
        // What a process left unsynced that was killed alone is the next one's to sync.
        let cut = (round % 2 == 0).then(|| random.random());
        let done = fresh.round(changes, cut).await;
        done.with_context(|| format!("round {round} of seed {seed}: an end after {changes} changes, {cut:?}"))?;
    }
    Ok(())
}
