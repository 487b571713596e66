use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Ten tasks that sleep and say when they wake.
fn story(seed: u64) -> Vec<(u64, Duration)> {
    let told = Arc::new(Mutex::new(Vec::new()));
    run(seed, async {
        let tasks: Vec<_> = (0..10)
            .map(|task| {
                let told = told.clone();
                spawn(async move {
                    for _ in 0..10 {
                        sleep(MS * below(20) as u32).await;
                        told.lock().push((task, elapsed()));
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
    let told = told.lock();
    told.clone()
}

#[test]
fn a_seed_tells_the_same_story_twice_and_another_one_another() {
    assert_eq!(story(7), story(7));
    assert_ne!(story(7), story(8));
}

#[test]
fn time_passes_only_when_nobody_can_go_on() {
    let real = std::time::Instant::now();
    run(1, async {
        sleep(Duration::from_secs(86_400)).await;
        assert!((86_400..86_401).contains(&elapsed().as_secs()));
    });
    assert!(real.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_killed_host_does_nothing_more() {
    let counted = Arc::new(Mutex::new(0));
    run(1, async {
        let host = Host::new("one");
        let count = counted.clone();
        let task = host.spawn(async move {
            loop {
                sleep(MS).await;
                *count.lock() += 1;
            }
        });
        sleep(10 * MS).await;
        host.kill();
        let then = *counted.lock();
        sleep(10 * MS).await;
        assert!(then > 5 && *counted.lock() == then);
        let end: Result<(), Cancelled> = task.await;
        assert_eq!(end, Err(Cancelled));
        assert_eq!(host.spawn(async {}).await, Err(Cancelled));
    });
}

#[test]
fn a_task_that_kills_its_host_ends_at_its_next_wait() {
    run(1, async {
        let host = Host::new("one");
        let said = Arc::new(Mutex::new(Vec::new()));
        let says = said.clone();
        host.spawn(async move {
            Host::current().kill();
            says.lock().push("still in the same poll");
            sleep(MS).await;
            says.lock().push("never");
        });
        sleep(10 * MS).await;
        assert_eq!(*said.lock(), ["still in the same poll"]);
    });
}

#[test]
fn each_host_sleeps_by_its_own_clock() {
    run(1, async {
        let (slow, fast) = (Host::new("slow"), Host::new("fast"));
        slow.set_rate_ppm(500_000);
        let slow_end = slow.spawn(async {
            sleep(100 * MS).await;
            elapsed()
        });
        let fast_end = fast.spawn(async {
            sleep(100 * MS).await;
            elapsed()
        });
        sleep(10 * MS).await;
        fast.set_rate_ppm(2_000_000);
        let (slow_end, fast_end) = (slow_end.await.unwrap(), fast_end.await.unwrap());
        assert!((200..202).contains(&slow_end.as_millis()), "{slow_end:?}");
        assert!((55..57).contains(&fast_end.as_millis()), "{fast_end:?}");
    });
}

#[test]
fn a_host_that_is_held_goes_on_afterwards_with_a_later_clock() {
    run(1, async {
        let host = Host::new("one");
        let woke = host.spawn(async {
            sleep(MS).await;
            (elapsed(), now())
        });
        sleep(MS / 10).await;
        let before = host.now();
        host.hold(100 * MS);
        let (woke, clock) = woke.await.unwrap();
        assert!((100..102).contains(&woke.as_millis()) && clock - before >= 99 * MS, "{woke:?} {clock:?}");
        let jumping = Host::new("two");
        let slept = jumping.spawn(async {
            sleep(Duration::from_secs(10)).await;
            elapsed()
        });
        sleep(MS).await;
        jumping.jump(Duration::from_secs(20));
        assert!(slept.await.unwrap() < 110 * MS);
    });
}

#[test]
#[should_panic(expected = "the simulation is stuck")]
fn waiting_for_ever_is_seen() {
    run(1, std::future::pending::<()>());
}
