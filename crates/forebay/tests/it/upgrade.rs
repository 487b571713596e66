//! A rolling upgrade with real programs: masters, a worker and clients of two releases in one cluster, under load.
//!
//! The release before is that of the commit which `xtask/upgrade-base` names; `cargo xtask upgrade` builds it and runs this.

mod files;
mod load;

use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use files::files_below;
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::wait;
use load::Load;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

/// The version that the release before knows as its newest, and the one that this release brings.
const VERSION_BEFORE: u64 = 1;
const VERSION: u64 = 2;

/// More objects than one slice of a purge deletes.
const LARGE: usize = 1300;

/// From the end of a master to the next answered change, on a machine that is busy.
const OUTAGE_MAX: Duration = Duration::from_secs(15);

struct Upgrade {
    cluster: Cluster,
    before: PathBuf,
    store: tempfile::TempDir,
    load: Load,
    large: usize,
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the release before: cargo xtask upgrade"]
async fn a_cluster_is_upgraded_master_by_master_under_load() -> Result<()> {
    let mut upgrade = Upgrade::start(program_before()?).await?;
    upgrade.replace_all().await?;
    upgrade.raise().await?;
    upgrade.old_programs_stay_out().await?;
    upgrade.end().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the release before: cargo xtask upgrade"]
async fn with_auto_upgrade_the_version_is_raised_once_all_masters_know_it() -> Result<()> {
    let environment = vec![("FOREBAY_MASTER_AUTO_UPGRADE".to_owned(), "true".to_owned())];
    let layout = Layout { program: Some(program_before()?), masters: 3, environment, ..Layout::default() };
    let mut cluster = Cluster::start(layout).await?;
    cluster.cli_ok(&["fs", "mkdir", "/before"]).await?;
    for index in 0..3 {
        let listed: Value = serde_json::from_str(&cluster.cli_ok(&["masters", "list", "--json"]).await?)?;
        ensure!(listed["cluster_version"] == VERSION_BEFORE, "{listed}");
        let node = cluster.master_at(index);
        node.terminate(DEADLINE).await?;
        node.set_program(&program());
        node.restart()?;
        node.wait_ready(DEADLINE).await?;
    }
    cluster.set_program(&program());
    for index in 0..3 {
        let node = cluster.master_at(index);
        let applied =
            || async { node.metric("forebay_master_cluster_version").await.is_ok_and(|v| v == VERSION as f64) };
        wait::until("the version is raised", DEADLINE, applied).await?;
    }
    cluster.cli_ok(&["fs", "stat", "/before"]).await?;
    Ok(())
}

fn program_before() -> Result<PathBuf> {
    let before = std::env::var_os("FOREBAY_BIN_BEFORE").map(PathBuf::from);
    before.context("FOREBAY_BIN_BEFORE does not name the program of the release before; run: cargo xtask upgrade")
}

impl Upgrade {
    async fn start(before: PathBuf) -> Result<Upgrade> {
        let layout = Layout { program: Some(before.clone()), masters: 3, workers: 1, ..Layout::default() };
        let cluster = Cluster::start(layout).await?;
        let store = tempfile::tempdir()?;
        let uri = format!("file://{}", store.path().display());
        cluster.cli_ok(&["mount", "add", "/lake", &uri, "--sync-interval", "never"]).await?;
        let load = Load::start(&cluster.masters(), &before).await?;
        Ok(Upgrade { cluster, before, store, load, large: 0 })
    }

    /// One master after the other runs the new program, and the worker; in between all are as one.
    async fn replace_all(&mut self) -> Result<()> {
        self.load.more(40).await?;
        self.check_equal("all run the release before").await?;
        let first = leader(&self.cluster).await?;
        let (second, third) = ((first + 1) % 3, (first + 2) % 3);
        self.replace(second, End::Told).await?;
        self.refused_upgrade(&[first, third]).await?;
        self.check_equal("one master runs the new release").await?;
        // The worker and the commands of the release before, under a leader of the new one; then the other way round.
        self.lead(second).await?;
        self.load.more(20).await?;
        self.delete_much().await?;
        self.lead(third).await?;
        self.replace_worker().await?;
        self.replace(third, End::Killed).await?;
        self.check_equal("two masters run the new release").await?;
        // A leader of the new release whose followers are of both.
        self.lead(second).await?;
        self.load.more(40).await?;
        self.delete_much().await?;
        self.refused_upgrade(&[first]).await?;
        self.replace(first, End::Told).await?;
        self.check_equal("all run the new release").await?;
        self.cluster.set_program(&program());
        let listed = self.masters().await?;
        ensure!(listed["cluster_version"] == VERSION_BEFORE, "{listed}");
        ensure!(masters_in(&listed).all(|master| master["version_newest"] == VERSION), "{listed}");
        let text = self.cluster.cli_ok(&["masters", "list"]).await?;
        ensure!(text.contains("all masters know cluster version 2"), "{text}");
        ensure!(self.notes().await? == 0, "a purge was noted under the version before");
        Ok(())
    }

    /// The new behaviour is there from then on, on all of them, whoever leads.
    async fn raise(&mut self) -> Result<()> {
        // On a busy machine one of them may be asked in vain.
        let upgraded = || async { self.cluster.cli_ok(&["masters", "upgrade"]).await.ok() };
        let told = wait::for_some("all masters to be asked", DEADLINE, upgraded).await?;
        ensure!(told.contains("the cluster's version is 2, it was 1"), "{told}");
        let again = self.cluster.cli_ok(&["masters", "upgrade"]).await?;
        ensure!(again.contains("is 2 already"), "{again}");
        for index in 0..3 {
            let node = self.cluster.master_at(index);
            let applied = || async { node.metric("forebay_master_cluster_version").await.is_ok_and(|v| v == 2.0) };
            wait::until("the version is applied everywhere", DEADLINE, applied).await?;
        }
        self.load.more(40).await?;
        self.check_equal("the version is raised").await?;
        ensure!(self.notes().await? > 0, "no purge was noted under the new version");
        Ok(())
    }

    /// A program of the release before neither starts on the data of a raised cluster nor is taken in, and does no harm.
    async fn old_programs_stay_out(&mut self) -> Result<()> {
        let index = (leader(&self.cluster).await? + 1) % 3;
        let node = self.cluster.master_at(index);
        node.terminate(DEADLINE).await?;
        let data = node.dir().join("data");
        let files = files_below(&data)?;
        node.set_program(&self.before);
        node.restart()?;
        let ended = node.process().wait(DEADLINE).await?;
        let told = node.process().log_tail();
        ensure!(!ended.success(), "it ended as if all were well");
        ensure!(told.contains("the cluster's version is 2, and this program knows 1: start a newer release"), "{told}");
        let after = files_below(&data)?;
        let changed: Vec<_> = files.symmetric_difference(&after).map(|(path, bytes)| (path, bytes.len())).collect();
        ensure!(changed.is_empty(), "files of its data were changed: {changed:?}");
        node.set_program(&program());
        node.restart()?;
        node.wait_ready(DEADLINE).await?;

        self.cluster.set_program(&self.before);
        let index = self.cluster.start_master()?;
        self.cluster.set_program(&program());
        let address = self.cluster.master_address(index);
        let refused = self.refused_addition(&address).await?;
        let why = "knows cluster version 1, and the cluster's is 2; start it with a newer release";
        ensure!(refused.contains(why), "{refused}");
        let listed = self.masters().await?;
        ensure!(masters_in(&listed).count() == 3, "{listed}");
        let node = self.cluster.master_at(index);
        node.kill()?;
        node.set_program(&program());
        node.restart()?;
        self.added(&address).await?;
        self.cluster.cli_ok(&["masters", "remove", &address]).await?;
        self.cluster.master_at(index).kill()?;
        Ok(())
    }

    /// What was acknowledged is there, as programs of both releases see it.
    async fn end(mut self) -> Result<()> {
        self.load.more(40).await?;
        let longest = self.load.longest();
        let counts = self.load.stop().await?;
        println!("{counts}; the longest time without an answered change: {longest:?}");
        ensure!(longest < OUTAGE_MAX, "{longest:?} without an answered change");
        Ok(())
    }

    async fn replace(&mut self, index: usize, end: End) -> Result<()> {
        let node = self.cluster.master_at(index);
        match end {
            End::Told => drop(node.terminate(DEADLINE).await?),
            End::Killed => node.kill()?,
        }
        self.load.more(10).await?;
        let node = self.cluster.master_at(index);
        node.set_program(&program());
        node.restart()?;
        node.wait_ready(DEADLINE).await?;
        self.load.more(10).await
    }

    async fn replace_worker(&mut self) -> Result<()> {
        let worker = self.cluster.worker(0);
        worker.terminate(DEADLINE).await?;
        worker.set_program(&program());
        worker.restart()?;
        worker.wait_ready(DEADLINE).await?;
        self.load.more(10).await
    }

    /// While nobody changes anything and nothing is left to be done, all masters have the same state, by both programs' reckoning. A large delete has gone through before.
    async fn check_equal(&mut self, when: &str) -> Result<()> {
        self.delete_much().await?;
        let _paused = self.load.pause().await;
        let nothing_left = || async {
            let status = self.cluster.cli_ok(&["status", "--json"]).await.unwrap_or_default();
            serde_json::from_str(&status).is_ok_and(|status: Value| status["pending_deletes"] == 0)
        };
        wait::until("the trash is empty", DEADLINE, nothing_left).await?;
        let mut digests = Vec::new();
        for index in 0..3 {
            // Whoever leads puts its state on disk when it is asked, also where others are of a release that does so only as the leader.
            self.lead(index).await?;
            let done = self.cluster.cli(&["masters", "snapshot"]).await?;
            ensure!(String::from_utf8_lossy(&done.stdout).contains("durable up to entry"), "{when}: {done:?}");
            let data = self.data(index);
            let newer = state(&program(), &data).await?;
            match state(&self.before, &data).await {
                Ok(older) => ensure!(
                    older["digest"] == newer["digest"] && newer["cluster_version"] == VERSION_BEFORE,
                    "{when}: the releases see master {index} differently: {older} {newer}"
                ),
                Err(refused) => ensure!(
                    newer["cluster_version"] == VERSION,
                    "{when}: the release before cannot read the state of master {index}: {refused:#}"
                ),
            }
            digests.push(newer);
        }
        let part = |name: &str| digests.iter().map(|state| state[name].to_string()).collect::<Vec<_>>();
        println!("{when}: digests {:?} at entries {:?}", part("digest"), part("index"));
        for name in ["digest", "cluster_version", "inodes"] {
            ensure!(part(name).iter().all(|value| *value == part(name)[0]), "{when}: {name} is {:?}", part(name));
        }
        Ok(())
    }

    /// A directory that others have put into the store goes, with all that is in it.
    async fn delete_much(&mut self) -> Result<()> {
        let name = format!("large-{}", self.large);
        self.large += 1;
        let directory = self.store.path().join(&name);
        std::fs::create_dir(&directory)?;
        for n in 0..LARGE {
            std::fs::write(directory.join(n.to_string()), "x")?;
        }
        self.cluster.cli_ok(&["fs", "ls", "--sync", &format!("/lake/{name}")]).await?;
        self.cluster.cli_ok(&["fs", "rm", "-r", &format!("/lake/{name}")]).await?;
        wait::until("the directory is gone from the store", DEADLINE, || async { !directory.exists() }).await
    }

    async fn lead(&mut self, index: usize) -> Result<()> {
        let address = self.cluster.master_address(index);
        let transferred = || async { self.cluster.cli_ok(&["masters", "transfer", &address]).await.is_ok() };
        wait::until("the lead is transferred", DEADLINE, transferred).await
    }

    async fn masters(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.cluster.cli_ok(&["masters", "list", "--json"]).await?)?)
    }

    /// The version stays as long as those masters run the release before, which are named.
    async fn refused_upgrade(&mut self, old: &[usize]) -> Result<()> {
        let output = command(&program(), &self.cluster.masters(), &["masters", "upgrade"]).await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(7), "{}: {told}", output.status);
        ensure!(told.contains("the cluster's version stays 1"), "{told}");
        for index in old {
            ensure!(told.contains(&self.cluster.master_address(*index)), "{told}");
        }
        Ok(())
    }

    /// What `masters add` says when it refuses; waits until the new one can be asked.
    async fn refused_addition(&self, address: &str) -> Result<String> {
        wait::for_some("the addition is refused", DEADLINE, || async {
            let output = self.cluster.cli(&["masters", "add", address]).await.ok()?;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            told.contains("cannot be taken in").then_some(told)
        })
        .await
    }

    async fn added(&self, address: &str) -> Result<()> {
        let added = || async { self.cluster.cli_ok(&["masters", "add", address]).await.is_ok() };
        wait::until("the new master is taken in", DEADLINE, added).await
    }

    fn data(&mut self, index: usize) -> PathBuf {
        self.cluster.master_at(index).dir().join("data/master")
    }

    /// How often a purge was noted, in the log of the first master.
    async fn notes(&mut self) -> Result<usize> {
        let data = self.data(0);
        let log = debug(&program(), &["log"], &data).await?;
        Ok(log.lines().filter(|line| line.contains(r#""action":"NotePurge""#)).count())
    }
}

/// How a master ends before it is replaced.
enum End {
    Told,
    Killed,
}

async fn command(program: &Path, masters: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--masters").arg(masters).args(arguments).kill_on_drop(true).env_remove("FOREBAY_BIN");
    command.output().await.with_context(|| format!("running {} {arguments:?}", program.display()))
}

/// What `forebay debug` says of the files of a master.
async fn debug(program: &Path, what: &[&str], data: &Path) -> Result<String> {
    let data = data.to_string_lossy();
    let arguments = [&["debug"], what, &["--json", "--dir", &data]].concat();
    let output = command(program, "127.0.0.1:1", &arguments).await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {}: {stderr}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

async fn state(program: &Path, data: &Path) -> Result<Value> {
    Ok(serde_json::from_str(&debug(program, &["state"], data).await?)?)
}

fn masters_in(listed: &Value) -> impl Iterator<Item = &Value> {
    listed["masters"].as_array().into_iter().flatten()
}

/// The number of the master that leads.
async fn leader(cluster: &Cluster) -> Result<usize> {
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["masters", "list", "--json"]).await?)?;
    let leads = masters_in(&listed).find(|master| master["leader"] == true).context("one leads")?;
    let address = leads["address"].as_str().context("an address")?.to_owned();
    cluster.masters().split(',').position(|master| master == address).context("it is one of all")
}
