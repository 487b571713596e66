//! The demo: two S3 stores "in two regions" and a local directory in one tree, read cold, then hot.
//!
//! `forebay-demo [--once]` (through `cargo xtask demo`, which installs and builds what it needs) fills the stores with
//! generated data, starts `forebay server`, mounts, reads everything twice, compares every byte, and prints what that
//! took. Then it stays up until Ctrl-C, with commands to try; with `--once` it ends after the table.

mod dataset;
mod hints;
mod images;
mod logs;
mod measure;
mod table;
mod trips;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use measure::Pass;
use world::World;

/// Two stores and a directory in one tree, read cold and hot.
#[derive(Debug, Parser)]
struct Arguments {
    /// End after the table.
    #[arg(long)]
    once: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let mut stop = Stop::listen()?;
    // Told to stop on the way: what has been started ends with the values that are dropped here.
    let world = tokio::select! {
        world = build_and_read() => world?,
        () = stop.told() => return Ok(()),
    };
    if !arguments.once {
        println!("\n{}", hints::text(&world));
        stop.told().await;
    }
    world.stop().await
}

async fn build_and_read() -> Result<World> {
    let started = Instant::now();
    let world = World::build().await?;
    let mut readings = Vec::new();
    for pass in [Pass::Cold, Pass::Hot] {
        for source in world.sources() {
            println!("reading {} {}", source.mount, pass.name());
            readings.push(measure::read_all(world.client(), source, pass).await?);
        }
    }
    println!("\n{}", table::render(&readings));
    readings.iter().try_for_each(measure::Reading::check)?;
    println!("every byte was as generated; {} s in all", started.elapsed().as_secs());
    Ok(world)
}

/// Ctrl-C or SIGTERM.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn told(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        println!("\nstopping");
    }
}
