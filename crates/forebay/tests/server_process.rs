//! The server as a process: start, second start, stop, formats, configuration.

mod common;

use anyhow::{Context, Result, ensure};
use common::{DEADLINE, Lake, program};
use forebay_testkit::cluster::{Cluster, Layout, Tier};
use std::process::Command;

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
    std::fs::write(&file, "[worker]\nfetch_sise = 1\nmemory_limit = \"lots\"\n")?;
    let checked = run(&["config", "check"])?;
    let text = String::from_utf8(checked.stderr)?;
    ensure!(checked.status.code() == Some(2), "{text}");
    ensure!(text.contains("did you mean worker.fetch_size?") && text.contains("worker.memory_limit"), "{text}");
    Ok(())
}

#[tokio::test]
async fn acknowledged_changes_survive_kill_9() -> Result<()> {
    let mut lake = Lake::embedded().await?;
    for round in 0..5 {
        lake.ok(&["fs", "mkdir", "-p", &format!("/plain/{round}")]).await?;
        lake.ok(&["fs", "mkdir", &format!("/lake/{round}")]).await?;
        lake.cluster.master().kill()?;
        lake.cluster.master().restart()?;
        lake.cluster.master().wait_ready(DEADLINE).await?;
        let expected: String = (0..=round).map(|n| format!("{n}/\n")).collect();
        assert_eq!(lake.ok(&["fs", "ls", "/plain"]).await?, expected);
        assert_eq!(lake.ok(&["fs", "ls", "/lake"]).await?, expected);
    }
    Ok(())
}
