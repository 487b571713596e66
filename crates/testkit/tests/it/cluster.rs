//! Processes of a cluster start, die, come back and stop. Needs `FOREBAY_BIN`, which `cargo xtask test` sets.

use std::time::Duration;

use anyhow::Result;
use forebay_testkit::cluster::{Cluster, Layout};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_process_is_ready_survives_a_kill_and_stops_cleanly() -> Result<()> {
    let mut cluster = Cluster::embedded().await?;
    assert!(cluster.master().web("/healthz").await?.starts_with("ok"));
    assert!(cluster.cli_ok(&["config", "show"]).await?.contains(&cluster.masters()));

    let master = cluster.master();
    master.kill()?;
    assert!(master.web("/healthz").await.is_err());
    master.restart()?;
    master.wait_ready(DEADLINE).await?;

    let status = master.terminate(DEADLINE).await?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_paused_process_answers_again_when_resumed() -> Result<()> {
    let mut cluster = Cluster::embedded().await?;
    let master = cluster.master();
    master.pause()?;
    assert!(tokio::time::timeout(Duration::from_millis(300), master.web("/healthz")).await.is_err());
    master.resume()?;
    assert!(master.web("/healthz").await?.starts_with("ok"));
    Ok(())
}

#[tokio::test]
async fn a_master_and_two_workers() -> Result<()> {
    let mut cluster = Cluster::start(Layout { workers: 2, ..Layout::default() }).await?;
    assert_eq!(cluster.worker_count(), 2);
    assert_ne!(cluster.worker(0).data_address(), cluster.worker(1).data_address());
    cluster.worker(1).kill()?;
    cluster.worker(1).restart()?;
    cluster.worker(1).wait_ready(DEADLINE).await
}

#[tokio::test]
async fn a_wrong_setting_is_told_at_once() {
    let layout = Layout { extra_toml: "no_such_key = 1".to_owned(), ..Layout::default() };
    let error = format!("{:#}", Cluster::start(layout).await.unwrap_err());
    assert!(error.contains("no_such_key"), "{error}");
}
