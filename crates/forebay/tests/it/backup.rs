//! Backups of the masters' state: made while the cluster serves, checked, restored, and interrupted in every way.

mod faults;
mod restored;
mod schedule;

use crate::common::program;
use anyhow::{Context, Result, ensure};
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::s3::S3Server;
use serde_json::Value;
use std::path::Path;

/// The bucket of the backups.
const BUCKET: &str = "backups";

async fn start(masters: usize, extra_toml: &str) -> Result<Cluster> {
    start_with(masters, extra_toml, &[], &[]).await
}

/// A cluster without workers of their own, whose first process is started with `arguments` for once.
async fn start_with(
    masters: usize,
    extra_toml: &str,
    environment: &[(&str, &str)],
    arguments: &[&str],
) -> Result<Cluster> {
    Cluster::start(Layout {
        program: Some(program()),
        masters,
        extra_toml: extra_toml.to_owned(),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        first_start: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        ..Layout::default()
    })
    .await
}

/// A cluster that begins with the newest backup of a target.
async fn restore(from: &str) -> Result<Cluster> {
    start_with(1, "", &[], &["--restore-from", from]).await
}

/// The target in a local directory.
fn uri_of(directory: &Path) -> String {
    format!("file://{}", directory.display())
}

/// Runs a command that must succeed; its JSON lines.
async fn json(cluster: &Cluster, arguments: &[&str]) -> Result<Vec<Value>> {
    let text = cluster.cli_ok(arguments).await?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Makes a backup; what is told of it.
async fn create(cluster: &Cluster, to: &str, more: &[&str]) -> Result<Value> {
    let made = json(cluster, &[&["backup", "create", "--json", "--to", to], more].concat()).await?;
    made.into_iter().next().context("a backup is told")
}

/// The backups of a target, oldest first.
async fn list(cluster: &Cluster, to: &str, more: &[&str]) -> Result<Vec<Value>> {
    json(cluster, &[&["backup", "list", "--json", "--to", to], more].concat()).await
}

/// Runs a command that must fail with `code`; what it wrote to standard error.
async fn fails(cluster: &Cluster, code: i32, arguments: &[&str]) -> Result<String> {
    let output = cluster.cli(arguments).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{arguments:?}: {} instead of {code}: {text}", output.status);
    Ok(text)
}

/// All that a tree tells of what lies below a path, without what a restore changes.
async fn tree(cluster: &Cluster, path: &str) -> Result<Vec<Value>> {
    let mut entries = json(cluster, &["fs", "ls", "-R", "--json", path]).await?;
    for entry in &mut entries {
        let object = entry.as_object_mut().context("an object")?;
        // When it was read last, and how much of it is in the cache of this cluster.
        object.retain(|name, _| !name.starts_with("accessed") && !name.contains("cached"));
    }
    Ok(entries)
}

async fn s3() -> Result<S3Server> {
    let store = forebay_testkit::s3::Versitygw::start().await?;
    store.create_bucket(BUCKET).await?;
    Ok(store)
}
