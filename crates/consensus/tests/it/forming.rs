//! How a group comes to be: once, of members that agree about it.

use bytes::Bytes;
use forebay_consensus::{ConsensusError, MemberId};

use crate::group::{Group, list, member, until};

#[tokio::test(flavor = "multi_thread")]
async fn three_members_form_a_group_once_and_serve() {
    let mut group = Group::start(3).await;
    let leader = group.leader().await;
    for n in 0..50 {
        group.propose(&format!("command {n}")).await;
    }
    let all = group.settled().await;
    assert_eq!(all, (0..50).map(|n| Bytes::from(format!("command {n}"))).collect::<Vec<_>>());
    let status = group.at(leader).status();
    assert_eq!(status.members, [member(1), member(2), member(3)]);
    assert!(status.peers.iter().all(|peer| peer.votes), "{status:?}");
    let term = status.term;
    for (id, other) in group.living().filter(|(id, _)| *id != leader) {
        assert_eq!(other.leader(), Some(member(leader)), "as {id} sees it");
        let refused = other.propose(Bytes::from_static(b"x")).await.unwrap_err();
        assert!(matches!(refused, ConsensusError::NotLeader { leader: Some(ref l) } if l.id.0 == leader), "{refused}");
        assert!(other.read_barrier().await.is_err());
    }
    // All stop at once and start again: the same group goes on.
    for id in 1..=3 {
        group.kill(id);
    }
    for id in 1..=3 {
        group.restart(id).await;
    }
    group.propose("after the restart").await;
    assert_eq!(group.settled().await.len(), 51);
    assert!(group.at(group.leader().await).status().term > term);
    group.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn members_with_different_lists_form_nothing() {
    let mut group = Group::start(0).await;
    group.begin(1, list([1, 2, 3])).await;
    group.begin(2, list([1, 2])).await;
    group.begin(3, list([1, 2, 3])).await;
    let waits = || group.at(1).status().waiting.is_some_and(|why| why.contains("has another list of masters"));
    until("the reason", waits).await;
    assert!(group.living().all(|(_, member)| member.status().members.is_empty()));
    assert!(group.living().all(|(_, member)| !member.is_leader()));
    group.shutdown().await;
}

/// The founder's list would make a group, were there not one.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_founder_founds_no_second_group() {
    let mut group = Group::start(3).await;
    group.propose("one").await;
    group.kill(1);
    group.begin(1, list([1, 2, 3])).await;
    let waits = || group.at(1).status().waiting.is_some_and(|why| why.contains("belongs to a group already"));
    until("the reason", waits).await;
    let leader = group.leader_besides(&[1]).await;
    group.at(leader).replace(MemberId(1), member(1)).await.unwrap();
    group.propose("two").await;
    assert_eq!(group.settled().await, [Bytes::from_static(b"one"), Bytes::from_static(b"two")]);
    group.shutdown().await;
}
