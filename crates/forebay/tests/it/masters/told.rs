//! What commands say of masters that do not serve: the fact, who is meant by it, and the whole command that mends it.

use super::{leader, start};
use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::port::Port;
use forebay_testkit::wait;
use serde_json::Value;
use std::process::Output;

/// Runs a command that knows these masters, and gives up after some seconds.
async fn run(cluster: &Cluster, masters: &str, arguments: &[&str]) -> Result<Output> {
    let mut command = tokio::process::Command::new(cluster.program());
    command.args(["--masters", masters]).args(arguments).env("FOREBAY_CLIENT_DEADLINE", "5s").kill_on_drop(true);
    Ok(command.output().await?)
}

/// What is told to one that must fail with that code.
async fn told(cluster: &Cluster, masters: &str, code: i32, arguments: &[&str]) -> Result<String> {
    let output = run(cluster, masters, arguments).await?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(code), "{arguments:?}: {} instead of {code}: {text}", output.status);
    Ok(text)
}

fn says(text: &str, parts: &[&str]) -> Result<()> {
    parts.iter().try_for_each(|part| {
        ensure!(text.contains(part), "{part:?} is missing: {text}");
        Ok(())
    })
}

/// Of three that are to make a group only one runs yet.
#[tokio::test(flavor = "multi_thread")]
async fn masters_that_have_formed_no_group_say_whom_they_wait_for() -> Result<()> {
    let mut cluster = start(1, 0).await?;
    let index = cluster.start_master()?;
    let own = cluster.master_address(index);
    // Held, so that nobody else is there.
    let ports = (Port::reserve()?, Port::reserve()?);
    let (second, third) = (ports.0.address().to_string(), ports.1.address().to_string());
    let lonely = cluster.master_at(index);
    lonely.kill()?;
    // It may have met the other one already, and is to know nobody.
    let _ = std::fs::remove_dir_all(lonely.dir().join("data/master"));
    lonely.set_masters(&[own.clone(), second.clone(), third.clone()])?;
    lonely.restart()?;
    let log = lonely.dir().join("log");
    wait::until("it to wait", DEADLINE, || async {
        std::fs::read_to_string(&log).is_ok_and(|said| said.contains("waiting for the other masters"))
    })
    .await?;
    let list = [own.as_str(), &second, &third].join(",");
    let waits = format!("{own} answers (this master is starting and waits for the others: ");
    let silent = [format!("{second} does not ("), format!("{third} does not (")];
    let parts = ["not within 5s: the masters have formed no group yet: ", &waits, &silent[0], &silent[1]];
    for arguments in [&["masters", "list"][..], &["fs", "ls", "/"]] {
        let text = told(&cluster, &list, 6, arguments).await?;
        says(&text, &parts)?;
        says(&text, &["hint: new masters form their group when all of the list run"])?;
    }
    let nobody = told(&cluster, &format!("{second},{third}"), 6, &["masters", "list"]).await?;
    says(&nobody, &["not within 5s: no master answers: ", &silent[0], &silent[1], "hint: check that a master"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_majority_is_said_with_who_answers_and_who_does_not() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    let lead = leader(&cluster).await?;
    let (left, gone) = ((lead + 1) % 3, [lead, (lead + 2) % 3]);
    for index in gone {
        cluster.master_at(index).kill()?;
    }
    let own = cluster.master_address(left);
    let lost = gone.map(|index| cluster.master_address(index));
    // It followed, and finds out when it asks for votes.
    let master = &*cluster.master_at(left);
    let ready = wait::for_some("it to miss the majority", DEADLINE, || async {
        let said = master.web("/readyz").await.err()?.to_string();
        said.contains("no majority of the masters answers this one").then_some(said)
    })
    .await?;
    says(&ready, &[&lost[0], &lost[1]])?;
    let fact = "no majority of the masters answers: ";
    let silent = lost.clone().map(|address| format!("{address} does not ("));
    let way = "docs/operations/masters.md, \"When the majority is lost\"";
    // Also where the list does not name the others.
    for masters in [cluster.masters(), own.clone()] {
        let text = told(&cluster, &masters, 6, &["fs", "ls", "/"]).await?;
        says(&text, &["not within 5s: ", fact, &format!("{own} answers"), &silent[0], &silent[1], way])?;
    }
    let page = include_str!("../../../../../docs/operations/masters.md");
    says(page, &["\n## When the majority is lost\n"])?;
    let listed = run(&cluster, &cluster.masters(), &["masters", "list"]).await?;
    let text = String::from_utf8_lossy(&listed.stdout);
    ensure!(listed.status.success(), "{listed:?}");
    says(&text, &[&format!("as {own} saw it last"), fact, "does not answer: ", way])?;
    let listed = run(&cluster, &cluster.masters(), &["masters", "list", "--json"]).await?;
    let listed: Value = serde_json::from_slice(&listed.stdout)?;
    let answers = |address: &String| {
        let masters = listed["masters"].as_array()?;
        masters.iter().find(|master| master["address"] == *address)?["answers"].as_bool()
    };
    ensure!(answers(&own) == Some(true) && lost.iter().all(|lost| answers(lost) == Some(false)), "{listed}");
    ensure!(listed["trouble"].as_str().is_some_and(|trouble| trouble.starts_with(fact)), "{listed}");
    Ok(())
}

/// The digest of a master's state on disk.
async fn digest(cluster: &mut Cluster, index: usize) -> Result<Value> {
    let dir = cluster.master_at(index).dir().join("data/master").display().to_string();
    let state: Value = serde_json::from_str(&cluster.cli_ok(&["debug", "state", "--json", "--dir", &dir]).await?)?;
    ensure!(state["inodes"].as_u64() >= Some(11), "master {index} has not all on disk: {state}");
    Ok(state["digest"].clone())
}

/// What the page says about comparing: the digests of masters that were flushed, while nothing changes, are the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_of_all_masters_and_their_digests_are_the_same() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    for n in 0..10 {
        cluster.cli_ok(&["fs", "mkdir", &format!("/d{n}")]).await?;
    }
    let done = cluster.cli_ok(&["masters", "snapshot"]).await?;
    let of = |address: &str| done.lines().find(|line| line.starts_with(address)).map(str::to_owned);
    for index in 0..3 {
        let line = of(&cluster.master_address(index)).with_context(|| format!("master {index} is missing: {done}"))?;
        ensure!(line.contains("durable up to entry"), "{line}");
    }
    ensure!(done.lines().filter(|line| line.contains(" (leader): ")).count() == 1, "{done}");
    let first = digest(&mut cluster, 0).await?;
    for index in [1, 2] {
        ensure!(digest(&mut cluster, index).await? == first, "master {index} has another state");
    }
    // One that does not answer is named, and the others do it.
    let lost = (leader(&cluster).await? + 1) % 3;
    cluster.master_at(lost).kill()?;
    let output = cluster.cli(&["masters", "snapshot"]).await?;
    let (done, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.code() == Some(6) && done.lines().count() == 2, "{output:?}");
    says(&failed, &[&format!("{}: no answer: ", cluster.master_address(lost))])
}

/// One code for each way to fail, and the command that mends it where there is one.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_refused_say_what_to_do_and_have_their_exit_codes() -> Result<()> {
    let mut cluster = start(1, 0).await?;
    let (masters, only) = (cluster.masters(), cluster.master_address(0));
    let port = Port::reserve()?;
    let nobody = port.address().to_string();
    told(&cluster, &masters, 2, &["masters", "add", "nonsense"]).await?;
    let text = told(&cluster, &masters, 6, &["masters", "add", &nobody]).await?;
    says(&text, &[&nobody, "hint: check the address"])?;
    told(&cluster, &masters, 3, &["masters", "remove", &nobody]).await?;
    told(&cluster, &masters, 3, &["masters", "add", "127.0.0.1:1", "--replace", &nobody]).await?;
    let text = told(&cluster, &masters, 7, &["masters", "remove", &only]).await?;
    let way = format!("forebay masters add NEW, forebay masters transfer NEW, forebay masters remove {only}");
    says(&text, &["is the only one", &way, "to end the cluster, stop the server"])?;

    // With two, which are both needed.
    let index = cluster.start_master()?;
    let second = cluster.master_address(index);
    wait::until("the second one to be taken in", DEADLINE, || async {
        cluster.cli(&["masters", "add", &second]).await.is_ok_and(|output| output.status.success())
    })
    .await?;
    let masters = cluster.masters();
    let text = told(&cluster, &masters, 7, &["masters", "remove", &only]).await?;
    says(&text, &[&format!("such as: forebay masters transfer {second}")])?;
    Ok(())
}

/// What damage was found has a code of its own, also where a server finds it when it starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_damaged_log_ends_with_its_exit_code() -> Result<()> {
    let mut cluster = start(1, 0).await?;
    for n in 0..20 {
        cluster.cli_ok(&["fs", "mkdir", &format!("/d{n}")]).await?;
    }
    let node = cluster.master();
    node.kill()?;
    super::changes::damage_the_middle(&node.dir().join("data/master/log"))?;
    node.restart()?;
    let ended = node.process().wait(DEADLINE).await?;
    let said = std::fs::read_to_string(node.dir().join("log"))?;
    ensure!(ended.code() == Some(8) && said.contains("is damaged at offset"), "{ended}: {said}");
    Ok(())
}

/// A master that is in nobody's list is refused before it starts, by the check as by the server.
#[tokio::test]
async fn a_master_outside_of_its_list_is_found_by_the_check() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("f.toml");
    let run = |text: &str, arguments: &[&str], environment: &[(&str, &str)]| -> Result<(Option<i32>, String)> {
        std::fs::write(&file, text)?;
        let mut command = std::process::Command::new(program());
        command.arg("--config").arg(&file).args(arguments).envs(environment.iter().copied());
        let output = command.output()?;
        Ok((output.status.code(), String::from_utf8(output.stderr)?))
    };
    let list = "masters = [\"127.0.0.1:7401\", \"127.0.0.1:7402\", \"127.0.0.1:7403\"]\n";
    let wrong = format!("roles = [\"master\"]\ndata_dir = \"data\"\n{list}master.listen = \"127.0.0.1:7404\"\n");
    for arguments in [&["config", "check"][..], &["server"]] {
        let (code, text) = run(&wrong, arguments, &[])?;
        ensure!(code == Some(2), "{arguments:?}: {code:?}: {text}");
        says(
            &text,
            &["master.listen", "is reached at \"127.0.0.1:7404\"; set master.advertise to its address in the list"],
        )?;
    }
    // For commands it is of no matter, and a file that says nothing of a server may be that of a client.
    ensure!(run(&wrong, &["config", "show"], &[])?.0 == Some(0));
    let (code, text) = run(list, &["config", "check"], &[])?;
    ensure!(code == Some(0), "{text}");
    says(&text, &["note: a server does not start with it: bad value for master.listen"])?;
    let right = wrong.replace("7404", "7403");
    let (code, text) =
        run(&right, &["config", "check"], &[("FOREBAY_MASTERS", "127.0.0.1:7403,10.0.0.1:7400,10.0.0.2:7400")])?;
    ensure!(code == Some(0), "{text}");
    says(&text, &["note: FOREBAY_MASTERS (", "takes the place of masters in "])?;
    let (_, text) = run(&right, &["config", "check"], &[])?;
    ensure!(!text.contains("FOREBAY_MASTERS"), "{text}");
    Ok(())
}
