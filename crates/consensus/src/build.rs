//! What program a member runs, as it tells the others; and which version of the cluster's behaviour they all have to know.
//!
//! What a version means is the state machine's matter ([`crate::StateMachine::cluster_version`]). Here versions are only compared: a member is not taken in, and
//! takes nothing from others, when its program does not know the version that is in force.

use std::time::Duration;

use forebay_base::VersionRange;
use futures::future::join_all;

use crate::consensus::Consensus;
use crate::error::ChangeError;
use crate::messages::{Answer, Ask, Identified, Identify};
use crate::settings::Member;

/// What program a member runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Build {
    /// Its release, for people; empty where it is not known.
    pub release: String,
    /// The versions of the cluster's behaviour that it knows.
    pub versions: VersionRange,
}

impl Build {
    pub(crate) fn of(identity: &Identified) -> Build {
        Build {
            release: identity.release.clone(),
            versions: VersionRange::told(identity.version_oldest, identity.version_newest),
        }
    }

    /// Why this program can be none of a cluster whose version is that one; nothing if it can.
    pub(crate) fn lacks(&self, version: u32) -> Option<String> {
        (!self.versions.contains(version)).then(|| {
            let way = if version > self.versions.newest { "newer" } else { "older" };
            format!(
                "its program{} knows cluster version {}, and the cluster's is {version}; start it with a {way} release",
                if self.release.is_empty() { String::new() } else { format!(" (release {})", self.release) },
                self.versions
            )
        })
    }
}

/// As long as it lives, no member comes or goes by this one's doing.
#[derive(Debug)]
pub struct MembersHeld<'a>(#[allow(dead_code, reason = "it is held")] tokio::sync::MutexGuard<'a, ()>);

impl Consensus {
    /// The version that what was applied here calls for.
    pub fn cluster_version(&self) -> u32 {
        self.thread.cluster_version().get()
    }

    /// Lets nobody come or go until the result is dropped, if this member leads.
    pub async fn hold_members(&self) -> Result<MembersHeld<'_>, ChangeError> {
        let turn = self.turn().await?;
        self.leads()?;
        Ok(MembersHeld(turn))
    }

    /// What each member runs now, those without a vote included. Each is asked; the error is why one has not said so within `patience`.
    pub async fn builds(&self, patience: Duration) -> Vec<(Member, Result<Build, String>)> {
        let own = self.settings.member.id;
        let ask = async |member: Member| {
            if member.id == own {
                return (member, Ok(self.settings.build.clone()));
            }
            let who = Ask::Identify(Identify { members: Vec::new() });
            let build = match self.peers.to(member.clone()).ask_once(who, patience).await {
                Ok(Answer::Identity(identity)) if identity.member == member.id.0 => Ok(Build::of(&identity)),
                Ok(Answer::Identity(identity)) => Err(format!("member {} answers there", identity.member)),
                Ok(_) => Err("it answered something else than was asked".to_owned()),
                Err(error) => Err(error.to_string()),
            };
            (member, build)
        };
        join_all(self.status().members.into_iter().map(ask)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lacks_a_version_is_told_which_release_helps() {
        let build = Build { release: "1.2.3".to_owned(), versions: VersionRange::told(2, 4) };
        assert_eq!([2, 3, 4].map(|version| build.lacks(version)), [None, None, None]);
        let old = build.lacks(5).unwrap();
        assert!(
            old.contains("(release 1.2.3) knows cluster version 2 to 4, and the cluster's is 5")
                && old.contains("newer"),
            "{old}"
        );
        assert!(build.lacks(1).unwrap().contains("older"));
        assert!(Build::default().lacks(2).unwrap().starts_with("its program knows cluster version 1, "));
    }
}
