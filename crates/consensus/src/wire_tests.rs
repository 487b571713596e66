//! Messages that no member of ours would send: they are refused, and the member goes on.

use bytes::Bytes;
use forebay_base::checksum::crc32c;
use openraft::StoredMembership;

use crate::consensus::Consensus;
use crate::ledger::Ledger;
use crate::log::Position;
use crate::members::Applied;
use crate::messages::{
    Answer, Append, Ask, At, Candidacy, Finish, Identify, Offer, Part, Reply, Request, SnapshotFile, Vote, open, seal,
};
use crate::network::Peers;
use crate::raft_types::{Peer, log_id};
use crate::settings::{Member, MemberId, Settings};

fn member(id: u64) -> Member {
    Member { id: MemberId(id), address: format!("member {id}") }
}

async fn alone(dir: &std::path::Path) -> Consensus {
    Consensus::open(Settings::new(member(1)), &dir.join("log"), Ledger::in_memory().boxed()).await.unwrap()
}

/// As another member of its group would send it.
async fn send(to: &Consensus, ask: Ask) -> Answer {
    send_under(to.cluster_version(), to, ask).await
}

/// As one does whose cluster has that version.
async fn send_under(cluster_version: u32, to: &Consensus, ask: Ask) -> Answer {
    let identity = to.log.identity();
    let request = Request {
        group: identity.group,
        from: 2,
        to: identity.member,
        incarnation: identity.incarnation,
        ask: Some(ask),
        lease_ms: to.settings.lease_ms(),
        cluster_version,
    };
    open::<Reply>(to.handle(seal(&request)).await).unwrap().answer.unwrap()
}

fn is_refused(answer: Answer) -> bool {
    matches!(answer, Answer::Refused(_))
}

fn vote(term: u64) -> Vote {
    Vote { term, member: 2, committed: true }
}

fn offer(term: u64, applied: Position) -> Offer {
    let content = b"pages";
    let file = SnapshotFile { name: "pages".to_owned(), length: content.len() as u64, checksum: crc32c(content) };
    let applied = Applied::of(log_id(applied), &StoredMembership::default()).encode();
    Offer { vote: vote(term), transfer: 7, applied, files: vec![file] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_cannot_be_its_senders_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let member = alone(dir.path()).await;
    for _ in 0..20 {
        member.propose(Bytes::from_static(b"command")).await.unwrap();
    }
    let later = offer(50, Position { term: 60, index: 1000 });
    assert!(is_refused(send(&member, Ask::Offer(later)).await));
    let contradicts = offer(50, Position { term: 40, index: 3 });
    assert!(is_refused(send(&member, Ask::Offer(contradicts)).await));
    // One that is possible, and then finished by another leader than began it.
    let possible = offer(50, Position { term: 50, index: 1000 });
    assert!(!is_refused(send(&member, Ask::Offer(possible)).await));
    let part = Part { transfer: 7, file: 0, offset: 0, bytes: Bytes::from_static(b"pages") };
    assert!(!is_refused(send(&member, Ask::Part(part)).await));
    assert!(is_refused(send(&member, Ask::Finish(Finish { vote: vote(49), transfer: 7 })).await));
    member.propose(Bytes::from_static(b"it lives")).await.unwrap();
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_from_after_their_leaders_term_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let member = alone(dir.path()).await;
    let previous = Some(At { term: 9, index: 3 });
    let append = |vote| Ask::Append(Append { vote, previous, committed: None, entries: Vec::new() });
    assert!(is_refused(send(&member, append(vote(8))).await));
    assert!(is_refused(send(&member, append(Vote { committed: false, ..vote(10) })).await));
    member.propose(Bytes::from_static(b"it lives")).await.unwrap();
    member.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_a_version_that_is_not_known_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let member = alone(dir.path()).await;
    let newer = member.settings.build.versions.newest + 1;
    for ask in [
        Ask::Vote(Candidacy { vote: vote(50), last: None, transfer: true }),
        Ask::Append(Append { vote: vote(50), previous: None, committed: None, entries: Vec::new() }),
        Ask::Offer(offer(50, Position { term: 50, index: 1000 })),
    ] {
        let Answer::Refused(why) = send_under(newer, &member, ask).await else { panic!("it was taken") };
        assert!(
            why.contains("knows cluster version 1, and the cluster's is 2; start it with a newer release"),
            "{why}"
        );
    }
    // Who it is, it tells anybody, and with it what it knows.
    let Answer::Identity(identity) = send_under(newer, &member, Ask::Identify(Identify::default())).await else {
        panic!("it says who it is")
    };
    assert_eq!((identity.version_oldest, identity.version_newest), (1, 1));
    member.propose(Bytes::from_static(b"it lives, and leads in the term it had")).await.unwrap();
    let possible = Ask::Offer(offer(50, Position { term: 50, index: 1000 }));
    assert!(!is_refused(send_under(0, &member, possible).await), "from before there were versions");
    member.shutdown().await.unwrap();
}

/// Who holds a way to a member that has moved is sent on; who asks who is at an address wants to know just that.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_was_left_may_be_anothers() {
    use openraft::RaftNetworkFactory;
    let dir = tempfile::tempdir().unwrap();
    let alone = alone(dir.path()).await;
    let mut peers: Peers = alone.peers.clone();
    let held = peers.new_client(3, &Peer { address: "old".to_owned(), incarnation: 5 }).await;
    let asked = peers.to(Member { id: MemberId(3), address: "old".to_owned() });
    let at = |client: &crate::network::Client| client.there().address;
    peers.moved(MemberId(3), "old", "new");
    assert_eq!((at(&held).as_str(), at(&asked).as_str()), ("new", "old"));
    peers.forget(MemberId(3));
    assert_eq!(at(&held), "old");
    alone.shutdown().await.unwrap();
}
