//! From settings to running roles, and back to a clean stop.

use super::{tiers, web::Health};
use crate::config::{BackupSettings, Role, Settings};
use anyhow::Context;
use forebay_base::ErrorKind;
use forebay_client::Error;
use forebay_master::{BackupSchedule, Master, RestoreFrom, RunningMaster};
use forebay_ufs::mount_options;
use forebay_worker::{RunningWorker, Worker};
use std::{
    net::{SocketAddr, ToSocketAddrs},
    path::PathBuf,
    time::Duration,
};

/// The roles of this process that run.
pub(super) struct Roles {
    pub(super) master: Option<RunningMaster>,
    pub(super) worker: Option<RunningWorker>,
}

/// Paths of Unix sockets end here (`sun_path` of unix(7) has 108 bytes, one of them the NUL).
const SOCKET_PATH_MAX: usize = 107;

impl Roles {
    /// Starts the configured roles, the master first: a worker in the same process registers with it.
    pub(super) async fn start(
        settings: &Settings,
        restore: Option<RestoreFrom>,
        health: &Health,
    ) -> anyhow::Result<Roles> {
        let mut roles = Roles { master: None, worker: None };
        if restore.is_some() && !settings.roles.contains(&Role::Master) {
            let wrong = Error::new(ErrorKind::InvalidArgument, "--restore-from is for a master, and roles has none");
            return Err(wrong.with_hint("start a server with the role master with it").into());
        }
        if settings.roles.contains(&Role::Master) {
            health.not_ready("master", "starting");
            if restore.is_some() {
                check_worker_is_new(settings)?;
            }
            let master = forebay_master::Settings { restore, ..master_settings(settings)? };
            let master = Master::start(master).await.context("cannot start the master")?;
            health.ask("master", master.trouble());
            health.ready("master");
            roles.master = Some(master);
        }
        if settings.roles.contains(&Role::Worker) {
            health.not_ready("worker", "not registered with a master yet");
            let masters = roles.masters(settings);
            let worker = worker_settings(settings, masters)?;
            roles.worker = Some(Worker::start(worker).await.context("cannot start the worker")?);
        }
        Ok(roles)
    }

    /// Where the masters are: the one in this process when it has one, since its port may have been chosen by the system.
    pub(super) fn masters(&self, settings: &Settings) -> Vec<String> {
        match &self.master {
            Some(master) if settings.masters.len() <= 1 => vec![reachable(master.address()).to_string()],
            _ => settings.masters.clone(),
        }
    }

    /// Waits until the worker knows the cluster; forever when no master answers.
    pub(super) async fn ready(&self, health: &Health) {
        if let Some(worker) = &self.worker {
            while worker.epoch() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        health.ready("worker");
    }

    /// Waits until the master cannot go on (its disk failed, say), and tells why.
    pub(super) async fn failed(&self) -> String {
        match &self.master {
            Some(master) => master.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Drains and stops: the worker first, so that it can still call the master.
    pub(super) async fn shutdown(self) {
        if let Some(worker) = self.worker {
            worker.shutdown().await;
        }
        if let Some(master) = self.master {
            master.shutdown().await;
        }
    }
}

/// The worker of this process would not serve a restored cluster with the cache of another one.
fn check_worker_is_new(settings: &Settings) -> anyhow::Result<()> {
    let cache = settings.data_dir.join("worker/cluster-id");
    anyhow::ensure!(
        !settings.roles.contains(&Role::Worker) || !cache.exists(),
        "the data directory {} has the cache of a worker of another cluster: a backup is restored into an empty one only",
        settings.data_dir.display()
    );
    Ok(())
}

/// "Any address" is one to listen on, not one to call.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port())),
        other => other,
    }
}

fn master_settings(settings: &Settings) -> anyhow::Result<forebay_master::Settings> {
    let own = &settings.master;
    let defaults = forebay_master::Settings::new(master_directory(settings));
    let places = |running: u32| forebay_master::ClassLimit {
        running: running.max(1) as usize,
        waiting: own.waiting_max as usize,
    };
    Ok(forebay_master::Settings {
        listen: resolve("master.listen", &own.listen)?,
        advertise: advertise(settings),
        masters: settings.masters.clone(),
        group: forebay_master::Group {
            heartbeat_interval: own.heartbeat_interval.0,
            election_timeout: own.election_timeout.0,
            clock_drift_percent: own.clock_drift_percent,
            snapshot_bytes_per_second: own.snapshot_rate,
        },
        log: forebay_master::Log {
            segment_bytes: own.log_segment,
            flush_bytes: own.log_flush,
            retained_entries: own.log_keep,
        },
        limits: forebay_master::Limits {
            read: places(own.reads_max),
            write: places(own.writes_max),
            ..defaults.limits
        },
        namespace_cache: own.namespace_cache,
        store_write_buffer: own.write_buffer,
        listings_max: own.listings_max.max(1) as usize,
        blocked_wait: own.blocked_wait.0,
        write_lease: own.write_lease.0,
        worker_timeout: own.worker_timeout.0,
        store_cache: own.block_cache,
        ticket_lifetime: own.ticket_lifetime.0,
        direct_grant_lifetime: own.direct_grant_lifetime.0,
        part_size: own.part_size,
        rename_copies: own.rename_copies.max(1) as usize,
        purge_objects_per_second: own.purge_rate.max(1),
        freshness_entries: own.freshness_entries as usize,
        auto_upgrade: own.auto_upgrade,
        backup: backup_schedule(&settings.backup)?,
        ..defaults
    })
}

/// Backups at set times, if there is a place for them.
fn backup_schedule(settings: &BackupSettings) -> anyhow::Result<Option<BackupSchedule>> {
    if settings.to.is_empty() {
        return Ok(None);
    }
    let option = |text: &String| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("bad value for backup.options: {text:?}; write name=value"))?;
        Ok((mount_options::canonical(name.trim()), value.trim().to_owned()))
    };
    let options = settings.options.iter().map(option).collect::<anyhow::Result<_>>()?;
    Ok(Some(BackupSchedule { to: settings.to.clone(), options, every: settings.every.0, keep: settings.keep }))
}

/// Where the master's data lies.
pub(crate) fn master_directory(settings: &Settings) -> PathBuf {
    settings.data_dir.join("master")
}

/// The address by which the group of masters knows the one of these settings.
pub(crate) fn own_address(settings: &Settings) -> String {
    match advertise(settings) {
        unset if unset.is_empty() => settings.master.listen.clone(),
        address => address,
    }
}

/// What the other masters call this one; empty: the address that it gets.
fn advertise(settings: &Settings) -> String {
    let own = &settings.master;
    match own.advertise.is_empty() && settings.masters.len() > 1 && settings.masters.contains(&own.listen) {
        true => own.listen.clone(),
        false => own.advertise.clone(),
    }
}

fn worker_settings(settings: &Settings, masters: Vec<String>) -> anyhow::Result<forebay_worker::Settings> {
    let own = &settings.worker;
    let data_dir = settings.data_dir.join("worker");
    let cache = forebay_cache::Settings::new(tiers::from_settings(settings)?);
    Ok(forebay_worker::Settings {
        data_listen: resolve("worker.listen", &own.listen)?,
        control_listen: resolve("worker.control_listen", &own.control_listen)?,
        unix_socket: unix_socket(data_dir.join("data.sock")),
        advertise_host: Some(own.advertise_host.clone()).filter(|host| !host.is_empty()),
        masters,
        limits: forebay_worker::Limits {
            connections_max: own.connections_max as usize,
            memory_max: own.memory_limit,
            get_len_max: own.fetch_size,
            gets_max: own.fetch_concurrency.max(1) as usize,
            read_ahead_max: own.read_ahead_max,
            loads_max: own.loads_max as usize,
            idle_timeout: own.idle_timeout.0,
            stall_timeout: own.stall_timeout.0,
            ..forebay_worker::Limits::default()
        },
        ..forebay_worker::Settings::new(data_dir, cache)
    })
}

fn unix_socket(path: PathBuf) -> Option<PathBuf> {
    let fits = path.as_os_str().len() <= SOCKET_PATH_MAX;
    if !fits {
        tracing::warn!(path = %path.display(), "path is too long for a socket, clients on this host will read over TCP; set data_dir to a shorter path");
    }
    fits.then_some(path)
}

fn resolve(key: &str, text: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses =
        text.to_socket_addrs().with_context(|| format!("bad value for {key}: {text:?}; write host:port"))?;
    addresses.next().with_context(|| format!("bad value for {key}: {text:?} has no address"))
}
