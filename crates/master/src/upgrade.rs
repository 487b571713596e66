//! The version of the cluster's behaviour: what this program knows, and how the cluster gets to a newer one.
//!
//! The leader asks every master what it knows, and proposes the newer version when all know it. Nobody comes or goes meanwhile. A master that is replaced by an older program in between
//! stops at that command, and does no harm. See `forebay_namespace::versions` for what a version brings.

use crate::core::Core;
use crate::error::{Result, change_error};
use forebay_base::ErrorKind;
use forebay_consensus::{Build, Consensus, Member};
use forebay_namespace::command::SetClusterVersion;
use forebay_namespace::query::{self, Summary};
use forebay_namespace::versions;
use forebay_proto::error::WireError;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a master has to say what it knows.
const ANSWER: Duration = Duration::from_secs(2);

/// Between two looks whether the version can be raised, where that is automatic.
const LOOK: Duration = Duration::from_secs(2);

/// What this program is.
pub(crate) fn build() -> Build {
    Build { release: env!("CARGO_PKG_VERSION").to_owned(), versions: versions::KNOWN }
}

/// What each master runs, or why it is not known.
pub(crate) type Builds = Vec<(Member, std::result::Result<Build, String>)>;

/// The version before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upgraded {
    pub(crate) before: u32,
    pub(crate) now: u32,
}

/// Raises the version to the newest that any master knows; refused as long as not all of them do.
pub(crate) async fn upgrade(core: &Core, consensus: &Consensus) -> Result<Upgraded> {
    let _held = consensus.hold_members().await.map_err(change_error)?;
    let before = query::summary(&*core.read().await?).map_err(crate::error::state_error)?.cluster_version;
    let now = target(&consensus.builds(ANSWER).await, before).map_err(|why| {
        WireError::new(ErrorKind::Conflict, why).with_hint("forebay masters list shows what each of them knows")
    })?;
    raise(core, before, now).await
}

async fn raise(core: &Core, before: u32, now: u32) -> Result<Upgraded> {
    if now > before {
        core.propose(SetClusterVersion { version: now }).await?;
        tracing::info!(before, now, "the cluster's version is raised");
    }
    Ok(Upgraded { before, now })
}

/// The newest version that anybody knows, if all know it.
fn target(builds: &Builds, before: u32) -> std::result::Result<u32, String> {
    let known = builds.iter().filter_map(|(_, build)| build.as_ref().ok()).map(|build| build.versions.newest);
    let newest = known.max().unwrap_or(before).max(before);
    let lacking = builds.iter().filter_map(|(member, build)| match build {
        Ok(build) if build.versions.contains(newest) => None,
        Ok(build) => Some(format!(
            "the master at {} runs release {}, which knows cluster version {}",
            member.address,
            if build.release.is_empty() { "unknown" } else { &build.release },
            build.versions
        )),
        Err(why) => Some(format!("what the master at {} knows is not known: {why}", member.address)),
    });
    let lacking: Vec<String> = lacking.collect();
    match lacking.is_empty() {
        true => Ok(newest),
        false if newest == before => {
            Err(format!("whether all masters know a newer version than {before} is not known: {}", lacking.join("; ")))
        }
        false => Err(format!(
            "the cluster's version stays {before}: for {newest} all masters have to know it, and {}",
            lacking.join("; ")
        )),
    }
}

/// The newest version that all know; the one in force as long as somebody has not said what it knows.
fn common(builds: &Builds, before: u32) -> u32 {
    let newest = builds.iter().map(|(_, build)| build.as_ref().ok().map(|build| build.versions.newest));
    newest.min().flatten().unwrap_or(before).max(before)
}

/// Gives a cluster in which nothing was ever made the newest version that all its masters know: there is nothing that an older release could go back to.
pub(crate) async fn begin_new(core: &Core, consensus: &Consensus) -> Result<()> {
    let summary = query::summary(&*core.read().await?).map_err(crate::error::state_error)?;
    match summary.is_new && summary.cluster_version < versions::KNOWN.newest {
        true => raise_to_common(core, consensus, |summary| summary.is_new).await,
        false => Ok(()),
    }
}

/// As long as the state is one that `may` be raised.
async fn raise_to_common(core: &Core, consensus: &Consensus, may: fn(&Summary) -> bool) -> Result<()> {
    let before = core.cluster_version();
    // Whoever wants to change the group waits for nobody that does not answer.
    if common(&consensus.builds(ANSWER).await, before) <= before {
        return Ok(());
    }
    let _held = consensus.hold_members().await.map_err(change_error)?;
    let summary = query::summary(&*core.read().await?).map_err(crate::error::state_error)?;
    if !may(&summary) {
        return Ok(());
    }
    let now = common(&consensus.builds(ANSWER).await, summary.cluster_version);
    raise(core, summary.cluster_version, now).await.map(drop)
}

/// Raises the version without being asked, where the settings say so or nothing was made yet, until told to stop.
pub(crate) async fn run(core: Arc<Core>, consensus: Arc<Consensus>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
        if core.cluster_version() >= versions::KNOWN.newest {
            continue;
        }
        let raised = match core.settings.auto_upgrade {
            true => raise_to_common(&core, &consensus, |_| true).await,
            false => begin_new(&core, &consensus).await,
        };
        if let Err(error) = raised {
            tracing::debug!(%error, "the cluster's version cannot be raised for now");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::VersionRange;
    use forebay_consensus::MemberId;

    /// Of masters that know those ranges; none: one that does not answer.
    fn builds(known: &[Option<(u32, u32)>]) -> Builds {
        let build =
            |(oldest, newest)| Build { release: "9.9".to_owned(), versions: VersionRange::told(oldest, newest) };
        let one = |(at, known): (usize, &Option<(u32, u32)>)| {
            let member = Member { id: MemberId(at as u64), address: format!("m{at}:7400") };
            (member, known.map(build).ok_or_else(|| "no answer".to_owned()))
        };
        known.iter().enumerate().map(one).collect()
    }

    #[test]
    fn all_have_to_know_the_newest() {
        let check = |known: &[Option<(u32, u32)>], before, expected: std::result::Result<u32, &str>| match (
            target(&builds(known), before),
            expected,
        ) {
            (Ok(now), Ok(expected)) => assert_eq!(now, expected),
            (Err(why), Err(expected)) => assert!(why.contains(expected), "{why}"),
            (outcome, expected) => panic!("{outcome:?} where {expected:?} was expected"),
        };
        check(&[Some((1, 2)), Some((1, 2)), Some((1, 2))], 1, Ok(2));
        check(&[Some((1, 2)), Some((1, 2))], 2, Ok(2));
        check(&[Some((1, 1)), None], 1, Err("a newer version than 1 is not known: what the master at m1:7400 knows"));
        check(&[Some((1, 2)), Some((1, 1))], 1, Err("m1:7400 runs release 9.9, which knows cluster version 1"));
        check(&[Some((1, 1)), Some((1, 2))], 1, Err("m0:7400 runs"));
        check(&[Some((1, 2)), None], 1, Err("m1:7400 knows is not known: no answer"));
        // Whoever has let go of what is between does not stand in the way.
        check(&[Some((1, 4)), Some((3, 4))], 3, Ok(4));
        check(&[Some((1, 3)), Some((2, 4))], 2, Err("m0:7400 runs release 9.9, which knows cluster version 1 to 3"));
    }

    #[test]
    fn by_itself_it_goes_as_far_as_all_can() {
        assert_eq!(common(&builds(&[Some((1, 3)), Some((1, 2))]), 1), 2);
        assert_eq!(common(&builds(&[Some((1, 3)), None]), 1), 1);
        assert_eq!(common(&builds(&[Some((1, 1))]), 2), 2, "never back");
    }
}
