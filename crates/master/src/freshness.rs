//! When a path was last compared with its store: in memory, on the leader, bounded.
//!
//! Two things are remembered of a path: that it itself was compared (its object, or that there is none), and that all entries of the
//! directory were. The second says the first of each entry; when nobody has asked for the entries yet, of those alone that were found. What falls out of the bounded table is asked again, once too often and
//! never too seldom.
//!
//! Masters that answer reads without leading have a table of their own, which goes by what the leader tells them of its own ([`journal`]).

pub(crate) mod journal;

use forebay_base::{MountId, NsPath};
use journal::{Event, Journal};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
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

impl SyncInterval {
    /// Whether a comparison that was begun then still counts.
    pub(crate) fn holds(self, then: Instant, now: Instant) -> bool {
        match self {
            SyncInterval::Always => false,
            SyncInterval::Never => true,
            SyncInterval::After(interval) => now.saturating_duration_since(then) < interval,
        }
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// The path itself.
    Path,
    /// All entries, and that there are no others.
    Entries,
    /// The entries that there are.
    Found,
}

/// The table.
pub(crate) struct Freshness {
    table: Cache<(MountId, What, NsPath), Instant>,
    forgotten: RwLock<Forgotten>,
    /// Comparisons so far.
    changes: AtomicU64,
    /// For other masters.
    pub(crate) journal: Journal,
}

/// What was compared before these moments does not count any more.
#[derive(Default)]
struct Forgotten {
    /// One entry for each mount there ever was in this process.
    mounts: HashMap<MountId, Instant>,
    /// Directories with all below them; [`TREES_MAX`] in all. At the bound their mounts are forgotten whole.
    trees: HashMap<MountId, HashMap<Box<[u8]>, Instant>>,
    trees_len: usize,
}

/// Each costs its path, and one look for each name of a path when freshness is asked for.
const TREES_MAX: usize = 4096;

impl Forgotten {
    fn mount(&mut self, mount: MountId, now: Instant) {
        self.mounts.insert(mount, now);
        self.trees_len -= self.trees.remove(&mount).map_or(0, |trees| trees.len());
    }

    fn tree(&mut self, mount: MountId, path: &NsPath, now: Instant) {
        if self.trees_len >= TREES_MAX {
            let mounts: Vec<MountId> = self.trees.keys().copied().collect();
            return mounts.into_iter().chain([mount]).for_each(|mount| self.mount(mount, now));
        }
        let before = self.trees.entry(mount).or_default().insert(path.as_bytes().into(), now);
        self.trees_len += usize::from(before.is_none());
    }

    /// Whether what was compared then has been forgotten since.
    fn covers(&self, mount: MountId, path: &NsPath, compared: Instant) -> bool {
        let since = |forgotten: Option<&Instant>| forgotten.is_some_and(|forgotten| compared <= *forgotten);
        let Some(trees) = self.trees.get(&mount) else {
            return since(self.mounts.get(&mount));
        };
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        since(self.mounts.get(&mount)) || ends.chain([bytes.len()]).any(|end| since(trees.get(&bytes[..end])))
    }
}

impl Freshness {
    /// A table of at most about `entries` paths: some 200 bytes each.
    pub(crate) fn new(entries: usize) -> Freshness {
        Freshness {
            table: Cache::new(entries.max(16)),
            forgotten: RwLock::default(),
            changes: AtomicU64::new(0),
            journal: Journal::new(),
        }
    }

    /// The path itself was compared; the store was asked at `asked`.
    pub(crate) fn path_compared(&self, mount: MountId, path: &NsPath, asked: Instant) {
        self.compared(mount, What::Path, path, asked);
    }

    /// All entries of the directory were compared; the listing began at `asked`.
    pub(crate) fn entries_compared(&self, mount: MountId, directory: &NsPath, asked: Instant) {
        self.compared(mount, What::Entries, directory, asked);
    }

    /// The entries that the directory has were compared; the listing began at `asked`. It says nothing of names that were not found.
    pub(crate) fn found_compared(&self, mount: MountId, directory: &NsPath, asked: Instant) {
        self.compared(mount, What::Found, directory, asked);
    }

    /// Something was compared; the store was asked at `asked`.
    pub(crate) fn compared(&self, mount: MountId, what: What, path: &NsPath, asked: Instant) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        // Noted before it counts here, and what is forgotten after it counts no more: nobody is told of more than there is here.
        self.journal.note_if(
            || !self.forgotten.read().covers(mount, path, asked),
            || Event::Compared { mount, what, path: path.clone(), asked },
        );
        self.table.insert((mount, what, path.clone()), asked);
    }

    /// What counts as compared of a path, of its entries and of those of its directory. Taken after [`Journal::since`], it holds until an event
    /// that comes with the next call of that says otherwise.
    pub(crate) fn known(&self, mount: MountId, path: &NsPath) -> Vec<Event> {
        let parent = path.parent();
        let parents = || [What::Entries, What::Found].map(|what| parent.clone().map(|parent| (what, parent)));
        let own = [What::Path, What::Entries].map(|what| Some((what, path.clone())));
        let all = own.into_iter().chain(parents()).flatten();
        all.filter_map(|(what, path)| {
            let asked = self.get(mount, what, &path)?;
            Some(Event::Compared { mount, what, path, asked })
        })
        .collect()
    }

    /// Grows before anything counts as compared: what a state found out that was read before is not in there. Who has decided by this table that nothing
    /// needs asking takes a state from after that.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Forgets what is known of a path and of its entries: the next asker asks the store.
    pub(crate) fn forget(&self, mount: MountId, path: &NsPath) {
        for what in [What::Path, What::Entries, What::Found] {
            self.table.remove(&(mount, what, path.clone()));
        }
        self.journal.note(Event::Forgotten { mount, path: path.clone() });
    }

    /// Forgets what is known of a path and of all below it.
    pub(crate) fn forget_tree(&self, mount: MountId, path: &NsPath, now: Instant) {
        self.forgotten.write().tree(mount, path, now);
        self.journal.note(Event::TreeForgotten { mount, path: path.clone() });
    }

    /// Forgets all of a mount.
    pub(crate) fn forget_mount(&self, mount: MountId, now: Instant) {
        self.forgotten.write().mount(mount, now);
        self.journal.note(Event::MountForgotten { mount });
    }

    /// Forgets everything.
    pub(crate) fn forget_all(&self) {
        self.table.clear();
    }

    /// Whether the path needs no asking: it, or all entries of its parent, were compared within the interval.
    pub(crate) fn is_path_fresh(&self, mount: MountId, path: &NsPath, interval: SyncInterval, now: Instant) -> bool {
        let own = self.get(mount, What::Path, path);
        let parents = || self.get(mount, What::Entries, &path.parent()?);
        holds(own, interval, now) || holds(parents(), interval, now)
    }

    /// Whether a path that is there needs no asking because it was found in its directory.
    pub(crate) fn is_found_fresh(&self, mount: MountId, path: &NsPath, interval: SyncInterval, now: Instant) -> bool {
        path.parent().is_some_and(|parent| holds(self.get(mount, What::Found, &parent), interval, now))
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
        let compared = self.table.get(&(mount, what, path.clone()))?;
        (!self.forgotten.read().covers(mount, path, compared)).then_some(compared)
    }
}

fn holds(compared: Option<Instant>, interval: SyncInterval, now: Instant) -> bool {
    compared.is_some_and(|then| interval.holds(then, now))
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
    fn what_was_found_says_nothing_of_other_names() {
        let table = Freshness::new(100);
        let now = Instant::now();
        table.found_compared(MOUNT, &path("/a"), now);
        assert!(table.is_found_fresh(MOUNT, &path("/a/x"), MINUTE, now));
        assert!(!table.is_path_fresh(MOUNT, &path("/a/x"), MINUTE, now));
        assert!(!table.are_entries_fresh(MOUNT, &path("/a"), MINUTE, now));
        table.forget(MOUNT, &path("/a"));
        assert!(!table.is_found_fresh(MOUNT, &path("/a/x"), MINUTE, now));
    }

    #[test]
    fn who_asks_for_a_path_is_told_what_decides_about_it_and_nothing_forgotten() {
        let table = Freshness::new(100);
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        let kinds = |text: &str| -> Vec<What> {
            let kind = |event| match event {
                Event::Compared { mount: MOUNT, what, .. } => what,
                other => panic!("{other:?}"),
            };
            table.known(MOUNT, &path(text)).into_iter().map(kind).collect()
        };
        assert_eq!(kinds("/a/x"), []);
        table.path_compared(MOUNT, &path("/a/x"), later(1));
        table.entries_compared(MOUNT, &path("/a/x"), later(2));
        table.entries_compared(MOUNT, &path("/a"), later(3));
        table.found_compared(MOUNT, &path("/a"), later(4));
        table.path_compared(MOUNT, &path("/a"), later(5));
        assert_eq!(kinds("/a/x"), [What::Path, What::Entries, What::Entries, What::Found]);
        assert_eq!(kinds("/a"), [What::Path, What::Entries]);
        assert_eq!(kinds("/b"), []);
        table.forget_tree(MOUNT, &path("/a/x"), later(6));
        assert_eq!(kinds("/a/x"), [What::Entries, What::Found]);
        table.forget_mount(MOUNT, later(7));
        assert_eq!(kinds("/a/x"), []);
    }

    #[test]
    fn a_forgotten_tree_takes_all_below_with_it_and_nothing_beside() {
        let table = Freshness::new(100);
        let start = Instant::now();
        let later = |s| start + Duration::from_secs(s);
        for text in ["/a", "/a/b", "/a/b/c", "/a/bc"] {
            table.path_compared(MOUNT, &path(text), start);
            table.entries_compared(MOUNT, &path(text), start);
        }
        table.forget_tree(MOUNT, &path("/a/b"), later(1));
        let fresh = |text: &str| table.are_entries_fresh(MOUNT, &path(text), MINUTE, later(2));
        assert!(fresh("/a") && fresh("/a/bc") && !fresh("/a/b") && !fresh("/a/b/c"));
        assert!(!table.is_path_fresh(MOUNT, &path("/a/b/x"), MINUTE, later(2)), "by the entries of its directory");
        table.entries_compared(MOUNT, &path("/a/b"), later(2));
        assert!(fresh("/a/b") && !fresh("/a/b/c"));
    }

    #[test]
    fn too_many_forgotten_trees_forget_their_mount() {
        let table = Freshness::new(100);
        let start = Instant::now();
        table.path_compared(MOUNT, &path("/x"), start);
        let later = start + Duration::from_secs(1);
        let fresh = || table.is_path_fresh(MOUNT, &path("/x"), MINUTE, later);
        (0..TREES_MAX).for_each(|n| table.forget_tree(MOUNT, &path(&format!("/{n}")), later));
        assert!(fresh());
        table.forget_tree(MOUNT, &path("/one/more"), later);
        assert!(!fresh());
        assert_eq!(table.forgotten.read().trees_len, 0);
    }

    #[test]
    fn is_bounded() {
        let table = Freshness::new(1000);
        let now = Instant::now();
        for n in 0..100_000 {
            table.path_compared(MOUNT, &path(&format!("/{n}")), now);
        }
        assert!(table.table.len() <= 1100, "{}", table.table.len());
    }
}
