//! Tells in the log when a store stops to answer, and when it answers again: once each, however many calls fail meanwhile.

use crate::UfsError;
use forebay_base::ErrorKind;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A store that fails and works by turns is told of no more often.
const PAUSE: Duration = Duration::from_secs(60);

/// Whether a store answers.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    /// Its failure was told, and not its end.
    is_told: AtomicBool,
    told: Mutex<Option<Instant>>,
}

impl Trouble {
    /// Notes the outcome of a call: what the store answered, an error or not.
    pub(crate) fn note(&self, store: &str, outcome: Option<&UfsError>) {
        match outcome {
            Some(error) if is_away(error) => {
                if self.begins(Instant::now()) {
                    tracing::warn!(store, %error, "a store does not answer: what is not cached of it is unavailable");
                }
            }
            _ => {
                if self.is_told.load(Ordering::Relaxed) && self.is_told.swap(false, Ordering::Relaxed) {
                    tracing::info!(store, "a store answers again");
                }
            }
        }
    }

    /// Whether the failure is to be told now.
    fn begins(&self, now: Instant) -> bool {
        if self.is_told.load(Ordering::Relaxed) {
            return false;
        }
        let mut told = self.told.lock();
        if told.is_some_and(|then| now.saturating_duration_since(then) < PAUSE) {
            return false;
        }
        *told = Some(now);
        !self.is_told.swap(true, Ordering::Relaxed)
    }
}

fn is_away(error: &UfsError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_is_told_once_and_a_flapping_store_once_a_minute() {
        let (trouble, start) = (Trouble::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(trouble.begins(start));
        assert!(!trouble.begins(after(1)) && !trouble.begins(after(600)), "it is told");
        trouble.note("s", None);
        assert!(trouble.begins(after(601)));
        trouble.note("s", None);
        assert!(!trouble.begins(after(602)), "too soon");
        assert!(trouble.begins(after(662)));
    }
}
