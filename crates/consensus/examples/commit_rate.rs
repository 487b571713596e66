//! Committed commands a second with 1, 64 and 256 clients, beside what the disk itself can sync.
//!
//! `cargo run --release -p forebay-consensus --example commit_rate [DIRECTORY [SECONDS]]`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_consensus::{Batch, Consensus, Flush, Member, MemberId, Settings, StateMachine, StateMachineError};

const COMMAND_BYTES: usize = 512;

/// Keeps just the position.
struct Nothing(Option<Bytes>);
struct NoFlush;

impl StateMachine for Nothing {
    fn apply(&mut self, batch: Batch<'_>) -> Result<Vec<Bytes>, StateMachineError> {
        self.0 = Some(batch.applied.clone());
        Ok(vec![Bytes::new(); batch.entries.len()])
    }

    fn applied(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(self.0.clone())
    }

    fn flusher(&self) -> Arc<dyn Flush> {
        Arc::new(NoFlush)
    }

    fn checkpoint(&self, _: &Path) -> Result<Option<Bytes>, StateMachineError> {
        Err(StateMachineError::new("this state machine has no files"))
    }

    fn install(&mut self, _: &Path) -> Result<(), StateMachineError> {
        Err(StateMachineError::new("this state machine has no files"))
    }
}

impl Flush for NoFlush {
    fn flush(&self) -> Result<Option<Bytes>, StateMachineError> {
        Ok(None)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().map_or_else(|| PathBuf::from("target/commit_rate"), PathBuf::from);
    let seconds = args.next().map_or(Ok(3), |s| s.parse())?;
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let sync_rate = sync_rate(&dir, Duration::from_secs(1))?;
    println!("disk: {sync_rate:.0} appends of {COMMAND_BYTES} bytes a second, each synced");
    println!("clients  commits/s  of syncs  entries/sync  p50 ms  p99 ms");
    for clients in [1, 64, 256] {
        run(&dir, clients, Duration::from_secs(seconds), sync_rate).await?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn sync_rate(dir: &Path, time: Duration) -> std::io::Result<f64> {
    use std::io::Write;
    let mut file = std::fs::File::create(dir.join("syncs"))?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        file.write_all(&[7; COMMAND_BYTES])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

async fn run(dir: &Path, clients: usize, time: Duration, sync_rate: f64) -> Result<(), Box<dyn std::error::Error>> {
    let settings = Settings::new(Member { id: MemberId(1), address: "127.0.0.1:1".to_owned() });
    let log = dir.join(format!("log-{clients}"));
    let member = Arc::new(Consensus::open(settings, &log, Box::new(Nothing(None))).await?);
    let stop = Arc::new(AtomicBool::new(false));
    let (syncs, start) = (member.status().log_syncs, Instant::now());
    let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(client(member.clone(), stop.clone()))).collect();
    tokio::time::sleep(time).await;
    stop.store(true, Ordering::Relaxed);
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await?);
    }
    let (elapsed, syncs) = (start.elapsed().as_secs_f64(), member.status().log_syncs - syncs);
    latencies.sort_unstable();
    let rate = latencies.len() as f64 / elapsed;
    let ms = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!(
        "{clients:7}  {rate:9.0}  {:8.2}  {:12.1}  {:6.2}  {:6.2}",
        rate / sync_rate,
        latencies.len() as f64 / syncs.max(1) as f64,
        ms(0.5),
        ms(0.99),
    );
    member.shutdown().await?;
    Ok(())
}

async fn client(member: Arc<Consensus>, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let command = Bytes::from(vec![7; COMMAND_BYTES]);
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        if let Err(e) = member.propose(command.clone()).await {
            eprintln!("a proposal failed: {e}");
            break;
        }
        latencies.push(start.elapsed());
    }
    latencies
}
