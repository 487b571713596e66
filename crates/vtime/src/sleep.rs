//! Waiting for a time on the clock of a host.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::executor::{self, TimerKey};
use crate::host::{Host, current};

/// Ends at a time on its host's clock.
pub struct Sleep {
    host: Host,
    deadline: Duration,
    timer: Option<TimerKey>,
}

/// Ends when so much time has passed on the clock of the current host.
pub fn sleep(time: Duration) -> Sleep {
    let host = current();
    Sleep { deadline: host.now().saturating_add(time), host, timer: None }
}

/// Ends when the clock of the current host shows `deadline`.
pub fn sleep_until(deadline: Duration) -> Sleep {
    Sleep { host: current(), deadline, timer: None }
}

impl Sleep {
    fn unset(&mut self) {
        if let Some(timer) = self.timer.take()
            && let Some(executor) = executor::if_any()
        {
            executor.unset_timer(timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.unset();
        if self.host.now() >= self.deadline {
            return Poll::Ready(());
        }
        let at = self.host.true_at(self.deadline);
        self.timer = Some(executor::current().set_timer(at, self.host.number(), context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.unset();
    }
}
