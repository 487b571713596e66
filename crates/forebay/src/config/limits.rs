//! Values that can be read and cannot work: found before anything starts, not when it fails.

use super::{Settings, shown};
use forebay_base::{ByteSize, HumanDuration};
use forebay_ufs::{mount_options, userinfo};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The masters know for an hour of a client's silence what it has asked for: a change is repeated well within it, or not at all.
const DEADLINE_MAX: Duration = Duration::from_secs(1800);

/// What is allowed to be older than this is a slip of the pen, such as days for seconds.
pub(crate) const STALENESS_MAX: Duration = Duration::from_secs(86_400);
/// Nobody serves while an election goes on.
const ELECTION_TIMEOUT_MAX: Duration = Duration::from_secs(300);

/// Why a secret is no option: the file is read by many, and `config show` prints it.
const NO_SECRETS: &str = "secrets have no place here: name where they are (credentials_file, profile), or put them into the masters' environment";

/// The name of an option `name=value`, as it is kept.
fn option_name(option: &str) -> Option<String> {
    shown::option_name(option).map(mount_options::canonical)
}

/// The keys whose values cannot work, and what they must be.
pub(super) fn check(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { roles, data_dir, masters, log, web, master, worker, backup, client } = settings;
    let mut found = Vec::new();
    let mut need = |key: &'static str, holds: bool, what: &str| {
        if !holds {
            found.push((key, what.to_owned()));
        }
    };
    need("roles", !roles.is_empty(), "name master, worker or both");
    need("data_dir", !data_dir.as_os_str().is_empty(), "name a directory");
    need("masters", !masters.is_empty() && masters.iter().all(|m| is_address(m, 1)), HOST_PORT);
    let twice = masters.iter().enumerate().find(|(at, master)| masters[..*at].contains(master));
    need("masters", twice.is_none(), "name each master once");
    need("log.level", EnvFilter::try_new(&log.level).is_ok() && is_level(&log.level), LEVEL);
    need("web.listen", web.listen == "off" || is_address(&web.listen, 0), "write host:port, or off");
    need("master.listen", is_address(&master.listen, 0), HOST_PORT);
    let advertise = &master.advertise;
    need("master.advertise", advertise.is_empty() || is_address(advertise, 1), "write host:port, or nothing");
    need("master.clock_drift_percent", master.clock_drift_percent <= 100, "100 is the most");
    let least = 3 * master.heartbeat_interval.0;
    need(
        "master.election_timeout",
        master.election_timeout.0 >= least,
        "three times master.heartbeat_interval is the least",
    );
    need("master.election_timeout", master.election_timeout.0 <= ELECTION_TIMEOUT_MAX, "5m is the most");
    need(
        "backup.to",
        backup.to.is_empty() || backup.to.starts_with("s3://") || backup.to.starts_with("file:/"),
        "write s3://bucket/prefix or file:///directory",
    );
    need("backup.to", userinfo::hidden(&backup.to) == backup.to, NO_SECRETS);
    need("client.deadline", client.deadline.0 <= DEADLINE_MAX, "30m is the most");
    need("client.max_staleness", client.max_staleness.0 <= STALENESS_MAX, "1d is the most");
    let names: Vec<Option<String>> = backup.options.iter().map(|option| option_name(option)).collect();
    need("backup.options", names.iter().all(Option::is_some), "write name=value");
    let is_secret = |name: &String| mount_options::SECRETS.contains(&name.as_str());
    need("backup.options", !names.iter().flatten().any(is_secret), NO_SECRETS);
    need("worker.listen", is_address(&worker.listen, 0), HOST_PORT);
    need("worker.control_listen", is_address(&worker.control_listen, 0), HOST_PORT);
    for (key, duration, least) in [
        ("master.heartbeat_interval", master.heartbeat_interval, Duration::from_millis(10)),
        ("master.worker_timeout", master.worker_timeout, Duration::from_secs(1)),
        ("master.write_lease", master.write_lease, Duration::from_secs(1)),
        ("master.ticket_lifetime", master.ticket_lifetime, Duration::from_secs(10)),
        ("master.direct_grant_lifetime", master.direct_grant_lifetime, Duration::from_secs(1)),
        ("backup.every", backup.every, Duration::from_secs(1)),
        ("worker.idle_timeout", worker.idle_timeout, Duration::from_secs(1)),
        ("worker.stall_timeout", worker.stall_timeout, Duration::from_secs(1)),
        ("client.deadline", client.deadline, Duration::from_millis(100)),
        ("client.connect_timeout", client.connect_timeout, Duration::from_millis(100)),
        ("client.read_timeout", client.read_timeout, Duration::from_millis(100)),
    ] {
        need(key, duration.0 >= least, &format!("{} is the least", HumanDuration(least)));
    }
    for (key, size, least) in [
        ("master.log_segment", master.log_segment, ByteSize(4 << 10)),
        ("master.log_flush", master.log_flush, ByteSize(4 << 10)),
        ("master.write_buffer", master.write_buffer, ByteSize::mib(1)),
        ("master.snapshot_rate", master.snapshot_rate, ByteSize::mib(1)),
        ("worker.memory_limit", worker.memory_limit, ByteSize::mib(64)),
        ("worker.fetch_size", worker.fetch_size, ByteSize(64 << 10)),
        ("client.memory_limit", client.memory_limit, ByteSize::mib(16)),
    ] {
        need(key, size >= least, &format!("{least} is the least"));
    }
    need("master.log_segment", master.log_segment <= ByteSize(1 << 30), "1 GiB is the most");
    for (key, count) in [
        ("master.reads_max", master.reads_max),
        ("master.writes_max", master.writes_max),
        ("master.listings_max", master.listings_max),
        ("master.rename_copies", master.rename_copies),
        ("master.purge_rate", master.purge_rate),
        ("master.freshness_entries", master.freshness_entries),
        ("worker.fetch_concurrency", worker.fetch_concurrency),
        ("worker.connections_max", worker.connections_max),
        ("worker.loads_max", worker.loads_max),
        ("client.parts_in_flight", client.parts_in_flight),
        ("client.connections_per_worker", client.connections_per_worker),
    ] {
        need(key, count > 0, "1 is the least");
    }
    let quotas = worker.tiers.iter().flat_map(|tier| &tier.directories);
    need("worker.tiers", worker.tiers.iter().all(|tier| !tier.directories.is_empty()), "each tier needs directories");
    need("worker.tiers", quotas.clone().all(|d| d.quota.0 > 0 && !d.path.as_os_str().is_empty()), TIER_DIRECTORY);
    found
}

const HOST_PORT: &str = "write host:port, e.g. 0.0.0.0:7400";
const LEVEL: &str = "write error, warn, info, debug or trace, or a filter such as info,forebay_worker=debug";
const TIER_DIRECTORY: &str = "directories need a path and a quota above zero";

/// `host:port` with a port of at least `port_min`; IPv6 addresses in brackets.
fn is_address(text: &str, port_min: u16) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty() && (bracketed || !host.contains(':')) && port.parse::<u16>().is_ok_and(|port| port >= port_min)
}

/// A single word is taken for a target by the filter: then it logs nothing at all.
fn is_level(text: &str) -> bool {
    let mut words = text.split(',').map(str::trim).filter(|word| !word.contains('=') && !word.contains('['));
    words.all(|word| word.parse::<tracing::level_filters::LevelFilter>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(change: impl FnOnce(&mut Settings), key: &str) {
        let mut settings = Settings::default();
        change(&mut settings);
        let found: Vec<_> = check(&settings).into_iter().map(|(key, _)| key).collect();
        assert_eq!(found, [key], "{settings:?}");
    }

    #[test]
    fn defaults_work() {
        assert_eq!(check(&Settings::default()), []);
    }

    /// Master, worker, memory tier and one client on one machine, each at its bounds: something must be left for programs and the page cache.
    #[test]
    fn defaults_fit_a_machine_of_4_gib() {
        let Settings { master, worker, client, .. } = Settings::default();
        let log = ByteSize::mib(64 + 32);
        let freshness = ByteSize(u64::from(master.freshness_entries) * 200);
        let masters = master.block_cache.0 + master.namespace_cache.0 + 3 * master.write_buffer.0 + log.0 + freshness.0;
        let memory_tier = ByteSize::gib(4).0 / 4;
        let sum = masters + worker.memory_limit.0 + memory_tier + client.memory_limit.0;
        assert!(sum < ByteSize::gib(3).0 - ByteSize::mib(512).0, "{}", ByteSize(sum));
        let writer = u64::from(client.parts_in_flight) * master.part_size.0;
        assert!(writer <= client.memory_limit.0, "one writer has its parts");
    }

    #[test]
    fn what_cannot_work_is_named() {
        check_one(|s| s.client.deadline = HumanDuration::secs(3600), "client.deadline");
        check_one(|s| s.client.max_staleness = HumanDuration::secs(86_401), "client.max_staleness");
        check_one(|s| s.roles.clear(), "roles");
        check_one(|s| s.data_dir.clear(), "data_dir");
        check_one(|s| s.masters.clear(), "masters");
        check_one(|s| s.masters = vec!["host".into()], "masters");
        check_one(|s| s.masters = ["a:1", "b:1", "a:1"].map(Into::into).into(), "masters");
        check_one(|s| s.master.listen = "foo".into(), "master.listen");
        check_one(|s| s.web.listen = "7480".into(), "web.listen");
        check_one(|s| s.worker.listen = "1::2:80000".into(), "worker.listen");
        check_one(|s| s.log.level = "loud".into(), "log.level");
        check_one(|s| s.client.deadline = HumanDuration::secs(0), "client.deadline");
        check_one(|s| s.master.write_lease = HumanDuration::secs(0), "master.write_lease");
        check_one(|s| s.worker.memory_limit = ByteSize(0), "worker.memory_limit");
        check_one(|s| s.backup.to = "/backups".into(), "backup.to");
        check_one(|s| s.backup.to = "http://backups".into(), "backup.to");
        check_one(|s| s.master.election_timeout = HumanDuration::secs(86_400), "master.election_timeout");
        check_one(|s| s.backup.to = "s3://KEY:SECRET@bucket".into(), "backup.to");
        check_one(|s| s.backup.options = vec!["endpoint".into()], "backup.options");
        for secret in ["secret_access_key=x", " secret-access-key = x", "access_key_id=x", "session_token=x"] {
            check_one(|s| s.backup.options = vec!["region=x".into(), secret.into()], "backup.options");
        }
        check_one(|s| s.backup.every = HumanDuration::secs(0), "backup.every");
        check_one(|s| s.worker.connections_max = 0, "worker.connections_max");
    }

    #[test]
    fn addresses_and_filters() {
        let mut settings = Settings::default();
        settings.web.listen = "off".into();
        settings.master.listen = "[::]:0".into();
        settings.masters = vec!["a.example:1".into(), "[::1]:7400".into()];
        settings.log.level = "info,forebay_worker=debug".into();
        assert_eq!(check(&settings), []);
    }
}
