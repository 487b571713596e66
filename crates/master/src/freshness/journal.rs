//! What a leader tells other masters of its comparisons with stores: the last ones, by number, in memory of a fixed size.
//!
//! A reader that has missed an event that made something forgotten begins anew; one that has missed comparisons alone knows less than the
//! leader and asks it once more. Nothing is kept before the first reader comes.

use super::What;
use bytes::Bytes;
use forebay_base::{MountId, NsPath};
use forebay_proto::v1::{SyncNote, SyncNoteKind};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Events that are kept: what a leader with 8,000 comparisons a second makes in half a second.
const EVENTS_MAX: usize = 4096;
/// Bytes of their paths: one answer carries them all.
const PATH_BYTES_MAX: usize = 512 << 10;

/// Something that changes what counts as compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something was compared; the store was asked at that moment.
    Compared { mount: MountId, what: What, path: NsPath, asked: Instant },
    /// Nothing is known of a path and of its entries.
    Forgotten { mount: MountId, path: NsPath },
    /// Nor of all that lies below it.
    TreeForgotten { mount: MountId, path: NsPath },
    /// Nor of a whole mount.
    MountForgotten { mount: MountId },
}

impl Event {
    fn path_bytes(&self) -> usize {
        match self {
            Event::Compared { path, .. } | Event::Forgotten { path, .. } | Event::TreeForgotten { path, .. } => {
                path.as_bytes().len()
            }
            Event::MountForgotten { .. } => 0,
        }
    }

    /// For another master, whose clock is another one: as an age.
    pub(crate) fn into_wire(self, now: Instant) -> SyncNote {
        let note = |kind: SyncNoteKind, mount: MountId, path: Bytes| SyncNote {
            mount: mount.0,
            kind: kind.into(),
            path,
            age_us: 0,
        };
        match self {
            Event::Compared { mount, what, path, asked } => {
                let kind = match what {
                    What::Path => SyncNoteKind::PathCompared,
                    What::Entries => SyncNoteKind::EntriesCompared,
                    What::Found => SyncNoteKind::FoundCompared,
                };
                // A part of a microsecond more makes it older, never younger.
                let age_us = now.saturating_duration_since(asked).as_micros() as u64 + 1;
                SyncNote { age_us, ..note(kind, mount, path.to_bytes()) }
            }
            Event::Forgotten { mount, path } => note(SyncNoteKind::PathForgotten, mount, path.to_bytes()),
            Event::TreeForgotten { mount, path } => note(SyncNoteKind::TreeForgotten, mount, path.to_bytes()),
            Event::MountForgotten { mount } => note(SyncNoteKind::MountForgotten, mount, Bytes::new()),
        }
    }

    fn forgets(&self) -> bool {
        !matches!(self, Event::Compared { .. })
    }
}

/// The last events of one lead.
pub(crate) struct Journal {
    /// Names it: another lead has another one.
    id: u64,
    is_read: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    events: VecDeque<Event>,
    /// The number of the first of them; numbers begin at 1.
    first: u64,
    path_bytes: usize,
    /// The number after the last event that made something forgotten and is not kept any more.
    forgotten_before: u64,
}

/// What a reader gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of the journal.
    pub(crate) lead: u64,
    /// To be given with the next question.
    pub(crate) next: u64,
    /// What was told before counts no more.
    pub(crate) anew: bool,
    /// In order.
    pub(crate) events: Vec<Event>,
}

impl Journal {
    pub(crate) fn new() -> Journal {
        let kept = Kept { first: 1, ..Kept::default() };
        // Zero is who has no lead yet.
        Journal { id: rand::random_range(1..=u64::MAX), is_read: AtomicBool::new(false), kept: Mutex::new(kept) }
    }

    /// Whether anybody has ever asked: until then nothing needs to be noted.
    pub(crate) fn is_read(&self) -> bool {
        self.is_read.load(Ordering::Acquire)
    }

    /// Keeps an event, if anybody reads.
    pub(crate) fn note(&self, event: Event) {
        if self.is_read() {
            self.kept.lock().push(event);
        }
    }

    /// Keeps an event, if anybody reads and it holds still: what was forgotten before the look is among the events before it, or is found by the look.
    pub(crate) fn note_if(&self, holds: impl FnOnce() -> bool, event: impl FnOnce() -> Event) {
        if !self.is_read() {
            return;
        }
        let mut kept = self.kept.lock();
        if holds() {
            kept.push(event());
        }
    }

    /// The events from number `next` of the journal `lead` on.
    pub(crate) fn since(&self, lead: u64, next: u64) -> Told {
        let kept = self.kept.lock();
        self.is_read.store(true, Ordering::Release);
        let end = kept.first + kept.events.len() as u64;
        let anew = lead != self.id || next > end || next < kept.forgotten_before;
        let skipped = if anew { 0 } else { next.saturating_sub(kept.first) as usize };
        let events = kept.events.iter().skip(skipped).cloned().collect();
        Told { lead: self.id, next: end, anew, events }
    }
}

impl Kept {
    fn push(&mut self, event: Event) {
        self.path_bytes += event.path_bytes();
        self.events.push_back(event);
        while self.events.len() > EVENTS_MAX || self.path_bytes > PATH_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else { break };
            self.path_bytes -= oldest.path_bytes();
            self.first += 1;
            if oldest.forgets() {
                self.forgotten_before = self.first;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNT: MountId = MountId(1);

    fn compared(n: usize) -> Event {
        Event::Compared {
            mount: MOUNT,
            what: What::Path,
            path: format!("/{n}").parse().unwrap(),
            asked: Instant::now(),
        }
    }

    #[test]
    fn a_reader_gets_each_event_once_and_in_order() {
        let journal = Journal::new();
        journal.note(compared(0));
        let first = journal.since(0, 0);
        assert!(first.anew && first.events.is_empty(), "nothing is kept before somebody reads");
        let events = [compared(1), Event::MountForgotten { mount: MOUNT }, compared(2)];
        events.iter().cloned().for_each(|event| journal.note(event));
        let second = journal.since(first.lead, first.next);
        assert_eq!((second.anew, &second.events[..]), (false, &events[..]));
        let third = journal.since(second.lead, second.next);
        assert_eq!((third.anew, third.events.len()), (false, 0));
        assert_eq!(journal.since(second.lead, first.next).events, events, "an answer that was lost is given again");
        assert!(journal.since(second.lead + 1, second.next).anew, "another lead");
        assert!(journal.since(second.lead, second.next + 1).anew);
    }

    #[test]
    fn who_missed_comparisons_goes_on_and_who_missed_a_forgetting_begins_anew() {
        let journal = Journal::new();
        let start = journal.since(0, 0);
        (0..2 * EVENTS_MAX).for_each(|n| journal.note(compared(n)));
        let behind = journal.since(start.lead, start.next);
        assert_eq!((behind.anew, behind.events.len()), (false, EVENTS_MAX));
        journal.note(Event::MountForgotten { mount: MOUNT });
        (0..2 * EVENTS_MAX).for_each(|n| journal.note(compared(n)));
        assert!(journal.since(behind.lead, behind.next).anew);
        let after = behind.next + 1;
        assert!(!journal.since(behind.lead, after).anew, "who has heard of it goes on");
    }

    #[test]
    fn long_paths_are_bounded_too() {
        let journal = Journal::new();
        journal.since(0, 0);
        let path: NsPath = format!("/{}", vec!["x".repeat(200); 15].join("/")).parse().unwrap();
        let length = path.as_bytes().len();
        (0..EVENTS_MAX).for_each(|_| journal.note(Event::Forgotten { mount: MOUNT, path: path.clone() }));
        let told = journal.since(0, 0);
        assert!(told.events.len() * length <= PATH_BYTES_MAX && (told.events.len() + 1) * length > PATH_BYTES_MAX);
    }
}
