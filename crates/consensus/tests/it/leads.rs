//! Leases, and the lead given away.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_consensus::{ChangeError, ConsensusError, Formation, MemberId};

use crate::group::{self, Group, check_kept, keep_proposing, member, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_cut_off_serves_no_reads_after_its_lease() {
    let group = Group::start(3).await;
    let old = group.leader().await;
    group.propose("before").await;
    let lease = group::settings(1).election_timeout * 3 / 2;
    group.net.isolate(old);
    let cut = Instant::now();
    let mut served = cut;
    // It may answer as long as nobody else can lead, and not a moment longer.
    while cut.elapsed() < lease * 2 {
        let asked = Instant::now();
        if group.at(old).read_barrier().await.is_ok() {
            served = asked;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(served - cut < lease, "{:?}", served - cut);
    let new = group.leader_besides(&[old]).await;
    group.at(new).propose(Bytes::from_static(b"after")).await.unwrap();
    assert!(group.at(old).read_barrier().await.is_err());
    let refused = group.at(old).propose(Bytes::from_static(b"lost")).await.unwrap_err();
    assert!(matches!(refused, ConsensusError::Unknown { .. } | ConsensusError::NotLeader { .. }), "{refused}");
    group.net.heal();
    let all = group.settled().await;
    assert!(all.contains(&Bytes::from_static(b"after")));
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_given_away_on_demand() {
    let group = Group::start(3).await;
    let (stop, client) = keep_proposing(&group, "load");
    for _ in 0..5 {
        let leader = group.leader().await;
        let next = 1 + leader % 3;
        let begun = Instant::now();
        group.at(leader).transfer(MemberId(next)).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(group.leader().await, next);
        let elsewhere = group.at(leader).transfer(MemberId(leader)).await.unwrap_err();
        assert!(matches!(elsewhere, ChangeError::NotLeader { .. }), "{elsewhere}");
    }
    stop.store(true, Ordering::Relaxed);
    check_kept(&group.settled().await, &client.await.unwrap());
    group.shutdown().await;
}

/// A leader that waits for longer leases, or shorter ones, than its followers give would answer reads beside another one.
#[tokio::test(flavor = "multi_thread")]
async fn members_with_other_leases_take_nothing_from_each_other() {
    let mut group = Group::start_with(3, |settings| {
        if settings.member.id.0 > 2 {
            settings.election_timeout = Duration::from_millis(500);
        }
    })
    .await;
    let says = |why: Option<String>| why.is_some_and(|why| why.contains("give all masters the same"));
    until("the reason", || says(group.at(1).status().waiting)).await;
    group.kill(3);
    group.kill(2);
    group.kill(1);
    let mut group = Group::start_with(2, |settings| {
        if settings.member.id.0 > 2 {
            settings.election_timeout = Duration::from_millis(500);
        }
    })
    .await;
    group.propose("one").await;
    group.begin(3, Formation::Join).await;
    let leader = group.leader().await;
    let refused = group.at(leader).add(member(3)).await.unwrap_err();
    assert!(says(Some(refused.to_string())), "{refused}");
    assert_eq!(group.at(leader).status().members.len(), 2);
    group.shutdown().await;
}

/// Milliseconds.
static ELECTION_TIMEOUT: AtomicU64 = AtomicU64::new(2000);

/// Two of three start again with a shorter time-out, as soon as they have given the third one a long lease.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_given_holds_over_a_start_with_a_shorter_one() {
    let mut group = Group::start_with(3, |settings| {
        settings.election_timeout = Duration::from_millis(ELECTION_TIMEOUT.load(Ordering::Relaxed));
    })
    .await;
    let old = group.leader().await;
    group.propose("before").await;
    let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
    ELECTION_TIMEOUT.store(300, Ordering::Relaxed);
    for id in &others {
        group.kill(*id);
    }
    for id in &others {
        group.restart(*id).await;
    }
    let mut served = 0;
    while !others.iter().any(|id| group.at(*id).is_leader()) {
        served += usize::from(group.at(old).read_barrier().await.is_ok());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(group.at(old).read_barrier().await.is_err(), "two serve reads");
    assert!(served > 0);
    // The next start knows of no longer ones any more.
    let new = group.leader_besides(&[old]).await;
    group.kill(new);
    let dead = Instant::now();
    group.restart(new).await;
    group.leader_besides(&[old]).await;
    assert!(dead.elapsed() < Duration::from_secs(2), "{:?}", dead.elapsed());
    group.shutdown().await;
}

/// The next leader needs no lease to run out.
#[tokio::test(flavor = "multi_thread")]
async fn who_gives_the_lead_away_is_certain_of_nothing_any_more() {
    let group = Group::start(3).await;
    let old = group.leader().await;
    let next = 1 + old % 3;
    let member = group.at(old);
    let lead = member.lead().await.unwrap();
    member.holds(lead).await.unwrap();
    let ended = tokio::spawn({
        let member = group.at(old);
        async move { member.lead_ends(lead).await }
    });
    group.net.faults().delay_ms_max = 60;
    let transfer = tokio::spawn({
        let member = group.at(old);
        async move { member.transfer(MemberId(next)).await }
    });
    until("the next leader", || group.at(next).is_leader()).await;
    assert!(ended.is_finished(), "two are certain that they lead");
    assert!(member.holds(lead).await.is_err());
    group.net.heal();
    transfer.await.unwrap().unwrap();
    group.shutdown().await;
}

/// As a member does that is told to stop.
#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_to_whoever_has_most() {
    let mut group = Group::start(3).await;
    let old = group.leader().await;
    let behind = 1 + old % 3;
    let whole = 1 + behind % 3;
    group.net.isolate(behind);
    group.propose("one").await;
    let next = group.at(old).hand_over().await;
    assert_eq!(next, Some(MemberId(whole)));
    assert!(group.at(whole).is_leader());
    assert_eq!(group.at(behind).hand_over().await, None, "it has no lead");
    group.net.heal();
    group.kill(behind);
    group.kill(old);
    // Nobody is there to take it.
    assert_eq!(group.at(whole).hand_over().await, None);
    group.shutdown().await;
}
