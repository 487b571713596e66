//! The toolbox: every chore of the project is `cargo xtask COMMAND`.

mod apt;
mod cache;
mod cargo;
mod go;
mod rocksdb;
mod servers;
mod setup;
mod tools;

use std::process::ExitCode;

use anyhow::{Result, bail};

use setup::Purpose;

const USAGE: &str = "\
cargo xtask COMMAND

  setup [--for build|demo|test|lint|all]  install what this machine lacks (default: all)
  env                                     print the variables that our builds share, for `eval`";

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
