//! `cargo xtask soak`: what finds more the longer it runs.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo;
use crate::chores::{SIMULATION, build, build_lossy_fs, cargo_command, has_tests, program, step};
use crate::leftovers::TemporaryDir;
use crate::setup::{self, Purpose};

/// The long form of a test that goes on for as long as it is told.
struct LongForm {
    package: &'static str,
    test: &'static str,
    suite: &'static str,
    settings: &'static [(&'static str, &'static str)],
}

const LONG_FORMS: [LongForm; 6] = [
    LongForm {
        package: "forebay-namespace",
        test: "it",
        suite: "model::",
        settings: &[("FOREBAY_MODEL_COMMANDS", "2000000"), ("FOREBAY_MODEL_COMMANDS_ON_DISK", "60000")],
    },
    LongForm { package: "forebay", test: "it", suite: "master_kills::", settings: &[("FOREBAY_KILL_ROUNDS", "200")] },
    LongForm {
        package: "forebay",
        test: "it",
        suite: "power_cuts::",
        settings: &[("FOREBAY_POWER_CUT_ROUNDS", "300")],
    },
    LongForm {
        package: "forebay",
        test: "it",
        suite: "large_directories::",
        settings: &[("FOREBAY_LARGE_ENTRIES", "1000000")],
    },
    LongForm {
        package: SIMULATION,
        test: "it",
        suite: "seeds::",
        settings: &[("FOREBAY_SIM_FIRST", "1000"), ("FOREBAY_SIM_SEEDS", "2000"), ("FOREBAY_SIM_STEPS", "300")],
    },
    LongForm { package: "forebay-cache", test: "crash", suite: "", settings: &[("FOREBAY_CRASH_ROUNDS", "200")] },
];

/// The program that lets a group of masters live through faults, when it is not told for how long.
const SOAK: &str = "forebay-soak";
const BY_DEFAULT: [&str; 2] = ["--minutes", "60"];

/// Without arguments the long forms, which take about half an hour, and then an hour of faults; `--long-forms` just these; any others are those
/// of the faults alone.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    setup::run(Purpose::Test)?;
    match arguments {
        [] => {
            long_forms()?;
            faults(&BY_DEFAULT)
        }
        ["--long-forms"] => long_forms(),
        arguments => faults(arguments),
    }
}

fn long_forms() -> Result<()> {
    build(&["forebay"])?;
    build_lossy_fs()?;
    let temporary = TemporaryDir::make()?;
    for LongForm { package, test, suite, settings } in LONG_FORMS {
        let arguments = ["test", "--package", package, "--test", test];
        has_tests(&arguments, &[suite])?;
        let mut command = cargo_command(&arguments)?;
        command.args(["--", "--nocapture", "--test-threads", "1", suite]).envs(settings.iter().copied());
        command.env("FOREBAY_BIN", program("forebay")?).env("TMPDIR", temporary.path());
        step(&format!("{package} {suite}"), &mut command)?;
    }
    temporary.check_empty()
}

/// Leaves nothing behind by itself, also at Ctrl-C.
fn faults(arguments: &[&str]) -> Result<()> {
    build(&["forebay", SOAK])?;
    println!("==> soak");
    let mut run = Command::new(program(SOAK)?);
    run.arg("--output").arg(cargo::root().join("target/soak")).args(arguments);
    // It takes our place: it, and not we, must get a signal and say how it ended.
    Err(run.env("FOREBAY_BIN", program("forebay")?).exec()).context("starting the soak")
}
