//! One master, three workers, a real S3 server, and faults between them. Every byte is compared.

use crate::common::{BUCKET, DEADLINE, Lake, Shape, program, small_disk::SmallDisk, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    cluster::Tier,
    data::Seeded,
    fault::{Fault, Link, When},
    wait,
};
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use tokio::io::AsyncReadExt;

/// Several blocks, so that each worker owns some.
const LENGTH: u64 = 10 * BLOCK;
const BLOCK: u64 = 4 << 20;

fn small_blocks() -> Shape {
    let mount_flags = vec!["--sync-interval", "0", "--option", "block_size=4MiB"];
    Shape { workers: 3, mount_flags, ..Shape::default() }
}

#[tokio::test]
async fn blocks_are_spread_and_read_hot_without_the_store() -> Result<()> {
    let mut lake = Lake::start(small_blocks()).await?;
    let expected = lake.put_seeded("big", LENGTH).await?.bytes(0..LENGTH);
    // A worker that has not heard of the others takes their blocks for its own.
    for index in 0..3 {
        let worker = &*lake.cluster.worker(index);
        let knows_all =
            || async { worker.metric("forebay_worker_known_workers").await.is_ok_and(|count| count == 3.0) };
        wait::until("a worker to know all", DEADLINE, knows_all).await?;
    }
    ensure!(lake.cat_from_afar("/lake/big").await? == expected, "other bytes");
    let fetched = lake.bytes_from_store();
    ensure!(fetched <= LENGTH + LENGTH / 10, "{fetched} bytes asked for {LENGTH}");
    ensure!(lake.cat_from_afar("/lake/big").await? == expected, "other bytes, hot");
    let again = lake.bytes_from_store();
    ensure!(again < LENGTH / 100, "the second read fetched {again} bytes");
    let cached = lake.cached("/lake/big").await?;
    ensure!(cached.len() > 1 && cached.values().sum::<u64>() >= LENGTH, "spread over workers: {cached:?}");
    // A worker that was killed comes back with its old cache, and serves it. One that was alone at the start may hold all of it, for the others.
    let owners = cached.iter().filter(|(_, held)| **held < LENGTH);
    let (address, held) = owners.max_by_key(|(_, held)| **held).context("cached")?;
    let busiest = (0..3).find(|index| lake.cluster.worker(*index).data_address().to_string() == *address);
    let busiest = busiest.with_context(|| format!("{address} is a worker"))?;
    lake.cluster.worker(busiest).kill()?;
    lake.cluster.worker(busiest).restart()?;
    lake.cluster.worker(busiest).wait_ready(DEADLINE).await?;
    wait::until("the worker to find its cache", DEADLINE, || async {
        lake.cached("/lake/big").await.is_ok_and(|after| after.get(address) == Some(held))
    })
    .await?;
    lake.bytes_from_store();
    ensure!(lake.cat_from_afar("/lake/big").await? == expected, "other bytes, after a restart");
    let again = lake.bytes_from_store();
    ensure!(again < LENGTH / 100, "after a restart {again} bytes were fetched");
    let served = lake.cluster.worker(busiest).metric("forebay_worker_read_hit_bytes_total").await?;
    ensure!(served >= BLOCK as f64, "{served} bytes of {held} were served by the worker that came back");
    Ok(())
}

#[tokio::test]
async fn faults_of_the_store_do_not_reach_the_reader() -> Result<()> {
    let lake = Lake::start(small_blocks()).await?;
    for (name, fault) in [
        ("slow-down", Fault::slow_down()),
        ("reset", Fault::Reset),
        ("half-body", Fault::CutBody(100_000)),
        ("internal", Fault::Status(500, "InternalError")),
        ("late", Fault::Delay(Duration::from_millis(300))),
    ] {
        let seeded = lake.put_seeded(name, LENGTH / 4).await?;
        let rule = lake.proxy.inject(When::get().path_contains(name).times(3), fault);
        lake.check(&format!("/lake/{name}"), seeded, LENGTH / 4).await.with_context(|| name.to_owned())?;
        ensure!(lake.proxy.struck(rule) > 0, "{name} never struck");
        lake.proxy.clear();
    }
    Ok(())
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_what_is_cached_still_reads() -> Result<()> {
    let shape = Shape { mount_flags: vec!["--sync-interval", "1h"], ..small_blocks() };
    let lake = Lake::start(shape).await?;
    let seeded = lake.put_seeded("cached", LENGTH / 4).await?;
    lake.put_seeded("cold", 1000).await?;
    lake.ok(&["fs", "ls", "/lake"]).await?;
    lake.check("/lake/cached", seeded, LENGTH / 4).await?;
    lake.proxy.refuse();
    lake.check("/lake/cached", seeded, LENGTH / 4).await?;
    let text = lake.fails(6, &["--set", "client.deadline=5s", "fs", "cat", "/lake/cold"]).await?;
    ensure!(text.contains("error:"), "{text}");
    ensure!(text.contains("note: still waiting for bytes of /lake/cold; giving up after 5s"), "{text}");
    lake.proxy.accept()?;
    ensure!(lake.cat("/lake/cold").await?.len() == 1000);
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_read_is_not_noticed() -> Result<()> {
    let mut lake = Lake::start(small_blocks()).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    lake.proxy.set_link(Link { bytes_per_second: Some(20 << 20), ..Link::default() });
    let mut child = lake.cluster.command(&["fs", "cat", "/lake/big"]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("piped")?;
    let mut found = vec![0; 4 << 20];
    output.read_exact(&mut found).await?;
    lake.cluster.worker(0).kill()?;
    lake.cluster.worker(2).pause()?;
    output.read_to_end(&mut found).await?;
    let status = child.wait().await?;
    lake.cluster.worker(2).resume()?;
    ensure!(status.success(), "{status}");
    ensure!(found.len() as u64 == LENGTH, "{} bytes", found.len());
    seeded.check(0, &found)?;
    Ok(())
}

#[tokio::test]
async fn a_worker_killed_in_the_middle_of_a_write_is_not_noticed() -> Result<()> {
    let mut lake = Lake::start(small_blocks()).await?;
    let dir = tempfile::tempdir()?;
    let seeded = write_seeded(&dir.path().join("big"), LENGTH)?;
    lake.proxy.set_link(Link { bytes_per_second: Some(20 << 20), ..Link::default() });
    let local = format!("file:{}", dir.path().join("big").display());
    let copy = lake.cluster.command(&["fs", "cp", &local, "/lake/copy"]).spawn()?;
    wait::until("parts to reach the store", DEADLINE, || async {
        lake.proxy.totals_of(|seen| seen.target.contains("partNumber=")).requests >= 2
    })
    .await?;
    lake.cluster.worker(1).kill()?;
    let output = copy.wait_with_output().await?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(lake.store.client().get(BUCKET, "copy").await? == seeded.bytes(0..LENGTH), "the store has other bytes");
    lake.check("/lake/copy", seeded, LENGTH).await?;
    ensure!(lake.store.client().uploads(BUCKET).await?.is_empty(), "an upload is left over");
    Ok(())
}

#[tokio::test]
async fn a_writer_that_dies_leaves_nothing() -> Result<()> {
    let lake = Lake::start(Shape { extra_toml: "master.write_lease = \"2s\"\n".to_owned(), ..small_blocks() }).await?;
    let dir = tempfile::tempdir()?;
    write_seeded(&dir.path().join("big"), LENGTH)?;
    lake.proxy.set_link(Link { bytes_per_second: Some(8 << 20), ..Link::default() });
    let local = format!("file:{}", dir.path().join("big").display());
    let mut copy = lake.cluster.command(&["fs", "cp", &local, "/lake/dead"]).spawn()?;
    wait::until("parts to reach the store", DEADLINE, || async {
        lake.proxy.totals_of(|seen| seen.target.contains("partNumber=")).requests >= 2
    })
    .await?;
    copy.start_kill()?;
    copy.wait().await?;
    wait::until("the upload to be aborted", DEADLINE, || async {
        lake.store.client().uploads(BUCKET).await.is_ok_and(|uploads| uploads.is_empty())
    })
    .await?;
    wait::until("the unfinished file to go", DEADLINE, || async {
        lake.run(&["fs", "test", "-e", "/lake/dead"]).await.is_ok_and(|output| output.status.code() == Some(1))
    })
    .await?;
    ensure!(lake.store.client().head(BUCKET, "dead").await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_full_disk_turns_into_reading_through() -> Result<()> {
    let disk = SmallDisk::new("8m", &program())?;
    // The quota promises more than the disk has.
    let tiers = vec![Tier::ssd(&disk.path().join("cache").to_string_lossy(), "1GiB")];
    let mut lake = Lake::start(Shape { program: disk.program(), tiers, ..small_blocks() }).await?;
    let expected = lake.put_seeded("big", LENGTH).await?.bytes(0..LENGTH);
    for round in 0..3 {
        ensure!(lake.cat_from_afar("/lake/big").await? == expected, "other bytes in round {round}");
    }
    let cached = lake.cached("/lake/big").await?;
    let held: u64 = cached.values().sum();
    ensure!(held > 0 && held < LENGTH, "{held} of {LENGTH} bytes are cached: {cached:?}");
    // Somebody else takes what the cache had left free: now the disks are full to the last byte.
    for index in 0..3 {
        disk.fill(lake.cluster.worker(index).process().pid())?;
    }
    let other = lake.put_seeded("other", LENGTH).await?.bytes(0..LENGTH);
    for round in 0..2 {
        ensure!(lake.cat_from_afar("/lake/other").await? == other, "other bytes with full disks, round {round}");
        ensure!(lake.cat_from_afar("/lake/big").await? == expected, "other bytes of the first file, round {round}");
    }
    let mut through = 0.0;
    for index in 0..3 {
        through += lake.cluster.worker(index).metric("forebay_worker_read_through_bytes_total").await?;
    }
    ensure!(through > LENGTH as f64, "{through} bytes were read through");
    // The disks are others' now: what is used is no more than what can be, and the reason is told.
    wait::until("the status to tell of other data", DEADLINE, || async {
        let Ok(status) = lake.json(&["status", "--json"]).await else { return false };
        let workers = status[0]["workers"].as_array().cloned().unwrap_or_default();
        let number = |worker: &Value, name: &str| worker["tiers"][0][name].as_u64().unwrap_or_default();
        workers.iter().all(|worker| {
            let (used, capacity) = (number(worker, "used"), number(worker, "capacity"));
            used <= capacity && capacity < number(worker, "quota") && number(worker, "other") > 0
        })
    })
    .await?;
    let told = lake.ok(&["status"]).await?;
    ensure!(told.contains("quota 1GiB: its disk has no room for more") && told.contains("is other data"), "{told}");
    let dir = tempfile::tempdir()?;
    let written = write_seeded(&dir.path().join("w"), LENGTH)?;
    lake.ok(&["fs", "cp", &format!("file:{}", dir.path().join("w").display()), "/lake/w"]).await?;
    lake.check("/lake/w", written, LENGTH).await
}

#[tokio::test]
async fn changed_objects_are_seen_and_never_mixed() -> Result<()> {
    let lake = Lake::start(small_blocks()).await?;
    for round in 0..5u64 {
        let length = LENGTH / 8 + round;
        let seeded = Seeded::new(round);
        lake.store.client().put(BUCKET, "changing", seeded.bytes(0..length)).await?;
        lake.check("/lake/changing", seeded, length).await.with_context(|| format!("round {round}"))?;
    }
    lake.store.client().delete(BUCKET, "changing").await?;
    lake.fails(3, &["fs", "cat", "/lake/changing"]).await?;
    for same_host in ["true", "false"] {
        change_under_a_reader(&lake, same_host).await.with_context(|| format!("same_host={same_host}"))?;
    }
    Ok(())
}

/// The object changes while a reader that the store makes slow is in the middle of it: what he gets is a start of the old one, and an error.
async fn change_under_a_reader(lake: &Lake, same_host: &str) -> Result<()> {
    let (key, path) = (format!("under-{same_host}"), format!("/lake/under-{same_host}"));
    let (old, new) = (Seeded::named("old"), Seeded::named("new"));
    lake.store.client().put(BUCKET, &key, old.bytes(0..LENGTH)).await?;
    lake.proxy.set_link(Link { bytes_per_second: Some(12 << 20), ..Link::default() });
    let setting = format!("client.same_host={same_host}");
    let mut command = lake.cluster.command(&["--set", &setting, "fs", "cat", &path]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("piped")?;
    let mut found = vec![0; 2 << 20];
    output.read_exact(&mut found).await?;
    lake.store.client().put(BUCKET, &key, new.bytes(0..LENGTH)).await?;
    output.read_to_end(&mut found).await?;
    let ended = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    old.check(0, &found).with_context(|| format!("a mixture in {} bytes: {said}", found.len()))?;
    ensure!(ended.status.code() == Some(7), "{} after {} bytes: {said}", ended.status, found.len());
    ensure!((found.len() as u64) < LENGTH, "all of it was read before the change");
    lake.proxy.set_link(Link::default());
    lake.check(&path, new, LENGTH).await
}
