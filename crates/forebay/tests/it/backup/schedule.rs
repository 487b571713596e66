//! Backups at set times.

use super::{create, json, list, s3, start, start_with, uri_of};
use crate::common::DEADLINE;
use anyhow::{Context, Result, ensure};
use forebay_testkit::fault::{Fault, Proxy, When};
use forebay_testkit::wait;
use serde_json::Value;
use std::cell::Cell;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

#[tokio::test(flavor = "multi_thread")]
async fn backups_are_made_at_set_times_and_the_oldest_go() -> Result<()> {
    let target = tempfile::tempdir()?;
    let to = uri_of(target.path());
    let settings = format!("backup.to = {to:?}\nbackup.every = \"1s\"\nbackup.keep = 2\n");
    let mut cluster = start(1, &settings).await?;
    let config = cluster.master().dir().join("forebay.toml").display().to_string();
    let first = wait::for_some("the first backup", DEADLINE, || async {
        list(&cluster, &to, &[]).await.ok()?.into_iter().next()
    })
    .await?;
    wait::until("the first one to be gone", DEADLINE, || async {
        list(&cluster, &to, &[]).await.is_ok_and(|all| all.len() == 2 && all[0]["id"] != first["id"])
    })
    .await?;
    // A command that is told no target takes that of the settings; what is made by hand counts.
    let made = wait::for_some("one by hand, between those of the schedule", DEADLINE, || async {
        json(&cluster, &["--config", &config, "backup", "create", "--json"]).await.ok()
    })
    .await?;
    let id = made[0]["id"].as_str().context("an id")?;
    ensure!(made[0]["cluster"] == first["cluster"] && id > first["id"].as_str().unwrap_or_default(), "{made:?}");
    let status = status(&cluster).await?;
    ensure!(status["to"] == to.as_str() && status["keep"] == 2 && status["failures"] == 0, "{status}");
    let text = cluster.cli_ok(&["status"]).await?;
    ensure!(text.contains("backups: last ") && text.contains("every 1s to "), "{text}");
    ensure!(cluster.master().metric("forebay_master_backups_total").await? >= 3.0, "they are counted");
    ensure!(cluster.master().metric("forebay_master_backup_last_timestamp_seconds").await? > 1.7e9, "and when");
    // A file that is of no backup goes when it is old.
    let files = target.path().join(first["cluster"].as_str().unwrap_or_default()).join("files");
    let (old, young) = (files.join("0".repeat(64)), files.join("1".repeat(64)));
    for (path, age) in [(&young, Duration::ZERO), (&old, Duration::from_secs(7200))] {
        std::fs::write(path, "of none")?;
        std::fs::File::options().write(true).open(path)?.set_modified(SystemTime::now() - age)?;
    }
    wait::until("the old file to be gone", DEADLINE, || async { !old.exists() }).await?;
    ensure!(young.exists(), "it may be of a backup that is on its way");

    // The target goes away, and everybody can see it; it comes back.
    let aside = target.path().with_extension("aside");
    std::fs::rename(target.path(), &aside)?;
    let failed = wait::for_some("a failure to be told", DEADLINE, || async {
        let status = self::status(&cluster).await.ok()?;
        (status["failures"].as_u64()? > 0).then_some(status)
    })
    .await?;
    ensure!(failed["failure"].as_str().is_some_and(|why| why.contains("does not exist")), "{failed}");
    let text = cluster.cli_ok(&["status"]).await?;
    ensure!(text.contains("FAILED"), "{text}");
    let metrics = cluster.master().web("/metrics").await?;
    ensure!(metrics.contains("forebay_master_backups_total{outcome=\"failed\"}"), "{metrics}");
    let log = std::fs::read_to_string(cluster.master().dir().join("log"))?;
    ensure!(log.contains("a backup could not be made"), "{log}");
    std::fs::rename(&aside, target.path())?;
    wait::until("backups to go on", DEADLINE, || async {
        self::status(&cluster)
            .await
            .is_ok_and(|status| status["failures"] == 0 && status["last_ms"].as_u64() > failed["last_ms"].as_u64())
    })
    .await
}

/// Somebody's backup that takes its time is no failure of those at set times, which go on after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_by_hand_is_waited_for() -> Result<()> {
    let (target, store) = (tempfile::tempdir()?, s3().await?);
    let proxy = Proxy::start(store.endpoint()).await?;
    let settings = format!("backup.to = {:?}\nbackup.every = \"1s\"\n", uri_of(target.path()));
    let cluster = start_with(1, &settings, &store.access().environment(), &[]).await?;
    let hangs = proxy.inject(When::put().path_contains("/files/"), Fault::BlackHole);
    let endpoint = proxy.endpoint();
    let arguments = ["backup", "create", "--to", "s3://backups/by/hand", "--endpoint", &endpoint];
    let ask = || cluster.command(&arguments).stderr(Stdio::null()).spawn();
    let mut asked = ask()?;
    // Until it is between those of the schedule.
    loop {
        let is_refused = wait::for_some("it to hang, or to be refused", DEADLINE, || {
            let (ended, hangs) = (asked.try_wait(), proxy.struck(hangs) > 0);
            async move {
                match ended {
                    Ok(Some(_)) => Some(true),
                    _ => hangs.then_some(false),
                }
            }
        });
        match is_refused.await? {
            true => asked = ask()?,
            false => break,
        }
    }
    let begin = status(&cluster).await?;
    let (looks, next_ms) = (Cell::new(0), Cell::new(begin["next_ms"].as_u64()));
    wait::until("the schedule to have looked several times", DEADLINE, || async {
        let now = status(&cluster).await.map(|status| status["next_ms"].as_u64()).unwrap_or_default();
        if now > next_ms.replace(now.max(next_ms.get())) {
            looks.set(looks.get() + 1);
        }
        looks.get() >= 3
    })
    .await?;
    let now = status(&cluster).await?;
    ensure!(now["running"] == true && now["failures"] == 0, "{now}");
    asked.kill().await?;
    proxy.clear();
    wait::until("the schedule to go on", DEADLINE, || async {
        status(&cluster).await.is_ok_and(|status| status["last"] != begin["last"] && status["failures"] == 0)
    })
    .await
}

/// When the last one was made is asked of the target: a restart, or another leader, does not begin to count anew.
#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_goes_on_over_restarts_and_leaders() -> Result<()> {
    let target = tempfile::tempdir()?;
    let to = uri_of(target.path());
    let settings = format!("backup.to = {to:?}\nbackup.every = \"1h\"\n");
    let mut cluster = start(3, &settings).await?;
    wait::until("the first backup", DEADLINE, || async {
        list(&cluster, &to, &[]).await.is_ok_and(|all| all.len() == 1)
    })
    .await?;
    let first = list(&cluster, &to, &[]).await?;
    let leader = json(&cluster, &["masters", "list", "--json"]).await?[0]["masters"].clone();
    let leader = leader.as_array().and_then(|all| all.iter().position(|master| master["leader"] == true));
    let addresses: Vec<String> = cluster.masters().split(',').map(str::to_owned).collect();
    let next = addresses.iter().find(|address| Some(*address) != leader.map(|at| &addresses[at]));
    if let Some(next) = next {
        cluster.cli_ok(&["masters", "transfer", next]).await?;
    }
    let knows = |status: &Value| {
        status["last"] == first[0]["id"] && status["next_ms"].as_u64() > first[0]["created_ms"].as_u64()
    };
    wait::until("the next leader to know it", DEADLINE, || async {
        status(&cluster).await.is_ok_and(|status| knows(&status))
    })
    .await?;
    for index in 0..3 {
        cluster.master_at(index).restart()?;
    }
    for index in 0..3 {
        cluster.master_at(index).wait_ready(DEADLINE).await?;
    }
    wait::until("them to know it after a restart", DEADLINE, || async {
        status(&cluster).await.is_ok_and(|status| knows(&status))
    })
    .await?;
    ensure!(list(&cluster, &to, &[]).await?.len() == 1, "one more was made");
    create(&cluster, &to, &[]).await.map(drop)
}

async fn status(cluster: &forebay_testkit::cluster::Cluster) -> Result<Value> {
    Ok(json(cluster, &["status", "--json"]).await?[0]["backup"].clone())
}
