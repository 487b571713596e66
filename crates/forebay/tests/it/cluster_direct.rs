//! Real processes, real S3 servers, and no worker that serves: clients read from the store itself. Every byte is compared.

use crate::common::{BUCKET, DEADLINE, Lake, Shape, write_seeded};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    data::Seeded,
    fault::{Fault, Link, Totals, When},
    s3::{Minio, S3Server, Versitygw},
    wait,
};
use std::{process::Stdio, time::Duration};
use tokio::io::AsyncReadExt;

/// Several blocks and segments.
const LENGTH: u64 = 40 << 20;
/// A master that has just begun waits no longer than that for workers to call.
const SETTLED_SOON: &str = "master.worker_timeout = \"1s\"\n";
/// In the query of a signed URL and of nothing else that goes to the store.
const SIGNED: &str = "X-Amz-Signature";

fn shape(workers: usize) -> Shape {
    let mount_flags = vec!["--sync-interval", "0", "--option", "block_size=4MiB"];
    let extra_toml = if workers == 0 { SETTLED_SOON.to_owned() } else { String::new() };
    Shape { workers, lone_masters: true, extra_toml, mount_flags, ..Shape::default() }
}

/// What clients asked the store for themselves.
fn direct(lake: &Lake) -> Totals {
    lake.proxy.totals_of(|seen| seen.target.contains(SIGNED))
}

fn signed() -> When {
    When::get().query_has(SIGNED)
}

/// Nothing that was written anywhere tells a signature.
fn check_logs(lake: &mut Lake) -> Result<()> {
    let log = lake.cluster.master().process().log();
    ensure!(!log.is_empty() && !log.contains(SIGNED), "the master's log has a signed URL, or nothing");
    for index in 0..lake.cluster.worker_count() {
        ensure!(!lake.cluster.worker(index).process().log().contains(SIGNED), "a worker's log has a signed URL");
    }
    Ok(())
}

async fn without_workers(store: S3Server) -> Result<()> {
    let shape = Shape { extra_toml: format!("log.level = \"trace\"\n{SETTLED_SOON}"), ..shape(0) };
    let mut lake = Lake::over(store, shape).await?;
    let seeded = lake.put_seeded("dir/a b+%é", LENGTH).await?;
    lake.check("/lake/dir/a b+%é", seeded, LENGTH).await?;
    let asked = direct(&lake);
    ensure!(asked.asked == LENGTH, "{} bytes were asked for {LENGTH}", asked.asked);
    // Only what is needed.
    let head = lake.run(&["fs", "head", "-c", "1000", "/lake/dir/a b+%é"]).await?;
    ensure!(head.status.success() && head.stdout == seeded.bytes(0..1000));
    let asked = direct(&lake).asked - asked.asked;
    ensure!(asked <= 1000, "{asked} bytes were asked for 1000");

    let dir = tempfile::tempdir()?;
    let local = write_seeded(&dir.path().join("f"), LENGTH)?;
    lake.ok(&["mount", "add", "/local", &format!("file://{}", dir.path().display())]).await?;
    lake.check("/local/f", local, LENGTH).await?;
    check_logs(&mut lake)
}

#[tokio::test]
async fn a_cluster_without_workers_reads_from_its_stores() -> Result<()> {
    without_workers(Versitygw::start().await?).await?;
    without_workers(Minio::start().await?).await
}

#[tokio::test]
async fn the_death_of_all_workers_in_the_middle_of_a_read_is_not_noticed() -> Result<()> {
    let mut lake = Lake::start(shape(3)).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    lake.proxy.set_link(Link { bytes_per_second: Some(20 << 20), ..Link::default() });
    let cat = ["--set", "client.read_timeout=1s", "fs", "cat", "/lake/big"];
    let mut child = lake.cluster.command(&cat).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("piped")?;
    let mut found = vec![0; 4 << 20];
    output.read_exact(&mut found).await?;
    ensure!(direct(&lake).requests == 0, "the store was read although workers serve");
    lake.cluster.worker(0).kill()?;
    lake.cluster.worker(1).pause()?;
    lake.cluster.worker(2).kill()?;
    output.read_to_end(&mut found).await?;
    let status = child.wait().await?;
    lake.cluster.worker(1).resume()?;
    ensure!(status.success(), "{status}");
    ensure!(found.len() as u64 == LENGTH, "{} bytes", found.len());
    seeded.check(0, &found)?;
    ensure!(direct(&lake).requests > 0, "all was read before the workers were dead");
    check_logs(&mut lake)
}

#[tokio::test]
async fn a_worker_that_comes_back_is_used_again() -> Result<()> {
    let mut lake = Lake::start(shape(1)).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    lake.cluster.worker(0).kill()?;
    lake.check("/lake/big", seeded, LENGTH).await?;
    let before = direct(&lake).requests;
    ensure!(before > 0);
    lake.cluster.worker(0).restart()?;
    lake.cluster.worker(0).wait_ready(DEADLINE).await?;
    lake.check("/lake/big", seeded, LENGTH).await?;
    ensure!(direct(&lake).requests == before, "the store was read although the worker is back");
    let cached: u64 = lake.cached("/lake/big").await?.values().sum();
    ensure!(cached == LENGTH, "{cached} bytes are cached");
    Ok(())
}

/// Between the right and the GET the object becomes another: who has nothing of the old one gets all of the new.
#[tokio::test]
async fn an_object_that_changes_before_its_first_byte_is_read_whole_in_its_new_version() -> Result<()> {
    for store in [Versitygw::start().await?, Minio::start().await?] {
        let lake = Lake::over(store, shape(0)).await?;
        lake.put_seeded("changing", LENGTH).await?;
        let hold = lake.proxy.hold(signed());
        let child = lake.cluster.command(&["fs", "cat", "/lake/changing"]).stdout(Stdio::piped()).spawn()?;
        let asked = || async { direct(&lake).requests > 0 };
        wait::until("the client to ask the store", DEADLINE, asked).await?;
        let new = Seeded::named("another");
        lake.store.client().put(BUCKET, "changing", new.bytes(0..LENGTH)).await?;
        hold.release();
        lake.proxy.clear();
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "{}", output.status);
        ensure!(output.stdout.len() as u64 == LENGTH, "{} bytes", output.stdout.len());
        new.check(0, &output.stdout)?;
    }
    Ok(())
}

#[tokio::test]
async fn an_object_that_changes_under_a_direct_reader_is_a_conflict_and_never_a_mixture() -> Result<()> {
    let lake = Lake::start(shape(0)).await?;
    let old = lake.put_seeded("changing", LENGTH).await?;
    lake.proxy.set_link(Link { bytes_per_second: Some(10 << 20), ..Link::default() });
    let mut child = lake.cluster.command(&["fs", "cat", "/lake/changing"]).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("piped")?;
    let mut found = vec![0; 2 << 20];
    output.read_exact(&mut found).await?;
    lake.store.client().put(BUCKET, "changing", Seeded::named("another").bytes(0..LENGTH)).await?;
    output.read_to_end(&mut found).await?;
    let status = child.wait().await?;
    ensure!(status.code() == Some(7), "{status} is no conflict");
    ensure!((found.len() as u64) < LENGTH, "all of it");
    old.check(0, &found)?;
    Ok(())
}

#[tokio::test]
async fn a_right_that_has_ended_is_renewed() -> Result<()> {
    let extra_toml = format!("master.direct_grant_lifetime = \"1s\"\n{SETTLED_SOON}");
    let lake = Lake::start(Shape { extra_toml, ..shape(0) }).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    lake.proxy.set_link(Link { bytes_per_second: Some(10 << 20), ..Link::default() });
    let mut lake = lake;
    lake.check("/lake/big", seeded, LENGTH).await?;
    let granted = lake.cluster.master().metric("forebay_master_direct_grants_total").await?;
    ensure!(granted >= 3.0, "{granted} rights in four seconds");
    // One that the store takes for ended, whatever the client thinks.
    lake.proxy.set_link(Link::default());
    let rule = lake.proxy.inject(signed().times(1), Fault::Status(403, "AccessDenied"));
    lake.check("/lake/big", seeded, LENGTH).await?;
    ensure!(lake.proxy.struck(rule) == 1);
    Ok(())
}

#[tokio::test]
async fn faults_of_the_store_do_not_reach_the_direct_reader() -> Result<()> {
    let lake = Lake::start(shape(0)).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    for (name, fault) in [
        ("slow-down", Fault::slow_down()),
        ("reset", Fault::Reset),
        ("half-body", Fault::CutBody(100_000)),
        ("internal", Fault::Status(500, "InternalError")),
        ("late", Fault::Delay(Duration::from_millis(300))),
    ] {
        let rule = lake.proxy.inject(signed().times(4), fault);
        lake.check("/lake/big", seeded, LENGTH).await.with_context(|| name.to_owned())?;
        ensure!(lake.proxy.struck(rule) == 4, "{name} struck {} times", lake.proxy.struck(rule));
        lake.proxy.clear();
    }
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_read_from_the_store_is_an_error_that_says_so() -> Result<()> {
    let lake = Lake::start(shape(0)).await?;
    let seeded = lake.put_seeded("a", 1000).await?;
    let cat = ["--set", "client.deadline=2s", "fs", "cat", "/lake/a"];
    lake.ok(&["mount", "update", "/lake", "--option", "direct=never"]).await?;
    let told = lake.fails(6, &cat).await?;
    let expected = "error: cannot read /lake/a at 0: there is no live worker; nor from its store: clients must not read from the \
                    store of /lake (option direct=never)";
    ensure!(told.contains(expected), "{told}");
    ensure!(told.contains("check that workers run and are reached: forebay status"), "{told}");
    ensure!(told.contains("or allow it: forebay mount update /lake --option direct=fallback"), "{told}");
    lake.ok(&["mount", "update", "/lake", "--option", "direct=fallback"]).await?;
    let told = lake.fails(6, &[&["--set", "client.direct_reads=false"], &cat[..]].concat()).await?;
    ensure!(told.contains("error: cannot read /lake/a at 0: there is no live worker\n"), "{told}");
    ensure!(direct(&lake).requests == 0, "the store was read");
    lake.check("/lake/a", seeded, 1000).await
}
