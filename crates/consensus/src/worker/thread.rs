//! On a thread.

use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use super::Work;
use crate::error::OpenError;

/// Starts a thread that works until its queue is closed and empty.
pub(super) fn start<W: Work>(name: &str, mut work: W) -> Result<(Sender<W::Job>, JoinHandle<()>), OpenError> {
    let (jobs, queue) = channel();
    let run = move || {
        let mut held = None;
        while let Some(job) = held.take().or_else(|| queue.recv().ok()) {
            held = work.work(job, &mut || queue.try_recv().ok());
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    let thread = thread.map_err(|e| OpenError::Start { reason: format!("cannot start a thread: {e}") })?;
    Ok((jobs, thread))
}
