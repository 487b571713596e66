//! What the demo stands up: two stores behind counting proxies, a directory, a server, three mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use forebay_client::{Client, ClientConfig, MountSpec};
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use forebay_testkit::fault::{Link, Proxy};
use forebay_testkit::s3::{Options, S3Server, Versitygw};
use futures::{StreamExt, TryStreamExt, stream};
use tempfile::TempDir;

use crate::dataset::{Dataset, Expected};
use crate::{images, logs, trips};

/// The region that is far away.
const FAR: Link = Link { latency: Duration::from_millis(40), bytes_per_second: Some(50_000_000) };

/// Uploads under way at once.
const UPLOADS: usize = 8;

const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// One mount: where its bytes come from, and what they must be.
pub(crate) struct Source {
    /// In the tree.
    pub(crate) mount: &'static str,
    /// For people.
    pub(crate) place: &'static str,
    /// Every file below it.
    pub(crate) files: Vec<Expected>,
    /// Counts what is fetched; a local directory has none.
    pub(crate) proxy: Option<Proxy>,
    /// Ends with the demo.
    _server: Option<S3Server>,
}

/// All of it; everything ends when it is dropped.
pub(crate) struct World {
    client: Client,
    cluster: Cluster,
    sources: Vec<Source>,
    _logs: TempDir,
}

impl World {
    /// Generates, starts, mounts.
    pub(crate) async fn build() -> Result<Self> {
        println!("starting two S3 servers; one is far away: {} ms, {} MB/s", FAR.latency.as_millis(), 50);
        let near = Versitygw::start().await?;
        let far = Versitygw::start_with(&Options { region: "eu-west-1".to_owned(), ..Options::default() }).await?;
        println!("filling them: 2,000 images near, 4 Parquet files far; 192 logs in a directory");
        let images = fill(&near, "images", &images::dataset()).await?;
        let trips = fill(&far, "warehouse", &trips::dataset()).await?;
        let logs_dir = tempfile::Builder::new().prefix("forebay-demo-").tempdir()?;
        let logs = write_files(logs_dir.path(), &logs::dataset())?;
        let near_proxy = Proxy::start(near.endpoint()).await?;
        let far_proxy = Proxy::start(far.endpoint()).await?;
        far_proxy.set_link(FAR);

        println!("starting forebay server");
        let cluster = Cluster::start(Layout { tiers: vec![Tier::ssd("cache", "2GiB")], ..Layout::default() }).await?;
        let client = Client::connect(ClientConfig::new(cluster.masters().split(','))).await.context("connecting")?;
        println!("mounting the stores and the directory into one tree");
        mount(&client, "/images", s3_spec(&near, &near_proxy, "s3://images")).await?;
        mount(&client, "/warehouse", s3_spec(&far, &far_proxy, "s3://warehouse")).await?;
        let uri = format!("file://{}", logs_dir.path().display());
        mount(&client, "/logs", MountSpec { uri, read_only: true, ..MountSpec::default() }).await?;
        let sources = vec![
            Source::new("/warehouse", "far store", trips, Some((far, far_proxy))),
            Source::new("/images", "near store", images, Some((near, near_proxy))),
            Source::new("/logs", "directory", logs, None),
        ];
        Ok(Self { client, cluster, sources, _logs: logs_dir })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Where commands find the server.
    pub(crate) fn masters(&self) -> String {
        self.cluster.masters()
    }

    /// The program that serves.
    pub(crate) fn program(&self) -> &Path {
        self.cluster.program()
    }

    /// Stops the server as an operator would, and fails if it does not stop cleanly.
    pub(crate) async fn stop(self) -> Result<()> {
        let Self { client, mut cluster, .. } = self;
        // The server waits for its clients to finish, and we are one.
        drop(client);
        let status = cluster.master().terminate(STOP_DEADLINE).await?;
        anyhow::ensure!(status.success(), "the server did not stop cleanly: {status}");
        Ok(())
    }
}

impl Source {
    fn new(mount: &'static str, place: &'static str, files: Vec<Expected>, store: Option<(S3Server, Proxy)>) -> Self {
        let (server, proxy) = store.unzip();
        Self { mount, place, files, proxy, _server: server }
    }
}

async fn fill(server: &S3Server, bucket: &str, dataset: &Dataset) -> Result<Vec<Expected>> {
    server.create_bucket(bucket).await?;
    let uploads = stream::iter(0..dataset.count).map(|index| async move {
        let (expected, bytes) = dataset.object(index);
        server.client().put(bucket, &expected.key, bytes).await?;
        anyhow::Ok(expected)
    });
    uploads.buffered(UPLOADS).try_collect().await
}

fn write_files(dir: &Path, dataset: &Dataset) -> Result<Vec<Expected>> {
    let write = |index| {
        let (expected, bytes) = dataset.object(index);
        let path: PathBuf = dir.join(&expected.key);
        std::fs::create_dir_all(path.parent().context("a key has a directory")?)?;
        std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        Ok(expected)
    };
    (0..dataset.count).map(write).collect()
}

fn s3_spec(server: &S3Server, proxy: &Proxy, uri: &str) -> MountSpec {
    let access = proxy.access(server.access());
    let owned = |pairs: [(&str, String); 2]| BTreeMap::from(pairs.map(|(name, value)| (name.to_owned(), value)));
    MountSpec {
        uri: uri.to_owned(),
        read_only: true,
        sync_interval: String::new(),
        options: owned([("endpoint", access.endpoint), ("region", access.region)]),
        secrets: owned([("access_key_id", access.access_key), ("secret_access_key", access.secret_key)]),
    }
}

async fn mount(client: &Client, path: &str, spec: MountSpec) -> Result<()> {
    client.add_mount(path, spec, false).await.with_context(|| format!("mounting {path}"))?;
    Ok(())
}
