//! The comparison by ranges against one of whole maps, with random names of the nasty kind.

use super::*;
use forebay_ufs::ObjectMeta;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::convert::Infallible;

type Map = BTreeMap<Bytes, (ObjectKind, u64)>;

struct Directory<'a>(&'a Map);

fn child(name: &Bytes, (kind, length): (ObjectKind, u64)) -> Child<u64> {
    Child { name: name.clone(), kind, guarded: false, entry: length }
}

impl Children for Directory<'_> {
    type Entry = u64;
    type Error = Infallible;

    fn get(&self, name: &[u8]) -> Result<Option<Child<u64>>, Infallible> {
        Ok(self.0.get_key_value(name).map(|(name, entry)| child(name, *entry)))
    }

    fn range(
        &self,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn Iterator<Item = Result<Child<u64>, Infallible>> + '_> {
        if let (Bound::Excluded(from), Bound::Included(to)) = (&from, &to)
            && from >= to
        {
            return Box::new(std::iter::empty());
        }
        Box::new(self.0.range((from, to)).map(|(name, entry)| Ok(child(name, *entry))))
    }

    fn is_same(&self, length: &u64, found: &ListEntry) -> bool {
        *length == found.meta.length
    }
}

fn entry(name: &Bytes, (kind, length): (ObjectKind, u64)) -> ListEntry {
    ListEntry { name: name.clone(), meta: ObjectMeta { kind, length, ..ObjectMeta::directory() } }
}

/// The store's entries in the order of its keys.
fn listing(store: &Map) -> Vec<ListEntry> {
    let mut entries: Vec<_> = store.iter().map(|(name, e)| entry(name, *e)).collect();
    entries.sort_by_key(ListEntry::list_key);
    entries
}

fn apply(namespace: &mut Map, changes: Vec<Change<u64>>) {
    for change in changes {
        match change {
            Change::Add(found) => {
                let before = namespace.insert(found.name.clone(), (found.meta.kind, found.meta.length));
                assert_eq!(before, None, "{:?} was added twice", found.name);
            }
            Change::Replace(child, found) => {
                assert_eq!(child.name, found.name);
                namespace.insert(found.name, (found.meta.kind, found.meta.length));
            }
            Change::Remove(child) => {
                assert!(namespace.remove(&child.name).is_some());
            }
        }
    }
}

/// Lists in pages, comparing each; after each page every name under the watermark must show what the store has.
fn run(store: &Map, namespace: &mut Map, start: &[u8], page_len: usize, limit: usize) -> usize {
    let all = listing(store);
    let mut progress = Progress::after(start);
    let mut rest: &[ListEntry] = match all.iter().position(|e| e.list_key().0[..] > *start) {
        Some(at) => &all[at..],
        None => &[],
    };
    let mut probes = 0;
    loop {
        let (page, tail) = rest.split_at(page_len.min(rest.len()));
        let upper = match (page.last(), tail.is_empty()) {
            (Some(last), false) => Some(last.list_key()),
            _ => None,
        };
        let mut resume = None;
        loop {
            let range = progress.page(page, upper.as_ref());
            let (changes, next) = range.compare(&Directory(namespace), resume.as_ref(), limit).unwrap();
            assert!(changes.len() <= limit);
            apply(namespace, changes);
            resume = next;
            if resume.is_none() {
                break;
            }
        }
        let Some(upper) = upper else { return probes };
        let mut next = progress.next(page, &upper);
        while let Some(late) = next.is_stuck(&progress) {
            match store.get(&late) {
                Some(found) => namespace.insert(late.clone(), *found),
                None => namespace.remove(&late),
            };
            next.settle(late);
            probes += 1;
        }
        progress = next;
        let watermark = progress.watermark();
        let covered = |map: &Map| {
            map.iter()
                .filter(|(name, _)| name[..] > *start && watermark.covers(name))
                .map(|(name, e)| (name.clone(), *e))
                .collect::<Map>()
        };
        assert_eq!(covered(namespace), covered(store), "{watermark:?}");
        rest = tail;
    }
}

fn map(texts: &[(&'static str, u64)]) -> Map {
    texts
        .iter()
        .map(|(text, length)| {
            let (name, kind) = match text.strip_suffix('/') {
                Some(name) => (name, ObjectKind::Directory),
                None => (*text, ObjectKind::File),
            };
            (Bytes::from_static(name.as_bytes()), (kind, *length))
        })
        .collect()
}

#[test]
fn a_directory_comes_after_names_it_is_a_prefix_of() {
    let store = map(&[("a-b", 1), ("a.c", 2), ("a/", 0), ("b", 3)]);
    for page_len in 1..6 {
        for before in
            [map(&[]), map(&[("a/", 0)]), map(&[("a", 5)]), map(&[("a-", 5), ("a-b/", 0), ("a", 1), ("c/", 0)])]
        {
            let mut namespace = before.clone();
            run(&store, &mut namespace, b"", page_len, 1000);
            assert_eq!(namespace, store, "from {before:?} by {page_len}");
        }
    }
}

#[test]
fn a_common_prefix_does_not_hold_everything_back() {
    let store: Map = (0..1000)
        .map(|n| {
            let name = Bytes::from(format!("part-{n:05}.parquet"));
            (name, (ObjectKind::File, n))
        })
        .collect();
    let mut namespace = Map::new();
    let probes = run(&store, &mut namespace, b"", 100, 1000);
    assert_eq!(namespace, store);
    assert!(probes <= 10, "{probes} single objects asked for");
}

#[test]
fn guarded_entries_stay() {
    let namespace = map(&[("mount/", 0), ("new", 0)]);
    struct Guarded<'a>(Directory<'a>);
    impl Children for Guarded<'_> {
        type Entry = u64;
        type Error = Infallible;
        fn get(&self, name: &[u8]) -> Result<Option<Child<u64>>, Infallible> {
            self.0.get(name)
        }
        fn range(
            &self,
            from: Bound<Bytes>,
            to: Bound<Bytes>,
        ) -> Box<dyn Iterator<Item = Result<Child<u64>, Infallible>> + '_> {
            Box::new(self.0.range(from, to).map(|child| child.map(|child| Child { guarded: true, ..child })))
        }
        fn is_same(&self, length: &u64, found: &ListEntry) -> bool {
            self.0.is_same(length, found)
        }
    }
    let store = listing(&map(&[("mount", 3)]));
    let progress = Progress::default();
    let (changes, _) = progress.page(&store, None).compare(&Guarded(Directory(&namespace)), None, 1000).unwrap();
    assert_eq!(changes, []);
}

#[test]
fn random_directories_end_equal() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..20_000 {
        let (store, mut namespace) = (random_map(&mut random), random_map(&mut random));
        let before = namespace.clone();
        let start = if random.random_range(0..4) == 0 { random_name(&mut random) } else { Bytes::new() };
        let page_len = random.random_range(1..8);
        let limit = random.random_range(1..5);
        run(&store, &mut namespace, &start, page_len, limit);
        let after = |map: &Map| -> Map {
            let names = map.iter().filter(|(name, _)| **name > start);
            names.map(|(name, e)| (name.clone(), *e)).collect()
        };
        assert_eq!(after(&namespace), after(&store), "seed {seed}: {before:?} after {start:?} by {page_len}");
    }
}

fn random_name(random: &mut StdRng) -> Bytes {
    let len = random.random_range(1..5);
    (0..len).map(|_| b"a-.0b"[random.random_range(0..5)]).collect::<Vec<u8>>().into()
}

fn random_map(random: &mut StdRng) -> Map {
    (0..random.random_range(0..25))
        .map(|_| {
            let kind = match random.random_range(0..2) {
                0 => ObjectKind::File,
                _ => ObjectKind::Directory,
            };
            let length = match kind {
                ObjectKind::File => random.random_range(1..3),
                ObjectKind::Directory => 0,
            };
            (random_name(random), (kind, length))
        })
        .collect()
}
