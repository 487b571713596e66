//! The pages of a worker: after a power cut each one is right, or is fetched again.

use super::{rounds, seed};
use crate::common::{DEADLINE, program, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, ClientConfig, MountSpec};
use forebay_testkit::{
    cluster::{Cluster, Layout, Tier},
    data::Seeded,
    lossy_fs::LossyFs,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{sync::Arc, time::Duration};

const ROUNDS_DEFAULT: u64 = 6;
const MORE_ROUNDS_MAX: u64 = 20;
const FILES: u64 = 6;
/// Some pages and a part of one.
const LENGTH: u64 = (3 << 20) + 4321;
/// Less than all files: extents are let go and punched out.
const QUOTA: &str = "12MiB";
const READERS: u64 = 3;

/// The files as their store has them.
struct Lake {
    cluster: Cluster,
    lossy: LossyFs,
    files: Vec<(String, Seeded)>,
    _store: tempfile::TempDir,
}

impl Lake {
    async fn start() -> Result<Lake> {
        let (lossy, store) = (LossyFs::mount()?, tempfile::tempdir()?);
        let layout = Layout {
            program: Some(lossy.program(&program())?),
            data_in: Some(lossy.point()),
            tiers: vec![Tier::ssd("cache", QUOTA)],
            ..Layout::default()
        };
        let cluster = Cluster::start(layout).await?;
        let mut files = Vec::new();
        for index in 0..FILES {
            let seeded = write_seeded(&store.path().join(index.to_string()), LENGTH)?;
            files.push((format!("/lake/{index}"), seeded));
        }
        let spec = MountSpec { uri: format!("file://{}", store.path().display()), ..MountSpec::default() };
        connect(&cluster, true).await?.add_mount("/lake", spec, false).await?;
        Ok(Lake { cluster, lossy, files, _store: store })
    }

    /// Readers, a kill in the middle, a power cut, and each byte of each file. Returns how many bytes were cached after the power cut.
    async fn round(&mut self, random: &mut StdRng) -> Result<u64> {
        let mut readers = Vec::new();
        for index in 0..READERS {
            let client = Arc::new(connect(&self.cluster, index != 0).await?);
            let (files, seed) = (self.files.clone(), random.random());
            readers.push(tokio::spawn(async move { read_on(&client, &files, seed).await }));
        }
        let moment = Duration::from_millis(random.random_range(20..600));
        tokio::time::sleep(moment).await;
        self.cluster.master().kill()?;
        for reader in readers {
            reader.abort();
            if let Ok(outcome) = reader.await {
                outcome.context("a reader before the power cut")?;
            }
        }
        let lost = self.lossy.power_cut(random.random())?;
        self.cluster.master().restart()?;
        self.cluster.master().wait_ready(DEADLINE).await?;
        let cached = self.cached().await?;
        println!("{lost:?}, {cached} bytes are cached after it");
        let client = connect(&self.cluster, random.random_bool(0.5)).await?;
        for (path, seeded) in &self.files {
            read(&client, path, *seeded, 0, LENGTH).await?;
        }
        Ok(cached)
    }

    async fn cached(&self) -> Result<u64> {
        let mut sum = 0;
        for (path, _) in &self.files {
            let told = self.cluster.cli_ok(&["fs", "location", "--json", path]).await?;
            let told: serde_json::Value = serde_json::from_str(told.lines().next().unwrap_or_default())?;
            let workers = told["workers"].as_array().cloned().unwrap_or_default();
            let ranges = workers.iter().flat_map(|worker| worker["ranges"].as_array().cloned().unwrap_or_default());
            sum += ranges.filter_map(|range| range["length"].as_u64()).sum::<u64>();
        }
        Ok(sum)
    }
}

async fn connect(cluster: &Cluster, same_host: bool) -> Result<Client> {
    Ok(Client::connect(ClientConfig { same_host, ..ClientConfig::new([cluster.masters()]) }).await?)
}

/// Reads ranges until it is told no more.
async fn read_on(client: &Client, files: &[(String, Seeded)], seed: u64) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let (path, seeded) = &files[random.random_range(0..files.len())];
        let offset = random.random_range(0..LENGTH);
        read(client, path, *seeded, offset, random.random_range(1..1 << 20)).await?;
    }
}

async fn read(client: &Client, path: &str, seeded: Seeded, offset: u64, length: u64) -> Result<()> {
    let file = client.open(path).await?;
    ensure!(file.len() == LENGTH, "{path} has {} bytes", file.len());
    let length = length.min(LENGTH - offset) as usize;
    let bytes = file.read_at(offset, length).await.with_context(|| format!("reading {path}"))?;
    ensure!(bytes.len() == length, "{path}: {} bytes of {length}", bytes.len());
    seeded.check(offset, &bytes).with_context(|| path.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_right_or_missing_after_a_power_cut() -> Result<()> {
    let (seed, rounds) = (seed(), rounds(ROUNDS_DEFAULT));
    let mut random = StdRng::seed_from_u64(seed);
    let mut lake = Lake::start().await?;
    let mut cached = 0;
    // By chance each of them may leave nothing: then some more.
    for round in 0..rounds + MORE_ROUNDS_MAX {
        if round >= rounds && cached > 0 {
            break;
        }
        cached += lake.round(&mut random).await.with_context(|| format!("round {round} of seed {seed}"))?;
    }
    ensure!(cached > 0, "nothing that was cached survived any power cut: that tests nothing");
    Ok(())
}
