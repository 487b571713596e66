//! How processes end: servers on signals, commands on failures.

use crate::common::{BUCKET, DEADLINE, Lake, program};
use anyhow::{Context, Result, ensure};
use forebay_testkit::{
    cluster::{Cluster, Layout, Tier},
    process::Process,
};
use serde_json::Value;
use std::{
    fs::File,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

const SERVER: &str = "data_dir = \"data\"\n[web]\nlisten = \"off\"\n[master]\nlisten = \"127.0.0.1:0\"\n[worker]\nlisten = \"127.0.0.1:0\"\n\
    control_listen = \"127.0.0.1:0\"\n[[worker.tiers]]\nkind = \"ssd\"\ndirectories = [{ path = \"HOME/cache\", quota = \"64MiB\" }]\n";

/// A server whose data directory is relative to `home`.
fn server_in(home: &Path) -> Result<Process> {
    std::fs::write(home.join("forebay.toml"), SERVER.replace("HOME", &home.to_string_lossy()))?;
    let mut command = Command::new(program());
    command.current_dir(home).args(["--config", "forebay.toml", "server"]);
    Process::start("server", command, &home.join("log"))
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + DEADLINE;
    while !condition().await? {
        ensure!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

fn layout() -> Layout {
    Layout { program: Some(program()), tiers: vec![Tier::ssd("cache", "64MiB")], ..Layout::default() }
}

#[tokio::test]
async fn an_interrupt_stops_a_server_clean() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    let server = cluster.master().process();
    server.signal(libc::SIGINT)?;
    let status = server.wait(DEADLINE).await?;
    ensure!(status.success() && server.log().contains("stopped"), "{status}: {}", server.log());
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_a_server_at_once() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    // A request that does not come to its end is waited for when the server stops.
    let mut peer = std::net::TcpStream::connect(cluster.master().data_address())?;
    peer.write_all(b"F")?;
    until("the worker has the connection", async || {
        Ok(cluster.master().metric("forebay_worker_connections").await.is_ok_and(|connections| connections > 0.0))
    })
    .await?;
    let server = cluster.master().process();
    until("the server has ended", async || {
        server.signal(libc::SIGINT)?;
        Ok(server.exit_status()?.is_some())
    })
    .await?;
    let status = server.wait(DEADLINE).await?;
    ensure!(status.success(), "{status}");
    ensure!(server.log().contains("second signal: stopped at once"), "{}", server.log());
    Ok(())
}

/// The worker's id is read on a thread that waits for ever, as on a dead disk: neither the start nor the end of the process waits for it.
#[tokio::test]
async fn a_signal_during_the_start_is_heard() -> Result<()> {
    let home = tempfile::tempdir()?;
    let id = home.path().join("data/worker/worker-id");
    let mut server = server_in(home.path())?;
    until("the first start is through", async || Ok(server.log().contains("is ready"))).await?;
    ensure!(server.terminate(DEADLINE).await?.success());
    std::fs::remove_file(&id)?;
    ensure!(Command::new("mkfifo").arg(&id).status()?.success());
    let mut server = server_in(home.path())?;
    // Opening for writing works when somebody reads.
    let mut held = None;
    until("the server reads its id", async || {
        held = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&id).ok();
        Ok(held.is_some())
    })
    .await?;
    ensure!(server.terminate(DEADLINE).await?.success(), "{}", server.log());
    drop(held);
    Ok(())
}

/// Servers in different directories of the same relative name are different servers, and clients elsewhere find the socket.
#[tokio::test]
async fn a_relative_data_directory_is_resolved_once() -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut server = server_in(home.path())?;
    let resolved = home.path().canonicalize()?.join("data").display().to_string();
    until("the server is ready", async || Ok(server.log().contains("is ready"))).await?;
    ensure!(server.log().contains(&format!("data     {resolved}\n")), "{}", server.log());
    server.terminate(DEADLINE).await?;
    Ok(())
}

fn json_of(output: &Output) -> Result<Value> {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut lines = text.lines();
    let value = lines.next().with_context(|| format!("nothing was told: {}", output.status))?;
    ensure!(lines.next().is_none(), "more than one object: {text}");
    serde_json::from_str(value).with_context(|| text.clone().into_owned())
}

#[tokio::test]
async fn output_that_cannot_be_written_is_a_failure() -> Result<()> {
    let mut cluster = Cluster::start(layout()).await?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let masters = cluster.master().master_address().context("it has one")?.to_string();
    for arguments in [&["fs", "ls", "/"][..], &["fs", "ls", "--json", "/"], &["status", "--json"]] {
        let full = File::options().write(true).open("/dev/full")?;
        let output = Command::new(program()).args(["--masters", &masters]).args(arguments).stdout(full).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{arguments:?}: {}: {text}", output.status);
        ensure!(text.contains("No space left on device"), "{arguments:?}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn failures_are_json_where_results_are() -> Result<()> {
    let lake = Lake::embedded().await?;
    let missing = lake.run(&["fs", "stat", "--json", "/nowhere"]).await?;
    let told = json_of(&missing)?;
    ensure!(missing.status.code() == Some(3) && told["kind"] == "not_found", "{told}");
    ensure!(told["message"].as_str().is_some_and(|message| message.contains("/nowhere")), "{told}");
    let unused = lake.run(&["fs", "stat", "--json"]).await?;
    ensure!(unused.status.code() == Some(2) && json_of(&unused)?["kind"] == "invalid_argument");
    let badly_set = lake.run(&["--set", "worker.fetch_sise=1", "config", "check", "--json"]).await?;
    let told = json_of(&badly_set)?;
    ensure!(badly_set.status.code() == Some(2) && told["kind"] == "invalid_argument", "{told}");
    ensure!(told["message"].as_str().is_some_and(|message| message.contains("did you mean worker.fetch_size?")));
    let good = lake.json(&["config", "check", "--json"]).await?;
    ensure!(good[0]["good"] == true && good[0]["warnings"].is_array(), "{good:?}");
    let yes = lake.json(&["fs", "test", "-d", "/lake", "--json"]).await?;
    ensure!(yes[0]["answer"] == true && yes[0]["path"] == "/lake", "{yes:?}");
    let no = lake.run(&["fs", "test", "-f", "/lake", "--json"]).await?;
    ensure!(no.status.code() == Some(1) && String::from_utf8_lossy(&no.stdout).contains("\"answer\":false"));
    Ok(())
}

/// What a copy that failed by itself had begun is gone when the command is.
#[tokio::test]
async fn a_copy_that_fails_leaves_nothing_being_written() -> Result<()> {
    let lake = Lake::embedded().await?;
    // A file that can be opened and not read.
    lake.fails(1, &["fs", "cp", "file:/proc/self/mem", "/lake/x"]).await?;
    let left = lake.run(&["fs", "test", "-e", "/lake/x"]).await?;
    ensure!(left.status.code() == Some(1), "{}", lake.ok(&["fs", "stat", "/lake/x"]).await?);
    Ok(())
}

/// A mistyped prefix is told; what appears there is seen all the same, as nothing of the look is remembered.
#[tokio::test]
async fn a_mount_of_nothing_is_told() -> Result<()> {
    let lake = Lake::embedded().await?;
    let (endpoint, uri) = (lake.proxy.endpoint(), format!("s3://{BUCKET}/tpyo/"));
    let mount = ["mount", "add", "/typo", &uri, "--endpoint", &endpoint, "--region", "us-east-1"];
    let output = lake.run(&mount).await?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && text.contains("/typo is empty in its store"), "{}: {text}", output.status);
    lake.put_seeded("tpyo/now", 10).await?;
    assert_eq!(lake.ok(&["fs", "ls", "/typo"]).await?, "now\n");
    lake.put_seeded("full/x", 10).await?;
    let uri = format!("s3://{BUCKET}/full");
    let mount = ["mount", "add", "/full", &uri, "--endpoint", &endpoint, "--region", "us-east-1", "--json"];
    ensure!(lake.json(&mount).await?[0]["empty"] == false);
    Ok(())
}
