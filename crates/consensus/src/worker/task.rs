//! As a task of a simulated host, each step of which takes as long as work takes there.

use forebay_vtime::{Host, sleep, spawn};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::Work;

/// Starts a task that works until its queue is closed and empty.
pub(super) fn start<W: Work>(mut work: W) -> UnboundedSender<W::Job> {
    let (jobs, mut queue) = unbounded_channel();
    spawn(async move {
        let mut held = None;
        loop {
            let job = match held.take() {
                Some(job) => job,
                None => match queue.recv().await {
                    Some(job) => job,
                    None => return,
                },
            };
            sleep(Host::current().work_takes()).await;
            held = work.work(job, &mut || queue.try_recv().ok());
        }
    });
    jobs
}
