//! `forebay-sim`: runs plans from the command line; see `cargo xtask sim`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use forebay_sim::{Broken, Plan, Planted, Report, run};
use parking_lot::Mutex;

const USAGE: &str = "\
forebay-sim [--seed S | --seeds A..B] [--steps N] [--plant FAULT] [--trace FILE]

  --seed S        one run (default: 1)
  --seeds A..B    one run for each seed from A to before B
  --steps N       how often something goes wrong in a run (default: 200)
  --plant FAULT   make a mistake on purpose: ack-before-sync, lease-without-drift, replies-left-out,
                  change-left-unfinished, old-names
  --trace FILE    write all events of a single run there";

/// Events shown of a run that is broken.
const TAIL: usize = 60;

struct Arguments {
    first: u64,
    end: u64,
    steps: u64,
    planted: Option<Planted>,
    trace: Option<String>,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|arguments| go(&arguments)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments> {
    let mut arguments = Arguments { first: 1, end: 2, steps: 200, planted: None, trace: None };
    while let Some(word) = words.next() {
        let value = words.next().with_context(|| format!("{word} lacks its value"))?;
        match word.as_str() {
            "--seed" => {
                arguments.first = value.parse().context("--seed is a number")?;
                arguments.end = arguments.first + 1;
            }
            "--seeds" => {
                let (first, end) = value.split_once("..").context("--seeds is A..B")?;
                arguments.first = first.parse().context("--seeds begins with a number")?;
                arguments.end = end.parse().context("--seeds ends with a number")?;
            }
            "--steps" => arguments.steps = value.parse().context("--steps is a number")?,
            "--plant" => arguments.planted = Some(planted(&value)?),
            "--trace" => arguments.trace = Some(value),
            _ => bail!("{word} is not known"),
        }
    }
    Ok(arguments)
}

fn planted(name: &str) -> Result<Planted> {
    let known = Planted::ALL.into_iter().find(|(known, _)| *known == name);
    known.map(|(_, planted)| planted).with_context(|| format!("no fault is named {name}"))
}

/// Says whether everything held.
fn go(arguments: &Arguments) -> Result<bool> {
    let plan = |seed| Plan { seed, steps: arguments.steps, planted: arguments.planted };
    if arguments.end.saturating_sub(arguments.first) == 1 {
        return one(plan(arguments.first), arguments.trace.as_deref());
    }
    let started = Instant::now();
    let next = AtomicU64::new(arguments.first);
    let broken = Mutex::new(Vec::new());
    let totals = Mutex::new(Totals::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= arguments.end {
                        return;
                    }
                    match run(plan(seed)) {
                        Ok(report) => totals.lock().add(&report),
                        Err(error) => {
                            println!("seed {seed} steps {}: BROKEN: {}", arguments.steps, error.what);
                            broken.lock().push(seed);
                        }
                    }
                }
            });
        }
    });
    let mut broken = broken.into_inner();
    broken.sort_unstable();
    let totals = totals.into_inner();
    println!("{totals} in {:.1} s", started.elapsed().as_secs_f64());
    if let Some(seed) = broken.first() {
        println!("{} broken: {broken:?}; look at one with --seed {seed} --steps {}", broken.len(), arguments.steps);
    }
    Ok(broken.is_empty())
}

fn one(plan: Plan, file: Option<&str>) -> Result<bool> {
    let result = run(plan);
    let (trace, held) = match &result {
        Ok(report) => (&report.trace, true),
        Err(broken) => (&broken.trace, false),
    };
    match &result {
        Ok(report) => {
            let mut totals = Totals::default();
            totals.add(report);
            println!("seed {} steps {}: held; {totals}; digest {:016x}", plan.seed, plan.steps, report.digest);
        }
        Err(broken) => tell(plan, broken),
    }
    let file = file.map(str::to_owned).or_else(|| (!held).then(|| format!("sim-{}.trace", plan.seed)));
    if let Some(file) = file {
        std::fs::write(&file, trace.tail(usize::MAX).join("\n")).with_context(|| format!("writing {file}"))?;
        println!("all events are in {file}");
    }
    Ok(held)
}

fn tell(plan: Plan, broken: &Broken) {
    for line in broken.trace.tail(TAIL) {
        println!("{line}");
    }
    println!("seed {} steps {}: BROKEN: {}", plan.seed, plan.steps, broken.what);
}

/// What many runs have seen.
#[derive(Default)]
struct Totals {
    runs: u64,
    commands: u64,
    acknowledged: u64,
    reads: u64,
    terms: u64,
    states: u64,
    repeated: u64,
    explained: usize,
    seconds: f64,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        let counts = report.counts;
        self.runs += 1;
        self.commands += counts.commands;
        self.acknowledged += counts.acknowledged;
        self.reads += counts.reads;
        self.terms += counts.terms;
        self.states += counts.states_compared;
        self.repeated += counts.repeated;
        self.explained += report.histories;
        self.seconds += report.simulated.as_secs_f64();
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Totals { runs, commands, acknowledged, reads, terms, states, repeated, explained, seconds } = self;
        write!(
            f,
            "{runs} runs of {seconds:.0} s: {acknowledged} requests and {reads} reads answered, {commands} commands, {repeated} repeated, \
             {terms} terms led, {states} states compared, {explained} histories explained"
        )
    }
}
