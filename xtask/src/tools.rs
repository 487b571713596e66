//! Tools of the lint that come from crates.io.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::{cache, cargo};

const CARGO_DENY_VERSION: &str = "0.20.2";

/// The `cargo-deny` program in the cache directory.
pub(crate) fn cargo_deny() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("cargo-deny-{CARGO_DENY_VERSION}")).join("bin/cargo-deny"))
}

/// Compiles `cargo-deny` once.
pub(crate) fn install_cargo_deny() -> Result<()> {
    if cargo_deny()?.is_file() {
        return Ok(());
    }
    let _lock = cache::lock("cargo-deny")?;
    if cargo_deny()?.is_file() {
        return Ok(());
    }
    let started = Instant::now();
    println!("setup: building cargo-deny {CARGO_DENY_VERSION}, which checks licences and duplicates (minutes, once)");
    let root = cache::dir()?.join(format!("cargo-deny-{CARGO_DENY_VERSION}"));
    cache::install_dir(&root, |scratch| {
        let target = scratch.join("target");
        let status = Command::new(cargo::program())
            .args(["install", "--locked", "--quiet", "--version", CARGO_DENY_VERSION, "cargo-deny", "--root"])
            .arg(scratch)
            // Its dependencies share nothing with ours: the objects go when it is built.
            .env("CARGO_TARGET_DIR", &target)
            // It runs for seconds a day: half the time to compile is worth more than its speed.
            .args(["--profile", "dev"])
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .status()
            .context("starting cargo install")?;
        ensure!(status.success(), "installing cargo-deny failed: {status}");
        std::fs::remove_dir_all(&target).with_context(|| format!("removing {}", target.display()))
    })?;
    println!("setup: cargo-deny built in {} s", started.elapsed().as_secs());
    Ok(())
}
