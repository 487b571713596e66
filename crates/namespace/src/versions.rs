//! The versions of the cluster's behaviour: what may be in the log and in the records, and what commands do.
//!
//! All members must do the same with the same command, so what a newer program does differently it does only from the cluster version on that
//! brought it. Under an older one it does what the older programs do, byte for byte. A command raises the version when every member knows the new one, and nothing takes it back.
//!
//! | version | brings |
//! |---|---|
//! | 1 | everything up to the first release that knows versions |
//! | 2 | `NotePurge`: how far a purge is lies in its trash entry |
//!
//! To add one: raise [`KNOWN`], say here what it brings, and ask [`Action::since`](crate::Action::since) (a command of a new kind) or the state's version (a
//! command that does something else than before). A field that is added to a command or record needs a new version as well: older programs do not see it.
//!
//! To let go of old ones: raise the oldest of [`KNOWN`], and begin the empty tree (in `machine`) with it; else no new cluster could open its state.

use crate::keys;
use crate::machine::{self, ApplyError};
use crate::reply::Refusal;
use forebay_base::{ErrorKind, VersionRange};
use forebay_metastore::Read;

/// What this program knows.
pub const KNOWN: VersionRange = VersionRange { oldest: FIRST, newest: PURGE_PLACES };

/// The version of a state that was never given one.
pub const FIRST: u32 = 1;

/// The first with [`NotePurge`](crate::command::NotePurge).
pub const PURGE_PLACES: u32 = 2;

/// The version in force, by what the state has.
pub(crate) fn in_force(stored: u32) -> u32 {
    stored.max(FIRST)
}

/// Refuses a version that this program does not know.
pub(crate) fn check(stored: u32) -> Result<(), ApplyError> {
    match KNOWN.contains(in_force(stored)) {
        true => Ok(()),
        false => Err(ApplyError::ClusterVersion { found: in_force(stored), known: KNOWN }),
    }
}

/// The refusal of what the cluster cannot do yet.
pub fn too_early(since: u32, version: u32) -> Refusal {
    let message = format!(
        "this is not supported by the cluster until it is upgraded: it needs cluster version {since}, and the cluster's is {version}"
    );
    Refusal::new(ErrorKind::InvalidArgument, message)
        .hint("when all masters run the new release: forebay masters upgrade")
}

/// Refuses a store whose version this program does not know, or one that has a newer format. One that nothing was ever written to is fine.
pub fn check_stored(read: &dyn Read) -> Result<(), ApplyError> {
    match keys::state::get(read)? {
        Some(_) => machine::stored_state(read).map(drop),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_of_the_range_is_refused_and_told() {
        assert_eq!(check(0), Ok(()), "a state of before there were versions");
        assert_eq!(check(KNOWN.newest), Ok(()));
        let error = check(KNOWN.newest + 1).unwrap_err().to_string();
        let wanted = format!("the cluster's version is {}, and this program knows {KNOWN}", KNOWN.newest + 1);
        assert!(error.contains(&wanted) && error.contains("start a newer release"), "{error}");
    }
}
