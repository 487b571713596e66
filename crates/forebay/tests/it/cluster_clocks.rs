//! Clocks that lie, in a cluster of processes: set forwards, backwards, on one machine or on all. Every byte is compared.

use crate::common::{BUCKET, DEADLINE, Lake, Shape, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{data::Seeded, fault::Link, wait};
use std::process::Stdio;
use tokio::io::AsyncReadExt;

const LENGTH: u64 = 16 << 20;
/// Longer than tickets live, and leases; short enough that the store believes signatures (15 minutes).
const JUMP_SECONDS: i64 = 10 * 60;

async fn lake() -> Result<Lake> {
    let mount_flags = vec!["--sync-interval", "0", "--option", "block_size=4MiB"];
    let extra_toml = "master.ticket_lifetime = \"1m\"\nmaster.write_lease = \"5s\"\n".to_owned();
    Lake::start(Shape { workers: 3, mount_flags, extra_toml, own_clocks: true, ..Shape::default() }).await
}

fn set_all(lake: &mut Lake, seconds: i64) -> Result<()> {
    lake.cluster.master().set_clock(seconds)?;
    (0..lake.cluster.worker_count()).try_for_each(|index| lake.cluster.worker(index).set_clock(seconds))
}

/// Everything works: writing, reading what is new, what is hot and what is cold.
async fn check_all(lake: &Lake, round: &str, hot: Seeded) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let name = format!("written-{round}");
    let written = write_seeded(&dir.path().join("w"), LENGTH)?;
    let local = format!("file:{}", dir.path().join("w").display());
    lake.ok(&["fs", "cp", &local, &format!("/lake/{name}")]).await?;
    ensure!(lake.store.client().get(BUCKET, &name).await? == written.bytes(0..LENGTH), "the store has other bytes");
    lake.check(&format!("/lake/{name}"), written, LENGTH).await?;
    lake.check("/lake/hot", hot, LENGTH).await?;
    let cold = format!("cold-{round}");
    let seeded = lake.put_seeded(&cold, LENGTH / 4).await?;
    lake.check(&format!("/lake/{cold}"), seeded, LENGTH / 4).await
}

#[tokio::test]
async fn clocks_that_jump_change_no_byte() -> Result<()> {
    let mut lake = lake().await?;
    let hot = lake.put_seeded("hot", LENGTH).await?;
    lake.check("/lake/hot", hot, LENGTH).await?;
    for (round, seconds) in [("ahead", JUMP_SECONDS), ("back", -JUMP_SECONDS), ("right", 0)] {
        // Under a reader: what it holds has expired, or is from the future.
        lake.proxy.set_link(Link { bytes_per_second: Some(8 << 20), ..Link::default() });
        let key = format!("under-{round}");
        let seeded = lake.put_seeded(&key, LENGTH).await?;
        let path = format!("/lake/{key}");
        let mut child = lake.cluster.command(&["fs", "cat", &path]).stdout(Stdio::piped()).spawn()?;
        let mut output = child.stdout.take().context("piped")?;
        let mut found = vec![0; 2 << 20];
        output.read_exact(&mut found).await?;
        set_all(&mut lake, seconds)?;
        output.read_to_end(&mut found).await?;
        let status = child.wait().await?;
        ensure!(status.success(), "{round}: {status}");
        ensure!(found.len() as u64 == LENGTH, "{round}: {} bytes", found.len());
        seeded.check(0, &found).context(round)?;
        lake.proxy.set_link(Link::default());
        check_all(&lake, round, hot).await.context(round)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_worker_whose_clock_is_wrong_is_done_without() -> Result<()> {
    let mut lake = lake().await?;
    let hot = lake.put_seeded("hot", LENGTH).await?;
    lake.check("/lake/hot", hot, LENGTH).await?;
    for (round, seconds) in [("ahead", JUMP_SECONDS), ("back", -JUMP_SECONDS)] {
        lake.cluster.worker(1).set_clock(seconds)?;
        check_all(&lake, round, hot).await.context(round)?;
    }
    Ok(())
}

/// A writer whose lease has ended by a jump is told, or does not notice: never is a part of a file there.
#[tokio::test]
async fn a_write_during_a_jump_is_there_whole_or_not_at_all() -> Result<()> {
    let mut lake = lake().await?;
    let dir = tempfile::tempdir()?;
    let seeded = write_seeded(&dir.path().join("w"), 4 * LENGTH)?;
    lake.proxy.set_link(Link { bytes_per_second: Some(16 << 20), ..Link::default() });
    let local = format!("file:{}", dir.path().join("w").display());
    let copy = lake.cluster.command(&["fs", "cp", &local, "/lake/w"]).stderr(Stdio::piped()).spawn()?;
    wait::until("a part to reach the store", DEADLINE, || async {
        lake.proxy.totals_of(|seen| seen.target.contains("partNumber=")).requests >= 1
    })
    .await?;
    set_all(&mut lake, JUMP_SECONDS)?;
    let output = copy.wait_with_output().await?;
    lake.proxy.set_link(Link::default());
    if output.status.success() {
        ensure!(lake.store.client().get(BUCKET, "w").await? == seeded.bytes(0..4 * LENGTH), "other bytes");
        return lake.check("/lake/w", seeded, 4 * LENGTH).await;
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(text.contains("error:"), "{text}");
    wait::until("nothing to be left", DEADLINE, || async {
        let gone = lake.run(&["fs", "test", "-e", "/lake/w"]).await.is_ok_and(|output| output.status.code() == Some(1));
        let aborted = lake.store.client().uploads(BUCKET).await.is_ok_and(|uploads| uploads.is_empty());
        gone && aborted
    })
    .await?;
    ensure!(lake.store.client().head(BUCKET, "w").await?.is_none());
    Ok(())
}
