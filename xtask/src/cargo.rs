//! What cargo knows: locked versions, where crates lie, and the environment that our builds share.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{cache, rocksdb};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's root")
}

/// The version of a package in `Cargo.lock`, read without starting cargo.
pub(crate) fn locked_version(package: &str) -> Result<String> {
    let path = root().join("Cargo.lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let name = format!("name = \"{package}\"");
    let mut lines = lock.lines().skip_while(|line| *line != name).skip(1);
    lines
        .next()
        .and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .map(str::to_owned)
        .with_context(|| format!("{} names no package {package}", path.display()))
}

/// The unpacked directories of registry packages, in the order asked; downloads what is missing.
pub(crate) fn package_dirs(names: &[&str]) -> Result<Vec<PathBuf>> {
    let output = Command::new(program())
        .args(["metadata", "--format-version=1"])
        .current_dir(root())
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("starting cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata failed: {}", output.status);
    let metadata: Value = serde_json::from_slice(&output.stdout).context("reading cargo metadata's answer")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no packages")?;
    names.iter().map(|name| package_dir(packages, name)).collect()
}

fn package_dir(packages: &[Value], name: &str) -> Result<PathBuf> {
    let package = packages.iter().find(|package| package["name"] == name);
    let manifest = package
        .and_then(|package| package["manifest_path"].as_str())
        .with_context(|| format!("the workspace does not depend on {name}"))?;
    Ok(Path::new(manifest).parent().context("a manifest lies in a directory")?.to_owned())
}

/// The variables that every build of ours shares, so that one target directory serves all of them.
pub(crate) fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => dir,
        None => cache::dir()?.join("target").into_os_string(),
    };
    let mut variables = vec![("CARGO_TARGET_DIR", target)];
    if std::env::var_os("ROCKSDB_LIB_DIR").is_none() {
        variables.push(("ROCKSDB_LIB_DIR", rocksdb::lib_dir()?.into_os_string()));
        variables.push(("ROCKSDB_STATIC", "1".into()));
    }
    Ok(variables)
}

/// The cargo that runs us.
pub(crate) fn program() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
