//! What the suites share: a real cluster of processes over a real S3 server, driven through the binary as users do.

#![allow(dead_code, reason = "each suite uses a part")]
#![allow(unreachable_pub, reason = "a module of several suites")]

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
    pub workers: usize,
    pub tiers: Vec<Tier>,
    pub extra_toml: String,
    pub mount_flags: Vec<&'static str>,
    pub own_clocks: bool,
}

impl Default for Shape {
    fn default() -> Self {
        let tiers = vec![Tier::ssd("cache", "512MiB")];
        let mount_flags = vec!["--sync-interval", "0"];
        Shape { workers: 0, tiers, extra_toml: String::new(), mount_flags, own_clocks: false }
    }
}

impl Lake {
    /// One process with both roles.
    pub async fn embedded() -> Result<Lake> {
        Lake::start(Shape::default()).await
    }

    /// One master and three workers.
    pub async fn of_three() -> Result<Lake> {
        Lake::start(Shape { workers: 3, ..Shape::default() }).await
    }

    pub async fn start(shape: Shape) -> Result<Lake> {
        let store = Versitygw::start().await?;
        store.create_bucket(BUCKET).await?;
        let proxy = Proxy::start(store.endpoint()).await?;
        let environment = store.access().environment();
        let cluster = Cluster::start(Layout {
            program: Some(program()),
            workers: shape.workers,
            tiers: shape.tiers,
            extra_toml: shape.extra_toml,
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            own_clocks: shape.own_clocks,
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
