//! Clusters of real `forebay` processes: started, killed, paused and restarted one by one.
//!
//! The program is the one that `FOREBAY_BIN` names (`cargo xtask` sets it), or the one given. Each process has its own
//! directory, ports that stay the same over restarts, and a log that is printed when the test panics.

mod clock;
mod node;
mod template;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;

pub use node::Node;
pub use template::{NodeSettings, Role, Tier};

use crate::port::Port;

/// How a cluster looks.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The program; `None`: what `FOREBAY_BIN` names.
    pub program: Option<PathBuf>,
    /// Workers, each a process. With 0 the master's process is the worker too, as in the embedded default.
    pub workers: usize,
    /// Tiers of each worker; relative directories lie in the worker's own.
    pub tiers: Vec<Tier>,
    /// TOML that is put in front of every process's settings: top-level keys, written as in a file.
    pub extra_toml: String,
    /// Variables of every process, such as store credentials.
    pub environment: Vec<(String, String)>,
    /// Each process has a wall clock of its own, for [`Node::set_clock`].
    pub own_clocks: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            program: None,
            workers: 0,
            tiers: vec![Tier::ssd("cache", "1GiB")],
            extra_toml: String::new(),
            environment: Vec::new(),
            own_clocks: false,
        }
    }
}

/// A running cluster: one master, any number of workers.
#[derive(Debug)]
pub struct Cluster {
    master: Node,
    workers: Vec<Node>,
    program: PathBuf,
    environment: Vec<(String, String)>,
    /// Removed after the processes have ended: fields drop in this order.
    dir: TempDir,
}

/// What a busy machine needs to start a process.
const READY_DEADLINE: Duration = Duration::from_secs(60);

impl Cluster {
    /// One process with all roles.
    pub async fn embedded() -> Result<Self> {
        Self::start(Layout::default()).await
    }

    /// Starts all processes and waits until each is ready.
    pub async fn start(layout: Layout) -> Result<Self> {
        let program = match &layout.program {
            Some(program) => program.clone(),
            None => forebay_program()?,
        };
        let dir = tempfile::Builder::new().prefix("forebay-cluster-").tempdir().context("making a directory")?;
        let master_port = Port::reserve()?;
        let masters = master_port.address().to_string();
        let mut roles = vec![Role::Master];
        if layout.workers == 0 {
            roles.push(Role::Worker);
        }
        let start = |name: String, roles: Vec<Role>, master_port: Option<Port>| {
            let settings = NodeSettings {
                roles,
                masters: vec![masters.clone()],
                tiers: layout.tiers.clone(),
                extra_toml: layout.extra_toml.clone(),
                own_clock: layout.own_clocks,
            };
            Node::start(&name, &program, dir.path(), &settings, &layout.environment, master_port)
        };
        let mut master = start("master".to_owned(), roles, Some(master_port))?;
        let workers = (0..layout.workers).map(|index| start(format!("worker-{index}"), vec![Role::Worker], None));
        let mut workers = workers.collect::<Result<Vec<_>>>()?;
        master.wait_ready(READY_DEADLINE).await?;
        for worker in &mut workers {
            worker.wait_ready(READY_DEADLINE).await?;
        }
        Ok(Self { master, workers, program, environment: layout.environment, dir })
    }

    /// Where clients find the cluster: `host:port`.
    pub fn masters(&self) -> String {
        self.master.master_address().expect("the master's process has the master role").to_string()
    }

    /// The program that runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The master's process.
    pub fn master(&mut self) -> &mut Node {
        &mut self.master
    }

    /// A worker's process, counted from 0.
    pub fn worker(&mut self, index: usize) -> &mut Node {
        &mut self.workers[index]
    }

    /// How many processes are workers only.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// The directory that everything lies in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `forebay ARGUMENTS…` against this cluster, to be run or changed first.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--masters").arg(self.masters()).args(arguments).kill_on_drop(true);
        command.env_remove("FOREBAY_BIN").envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs `forebay ARGUMENTS…` against this cluster; any exit code is an answer.
    pub async fn cli(&self, arguments: &[&str]) -> Result<Output> {
        let output = self.command(arguments).output().await;
        output.with_context(|| format!("running forebay {}", arguments.join(" ")))
    }

    /// Runs `forebay ARGUMENTS…`, which must succeed, and returns what it printed.
    pub async fn cli_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli(arguments).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "forebay {}: {}: {stderr}", arguments.join(" "), output.status);
        String::from_utf8(output.stdout).context("the output is text")
    }
}

/// The program under test.
pub fn forebay_program() -> Result<PathBuf> {
    let program = std::env::var_os("FOREBAY_BIN").map(PathBuf::from);
    program.context("FOREBAY_BIN does not name the forebay program; run: cargo xtask test")
}
