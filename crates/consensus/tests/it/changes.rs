//! Members come, go, are replaced and catch up, while the group serves.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_base::ByteSize;
use forebay_consensus::{ChangeError, Formation, MemberId};

use crate::group::{self, Group, check_kept, forgetful, keep_proposing, list, member, until};

#[tokio::test(flavor = "multi_thread")]
async fn one_member_grows_to_three_under_load_and_shrinks_again() {
    let mut group = Group::start_with(1, forgetful).await;
    group.leader().await;
    for n in 0..500 {
        group.propose(&format!("early command {n}")).await;
    }
    let only = group.at(1).remove(MemberId(1)).await.unwrap_err().to_string();
    assert!(only.contains("is the only one") && only.contains("forebay masters add NEW"), "{only}");
    let (stop, client) = keep_proposing(&group, "load");
    for id in [2, 3] {
        group.begin(id, Formation::Join).await;
        let why = group.at(id).status().waiting;
        assert!(why.is_some_and(|why| why.contains("add it")));
        group.at(1).add(member(id)).await.unwrap();
        assert_eq!(group.at(1).status().members.len(), id as usize);
    }
    // The first one is only one of three now.
    group.kill(1);
    group.propose("without the first").await;
    let leader = group.leader().await;
    let refused = group.at(leader).remove(MemberId(5 - leader)).await.unwrap_err();
    assert!(refused.to_string().contains("no majority"), "{refused}");
    group.restart(1).await;
    until("the first one again", || {
        let heard = |silent: Option<Duration>| silent.is_some_and(|silent| silent < Duration::from_millis(300));
        group.at(leader).status().peers.iter().all(|peer| peer.member.id.0 == leader || heard(peer.silent))
    })
    .await;
    let other = group.living().map(|(id, _)| id).find(|id| *id != leader).unwrap();
    group.at(leader).remove(MemberId(other)).await.unwrap();
    group.kill(other);
    stop.store(true, Ordering::Relaxed);
    let acknowledged = client.await.unwrap();
    group.propose("at the end").await;
    check_kept(&group.settled().await, &acknowledged);
    assert_eq!(group.at(leader).status().members.len(), 2);
    let refused = group.at(leader).remove(MemberId(leader)).await.unwrap_err();
    assert!(refused.to_string().contains("transfer the lead"), "{refused}");
    assert!(refused.to_string().contains("forebay masters transfer "), "{refused}");
    group.shutdown().await;
}

/// A member that lost its directory has promised things that it does not know any more: it takes part in nothing until it is replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_member_has_no_vote_until_it_is_replaced() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let wiped = 1 + leader % 3;
    let third = 1 + wiped % 3;
    // Two have the entry: the leader and the one whose disk will be lost. The third knows nothing of it.
    group.net.isolate(third);
    group.propose("on two disks").await;
    group.kill(wiped);
    group.begin(wiped, list([1, 2, 3])).await;
    group.kill(leader);
    group.net.heal();
    // The wiped one and the third one are two of three, and must not choose a leader that lacks the entry.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert!(!group.at(third).is_leader() && !group.at(wiped).is_leader(), "an acknowledged entry is lost");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let trouble = group.at(third).status().peers.into_iter().find(|peer| peer.member.id.0 == wiped).unwrap().trouble;
    assert!(trouble.is_some_and(|trouble| trouble.contains("replace that master")));
    group.restart(leader).await;
    let leader = group.leader().await;
    group.at(leader).replace(MemberId(wiped), member(wiped)).await.unwrap();
    group.propose("with all three").await;
    let all = group.settled().await;
    assert_eq!(all, [Bytes::from_static(b"on two disks"), Bytes::from_static(b"with all three")]);
    assert_eq!(group.at(leader).status().peers.iter().filter(|peer| peer.votes).count(), 3);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_replaced_by_a_new_one() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    let dead = 1 + leader % 3;
    group.kill(dead);
    group.begin(4, Formation::Join).await;
    group.propose("one").await;
    group.at(leader).replace(MemberId(dead), member(4)).await.unwrap();
    let ids: Vec<u64> = group.at(leader).status().members.iter().map(|m| m.id.0).collect();
    assert!(ids.contains(&4) && !ids.contains(&dead), "{ids:?}");
    group.propose("two").await;
    assert_eq!(group.settled().await.len(), 2);
    // One that is not there is not taken in, and nothing is changed.
    let refused = group.at(leader).add(member(9)).await.unwrap_err();
    assert!(matches!(refused, ChangeError::Unreachable { .. }), "{refused}");
    assert_eq!(group.at(leader).status().members.len(), 3);
    group.shutdown().await;
}

/// The log has forgotten what the follower lacks.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_far_behind_gets_a_snapshot_and_slows_nobody() {
    let mut group = Group::start_with(3, forgetful).await;
    let leader = group.leader().await;
    let behind = 1 + leader % 3;
    group.propose("one").await;
    group.settled().await;
    group.net.isolate(behind);
    for n in 0..3000 {
        group.propose(&format!("a command to be forgotten {n}")).await;
    }
    let leader = group.leader_besides(&[behind]).await;
    until("the purge", || group.at(leader).status().flushed_index > Some(1000)).await;
    // On the way back messages are lost and come twice.
    group.net.heal();
    (group.net.faults().lost_percent, group.net.faults().doubled_percent) = (3, 20);
    let installed = || group.nodes[&behind].ledger.installs.load(Ordering::Relaxed) > 0;
    until("the snapshot", installed).await;
    group.net.heal();
    group.propose("last").await;
    assert_eq!(group.settled().await.len(), 3002);
    // And it has it for good.
    group.kill(behind);
    group.restart(behind).await;
    assert_eq!(group.settled().await.len(), 3002);
    group.shutdown().await;
}

/// The change of voters is two entries. Its leader is cut off when the first one has left it, and the second one has not.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_lost_its_leader_is_finished_by_the_next_one() {
    let mut group = Group::start(3).await;
    group.propose("one").await;
    group.begin(4, Formation::Join).await;
    let old = group.leader().await;
    let other = 1 + old % 3;
    group.net.faults().delay_ms_max = 30;
    let adding = group.at(old);
    let add = tokio::spawn(async move { adding.add(member(4)).await });
    // Voters of both sets are told until the change is whole.
    let votes = || group.at(other).status().peers.iter().any(|peer| peer.member.id.0 == 4 && peer.votes);
    until("the first entry", votes).await;
    group.net.isolate(old);
    let new = group.leader_besides(&[old]).await;
    group.net.faults().delay_ms_max = 0;
    let deadline = Instant::now() + group::PATIENCE;
    // Which says whether another change may begin.
    while let Err(refused) = group.at(new).remove(MemberId(77)).await {
        assert!(Instant::now() < deadline, "{refused}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    group.at(new).remove(MemberId(old)).await.unwrap();
    assert_eq!(group.at(new).status().members.len(), 3);
    group.net.heal();
    // What became of it, the old one does not know, or hears of.
    let _ = add.await.unwrap();
    group.kill(old);
    group.propose("two").await;
    assert_eq!(group.settled().await.len(), 2);
    group.shutdown().await;
}

/// Far longer than a new member may be without progress.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_its_snapshot_however_long_that_takes() {
    let mut group = Group::start_with(1, |settings| {
        forgetful(settings);
        settings.catch_up_timeout = Duration::from_secs(2);
        settings.snapshot_bytes_per_second = ByteSize::kib(256);
    })
    .await;
    group.leader().await;
    // 1.5 MB: six seconds.
    for n in 0..1500 {
        group.propose(&format!("{n} {}", "long ".repeat(200))).await;
    }
    until("the purge", || group.at(1).status().flushed_index > Some(1000)).await;
    group.begin(2, Formation::Join).await;
    group.nodes[&2].ledger.install_takes_ms.store(3000, Ordering::Relaxed);
    let begun = Instant::now();
    group.at(1).add(member(2)).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(6), "it took {:?}", begun.elapsed());
    assert!(group.nodes[&2].ledger.installs.load(Ordering::Relaxed) > 0);
    assert_eq!(group.settled().await.len(), 1500);
    group.shutdown().await;
}

/// A client sends a request again when its answer is lost.
#[tokio::test(flavor = "multi_thread")]
async fn changes_that_are_made_already_are_no_failures() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    group.begin(4, Formation::Join).await;
    for _ in 0..2 {
        group.at(leader).add(member(4)).await.unwrap();
    }
    let wiped = 1 + leader % 3;
    group.kill(wiped);
    group.begin(wiped, Formation::Join).await;
    let other = group.at(leader).add(member(wiped)).await.unwrap_err();
    assert!(other.to_string().contains("with another directory"), "{other}");
    for _ in 0..2 {
        group.at(leader).replace(MemberId(wiped), member(wiped)).await.unwrap();
    }
    group.begin(5, Formation::Join).await;
    for _ in 0..2 {
        group.at(leader).replace(MemberId(4), member(5)).await.unwrap();
    }
    for _ in 0..2 {
        group.at(leader).remove(MemberId(5)).await.unwrap();
    }
    let ids: Vec<u64> = group.at(leader).status().members.iter().map(|member| member.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
    group.kill(4);
    group.kill(5);
    group.propose("at the end").await;
    assert_eq!(group.settled().await.len(), 1);
    group.shutdown().await;
}
