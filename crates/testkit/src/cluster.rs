//! Clusters of real `forebay` processes: started, killed, paused and restarted one by one.
//!
//! The program is the one that `FOREBAY_BIN` names (`cargo xtask` sets it), or the one given. Each process has its own
//! directory, ports that stay the same over restarts, and a log that is printed when the test panics.

mod clock;
mod node;
mod site;
mod template;

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::process::Command;

pub use node::Node;
pub use template::{NodeSettings, Role, Tier};

use crate::network::Network;
use site::{MasterPort, Site};

/// How a cluster looks.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The program; `None`: what `FOREBAY_BIN` names.
    pub program: Option<PathBuf>,
    /// Masters, each a process.
    pub masters: usize,
    /// Workers, each a process. With 0 the first master's process is the worker too, as in the embedded default, unless `lone_masters`.
    pub workers: usize,
    /// No worker in a master's process.
    pub lone_masters: bool,
    /// Tiers of each worker; relative directories lie in the worker's own.
    pub tiers: Vec<Tier>,
    /// TOML that is put in front of every process's settings: top-level keys, written as in a file.
    pub extra_toml: String,
    /// Where the processes' data and relative tiers lie, each in a directory by its name there; `None`: with its settings and its log.
    pub data_in: Option<PathBuf>,
    /// Variables of every process, such as store credentials.
    pub environment: Vec<(String, String)>,
    /// Each process has a wall clock of its own, for [`Node::set_clock`].
    pub own_clocks: bool,
    /// Where the processes run, masters before workers; `None`: all of them on loopback.
    pub network: Option<Arc<Network>>,
    /// Arguments of `forebay server` of the first master, at its first start alone.
    pub first_start: Vec<String>,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            program: None,
            masters: 1,
            workers: 0,
            lone_masters: false,
            tiers: vec![Tier::ssd("cache", "1GiB")],
            extra_toml: String::new(),
            data_in: None,
            environment: Vec::new(),
            own_clocks: false,
            network: None,
            first_start: Vec::new(),
        }
    }
}

impl Layout {
    fn node(&self, roles: Vec<Role>, masters: Vec<String>) -> NodeSettings {
        NodeSettings {
            roles,
            masters,
            tiers: self.tiers.clone(),
            extra_toml: self.extra_toml.clone(),
            data_in: self.data_in.clone(),
            own_clock: self.own_clocks,
        }
    }
}

/// A running cluster of masters and workers.
#[derive(Debug)]
pub struct Cluster {
    masters: Vec<Node>,
    workers: Vec<Node>,
    program: PathBuf,
    layout: Layout,
    /// Removed after the processes have ended: fields drop in this order.
    dir: TempDir,
}

/// The name of the first master's process.
const FIRST: &str = "master";

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
        let site = |host| Site::new(layout.network.as_ref(), host);
        let ports = (0..layout.masters.max(1)).map(|host| MasterPort::reserve(&site(host)));
        let ports = ports.collect::<Result<Vec<_>>>()?;
        let addresses: Vec<String> = ports.iter().map(|port| port.advertised.to_string()).collect();
        let start = |name: String, roles: Vec<Role>, host: usize, master_port: Option<MasterPort>| {
            let settings = layout.node(roles, addresses.clone());
            let arguments: &[String] = if name == FIRST { &layout.first_start } else { &[] };
            let environment = &layout.environment;
            Node::start(dir.path().join(name), &program, settings, environment, arguments, site(host), master_port)
        };
        let mut masters = Vec::new();
        for (index, port) in ports.into_iter().enumerate() {
            let (name, roles) = match index {
                0 if layout.workers == 0 && !layout.lone_masters => {
                    (FIRST.to_owned(), vec![Role::Master, Role::Worker])
                }
                0 => (FIRST.to_owned(), vec![Role::Master]),
                index => (format!("master-{index}"), vec![Role::Master]),
            };
            masters.push(start(name, roles, index, Some(port))?);
        }
        let workers = (0..layout.workers)
            .map(|index| start(format!("worker-{index}"), vec![Role::Worker], masters.len() + index, None));
        let mut workers = workers.collect::<Result<Vec<_>>>()?;
        for node in masters.iter_mut().chain(&mut workers) {
            node.wait_ready(READY_DEADLINE).await?;
        }
        Ok(Self { masters, workers, program, layout, dir })
    }

    /// Starts one more master, with an empty directory and the list of all, which waits to be taken in; returns its number. The list that the
    /// others have is the new one, too, from their next start on.
    pub fn start_master(&mut self) -> Result<usize> {
        let (index, site) =
            (self.masters.len(), Site::new(self.layout.network.as_ref(), self.masters.len() + self.workers.len()));
        let port = MasterPort::reserve(&site)?;
        let mut addresses: Vec<String> = (0..index).map(|index| self.master_address(index)).collect();
        addresses.push(port.advertised.to_string());
        for master in &mut self.masters {
            master.set_masters(&addresses)?;
        }
        let settings = self.layout.node(vec![Role::Master], addresses);
        let (dir, environment) = (self.dir.path().join(format!("master-{index}")), &self.layout.environment);
        self.masters.push(Node::start(dir, &self.program, settings, environment, &[], site, Some(port))?);
        Ok(index)
    }

    /// Where clients find the cluster: `host:port`.
    pub fn masters(&self) -> String {
        (0..self.masters.len()).map(|index| self.master_address(index)).collect::<Vec<_>>().join(",")
    }

    /// Where one master is reached: `host:port`.
    pub fn master_address(&self, index: usize) -> String {
        self.masters[index].master_address().expect("the master's process has the master role").to_string()
    }

    /// Another program for the processes that are started new from now on, and for commands; those that are there keep theirs: see [`Node::set_program`].
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// The program that runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The only master's process, or the first one's.
    pub fn master(&mut self) -> &mut Node {
        &mut self.masters[0]
    }

    /// A master's process, counted from 0.
    pub fn master_at(&mut self, index: usize) -> &mut Node {
        &mut self.masters[index]
    }

    /// A worker's process, counted from 0.
    pub fn worker(&mut self, index: usize) -> &mut Node {
        &mut self.workers[index]
    }

    /// How many processes are workers only.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// All processes, masters before workers.
    pub fn nodes(&mut self) -> impl Iterator<Item = &mut Node> {
        self.masters.iter_mut().chain(&mut self.workers)
    }

    /// The directory that everything lies in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `forebay ARGUMENTS…` against this cluster, to be run or changed first.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--masters").arg(self.masters()).args(arguments).kill_on_drop(true);
        command.env_remove("FOREBAY_BIN").envs(self.layout.environment.iter().map(|(name, value)| (name, value)));
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
