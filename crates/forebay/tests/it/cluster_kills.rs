//! One master, three workers, a real S3 server: faults under writers, and workers that die and come back under readers. Every byte is compared.

use crate::common::{BUCKET, DEADLINE, Lake, Shape, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    cluster::Tier,
    data::Seeded,
    fault::{Fault, When},
    wait,
};
use std::{path::Path, process::Stdio, time::Duration};

/// Three parts of 4 MiB, one in each block.
const LENGTH: u64 = 12 << 20;
/// Stored by one PUT.
const SMALL: u64 = 100_000;

fn small_blocks() -> Shape {
    let mount_flags = vec!["--sync-interval", "0", "--option", "block_size=4MiB", "--option", "stall_timeout=2s"];
    Shape { workers: 3, mount_flags, ..Shape::default() }
}

/// Writes a local file to `/lake/NAME`.
async fn copy_in(lake: &Lake, dir: &Path, name: &str, length: u64) -> Result<Seeded> {
    let local = dir.join(name);
    let seeded = write_seeded(&local, length)?;
    lake.ok(&["fs", "cp", &format!("file:{}", local.display()), &format!("/lake/{name}")]).await?;
    Ok(seeded)
}

/// The store has these bytes, the tree has them, and nothing else is left.
async fn check_both(lake: &Lake, name: &str, seeded: Seeded, length: u64) -> Result<()> {
    ensure!(lake.store.client().get(BUCKET, name).await? == seeded.bytes(0..length), "the store has other bytes");
    lake.check(&format!("/lake/{name}"), seeded, length).await?;
    ensure!(lake.store.client().uploads(BUCKET).await?.is_empty(), "an upload is left over");
    Ok(())
}

#[tokio::test]
async fn faults_of_the_store_do_not_reach_the_writer() -> Result<()> {
    let lake = Lake::start(small_blocks()).await?;
    let dir = tempfile::tempdir()?;
    let faults = [
        ("slow-down", Fault::slow_down()),
        ("reset", Fault::Reset),
        ("lost-answer", Fault::LoseAnswer),
        ("internal", Fault::Status(500, "InternalError")),
        ("silent", Fault::BlackHole),
        ("late", Fault::Delay(Duration::from_millis(300))),
    ];
    for (fault_name, fault) in faults {
        for (size, length) in [("small", SMALL), ("large", LENGTH)] {
            let name = format!("{fault_name}-{size}");
            let rule = lake.proxy.inject(When::put().path_contains(&name).times(2), fault.clone());
            let seeded = copy_in(&lake, dir.path(), &name, length).await.with_context(|| name.clone())?;
            ensure!(lake.proxy.struck(rule) > 0, "{name} never struck");
            check_both(&lake, &name, seeded, length).await.with_context(|| name.clone())?;
            lake.proxy.clear();
        }
    }
    for (name, fault) in [("end-lost", Fault::LoseAnswer), ("end-error", Fault::ErrorInOk("InternalError"))] {
        let rule = lake.proxy.inject(When::complete_upload().path_contains(name).times(1), fault);
        let seeded = copy_in(&lake, dir.path(), name, LENGTH).await.with_context(|| name.to_owned())?;
        ensure!(lake.proxy.struck(rule) == 1, "{name} never struck");
        check_both(&lake, name, seeded, LENGTH).await.with_context(|| name.to_owned())?;
        lake.proxy.clear();
    }
    Ok(())
}

/// The store has the object, the worker dies before it knows: the next one recognises it.
#[tokio::test]
async fn a_worker_killed_after_its_put_is_not_noticed() -> Result<()> {
    let mut lake = Lake::start(small_blocks()).await?;
    let dir = tempfile::tempdir()?;
    let local = dir.path().join("small");
    let seeded = write_seeded(&local, SMALL)?;
    for round in 0..2 {
        // A file that is new, then one that is overwritten.
        let put = || When::put().path_contains("/copy");
        lake.proxy.inject(put().times(1), Fault::LoseAnswer);
        let stuck = lake.proxy.inject(put(), Fault::BlackHole);
        let mut copy = lake.cluster.command(&["fs", "cp"]);
        copy.arg(format!("file:{}", local.display())).arg("/lake/copy");
        let copy = copy.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        wait::until("the worker to try again", DEADLINE, || async { lake.proxy.struck(stuck) > 0 }).await?;
        ensure!(lake.store.client().get(BUCKET, "copy").await? == seeded.bytes(0..SMALL), "the first try got there");
        let busy = busy_worker(&mut lake).await?;
        lake.cluster.worker(busy).kill()?;
        lake.proxy.clear();
        let output = copy.wait_with_output().await?;
        ensure!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
        check_both(&lake, "copy", seeded, SMALL).await?;
        lake.cluster.worker(busy).restart()?;
        lake.cluster.worker(busy).wait_ready(DEADLINE).await?;
        if round == 0 {
            let other = Seeded::named("other");
            lake.store.client().put(BUCKET, "copy", other.bytes(0..SMALL)).await?;
        }
    }
    Ok(())
}

/// The worker that a client is connected to.
async fn busy_worker(lake: &mut Lake) -> Result<usize> {
    for index in 0..lake.cluster.worker_count() {
        if lake.cluster.worker(index).metric("forebay_worker_connections").await? > 0.0 {
            return Ok(index);
        }
    }
    anyhow::bail!("no worker has a connection")
}

/// A cache that is too small evicts all the time; workers are killed and come back under readers, also those that read by descriptors.
#[tokio::test]
async fn workers_that_die_and_come_back_give_only_right_bytes() -> Result<()> {
    let tiers = vec![Tier::ssd("cache", "8MiB")];
    let mut lake = Lake::start(Shape { tiers, ..small_blocks() }).await?;
    let mut files = Vec::new();
    for name in ["a", "b", "c"] {
        files.push((format!("/lake/{name}"), lake.put_seeded(name, LENGTH).await?));
    }
    for round in 0..6 {
        let reads: Vec<_> = files.iter().map(|(path, _)| lake.cluster.command(&["fs", "cat", path])).collect();
        let reads = reads.into_iter().map(|mut read| async move { read.output().await });
        let reads = tokio::spawn(futures::future::try_join_all(reads));
        for _ in 0..3 {
            lake.cluster.worker(round % 3).kill()?;
            lake.cluster.worker(round % 3).restart()?;
            lake.cluster.worker(round % 3).wait_ready(DEADLINE).await?;
        }
        for ((path, seeded), output) in files.iter().zip(reads.await??) {
            ensure!(output.status.success(), "{path}: {}", String::from_utf8_lossy(&output.stderr));
            ensure!(output.stdout.len() as u64 == LENGTH, "{path}: {} bytes", output.stdout.len());
            seeded.check(0, &output.stdout).with_context(|| format!("{path} in round {round}"))?;
        }
    }
    Ok(())
}
