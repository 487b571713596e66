//! Mistakes that are made on purpose are found: the simulation can fail.

use std::sync::atomic::{AtomicU64, Ordering};

use forebay_sim::{Plan, Planted, run};

const STEPS: u64 = 100;

/// The first seed that finds it, of the first so many, on two threads.
fn finds(planted: Planted, seeds: u64) -> Option<(u64, String)> {
    let next = AtomicU64::new(1);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > seeds {
                return None;
            }
            if let Err(broken) = run(Plan { seed, steps: STEPS, planted: Some(planted) }) {
                // The others have enough to do.
                next.store(seeds + 1, Ordering::Relaxed);
                return Some((seed, broken.what));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(search), scope.spawn(search)];
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    })
}

fn check(planted: Planted, seeds: u64, expected: &[&str]) {
    let found = finds(planted, seeds);
    let (seed, what) = found.unwrap_or_else(|| panic!("none of {seeds} seeds finds {planted:?}"));
    println!("{planted:?}: seed {seed} finds it: {what}");
    assert!(expected.iter().any(|part| what.contains(part)), "{planted:?} was taken for something else: {what}");
}

#[test]
fn entries_that_are_confirmed_before_they_are_on_disk() {
    let lost = ["does not start", "another command", "reversion", "another state", "known before it", "not recovered"];
    check(Planted::AckBeforeSync, 50, &lost);
}

#[test]
fn a_lease_that_believes_all_clocks() {
    check(Planted::LeaseWithoutDrift, 150, &["was known before it", "has no order"]);
}

#[test]
fn snapshots_without_what_clients_were_answered() {
    check(Planted::RepliesLeftOut, 50, &["another state", "carried out again", "answered it otherwise"]);
}

#[test]
fn a_change_of_the_group_that_nobody_finishes() {
    check(Planted::ChangeLeftUnfinished, 300, &["not recovered"]);
}

/// Each read names an index that it could come from, so that nothing but the order of all that clients saw tells it.
#[test]
fn reads_that_tell_what_the_ones_before_them_saw() {
    check(Planted::OldNames, 20, &["has no order"]);
}
