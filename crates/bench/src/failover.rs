//! `kill -9` of the leader of three masters, again and again, under clients that write all the time: how long none of their writes
//! succeeds. No error may reach them, and all that was acknowledged must be there in the end.

use crate::Setting;
use crate::report::{Better, Limit, Report};
use anyhow::{Context, Result, ensure};
use forebay_client::{Client, ClientConfig, MakeDirectoryOptions};
use forebay_testkit::cluster::{Cluster, Layout};
use forebay_testkit::wait;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const MASTERS: usize = 3;
const WRITERS: usize = 4;
const SECONDS_MAX: f64 = 3.0;
/// Writes that must have succeeded after a kill before the group counts as serving again.
const WRITES_AFTER: u64 = 20;
/// Between the return of the killed one and the next kill: longer than the 1,050 ms for which who has just started votes for nobody.
const PAUSE: Duration = Duration::from_millis(1_500);
/// Nothing may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it.
pub(crate) async fn run(setting: Setting) -> Result<Report> {
    let kills: usize = setting.pick(20, 3);
    let mut cluster = Cluster::start(Layout { masters: MASTERS, lone_masters: true, ..Layout::default() }).await?;
    let writers = Writers::start(&cluster).await?;
    let asking = client(&cluster).await?;
    let mut outages = Vec::new();
    for _ in 0..kills {
        tokio::time::sleep(PAUSE).await;
        outages.push(kill_leader(&mut cluster, &asking, &writers.pulse).await?);
    }
    let written = writers.stop().await?;
    let there = asking.content_summary("/writers").await?.directories;
    // The directory itself and those of the writers are counted too.
    let expected = written + WRITERS as u64 + 1;
    ensure!(there == expected, "{there} directories are there, {expected} were made and acknowledged");

    outages.sort_unstable();
    let longest = outages.last().context("there were kills")?.as_secs_f64();
    let median = outages[outages.len() / 2].as_secs_f64();
    let mut report = Report::default();
    let mut row = |name: String, seconds| {
        report.row(name, (seconds, "s"), Better::Lower, Limit::new("budget", SECONDS_MAX), Some(1.0));
    };
    row(format!("longest time without a write, {kills} kills"), longest);
    row(format!("median time without a write, {kills} kills"), median);
    let seconds = outages.iter().map(|outage| format!("{:.2}", outage.as_secs_f64()));
    report.note(format!("each, in seconds: {}", seconds.collect::<Vec<_>>().join(" ")));
    report.note(format!(
        "{WRITERS} clients made {written} directories through {MASTERS} processes: none had an error, each is there once"
    ));
    Ok(report)
}

async fn client(cluster: &Cluster) -> Result<Client> {
    Ok(Client::connect(ClientConfig::new(cluster.masters().split(','))).await?)
}

/// Kills the leader, waits until writes succeed again, and brings it back. Gives the longest time without a success.
async fn kill_leader(cluster: &mut Cluster, asking: &Client, pulse: &Pulse) -> Result<Duration> {
    let group = asking.masters().await?;
    let leader = group.masters.into_iter().find(|master| master.leader).context("one leads")?.address;
    let ours = (0..MASTERS).find(|index| cluster.master_address(*index) == leader);
    let index = ours.with_context(|| format!("{leader} is not one of ours"))?;
    pulse.begin();
    cluster.master_at(index).kill()?;
    pulse.killed();
    wait::until("writes after a kill", PATIENCE, || async { pulse.since_kill() >= WRITES_AFTER }).await?;
    let outage = pulse.longest();
    cluster.master_at(index).restart()?;
    cluster.master_at(index).wait_ready(PATIENCE).await?;
    Ok(outage)
}

/// When writes succeeded.
struct Pulse(Mutex<Beats>);

struct Beats {
    last: Instant,
    longest: Duration,
    killed: Instant,
    since_kill: u64,
}

impl Pulse {
    fn new() -> Pulse {
        let now = Instant::now();
        Pulse(Mutex::new(Beats { last: now, longest: Duration::ZERO, killed: now, since_kill: 0 }))
    }

    /// Forgets earlier gaps.
    fn begin(&self) {
        self.0.lock().longest = Duration::ZERO;
    }

    fn killed(&self) {
        let mut beats = self.0.lock();
        (beats.killed, beats.since_kill) = (Instant::now(), 0);
    }

    /// A write that was begun then has succeeded. One that was begun before the kill may have been answered before it: it ends a gap, but
    /// does not show that somebody serves.
    fn beat(&self, begun: Instant) {
        let (mut beats, now) = (self.0.lock(), Instant::now());
        beats.longest = beats.longest.max(now - beats.last);
        beats.last = now;
        beats.since_kill += u64::from(begun > beats.killed);
    }

    fn since_kill(&self) -> u64 {
        self.0.lock().since_kill
    }

    fn longest(&self) -> Duration {
        self.0.lock().longest
    }
}

/// Clients that make directories until they are told to stop, each with connections of its own.
struct Writers {
    pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<u64>>,
}

impl Writers {
    async fn start(cluster: &Cluster) -> Result<Writers> {
        let (pulse, stop, mut tasks) = (Arc::new(Pulse::new()), Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..WRITERS {
            let (client, pulse, stop) = (client(cluster).await?, pulse.clone(), stop.clone());
            let parents = MakeDirectoryOptions { parents: true, ..MakeDirectoryOptions::default() };
            client.make_directory(format!("/writers/{number}").as_str(), parents).await?;
            tasks.spawn(async move { write(&client, number, &pulse, &stop).await });
        }
        Ok(Writers { pulse, stop, tasks })
    }

    /// How many directories they made.
    async fn stop(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = 0;
        while let Some(done) = self.tasks.join_next().await {
            written += done??;
        }
        Ok(written)
    }
}

async fn write(client: &Client, writer: usize, pulse: &Pulse, stop: &AtomicBool) -> Result<u64> {
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let path = format!("/writers/{writer}/{written}");
        client.make_directory(path.as_str(), MakeDirectoryOptions::default()).await?;
        pulse.beat(begun);
        written += 1;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_begun_after_the_kill_show_that_somebody_serves() {
        let pulse = Pulse::new();
        let before = Instant::now();
        pulse.begin();
        pulse.killed();
        pulse.beat(before);
        assert_eq!(pulse.since_kill(), 0);
        let earlier = Duration::from_secs(2);
        pulse.0.lock().last -= earlier;
        pulse.beat(Instant::now() + earlier);
        assert_eq!(pulse.since_kill(), 1);
        assert!(pulse.longest() >= earlier);
        pulse.begin();
        assert_eq!(pulse.longest(), Duration::ZERO);
    }
}
