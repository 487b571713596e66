//! One or three members of a log in this process.

use super::machine::{Namespace, Nothing};
use super::wire::Wire;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use forebay_consensus::{Consensus, ConsensusError, Formation, Member, MemberId, Settings, StateMachine};
use forebay_namespace::reply;
use forebay_testkit::wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// What the members are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Medium {
    /// Log and namespace on disk.
    Disk,
    /// The log on a file system in memory, where a sync costs nothing, and commands that are not carried out.
    Memory,
}

/// Nothing takes longer on a machine that works.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries of a proposal.
const PAUSE: Duration = Duration::from_millis(5);

/// A group that serves.
pub(super) struct Group {
    members: Vec<Arc<Consensus>>,
    medium: Medium,
    /// Who led when last heard.
    leader: AtomicUsize,
    retries: AtomicU64,
    /// Removed after the members have let it go: fields drop in this order.
    _dir: TempDir,
}

impl Group {
    /// Starts members with the settings of masters, and waits for a leader.
    pub(super) async fn start(count: usize, medium: Medium) -> Result<Group> {
        let dir = match medium {
            Medium::Disk => tempfile::tempdir()?,
            Medium::Memory => tempfile::tempdir_in("/dev/shm").context("making files on /dev/shm")?,
        };
        let list: Vec<Member> = (1..=count as u64).map(member).collect();
        let (wire, mut members) = (Wire::default(), Vec::new());
        for member in &list {
            let formation = Formation::Group(list.clone());
            let settings = Settings { formation, ..Settings::new(member.clone()) };
            let own = dir.path().join(member.id.to_string());
            let machine: Box<dyn StateMachine> = match medium {
                Medium::Disk => Box::new(Namespace::begin(&own.join("state"))?),
                Medium::Memory => Box::new(Nothing::default()),
            };
            let log = own.join("log");
            std::fs::create_dir_all(&log)?;
            let opened = Consensus::open_in_group(settings, &log, machine, Arc::new(wire.clone())).await?;
            let opened = Arc::new(opened);
            wire.attach(&opened);
            members.push(opened);
        }
        let leads = || leader(&members);
        let leader = AtomicUsize::new(wait::for_some("a leader", PATIENCE, leads).await?);
        Ok(Group { members, medium, leader, retries: AtomicU64::new(0), _dir: dir })
    }

    /// Has a command committed and carried out, as a client does: it tries again until it knows.
    pub(super) async fn commit(&self, command: Bytes) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let at = self.leader.load(Ordering::Relaxed);
            match self.members[at].propose(command.clone()).await {
                Ok(reply) => return self.check(&reply),
                Err(ConsensusError::NotLeader { .. }) => {
                    self.leader.store((at + 1) % self.members.len(), Ordering::Relaxed);
                }
                Err(ConsensusError::Unknown { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(Instant::now() < deadline, "no leader within {PATIENCE:?}");
            self.retries.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn check(&self, reply: &[u8]) -> Result<()> {
        if self.medium == Medium::Memory {
            return Ok(());
        }
        match reply::decode(reply) {
            Ok(_) => Ok(()),
            Err(refusal) => bail!("the namespace refused: {refusal}"),
        }
    }

    /// Proposals that had to be made again, because the leader changed.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Syncs of the leader's log so far.
    pub(super) fn syncs(&self) -> u64 {
        self.members[self.leader.load(Ordering::Relaxed)].status().log_syncs
    }

    /// Stops the members.
    pub(super) async fn end(&self) -> Result<()> {
        for member in &self.members {
            member.shutdown().await?;
        }
        Ok(())
    }
}

fn member(id: u64) -> Member {
    Member { id: MemberId(id), address: format!("member-{id}:1") }
}

/// The one that leads and serves.
async fn leader(members: &[Arc<Consensus>]) -> Option<usize> {
    let at = members.iter().position(|member| member.is_leader())?;
    members[at].read_barrier().await.ok().map(|()| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    #[tokio::test(flavor = "multi_thread")]
    async fn three_members_have_what_was_committed() {
        let group = Group::start(3, Medium::Disk).await.unwrap();
        group.commit(commands::mount()).await.unwrap();
        group.commit(commands::request(1, 0, commands::create("/lake/file"))).await.unwrap();
        let again = group.commit(commands::request(1, 1, commands::create("/lake/file"))).await.unwrap_err();
        assert!(again.to_string().contains("/lake/file"), "{again}");
        let last = group.members[group.leader.load(Ordering::Relaxed)].status().applied_index;
        let all = || async { group.members.iter().all(|member| member.status().applied_index >= last) };
        wait::until("all members to apply it", PATIENCE, all).await.unwrap();
        group.end().await.unwrap();
    }
}
