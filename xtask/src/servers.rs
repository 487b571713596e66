//! The S3 servers that tests and demo run against: versitygw, MinIO, moto.
//!
//! Their versions are in `crates/testkit/servers.json`, which the testkit reads too. Each lies in
//! `NAME-VERSION` in the cache directory, so a new version never meets an old one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{apt, cache, go};

const VERSIONS: &str = include_str!("../../crates/testkit/servers.json");

/// What the demo needs.
pub(crate) fn install_versitygw() -> Result<()> {
    install_go_server("versitygw")
}

/// What the tests need.
pub(crate) fn install_all() -> Result<()> {
    install_go_server("versitygw")?;
    install_go_server("minio")?;
    install_moto()
}

fn field(server: &str, field: &str) -> Result<String> {
    let versions: Value = serde_json::from_str(VERSIONS).context("reading servers.json")?;
    let value = versions[server][field].as_str();
    Ok(value.with_context(|| format!("servers.json has no {field} for {server}"))?.to_owned())
}

fn home(server: &str) -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("{server}-{}", field(server, "version")?)))
}

fn install_go_server(name: &str) -> Result<()> {
    let home = home(name)?;
    if home.join(name).is_file() {
        return Ok(());
    }
    let _lock = cache::lock("servers")?;
    if home.join(name).is_file() {
        return Ok(());
    }
    let package = format!("{}@{}", field(name, "module")?, field(name, "version")?);
    let started = Instant::now();
    println!("setup: building {package}, an S3 server for tests and demo (minutes, once)");
    let go = go::find_or_install()?;
    cache::install_dir(&home, |scratch| go.install(&package, scratch))?;
    println!("setup: {name} built in {} s: {}", started.elapsed().as_secs(), home.display());
    Ok(())
}

/// A virtual environment holds absolute paths and cannot be renamed into place: a marker says that it is whole.
fn install_moto() -> Result<()> {
    let home = home("moto")?;
    let requirement = format!("{}=={}", field("moto", "requirement")?, field("moto", "version")?);
    install_venv(&home, &requirement, "the S3 server that stores every odd key")
}

/// Makes a virtual environment in `home` with one requirement in it, unless it is there.
pub(crate) fn install_venv(home: &Path, requirement: &str, why: &str) -> Result<()> {
    let marker = home.join("complete");
    if marker.is_file() {
        return Ok(());
    }
    let name = home.file_name().context("an environment has a name")?.to_string_lossy().into_owned();
    let _lock = cache::lock(&name)?;
    if marker.is_file() {
        return Ok(());
    }
    apt::install_missing(apt::FOR_PYTHON)?;
    println!("setup: installing {requirement} from PyPI: {why}");
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    run(Command::new(home.join("bin/pip")).args(["install", "--quiet", "--disable-pip-version-check", requirement]))?;
    fs::write(&marker, requirement).with_context(|| format!("writing {}", marker.display()))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(status.success(), "{} failed: {status}", command.get_program().display());
    Ok(())
}
