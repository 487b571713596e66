//! Pending writes over a reader.

use crate::{Batch, Direction, KeyRange, Read, Result, Row, Rows};
use bytes::Bytes;
use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

/// Pending writes over a reader: it reads as if they had been written already.
///
/// The writes of one command can be taken back: [`Overlay::begin`] starts a span, [`Overlay::undo`] takes back what
/// was written since.
pub struct Overlay<R> {
    base: R,
    /// What a key has after the pending writes: none when deleted.
    pending: BTreeMap<Bytes, Option<Bytes>>,
    /// What `pending` had under a key before the write, since the last `begin`.
    undo: Vec<(Bytes, Option<Option<Bytes>>)>,
}

impl<R: Read> Overlay<R> {
    /// Nothing pending yet. The base must not change underneath while the overlay lives, but by its own batch.
    pub fn new(base: R) -> Overlay<R> {
        Overlay { base, pending: BTreeMap::new(), undo: Vec::new() }
    }

    /// What lies below.
    pub fn base(&self) -> &R {
        &self.base
    }

    /// What is pending for `key`: `Some(None)` when it is deleted, `None` when nothing is.
    pub fn pending(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.pending.get(key).map(Option::as_ref)
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.set(key.into(), Some(value.into()));
    }

    /// Takes `key` away.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        self.set(key.into(), None);
    }

    fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        let before = self.pending.insert(key.clone(), value);
        self.undo.push((key, before));
    }

    /// Starts a span of writes that [`Overlay::undo`] can take back; what was written before stays.
    pub fn begin(&mut self) {
        self.undo.clear();
    }

    /// Takes back everything written since [`Overlay::begin`].
    pub fn undo(&mut self) {
        while let Some((key, before)) = self.undo.pop() {
            match before {
                Some(value) => self.pending.insert(key, value),
                None => self.pending.remove(&key),
            };
        }
    }

    /// The pending writes as one batch in key order; none are pending afterwards.
    pub fn take(&mut self) -> Batch {
        self.undo.clear();
        let mut batch = Batch::new();
        for (key, value) in std::mem::take(&mut self.pending) {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }

    /// The number of keys with a pending write.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

impl<R: Read> Read for Overlay<R> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.pending.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, range: KeyRange, direction: Direction) -> Rows<'_> {
        if range.is_empty() {
            return Box::new(std::iter::empty());
        }
        let start = Bytes::copy_from_slice(range.start());
        let pending = match range.end() {
            Some(end) => self.pending.range(start..Bytes::copy_from_slice(end)),
            None => self.pending.range(start..),
        };
        Box::new(Merged {
            base: self.base.scan(range, direction).peekable(),
            pending: Pending { range: pending, direction }.peekable(),
            direction,
        })
    }
}

/// The pending writes of a range in the direction of a scan.
struct Pending<'a> {
    range: btree_map::Range<'a, Bytes, Option<Bytes>>,
    direction: Direction,
}

impl<'a> Iterator for Pending<'a> {
    type Item = (&'a Bytes, &'a Option<Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.direction {
            Direction::Forward => self.range.next(),
            Direction::Backward => self.range.next_back(),
        }
    }
}

/// Two sorted streams as one; on equal keys the pending write wins.
struct Merged<'a> {
    base: Peekable<Rows<'a>>,
    pending: Peekable<Pending<'a>>,
    direction: Direction,
}

/// Which stream is next.
enum Turn {
    Base,
    Pending,
    Both,
}

impl Merged<'_> {
    fn turn(&mut self) -> Option<Turn> {
        let ordering = match (self.base.peek(), self.pending.peek()) {
            (None, None) => return None,
            (Some(_), None) | (Some(Err(_)), _) => return Some(Turn::Base),
            (None, Some(_)) => return Some(Turn::Pending),
            (Some(Ok((base, _))), Some((pending, _))) => base.cmp(pending),
        };
        let ordering = match self.direction {
            Direction::Forward => ordering,
            Direction::Backward => ordering.reverse(),
        };
        Some(match ordering {
            std::cmp::Ordering::Less => Turn::Base,
            std::cmp::Ordering::Greater => Turn::Pending,
            std::cmp::Ordering::Equal => Turn::Both,
        })
    }
}

impl Iterator for Merged<'_> {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.turn()? {
                Turn::Base => return self.base.next(),
                Turn::Pending => {}
                Turn::Both => {
                    self.base.next();
                }
            }
            if let Some((key, Some(value))) = self.pending.next() {
                return Some(Ok((key.clone(), value.clone())));
            }
        }
    }
}
