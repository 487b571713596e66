//! The cluster under test, its clients, and their places.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context, Result};
use forebay_client::{Client, MakeDirectoryOptions, MountSpec};
use forebay_testkit::cluster::{Cluster, Layout, Node, Tier};
use forebay_testkit::network::Network;
use tempfile::TempDir;

use crate::faults::MASTERS;
use crate::ground::Ground;
use crate::kept::{Keeper, Kind};
use crate::load::{Fighter, Patience};
use crate::onlooker::Onlooker;

/// Directories that clients fight over: two of the masters' alone, and one of a store, if it is wanted.
const GROUNDS: [&str; 2] = ["/plain", "/other"];
const GROUND_IN_STORE: &str = "/disk/shared";
const FIGHTERS: [Patience; 4] = [Patience::Patient, Patience::Patient, Patience::Patient, Patience::Impatient];
const WORKERS: usize = 1;

/// Hosts of the network.
pub const HOSTS: usize = MASTERS + WORKERS;

/// What clients do in the store, besides adding files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Nothing.
    Quiet,
    /// They fight over names there, too.
    Fought,
}

/// Everything that lives from round to round.
#[derive(Debug)]
pub struct World {
    /// Three masters and a worker.
    pub cluster: Cluster,
    /// Between them.
    pub network: Arc<Network>,
    /// Orders calls and answers.
    pub clock: Arc<AtomicU64>,
    /// What clients fight over.
    pub grounds: Vec<Arc<Ground>>,
    /// Who fights.
    pub fighters: Vec<Fighter>,
    /// Who looks, at each ground through each master.
    pub onlookers: Vec<Onlooker>,
    /// Who adds; away while a round runs.
    pub keepers: Vec<Keeper>,
    /// For looks at what is not broken.
    pub observer: Client,
    /// The store. Removed after the processes have ended: fields drop in this order.
    _disk: TempDir,
}

impl World {
    /// Starts everything.
    pub async fn start(network: Network, store: Store) -> Result<World> {
        let network = Arc::new(network);
        let cluster = Cluster::start(Layout {
            masters: MASTERS,
            workers: WORKERS,
            tiers: vec![Tier::ssd("cache", "64MiB")],
            own_clocks: true,
            network: Some(Arc::clone(&network)),
            ..Layout::default()
        });
        let cluster = cluster.await.context("starting the cluster")?;
        let masters = cluster.masters();
        let observer = Patience::Patient.client(&masters).await?;
        let disk = mount(&observer).await?;
        let mut grounds = Vec::new();
        let mut fighters = Vec::new();
        let mut onlookers = Vec::new();
        let in_store = (store == Store::Fought).then_some(GROUND_IN_STORE);
        for (ground, path) in GROUNDS.into_iter().chain(in_store).enumerate() {
            observer.make_directory(path, MakeDirectoryOptions::default()).await?;
            grounds.push(Arc::new(Ground::new(path)));
            for patience in FIGHTERS {
                fighters.push(Fighter { client: patience.client(&masters).await?, patience, ground });
            }
            for master in masters.split(',') {
                onlookers.push(Onlooker::new(master, ground)?);
            }
        }
        let directories = Keeper::start(Patience::Patient.client(&masters).await?, "/kept", Kind::Directories).await?;
        let files = Keeper::start(observer.clone(), "/disk/kept", Kind::Files).await?;
        let keepers = vec![directories, files];
        Ok(World {
            cluster,
            network,
            clock: Arc::default(),
            grounds,
            fighters,
            onlookers,
            keepers,
            observer,
            _disk: disk,
        })
    }

    /// The processes, masters before workers.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.cluster.nodes()
    }
}

/// A directory of this machine, which nobody else changes.
async fn mount(admin: &Client) -> Result<TempDir> {
    let disk = tempfile::Builder::new().prefix("forebay-soak-").tempdir()?;
    let uri = format!("file://{}", disk.path().display());
    admin.add_mount("/disk", MountSpec { uri, ..MountSpec::default() }, false).await?;
    Ok(disk)
}
