//! A lead that ends while its master lives: it is stopped, or gives the lead away.

use super::{client, client_of, leader, mount, start};
use crate::common::{BUCKET, DEADLINE, Lake, Shape};
use anyhow::{Context, Result, ensure};
use forebay_client::{ClientConfig, CreateOptions, Deadlines, MakeDirectoryOptions};
use forebay_testkit::{fault::Link, wait};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// It slept through its own end, and wakes up with all that it had in memory: every answer from here on is what the others say now.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_answers_nothing_old() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let user = client(&cluster).await?;
    let old = leader(&cluster).await?;
    let others: Vec<_> = (0..3).filter(|index| *index != old).map(|index| cluster.master_address(index)).collect();
    // Asked before, so that everything is at hand for a quick and wrong answer.
    let deadlines = Deadlines { metadata: Duration::from_secs(5), ..Deadlines::default() };
    let config = ClientConfig { deadlines, ..ClientConfig::new([cluster.master_address(old)]) };
    let only_old = forebay_client::Client::connect(config).await?;
    for round in 0..3 {
        let path = format!("/round-{round}");
        wait::until("the old one to say that there is nothing yet", DEADLINE, || async {
            only_old.stat(&path).await.is_err_and(|error| error.kind() == forebay_client::ErrorKind::NotFound)
        })
        .await?;
        cluster.master_at(old).pause()?;
        let others = client_of(&others.join(",")).await?;
        others.make_directory(&path, MakeDirectoryOptions::default()).await?;
        cluster.master_at(old).resume()?;
        // It does not lead, or knows it: "not found" would be old.
        if let Err(error) = only_old.stat(&path).await {
            ensure!(error.kind() != forebay_client::ErrorKind::NotFound, "an old answer: {error}");
        }
        user.stat(&path).await?;
        let address = cluster.master_address(old);
        wait::until("the old one to lead again", DEADLINE, || async {
            cluster.cli(&["masters", "transfer", &address]).await.is_ok_and(|output| output.status.success())
        })
        .await?;
        ensure!(leader(&cluster).await? == old, "{address} should lead");
    }
    Ok(())
}

/// The streams between masters end by nothing else than the stop: as long as one is read, its connection waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_told_to_stop_waits_for_no_other_one() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let user = client(&cluster).await?;
    let lead = leader(&cluster).await?;
    for (round, index) in [(lead + 1) % 3, lead].into_iter().enumerate() {
        user.make_directory(&format!("/{round}"), MakeDirectoryOptions::default()).await?;
        let ended = cluster.master_at(index).terminate(DEADLINE).await?;
        ensure!(ended.success(), "{ended}");
        let said = cluster.master_at(index).process().log();
        ensure!(said.contains("stopped") && !said.contains("are cut off"), "{said}");
        cluster.master_at(index).restart()?;
        cluster.master_at(index).wait_ready(DEADLINE).await?;
    }
    Ok(())
}

/// A worker and a client whose lists name one master, which does not lead.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_told_of_one_master_follows_it_to_the_leader() -> Result<()> {
    let mut cluster = start(3, 1).await?;
    let _store = mount(&cluster).await?;
    let lead = leader(&cluster).await?;
    let known = cluster.master_address((lead + 1) % 3);
    cluster.worker(0).set_masters(std::slice::from_ref(&known))?;
    cluster.worker(0).restart()?;
    cluster.worker(0).wait_ready(DEADLINE).await?;
    let user = client_of(&known).await?;
    for (path, leads) in [("/lake/one", lead), ("/lake/two", (lead + 2) % 3)] {
        let address = cluster.master_address(leads);
        cluster.cli_ok(&["masters", "transfer", &address]).await?;
        let mut file = user.create(path, CreateOptions::default()).await?;
        file.write(path.to_owned()).await?;
        file.close().await?;
        ensure!(user.open(path).await?.read_at(0, 100).await? == path.as_bytes(), "{path}");
    }
    Ok(())
}

/// The lead goes in the middle of a rename of objects, which takes its time: the client's next attempt goes to the next leader and ends well.
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_outlives_the_lead_that_began_it() -> Result<()> {
    let mut lake = Lake::start(Shape { masters: 3, workers: 1, ..Shape::default() }).await?;
    let mut seeds = Vec::new();
    for n in 0..100 {
        seeds.push(lake.put_seeded(&format!("from/{n}"), 10_000).await?);
    }
    lake.ok(&["fs", "ls", "/lake/from"]).await?;
    for (round, (from, to)) in [("from", "to"), ("to", "from")].into_iter().enumerate() {
        lake.proxy.set_link(Link { latency: Duration::from_millis(300), ..Link::default() });
        let copies = || lake.proxy.totals_of(|seen| seen.method == "PUT").requests;
        let before = copies();
        let rename = lake.cluster.command(&["fs", "mv", &format!("/lake/{from}"), &format!("/lake/{to}")]).spawn()?;
        wait::until("the first copies", DEADLINE, || async { copies() > before + 10 }).await?;
        let old = leader(&lake.cluster).await?;
        match round {
            0 => {
                let next = lake.cluster.master_address((old + 1) % 3);
                lake.cluster.cli_ok(&["masters", "transfer", &next]).await?;
            }
            _ => lake.cluster.master_at(old).kill()?,
        }
        let output = rename.wait_with_output().await?;
        ensure!(output.status.success(), "the rename failed");
        lake.proxy.set_link(Link::default());
        wait::until("the old objects to go", DEADLINE, || async {
            lake.store.client().list(BUCKET, &format!("{from}/")).await.is_ok_and(|left| left.is_empty())
        })
        .await?;
        for (n, seeded) in seeds.iter().enumerate() {
            lake.check(&format!("/lake/{to}/{n}"), *seeded, 10_000).await.with_context(|| format!("round {round}"))?;
        }
        ensure!(lake.run(&["fs", "test", "-e", &format!("/lake/{from}")]).await?.status.code() == Some(1));
    }
    Ok(())
}

/// A leader that is told to stop hands its lead over before it does anything else: others wait for the next one no longer than for a message.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_told_to_stop_hands_its_lead_over() -> Result<()> {
    let mut lake = Lake::start(Shape { masters: 3, workers: 1, ..Shape::default() }).await?;
    let mut seeds = Vec::new();
    for n in 0..100 {
        seeds.push(lake.put_seeded(&format!("from/{n}"), 1_000).await?);
    }
    lake.ok(&["fs", "ls", "/lake/from"]).await?;
    let user = client(&lake.cluster).await?;
    lake.proxy.set_link(Link { latency: Duration::from_millis(300), ..Link::default() });
    let copies = || lake.proxy.totals_of(|seen| seen.method == "PUT").requests;
    let rename = lake.cluster.command(&["fs", "mv", "/lake/from", "/lake/to"]).spawn()?;
    wait::until("the first copies", DEADLINE, || async { copies() > 10 }).await?;
    let stop = Arc::new(AtomicBool::new(false));
    let makes = tokio::spawn({
        let stop = stop.clone();
        async move {
            let (mut longest, mut count) = (Duration::ZERO, 0);
            while !stop.load(Ordering::Relaxed) {
                let begun = Instant::now();
                user.make_directory(format!("/during-{count}"), MakeDirectoryOptions::default()).await?;
                (longest, count) = (longest.max(begun.elapsed()), count + 1);
            }
            Ok::<_, forebay_client::Error>((longest, count))
        }
    });
    let old = leader(&lake.cluster).await?;
    let begun = Instant::now();
    let status = lake.cluster.master_at(old).terminate(DEADLINE).await?;
    let ended = begun.elapsed();
    let next = leader(&lake.cluster).await?;
    stop.store(true, Ordering::Relaxed);
    let (longest, count) = makes.await??;
    println!("ended after {ended:?}; the longest of {count} changes took {longest:?}");
    // It waits up to ten seconds for calls under way, twice.
    ensure!(status.success() && ended < Duration::from_secs(9), "{status} after {ended:?}");
    ensure!(next != old && longest < Duration::from_secs(5), "a change took {longest:?}");
    let output = rename.wait_with_output().await?;
    ensure!(output.status.success(), "the rename failed");
    lake.proxy.set_link(Link::default());
    for (n, seeded) in seeds.iter().enumerate() {
        lake.check(&format!("/lake/to/{n}"), *seeded, 1_000).await?;
    }
    Ok(())
}

/// As a machine that is gone: connections stay, and nothing comes.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_falls_silent_is_left_within_seconds() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let user = client(&cluster).await?;
    for round in 0..2 {
        user.make_directory(format!("/before-{round}"), MakeDirectoryOptions::default()).await?;
        let old = leader(&cluster).await?;
        cluster.master_at(old).pause()?;
        let begun = Instant::now();
        user.make_directory(format!("/after-{round}"), MakeDirectoryOptions::default()).await?;
        let took = begun.elapsed();
        cluster.master_at(old).resume()?;
        println!("{took:?} without a leader that answers");
        ensure!(took < Duration::from_secs(7), "{took:?} without a leader that answers");
    }
    Ok(())
}

/// Longer than any lease; short enough that the store believes signatures (15 minutes).
const AHEAD_SECONDS: i64 = 10 * 60;

/// The next leader's clock is far ahead: writes under way keep their leases, and files get the right time.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_the_next_leader_ends_no_lease() -> Result<()> {
    let mut lake = Lake::start(Shape {
        masters: 3,
        workers: 1,
        own_clocks: true,
        extra_toml: "master.write_lease = \"20s\"\n".to_owned(),
        ..Shape::default()
    })
    .await?;
    let user = client(&lake.cluster).await?;
    let mut slow = user.create("/lake/slow", CreateOptions::default()).await?;
    slow.write("first half, ").await?;
    let old = leader(&lake.cluster).await?;
    for other in (0..3).filter(|other| *other != old) {
        lake.cluster.master_at(other).set_clock(AHEAD_SECONDS)?;
    }
    // The others see log time pass: seven seconds of changes.
    let begun = Instant::now();
    let mut made = 0;
    wait::until("log time to pass", DEADLINE, || {
        made += 1;
        let (user, path) = (user.clone(), format!("/before-{made}"));
        async move {
            let made = user.make_directory(path, MakeDirectoryOptions::default()).await;
            made.is_ok() && begun.elapsed() > Duration::from_secs(7)
        }
    })
    .await?;
    lake.cluster.master_at(old).kill()?;
    let after = user.make_directory("/after", MakeDirectoryOptions::default()).await?;
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis() as u64;
    ensure!(after.modified.0.abs_diff(now_ms) < 60_000, "made at {} when it is {now_ms}", after.modified.0);
    slow.write("second half").await?;
    slow.close().await.context("a write whose lease should not have ended")?;
    ensure!(user.open("/lake/slow").await?.read_at(0, 100).await? == "first half, second half");
    Ok(())
}
