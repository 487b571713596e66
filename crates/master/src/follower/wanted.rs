//! The paths of which the leader is asked what it has compared, since a read could not be answered without that.
//!
//! What the leader compares it tells by itself, but only so much of it, and nothing that it compared before it was asked the first time or another master asked in
//! its place. So each read that would be refused for this is looked at once more, after a question that names its path.

use super::Follower;
use forebay_base::{MountId, NsPath};
use forebay_proto::v1::SyncPath;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::time::Instant;

/// Paths in one question: a MiB of the longest ones. Whoever comes when there are so many is refused at once.
pub(crate) const WANTED_MAX: usize = 256;

/// The paths for the next question.
#[derive(Default)]
pub(super) struct Wanted(Mutex<HashSet<(MountId, NsPath)>>);

impl Wanted {
    /// Adds one. The next question that begins at or after the moment returned has it; none: there are too many.
    fn add(&self, mount: MountId, path: &NsPath) -> Option<Instant> {
        let mut paths = self.0.lock();
        if paths.len() >= WANTED_MAX && !paths.contains(&(mount, path.clone())) {
            return None;
        }
        paths.insert((mount, path.clone()));
        Some(Instant::now())
    }

    /// What the question is about that begins at the moment returned.
    pub(super) fn take(&self) -> (Instant, Vec<SyncPath>) {
        let mut paths = self.0.lock();
        let wire = |(mount, path): (MountId, NsPath)| SyncPath { mount: mount.0, path: path.to_bytes() };
        let taken = paths.drain().map(wire).collect();
        (Instant::now(), taken)
    }
}

impl Follower {
    /// Asks the leader what it has compared of a path, of its entries and of those of its directory. False: there was no answer, and no use in another look.
    pub(super) async fn learn(&self, mount: MountId, path: &NsPath) -> bool {
        match self.paths.add(mount, path) {
            Some(since) => self.answered(since).await,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_what_was_wanted_before_it_began() {
        let wanted = Wanted::default();
        let path: NsPath = "/m/a".parse().unwrap();
        let since = wanted.add(MountId(1), &path).unwrap();
        wanted.add(MountId(1), &path).unwrap();
        let (began, taken) = wanted.take();
        assert!(began >= since);
        assert_eq!(taken, [SyncPath { mount: 1, path: path.to_bytes() }]);
        assert_eq!(wanted.take().1, []);
    }

    #[test]
    fn there_is_a_bound() {
        let wanted = Wanted::default();
        let path = |n: usize| -> NsPath { format!("/m/{n}").parse().unwrap() };
        (0..WANTED_MAX).for_each(|n| assert!(wanted.add(MountId(1), &path(n)).is_some()));
        assert!(wanted.add(MountId(1), &path(WANTED_MAX)).is_none());
        assert!(wanted.add(MountId(1), &path(0)).is_some(), "it is among them");
        assert_eq!(wanted.take().1.len(), WANTED_MAX);
        assert!(wanted.add(MountId(1), &path(WANTED_MAX)).is_some());
    }
}
