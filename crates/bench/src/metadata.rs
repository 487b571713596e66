//! Changes and look-ups of the namespace, with 1 and 64 clients. Directories outside of mounts, so that no store is asked:
//! what is measured is the masters' own work, from the call to the reply; changes are on disk when they are acknowledged.

use crate::lake::{self, Reach};
use crate::limits;
use crate::report::{Better, Limit, Report};
use crate::{Setting, pace};
use anyhow::{Result, ensure};
use forebay_client::{Client, DeleteOptions, MakeDirectoryOptions, RenameOptions};
use futures::TryStreamExt;
use std::time::Duration;

/// Entries of the directory that is listed.
const LISTED: u64 = 100;
/// Bytes of a log entry with a short path.
const LOG_ENTRY_BYTES: usize = 256;
const CLIENTS: [usize; 2] = [1, 64];
/// Connections of the 64 clients: as many programs on a few hosts would have.
const CONNECTIONS: usize = 8;

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let time = setting.pick(Duration::from_secs(5), Duration::from_secs(1));
    let cluster = lake::start(Vec::new()).await?;
    let disk = cluster.dir().join("sync-probe");
    let sync_rate = tokio::task::spawn_blocking(move || limits::sync_rate(&disk, LOG_ENTRY_BYTES, time)).await??;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(lake::client(&cluster, Reach::Tcp).await?);
    }
    make(&clients[0], "/listed").await?;
    for n in 0..LISTED {
        make(&clients[0], &format!("/listed/{n}")).await?;
    }
    let mut report = Report::default();
    for tasks in CLIENTS {
        round(&mut report, &clients, tasks, time, sync_rate).await?;
    }
    report.note(format!("this disk syncs {sync_rate:.0} times a second"));
    report.note("peers on such a machine, 32 threads: Alluxio creates 2,100/s synced and stats 9,400/s; Curvine 5,000/s before commit and 16,400/s");
    Ok(report)
}

async fn make(client: &Client, path: &str) -> Result<()> {
    client.make_directory(path, MakeDirectoryOptions::default()).await?;
    Ok(())
}

async fn round(report: &mut Report, clients: &[Client], tasks: usize, time: Duration, sync_rate: f64) -> Result<()> {
    let root = format!("/bench-{tasks}");
    make(&clients[0], &root).await?;
    for task in 0..tasks {
        make(&clients[0], &format!("{root}/{task}")).await?;
    }
    let run = Run { clients: clients.to_vec(), root, tasks, time };
    let committed = |budget: f64| match tasks {
        1 => (Limit::new("syncs of this disk", sync_rate), None),
        _ => (Limit::new("budget", budget), Some(1.0)),
    };
    let mut row = |name: &str, ours: f64, (limit, budget): (Limit, Option<f64>)| {
        report.row(format!("{name}, {tasks} clients"), (ours, "/s"), Better::Higher, limit, budget);
    };
    let looked_up = |budget: f64| (Limit::new("budget", budget), (tasks > 1).then_some(1.0));

    let created = run.each(|client, path| async move { make(&client, &path).await }).await?;
    row("create", created, committed(20_000.0));
    let stated =
        run.each(|client, _| async move { client.stat("/listed/7").await.map(drop).map_err(Into::into) }).await?;
    row("stat", stated, looked_up(100_000.0));
    let listed = run.each(|client, _| list(client)).await?;
    row("list of 100", listed, looked_up(5_000.0));
    // Renames and deletes work on what the creates made, so they end when that is used up.
    let left = run.left().await?;
    let renamed = run.over(&left, |client, path| async move {
        Ok(client.rename(&path, format!("{path}-renamed"), RenameOptions::default()).await?)
    });
    row("rename", renamed.await?, committed(20_000.0));
    let deleted = run.over(&left, |client, path| async move {
        Ok(client.delete(format!("{path}-renamed"), DeleteOptions::default()).await?)
    });
    row("delete", deleted.await?, committed(20_000.0));
    Ok(())
}

async fn list(client: Client) -> Result<()> {
    let entries: Vec<_> = client.list("/listed")?.try_collect().await?;
    ensure!(entries.len() as u64 == LISTED, "{} entries", entries.len());
    Ok(())
}

/// Clients, and the directory that each task works in.
struct Run {
    clients: Vec<Client>,
    root: String,
    tasks: usize,
    time: Duration,
}

impl Run {
    /// Steps a second; each step gets a path that none had before.
    async fn each<F, Fut>(&self, step: F) -> Result<f64>
    where
        F: Fn(Client, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (clients, root) = (self.clients.clone(), self.root.clone());
        pace::rate(self.tasks, self.time, move |task, number| {
            let done = step(clients[task % clients.len()].clone(), format!("{root}/{task}/{number}"));
            async move {
                done.await?;
                Ok(1)
            }
        })
        .await
    }

    /// What lies in the directories of the tasks, mixed.
    async fn left(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for task in 0..self.tasks {
            let mut entries = self.clients[0].list(format!("{}/{task}", self.root).as_str())?;
            while let Some(entry) = entries.try_next().await? {
                paths.push(entry.path.to_string());
            }
        }
        Ok(pace::shuffled(3, paths.len() as u64).into_iter().map(|n| paths[n as usize].clone()).collect())
    }

    /// Steps a second over these paths.
    async fn over<F, Fut>(&self, paths: &[String], step: F) -> Result<f64>
    where
        F: Fn(Client, String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        let (clients, paths) = (self.clients.clone(), paths.to_vec());
        let total = paths.len() as u64;
        pace::rate_of(self.tasks, total, move |n| {
            step(clients[n as usize % clients.len()].clone(), paths[n as usize].clone())
        })
        .await
    }
}
