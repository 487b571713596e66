//! What all S3 servers share: finding the program, a free port, a secret, waiting for the first answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use tempfile::TempDir;

use super::{Access, Client};
use crate::port::Port;
use crate::process::Process;
use crate::wait;

/// A busy machine starts a Python server slowly.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// A program that is no test of ours may take the port before the server binds it: then try another.
const ATTEMPTS_MAX: usize = 5;

/// A running S3 server with its own data, port and credentials; ends when dropped.
#[derive(Debug)]
pub struct S3Server {
    process: Process,
    client: Client,
    data: PathBuf,
    _port: Port,
    /// Removed after the process has ended: fields drop in this order.
    _dir: TempDir,
}

impl S3Server {
    /// Where it is and how to be let in.
    pub fn access(&self) -> &Access {
        self.client.access()
    }

    /// A client for it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> &str {
        &self.access().endpoint
    }

    /// The directory that holds its objects, to look at or to change behind its back.
    pub fn data_dir(&self) -> &Path {
        &self.data
    }

    /// The process, to stop, kill or read the log of.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Makes a bucket.
    pub async fn create_bucket(&self, bucket: &str) -> Result<()> {
        self.client.create_bucket(bucket).await
    }

    /// Starts what `command` describes for a data directory and a port, and waits for its first good answer.
    pub(super) async fn start(
        name: &str,
        region: &str,
        command: impl Fn(&Instance<'_>) -> Result<Command>,
    ) -> Result<Self> {
        let dir =
            tempfile::Builder::new().prefix("forebay-s3-").tempdir().context("making a directory for a server")?;
        let data = dir.path().join("data");
        std::fs::create_dir(&data)?;
        for _ in 0..ATTEMPTS_MAX {
            let port = Port::reserve()?;
            let access = Access {
                endpoint: format!("http://{}", port.address()),
                access_key: "forebay".to_owned(),
                // Its own, so that a stranger on our port would refuse us.
                secret_key: format!("secret{:016x}", rand::random::<u64>()),
                region: region.to_owned(),
            };
            let instance = Instance { dir: dir.path(), data: &data, port: port.number(), access: &access };
            let process = Process::start(name, command(&instance)?, &dir.path().join("log"))?;
            if let Some((process, client)) = wait_for_answer(process, access).await? {
                return Ok(Self { process, client, data, _port: port, _dir: dir });
            }
        }
        bail!("{name} found no free port {ATTEMPTS_MAX} times in a row")
    }
}

/// What a server is started with.
pub(super) struct Instance<'a> {
    /// For anything but objects.
    pub(super) dir: &'a Path,
    /// For objects.
    pub(super) data: &'a Path,
    pub(super) port: u16,
    pub(super) access: &'a Access,
}

/// `None` when the process could not bind its port.
async fn wait_for_answer(mut process: Process, access: Access) -> Result<Option<(Process, Client)>> {
    let client = access.client();
    let what = format!("the first answer of {}", process.name());
    let ended = wait::for_some(&what, START_DEADLINE, || {
        let status = process.exit_status();
        let client = client.clone();
        async move {
            match status {
                Err(error) => Some(Err(error)),
                Ok(Some(status)) => Some(Ok(Some(status))),
                Ok(None) => is_answering(&client).await.then_some(Ok(None)),
            }
        }
    })
    .await
    .with_context(|| process.log_tail())??;
    match ended {
        None => Ok(Some((process, client))),
        Some(_) if process.log().to_lowercase().contains("in use") => Ok(None),
        Some(status) => bail!("{} ended at once ({status}): {}", process.name(), process.log_tail()),
    }
}

/// Lists the buckets, which only the right secret may.
async fn is_answering(client: &Client) -> bool {
    let answer = client.request(Method::GET, "", "", &[], HeaderMap::new(), Bytes::new()).await;
    answer.is_ok_and(|response| response.status().is_success())
}

#[derive(Deserialize)]
struct Release {
    version: String,
}

/// Where `cargo xtask setup` has put a file of a server.
pub(super) fn installed(server: &str, file: &str) -> Result<PathBuf> {
    let releases: BTreeMap<String, Release> =
        serde_json::from_str(include_str!("../../servers.json")).context("reading servers.json")?;
    let version = &releases.get(server).with_context(|| format!("servers.json has no {server}"))?.version;
    let path = cache_dir()?.join(format!("{server}-{version}")).join(file);
    if !path.is_file() {
        bail!("{server} {version} is not installed ({} is missing); run: cargo xtask setup", path.display());
    }
    Ok(path)
}

/// The same directory as the toolbox's: `$XDG_CACHE_HOME/forebay`, else `~/.cache/forebay`.
fn cache_dir() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME").filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => PathBuf::from(dir),
        None => std::env::home_dir().context("no home directory: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    Ok(base.join("forebay"))
}
