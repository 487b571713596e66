//! Reading a range within one block: from one worker after the other, until the bytes are there.
//!
//! The workers are asked in their rank. One that cannot be reached, breaks off, stays silent or sends wrong bytes is left for the
//! next, from the byte reached; what has been handed out is never asked again. When all have been asked, the list of
//! workers is fetched anew and a further round begins with twice the patience, until the deadline: a store that is slow today makes
//! all workers silent, and must not fail a read that patience would have served.

use super::FileInner;
use super::opened::{Opened, RenewError};
use crate::data::fault::Fault;
use crate::data::pool::Freshness;
use crate::data::read::RangeRead;
use crate::error::Error;
use crate::metrics;
use crate::rpc::Backoff;
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
    file: Arc<FileInner>,
    opened: Arc<Opened>,
    block: BlockId,
    /// What is still to come.
    range: Range<u64>,
    read_ahead: u64,
    read: Option<RangeRead>,
    ticket: Bytes,
    attempt: Attempt,
}

/// Who is asked, and how.
struct Attempt {
    workers: Vec<Arc<Worker>>,
    at: usize,
    round: u32,
    backoff: Backoff,
    freshness: Freshness,
    verify: bool,
    renewed: bool,
    /// Some worker failed in this round in a way that may pass.
    may_pass: bool,
}

impl RangeReader {
    /// `range` must not be empty, lie within one block, and start or end anywhere.
    pub(crate) fn new(file: Arc<FileInner>, opened: Arc<Opened>, range: Range<u64>, read_ahead: u64) -> RangeReader {
        let (block, _) = opened.block_at(range.start);
        let attempt = Attempt {
            workers: file.client.workers.table().ranked(block, Near::First),
            at: 0,
            round: 0,
            backoff: Backoff::new(),
            freshness: Freshness::Any,
            verify: false,
            renewed: false,
            may_pass: false,
        };
        RangeReader { ticket: opened.ticket(), file, opened, block, range, read_ahead, read: None, attempt }
    }

    /// Fills `out` with the next bytes. It must end where a checksum chunk ends or at the end of the range.
    pub(crate) async fn fill(&mut self, out: &mut [u8], deadline: Instant) -> Result<(), ReadError> {
        let mut filled = 0;
        while filled < out.len() {
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
            return Err(Fault::Broken("there is no live worker".to_owned()));
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
        Ok(())
    }

    fn head(&self) -> ReadHead {
        ReadHead {
            ticket: self.ticket.clone(),
            offset: self.range.start,
            length: self.range.end - self.range.start,
            read_ahead: self.read_ahead,
            verify: self.attempt.verify,
            no_cache: self.file.no_cache,
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
            Fault::Broken(_) | Fault::Silent(_) => {
                let now = Instant::now();
                // A worker that had no time to answer has not failed.
                if let Some(worker) = self.attempt.worker().filter(|_| now < deadline) {
                    worker.health.failed(now);
                }
                self.file.client.workers.refresh_in_background();
                self.attempt.may_pass = true;
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
        let failed = self.attempt.worker().cloned();
        self.attempt.at += 1;
        self.attempt.verify = false;
        self.attempt.freshness = Freshness::Any;
        let round_over = self.attempt.at >= self.attempt.workers.len();
        let passes = self.attempt.may_pass;
        let wait = match round_over {
            true => self.attempt.backoff.next(),
            false => Duration::ZERO,
        };
        if (round_over && !passes) || Instant::now() + wait >= deadline {
            return Err(ReadError::Final(self.gave_up(fault, failed.as_deref())));
        }
        if round_over {
            let refreshed = self.file.client.workers.refresh();
            let _ = tokio::time::timeout_at(deadline, refreshed).await;
            tokio::time::sleep(wait).await;
            self.attempt.begin_round(self.file.client.workers.table().ranked(self.block, Near::First));
        }
        Ok(())
    }

    fn gave_up(&self, fault: Fault, worker: Option<&Worker>) -> Error {
        let what = format!("cannot read {} at {}", self.opened.entry.path, self.range.start);
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
        match worker {
            Some(worker) => error.context(format_args!("{what}: worker {}", worker.info.data)),
            None => error.context(what),
        }
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

    fn begin_round(&mut self, workers: Vec<Arc<Worker>>) {
        self.workers = workers;
        self.at = 0;
        self.round += 1;
        self.renewed = false;
        self.may_pass = false;
    }
}
