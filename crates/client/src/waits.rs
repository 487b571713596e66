//! Calls that take long: telling somebody what they wait for.
//!
//! A call tries again, in silence, until its deadline. Who gave an [`OnWait`] hears of it after a while, and why the last attempt failed as soon as one has.

use parking_lot::Mutex;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// A call that takes long.
#[derive(Clone, Debug)]
pub struct Wait {
    /// What is waited for.
    pub what: String,
    /// Why the last attempt failed; none when the first one has not ended.
    pub cause: Option<String>,
    /// How long it may take in all.
    pub deadline: Duration,
}

/// Told of a call that takes long: once, and once more when its first failed attempt comes to be known later.
#[derive(Clone)]
pub struct OnWait {
    after: Duration,
    tell: Arc<dyn Fn(&Wait) + Send + Sync>,
}

impl OnWait {
    /// Has `tell` called for each call that takes longer than `after`. It must not block.
    pub fn new(after: Duration, tell: impl Fn(&Wait) + Send + Sync + 'static) -> OnWait {
        OnWait { after, tell: Arc::new(tell) }
    }
}

impl fmt::Debug for OnWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnWait").field("after", &self.after).finish_non_exhaustive()
    }
}

/// Why the last attempt of a call failed.
#[derive(Debug, Default)]
pub(crate) struct Cause {
    text: Mutex<Option<String>>,
    known: Notify,
}

impl Cause {
    /// Forgets: an attempt has succeeded.
    pub(crate) fn clear(&self) {
        *self.text.lock() = None;
    }

    fn get(&self) -> Option<String> {
        self.text.lock().clone()
    }

    /// Notes a failed attempt.
    pub(crate) fn set(&self, text: String) {
        *self.text.lock() = Some(text);
        self.known.notify_one();
    }
}

/// Whether it is worth telling that a call takes long when nothing has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slowness {
    /// It should have been done by now.
    Odd,
    /// It moves much data: only a failed attempt is told.
    Expected,
}

/// Runs a call, and tells when it takes long. The call stays where it is pinned: futures of calls are large, and moved ones count twice.
pub(crate) async fn watch<T>(
    on_wait: Option<&OnWait>,
    slowness: Slowness,
    deadline: Duration,
    cause: &Cause,
    what: impl Fn() -> String,
    mut work: Pin<&mut impl Future<Output = T>>,
) -> T {
    let Some(OnWait { after, tell }) = on_wait else { return work.await };
    if let Ok(done) = tokio::time::timeout(*after, work.as_mut()).await {
        return done;
    }
    let say = |cause: Option<String>| tell(&Wait { what: what(), cause, deadline });
    let known = cause.get();
    let is_known = known.is_some();
    if is_known || slowness == Slowness::Odd {
        say(known);
    }
    if is_known {
        return work.await;
    }
    let failed = async {
        loop {
            cause.known.notified().await;
            if let Some(cause) = cause.get() {
                return cause;
            }
        }
    };
    tokio::select! {
        done = work.as_mut() => done,
        cause = failed => {
            say(Some(cause));
            work.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is told of a call whose attempts failed so before it was told the first time, and after it.
    async fn check(slowness: Slowness, after: Duration, failures: [&[&str]; 2], expected: &[Option<&str>]) {
        let (told, step) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
        let (heard, stepped) = (told.clone(), step.clone());
        let on_wait = OnWait::new(after, move |wait| {
            heard.lock().push(wait.cause.clone());
            stepped.notify_one();
        });
        let cause = Cause::default();
        let work = async {
            failures[0].iter().for_each(|text| cause.set((*text).to_owned()));
            if !expected.is_empty() {
                step.notified().await;
            }
            failures[1].iter().for_each(|text| cause.set((*text).to_owned()));
            if expected.len() > 1 {
                step.notified().await;
            }
        };
        let (deadline, what) = (Duration::from_secs(60), || "it".to_owned());
        watch(Some(&on_wait), slowness, deadline, &cause, what, std::pin::pin!(work)).await;
        let told: Vec<_> = told.lock().clone();
        assert_eq!(told.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{failures:?}");
    }

    #[tokio::test]
    async fn long_calls_are_told_with_their_cause() {
        use Slowness::{Expected, Odd};
        let hour = Duration::from_secs(3600);
        check(Odd, hour, [&[], &[]], &[]).await;
        check(Odd, hour, [&["refused"], &[]], &[]).await;
        check(Odd, Duration::ZERO, [&["refused", "reset"], &["silent"]], &[Some("reset")]).await;
        check(Odd, Duration::ZERO, [&[], &[]], &[None]).await;
        check(Odd, Duration::ZERO, [&[], &["refused"]], &[None, Some("refused")]).await;
        check(Expected, Duration::ZERO, [&[], &[]], &[]).await;
        check(Expected, Duration::ZERO, [&["refused"], &["silent"]], &[Some("refused")]).await;
    }
}
