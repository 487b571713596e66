//! The toolbox: every chore of the project is `cargo xtask COMMAND`.

mod apt;
mod cache;
mod cargo;
mod chores;
mod go;
mod leftovers;
mod rocksdb;
mod servers;
mod setup;
mod soak;
mod tools;
mod upgrade;

use std::process::ExitCode;

use anyhow::{Result, bail};

use setup::Purpose;

const USAGE: &str = "\
cargo xtask COMMAND

  demo [--once]                           a cluster over two stores with data to read; --once ends after the table
  install [ROOT]                          build forebay for use and put it into ROOT/bin (default: cargo's own, ~/.cargo)
  test [ARGS]                             every test; arguments go to `cargo test`
  soak [--long-forms]                     the long forms of tests, half an hour, and an hour of faults; --long-forms: without these
  soak --minutes M [--seed S]             three masters as processes under kills, pauses, cut networks and wrong clocks; --rounds N, --help
  sim [ARGS]                              a group of masters under faults, from seeds: --seed S, --seeds A..B, --steps N; --help
  upgrade                                 a cluster goes from the release before to this one, master by master, under load
  lint                                    format, clippy, documentation, licences
  docs                                    write docs/configuration.md from the settings' own documentation
  bench NAME [--quick] [--inodes N]       one benchmark, `all`, or `list`; JSON goes to target/bench/; --inodes is for `scale`
  setup [--for build|demo|test|lint|all]  install what this machine lacks (default: all); the others do it themselves
  env                                     print the variables that our builds share: eval \"$(cargo xtask env)\"";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["setup"] => setup::run(Purpose::Everything),
        ["setup", "--for", purpose] => setup::run(Purpose::parse(purpose)?),
        ["env"] => print_environment(),
        ["test", arguments @ ..] => chores::test(arguments),
        ["soak", arguments @ ..] => soak::run(arguments),
        ["sim", arguments @ ..] => chores::sim(arguments),
        ["upgrade"] => upgrade::run(),
        ["install"] => chores::install(None),
        ["install", root] if !root.starts_with('-') => chores::install(Some(root)),
        ["lint"] => chores::lint(),
        ["docs"] => chores::docs(),
        ["bench", _, ..] => chores::bench(&words[1..]),
        ["demo"] | ["demo", "--once"] => chores::demo(&words[1..]),
        [] | ["help" | "-h" | "--help"] => {
            println!("{USAGE}");
            Ok(())
        }
        _ => bail!("cannot read `{}`\n\n{USAGE}", words.join(" ")),
    }
}

fn print_environment() -> Result<()> {
    for (name, value) in cargo::environment()? {
        println!("export {name}='{}'", value.display());
    }
    Ok(())
}
