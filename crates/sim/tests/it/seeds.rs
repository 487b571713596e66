//! Whatever goes wrong, everything holds: seeds that broke once, and many others.

use std::process::Command;

use forebay_sim::{Plan, run};

/// Seeds that broke once: see there.
const REGRESSIONS: &str = include_str!("../../regressions.txt");

/// A number from the environment: the long form has others.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn seeds_that_broke_once_hold() {
    for line in REGRESSIONS.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap().parse::<u64>().unwrap();
        let plan = Plan { seed: next(), steps: next(), planted: None };
        if let Err(broken) = run(plan) {
            panic!("{line}: {}\n{}", broken.what, broken.trace.tail(40).join("\n"));
        }
    }
}

#[test]
fn many_seeds_hold() {
    let (seeds, steps) = (number("FOREBAY_SIM_SEEDS", 200), number("FOREBAY_SIM_STEPS", 100));
    let first = number("FOREBAY_SIM_FIRST", 1);
    let range = format!("{first}..{}", first + seeds);
    let words = ["--seeds", &range, "--steps", &steps.to_string()];
    let output = Command::new(env!("CARGO_BIN_EXE_forebay-sim")).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}");
}
