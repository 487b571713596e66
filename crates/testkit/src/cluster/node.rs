//! One `forebay server` process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::site::{MasterPort, Site};
use super::{NodeSettings, clock};
use crate::port::Port;
use crate::process::Process;
use crate::wait;

/// The file in a node's directory that says how far its clock is off.
const CLOCK: &str = "clock";

/// The ports of a process; they stay reserved while it is down.
#[derive(Debug)]
pub(super) struct Addresses {
    pub(super) web: Port,
    pub(super) master: Option<MasterPort>,
    pub(super) data: Port,
    pub(super) control: Port,
}

impl Addresses {
    pub(super) fn reserve(site: &Site, master: Option<MasterPort>) -> Result<Self> {
        Ok(Self { web: site.reserve_port()?, master, data: site.reserve_port()?, control: site.reserve_port()? })
    }
}

/// One process of a cluster, running or not.
#[derive(Debug)]
pub struct Node {
    name: String,
    program: PathBuf,
    dir: PathBuf,
    site: Site,
    environment: Vec<(String, String)>,
    settings: NodeSettings,
    addresses: Addresses,
    process: Process,
}

impl Node {
    /// Its name is that of its directory, which it makes.
    pub(super) fn start(
        dir: PathBuf,
        program: &Path,
        settings: NodeSettings,
        environment: &[(String, String)],
        arguments: &[String],
        site: Site,
        master: Option<MasterPort>,
    ) -> Result<Self> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        std::fs::create_dir(&dir).with_context(|| format!("making {}", dir.display()))?;
        let addresses = Addresses::reserve(&site, master)?;
        std::fs::write(dir.join("forebay.toml"), settings.toml(&dir, &addresses))?;
        let mut environment = environment.to_vec();
        if settings.own_clock {
            clock::set(&dir.join(CLOCK), 0)?;
            environment.extend(clock::environment(&dir.join(CLOCK))?);
        }
        let process = launch(&name, program, &dir, &environment, arguments, &site)?;
        Ok(Self { name, program: program.to_owned(), dir, site, environment, settings, addresses, process })
    }

    /// Its directory: `forebay.toml`, `log`, `data/`, and relative tier directories.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where clients and workers reach the master, if it is one.
    pub fn master_address(&self) -> Option<SocketAddr> {
        self.addresses.master.as_ref().map(|master| master.advertised)
    }

    /// Where its data plane listens.
    pub fn data_address(&self) -> SocketAddr {
        self.addresses.data.address()
    }

    /// The process, for signals and the log.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// `kill -9`.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Stops it in its tracks, all threads, before this returns: connections stay open and nothing answers.
    pub fn pause(&mut self) -> Result<()> {
        self.process.pause()
    }

    /// Lets it go on.
    pub fn resume(&mut self) -> Result<()> {
        self.process.resume()
    }

    /// Sets its wall clock: off by so many seconds from the machine's; while it is down, that of its next start. Only with
    /// [`super::Layout::own_clocks`].
    pub fn set_clock(&mut self, seconds: i64) -> Result<()> {
        let file = self.dir.join(CLOCK);
        let down = self.process.exit_status()?.is_some();
        anyhow::ensure!(down || clock::is_read_by(self.process.pid())?, "{} has no clock of its own", self.name);
        clock::set(&file, seconds)
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub async fn terminate(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.process.terminate(deadline).await
    }

    /// Starts it again on the same directory and ports, after killing it if it still runs. The log goes on.
    pub fn restart(&mut self) -> Result<()> {
        self.restart_with(&[])
    }

    /// As [`Node::restart`], with more arguments of `forebay server`.
    pub fn restart_with(&mut self, arguments: &[String]) -> Result<()> {
        self.process.kill()?;
        self.process = launch(&self.name, &self.program, &self.dir, &self.environment, arguments, &self.site)?;
        Ok(())
    }

    /// Another program from its next start on, such as that of another release.
    pub fn set_program(&mut self, program: &Path) {
        self.program = program.to_owned();
    }

    /// Writes another list of masters into its settings, which count from its next start on.
    pub fn set_masters(&mut self, masters: &[String]) -> Result<()> {
        self.settings.masters = masters.to_vec();
        let path = self.dir.join("forebay.toml");
        std::fs::write(&path, self.settings.toml(&self.dir, &self.addresses))
            .with_context(|| format!("writing {}", path.display()))
    }

    /// Gives a master another port, from its next start on, and with it another place in its list of masters; returns its address.
    pub fn move_master(&mut self) -> Result<SocketAddr> {
        let old = self.master_address().context("only a master can move")?.to_string();
        let port = MasterPort::reserve(&self.site)?;
        let new = port.advertised;
        self.addresses.master = Some(port);
        let place = |master: &String| if *master == old { new.to_string() } else { master.clone() };
        let masters: Vec<String> = self.settings.masters.iter().map(place).collect();
        self.set_masters(&masters)?;
        Ok(new)
    }

    /// Waits until `/readyz` says 200; fails at once when the process has ended.
    pub async fn wait_ready(&mut self, deadline: Duration) -> Result<()> {
        let what = format!("{} to be ready", self.name);
        let address = self.addresses.web.address();
        let ended = wait::for_some(&what, deadline, || {
            let status = self.process.exit_status();
            async move {
                match status {
                    Err(error) => Some(Err(error)),
                    Ok(Some(status)) => Some(Ok(Some(status))),
                    Ok(None) => is_ready(address).await.then_some(Ok(None)),
                }
            }
        });
        match ended.await.with_context(|| self.process.log_tail())?? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}): {}", self.name, self.process.log_tail()),
        }
    }

    /// The text of a page of the web port, such as `/metrics`.
    pub async fn web(&self, path: &str) -> Result<String> {
        let (status, body) = get(self.addresses.web.address(), path).await?;
        anyhow::ensure!(status == StatusCode::OK, "{path} of {}: {status} {body}", self.name);
        Ok(body)
    }

    /// The sum of a metric over its label sets; 0 while nothing has been counted.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        Ok(sum_of_metric(&self.web("/metrics").await?, name))
    }
}

fn launch(
    name: &str,
    program: &Path,
    dir: &Path,
    environment: &[(String, String)],
    arguments: &[String],
    site: &Site,
) -> Result<Process> {
    let mut command = Command::new(program);
    command.arg("server").arg("--config").arg(dir.join("forebay.toml")).args(arguments).current_dir(dir);
    command.env_remove("FOREBAY_BIN").envs(environment.iter().map(|(name, value)| (name, value)));
    site.place(&mut command)?;
    let process = Process::start(name, command, &dir.join("log"))?;
    site.runs(process.pid());
    Ok(process)
}

async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/readyz").await.is_ok_and(|(status, _)| status == StatusCode::OK)
}

async fn get(address: SocketAddr, path: &str) -> Result<(StatusCode, String)> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(format!("http://{address}{path}").parse()?).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Reads Prometheus's text format: `name{labels} value`.
fn sum_of_metric(text: &str, name: &str) -> f64 {
    let values = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    });
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# TYPE hits counter\nhits{tier=\"mem\"} 3\nhits{tier=\"ssd\"} 4.5\nhits_total 100\n";
        assert_eq!(sum_of_metric(text, "hits"), 7.5);
        assert_eq!(sum_of_metric(text, "misses"), 0.0);
    }
}
