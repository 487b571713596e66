//! What a group outlives: deaths of leaders, partitions, a bad network, minorities.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{OpenError, Settings};
use parking_lot::Mutex;

use crate::group::{
    Group, check_kept, cut_tail, keep_proposing, keep_proposing_and_tell, keep_reading, remove_segments, until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_five_survives_the_loss_of_two() {
    let mut group = Group::start(5).await;
    group.propose("one").await;
    for _ in 0..2 {
        let leader = group.leader().await;
        group.kill(leader);
        group.propose("two").await;
    }
    assert!(group.settled().await.contains(&Bytes::from_static(b"two")));
    group.shutdown().await;
}

/// Ten leaders in a row die while clients write; the clock runs from the death to the first acknowledgement.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_the_death_of_leaders() {
    let mut group = Group::start(3).await;
    group.leader().await;
    let clients = [keep_proposing(&group, "a"), keep_proposing(&group, "b"), keep_proposing(&group, "c")];
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let leader = group.leader().await;
        let before = group.nodes[&leader].ledger.commands().len();
        let busy = || group.nodes[&leader].ledger.commands().len() > before + 20;
        until("load", busy).await;
        group.kill(leader);
        let dead = Instant::now();
        group.propose("next").await;
        longest = longest.max(dead.elapsed());
        group.restart(leader).await;
    }
    println!("longest outage {longest:?}");
    assert!(longest < Duration::from_secs(5), "{longest:?}");
    let mut acknowledged = Vec::new();
    for (stop, task) in clients {
        stop.store(true, Ordering::Relaxed);
        acknowledged.push(task.await.unwrap());
    }
    let all = group.settled().await;
    for client in &acknowledged {
        assert!(client.len() > 20);
        check_kept(&all, client);
    }
    group.shutdown().await;
}

/// The defaults: a new leader serves less than three seconds after the old one died.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_replaced_within_three_seconds() {
    let mut group = Group::start_with(3, |settings| {
        let defaults = Settings::new(settings.member.clone());
        settings.heartbeat_interval = defaults.heartbeat_interval;
        settings.election_timeout = defaults.election_timeout;
    })
    .await;
    for _ in 0..3 {
        let leader = group.leader().await;
        group.propose("before").await;
        group.kill(leader);
        let dead = Instant::now();
        group.propose("after").await;
        println!("{:?} without a leader", dead.elapsed());
        assert!(dead.elapsed() < Duration::from_secs(3), "{:?}", dead.elapsed());
        group.restart(leader).await;
    }
    group.shutdown().await;
}

/// Its messages go out and no answer comes back: the others must not wait for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_nobody_gives_way() {
    let group = Group::start(3).await;
    let old = group.leader().await;
    for other in 1..=3 {
        group.net.faults().cut.insert((other, old));
    }
    let new = group.leader_besides(&[old]).await;
    assert_ne!(new, old);
    group.at(new).propose(Bytes::from_static(b"goes on")).await.unwrap();
    group.net.heal();
    assert_eq!(group.settled().await, [Bytes::from_static(b"goes on")]);
    group.shutdown().await;
}

/// A follower that hears nobody must not raise the term of all others when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_cut_off_disturbs_nobody() {
    let group = Group::start(3).await;
    let leader = group.leader().await;
    let follower = group.living().map(|(id, _)| id).find(|id| *id != leader).unwrap();
    let term = group.at(leader).status().term;
    group.net.isolate(follower);
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(3) {
        group.propose("meanwhile").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    group.net.heal();
    group.settled().await;
    assert_eq!(group.at(leader).status().term, term);
    assert!(group.at(leader).is_leader());
    group.shutdown().await;
}

/// It has confirmed what others rely on: beginning anew, it would elect one of them that does not have it.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lost_its_segments_in_its_first_run_is_refused() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let follower = group.living().map(|(id, _)| id).find(|id| *id != leader).unwrap();
    // Nothing is confirmed without it.
    let third = 6 - leader - follower;
    group.kill(third);
    group.propose("confirmed").await;
    group.kill(follower);
    let refused = group.restart_after(follower, remove_segments).await;
    assert!(matches!(&refused, Err(OpenError::LogMissing { .. })), "{:?}", refused.err());
    group.shutdown().await;
}

/// A group in which all have all of ten commands, and a follower of it that was killed.
async fn killed_follower() -> (Group, u64, u64) {
    let mut group = Group::start(3).await;
    for n in 0..10 {
        group.propose(&n.to_string()).await;
    }
    group.settled().await;
    let leader = group.leader().await;
    let follower = 1 + leader % 3;
    group.kill(follower);
    (group, leader, follower)
}

/// It has confirmed them: to go on without them would be to take that back.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_lost_the_end_of_its_log_is_refused() {
    let (mut group, leader, follower) = killed_follower().await;
    let refused = group.restart_after(follower, |log| cut_tail(log, 3)).await;
    let error = refused.unwrap_err();
    assert!(matches!(&error, OpenError::LogMissing { .. }), "{error}");
    assert!(error.to_string().contains("was confirmed") && error.to_string().contains("masters rebuild"), "{error}");
    group.propose("without it").await;
    assert!(group.at(leader).is_leader());
    group.shutdown().await;
}

/// Where nothing tells the follower of it (its mark is gone as well), it gets the entries again, and no leader ends for it.
#[tokio::test(flavor = "multi_thread")]
async fn no_leader_ends_because_of_a_follower_that_lost_the_end_of_its_log() {
    let (mut group, leader, follower) = killed_follower().await;
    let term = group.at(leader).status().term;
    let harm = |log: &Path| {
        cut_tail(log, 3);
        std::fs::remove_file(log.join("confirmed")).unwrap();
    };
    group.restart_after(follower, harm).await.unwrap();
    group.propose("with it").await;
    let all = group.settled().await;
    assert_eq!(all.len(), 11, "{all:?}");
    assert!(group.at(leader).is_leader() && group.at(leader).status().term == term, "{}", group.describe());
    // The two that it is one of are a majority again, and have all.
    let third = 6 - leader - follower;
    group.kill(third);
    group.propose("with it alone").await;
    group.shutdown().await;
}

/// It could vote for two in one term.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_vote_is_refused() {
    let (mut group, leader, follower) = killed_follower().await;
    let refused = group.restart_after(follower, |log| std::fs::remove_file(log.join("vote")).unwrap()).await;
    let error = refused.unwrap_err();
    assert!(matches!(&error, OpenError::LogMissing { .. }), "{error}");
    assert!(error.to_string().contains("vote") && error.to_string().contains("masters rebuild"), "{error}");
    assert!(group.at(leader).is_leader());
    group.shutdown().await;
}

/// What nobody confirms takes its room until it is decided, also when its client has given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_takes_in_no_more_than_there_is_room_for() {
    let group = Group::start_with(3, |settings| {
        settings.command_bytes_max = ByteSize::kib(1);
        settings.in_flight_bytes = ByteSize::kib(1);
        settings.propose_timeout = Duration::from_millis(150);
    })
    .await;
    let leader = group.leader().await;
    group.net.isolate(leader);
    let before = group.at(leader).status().last_index;
    for _ in 0..5 {
        group.at(leader).propose(vec![7; 1024].into()).await.unwrap_err();
    }
    let after = group.at(leader).status().last_index;
    assert!(after <= before.map(|index| index + 1), "{before:?}, then {after:?}");
    group.net.heal();
    group.propose("afterwards").await;
    group.shutdown().await;
}

/// Loss, delay, doubling, partitions in any direction and deaths, all at once, under load.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_in_a_bad_network() {
    let mut group = Group::start(3).await;
    group.leader().await;
    let last = Arc::new(Mutex::new(None));
    let clients = [keep_proposing(&group, "a"), keep_proposing_and_tell(&group, "b", last.clone())];
    let stop_reading = Arc::new(AtomicBool::new(false));
    let reader = keep_reading(&group, stop_reading.clone(), last);
    let mut leaders = std::collections::BTreeMap::new();
    let mut seed = match std::env::var("FOREBAY_NETWORK_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()),
    };
    println!("FOREBAY_NETWORK_SEED={seed}");
    group.net.seed(seed);
    for round in 0..12 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let chosen = 1 + (seed >> 33) % 3;
        let other = 1 + chosen % 3;
        match round % 4 {
            0 => {
                let mut faults = group.net.faults();
                (faults.lost_percent, faults.doubled_percent, faults.delay_ms_max) = (5, 20, 15);
            }
            1 => group.net.isolate(chosen),
            2 => drop(group.net.faults().cut.insert((chosen, other))),
            _ => {
                group.kill(chosen);
                group.restart(chosen).await;
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(1200) {
            for (id, member) in group.living().filter(|(_, member)| member.is_leader()) {
                let status = member.status();
                if status.leader.as_ref().is_some_and(|leader| leader.id.0 == id) {
                    let first = *leaders.entry(status.term).or_insert(id);
                    assert_eq!(first, id, "two leaders in term {}", status.term);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        group.net.heal();
        group.propose("between").await;
    }
    stop_reading.store(true, Ordering::Relaxed);
    let reads = reader.await.unwrap();
    assert!(reads > 100, "{reads} reads");
    let mut acknowledged = Vec::new();
    for (stop, task) in clients {
        stop.store(true, Ordering::Relaxed);
        acknowledged.push(task.await.unwrap());
    }
    let all = group.settled().await;
    for client in &acknowledged {
        check_kept(&all, client);
    }
    println!("{} terms, {} commands, {reads} reads", leaders.len(), all.len());
    group.shutdown().await;
}
