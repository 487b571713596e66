//! What concurrent clients are told about a few shared directories, with the server killed again and again, has one order that explains it.
//!
//! Some clients work outside of mounts and go away with a server that is killed, so that nobody knows the end of what they had sent; others work
//! in a local directory and stay. `FOREBAY_HISTORY_ROUNDS` sets how many rounds, `FOREBAY_HISTORY_SEED` the seed. `forebay-soak` does it to several
//! masters.

use crate::common::{DEADLINE, broken_off, program};
use anyhow::{Context, Result};
use forebay_client::{Client, ClientConfig, MakeDirectoryOptions, MountSpec};
use forebay_soak::{
    ground::{Ground, Judged, NoOrder, answered},
    model::Input,
};
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use forebay_testkit::wait;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

const ROUNDS_DEFAULT: u64 = 6;
/// Clients in each directory.
const CLIENTS: u64 = 3;
/// A kill comes after at most so many operations of a round.
const OPERATIONS_MAX: u64 = 200;

struct World {
    cluster: Cluster,
    clock: Arc<AtomicU64>,
    random: StdRng,
    _disk: tempfile::TempDir,
}

impl World {
    async fn start(seed: u64) -> Result<World> {
        let tiers = vec![Tier::ssd("cache", "64MiB")];
        let cluster = Cluster::start(Layout { program: Some(program()), tiers, ..Layout::default() }).await?;
        let disk = tempfile::tempdir()?;
        let world = World { cluster, clock: Arc::default(), random: StdRng::seed_from_u64(seed), _disk: disk };
        let admin = world.client().await?;
        let uri = format!("file://{}", world._disk.path().display());
        admin.add_mount("/disk", MountSpec { uri, ..MountSpec::default() }, false).await?;
        for path in ["/plain", "/disk/shared"] {
            admin.make_directory(path, MakeDirectoryOptions::default()).await?;
        }
        Ok(world)
    }

    async fn client(&self) -> Result<Client> {
        Ok(Client::connect(ClientConfig::new([self.cluster.masters()])).await?)
    }

    /// Load, a kill in the middle of it, a restart, and a verdict.
    async fn round(&mut self, grounds: &mut [Arc<Ground>; 2]) -> Result<Judged> {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for (place, ground) in grounds.iter().enumerate() {
            for _ in 0..CLIENTS {
                let (client, seed) = (self.client().await?, self.random.random());
                let (ground, clock) = (Arc::clone(ground), Arc::clone(&self.clock));
                let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
                let task = tokio::spawn(async move {
                    let mut random = StdRng::seed_from_u64(seed);
                    while !stop.load(Ordering::Relaxed) {
                        let serial = done.fetch_add(1, Ordering::Relaxed);
                        answered(ground.step(&client, &clock, Input::draw(&mut random, serial)).await?)?;
                    }
                    anyhow::Ok(())
                });
                clients.push((place == 0, task));
            }
        }
        let enough = self.random.random_range(0..OPERATIONS_MAX);
        let ended = || clients.iter().any(|(_, task)| task.is_finished());
        wait::until("operations to be begun", DEADLINE, || async { done.load(Ordering::Relaxed) >= enough || ended() })
            .await?;
        self.cluster.master().kill()?;
        stop.store(true, Ordering::Relaxed);
        let mut staying = Vec::new();
        for (may_leave, task) in clients {
            match may_leave && self.random.random_bool(0.5) {
                // With nobody there to hear of it, what it had sent comes to nobody later.
                true => {
                    task.abort();
                    broken_off(task.await)?;
                }
                false => staying.push(task),
            }
        }
        self.cluster.master().restart()?;
        self.cluster.master().wait_ready(DEADLINE).await?;
        for task in staying {
            task.await??;
        }
        let observer = self.client().await?;
        let mut all = Judged::default();
        for ground in grounds {
            let judged = Arc::get_mut(ground).context("a client still holds it")?.judge(&observer, &self.clock).await;
            all.add(judged.map_err(in_full)?);
        }
        Ok(all)
    }
}

/// With the history, where that is the reason.
fn in_full(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<NoOrder>() {
        Some(no_order) => anyhow::anyhow!(no_order.in_full()),
        None => error,
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_are_told_has_one_order_that_explains_it() -> Result<()> {
    let seed = setting("FOREBAY_HISTORY_SEED").unwrap_or_else(rand::random);
    let rounds = setting("FOREBAY_HISTORY_ROUNDS").unwrap_or(ROUNDS_DEFAULT);
    let mut world = World::start(seed).await.context("starting")?;
    let mut grounds = ["/plain", "/disk/shared"].map(|path| Arc::new(Ground::new(path)));
    let mut all = Judged::default();
    for round in 0..rounds {
        all.add(world.round(&mut grounds).await.with_context(|| format!("round {round} of seed {seed}"))?);
    }
    let Judged { operations, unknown } = all;
    println!("{rounds} kills, {operations} operations, {unknown} changes without a known end: one order explains them");
    Ok(())
}
