//! One page of a store's listing against the same range of the namespace.
//!
//! The hard problem is order. A store lists by key, and the key of a directory `a` is `a/`; the namespace orders by name. So
//! a directory belongs to the range by `a/`: it may come many pages after its name's place, since `a-b` and `a.b` sort before `a/`.
//! The names that are late are exactly the proper prefixes of the page's lower bound, so they are looked up one by one, and nothing but
//! the names that are prefixes of the last key is carried from page to page (255 at most).

use bytes::Bytes;
use forebay_ufs::{ListEntry, ListKey, ObjectKind};
use std::collections::BTreeMap;
use std::ops::Bound;

/// What the namespace knows of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child<T> {
    /// Its name.
    pub(crate) name: Bytes,
    /// What it is.
    pub(crate) kind: ObjectKind,
    /// A comparison must leave it alone: a mount point, or being written here.
    pub(crate) guarded: bool,
    /// What else the caller needs of it.
    pub(crate) entry: T,
}

/// The entries of one directory of the namespace, at one moment.
pub(crate) trait Children {
    /// What an entry carries.
    type Entry;
    /// Why reading fails.
    type Error;

    /// The entry of that name.
    fn get(&self, name: &[u8]) -> Result<Option<Child<Self::Entry>>, Self::Error>;

    /// The entries between two names, by name.
    #[allow(clippy::type_complexity)]
    fn range(
        &self,
        from: Bound<Bytes>,
        to: Bound<Bytes>,
    ) -> Box<dyn Iterator<Item = Result<Child<Self::Entry>, Self::Error>> + '_>;

    /// Whether the store's object is the content that the namespace has.
    fn is_same(&self, child: &Self::Entry, found: &ListEntry) -> bool;
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<T> {
    /// The store has it, the namespace does not.
    Add(ListEntry),
    /// Another content or another kind.
    Replace(Child<T>, ListEntry),
    /// The namespace has it, the store does not.
    Remove(Child<T>),
}

/// The place of one page in the listing, and what is carried to the next.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Everything up to here was listed; none at the start.
    lower: Option<ListKey>,
    /// Names that are prefixes of `lower` and were listed, or asked for on their own: they are settled.
    settled: Vec<Bytes>,
}

/// Up to which name the namespace now shows what the store has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Watermark {
    /// No name yet.
    Nothing,
    /// All names below this one.
    Below(Bytes),
    /// All names up to and with this one.
    UpTo(Bytes),
    /// All.
    All,
}

impl Watermark {
    /// Whether a name is covered.
    pub(crate) fn covers(&self, name: &[u8]) -> bool {
        match self {
            Watermark::Nothing => false,
            Watermark::Below(bound) => name < &bound[..],
            Watermark::UpTo(bound) => name <= &bound[..],
            Watermark::All => true,
        }
    }
}

/// A page with its bounds.
pub(crate) struct PageRange<'a> {
    progress: &'a Progress,
    upper: Option<&'a ListKey>,
    /// The page's entries by name.
    found: BTreeMap<&'a [u8], &'a ListEntry>,
}

impl Progress {
    /// A listing that starts after `name`: it says nothing of the names up to there.
    pub(crate) fn after(name: &[u8]) -> Progress {
        Progress { lower: (!name.is_empty()).then(|| ListKey(Bytes::copy_from_slice(name))), settled: Vec::new() }
    }

    /// The page `entries`, which reaches to `upper`, or to the end.
    pub(crate) fn page<'a>(&'a self, entries: &'a [ListEntry], upper: Option<&'a ListKey>) -> PageRange<'a> {
        let found = entries.iter().map(|entry| (&entry.name[..], entry)).collect();
        PageRange { progress: self, upper, found }
    }

    /// The progress after that page.
    pub(crate) fn next(&self, entries: &[ListEntry], upper: &ListKey) -> Progress {
        let listed = entries.iter().map(|entry| &entry.name);
        let mut settled: Vec<Bytes> =
            self.settled.iter().chain(listed).filter(|name| upper.0.starts_with(name)).cloned().collect();
        settled.sort_unstable();
        settled.dedup();
        Progress { lower: Some(upper.clone()), settled }
    }

    /// What may still come out of order: the shortest name whose key as a directory lies above what was listed. None when
    /// all names up to the last key are settled.
    pub(crate) fn first_unsettled(&self) -> Option<Bytes> {
        let lower = self.lower.as_ref()?;
        let name = name_of(lower);
        (1..=name.len()).map(|len| name.slice(..len)).find(|prefix| self.is_late(prefix))
    }

    /// A name was asked for on its own and is settled.
    pub(crate) fn settle(&mut self, name: Bytes) {
        self.settled.push(name);
        self.settled.sort_unstable();
    }

    /// Whether a late name holds back names that were listed before this page.
    pub(crate) fn is_stuck(&self, before: &Progress) -> Option<Bytes> {
        let late = self.first_unsettled()?;
        let earlier = before.lower.as_ref()?;
        (late[..] <= earlier.0[..]).then_some(late)
    }

    /// Up to which name all is settled.
    pub(crate) fn watermark(&self) -> Watermark {
        match (&self.lower, self.first_unsettled()) {
            (None, _) => Watermark::Nothing,
            (Some(_), Some(late)) => Watermark::Below(late),
            (Some(lower), None) => Watermark::UpTo(name_of(lower)),
        }
    }

    fn is_late(&self, name: &[u8]) -> bool {
        let Some(lower) = &self.lower else {
            return false;
        };
        ListKey::new(name, ObjectKind::Directory) > *lower
            && self.settled.binary_search_by(|settled| settled[..].cmp(name)).is_err()
    }
}

fn name_of(key: &ListKey) -> Bytes {
    match key.0.strip_suffix(b"/") {
        Some(name) => key.0.slice_ref(name),
        None => key.0.clone(),
    }
}

impl PageRange<'_> {
    /// Whether a name of that kind has its place in this page.
    fn holds(&self, name: &[u8], kind: ObjectKind) -> bool {
        let key = ListKey::new(name, kind);
        self.progress.lower.as_ref().is_none_or(|lower| key > *lower) && self.upper.is_none_or(|upper| key <= *upper)
    }

    /// Differences in order of names, after the name `resume`; at most `limit`, with the name to resume from when there may be more.
    #[allow(clippy::type_complexity)]
    pub(crate) fn compare<C: Children>(
        &self,
        children: &C,
        resume: Option<&Bytes>,
        limit: usize,
    ) -> Result<(Vec<Change<C::Entry>>, Option<Bytes>), C::Error> {
        let mut changes = Vec::new();
        let mut found = self
            .found
            .iter()
            .filter(|(name, _)| resume.is_none_or(|resume| **name > &resume[..]))
            .map(|(_, entry)| *entry)
            .peekable();
        for child in self.candidates(children, resume)? {
            let child = child?;
            while let Some(entry) = found.next_if(|entry| entry.name < child.name) {
                changes.push(Change::Add(entry.clone()));
                if changes.len() >= limit {
                    return Ok((changes, Some(entry.name.clone())));
                }
            }
            let name = child.name.clone();
            let entry = found.next_if(|entry| entry.name == name);
            changes.extend(self.difference(children, child, entry));
            if changes.len() >= limit {
                return Ok((changes, Some(name)));
            }
        }
        for entry in found {
            changes.push(Change::Add(entry.clone()));
            if changes.len() >= limit {
                return Ok((changes, Some(entry.name.clone())));
            }
        }
        Ok((changes, None))
    }

    fn difference<C: Children>(
        &self,
        children: &C,
        child: Child<C::Entry>,
        found: Option<&ListEntry>,
    ) -> Option<Change<C::Entry>> {
        if child.guarded {
            return None;
        }
        let Some(found) = found else {
            return self.holds(&child.name, child.kind).then_some(Change::Remove(child));
        };
        let same = match (child.kind, found.meta.kind) {
            (ObjectKind::Directory, ObjectKind::Directory) => true,
            (ObjectKind::File, ObjectKind::File) => children.is_same(&child.entry, found),
            _ => false,
        };
        (!same).then(|| Change::Replace(child, found.clone()))
    }

    /// The namespace's entries that may have their place in this page, by name: first the late ones, then the range.
    #[allow(clippy::type_complexity)]
    fn candidates<'c, C: Children>(
        &self,
        children: &'c C,
        resume: Option<&Bytes>,
    ) -> Result<Box<dyn Iterator<Item = Result<Child<C::Entry>, C::Error>> + 'c>, C::Error> {
        let lower = self.progress.lower.as_ref().map(|key| key.0.clone());
        let mut late = Vec::new();
        for len in 1..=lower.as_ref().map_or(0, Bytes::len) {
            let prefix = lower.as_ref().map_or_else(Bytes::new, |key| key.slice(..len));
            let done = resume.is_some_and(|resume| prefix <= *resume);
            // A settled name is looked up too when its key comes at last, so that it is not added twice.
            let expected = self.progress.is_late(&prefix) || self.found.contains_key(&prefix[..]);
            if !done && expected {
                late.extend(children.get(&prefix)?.map(Ok));
            }
        }
        let from = match (lower, resume) {
            (Some(lower), Some(resume)) => Bound::Excluded(lower.max(resume.clone())),
            (Some(bound), None) => Bound::Excluded(bound),
            (None, Some(bound)) => Bound::Excluded(bound.clone()),
            (None, None) => Bound::Unbounded,
        };
        let to = match self.upper {
            Some(upper) => Bound::Included(upper.0.clone()),
            None => Bound::Unbounded,
        };
        Ok(Box::new(late.into_iter().chain(children.range(from, to))))
    }
}

#[cfg(test)]
mod tests;
