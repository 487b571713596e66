//! `forebay server` as a newcomer starts it: no configuration file, no flags. Only the ports are chosen by the system, since tests share a machine.

use crate::common::{BUCKET, DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    process::Process,
    s3::{S3Server, Versitygw},
    wait,
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

const LISTEN: [&str; 4] =
    ["FOREBAY_MASTER_LISTEN", "FOREBAY_WORKER_LISTEN", "FOREBAY_WORKER_CONTROL_LISTEN", "FOREBAY_WEB_LISTEN"];

/// A home of its own, and a server in it.
struct Home {
    dir: tempfile::TempDir,
    store: S3Server,
}

impl Home {
    async fn new() -> Result<Home> {
        let store = Versitygw::start().await?;
        store.create_bucket(BUCKET).await?;
        Ok(Home { dir: tempfile::tempdir()?, store })
    }

    /// `forebay` as the user of this home runs it.
    fn command(&self) -> Command {
        let mut command = Command::new(program());
        let own = std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_") || name.starts_with("XDG_"));
        own.for_each(|(name, _)| {
            command.env_remove(name);
        });
        command.env("HOME", self.dir.path()).env("PATH", "/usr/bin:/bin").current_dir(self.dir.path());
        command.envs(self.store.access().environment().iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the server; its process and what it printed when it was ready.
    async fn start(&self) -> Result<(Process, String)> {
        let mut command = self.command();
        command.arg("server").envs(LISTEN.map(|name| (name, "127.0.0.1:0")));
        let log = self.dir.path().join("log");
        let _ = std::fs::remove_file(&log);
        let process = Process::start("server", command, &log)?;
        let printed = || async { process.log().contains("forebay status") };
        wait::until("the commands to try", DEADLINE, printed).await.with_context(|| process.log())?;
        let log = process.log();
        Ok((process, log))
    }
}

impl Drop for Home {
    /// The memory tier stays for the next start: there is none.
    fn drop(&mut self) {
        let kept = self.dir.path().join(".local/share/forebay/worker/memory-tier");
        let Ok(token) = std::fs::read_to_string(kept) else { return };
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().ends_with(token.trim()) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// The printed line that starts with this word, without the word.
fn line<'a>(log: &'a str, word: &str) -> Result<&'a str> {
    let found = log.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(word)?.strip_prefix(' '));
    found.map(str::trim).with_context(|| format!("no line {word:?} in: {log}"))
}

/// Local addresses, as the kernel prints them (`0100007F:1CE8`), on which a process listens.
fn listening(pid: u32) -> Result<BTreeSet<String>> {
    let mut sockets = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        if let Ok(target) = std::fs::read_link(entry?.path()) {
            sockets.insert(target.to_string_lossy().into_owned());
        }
    }
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}"))?;
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, state, inode) = (fields[1], fields[3], fields[9]);
            if state == "0A" && sockets.contains(&format!("socket:[{inode}]")) {
                found.insert(local.to_owned());
            }
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_server_without_configuration_serves_loopback_from_the_users_directory() -> Result<()> {
    let home = Home::new().await?;
    let data = home.dir.path().join(".local/share/forebay");
    let mut fastest_ms = u64::MAX;
    for _ in 0..3 {
        let (mut process, log) = home.start().await?;
        let (_, rest) = log.split_once("is ready (").context("the ready line")?;
        fastest_ms = fastest_ms.min(rest.split(' ').next().context("a number")?.parse()?);
        assert_eq!(PathBuf::from(line(&log, "data")?), data);
        check_addresses(&process, &log)?;
        ensure!(process.terminate(DEADLINE).await?.success(), "{}", process.log());
    }
    ensure!(fastest_ms < 2_000, "ready after {fastest_ms} ms");
    check_places(&data, home.dir.path())
}

/// What is printed is what listens, and all of it on loopback.
fn check_addresses(process: &Process, log: &str) -> Result<()> {
    let listening = listening(process.pid())?;
    ensure!(listening.iter().all(|local| local.starts_with("0100007F:")), "{listening:?}");
    let mut ports: BTreeSet<u16> = BTreeSet::new();
    for local in &listening {
        ports.insert(u16::from_str_radix(local.split(':').nth(1).context("a port")?, 16)?);
    }
    let (worker, web) = (line(log, "worker")?, line(log, "web")?);
    let data_and_control = worker.split(", ").filter_map(|part| part.split(' ').next());
    let web = web.trim_start_matches("http://").trim_end_matches("/metrics");
    let printed = std::iter::once(line(log, "master")?).chain(data_and_control).chain([web]);
    let printed: BTreeSet<u16> = printed
        .map(|address| address.rsplit(':').next().context("a port")?.parse().context("a number"))
        .collect::<Result<_>>()?;
    assert_eq!(printed, ports, "printed (left) and listening (right)");
    assert_eq!(ports.len(), 4);
    Ok(())
}

/// All that it keeps lies in one directory of the user's (besides the memory tier, in memory).
fn check_places(data: &Path, home: &Path) -> Result<()> {
    ensure!(data.join("FORMAT").exists());
    let names = |dir: &Path| -> Result<BTreeSet<String>> {
        std::fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    assert_eq!(names(home)?, BTreeSet::from([".local".to_owned(), "log".to_owned()]));
    assert_eq!(names(&home.join(".local/share"))?, BTreeSet::from(["forebay".to_owned()]));
    Ok(())
}

#[tokio::test]
async fn the_defaults_listen_on_loopback_alone() -> Result<()> {
    let home = Home::new().await?;
    let shown = home.command().args(["config", "show"]).output()?;
    let text = String::from_utf8(shown.stdout)?;
    for key in ["master.listen", "worker.listen", "worker.control_listen", "web.listen"] {
        let line = text.lines().find(|line| line.starts_with(key)).with_context(|| format!("{key}: {text}"))?;
        ensure!(line.contains("\"127.0.0.1:") && line.contains("default"), "{line}");
    }
    let roles = text.lines().find(|line| line.starts_with("roles")).context("roles")?;
    ensure!(roles.contains("master") && roles.contains("worker"), "{roles}");
    Ok(())
}

#[tokio::test]
async fn the_commands_to_try_work_as_printed() -> Result<()> {
    let home = Home::new().await?;
    home.store.client().put(BUCKET, "PREFIX/hello", "hello\n").await?;
    let (_process, log) = home.start().await?;
    let commands: Vec<&str> =
        log.lines().skip_while(|line| *line != "try:").skip(1).filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 3, "{log}");
    let mut printed = Vec::new();
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        ensure!(words[0] == "forebay", "{command}");
        let mut run = home.command();
        run.args(words[1..].iter().map(|word| word.replace("BUCKET", BUCKET)));
        if words[1..3] == ["mount", "add"] {
            run.args(["--endpoint", home.store.endpoint(), "--region", "us-east-1"]);
        }
        let output = run.output()?;
        ensure!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        printed.push(String::from_utf8(output.stdout)?);
    }
    ensure!(printed[1].ends_with("hello\n") && printed[1].starts_with("-r"), "{}", printed[1]);
    ensure!(printed[2].contains("/lake"), "{}", printed[2]);
    Ok(())
}
