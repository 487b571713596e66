//! Leaders that die, under programs that write and read.

use super::changes::add;
use super::{client, leader, mount, start, start_with};
use crate::common::DEADLINE;
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, CreateOptions, MakeDirectoryOptions};
use forebay_proto::v1::namespace_client::NamespaceClient;
use forebay_proto::v1::{CreateRequest, DeleteRequest, RequestMeta};
use forebay_testkit::cluster::Cluster;
use forebay_testkit::wait;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// From the kill of a leader to the next write, on a machine that is busy with other tests as well. By itself it takes some two seconds.
const OUTAGE_MAX: Duration = Duration::from_secs(8);

/// Files of the log are named by their first entries.
const FIRST_FILE_OF_LOG: &str = "00000000000000000000.log";

/// What the writers of a test share.
struct Load {
    stop: AtomicBool,
    done: AtomicU64,
    last: Mutex<Instant>,
    /// The longest time in which no writer got an answer.
    longest: Mutex<Duration>,
}

impl Load {
    fn new() -> Arc<Load> {
        let last = Mutex::new(Instant::now());
        Arc::new(Load { stop: AtomicBool::new(false), done: AtomicU64::new(0), last, longest: Mutex::default() })
    }

    fn answered(&self) {
        let before = std::mem::replace(&mut *self.last.lock(), Instant::now());
        let mut longest = self.longest.lock();
        *longest = longest.max(before.elapsed());
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    async fn more(&self, count: u64) -> Result<()> {
        let enough = self.done.load(Ordering::Relaxed) + count;
        wait::until("load", DEADLINE, || async { self.done.load(Ordering::Relaxed) >= enough }).await
    }
}

/// Makes directories one after the other until told to stop; how many.
fn make_directories(client: Client, name: &'static str, load: Arc<Load>) -> JoinHandle<Result<u64>> {
    tokio::spawn(async move {
        let mut count = 0;
        while !load.stop.load(Ordering::Relaxed) {
            // Never "already exists": what a dying leader began is known to be ours.
            let made = client.make_directory(format!("/lake/{name}-{count}"), MakeDirectoryOptions::default()).await;
            made.with_context(|| format!("{name}-{count}"))?;
            load.answered();
            count += 1;
        }
        Ok(count)
    })
}

fn content(name: &str, number: u64) -> String {
    format!("{name} {number} ").repeat(1 + (number as usize * 37) % 2000)
}

/// Writes files until told to stop, and reads each fifth of the earlier ones again; how many.
fn write_files(client: Client, name: &'static str, load: Arc<Load>) -> JoinHandle<Result<u64>> {
    tokio::spawn(async move {
        let mut count = 0;
        while !load.stop.load(Ordering::Relaxed) {
            let path = format!("/lake/{name}-{count}");
            let mut file = client.create(&path, CreateOptions::default()).await.with_context(|| path.clone())?;
            file.write(content(name, count)).await.with_context(|| path.clone())?;
            file.close().await.with_context(|| path.clone())?;
            load.answered();
            if count % 5 == 4 {
                check_file(&client, name, count / 2).await?;
            }
            count += 1;
        }
        Ok(count)
    })
}

async fn check_file(client: &Client, name: &str, number: u64) -> Result<()> {
    let (path, expected) = (format!("/lake/{name}-{number}"), content(name, number));
    let file = client.open(&path).await.with_context(|| format!("{path} was acknowledged"))?;
    ensure!(file.len() as usize == expected.len(), "{path} has {} bytes instead of {}", file.len(), expected.len());
    let found = file.read_at(0, expected.len()).await.with_context(|| format!("reading {path}"))?;
    ensure!(found == expected.as_bytes(), "{path} has other bytes");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_leaders_lose_nothing_and_are_replaced_in_seconds() -> Result<()> {
    let mut cluster = start(3, 2).await?;
    let _store = mount(&cluster).await?;
    let load = Load::new();
    let makers = ["a", "b"].map(async |name| Ok((name, make_directories(client(&cluster).await?, name, load.clone()))));
    let makers: Vec<_> = futures::future::join_all(makers).await.into_iter().collect::<Result<_>>()?;
    let writers = ["c", "d"].map(async |name| Ok((name, write_files(client(&cluster).await?, name, load.clone()))));
    let writers: Vec<_> = futures::future::join_all(writers).await.into_iter().collect::<Result<_>>()?;
    for round in 0..3 {
        load.more(50).await?;
        let leader = leader(&cluster).await?;
        *load.longest.lock() = Duration::ZERO;
        cluster.master_at(leader).kill()?;
        // What was under way is answered in the first moment at most.
        load.more(20).await?;
        let longest = *load.longest.lock();
        println!("round {round}: {longest:?} without a successful write");
        ensure!(longest < OUTAGE_MAX, "{longest:?} without a successful write");
        cluster.master_at(leader).restart()?;
        cluster.master_at(leader).wait_ready(DEADLINE).await?;
    }
    load.stop.store(true, Ordering::Relaxed);
    let reader = client(&cluster).await?;
    for (name, maker) in makers {
        let count = maker.await??;
        println!("{name}: {count} directories");
        for n in 0..count {
            reader.stat(format!("/lake/{name}-{n}")).await.with_context(|| format!("{name}-{n} was acknowledged"))?;
        }
    }
    for (name, writer) in writers {
        let count = writer.await??;
        println!("{name}: {count} files");
        for n in 0..count {
            check_file(&reader, name, n).await?;
        }
    }
    Ok(())
}

/// The answer to a delete is lost with the leader that gave it. A new leader that did not know the request would say that there is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_its_first_reply_from_the_next_leader() -> Result<()> {
    let mut cluster = start(3, 0).await?;
    cluster.cli_ok(&["fs", "mkdir", "/directory"]).await?;
    let first = leader(&cluster).await?;
    delete(&cluster, first, 1).await?;
    cluster.master_at(first).kill()?;
    let second = leader(&cluster).await?;
    ensure!(second != first, "the dead one leads");
    is_remembered(&cluster, second).await
}

/// As the one before, and the next leader has never seen the request: it lost its disk, and got its state as a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_gets_its_first_reply_from_a_leader_that_got_a_snapshot() -> Result<()> {
    let small_log = "master.log_segment = \"8KiB\"\nmaster.log_flush = \"16KiB\"\nmaster.log_keep = 20\n";
    let mut cluster = start_with(3, 0, small_log).await?;
    cluster.cli_ok(&["fs", "mkdir", "/directory"]).await?;
    let first = leader(&cluster).await?;
    delete(&cluster, first, 1).await?;
    let lost = (first + 1) % 3;
    cluster.master_at(lost).kill()?;
    std::fs::remove_dir_all(cluster.master_at(lost).dir().join("data/master"))?;
    // The others forget the entry of that request, which is in the first file of their logs.
    let others: Vec<_> = (0..3).filter(|index| *index != lost).collect();
    let logs: Vec<_> = others.iter().map(|index| cluster.master_at(*index).dir().join("data/master/log")).collect();
    for log in &logs {
        ensure!(log.join(FIRST_FILE_OF_LOG).exists(), "{} has files of other names", log.display());
    }
    let (user, mut made) = (client(&cluster).await?, 0);
    let end = Instant::now() + DEADLINE;
    while logs.iter().any(|log| log.join(FIRST_FILE_OF_LOG).exists()) {
        ensure!(Instant::now() < end, "the log is kept: {logs:?} after {made} changes");
        user.make_directory(format!("/{made}"), MakeDirectoryOptions::default()).await?;
        made += 1;
    }
    cluster.master_at(lost).restart()?;
    let address = cluster.master_address(lost);
    add(&cluster, &[&address, "--replace", &address]).await?;
    wait::until("the new one to lead", DEADLINE, || async {
        cluster.cli(&["masters", "transfer", &address]).await.is_ok_and(|output| output.status.success())
    })
    .await?;
    ensure!(leader(&cluster).await? == lost, "{address} should lead");
    is_remembered(&cluster, lost).await
}

/// Has one master delete `/directory`, as a request with a number of its own.
async fn delete(cluster: &Cluster, master: usize, sequence: u64) -> Result<()> {
    let mut namespace = NamespaceClient::connect(format!("http://{}", cluster.master_address(master))).await?;
    let meta = Some(RequestMeta { client: 77, sequence, acked_below: 1 });
    namespace.delete(DeleteRequest { meta, path: "/directory".into(), ..DeleteRequest::default() }).await?;
    Ok(())
}

/// Whether a master answers the first request as it was answered, though there is nothing to delete any more.
async fn is_remembered(cluster: &Cluster, master: usize) -> Result<()> {
    delete(cluster, master, 1).await.context("the same request again")?;
    let other = delete(cluster, master, 2).await.err().context("another request has another outcome")?;
    let status = other.downcast_ref::<tonic::Status>();
    ensure!(status.is_some_and(|status| status.code() == tonic::Code::NotFound), "another request: {other:#}");
    Ok(())
}

/// Deletes take their time, and leases end, whoever leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_goes_on_with_the_work_in_the_background() -> Result<()> {
    let mut cluster = start_with(3, 1, "master.purge_rate = 20\nmaster.write_lease = \"3s\"\n").await?;
    let store = mount(&cluster).await?;
    let user = client(&cluster).await?;
    // Objects of one directory go together: each of these takes a second.
    for n in 0..100 {
        let directory = format!("/lake/many/{}", n / 20);
        let parents = MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
        user.make_directory(directory.as_str(), parents).await?;
        let mut file = user.create(format!("{directory}/{n}"), CreateOptions::default()).await?;
        file.write("bytes").await?;
        file.close().await?;
    }
    let first = leader(&cluster).await?;
    // Its writer is never heard of again.
    let mut namespace = NamespaceClient::connect(format!("http://{}", cluster.master_address(first))).await?;
    let meta = Some(RequestMeta { client: 77, sequence: 1, acked_below: 1 });
    namespace.create(CreateRequest { meta, path: "/lake/left".into(), ..CreateRequest::default() }).await?;
    user.stat("/lake/left").await?;
    cluster.cli_ok(&["fs", "rm", "-r", "/lake/many"]).await?;
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let in_store = || entries(&store.path().join("many")).flat_map(|path| entries(&path)).count();
    wait::until("the first objects to go", DEADLINE, || async { in_store() < 100 }).await?;
    cluster.master_at(first).kill()?;
    let found = in_store();
    ensure!(found > 0, "all is deleted already");
    wait::until("the others to go", DEADLINE, || async { in_store() == 0 && !store.path().join("many").exists() })
        .await?;
    wait::until("the lease to end", DEADLINE, || async {
        cluster.cli(&["fs", "test", "-e", "/lake/left"]).await.is_ok_and(|output| output.status.code() == Some(1))
    })
    .await?;
    wait::until("nothing to be pending", DEADLINE, || async {
        let status = cluster.cli_ok(&["status", "--json"]).await.unwrap_or_default();
        serde_json::from_str::<serde_json::Value>(&status).is_ok_and(|status| status["pending_deletes"] == 0)
    })
    .await
}
