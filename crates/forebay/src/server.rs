//! `forebay server`: the roles of one process, from start to a clean stop.

mod data_dir;
mod logs;
mod roles;
mod tiers;
mod web;

pub(crate) use tiers::{default_in_words as default_tiers_in_words, planned as planned_tiers};

use crate::config::{Config, Settings};
use anyhow::Context;
use data_dir::DataDir;
use forebay_master::RestoreFrom;
use roles::Roles;
pub(crate) use roles::{master_directory, own_address};
use std::{
    future::pending,
    io::Write,
    time::{Duration, Instant},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Runs the configured roles until SIGTERM or SIGINT; a master without data begins with a backup, if there is one to `restore`.
pub(crate) fn run(mut config: Config, restore: Option<RestoreFrom>) -> anyhow::Result<()> {
    let started = Instant::now();
    let settings = &mut config.settings;
    logs::init(&settings.log)?;
    config.unknown_variables.iter().for_each(|unknown| tracing::warn!("{unknown}"));
    anyhow::ensure!(!settings.roles.is_empty(), "bad value for roles: []; allowed: master, worker");
    let data_dir = DataDir::open(&settings.data_dir)?;
    // One name for it from here on: others are told paths below it, and names are made of it.
    settings.data_dir = std::fs::canonicalize(&settings.data_dir)
        .with_context(|| format!("cannot resolve data_dir {}", settings.data_dir.display()))?;
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("forebay").build()?;
    let result = runtime.block_on(serve(settings, restore, started));
    runtime.shutdown_timeout(THREADS_MAX);
    // Kept until the process is gone: a thread that a dead disk holds may still write there.
    std::mem::forget(data_dir);
    result
}

/// How long the end of the process waits for threads that a disk holds up. What was acknowledged is on disk by then.
const THREADS_MAX: Duration = Duration::from_secs(1);

async fn serve(settings: &Settings, restore: Option<RestoreFrom>, started: Instant) -> anyhow::Result<()> {
    let mut stop = Stop::listen()?;
    let health = web::Health::default();
    health.not_ready("process", "starting");
    let web = web::start(&settings.web.listen, health.clone()).await.context("cannot open the web port")?;
    let roles = tokio::select! {
        roles = Roles::start(settings, restore, &health) => roles?,
        // One of several masters that are new may wait long for the others.
        () = stop.wait() => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    health.ready("process");
    let serving = async {
        roles.ready(&health).await;
        announce(settings, &roles, &web, started);
        std::future::pending::<()>().await;
    };
    let failure = tokio::select! {
        () = serving => None,
        () = stop.wait() => None,
        reason = roles.failed() => Some(reason),
    };
    if let Some(reason) = failure {
        // Nothing more can be acknowledged: the disk may hold less than memory does, so nothing is flushed either.
        anyhow::bail!("the master cannot go on: {reason}");
    }
    tracing::info!("stopping: no new requests, those under way are ended");
    health.not_ready("process", "stopping");
    tokio::select! {
        () = roles.shutdown() => tracing::info!("stopped"),
        () = stop.wait_again() => tracing::warn!("second signal: stopped at once"),
    }
    Ok(())
}

/// Says where the process listens, where its data is, and what to try. Nobody may be reading: that is no reason to stop.
fn announce(settings: &Settings, roles: &Roles, web: &web::Web, started: Instant) {
    let mut lines =
        vec![format!("forebay {} is ready ({} ms)", env!("CARGO_PKG_VERSION"), started.elapsed().as_millis())];
    if let Some(master) = &roles.master {
        lines.push(format!("  master   {}", master.address()));
    }
    if let Some(worker) = &roles.worker {
        lines.push(format!("  worker   {} (data), {} (control)", worker.addresses().data, worker.addresses().control));
    }
    if let Some(address) = web.address {
        lines.push(format!("  web      http://{address}/metrics"));
    }
    let flag = masters_flag(settings, roles);
    lines.push(format!("  data     {}", settings.data_dir.display()));
    lines.push("try:".to_owned());
    lines.push(format!("  forebay mount add /lake s3://BUCKET/PREFIX{flag}"));
    lines.push(format!("  forebay fs ls -l /lake{flag}"));
    lines.push(format!("  forebay status{flag}\n"));
    let _ = std::io::stdout().lock().write_all(lines.join("\n").as_bytes());
}

/// What commands need to find these masters: nothing when they are at the default address.
fn masters_flag(settings: &Settings, roles: &Roles) -> String {
    let masters = roles.masters(settings);
    if masters == Settings::default().masters { String::new() } else { format!(" --masters {}", masters.join(",")) }
}

/// Signals that come so soon after the first one are the same request to stop.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Stop> {
        Ok(Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for a signal that somebody meant: a supervisor that signals the process and its group sends two at once.
    async fn wait_again(&mut self) {
        let first = Instant::now();
        while first.elapsed() < SAME_SIGNAL {
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let received = tokio::select! {
            received = self.terminate.recv() => received,
            received = self.interrupt.recv() => received,
        };
        if received.is_none() {
            pending::<()>().await;
        }
    }
}

/// A page store keeps thousands of files open: the soft limit (often 1,024) is raised to the hard one.
fn raise_open_files_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
