//! Three masters as processes: leaders are killed under writers, masters come and go, and nothing that was acknowledged is lost.

mod changes;
mod deaths;
mod leads;
mod minority;
mod told;

use crate::common::{DEADLINE, program};
use anyhow::{Context, Result};
use forebay_client::{Client, ClientConfig, Deadlines};
use forebay_testkit::cluster::{Cluster, Layout};
use serde_json::Value;

async fn start(masters: usize, workers: usize) -> Result<Cluster> {
    start_with(masters, workers, "").await
}

async fn start_with(masters: usize, workers: usize, extra_toml: &str) -> Result<Cluster> {
    let extra_toml = extra_toml.to_owned();
    Cluster::start(Layout { program: Some(program()), masters, workers, extra_toml, ..Layout::default() }).await
}

async fn client(cluster: &Cluster) -> Result<Client> {
    client_of(&cluster.masters()).await
}

/// A client that knows these masters.
async fn client_of(masters: &str) -> Result<Client> {
    let deadlines = Deadlines { connect: DEADLINE, metadata: DEADLINE, write: DEADLINE, ..Deadlines::default() };
    Ok(Client::connect(ClientConfig { deadlines, ..ClientConfig::new(masters.split(',')) }).await?)
}

/// The number of the master that leads.
async fn leader(cluster: &Cluster) -> Result<usize> {
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["masters", "list", "--json"]).await?)?;
    let masters = listed["masters"].as_array().context("a list of masters")?;
    let leader = masters.iter().find(|master| master["leader"] == true).context("one leads")?;
    let address = leader["address"].as_str().context("an address")?;
    let all = cluster.masters();
    all.split(',').position(|master| master == address).with_context(|| format!("{address} is not one of {all}"))
}

/// A store of this machine at `/lake`, which nobody else changes.
async fn mount(cluster: &Cluster) -> Result<tempfile::TempDir> {
    let store = tempfile::tempdir()?;
    let uri = format!("file://{}", store.path().display());
    cluster.cli_ok(&["mount", "add", "/lake", &uri, "--sync-interval", "never"]).await?;
    Ok(store)
}
