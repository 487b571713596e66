//! `forebay-soak --minutes M | --rounds N [--seed S]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};

use forebay_soak::report::Totals;
use forebay_soak::schedule::Schedule;
use forebay_soak::world::{HOSTS, Store, World};
use forebay_soak::{agreement, evidence, round};
use forebay_testkit::network::{self, Network};

const OUTPUT: &str = "target/soak";

/// Three masters and a worker under faults, and clients whose histories must be linearizable.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long; the round that is running then is ended.
    #[arg(long, required_unless_present = "rounds", conflicts_with = "rounds")]
    minutes: Option<u64>,
    /// How many rounds, each some eight seconds; all kinds of faults come within eight.
    #[arg(long)]
    rounds: Option<u64>,
    /// Of the schedule of faults [default: another one each time].
    #[arg(long)]
    seed: Option<u64>,
    /// Clients fight over names in a store, too, where a leader that was deposed in the middle of a change may still carry it out.
    #[arg(long)]
    store: bool,
    /// What joins the processes.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    network: Choice,
    /// Where what is found is kept, in a directory named by the seed.
    #[arg(long, default_value = OUTPUT, overrides_with = "output")]
    output: PathBuf,
}

/// What joins the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Namespaces where they are allowed, else relays.
    Auto,
    /// A network namespace for each.
    Namespaces,
    /// Relays on loopback.
    Relays,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The network comes before the first thread.
fn start(arguments: &Arguments) -> Result<()> {
    let namespaces = match arguments.network {
        Choice::Relays => false,
        Choice::Namespaces => network::enter_private().map(|()| true)?,
        Choice::Auto => network::enter_private().map_err(|why| println!("{why:#}")).is_ok(),
    };
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    runtime.block_on(async {
        let network = match namespaces {
            true => Network::of_namespaces(HOSTS)?,
            false => Network::of_relays(),
        };
        // What was started ends with the values that stand for it, which are dropped then.
        // Ctrl-C reaches them, too: that they end then is nothing found.
        tokio::select! {
            biased;
            signal = interrupted() => bail!("interrupted by {}", signal?),
            done = run(arguments, network) => done,
        }
    })
}

async fn interrupted() -> Result<&'static str> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    Ok(tokio::select! {
        done = tokio::signal::ctrl_c() => done.map(|()| "Ctrl-C")?,
        _ = terminate.recv() => "SIGTERM",
        _ = hang_up.recv() => "SIGHUP",
    })
}

async fn run(arguments: &Arguments, network: Network) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let begun = Instant::now();
    println!("seed {seed}; network: {}", network.description());
    let store = if arguments.store { Store::Fought } else { Store::Quiet };
    let mut world = World::start(network, store).await?;
    let mut totals = Totals::new(world.observer.masters().await?.term);
    let mut done = rounds(arguments, seed, begun, &mut world, &mut totals).await;
    println!("\n{totals}minutes         {:.1}", begun.elapsed().as_secs_f64() / 60.0);
    println!("seed            {seed}");
    println!("again           {}", again(arguments, seed));
    if done.is_ok() {
        done = end(&mut world).await;
    }
    if let Err(error) = &done {
        let place = arguments.output.join(seed.to_string());
        evidence::keep(error, &mut world, &place).with_context(|| format!("{error:#}; and {}", place.display()))?;
        println!(
            "kept            {}: history.txt, what the processes told, what masters have on disk",
            place.display()
        );
    }
    done
}

async fn rounds(
    arguments: &Arguments,
    seed: u64,
    begun: Instant,
    world: &mut World,
    totals: &mut Totals,
) -> Result<()> {
    let end = arguments.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let is_over = |number| match end {
        Some(end) => Instant::now() >= end,
        None => Some(number) >= arguments.rounds,
    };
    let mut schedule = Schedule::new(seed);
    let mut number = 0;
    while !is_over(number) {
        let plan = schedule.draw();
        let outcome =
            round::run(world, &plan).await.with_context(|| format!("round {number} of seed {seed}, {plan:?}"))?;
        println!("round {number:4}: {outcome}");
        totals.add(&outcome);
        number += 1;
    }
    Ok(())
}

/// Everything that was acknowledged is there, on all masters alike, also after they have all been down.
async fn end(world: &mut World) -> Result<()> {
    for keeper in &mut world.keepers {
        keeper.add_one().await?;
    }
    println!("alike           {}", agreement::check(&mut world.cluster, &world.observer).await?);
    for keeper in &world.keepers {
        keeper.check(&world.observer).await?;
    }
    let kept: Vec<String> = world.keepers.iter().map(|keeper| keeper.summary()).collect();
    println!("acknowledged    {}: all there", kept.join(", "));
    Ok(())
}

fn again(arguments: &Arguments, seed: u64) -> String {
    let length = match (arguments.minutes, arguments.rounds) {
        (Some(minutes), _) => format!("--minutes {minutes}"),
        (None, rounds) => format!("--rounds {}", rounds.unwrap_or_default()),
    };
    let store = if arguments.store { " --store" } else { "" };
    let network = match arguments.network {
        Choice::Auto => "",
        Choice::Namespaces => " --network namespaces",
        Choice::Relays => " --network relays",
    };
    let output = match arguments.output.ends_with(OUTPUT) {
        true => String::new(),
        false => format!(" --output '{}'", arguments.output.display()),
    };
    format!("cargo xtask soak {length} --seed {seed}{store}{network}{output}")
}
