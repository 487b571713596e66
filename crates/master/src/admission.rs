//! Who may be served: each class of request has its own bounded queue, so that no class starves another.
//!
//! A class has `running` places and `waiting` ones. A request beyond both is refused at once with `unavailable`, which the client
//! retries after a pause; heartbeats go on while a thousand clients list.

use crate::metrics::names;
use forebay_base::ErrorKind;
use forebay_proto::error::WireError;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Stat, list, open, content summary.
    Read,
    /// What changes the namespace: most of it waits for a store.
    Write,
    /// Renewals of writers' leases. They wait for the log alone, and must not wait behind those who wait for a store.
    Renewal,
    /// Workers' registrations and heartbeats.
    Heartbeat,
    /// Mounts, status, the list of workers.
    Administration,
}

impl Class {
    /// In the order of their declaration, so that `class as usize` is a place in it.
    pub(crate) const ALL: [Class; 5] =
        [Class::Read, Class::Write, Class::Renewal, Class::Heartbeat, Class::Administration];

    /// The class in metrics and messages.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Renewal => "renewal",
            Class::Heartbeat => "heartbeat",
            Class::Administration => "administration",
        }
    }
}

/// The places of one class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimit {
    /// Requests served at a time.
    pub running: usize,
    /// Requests that wait for a place beyond those.
    pub waiting: usize,
}

/// The places of every class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For `Class::Read`.
    pub read: ClassLimit,
    /// For `Class::Write`.
    pub write: ClassLimit,
    /// For `Class::Renewal`.
    pub renewal: ClassLimit,
    /// For `Class::Heartbeat`.
    pub heartbeat: ClassLimit,
    /// For `Class::Administration`.
    pub administration: ClassLimit,
}

impl Default for Limits {
    /// Many at a time, since most of a request's time is waiting for a store or the log's disk; a waiting request costs about 1 KiB.
    fn default() -> Self {
        Limits {
            read: ClassLimit { running: 1024, waiting: 8192 },
            write: ClassLimit { running: 1024, waiting: 8192 },
            renewal: ClassLimit { running: 1024, waiting: 8192 },
            heartbeat: ClassLimit { running: 64, waiting: 4096 },
            administration: ClassLimit { running: 16, waiting: 256 },
        }
    }
}

struct Queue {
    class: Class,
    limit: ClassLimit,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// The queues of all classes.
pub(crate) struct Admission {
    queues: [Queue; 5],
}

/// A place taken; dropping it lets the next request in.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Admission {
    /// Queues with these limits; a class has one place at least.
    pub(crate) fn new(limits: Limits) -> Admission {
        let queues = Class::ALL.map(|class| {
            let limit = match class {
                Class::Read => limits.read,
                Class::Write => limits.write,
                Class::Renewal => limits.renewal,
                Class::Heartbeat => limits.heartbeat,
                Class::Administration => limits.administration,
            };
            Queue { class, limit, places: Arc::new(Semaphore::new(limit.running.max(1))), waiting: AtomicUsize::new(0) }
        });
        Admission { queues }
    }

    /// Waits for a place, or refuses when too many wait already. Dropping the future leaves the queue.
    pub(crate) async fn enter(&self, class: Class) -> Result<Place, WireError> {
        let queue = &self.queues[class as usize];
        if let Ok(permit) = Arc::clone(&queue.places).try_acquire_owned() {
            return Ok(Place { _permit: permit });
        }
        let _turn = queue.wait().ok_or_else(|| queue.full())?;
        let permit = Arc::clone(&queue.places).acquire_owned().await.expect("the semaphore is never closed");
        Ok(Place { _permit: permit })
    }
}

/// One waiting request in the count.
struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Queue {
    fn wait(&self) -> Option<Turn<'_>> {
        let turn = Turn(&self.waiting);
        // The turn counts itself; when it is one too many, dropping it takes that back.
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.limit.waiting).then_some(turn)
    }

    fn full(&self) -> WireError {
        metrics::counter!(names::REQUESTS_REFUSED, "class" => self.class.as_str()).increment(1);
        WireError::new(
            ErrorKind::Unavailable,
            format!(
                "the master serves {} {} requests and {} more wait",
                self.limit.running,
                self.class.as_str(),
                self.limit.waiting
            ),
        )
        .with_hint("the master has as many of these requests as it takes at one time: try again in a moment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn limits(running: usize, waiting: usize) -> Limits {
        let limit = ClassLimit { running, waiting };
        Limits { read: limit, write: limit, renewal: limit, heartbeat: limit, administration: limit }
    }

    #[tokio::test]
    async fn a_full_class_refuses_and_others_go_on() {
        let admission = Admission::new(limits(1, 1));
        let first = admission.enter(Class::Read).await.unwrap();
        let mut second = Box::pin(admission.enter(Class::Read));
        assert!(second.as_mut().now_or_never().is_none(), "has to wait");
        let error = admission.enter(Class::Read).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.hint.contains("try again"), "{}", error.hint);
        assert!(admission.enter(Class::Heartbeat).await.is_ok());
        drop(first);
        assert!(second.await.is_ok());
    }

    #[tokio::test]
    async fn leaving_the_queue_makes_room() {
        let admission = Admission::new(limits(1, 1));
        let _first = admission.enter(Class::Write).await.unwrap();
        let mut waiting = Box::pin(admission.enter(Class::Write));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(waiting);
        let mut next = Box::pin(admission.enter(Class::Write));
        assert!(next.as_mut().now_or_never().is_none(), "waits, not refused");
    }
}
