//! `cargo xtask setup`: what a fresh Debian machine with Rust lacks, installed once and left alone afterwards.

use anyhow::{Result, bail};

use crate::{apt, rocksdb, servers, tools};

/// What the machine is prepared for; each later one includes building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Compile the workspace.
    Build,
    /// Compile it and run a local S3 server.
    Demo,
    /// Compile it and run every test server.
    Test,
    /// Compile it and check licences.
    Lint,
    /// All of these.
    Everything,
}

impl Purpose {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "build" => Self::Build,
            "demo" => Self::Demo,
            "test" => Self::Test,
            "lint" => Self::Lint,
            "all" => Self::Everything,
            _ => bail!("unknown purpose {name}: one of build, demo, test, lint, all"),
        })
    }
}

/// Installs what `purpose` needs and is not there; prints nothing when nothing is missing.
pub(crate) fn run(purpose: Purpose) -> Result<()> {
    use Purpose::{Build, Demo, Everything, Lint, Test};
    apt::install_missing(apt::FOR_BUILDING)?;
    if std::env::var_os("ROCKSDB_LIB_DIR").is_none() {
        rocksdb::build()?;
    }
    match purpose {
        Build => {}
        Demo => servers::install_versitygw()?,
        Lint => tools::install_cargo_deny()?,
        Test => {
            apt::install_missing(apt::FOR_CLOCKS)?;
            apt::install_missing(apt::FOR_POWER_CUTS)?;
            apt::install_missing(apt::FOR_NETWORKS)?;
            servers::install_all()?;
        }
        Everything => {
            apt::install_missing(apt::FOR_CLOCKS)?;
            apt::install_missing(apt::FOR_POWER_CUTS)?;
            apt::install_missing(apt::FOR_NETWORKS)?;
            servers::install_all()?;
            tools::install_cargo_deny()?;
        }
    }
    Ok(())
}
