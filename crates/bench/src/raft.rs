//! Creates that are committed: on the disks of a majority, and carried out by the namespace.
//!
//! Twice: the log and the namespace alone, their members in this process, which hand each other messages in memory; and real
//! processes over gRPC, as programs see them. Members share one disk and the cores, so that three cost three times the work.

mod group;
mod machine;
mod wire;

use crate::lake::{self, Reach};
use crate::pace::{self, Timed};
use crate::report::{Better, Limit, Report};
use crate::{Setting, commands, limits};
use anyhow::Result;
use forebay_client::MakeDirectoryOptions;
use forebay_testkit::cluster::{Cluster, Layout};
use futures::future::try_join_all;
use group::{Group, Medium};
use std::sync::Arc;
use std::time::Duration;

/// Members of a group, and the creates a second that it is to commit for 64 clients.
const GROUPS: [(usize, f64); 2] = [(1, 20_000.0), (3, 12_000.0)];
const CLIENTS: [usize; 3] = [1, 64, 256];
/// The clients for which budgets are made.
const BUDGETED: usize = 64;
/// Connections of the clients of processes.
const CONNECTIONS: usize = 8;
const P99_MS_MAX: f64 = 20.0;
/// Bytes of a create in the log.
const LOG_ENTRY_BYTES: usize = 128;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let time = setting.pick(Duration::from_secs(5), Duration::from_millis(500));
    let dir = tempfile::tempdir()?;
    let probe = dir.path().join("sync-probe");
    let syncs = tokio::task::spawn_blocking(move || limits::sync_rate(&probe, LOG_ENTRY_BYTES, time)).await??;
    let mut report = Report::default();
    for (members, budget) in GROUPS {
        let ours = rounds(members, Medium::Disk, time, &mut report).await?;
        let memory = rounds(members, Medium::Memory, time, &mut report).await?;
        for ((clients, ours), (_, memory)) in ours.iter().zip(&memory) {
            let name = format!("{}, {clients} clients", of(members));
            let mut row = |limit| report.row(&name, (ours.rate, "/s"), Better::Higher, limit, None);
            row(Limit::new("syncs of this disk", syncs));
            row(Limit::new("openraft, its log in memory", memory.rate));
            promised(&mut report, &name, *clients, ours, budget);
        }
    }
    for (members, budget) in GROUPS {
        let seen = processes(members, time).await?;
        promised(&mut report, &format!("{} over gRPC, {BUDGETED} clients", of(members)), BUDGETED, &seen, budget);
    }
    report.note(format!("this disk syncs {syncs:.0} times a second; all members share it, and this machine's cores"));
    report.note("without gRPC: log on disk and namespace on RocksDB as masters have them, messages between members handed over in memory");
    report.note("log in memory: the same log on tmpfs, commands committed and not carried out");
    report.note("over gRPC: `forebay server` processes and directories made by the client library");
    Ok(report)
}

fn of(members: usize) -> &'static str {
    if members == 1 { "one member" } else { "three members" }
}

/// The rows of what is promised for 64 clients; without budgets for others.
fn promised(report: &mut Report, name: &str, clients: usize, ours: &Timed, budget: f64) {
    let kept = (clients == BUDGETED).then_some(1.0);
    if kept.is_some() {
        report.row(name, (ours.rate, "/s"), Better::Higher, Limit::new("budget", budget), kept);
    }
    let ms = |part| ours.within(part).as_secs_f64() * 1e3;
    let limit = || Limit::new("budget of p99", P99_MS_MAX);
    report.row(format!("{name}: p50"), (ms(0.5), "ms"), Better::Lower, limit(), None);
    report.row(format!("{name}: p99"), (ms(0.99), "ms"), Better::Lower, limit(), kept);
}

/// Creates by 1, 64 and 256 clients in one group of this process.
async fn rounds(members: usize, medium: Medium, time: Duration, report: &mut Report) -> Result<Vec<(usize, Timed)>> {
    let group = Arc::new(Group::start(members, medium).await?);
    group.commit(commands::mount()).await?;
    let mut rounds = Vec::new();
    for clients in CLIENTS {
        let made = (0..clients).map(|client| group.commit(commands::make_directory(directory(clients, client))));
        try_join_all(made).await?;
        let (syncs, committing) = (group.syncs(), group.clone());
        let timed = pace::timed(clients, time, move |client, number| {
            let action = commands::create(format!("{}/part-{number:05}", directory(clients, client)));
            // Each round's clients are new ones.
            let command = commands::request((clients * 1000 + client) as u64, number, action);
            let group = committing.clone();
            async move { group.commit(command).await }
        });
        let timed = timed.await?;
        if medium == Medium::Disk {
            let shared = timed.count() as f64 / group.syncs().saturating_sub(syncs).max(1) as f64;
            report.note(format!("{}, {clients} clients: {shared:.1} creates share a sync", of(members)));
        }
        rounds.push((clients, timed));
    }
    if group.retries() > 0 {
        report.note(format!("{} had another leader meanwhile: {} proposals again", of(members), group.retries()));
    }
    group.end().await?;
    Ok(rounds)
}

/// Each client's own.
fn directory(clients: usize, client: usize) -> String {
    format!("/lake/of-{clients}/{client}")
}

/// Directories made through masters that are processes.
async fn processes(masters: usize, time: Duration) -> Result<Timed> {
    let cluster = Cluster::start(Layout { masters, lone_masters: true, ..Layout::default() }).await?;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(lake::client(&cluster, Reach::Tcp).await?);
    }
    let parents = MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
    for task in 0..BUDGETED {
        clients[0].make_directory(format!("/bench/{task}").as_str(), parents.clone()).await?;
    }
    pace::timed(BUDGETED, time, move |task, number| {
        let client = clients[task % CONNECTIONS].clone();
        async move {
            let path = format!("/bench/{task}/{number}");
            client.make_directory(path.as_str(), MakeDirectoryOptions::default()).await?;
            Ok(())
        }
    })
    .await
}
