//! One master, three workers, a real S3 server, and faults between them. Every byte is compared.

mod common;

use anyhow::{Context, Result, ensure};
use common::{BUCKET, DEADLINE, Lake, Shape, write_seeded};
use forebay_testkit::{
    cluster::Tier,
    fault::{Fault, Link, When},
    wait,
};
use std::{process::Stdio, time::Duration};
use tokio::io::AsyncReadExt;

/// Several blocks of 4 MiB, so that each worker owns some.
const LENGTH: u64 = 40 << 20;

fn small_blocks() -> Shape {
    let mount_flags = vec!["--sync-interval", "0", "--option", "block_size=4MiB"];
    Shape { workers: 3, mount_flags, ..Shape::default() }
}

#[tokio::test]
async fn blocks_are_spread_and_read_hot_without_the_store() -> Result<()> {
    let mut lake = Lake::start(small_blocks()).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    lake.check("/lake/big", seeded, LENGTH).await?;
    let fetched = lake.bytes_from_store();
    ensure!(fetched <= LENGTH + LENGTH / 10, "{fetched} bytes asked for {LENGTH}");
    lake.check("/lake/big", seeded, LENGTH).await?;
    let again = lake.bytes_from_store();
    ensure!(again < LENGTH / 100, "the second read fetched {again} bytes");
    // A worker that was killed comes back with its old cache.
    lake.cluster.worker(1).kill()?;
    lake.cluster.worker(1).restart()?;
    lake.cluster.worker(1).wait_ready(DEADLINE).await?;
    lake.bytes_from_store();
    lake.check("/lake/big", seeded, LENGTH).await?;
    let again = lake.bytes_from_store();
    ensure!(again < LENGTH / 100, "after a restart {again} bytes were fetched");
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
    let disk = tmpfs::Tmpfs::mount("8m")?;
    // The quota promises more than the disk has.
    let tiers = vec![Tier::ssd(&disk.path().join("cache").to_string_lossy(), "1GiB")];
    let lake =
        Lake::start(Shape { tiers, mount_flags: vec!["--option", "block_size=4MiB"], ..Shape::default() }).await?;
    let seeded = lake.put_seeded("big", LENGTH).await?;
    for _ in 0..2 {
        lake.check("/lake/big", seeded, LENGTH).await?;
    }
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
        let seeded = forebay_testkit::data::Seeded::new(round);
        lake.store.client().put(BUCKET, "changing", seeded.bytes(0..length)).await?;
        lake.check("/lake/changing", seeded, length).await.with_context(|| format!("round {round}"))?;
    }
    lake.store.client().delete(BUCKET, "changing").await?;
    lake.fails(3, &["fs", "cat", "/lake/changing"]).await?;
    Ok(())
}

mod tmpfs {
    //! A small disk of its own.

    use anyhow::{Context, Result, ensure};
    use std::{path::Path, process::Command};
    use tempfile::TempDir;

    pub(crate) struct Tmpfs {
        dir: TempDir,
    }

    impl Tmpfs {
        pub(crate) fn mount(size: &str) -> Result<Tmpfs> {
            let dir = tempfile::tempdir()?;
            let status = Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
                .arg(dir.path())
                .status()
                .context("running mount")?;
            ensure!(status.success(), "mounting a tmpfs needs root: {status}");
            Ok(Tmpfs { dir })
        }

        pub(crate) fn path(&self) -> &Path {
            self.dir.path()
        }
    }

    impl Drop for Tmpfs {
        fn drop(&mut self) {
            // The server may still be ending when a test has failed: the lazy way never leaves the mount behind.
            let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        }
    }
}
