//! Masters that come and go while the others serve.

use super::{client, leader, mount, start};
use crate::common::DEADLINE;
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, CreateOptions};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::wait;
use serde_json::Value;
use std::path::Path;

#[tokio::test(flavor = "multi_thread")]
async fn masters_are_listed_changed_and_replaced_by_commands() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let _store = mount(&cluster).await?;
    cluster.cli_ok(&["fs", "mkdir", "/lake/before"]).await?;
    let first = leader(&cluster).await?;
    let next = (first + 1) % 3;
    let address = cluster.master_address(next);
    cluster.cli_ok(&["masters", "transfer", &address]).await?;
    ensure!(leader(&cluster).await? == next, "{address} should lead");
    cluster.cli_ok(&["fs", "stat", "/lake/before"]).await?;
    let refused = refused(&cluster, &["masters", "remove", &address]).await?;
    ensure!(refused.contains("transfer the lead"), "{refused}");
    let refused = self::refused(&cluster, &["masters", "add", "nonsense"]).await?;
    ensure!(refused.contains("host:port"), "{refused}");
    ensure!(cluster.cli_ok(&["masters", "snapshot"]).await?.contains("durable up to entry"));
    // Every one of these is refused with the whole command that mends it.
    let lead = cluster.master_address(next);
    let refused = self::refused(&cluster, &["masters", "remove", &lead]).await?;
    ensure!(refused.contains("forebay masters transfer 127.0.0.1:"), "{refused}");

    // One loses its disk, and comes back in its own place.
    let lost = (next + 1) % 3;
    let address = cluster.master_address(lost);
    cluster.master_at(lost).kill()?;
    let refused = self::refused(&cluster, &["masters", "remove", &cluster.master_address(first)]).await?;
    ensure!(refused.contains("no majority"), "{refused}");
    ensure!(refused.contains(&format!("forebay masters add NEW --replace {address}")), "{refused}");
    std::fs::remove_dir_all(cluster.master_at(lost).dir().join("data/master"))?;
    cluster.master_at(lost).restart()?;
    wait::until("the advice", DEADLINE, || async {
        let output = cluster.cli(&["masters", "add", &address]).await;
        let told = output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
        told.contains(&format!("forebay masters add {address} --replace {address}"))
    })
    .await?;
    add(&cluster, &[&address, "--replace", &address]).await?;
    let keys = |index: usize, cluster: &mut Cluster| {
        std::fs::read(cluster.master_at(index).dir().join("data/master/secret.key"))
    };
    let (own, others) = (keys(lost, &mut cluster)?, keys(next, &mut cluster)?);
    ensure!(own == others, "all masters have the same keys");
    cluster.cli_ok(&["masters", "transfer", &address]).await?;
    cluster.cli_ok(&["fs", "stat", "/lake/before"]).await?;
    cluster.cli_ok(&["fs", "mkdir", "/lake/after"]).await?;
    Ok(())
}

/// Nothing is there that an older release could go back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_begins_with_the_newest_version() -> Result<()> {
    for masters in [1, 3] {
        let cluster = start(masters, 0).await?;
        // Again a little later where not all of them answered at once.
        let raised = || async {
            let listed = cluster.cli_ok(&["masters", "list", "--json"]).await.ok()?;
            let listed: Value = serde_json::from_str(&listed).ok()?;
            (listed["cluster_version"].as_u64() >= Some(2)).then_some(())
        };
        wait::for_some("the version of the new cluster", DEADLINE, raised).await?;
        let told = cluster.cli_ok(&["masters", "upgrade"]).await?;
        ensure!(told.contains("already, and no master knows a newer one"), "{told}");
        let listed: Value = serde_json::from_str(&cluster.cli_ok(&["masters", "list", "--json"]).await?)?;
        let master = &listed["masters"][0];
        ensure!(listed["cluster_version"] == master["version_newest"], "{listed}");
        ensure!(
            master["version_newest"].as_u64() >= Some(2) && master["release"] == env!("CARGO_PKG_VERSION"),
            "{listed}"
        );
        ensure!(listed["masters"].as_array().is_some_and(|all| all.len() == masters), "{listed}");
    }
    Ok(())
}

/// It draws keys of its own when it runs alone, which sign and seal nothing that the others could read.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_ran_alone_takes_the_keys_of_the_others() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let other = start(1, 0).await?;
    let refused = refused(&cluster, &["masters", "add", &other.master_address(0)]).await?;
    ensure!(refused.contains("keys of another cluster"), "{refused}");
    drop(other);
    let lost = (leader(&cluster).await? + 1) % 3;
    let address = cluster.master_address(lost);
    let data = cluster.master_at(lost).dir().join("data/master");
    cluster.master_at(lost).kill()?;
    for part in ["state", "log"] {
        std::fs::remove_dir_all(data.join(part))?;
    }
    std::fs::write(data.join("secret.key"), [7; 32])?;
    std::fs::write(data.join("cluster.id"), "0".repeat(32))?;
    cluster.master_at(lost).restart()?;
    add(&cluster, &[&address, "--replace", &address]).await?;
    let third = cluster.master_at((lost + 1) % 3).dir().join("data/master");
    for name in ["secret.key", "tickets.key", "cluster.id"] {
        ensure!(std::fs::read(data.join(name))? == std::fs::read(third.join(name))?, "{name} is another one");
    }
    // Asked again, as by a client whose answer was lost.
    cluster.cli_ok(&["masters", "add", &address, "--replace", &address]).await?;
    cluster.cli_ok(&["masters", "add", &address]).await?;
    cluster.cli_ok(&["masters", "transfer", &address]).await?;
    cluster.cli_ok(&["fs", "mkdir", "/after"]).await?;
    Ok(())
}

/// A cluster that has run with one master, and has data, grows while it is used. The first master was never told of others.
#[tokio::test(flavor = "multi_thread")]
async fn one_master_with_data_grows_to_three_and_may_go() -> Result<()> {
    let mut cluster = start(1, 1).await?;
    let _store = mount(&cluster).await?;
    let user = client(&cluster).await?;
    for n in 0..20 {
        write(&user, &format!("/lake/early-{n}")).await?;
    }
    for _ in 0..2 {
        let index = cluster.start_master()?;
        let address = cluster.master_address(index);
        add(&cluster, &[&address]).await?;
        write(&user, &format!("/lake/with-{index}")).await?;
    }
    cluster.master().restart()?;
    cluster.master().wait_ready(DEADLINE).await?;
    let user = client(&cluster).await?;
    write(&user, "/lake/with-all").await?;
    // The worker, which was told of the first one alone, is told of the others.
    let all: Vec<String> = cluster.masters().split(',').map(str::to_owned).collect();
    cluster.worker(0).set_masters(&all)?;
    cluster.worker(0).restart()?;
    cluster.worker(0).wait_ready(DEADLINE).await?;
    cluster.master().kill()?;
    write(&user, "/lake/without-the-first").await?;
    ensure!(leader(&cluster).await? != 0, "a dead one leads");
    let names = ["early-0", "early-19", "with-1", "with-2", "with-all", "without-the-first"];
    for path in names.map(|name| format!("/lake/{name}")) {
        ensure!(user.open(&path).await?.read_at(0, 100).await? == path.as_bytes(), "{path}");
    }
    Ok(())
}

/// With its data and its vote: while a third one is dead, nothing could be written without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_moves_to_another_address() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    cluster.cli_ok(&["fs", "mkdir", "/before"]).await?;
    let lead = leader(&cluster).await?;
    let (moving, third) = ((lead + 1) % 3, (lead + 2) % 3);
    let old = cluster.master_address(moving);
    let new = cluster.master_at(moving).move_master()?.to_string();
    cluster.master_at(moving).restart()?;
    let log = cluster.master_at(moving).dir().join("log");
    wait::until("the advice", DEADLINE, || async {
        let advice = format!("forebay masters add {new} --replace {old}");
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains(&advice))
    })
    .await?;
    add(&cluster, &[&new, "--replace", &old]).await?;
    cluster.master_at(third).kill()?;
    cluster.cli_ok(&["fs", "mkdir", "/with-two"]).await?;
    cluster.cli_ok(&["masters", "transfer", &new]).await?;
    ensure!(leader(&cluster).await? == moving, "{new} should lead");
    cluster.cli_ok(&["fs", "stat", "/before"]).await?;
    cluster.cli_ok(&["fs", "mkdir", "/led-from-there"]).await?;
    Ok(())
}

/// A disk that forgot what it had confirmed: the master says so and ends, rather than to vote with less than it has promised.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_master_is_built_anew_from_the_others() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    for n in 0..20 {
        cluster.cli_ok(&["fs", "mkdir", &format!("/before-{n}")]).await?;
    }
    let lead = leader(&cluster).await?;
    let damaged = (lead + 1) % 3;
    let address = cluster.master_address(damaged);
    let node = cluster.master_at(damaged).dir().to_owned();
    let config = node.join("forebay.toml").display().to_string();
    let rebuild = ["--config", config.as_str(), "masters", "rebuild"];
    let refused = self::refused(&cluster, &rebuild).await?;
    ensure!(refused.contains("in use by another master"), "{refused}");
    cluster.master_at(damaged).kill()?;
    damage_the_middle(&node.join("data/master/log"))?;
    cluster.master_at(damaged).restart()?;
    wait::until("the reason", DEADLINE, || async {
        let said = std::fs::read_to_string(node.join("log")).unwrap_or_default();
        said.contains("is damaged at offset") && said.contains("forebay masters rebuild")
    })
    .await?;
    let done = cluster.cli_ok(&rebuild).await?;
    ensure!(done.contains(&format!("forebay masters add {address} --replace {address}")), "{done}");
    cluster.master_at(damaged).restart()?;
    add(&cluster, &[&address, "--replace", &address]).await?;
    cluster.cli_ok(&["masters", "transfer", &address]).await?;
    cluster.cli_ok(&["fs", "stat", "/before-0", "/before-19"]).await?;
    cluster.cli_ok(&["fs", "mkdir", "/after"]).await?;
    let leads = self::refused(&cluster, &rebuild).await?;
    ensure!(leads.contains("leads"), "{leads}");
    Ok(())
}

/// Turns a byte of a record that others follow.
pub(super) fn damage_the_middle(log: &Path) -> Result<()> {
    let segments = std::fs::read_dir(log)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let segment = segments.iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")).min();
    let segment = segment.context("a segment of the log")?;
    let mut bytes = std::fs::read(segment)?;
    let written = bytes.iter().rposition(|byte| *byte != 0).context("something is written")?;
    bytes[written / 2] ^= 0x55;
    Ok(std::fs::write(segment, bytes)?)
}

/// Nobody can reach one of the list: nothing is formed, which would be a group without it, and each says whom it waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_in_the_list_is_named() -> Result<()> {
    let mut cluster = start(1, 0).await?;
    let nobody = forebay_testkit::port::Port::reserve()?.address().to_string();
    let index = cluster.start_master()?;
    let (own, other) = (cluster.master_address(index), cluster.master_address(0));
    let lonely = cluster.master_at(index);
    lonely.set_masters(&[own.clone(), nobody.clone()])?;
    lonely.restart()?;
    let log = lonely.dir().join("log");
    wait::until("the reason", DEADLINE, || async {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        said.lines().any(|line| line.contains("waiting for the other masters") && line.contains(&nobody))
    })
    .await?;
    ensure!(lonely.web("/readyz").await.is_err(), "it is not ready");
    // Its own address is not in the list.
    lonely.set_masters(&[nobody, other])?;
    lonely.restart()?;
    wait::until("the other reason", DEADLINE, || async {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("set master.advertise to its address in the list"))
    })
    .await
}

async fn write(client: &Client, path: &str) -> Result<()> {
    let mut file = client.create(path, CreateOptions::default()).await?;
    file.write(path.to_owned()).await?;
    Ok(file.close().await.map(drop)?)
}

/// Takes a master in, once it runs.
pub(super) async fn add(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    let arguments = [&["masters", "add"], arguments].concat();
    wait::until("the new one to be taken in", DEADLINE, || async {
        cluster.cli(&arguments).await.is_ok_and(|output| output.status.success())
    })
    .await
}

/// What is said to a command that must fail.
async fn refused(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    let output = cluster.cli(arguments).await?;
    ensure!(!output.status.success(), "{arguments:?} was done");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}
