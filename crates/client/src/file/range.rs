//! Reading a range within one block: from one worker after the other, until the bytes are there.
//!
//! The workers are asked in their rank. One that cannot be reached, breaks off, stays silent or sends wrong bytes is left for the
//! next, from the byte reached; what has been handed out is never asked again. When all have been asked, the store itself is (`direct`);
//! where that is no help, the list of workers is fetched anew and a further round begins with twice the patience, until the deadline: what is slow
//! today must not fail a read that patience would have served.

use super::FileInner;
use super::direct::{DirectRead, Trouble};
use super::opened::{Opened, RenewError};
use crate::data::fault::Fault;
use crate::data::pool::Freshness;
use crate::data::read::RangeRead;
use crate::direct::Direct;
use crate::error::Error;
use crate::metrics;
use crate::rpc::Backoff;
use crate::types::ReadType;
use crate::workers::{Near, Worker};
use bytes::Bytes;
use forebay_base::{BlockId, ErrorKind};
use forebay_proto::error::WireError;
use forebay_proto::frame::ReadHead;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Why a read failed.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The store has another version of the file, or none.
    Conflict(Error),
    /// All that could be done was done.
    Final(Error),
}

/// A range on its way.
pub(crate) struct RangeReader {
    pub(super) file: Arc<FileInner>,
    pub(super) opened: Arc<Opened>,
    block: BlockId,
    /// What is still to come.
    pub(super) range: Range<u64>,
    read_ahead: u64,
    read: Option<RangeRead>,
    ticket: Bytes,
    pub(super) attempt: Attempt,
    /// The rest comes from the store itself.
    pub(super) store: Option<DirectRead>,
    /// Why the store was no help.
    pub(super) trouble: Option<Trouble>,
}

/// Who is asked, and how.
pub(super) struct Attempt {
    workers: Vec<Arc<Worker>>,
    at: usize,
    round: u32,
    backoff: Backoff,
    freshness: Freshness,
    verify: bool,
    renewed: bool,
    /// Some worker, or the store, failed in this round in a way that may pass.
    pub(super) may_pass: bool,
    /// Some worker could not in this round because of others: it said so, or all our connections to it were in use.
    pub(super) is_busy: bool,
    /// What the last worker that was asked did, and who that was.
    last: Option<(Fault, Option<Arc<Worker>>)>,
}

impl RangeReader {
    /// `range` must not be empty, lie within one block, and start or end anywhere.
    pub(crate) fn new(file: Arc<FileInner>, opened: Arc<Opened>, range: Range<u64>, read_ahead: u64) -> RangeReader {
        let (block, _) = opened.block_at(range.start);
        let attempt = Attempt::of(first_asked(&file, block));
        let ticket = opened.ticket();
        RangeReader { file, opened, block, range, read_ahead, read: None, ticket, attempt, store: None, trouble: None }
    }

    /// Fills `out` with the next bytes. It must end where a checksum chunk ends or at the end of the range.
    pub(crate) async fn fill(&mut self, out: &mut [u8], deadline: Instant) -> Result<(), ReadError> {
        let mut filled = 0;
        while filled < out.len() {
            if let Some(store) = self.store.take() {
                // Boxed: reads that workers serve need no room for it.
                Box::pin(self.fill_from_store(store, out, &mut filled, deadline)).await?;
                continue;
            }
            let before = filled;
            let result = self.ask(out, &mut filled, deadline).await;
            self.range.start += (filled - before) as u64;
            metrics::remote_bytes().increment((filled - before) as u64);
            if let Err(fault) = result {
                self.recover(fault, deadline).await?;
            }
        }
        if self.range.is_empty()
            && let Some(read) = self.read.take()
            && let Err(fault) = read.finish()
        {
            // All bytes were there and right.
            tracing::debug!(%fault, "the end of an answer was wrong");
        }
        Ok(())
    }

    async fn ask(&mut self, out: &mut [u8], filled: &mut usize, deadline: Instant) -> Result<(), Fault> {
        let patience = self.patience(deadline);
        let Some(worker) = self.attempt.worker() else {
            return Err(no_worker());
        };
        if self.read.is_none() {
            let connection = worker.pool.get(self.attempt.freshness, patience).await?;
            self.read = Some(RangeRead::start(connection, &self.head(), patience).await?);
        }
        let read = self.read.as_mut().expect("just made");
        // A worker that waits for its store shows signs of life, for ever perhaps.
        let fill = read.fill(out, filled, patience);
        tokio::time::timeout_at(deadline, fill).await.unwrap_or(Err(Fault::Silent(patience)))?;
        worker.health.succeeded();
        self.file.cause.clear();
        Ok(())
    }

    fn head(&self) -> ReadHead {
        ReadHead {
            ticket: self.ticket.clone(),
            offset: self.range.start,
            length: self.range.end - self.range.start,
            read_ahead: self.read_ahead,
            verify: self.attempt.verify,
            no_cache: self.file.read_type == ReadType::NoCache,
            promote: self.file.read_type == ReadType::CachePromote,
            ..ReadHead::default()
        }
    }

    fn patience(&self, deadline: Instant) -> Duration {
        let silence = self.file.client.config.deadlines.worker_silence;
        let grown = silence.saturating_mul(1 << self.attempt.round.min(16));
        grown.min(deadline.saturating_duration_since(Instant::now()))
    }

    /// Decides what to do after a fault: returns to ask again, or gives up.
    async fn recover(&mut self, fault: Fault, deadline: Instant) -> Result<(), ReadError> {
        let stale = self.read.take().is_some_and(|read| read.may_be_stale());
        match &fault {
            Fault::Broken(_) if stale && self.attempt.freshness == Freshness::Any => {
                self.attempt.freshness = Freshness::New;
                return Ok(());
            }
            Fault::Broken(_) | Fault::Silent(_) | Fault::Trickle { .. } => {
                let now = Instant::now();
                // A worker that had no time to answer has not failed.
                if let Some(worker) = self.attempt.worker().filter(|_| now < deadline) {
                    worker.health.failed(now, fault.cost());
                }
                self.file.client.workers.refresh_in_background();
                self.attempt.may_pass = true;
            }
            Fault::Crowded(_) => {
                self.attempt.may_pass = true;
                self.attempt.is_busy = true;
            }
            Fault::BadChecksum { .. } => {
                metrics::checksum_errors().increment(1);
                if !self.attempt.verify {
                    self.attempt.verify = true;
                    return Ok(());
                }
            }
            Fault::Refused(error) => {
                if self.refused(error).await? == Then::AskAgain {
                    return Ok(());
                }
            }
        }
        self.next_worker(fault, deadline).await
    }

    async fn refused(&mut self, error: &WireError) -> Result<Then, ReadError> {
        match error.kind {
            ErrorKind::Conflict | ErrorKind::NotFound => Err(ReadError::Conflict(error.clone().into())),
            ErrorKind::PermissionDenied if !self.attempt.renewed => {
                self.attempt.renewed = true;
                self.renew(error).await?;
                Ok(Then::AskAgain)
            }
            ErrorKind::Unavailable | ErrorKind::DeadlineExceeded => {
                self.attempt.may_pass = true;
                self.attempt.is_busy = true;
                Ok(Then::AskNext)
            }
            _ => Ok(Then::AskNext),
        }
    }

    /// Gets a new ticket: most tickets that are refused have expired.
    async fn renew(&mut self, error: &WireError) -> Result<(), ReadError> {
        match self.opened.renew(&self.file.client, &self.ticket).await {
            Ok(()) => {
                self.ticket = self.opened.ticket();
                Ok(())
            }
            Err(RenewError::Changed) => Err(ReadError::Conflict(error.clone().into())),
            Err(RenewError::Failed(error)) => Err(ReadError::Final(error)),
        }
    }

    async fn next_worker(&mut self, fault: Fault, deadline: Instant) -> Result<(), ReadError> {
        tracing::debug!(
            worker = self.attempt.worker().map_or("", |worker| &worker.info.data),
            %fault, block = ?self.block, offset = self.range.start, "read goes on with the next worker"
        );
        metrics::worker_failures().increment(1);
        self.file.cause.set(fault.to_string());
        self.attempt.leave(fault, Instant::now() >= deadline);
        if self.attempt.worker().is_none() {
            return self.end_round(deadline).await;
        }
        match Instant::now() < deadline {
            true => Ok(()),
            false => Err(ReadError::Final(self.gave_up())),
        }
    }

    /// All workers have been asked in vain.
    async fn end_round(&mut self, deadline: Instant) -> Result<(), ReadError> {
        match Box::pin(self.turn_to_store(deadline)).await? {
            true => Ok(()),
            false => self.next_round(deadline).await,
        }
    }

    /// Asks all workers again after a pause, or gives up.
    pub(super) async fn next_round(&mut self, deadline: Instant) -> Result<(), ReadError> {
        let wait = self.attempt.backoff.next();
        if !self.attempt.may_pass || Instant::now() + wait >= deadline {
            return Err(ReadError::Final(self.gave_up()));
        }
        let refreshed = self.file.client.workers.refresh();
        let _ = tokio::time::timeout_at(deadline, refreshed).await;
        tokio::time::sleep(wait).await;
        self.attempt.begin_round(self.file.client.workers.table().ranked(self.block, Near::First).workers);
        Ok(())
    }

    fn gave_up(&mut self) -> Error {
        let what = format!("cannot read {} at {}", self.opened.entry.path, self.range.start);
        let (fault, worker) = self.attempt.last.take().unwrap_or_else(|| (no_worker(), None));
        let error = fault.into_error();
        let hint = match error.kind() {
            ErrorKind::Unavailable if error.hint().is_empty() => {
                "check that workers run and are reached: forebay status"
            }
            _ => "",
        };
        let error = match hint {
            "" => error,
            hint => error.with_hint(hint),
        };
        let error = match &self.trouble {
            Some(trouble) => error.and("nor from its store", &trouble.error),
            None => error,
        };
        match worker {
            Some(worker) => error.context(format_args!("{what}: worker {}", worker.info.data)),
            None => error.context(what),
        }
    }
}

fn no_worker() -> Fault {
    Fault::Broken("there is no live worker".to_owned())
}

/// The workers of the first round: all, but for those that would cost time in vain when the store can be read meanwhile.
fn first_asked(file: &FileInner, block: BlockId) -> Vec<Arc<Worker>> {
    let ranked = file.client.workers.table().ranked(block, Near::First);
    match file.client.direct.as_ref().is_some_and(Direct::works) {
        true => ranked.without_waste().workers,
        false => ranked.workers,
    }
}

#[derive(PartialEq, Eq)]
enum Then {
    AskAgain,
    AskNext,
}

impl Attempt {
    fn worker(&self) -> Option<&Arc<Worker>> {
        self.workers.get(self.at)
    }

    fn of(workers: Vec<Arc<Worker>>) -> Attempt {
        Attempt {
            workers,
            at: 0,
            round: 0,
            backoff: Backoff::new(),
            freshness: Freshness::Any,
            verify: false,
            renewed: false,
            may_pass: false,
            is_busy: false,
            last: None,
        }
    }

    /// Goes on to the next worker. That the last one had no time left says less than what another one has answered, of the store, say.
    fn leave(&mut self, fault: Fault, out_of_time: bool) {
        let before = self.last.as_ref().map(|(fault, _)| fault);
        if !(out_of_time && fault.says_less_than(before)) {
            self.last = Some((fault, self.worker().cloned()));
        }
        self.at += 1;
        self.verify = false;
        self.freshness = Freshness::Any;
    }

    fn begin_round(&mut self, workers: Vec<Arc<Worker>>) {
        self.workers = workers;
        self.at = 0;
        self.round += 1;
        self.renewed = false;
        self.may_pass = false;
        self.is_busy = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_has_said_of_the_store_is_not_hidden_by_one_without_time() {
        let refused = || Fault::Refused(WireError::new(ErrorKind::Unavailable, "cannot read s3://b/k: no answer"));
        let silent = || Fault::Silent(Duration::from_secs(15));
        let told = |faults: Vec<(Fault, bool)>| {
            let mut attempt = Attempt::of(Vec::new());
            faults.into_iter().for_each(|(fault, out_of_time)| attempt.leave(fault, out_of_time));
            attempt.last.unwrap().0.to_string()
        };
        assert!(told(vec![(refused(), false), (silent(), true)]).contains("s3://b/k"));
        assert!(told(vec![(refused(), false), (silent(), false)]).contains("silent"), "that one has failed");
        assert!(told(vec![(silent(), false), (silent(), true)]).contains("silent"));
    }
}
