//! Test, lint, bench, demo: cargo started with the shared environment, each step announced.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::leftovers::TemporaryDir;
use crate::setup::{self, Purpose};
use crate::{cargo, tools};

/// `cargo xtask test [ARGS…]`: every test of the workspace, or what the arguments say to `cargo test`. Fails also when they pass and
/// leave files, mounts or processes behind.
pub(crate) fn test(arguments: &[&str]) -> Result<()> {
    setup::run(Purpose::Test)?;
    build_lossy_fs()?;
    let temporary = TemporaryDir::make()?;
    let run = |name: &str, mut command: Command| {
        command.args(arguments).env("FOREBAY_BIN", program("forebay")?).env("TMPDIR", temporary.path());
        step(name, &mut command)
    };
    if arguments.is_empty() {
        // Builds the program as well, before the first test runs: the suites of its own crate need it.
        // Whoever waited for all of it is to hear of all that fails.
        let mut tests = cargo_command(&["test", "--no-fail-fast"])?;
        tests.args(BUILT_TOGETHER);
        run("tests", tests)?;
        run("tests of the simulation", cargo_command(&["test", "--package", SIMULATION])?)?;
        run("tests of the lossy file system", cargo_command(&["test", "--package", LOSSY_FS])?)?;
    } else {
        build(&["forebay"])?;
        run("tests", cargo_command(&["test"])?)?;
    }
    temporary.check_empty()
}

/// Built apart from all else: it wants the consensus with faults in it that can be planted, and what is tested, shown and measured is to be
/// what is shipped.
pub(crate) const SIMULATION: &str = "forebay-sim";

/// The file system that tests cut the power of. Built apart, too: it wants other features of a crate that nearly all others use.
const LOSSY_FS: &str = "forebay-lossyfs";

/// The arguments of cargo for all that is built together.
pub(crate) const BUILT_TOGETHER: [&str; 5] = ["--workspace", "--exclude", SIMULATION, "--exclude", LOSSY_FS];

/// The tests find it beside themselves.
pub(crate) fn build_lossy_fs() -> Result<()> {
    step("build of the lossy file system", &mut cargo_command(&["build", "--package", LOSSY_FS])?)
}

/// `cargo xtask sim [ARGS…]`: runs of the simulation.
pub(crate) fn sim(arguments: &[&str]) -> Result<()> {
    setup::run(Purpose::Build)?;
    step("build", &mut cargo_command(&["build", "--package", SIMULATION])?)?;
    step("sim", Command::new(program(SIMULATION)?).args(arguments))
}

/// `cargo xtask lint`: format, clippy, documentation, licences and duplicates.
pub(crate) fn lint() -> Result<()> {
    setup::run(Purpose::Lint)?;
    step("format", &mut cargo_command(&["fmt", "--all", "--check"])?)?;
    step(
        "clippy",
        &mut cargo_command(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?,
    )?;
    let mut doc = cargo_command(&["doc", "--workspace", "--no-deps", "--document-private-items", "--quiet"])?;
    step("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let mut deny = Command::new(tools::cargo_deny()?);
    deny.args(["--workspace", "--log-level", "warn", "check", "licenses", "bans", "sources"]);
    step("licences and duplicates", deny.current_dir(cargo::root()).envs(cargo::environment()?))
}

/// `cargo xtask install [ROOT]`: the program for use, with the RocksDB that is built once.
pub(crate) fn install(root: Option<&str>) -> Result<()> {
    setup::run(Purpose::Build)?;
    let mut command = cargo_command(&["install", "--locked", "--path", "crates/forebay"])?;
    if let Some(root) = root {
        command.args(["--root", root]);
    }
    step("install", &mut command)
}

/// `cargo xtask docs`: the pages that the code writes.
pub(crate) fn docs() -> Result<()> {
    setup::run(Purpose::Build)?;
    build(&["forebay"])?;
    let output = Command::new(program("forebay")?).args(["config", "document"]).output().context("starting forebay")?;
    ensure!(output.status.success(), "forebay config document: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(cargo::root().join("docs/configuration.md"), output.stdout).context("writing docs/configuration.md")
}

/// `cargo xtask bench NAME [--quick]`: tables on the terminal, JSON in `target/bench/`.
pub(crate) fn bench(arguments: &[&str]) -> Result<()> {
    setup::run(Purpose::Demo)?;
    build(&["forebay", "forebay-bench"])?;
    let mut run = Command::new(program("forebay-bench")?);
    run.args(arguments).arg("--output").arg(cargo::root().join("target/bench"));
    step("bench", run.env("FOREBAY_BIN", program("forebay")?))
}

/// `cargo xtask demo [--once]`.
pub(crate) fn demo(arguments: &[&str]) -> Result<()> {
    setup::run(Purpose::Demo)?;
    build(&["forebay", "forebay-demo"])?;
    println!("==> demo");
    let mut run = Command::new(program("forebay-demo")?);
    // The demo takes our place: it, and not we, must get Ctrl-C and say how it ended.
    Err(run.args(arguments).env("FOREBAY_BIN", program("forebay")?).exec()).context("starting the demo")
}

/// Builds programs of the workspace.
///
/// Always with `--workspace`: cargo chooses the features of dependencies by the packages it is asked for, and what tests,
/// demo and benches share is compiled once only when they all ask for the same ones.
pub(crate) fn build(programs: &[&str]) -> Result<()> {
    let mut command = cargo_command(&["build"])?;
    command.args(BUILT_TOGETHER);
    for program in programs {
        command.args(["--bin", program]);
    }
    step("build", &mut command)
}

/// An error when a filter matches no test, which cargo would take for success.
pub(crate) fn has_tests(cargo_test: &[&str], filter: &[&str]) -> Result<()> {
    let mut command = cargo_command(cargo_test)?;
    command.args(["--", "--list"]).args(filter).stderr(Stdio::inherit());
    let output = command.output().context("starting cargo")?;
    ensure!(output.status.success(), "listing the tests of {filter:?}: {}", output.status);
    let listed = String::from_utf8_lossy(&output.stdout);
    ensure!(names_a_test(&listed), "no test matches {filter:?}: cargo {}", cargo_test.join(" "));
    Ok(())
}

/// Whether the output of a test program that was to list its tests has any.
fn names_a_test(listed: &str) -> bool {
    listed.lines().any(|line| line.ends_with(": test"))
}

/// Where cargo puts a program.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    Ok(target_dir()?.join("debug").join(name))
}

fn target_dir() -> Result<PathBuf> {
    let variables = cargo::environment()?;
    let (_, dir) = variables.iter().find(|(name, _)| *name == "CARGO_TARGET_DIR").context("it is always set")?;
    Ok(cargo::root().join(dir))
}

pub(crate) fn cargo_command(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(cargo::program());
    command.args(arguments).current_dir(cargo::root()).envs(cargo::environment()?);
    // Set for us by the cargo that runs us; a build script that saw it would be run again for nothing.
    for name in std::env::vars_os().map(|(name, _)| name).filter(is_of_our_own_build) {
        command.env_remove(name);
    }
    Ok(command)
}

fn is_of_our_own_build(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH"
}

pub(crate) fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("==> {name}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("starting {}", command.get_program().display()))?;
    ensure!(status.success(), "{name} failed: {status}");
    println!("==> {name}: {} s", started.elapsed().as_secs());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_matches_nothing_is_seen() {
        assert!(names_a_test("masters::deaths::leaders: test\n\n1 test, 0 benchmarks\n"));
        assert!(!names_a_test("\n0 tests, 0 benchmarks\n"));
    }
}
