//! What the suites share: a real cluster of processes over a real S3 server, driven through the binary as users do.

#![allow(unreachable_pub, reason = "a module of several suites")]

pub mod small_disk;

use anyhow::{Result, ensure};
use forebay_testkit::{
    cluster::{Cluster, Layout, Tier},
    data::Seeded,
    fault::Proxy,
    s3::{S3Server, Versitygw},
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Output,
    time::Duration,
};

/// How long a condition is waited for on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The bucket that is mounted at `/lake`.
pub const BUCKET: &str = "lake";

/// How a client ended that was to be broken off. What it had found before counts.
pub fn broken_off(ended: Result<Result<()>, tokio::task::JoinError>) -> Result<()> {
    match ended {
        Err(error) if error.is_cancelled() => Ok(()),
        ended => ended?,
    }
}

/// The program under test.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_forebay"))
}

/// A cluster with an S3 bucket at `/lake`; between workers, master and store stands a proxy that can break things.
pub struct Lake {
    pub cluster: Cluster,
    pub proxy: Proxy,
    pub store: S3Server,
}

/// How a [`Lake`] differs from the usual one.
pub struct Shape {
    /// What is run; another than the program itself for small disks.
    pub program: PathBuf,
    pub masters: usize,
    pub workers: usize,
    /// No worker in a master's process.
    pub lone_masters: bool,
    pub tiers: Vec<Tier>,
    pub extra_toml: String,
    pub mount_flags: Vec<&'static str>,
    pub own_clocks: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let tiers = vec![Tier::ssd("cache", "512MiB")];
        let mount_flags = vec!["--sync-interval", "0"];
        Shape {
            program: program(),
            masters: 1,
            workers: 0,
            lone_masters: false,
            tiers,
            extra_toml: String::new(),
            mount_flags,
            own_clocks: false,
        }
    }
}

impl Lake {
    /// One process with both roles.
    pub async fn embedded() -> Result<Lake> {
        Lake::start(Shape::default()).await
    }

    pub async fn start(shape: Shape) -> Result<Lake> {
        Lake::over(Versitygw::start().await?, shape).await
    }

    /// A cluster over that store.
    pub async fn over(store: S3Server, shape: Shape) -> Result<Lake> {
        store.create_bucket(BUCKET).await?;
        let proxy = Proxy::start(store.endpoint()).await?;
        let environment = store.access().environment();
        let cluster = Cluster::start(Layout {
            program: Some(shape.program),
            masters: shape.masters,
            workers: shape.workers,
            lone_masters: shape.lone_masters,
            tiers: shape.tiers,
            extra_toml: shape.extra_toml,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            own_clocks: shape.own_clocks,
            ..Layout::default()
        })
        .await?;
        let (endpoint, uri) = (proxy.endpoint(), format!("s3://{BUCKET}"));
        let mut arguments = vec!["mount", "add", "/lake", &uri, "--endpoint", &endpoint, "--region", "us-east-1"];
        arguments.extend(shape.mount_flags);
        cluster.cli_ok(&arguments).await?;
        Ok(Lake { cluster, proxy, store })
    }

    /// Puts an object of seeded bytes behind Forebay's back.
    pub async fn put_seeded(&self, key: &str, length: u64) -> Result<Seeded> {
        let seeded = Seeded::named(key);
        self.store.client().put(BUCKET, key, seeded.bytes(0..length)).await?;
        Ok(seeded)
    }

    /// Runs a command; any exit code is an answer.
    pub async fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.cluster.cli(arguments).await
    }

    /// Runs a command that must succeed; what it printed.
    pub async fn ok(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.cli_ok(arguments).await
    }

    /// Runs a command that must succeed; what it printed, as JSON lines.
    pub async fn json(&self, arguments: &[&str]) -> Result<Vec<Value>> {
        let text = self.ok(arguments).await?;
        text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// Runs a command that must fail with `code`; what it wrote to standard error.
    pub async fn fails(&self, code: i32, arguments: &[&str]) -> Result<String> {
        let output = self.run(arguments).await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(code), "{arguments:?}: {} instead of {code}: {text}", output.status);
        Ok(text)
    }

    /// The bytes of `forebay fs cat`.
    pub async fn cat(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.run(&["fs", "cat", path]).await?;
        ensure!(output.status.success(), "cat {path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// The bytes as a client on another host gets them: over connections, from the workers that own the blocks.
    pub async fn cat_from_afar(&self, path: &str) -> Result<Vec<u8>> {
        let output = self.run(&["--set", "client.same_host=false", "fs", "cat", path]).await?;
        ensure!(output.status.success(), "cat {path}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// Bytes of a file that each worker has cached, by its address.
    pub async fn cached(&self, path: &str) -> Result<std::collections::BTreeMap<String, u64>> {
        let told = self.json(&["fs", "location", "--json", path]).await?;
        let workers = told[0]["workers"].as_array().cloned().unwrap_or_default();
        let bytes = |worker: &Value| {
            let ranges = worker["ranges"].as_array().cloned().unwrap_or_default();
            let sum = ranges.iter().filter_map(|range| range["length"].as_u64()).sum();
            (worker["address"].as_str().unwrap_or_default().to_owned(), sum)
        };
        Ok(workers.iter().map(bytes).collect())
    }

    /// A file that reads as its seed says, to the last byte.
    pub async fn check(&self, path: &str, seeded: Seeded, length: u64) -> Result<()> {
        let found = self.cat(path).await?;
        ensure!(found.len() as u64 == length, "{path} has {} bytes instead of {length}", found.len());
        Ok(seeded.check(0, &found)?)
    }

    /// Bytes that went from the store to Forebay since the last look.
    pub fn bytes_from_store(&self) -> u64 {
        let sent = self.proxy.totals().sent;
        self.proxy.reset_counts();
        sent
    }
}

/// Writes a local file of seeded bytes.
pub fn write_seeded(path: &Path, length: u64) -> Result<Seeded> {
    let seeded = Seeded::named(&path.to_string_lossy());
    std::fs::write(path, seeded.bytes(0..length))?;
    Ok(seeded)
}
