//! A Forebay of processes with something mounted at `/lake`.

use anyhow::Result;
use forebay_client::{Client, ClientConfig, MountSpec};
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use forebay_testkit::s3::Access;
use std::collections::BTreeMap;

/// Which clients are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// As from another host: over TCP.
    Tcp,
    /// Descriptors of the cached files.
    SameHost,
}

/// A master and a worker, each a process of its own, with a cache that holds everything.
pub(crate) async fn start(environment: Vec<(String, String)>) -> Result<Cluster> {
    let tiers = vec![Tier::ssd("cache", "8GiB")];
    Cluster::start(Layout { workers: 1, tiers, environment, ..Layout::default() }).await
}

/// A client of the cluster.
pub(crate) async fn client(cluster: &Cluster, reach: Reach) -> Result<Client> {
    let config =
        ClientConfig { same_host: reach == Reach::SameHost, ..ClientConfig::new(cluster.masters().split(',')) };
    Ok(Client::connect(config).await?)
}

/// Mounts a directory of this machine at `/lake`; its metadata is read once.
pub(crate) async fn mount_directory(client: &Client, directory: &std::path::Path) -> Result<()> {
    mount_directory_at(client, "/lake", directory).await
}

/// Mounts a directory of this machine, which may be mounted elsewhere too; its metadata is read once.
pub(crate) async fn mount_directory_at(client: &Client, path: &str, directory: &std::path::Path) -> Result<()> {
    mount(client, path, format!("file://{}", directory.display()), BTreeMap::new()).await
}

/// Mounts a bucket at `/lake`; its metadata is read once. The servers have the credentials in their environment.
pub(crate) async fn mount_bucket(client: &Client, bucket: &str, endpoint: &str) -> Result<()> {
    let options = [("endpoint", endpoint), ("region", "us-east-1")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    mount(client, "/lake", format!("s3://{bucket}"), BTreeMap::from(options)).await
}

async fn mount(client: &Client, path: &str, uri: String, options: BTreeMap<String, String>) -> Result<()> {
    let spec = MountSpec { uri, options, sync_interval: "never".to_owned(), ..MountSpec::default() };
    client.add_mount(path, spec, false).await?;
    Ok(())
}

/// The variables by which servers get the store's credentials.
pub(crate) fn credentials(access: &Access) -> Vec<(String, String)> {
    access.environment().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
