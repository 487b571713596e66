//! Whether all masters have the same state, to the last byte, at the same entry of the log.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use forebay_client::Client;
use forebay_testkit::cluster::Cluster;
use forebay_testkit::wait;
use serde_json::Value;

use crate::faults::MASTERS;

const DEADLINE: Duration = Duration::from_secs(60);
/// Something may be added to the log between the stop of one master and that of the next.
const ATTEMPTS_MAX: usize = 5;

/// What `forebay debug state` says of a master's files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Digest {
    term: u64,
    index: u64,
    inodes: u64,
    /// Leases and sessions run by it; the digest leaves it out.
    log_time_ms: u64,
    digest: String,
}

/// Stops all masters when nobody is at work, compares what lies on their disks, and starts them again. What was found.
pub async fn check(cluster: &mut Cluster, client: &Client) -> Result<String> {
    for _ in 0..ATTEMPTS_MAX {
        let digests = stop_and_look(cluster, client).await?;
        for index in 0..MASTERS {
            cluster.master_at(index).restart()?;
        }
        for index in 0..MASTERS {
            cluster.master_at(index).wait_ready(DEADLINE).await?;
        }
        if digests.iter().all(|digest| digest.index == digests[0].index) {
            ensure!(digests.iter().all(|digest| *digest == digests[0]), "the masters differ: {digests:?}");
            let Digest { index, inodes, digest, .. } = &digests[0];
            return Ok(format!(
                "the state of all {MASTERS} masters at entry {index}: {inodes} inodes, digest {digest}"
            ));
        }
    }
    bail!("the masters could not be stopped at one entry of the log in {ATTEMPTS_MAX} attempts, though nobody writes")
}

/// Stopped clean, a master has on disk all that it has applied.
async fn stop_and_look(cluster: &mut Cluster, client: &Client) -> Result<Vec<Digest>> {
    let leader = wait_until_all_have_all(cluster, client).await?;
    // The leader last: nothing is added to the log by a change of the lead.
    let followers = (0..MASTERS).filter(|index| *index != leader);
    for index in followers.chain([leader]).collect::<Vec<_>>() {
        let status = cluster.master_at(index).terminate(DEADLINE).await?;
        ensure!(status.success(), "master {index} was told to stop: {status}");
    }
    let mut digests = Vec::new();
    for index in 0..MASTERS {
        let dir = cluster.master_at(index).dir().join("data/master").display().to_string();
        let told: Value = serde_json::from_str(&cluster.cli_ok(&["debug", "state", "--json", "--dir", &dir]).await?)?;
        let number = |key: &str| told[key].as_u64().with_context(|| format!("no {key} in {told}"));
        let digest = told["digest"].as_str().with_context(|| format!("no digest in {told}"))?.to_owned();
        digests.push(Digest {
            term: number("term")?,
            index: number("index")?,
            inodes: number("inodes")?,
            log_time_ms: number("log_time_ms")?,
            digest,
        });
    }
    Ok(digests)
}

/// Gives the number of the leader.
async fn wait_until_all_have_all(cluster: &Cluster, client: &Client) -> Result<usize> {
    wait::until("deletes in the background to end", DEADLINE, || async {
        let status = cluster.cli_ok(&["status", "--json"]).await.unwrap_or_default();
        serde_json::from_str::<Value>(&status).is_ok_and(|status| status["pending_deletes"] == 0)
    })
    .await?;
    let leader = wait::for_some("all masters to have all entries", DEADLINE, || async {
        let group = client.masters().await.ok()?;
        let have_all = group.masters.iter().all(|master| master.matched_index == Some(group.last_index));
        let leader = group.masters.iter().find(|master| master.leader)?;
        have_all.then(|| leader.address.clone())
    });
    let leader = leader.await?;
    let index = (0..MASTERS).find(|index| cluster.master_address(*index) == leader);
    index.with_context(|| format!("{leader} leads, and is not one of ours"))
}
