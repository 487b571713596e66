//! One master that is left of three: it serves nobody, and says why.

use super::{client, leader, mount, start};
use crate::common::DEADLINE;
use anyhow::{Context, Result, ensure};
use forebay_client::{DeleteOptions, MakeDirectoryOptions, MountSpec};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::wait;
use futures::future::try_join_all;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_master_without_a_majority_names_the_silent_ones() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let left = leader(&cluster).await?;
    let others: Vec<usize> = (0..3).filter(|index| *index != left).collect();
    ensure!(cluster.master_at(left).web("/readyz").await? == "ok\n");
    for index in &others {
        cluster.master_at(*index).kill()?;
    }
    let lonely = &*cluster.master_at(left);
    let said = wait::for_some("it to miss the majority", DEADLINE, || async {
        let said = lonely.web("/readyz").await.err()?.to_string();
        said.contains("majority").then_some(said)
    })
    .await?;
    ensure!(said.contains("503"), "{said}");
    let own = cluster.master_address(left);
    let run = async |arguments: &[&str]| -> Result<std::process::Output> {
        Ok(cluster.command(arguments).env("FOREBAY_CLIENT_DEADLINE", "5s").output().await?)
    };
    let refused = run(&["fs", "ls", "/"]).await?;
    let told = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && told.contains("majority"), "{told}");
    ensure!(!told.contains(&format!("the leader is {own}")), "{told}");
    ensure!(others.iter().all(|index| told.contains(&cluster.master_address(*index))), "{told}");
    let listed = run(&["masters", "list"]).await?;
    let text = String::from_utf8_lossy(&listed.stdout);
    ensure!(listed.status.success() && text.contains(&format!("as {own} saw it last")), "{text}{listed:?}");

    cluster.master_at(others[0]).restart()?;
    wait::until("to be served again", DEADLINE, || async {
        cluster.cli(&["fs", "ls", "/"]).await.is_ok_and(|output| output.status.success())
    })
    .await
}

/// Longer than a lease: the leader serves nobody meanwhile, and leads again in the same term when the others are back.
const SILENCE: Duration = Duration::from_millis(1_500);
const ROUNDS: usize = 4;
const CHANGES: usize = 24;

/// Their answers are lost with the lead, and the clients ask again. Who did not know what is in its own log would say that there is nothing to delete, that
/// the directory exists, and that the new mount is none.
#[tokio::test(flavor = "multi_thread")]
async fn changes_under_way_in_a_lead_that_is_regained_are_done_once() -> Result<()> {
    let mut cluster = start(3, 1).await?;
    let _store = mount(&cluster).await?;
    let user = client(&cluster).await?;
    for round in 0..ROUNDS {
        let name = |kind: &str, n: usize| format!("/lake/{kind}-{round}-{n}");
        for n in 0..CHANGES {
            user.make_directory(name("old", n), MakeDirectoryOptions::default()).await?;
        }
        let lead = leader(&cluster).await?;
        let others: Vec<usize> = (0..3).filter(|index| *index != lead).collect();
        for index in &others {
            cluster.master_at(*index).pause()?;
        }
        let (user, begun) = (&user, std::time::Instant::now());
        let changes = (0..CHANGES).map(|n| async move {
            let deleted = user.delete(name("old", n), DeleteOptions::default()).await;
            deleted.with_context(|| name("old", n))?;
            let made = user.make_directory(name("new", n), MakeDirectoryOptions::default()).await;
            made.map(drop).with_context(|| name("new", n))
        });
        let changes = try_join_all(changes);
        let (other, at) = (tempfile::tempdir()?, format!("/mounted-{round}"));
        std::fs::write(other.path().join("file"), "content")?;
        let spec = MountSpec { uri: format!("file://{}", other.path().display()), ..MountSpec::default() };
        let mount = user.add_mount(&*at, spec, false);
        let silence = async {
            wait::until("the silence to end", DEADLINE, || async { begun.elapsed() > SILENCE }).await?;
            others.iter().try_for_each(|index| cluster.master_at(*index).resume())
        };
        let (changed, mounted, resumed) = tokio::join!(changes, mount, silence);
        resumed?;
        changed?;
        mounted.context("mounting")?;
        ensure!(user.stat(&*format!("{at}/file")).await?.length == 7);
        user.remove_mount(&*at, false).await?;
    }
    Ok(())
}

/// Those that are in no group, or are not told anything by one any more, say so to whoever looks whether they can serve.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_is_none_any_more_is_not_ready() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let lead = leader(&cluster).await?;
    let (wiped, removed) = ((lead + 1) % 3, (lead + 2) % 3);
    cluster.master_at(wiped).kill()?;
    std::fs::remove_dir_all(cluster.master_at(wiped).dir().join("data/master"))?;
    cluster.master_at(wiped).restart()?;
    not_ready(&mut cluster, wiped, "belongs to no group of masters yet").await?;
    let address = cluster.master_address(wiped);
    wait::until("it to be taken in", DEADLINE, || async {
        let output = cluster.cli(&["masters", "add", &address, "--replace", &address]).await;
        output.is_ok_and(|output| output.status.success())
    })
    .await?;
    cluster.master_at(wiped).wait_ready(DEADLINE).await?;
    ensure!(cluster.master_at(removed).web("/readyz").await? == "ok\n");
    cluster.cli_ok(&["masters", "remove", &cluster.master_address(removed)]).await?;
    not_ready(&mut cluster, removed, "removed").await?;
    cluster.master_at(removed).restart()?;
    not_ready(&mut cluster, removed, "removed").await
}

async fn not_ready(cluster: &mut Cluster, index: usize, reason: &str) -> Result<()> {
    let master = &*cluster.master_at(index);
    wait::until(&format!("a master to be not ready: {reason}"), DEADLINE, || async {
        let said = master.web("/readyz").await.err().map(|error| error.to_string());
        said.is_some_and(|said| said.contains("503") && said.contains(reason))
    })
    .await
}

/// Who leads, how far the others are and who is silent can be seen from outside, on each of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_group_is_seen_in_metrics() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let lead = leader(&cluster).await?;
    let (follower, third) = ((lead + 1) % 3, (lead + 2) % 3);
    shows(&mut cluster, lead, &[("is_leader", 1.0), ("has_leader", 1.0), ("members", 3.0), ("members_silent", 0.0)])
        .await?;
    shows(&mut cluster, follower, &[("is_leader", 0.0), ("has_leader", 1.0), ("members", 3.0)]).await?;
    cluster.master_at(third).kill()?;
    cluster.cli_ok(&["fs", "mkdir", "/without-it"]).await?;
    shows(&mut cluster, lead, &[("members_silent", 1.0)]).await?;
    let address = cluster.master_address(third);
    let master = &*cluster.master_at(lead);
    wait::until("the lag of the dead one", DEADLINE, || async {
        let page = master.web("/metrics").await.unwrap_or_default();
        let sample = |name: &str| {
            let series = format!("forebay_raft_member_{name}{{member=\"{address}\"}} ");
            page.lines().find_map(|line| line.strip_prefix(&series)?.parse::<f64>().ok()).unwrap_or_default()
        };
        sample("lag_entries") >= 1.0 && sample("silent_seconds") >= 1.0
    })
    .await?;
    cluster.master_at(third).restart()?;
    shows(&mut cluster, lead, &[("members_silent", 0.0), ("member_lag_entries", 0.0)]).await?;
    cluster.cli_ok(&["masters", "transfer", &cluster.master_address(follower)]).await?;
    shows(&mut cluster, follower, &[("is_leader", 1.0)]).await?;
    shows(&mut cluster, lead, &[("is_leader", 0.0), ("members_silent", 0.0)]).await?;
    for counted in ["term", "elections_total", "leader_changes_total"] {
        let master = &*cluster.master_at(follower);
        wait::until(counted, DEADLINE, || async {
            master.metric(&format!("forebay_raft_{counted}")).await.is_ok_and(|found| found >= 1.0)
        })
        .await?;
    }
    Ok(())
}

/// Waits until the metrics of a master have these values.
async fn shows(cluster: &mut Cluster, index: usize, wanted: &[(&str, f64)]) -> Result<()> {
    let master = &*cluster.master_at(index);
    for (name, value) in wanted {
        wait::until(&format!("{name} to be {value}"), DEADLINE, || async {
            master.metric(&format!("forebay_raft_{name}")).await.is_ok_and(|found| found == *value)
        })
        .await?;
    }
    Ok(())
}
