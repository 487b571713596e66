//! Equal plans give equal runs.

use std::process::Command;

use forebay_sim::{Plan, run};

const STEPS: u64 = 80;

/// What a process of its own says of a seed. Where it lies in memory and how it hashes is another matter in each.
fn in_a_process(seed: u64) -> String {
    let words = ["--seed", &seed.to_string(), "--steps", &STEPS.to_string()];
    let output = Command::new(env!("CARGO_BIN_EXE_forebay-sim")).args(words).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_seed_is_the_same_run_in_every_process() {
    for seed in [3, 4, 11, 16] {
        let first = in_a_process(seed);
        assert_eq!(first, in_a_process(seed));
        let here = run(Plan { seed, steps: STEPS, planted: None }).ok().unwrap();
        let again = run(Plan { seed, steps: STEPS, planted: None }).ok().unwrap();
        assert_eq!((here.digest, here.events), (again.digest, again.events));
        assert!(first.contains(&format!("digest {:016x}", here.digest)), "{first}");
    }
}

#[test]
fn another_seed_is_another_run() {
    let digests = [1, 2].map(|seed| run(Plan { seed, steps: 10, planted: None }).ok().unwrap().digest);
    assert_ne!(digests[0], digests[1]);
}
