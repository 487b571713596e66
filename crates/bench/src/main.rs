//! `forebay-bench NAME [--quick] [--inodes N] [--output DIR]`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;

use forebay_bench::registry::{self, BENCHES, Bench};
use forebay_bench::{Setting, machine};

/// Measures Forebay beside the limits of this machine.
#[derive(Debug, Parser)]
struct Arguments {
    /// A benchmark, `all`, or `list`.
    name: String,
    /// Shorter: ends within 60 seconds, with figures that are worth less.
    #[arg(long)]
    quick: bool,
    /// How many inodes `scale` loads, from 100,000 on (default: 10,000,000; quick: 200,000).
    #[arg(long)]
    inodes: Option<u64>,
    /// Where the JSON files go.
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
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
    let setting = Setting { is_quick: arguments.quick, inodes: arguments.inodes };
    match arguments.name.as_str() {
        "list" => BENCHES.iter().for_each(|bench| println!("{:<16} {}", bench.name, bench.about)),
        "all" => {
            for bench in BENCHES {
                run_one(bench, &setting, &arguments.output).await?;
            }
        }
        name => match BENCHES.iter().find(|bench| bench.name == name) {
            Some(bench) => run_one(bench, &setting, &arguments.output).await?,
            None => bail!("no benchmark {name}: one of all, list, {}", registry::names().join(", ")),
        },
    }
    Ok(())
}

async fn run_one(bench: &Bench, setting: &Setting, output: &std::path::Path) -> Result<()> {
    let started = Instant::now();
    println!("{}: {}", bench.name, bench.about);
    println!("on {}", machine::describe());
    let report = (bench.run)(setting.clone()).await.with_context(|| format!("bench {}", bench.name))?;
    print!("{}", report.table());
    report.write(&output.join(format!("{}.json", bench.name)))?;
    println!("{}: {} s\n", bench.name, started.elapsed().as_secs());
    Ok(())
}
