//! Three masters as processes and clients that allow old answers: masters that do not lead answer them too, within the bound, and nobody goes back behind what he has
//! seen or done.

use crate::common::{DEADLINE, program};
use anyhow::{Context, Result, bail, ensure};
use forebay_client::{
    AttributeChanges, Client, ClientConfig, Deadlines, ErrorKind, MakeDirectoryOptions, StatOptions, Xattr,
};
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::linearize::bounded::{Asked, check_sessions, may_be_old};
use forebay_testkit::linearize::{Model, Operation, Verdict};
use parking_lot::Mutex;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const SERVED: &str = "forebay_master_follower_reads_total{outcome=\"served\"";
const MARK: &str = "mark";
/// How long a call of this suite is tried that is to fail.
const IN_VAIN: Duration = Duration::from_secs(3);

async fn start() -> Result<Cluster> {
    Cluster::start(Layout { program: Some(program()), masters: 3, lone_masters: true, ..Layout::default() }).await
}

async fn client(cluster: &Cluster, max_staleness: Duration, deadline: Duration) -> Result<Client> {
    let deadlines = Deadlines { connect: DEADLINE, metadata: deadline, ..Deadlines::default() };
    let masters = cluster.masters();
    Ok(Client::connect(ClientConfig { deadlines, max_staleness, ..ClientConfig::new(masters.split(',')) }).await?)
}

/// The number of the master that leads.
async fn leader(cluster: &Cluster) -> Result<usize> {
    let listed: Value = serde_json::from_str(&cluster.cli_ok(&["masters", "list", "--json"]).await?)?;
    let masters = listed["masters"].as_array().context("a list of masters")?;
    let leader = masters.iter().find(|master| master["leader"] == true).context("one leads")?;
    let address = leader["address"].as_str().context("an address")?;
    let all = cluster.masters();
    all.split(',').position(|master| master == address).with_context(|| format!("{address} is not one of {all}"))
}

/// Reads that this master has answered without leading.
async fn served(cluster: &mut Cluster, at: usize) -> Result<f64> {
    let text = cluster.master_at(at).web("/metrics").await?;
    let line = text.lines().find(|line| line.starts_with(SERVED));
    Ok(line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok()).unwrap_or(0.0))
}

async fn mkdir(client: &Client, path: &str) -> Result<()> {
    client.make_directory(path, MakeDirectoryOptions::default()).await?;
    Ok(())
}

async fn set_mark(client: &Client, path: &str, mark: u64) -> forebay_client::Result<()> {
    let xattr = Xattr { name: MARK.into(), value: mark.to_string().into() };
    let changes = AttributeChanges { set_xattrs: vec![xattr], ..AttributeChanges::default() };
    client.set_attributes(path, changes).await.map(drop)
}

async fn mark(client: &Client, path: &str) -> forebay_client::Result<u64> {
    let options = StatOptions { with_xattrs: true, ..StatOptions::default() };
    let entry = client.stat_with(path, options).await?;
    let found = entry.xattrs.iter().find(|xattr| xattr.name == MARK.as_bytes());
    Ok(found.map_or(0, |xattr| String::from_utf8_lossy(&xattr.value).parse().unwrap()))
}

/// Reads until this master has answered without leading, by a client that asks all of them.
async fn read_there(cluster: &mut Cluster, at: usize, client: &Client, path: &str) -> Result<()> {
    let (begun, before) = (Instant::now(), served(cluster, at).await?);
    while served(cluster, at).await? == before {
        ensure!(begun.elapsed() < DEADLINE, "master {at} answers no reads");
        for _ in 0..20 {
            client.stat(path).await?;
        }
    }
    Ok(())
}

/// Whatever it gets when it goes on: it cannot know that nothing is missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_stopped_answers_nothing_older_than_its_bound() -> Result<()> {
    const SHORT: Duration = Duration::from_millis(400);
    let mut cluster = start().await?;
    let writer = client(&cluster, Duration::ZERO, DEADLINE).await?;
    let (short, long) = (client(&cluster, SHORT, IN_VAIN).await?, client(&cluster, DEADLINE * 60, DEADLINE).await?);
    mkdir(&writer, "/d").await?;
    let first = leader(&cluster).await?;
    let (follower, other) = ((first + 1) % 3, (first + 2) % 3);
    for reader in [&short, &long] {
        read_there(&mut cluster, follower, reader, "/d").await?;
    }
    cluster.master_at(follower).pause()?;
    let stopped = Instant::now();
    set_mark(&writer, "/d", 1).await?;
    while stopped.elapsed() <= SHORT {
        set_mark(&writer, "/d", 2).await?;
    }
    for at in [first, other] {
        cluster.master_at(at).pause()?;
    }
    cluster.master_at(follower).resume()?;
    match mark(&short, "/d").await {
        Err(error) => {
            ensure!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded), "{error:?}")
        }
        Ok(mark) => bail!("it answers {mark}, though it cannot know whether that is true"),
    }
    // The same one, to a client that takes whatever there is.
    mark(&long, "/d").await.context("with a bound of an hour")?;
    for at in [first, other] {
        cluster.master_at(at).resume()?;
    }
    ensure!(mark(&writer, "/d").await? == 2);
    let begun = Instant::now();
    loop {
        match mark(&short, "/d").await {
            Ok(mark) => {
                ensure!(mark == 2, "{mark}");
                return Ok(());
            }
            Err(error) => ensure!(begun.elapsed() < DEADLINE, "{error:?}"),
        }
    }
}

/// What followers are good for: whoever allows it reads on while there is no leader.
#[tokio::test(flavor = "multi_thread")]
async fn reads_within_the_bound_go_on_without_a_leader() -> Result<()> {
    let mut cluster = start().await?;
    let long = client(&cluster, DEADLINE * 60, DEADLINE).await?;
    let short = client(&cluster, Duration::from_millis(200), IN_VAIN).await?;
    let strict = client(&cluster, Duration::ZERO, IN_VAIN).await?;
    // Not one of those who read: who has changed something allows no more than the time since then, less what clocks may differ by.
    mkdir(&client(&cluster, Duration::ZERO, DEADLINE).await?, "/d").await?;
    let first = leader(&cluster).await?;
    let (left, other) = ((first + 1) % 3, (first + 2) % 3);
    read_there(&mut cluster, left, &long, "/d").await?;
    cluster.master_at(first).kill()?;
    cluster.master_at(other).pause()?;
    for _ in 0..50 {
        long.stat("/d").await.context("there is one left that can answer")?;
    }
    for (whose, reader) in [("that wants what is true now", &strict), ("with a short bound", &short)] {
        let told = reader.stat("/d").await.err().with_context(|| format!("a reader {whose} is answered"))?;
        ensure!(matches!(told.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded), "{whose}: {told:?}");
    }
    cluster.master_at(other).resume()?;
    // With two of three one leads again, and all are served.
    mkdir(&long, "/e").await?;
    long.stat("/e").await?;
    cluster.master_at(first).restart()?;
    Ok(())
}

/// Until this master has asked the leader twice since the call began: what was done before is in the second answer. Nobody reads from it.
async fn keeps_up(cluster: &mut Cluster, at: usize) -> Result<()> {
    const ANSWERED: &str = "forebay_master_follower_questions_total{outcome=\"answered\"";
    let (begun, mut first) = (Instant::now(), None);
    loop {
        let text = cluster.master_at(at).web("/metrics").await?;
        let line =
            text.lines().find(|line| line.starts_with(ANSWERED)).context("the metric is there from the start")?;
        let answered: f64 = line.rsplit_once(' ').context("a sample")?.1.parse()?;
        if answered >= *first.get_or_insert(answered) + 2.0 {
            return Ok(());
        }
        ensure!(begun.elapsed() < DEADLINE, "master {at} asks nothing: {line}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// It has no connection yet, knows no worker, and nobody has read from a follower before.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_command_reads_within_its_bound_while_nobody_leads() -> Result<()> {
    let layout = Layout { program: Some(program()), masters: 3, lone_masters: true, workers: 1, ..Layout::default() };
    let mut cluster = Cluster::start(layout).await?;
    let store = tempfile::tempdir()?;
    std::fs::write(store.path().join("x"), "abc")?;
    let uri = format!("file://{}", store.path().display());
    cluster.cli_ok(&["mount", "add", "/m", &uri, "--sync-interval", "1h"]).await?;
    let first = leader(&cluster).await?;
    let (left, other) = ((first + 1) % 3, (first + 2) % 3);
    // The leader tells others of what it compares after somebody has asked.
    keeps_up(&mut cluster, left).await?;
    ensure!(cluster.cli_ok(&["fs", "cat", "/m/x"]).await? == "abc");
    keeps_up(&mut cluster, left).await?;
    cluster.master_at(first).kill()?;
    cluster.master_at(other).pause()?;
    let soon = ["--set", "client.connect_timeout=8s", "--set", "client.deadline=8s"];
    let told = cluster.cli_ok(&["fs", "ls", "--max-staleness", "1h", "/"]).await?;
    ensure!(told.contains("m/"), "{told}");
    ensure!(cluster.cli_ok(&["fs", "cat", "--max-staleness", "1h", "/m/x"]).await? == "abc");
    cluster.cli_ok(&["--set", "client.max_staleness=1h", "fs", "stat", "/m/x"]).await?;
    for arguments in [&["fs", "ls", "/"][..], &["fs", "ls", "--max-staleness", "50ms", "/"]] {
        let output = cluster.cli(&[&soon[..], arguments].concat()).await?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(6), "{arguments:?}: {text}");
        // The one that answered says so, and not one that is gone.
        let (error, answered) = (text.lines().find(|line| line.starts_with("error: ")), cluster.master_address(left));
        ensure!(error.is_some_and(|error| error.contains(&format!("{answered}: "))), "{text}");
    }
    // The last one there is answers what it led a moment ago.
    cluster.master_at(first).restart()?;
    cluster.master_at(other).resume()?;
    cluster.cli_ok(&["fs", "mkdir", "/d"]).await?;
    let now = leader(&cluster).await?;
    for at in [(now + 1) % 3, (now + 2) % 3] {
        cluster.master_at(at).kill()?;
    }
    // It may lead for some moments yet.
    let begun = Instant::now();
    while cluster.cli(&[&soon[..], &["fs", "ls", "/"]].concat()).await?.status.code() != Some(6) {
        ensure!(begun.elapsed() < DEADLINE, "one of three leads");
    }
    let told = cluster.cli_ok(&["fs", "ls", "--max-staleness", "1h", "/"]).await?;
    ensure!(told.contains("d/") && told.contains("m/"), "{told}");
    for at in [(now + 1) % 3, (now + 2) % 3] {
        cluster.master_at(at).restart()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_changes_something_sees_it_whichever_master_answers() -> Result<()> {
    let mut cluster = start().await?;
    let client = client(&cluster, DEADLINE, DEADLINE).await?;
    mkdir(&client, "/d").await?;
    let first = leader(&cluster).await?;
    let followers = [(first + 1) % 3, (first + 2) % 3];
    let (begun, mut n) = (Instant::now(), 0);
    loop {
        n += 1;
        set_mark(&client, "/d", n).await?;
        // Until the followers have answered some of them, and at least so often.
        for _ in 0..20 {
            ensure!(mark(&client, "/d").await? == n, "mark {n}");
        }
        let counts = [served(&mut cluster, followers[0]).await?, served(&mut cluster, followers[1]).await?];
        if n >= 100 && counts.iter().all(|count| *count >= 100.0) {
            break;
        }
        ensure!(begun.elapsed() < DEADLINE, "after {n} changes the followers have answered {counts:?}");
    }
    let begun = Instant::now();
    let before = served(&mut cluster, followers[0]).await? + served(&mut cluster, followers[1]).await?;
    // The same by commands, each of which is a client of its own.
    while served(&mut cluster, followers[0]).await? + served(&mut cluster, followers[1]).await? == before {
        ensure!(begun.elapsed() < DEADLINE, "no command was answered by a follower");
        let told = cluster.cli_ok(&["fs", "ls", "--max-staleness", "30s", "/"]).await?;
        ensure!(told.contains("d/"), "{told}");
    }
    Ok(())
}

/// Before anybody is asked anything.
#[tokio::test]
async fn who_says_how_old_answers_may_be_is_told_what_is_wrong_with_it() -> Result<()> {
    for (wrong, told) in [
        (&["fs", "ls", "--max-staleness", "soon", "/"][..], ["--max-staleness", "soon"]),
        (&["fs", "stat", "--max-staleness", "5", "/"], ["--max-staleness", "5"]),
        (&["fs", "ls", "--max-staleness", "-1s", "/"], ["invalid value '-1s' for '--max-staleness", "less than 0"]),
        (&["fs", "ls", "--max-staleness", "99999999d", "/"], ["invalid value '99999999d'", "1d is the most"]),
        (&["--set", "client.max_staleness=-1s", "fs", "ls", "/"], ["client.max_staleness", "-1s"]),
        (&["--set", "client.max_staleness=2d", "fs", "ls", "/"], ["client.max_staleness", "1d is the most"]),
        (&["fs", "rm", "--max-staleness", "5s", "/x"], ["--max-staleness", "unexpected"]),
    ] {
        let output = tokio::process::Command::new(program()).args(wrong).output().await?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{wrong:?}: {:?}, {text}", output.status);
        ensure!(told.iter().all(|word| text.contains(word)), "{wrong:?}: {text}");
    }
    Ok(())
}

/// A number that is written and read.
struct Register;

#[derive(Clone, Copy, Debug)]
enum Input {
    Write(u64),
    Read,
}

impl Model for Register {
    type State = u64;
    type Input = Input;
    /// What it is then.
    type Output = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, input: &Input, output: Option<&u64>) -> Option<u64> {
        let after = match input {
            Input::Write(value) => *value,
            Input::Read => *state,
        };
        output.is_none_or(|output| *output == after).then_some(after)
    }
}

/// What all clients did, in microseconds since the begin.
struct History {
    begun: Instant,
    bound: Duration,
    operations: Mutex<Vec<Operation<Asked<Input>, u64>>>,
    /// Of them answered.
    done: AtomicUsize,
    /// So many may be done for now.
    allowed: AtomicUsize,
}

impl History {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    async fn step(&self, client: &Client, asked: Asked<Input>) -> Result<()> {
        let (called, input) = (self.now(), asked.input);
        let outcome = match input {
            Input::Write(value) => set_mark(client, "/d", value).await.map(|()| value),
            Input::Read => mark(client, "/d").await,
        };
        let output = outcome.with_context(|| format!("{input:?}"))?;
        let operation = Operation { input: asked, called, returned: Some((self.now(), output)) };
        let operation = match input {
            Input::Write(_) => operation,
            Input::Read => may_be_old(operation, self.bound.as_micros() as u64),
        };
        self.operations.lock().push(operation);
        self.done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

const CLIENTS: u64 = 3;
/// Between two faults.
const OPERATIONS: usize = 60;
/// During one: a search for an order takes histories of some hundreds.
const OPERATIONS_IN_FAULT: usize = 30;

/// One writes now and then, all read; leaders are stopped and go on, or are killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_read_was_true_within_the_bound_and_nobody_goes_back() -> Result<()> {
    let bound = Duration::from_millis(100);
    let mut cluster = start().await?;
    let admin = client(&cluster, Duration::ZERO, DEADLINE).await?;
    mkdir(&admin, "/d").await?;
    let history = History {
        begun: Instant::now(),
        bound,
        operations: Mutex::default(),
        done: AtomicUsize::new(0),
        allowed: AtomicUsize::new(OPERATIONS),
    };
    let (history, stop) = (Arc::new(history), Arc::new(AtomicBool::new(false)));
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        let client = client(&cluster, bound, DEADLINE).await?;
        let (history, stop) = (Arc::clone(&history), Arc::clone(&stop));
        clients.push(tokio::spawn(async move {
            for number in 0.. {
                // A fault takes as long as it takes; what is done meanwhile is enough at some point.
                while history.done.load(Ordering::Relaxed) >= history.allowed.load(Ordering::Relaxed)
                    && !stop.load(Ordering::Relaxed)
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let input = match number % 8 {
                    0 => Input::Write(number * CLIENTS + n + 1),
                    _ => Input::Read,
                };
                history.step(&client, Asked { client: n, number, input }).await?;
                // Not as fast as it goes: all that lies within one bound may be in any order.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            anyhow::Ok(())
        }));
    }
    let mut elapsed = 0;
    for fault in 0..4 {
        elapsed += OPERATIONS;
        history.allowed.store(elapsed + OPERATIONS_IN_FAULT, Ordering::Relaxed);
        let begun = Instant::now();
        while history.done.load(Ordering::Relaxed) < elapsed {
            ensure!(begun.elapsed() < DEADLINE, "the clients do not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let at = leader(&cluster).await?;
        match fault % 2 {
            0 => cluster.master_at((at + 1) % 3).pause()?,
            _ => cluster.master_at(at).pause()?,
        }
        // The others find out, or go on.
        mkdir(&admin, &format!("/fault-{fault}")).await?;
        cluster.master_at(at).resume()?;
        cluster.master_at((at + 1) % 3).resume()?;
        elapsed = elapsed.max(history.done.load(Ordering::Relaxed));
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await??;
    }
    let operations = std::mem::take(&mut *history.operations.lock());
    let mut followers = 0.0;
    for at in 0..3 {
        followers += served(&mut cluster, at).await?;
    }
    ensure!(followers > 0.0, "no follower has answered any of {} operations", operations.len());
    match check_sessions(Register, &operations, 20_000_000) {
        Verdict::Linearizable => {}
        verdict => {
            let told: Vec<String> = operations.iter().enumerate().map(|(n, of)| format!("{n}: {of:?}")).collect();
            bail!("{verdict:?}\n{}", told.join("\n"));
        }
    }
    println!("{} operations, {followers} of them answered by followers", operations.len());
    Ok(())
}
