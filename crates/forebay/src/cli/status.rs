//! `forebay status`: the cluster on one screen.

use crate::cli::{mount, output};
use clap::Args;
use forebay_base::{ByteSize, HumanDuration, TimestampMs};
use forebay_client::{
    BackupStatus, Client, ClusterStatus, MasterGroup, MasterMember, MasterStatus, TierStatus, WorkerStatus,
};
use serde_json::{Value, json};
use std::time::Duration;

/// Shows masters, workers, tiers, capacity, hit ratio and mounts.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// One JSON object.
    #[arg(long)]
    json: bool,
}

/// Shows.
pub(crate) async fn run(args: Status, client: &Client) -> anyhow::Result<()> {
    // What is said of the other masters is what the leader hears of them.
    let (status, group) = tokio::try_join!(client.status(), client.masters())?;
    if args.json {
        output::line(to_json(&status, &group))
    } else {
        print(&status, &group)
    }
    Ok(())
}

fn print(status: &ClusterStatus, group: &MasterGroup) {
    let live = status.workers.iter().filter(|worker| worker.live).count();
    output::line(format_args!("cluster {}", status.cluster_id));
    output::line(format_args!("  {} inodes, {} deletes pending", status.inodes, status.pending_deletes));
    output::line(format_args!("masters ({})", status.masters.len()));
    status.masters.iter().for_each(|master| output::line(master_line(master, member(group, master))));
    if let Some(backup) = &status.backup {
        backup_lines(backup).into_iter().for_each(output::line);
    }
    output::line(format_args!("workers ({live} of {} live)", status.workers.len()));
    for worker in &status.workers {
        output::line(worker_line(worker, status.now));
        for tier in &worker.tiers {
            output::line(tier_line(tier));
        }
    }
    output::line(format_args!("mounts ({})", status.mounts.len()));
    status.mounts.iter().for_each(|mount| output::line(format_args!("  {}", mount::summary(mount))));
}

fn member<'a>(group: &'a MasterGroup, master: &MasterStatus) -> Option<&'a MasterMember> {
    group.masters.iter().find(|member| member.id == master.id)
}

/// The leader hears of each of the others several times a second.
const SILENT_MS: u64 = 2_000;

fn master_line(master: &MasterStatus, member: Option<&MasterMember>) -> String {
    let role = if master.leader { "leader" } else { "follower" };
    // The leader does not know this of the others.
    if master.version.is_empty() {
        let mut line = format!("  {} {role}, has entry {}", master.address, master.applied_index);
        let Some(member) = member else { return line };
        if !member.release.is_empty() {
            line += &format!(", version {}", member.release);
        }
        if let Some(ms) = member.silent_ms.filter(|ms| *ms >= SILENT_MS) {
            line += &format!(", NOT HEARD for {} s", ms / 1000);
        }
        if !member.trouble.is_empty() {
            line += &format!(", {}", member.trouble);
        }
        return line;
    }
    format!(
        "  {} {role}, applied {}, version {}, up since {}",
        master.address,
        master.applied_index,
        master.version,
        output::time(master.started)
    )
}

/// The newest backup, the schedule, and why one was not made.
fn backup_lines(backup: &BackupStatus) -> Vec<String> {
    let last = match backup.last.is_empty() {
        true => "none yet".to_owned(),
        false => format!("last {} ({})", output::time(backup.last_made), backup.last),
    };
    let mut lines = vec![format!("backups: {last}{}", if backup.running { ", one is being made" } else { "" })];
    if !backup.to.is_empty() {
        let next = if backup.next.0 == 0 { "soon".to_owned() } else { output::time(backup.next).to_string() };
        let every = HumanDuration(Duration::from_millis(backup.every_ms));
        lines.push(format!("  every {every} to {}, next {next}, {} are kept", backup.to, kept(backup.keep)));
    }
    if backup.failures > 0 {
        lines.push(format!("  FAILED {} times since: {}", backup.failures, backup.failure));
    }
    lines
}

fn kept(keep: u32) -> String {
    if keep == 0 { "all".to_owned() } else { keep.to_string() }
}

fn backup_json(backup: &BackupStatus) -> Value {
    json!({
        "to": backup.to,
        "every_ms": backup.every_ms,
        "keep": backup.keep,
        "running": backup.running,
        "last": backup.last,
        "last_ms": ms(backup.last_made),
        "next_ms": ms(backup.next),
        "failures": backup.failures,
        "failure": backup.failure,
    })
}

fn worker_line(worker: &WorkerStatus, now: TimestampMs) -> String {
    let age = age(now, worker.last_heartbeat);
    let state = if worker.live {
        format!("live, numbers {age} old")
    } else {
        format!("lost, last heard {} ({age} ago)", output::time(worker.last_heartbeat))
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

/// What is used of what can be used now, and why that is less than what is set.
fn tier_line(tier: &TierStatus) -> String {
    let percent = percent(tier.used.0, tier.capacity.0);
    let mut line = format!("    {:4} {} of {} ({percent})", tier.name, tier.used, tier.capacity);
    if tier.capacity < tier.quota {
        line += &format!(", quota {}: its disk has no room for more, {} of it is other data", tier.quota, tier.other);
    }
    if tier.broken_directories > 0 {
        line += &format!(", {} of {} directories out of use", tier.broken_directories, tier.directories);
    }
    line
}

/// To the tenth of a second, from a minute on to the second: heartbeats come about once a second.
fn age(now: TimestampMs, then: TimestampMs) -> String {
    let ms = now.0.saturating_sub(then.0);
    match ms {
        0..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        _ => humantime::format_duration(Duration::from_secs(ms / 1000)).to_string(),
    }
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".to_owned() } else { format!("{:.1} %", part as f64 * 100.0 / whole as f64) }
}

fn ms(time: TimestampMs) -> u64 {
    time.0
}

fn master_json(master: &MasterStatus, member: Option<&MasterMember>) -> Value {
    let release = member.map(|member| member.release.as_str()).unwrap_or_default();
    json!({
        "id": master.id, "address": master.address, "leader": master.leader, "applied_index": master.applied_index,
        "version": if master.version.is_empty() { release } else { &master.version },
        "started_ms": (master.started.0 > 0).then_some(ms(master.started)),
        "silent_ms": member.and_then(|member| member.silent_ms),
        "trouble": member.map(|member| member.trouble.as_str()).unwrap_or_default(),
    })
}

fn to_json(status: &ClusterStatus, group: &MasterGroup) -> Value {
    json!({
        "cluster_id": status.cluster_id,
        "inodes": status.inodes,
        "pending_deletes": status.pending_deletes,
        "masters": status.masters.iter().map(|master| master_json(master, member(group, master))).collect::<Vec<_>>(),
        "now_ms": ms(status.now),
        "backup": status.backup.as_ref().map(backup_json),
        "workers": status.workers.iter().map(|worker| worker_json(worker, status.now)).collect::<Vec<_>>(),
        "mounts": status.mounts.iter().map(mount::to_json).collect::<Vec<_>>(),
    })
}

fn worker_json(worker: &WorkerStatus, now: TimestampMs) -> Value {
    json!({
        "worker": format!("{:016x}", worker.worker.id.0),
        "address": worker.worker.data,
        "control": worker.worker.control,
        "live": worker.live,
        "last_heartbeat_ms": ms(worker.last_heartbeat),
        "age_ms": now.0.saturating_sub(worker.last_heartbeat.0),
        "started_ms": ms(worker.started),
        "version": worker.version,
        "hit_bytes": worker.hit_bytes,
        "miss_bytes": worker.miss_bytes,
        "fetched_bytes": worker.fetched_bytes,
        "tiers": worker.tiers.iter().map(|t| json!({
            "name": t.name, "capacity": t.capacity.0, "used": t.used.0, "quota": t.quota.0, "other": t.other.0,
            "directories": t.directories, "broken_directories": t.broken_directories,
        })).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_tell_why_they_are_small() {
        let tier = |used, capacity, quota, broken| TierStatus {
            name: "SSD".into(),
            capacity: ByteSize::gib(capacity),
            used: ByteSize::gib(used),
            quota: ByteSize::gib(quota),
            other: ByteSize::gib(7),
            directories: 2,
            broken_directories: broken,
        };
        assert_eq!(tier_line(&tier(2, 8, 8, 0)), "    SSD  2GiB of 8GiB (25.0 %)");
        assert_eq!(
            tier_line(&tier(3, 3, 8, 0)),
            "    SSD  3GiB of 3GiB (100.0 %), quota 8GiB: its disk has no room for more, 7GiB of it is other data"
        );
        assert_eq!(tier_line(&tier(1, 4, 4, 1)), "    SSD  1GiB of 4GiB (25.0 %), 1 of 2 directories out of use");
        // An older worker tells no quota.
        assert_eq!(tier_line(&tier(1, 4, 0, 0)), "    SSD  1GiB of 4GiB (25.0 %)");
    }

    #[test]
    fn ages_are_short() {
        let check =
            |ms: u64, expected: &str| assert_eq!(age(TimestampMs(1_000_000 + ms), TimestampMs(1_000_000)), expected);
        check(0, "0.0 s");
        check(1_290, "1.2 s");
        check(59_999, "59.9 s");
        check(3_661_500, "1h 1m 1s");
        assert_eq!(age(TimestampMs(0), TimestampMs(5)), "0.0 s", "clocks jump");
    }
}
