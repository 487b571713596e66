//! `forebay server`: the roles of one process, from start to a clean stop.

mod data_dir;
mod logs;
mod web;

use crate::config::{Config, Role};
use anyhow::Context;
use data_dir::DataDir;
use std::time::Instant;

/// Runs the configured roles until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let started = Instant::now();
    logs::init(&config.settings.log)?;
    let data_dir = DataDir::open(&config.settings.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("forebay").build()?;
    let result = runtime.block_on(serve(&config, &data_dir, started));
    drop(data_dir);
    result
}

async fn serve(config: &Config, data_dir: &DataDir, started: Instant) -> anyhow::Result<()> {
    let settings = &config.settings;
    let health = web::Health::default();
    let web = web::start(&settings.web.listen, health.clone()).await.context("cannot open the web port")?;
    let _ = (data_dir, started, settings.roles.contains(&Role::Master), web);
    Ok(())
}
