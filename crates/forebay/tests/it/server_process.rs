//! The server as a process: start, second start, stop, formats, configuration.

use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use std::{collections::BTreeMap, process::Command};

fn layout() -> Layout {
    Layout { program: Some(program()), tiers: vec![Tier::ssd("cache", "64MiB")], ..Layout::default() }
}

#[tokio::test]
async fn serves_health_and_metrics_and_stops_clean() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    assert_eq!(cluster.master().web("/healthz").await?, "ok\n");
    assert_eq!(cluster.master().web("/readyz").await?, "ok\n");
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let metrics = cluster.master().web("/metrics").await?;
    ensure!(metrics.contains("forebay_master_requests_total"), "{metrics}");
    ensure!(metrics.contains("# TYPE forebay_raft_log_sync_seconds histogram"), "{metrics}");
    ensure!(metrics.contains("# HELP forebay_raft_log_sync_seconds Time of one sync of the log"), "{metrics}");
    let status = cluster.master().terminate(DEADLINE).await?;
    ensure!(status.success(), "{status}");
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    assert_eq!(cluster.cli_ok(&["fs", "ls", "/"]).await?, "d/\n");
    Ok(())
}

#[tokio::test]
async fn a_second_start_on_the_same_directory_is_refused() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    let config = cluster.master().dir().join("forebay.toml");
    let pid = cluster.master().process().pid();
    let second = Command::new(program()).arg("--config").arg(&config).arg("server").output()?;
    let text = String::from_utf8_lossy(&second.stderr);
    ensure!(!second.status.success() && text.contains(&format!("in use by process {pid}")), "{text}");
    cluster.cli_ok(&["fs", "mkdir", "/still-serving"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_directory_of_a_newer_format_is_refused_and_not_damaged() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    cluster.cli_ok(&["fs", "mkdir", "/kept"]).await?;
    cluster.master().terminate(DEADLINE).await?;
    let format = cluster.master().dir().join("data/FORMAT");
    let old = std::fs::read_to_string(&format)?;
    std::fs::write(&format, "999\n")?;
    let config = cluster.master().dir().join("forebay.toml");
    let refused = Command::new(program()).arg("--config").arg(&config).arg("server").output()?;
    let text = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && text.contains("format 999"), "{text}");
    std::fs::write(&format, old)?;
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    assert_eq!(cluster.cli_ok(&["fs", "ls", "/"]).await?, "kept/\n");
    Ok(())
}

#[tokio::test]
async fn configuration_is_shown_and_checked() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.toml");
    std::fs::write(&file, "[worker]\nfetch_size = \"4MiB\"\n")?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(program());
        command.arg("--config").arg(&file).args(arguments).env("FOREBAY_LOG_LEVEL", "debug").output()
    };
    let shown = run(&["config", "show"])?;
    let text = String::from_utf8(shown.stdout)?;
    let line = text.lines().find(|line| line.starts_with("worker.fetch_size")).context("the key is shown")?;
    ensure!(line.contains("4MiB") && line.contains("f.toml"), "{line}");
    ensure!(text.lines().any(|line| line.starts_with("log.level") && line.contains("FOREBAY_LOG_LEVEL")), "{text}");
    ensure!(run(&["config", "check"])?.status.success());
    // What a worker takes when nothing is set, and nothing is made of it by looking.
    let tiers = text.lines().find(|line| line.starts_with("worker.tiers")).context("tiers are shown")?;
    ensure!(tiers.contains("/worker/ssd") && tiers.contains("10GiB") && tiers.contains("# default: "), "{tiers}");
    let shown: serde_json::Value = serde_json::from_slice(&run(&["config", "show", "--json"])?.stdout)?;
    let tiers = shown["worker.tiers"]["value"].as_array().context("a list")?;
    ensure!(tiers.last().context("a tier")?["kind"] == "ssd", "{shown}");
    // Two names of one directory, and a path that is relative.
    let (one, link) = (dir.path().join("one"), dir.path().join("link"));
    std::fs::create_dir(&one)?;
    std::os::unix::fs::symlink(&one, &link)?;
    let directory = |path: &std::path::Path| format!("{{ path = {path:?}, quota = \"1GiB\" }}");
    let tiers = format!("tiers = [{{ kind = \"ssd\", directories = [{}, {}] }}]", directory(&one), directory(&link));
    std::fs::write(&file, format!("data_dir = \"data\"\nroles = [\"worker\"]\n[worker]\n{tiers}\n"))?;
    for command in [&["config", "check"][..], &["server"]] {
        let refused = run(command)?;
        let text = String::from_utf8(refused.stderr)?;
        ensure!(refused.status.code() == Some(2), "{command:?}: {text}");
        ensure!(text.contains("directories[1].path") && text.contains("is the same directory"), "{command:?}: {text}");
    }
    std::fs::write(&file, "data_dir = \"data\"\n")?;
    let checked = run(&["config", "check"])?;
    let told = String::from_utf8(checked.stderr)?;
    ensure!(told.contains(&format!("file's directory: {}", dir.path().join("data").display())), "{told}");
    std::fs::write(&file, "[worker]\nfetch_sise = 1\nmemory_limit = \"lots\"\n")?;
    let checked = run(&["config", "check"])?;
    let text = String::from_utf8(checked.stderr)?;
    ensure!(checked.status.code() == Some(2), "{text}");
    ensure!(text.contains("did you mean worker.fetch_size?") && text.contains("worker.memory_limit"), "{text}");
    Ok(())
}

/// The page of the data directory names each file that is there, and what it looks like.
#[tokio::test]
async fn the_data_directory_is_as_its_page_says() -> Result<()> {
    let page = include_str!("../../../../docs/formats/data-directories.md");
    let rows = page.lines().filter(|line| line.starts_with("| `")).map(|line| line.split('|').collect::<Vec<_>>());
    let rows: BTreeMap<&str, &str> =
        rows.map(|row| (row[1].trim().trim_matches('`'), row[3].trim().trim_matches('`'))).collect();
    let mut cluster = Cluster::start(layout()).await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let data = cluster.master().dir().join("data");
    let mut seen = 0;
    for directory in ["", "master", "worker"] {
        for entry in std::fs::read_dir(data.join(directory))? {
            let path = entry?.path();
            let mut name = path.strip_prefix(&data)?.to_string_lossy().into_owned();
            if ["master", "worker"].contains(&name.as_str()) {
                continue;
            }
            name += if path.is_dir() { "/" } else { "" };
            let like = *rows.get(name.as_str()).with_context(|| format!("{name} is not on the page"))?;
            if !like.is_empty() {
                let (found, like) = (std::fs::read_to_string(&path)?, shape(like));
                ensure!(shape(found.trim_end()) == like, "{name} holds {found:?}, the page says {like:?}");
            } else if name.ends_with(".key") {
                assert_eq!(std::fs::metadata(&path)?.len(), 32, "{name}");
            }
            seen += 1;
        }
    }
    ensure!(seen >= 10, "{seen} files");
    let cluster_id = |name: &str| std::fs::read_to_string(data.join(name));
    assert_eq!(cluster_id("master/cluster.id")?, cluster_id("worker/cluster-id")?.trim_end());
    Ok(())
}

/// A text with its numbers made equal: many hexadecimal digits are many, a number is a number.
fn shape(text: &str) -> String {
    match text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => format!("{} hexadecimal digits", text.len()),
        false if text.len() > 1 && text.parse::<u64>().is_ok() => "a number".to_owned(),
        false => text.to_owned(),
    }
}

/// Of a master whose log was taken away; what it answers to its start.
async fn refusal(cluster: &mut Cluster) -> Result<String> {
    cluster.master().restart()?;
    let ready = cluster.master().wait_ready(DEADLINE).await;
    let said = format!("{:#}", ready.err().context("it starts")?);
    ensure!(said.contains("log is missing or incomplete in ") && said.contains("--restore-from"), "{said}");
    ensure!(said.contains("ended (exit status: ") && !said.contains("panicked"), "{said}");
    Ok(said)
}

#[tokio::test]
async fn a_master_whose_log_was_taken_away_does_not_start() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let log = cluster.master().dir().join("data/master/log");
    cluster.master().kill()?;
    for entry in std::fs::read_dir(&log)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            std::fs::remove_file(path)?;
        }
    }
    refusal(&mut cluster).await?;

    let mut cluster = Cluster::start(layout()).await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let log = cluster.master().dir().join("data/master/log");
    ensure!(cluster.master().terminate(DEADLINE).await?.success());
    std::fs::remove_dir_all(&log)?;
    let said = refusal(&mut cluster).await?;
    ensure!(said.contains(&log.display().to_string()), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_a_server_keeps_is_for_its_owner_alone() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mut cluster = Cluster::start(layout()).await?;
    let data = cluster.master().dir().join("data");
    for name in ["", "master", "master/log", "master/state", "worker"] {
        let mode = std::fs::metadata(data.join(name))?.permissions().mode() & 0o777;
        ensure!(mode == 0o700, "{name} has mode {mode:o}");
    }
    Ok(())
}
