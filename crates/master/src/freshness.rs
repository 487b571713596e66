//! When a path was last compared with its store: in memory, on the leader, bounded.
//!
//! Two things are remembered of a path: that it itself was compared (its object, or that there is none), and that all entries of the
//! directory were. The second says the first of each entry. What falls out of the bounded table is asked again, once too often and
//! never too seldom.

use forebay_base::{MountId, NsPath};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a comparison holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncInterval {
    /// Ask every time.
    Always,
    /// Ask when this long has passed.
    After(Duration),
    /// Ask once.
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum What {
    Path,
    Entries,
}

/// The table.
pub(crate) struct Freshness {
    compared: Cache<(MountId, What, NsPath), Instant>,
    /// What was compared in a mount before this does not count any more.
    forgotten: RwLock<HashMap<MountId, Instant>>,
}

impl Freshness {
    /// A table of at most about `entries` paths: some 200 bytes each.
    pub(crate) fn new(entries: usize) -> Freshness {
        Freshness { compared: Cache::new(entries.max(16)), forgotten: RwLock::default() }
    }

    /// The path itself was compared; the store was asked at `asked`.
    pub(crate) fn path_compared(&self, mount: MountId, path: &NsPath, asked: Instant) {
        self.compared.insert((mount, What::Path, path.clone()), asked);
    }

    /// All entries of the directory were compared; the listing began at `asked`.
    pub(crate) fn entries_compared(&self, mount: MountId, directory: &NsPath, asked: Instant) {
        self.compared.insert((mount, What::Entries, directory.clone()), asked);
    }

    /// Forgets what is known of a path and of its entries: the next asker asks the store.
    pub(crate) fn forget(&self, mount: MountId, path: &NsPath) {
        for what in [What::Path, What::Entries] {
            self.compared.remove(&(mount, what, path.clone()));
        }
    }

    /// Forgets all of a mount. One entry for each mount there ever was in this process.
    pub(crate) fn forget_mount(&self, mount: MountId, now: Instant) {
        self.forgotten.write().insert(mount, now);
    }

    /// Whether the path needs no asking: it, or all entries of its parent, were compared within the interval.
    pub(crate) fn is_path_fresh(&self, mount: MountId, path: &NsPath, interval: SyncInterval, now: Instant) -> bool {
        let own = self.get(mount, What::Path, path);
        let parents = || self.get(mount, What::Entries, &path.parent()?);
        holds(own, interval, now) || holds(parents(), interval, now)
    }

    /// Whether the entries of the directory need no asking.
    pub(crate) fn are_entries_fresh(
        &self,
        mount: MountId,
        directory: &NsPath,
        interval: SyncInterval,
        now: Instant,
    ) -> bool {
        holds(self.get(mount, What::Entries, directory), interval, now)
    }

    fn get(&self, mount: MountId, what: What, path: &NsPath) -> Option<Instant> {
        let compared = self.compared.get(&(mount, what, path.clone()))?;
        let forgotten = self.forgotten.read().get(&mount).copied();
        (forgotten.is_none_or(|forgotten| compared > forgotten)).then_some(compared)
    }
}

fn holds(compared: Option<Instant>, interval: SyncInterval, now: Instant) -> bool {
    match (compared, interval) {
        (None, _) | (_, SyncInterval::Always) => false,
        (Some(_), SyncInterval::Never) => true,
        (Some(then), SyncInterval::After(interval)) => now.saturating_duration_since(then) < interval,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT: MountId = MountId(1);
    const MINUTE: SyncInterval = SyncInterval::After(Duration::from_secs(60));

    fn path(text: &str) -> NsPath {
        text.parse().unwrap()
    }

    #[test]
    fn holds_for_the_interval() {
        let table = Freshness::new(100);
        let start = Instant::now();
        table.path_compared(MOUNT, &path("/a/x"), start);
        let fresh = |text: &str, interval, after_s| {
            let now = start + Duration::from_secs(after_s);
            table.is_path_fresh(MOUNT, &path(text), interval, now)
        };
        assert!(fresh("/a/x", MINUTE, 59));
        assert!(!fresh("/a/x", MINUTE, 60));
        assert!(!fresh("/a/x", SyncInterval::Always, 0));
        assert!(fresh("/a/x", SyncInterval::Never, 1_000_000));
        assert!(!fresh("/a/y", SyncInterval::Never, 0));
        assert!(!table.is_path_fresh(MountId(2), &path("/a/x"), MINUTE, start));
        table.forget(MOUNT, &path("/a/x"));
        assert!(!fresh("/a/x", MINUTE, 0));
        table.path_compared(MOUNT, &path("/a/x"), start);
        table.forget_mount(MOUNT, start);
        assert!(!fresh("/a/x", MINUTE, 0));
        table.path_compared(MOUNT, &path("/a/x"), start + Duration::from_secs(1));
        assert!(fresh("/a/x", MINUTE, 1));
    }

    #[test]
    fn a_listing_speaks_for_its_entries_but_not_for_theirs() {
        let table = Freshness::new(100);
        let now = Instant::now();
        table.entries_compared(MOUNT, &path("/a"), now);
        assert!(table.is_path_fresh(MOUNT, &path("/a/x"), MINUTE, now));
        assert!(table.are_entries_fresh(MOUNT, &path("/a"), MINUTE, now));
        assert!(!table.is_path_fresh(MOUNT, &path("/a/x/y"), MINUTE, now));
        assert!(!table.are_entries_fresh(MOUNT, &path("/a/x"), MINUTE, now));
    }

    #[test]
    fn is_bounded() {
        let table = Freshness::new(1000);
        let now = Instant::now();
        for n in 0..100_000 {
            table.path_compared(MOUNT, &path(&format!("/{n}")), now);
        }
        assert!(table.compared.len() <= 1100, "{}", table.compared.len());
    }
}
