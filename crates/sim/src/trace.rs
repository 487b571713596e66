//! What has happened, in order: for whoever looks for a cause, and as one number that tells two runs apart.

use std::collections::VecDeque;
use std::fmt::{Display, Write as _};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use forebay_vtime::elapsed;
use parking_lot::Mutex;

/// Older events are forgotten; the digest has all of them.
const EVENTS_MAX: usize = 400_000;

/// The events of a run; clones are the same ones.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Events>>);

#[derive(Default)]
struct Events {
    lines: VecDeque<String>,
    digest: u64,
    count: u64,
}

impl Trace {
    /// Something has happened now.
    pub fn note(&self, what: impl Display) {
        let mut line = String::new();
        // Writing into a string cannot fail.
        let _ = write!(line, "{:>12.6} {what}", elapsed().as_secs_f64());
        let mut events = self.0.lock();
        let mut hasher = DefaultHasher::new();
        (events.digest, &line).hash(&mut hasher);
        events.digest = hasher.finish();
        events.count += 1;
        if events.lines.len() == EVENTS_MAX {
            events.lines.pop_front();
        }
        events.lines.push_back(line);
    }

    /// Equal only for equal events at equal times.
    pub fn digest(&self) -> u64 {
        self.0.lock().digest
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.0.lock().count
    }

    /// The last `count` events.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let events = self.0.lock();
        events.lines.iter().skip(events.lines.len().saturating_sub(count)).cloned().collect()
    }
}
