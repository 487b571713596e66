//! Values that can be read and cannot work: found before anything starts, not when it fails.

use super::Settings;
use forebay_base::{ByteSize, HumanDuration};
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// The keys whose values cannot work, and what they must be.
pub(super) fn check(settings: &Settings) -> Vec<(&'static str, String)> {
    let Settings { roles, data_dir, masters, log, web, master, worker, client } = settings;
    let mut found = Vec::new();
    let mut need = |key: &'static str, holds: bool, what: &str| {
        if !holds {
            found.push((key, what.to_owned()));
        }
    };
    need("roles", !roles.is_empty(), "name master, worker or both");
    need("data_dir", !data_dir.as_os_str().is_empty(), "name a directory");
    need("masters", !masters.is_empty() && masters.iter().all(|m| is_address(m, 1)), HOST_PORT);
    need("log.level", EnvFilter::try_new(&log.level).is_ok() && is_level(&log.level), LEVEL);
    need("web.listen", web.listen == "off" || is_address(&web.listen, 0), "write host:port, or off");
    need("master.listen", is_address(&master.listen, 0), HOST_PORT);
    need("worker.listen", is_address(&worker.listen, 0), HOST_PORT);
    need("worker.control_listen", is_address(&worker.control_listen, 0), HOST_PORT);
    for (key, duration, least) in [
        ("master.worker_timeout", master.worker_timeout, Duration::from_secs(1)),
        ("master.write_lease", master.write_lease, Duration::from_secs(1)),
        ("master.ticket_lifetime", master.ticket_lifetime, Duration::from_secs(10)),
        ("worker.idle_timeout", worker.idle_timeout, Duration::from_secs(1)),
        ("worker.stall_timeout", worker.stall_timeout, Duration::from_secs(1)),
        ("client.deadline", client.deadline, Duration::from_millis(100)),
        ("client.read_timeout", client.read_timeout, Duration::from_millis(100)),
    ] {
        need(key, duration.0 >= least, &format!("{} is the least", HumanDuration(least)));
    }
    for (key, size, least) in [
        ("master.write_buffer", master.write_buffer, ByteSize::mib(1)),
        ("worker.memory_limit", worker.memory_limit, ByteSize::mib(64)),
        ("worker.fetch_size", worker.fetch_size, ByteSize(64 << 10)),
        ("client.memory_limit", client.memory_limit, ByteSize::mib(16)),
    ] {
        need(key, size >= least, &format!("{least} is the least"));
    }
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
    need("worker.tiers", quotas.clone().all(|d| d.quota.0 > 0 && d.path.is_absolute()), TIER_DIRECTORY);
    found
}

const HOST_PORT: &str = "write host:port, e.g. 0.0.0.0:7400";
const LEVEL: &str = "write error, warn, info, debug or trace, or a filter such as info,forebay_worker=debug";
const TIER_DIRECTORY: &str = "directories need an absolute path and a quota above zero";

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

    #[test]
    fn what_cannot_work_is_named() {
        check_one(|s| s.roles.clear(), "roles");
        check_one(|s| s.data_dir.clear(), "data_dir");
        check_one(|s| s.masters.clear(), "masters");
        check_one(|s| s.masters = vec!["host".into()], "masters");
        check_one(|s| s.master.listen = "foo".into(), "master.listen");
        check_one(|s| s.web.listen = "7480".into(), "web.listen");
        check_one(|s| s.worker.listen = "1::2:80000".into(), "worker.listen");
        check_one(|s| s.log.level = "loud".into(), "log.level");
        check_one(|s| s.client.deadline = HumanDuration::secs(0), "client.deadline");
        check_one(|s| s.master.write_lease = HumanDuration::secs(0), "master.write_lease");
        check_one(|s| s.worker.memory_limit = ByteSize(0), "worker.memory_limit");
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
