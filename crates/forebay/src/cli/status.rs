//! `forebay status`: the cluster on one screen.

use crate::cli::{mount, output};
use clap::Args;
use forebay_base::{ByteSize, TimestampMs};
use forebay_client::{Client, ClusterStatus, MasterStatus, WorkerStatus};
use serde_json::{Value, json};

/// Shows masters, workers, tiers, capacity, hit ratio and mounts.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: Status, client: &Client) -> anyhow::Result<()> {
    let status = client.status().await?;
    if args.json {
        output::line(to_json(&status))
    } else {
        print(&status)
    }
    Ok(())
}

fn print(status: &ClusterStatus) {
    let live = status.workers.iter().filter(|worker| worker.live).count();
    output::line(format_args!("cluster {}", status.cluster_id));
    output::line(format_args!("  {} inodes, {} deletes pending", status.inodes, status.pending_deletes));
    output::line(format_args!("masters ({})", status.masters.len()));
    status.masters.iter().for_each(|master| output::line(master_line(master)));
    output::line(format_args!("workers ({live} of {} live)", status.workers.len()));
    for worker in &status.workers {
        output::line(worker_line(worker));
        for tier in &worker.tiers {
            let broken = match tier.broken_directories {
                0 => String::new(),
                n => format!(", {n} of {} directories out of use", tier.directories),
            };
            let percent = percent(tier.used.0, tier.capacity.0);
            output::line(format_args!("    {:4} {} of {} ({percent}){broken}", tier.name, tier.used, tier.capacity));
        }
    }
    output::line(format_args!("mounts ({})", status.mounts.len()));
    status.mounts.iter().for_each(|mount| output::line(format_args!("  {}", mount::summary(mount))));
}

fn master_line(master: &MasterStatus) -> String {
    let role = if master.leader { "leader" } else { "follower" };
    format!(
        "  {} {role}, applied {}, version {}, up since {}",
        master.address,
        master.applied_index,
        master.version,
        output::time(master.started)
    )
}

fn worker_line(worker: &WorkerStatus) -> String {
    let state = if worker.live {
        "live".to_owned()
    } else {
        format!("lost, last heard {}", output::time(worker.last_heartbeat))
    };
    let ratio = percent(worker.hit_bytes, worker.hit_bytes + worker.miss_bytes);
    format!(
        "  {} {state}, hits {ratio} ({} hit, {} missed), {} fetched, version {}",
        worker.worker.data,
        ByteSize(worker.hit_bytes),
        ByteSize(worker.miss_bytes),
        ByteSize(worker.fetched_bytes),
        worker.version
    )
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

fn ms(time: TimestampMs) -> u64 {
    time.0
}

fn to_json(status: &ClusterStatus) -> Value {
    json!({
        "cluster_id": status.cluster_id,
        "inodes": status.inodes,
        "pending_deletes": status.pending_deletes,
        "masters": status.masters.iter().map(|m| json!({
            "id": m.id, "address": m.address, "leader": m.leader, "applied_index": m.applied_index,
            "version": m.version, "started_ms": ms(m.started),
        })).collect::<Vec<_>>(),
        "workers": status.workers.iter().map(worker_json).collect::<Vec<_>>(),
        "mounts": status.mounts.iter().map(mount::to_json).collect::<Vec<_>>(),
    })
}

fn worker_json(worker: &WorkerStatus) -> Value {
    json!({
        "worker": format!("{:016x}", worker.worker.id.0),
        "address": worker.worker.data,
        "control": worker.worker.control,
        "live": worker.live,
        "last_heartbeat_ms": ms(worker.last_heartbeat),
        "started_ms": ms(worker.started),
        "version": worker.version,
        "hit_bytes": worker.hit_bytes,
        "miss_bytes": worker.miss_bytes,
        "fetched_bytes": worker.fetched_bytes,
        "tiers": worker.tiers.iter().map(|t| json!({
            "name": t.name, "capacity": t.capacity.0, "used": t.used.0,
            "directories": t.directories, "broken_directories": t.broken_directories,
        })).collect::<Vec<_>>(),
    })
}
