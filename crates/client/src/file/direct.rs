//! A range from the file's store itself: the last resort, when no worker of its block serves it.
//!
//! A worker that is merely busy (it answers that it cannot now, or all our connections to it are in use) is asked again for half of the deadline before that, once for each file; so long a new leader to which no worker has come yet is given, too. The next range asks the workers
//! again, so that one that comes back has its share at once. What cannot be read so either leaves the error of the workers, with the reason behind it.

use super::grants::Grant;
use super::opened::{Opened, RenewError};
use super::range::{RangeReader, ReadError};
use crate::error::Error;
use crate::metrics;
use crate::types::SyncMode;
use bytes::{Buf, Bytes};
use forebay_base::{ErrorKind, HumanDuration};
use forebay_ufs::{ByteStream, GrantedWay, UfsError};
use futures::StreamExt;
use std::sync::Arc;
use tokio::time::Instant;

/// A range on its way from a store.
pub(super) struct DirectRead {
    grant: Arc<Grant>,
    chunks: ByteStream,
    /// Of the last chunk, what has not been handed out.
    rest: Bytes,
}

/// Why a store was read in vain.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: Error,
    /// It will be so when this read tries again.
    lasts: bool,
}

impl DirectRead {
    /// Fills `out` with the next bytes; `filled` says how far, also after a failure.
    async fn fill(&mut self, out: &mut [u8], filled: &mut usize) -> Result<(), UfsError> {
        while *filled < out.len() {
            if self.rest.is_empty() {
                match self.chunks.next().await {
                    Some(chunk) => self.rest = chunk?,
                    // The stream has given all that was asked for, so this cannot be.
                    None => return Ok(()),
                }
                continue;
            }
            let length = self.rest.len().min(out.len() - *filled);
            self.rest.copy_to_slice(&mut out[*filled..][..length]);
            *filled += length;
        }
        Ok(())
    }
}

impl RangeReader {
    /// Goes on with a range that comes from the store.
    pub(super) async fn fill_from_store(
        &mut self,
        mut read: DirectRead,
        out: &mut [u8],
        filled: &mut usize,
        deadline: Instant,
    ) -> Result<(), ReadError> {
        let before = *filled;
        let outcome = tokio::time::timeout_at(deadline, read.fill(out, filled)).await;
        let got = (*filled - before) as u64;
        self.range.start += got;
        metrics::direct_bytes().increment(got);
        if got > 0 {
            self.file.cause.clear();
        }
        match outcome {
            Ok(Ok(())) if *filled == out.len() => {
                self.store = (!self.range.is_empty()).then_some(read);
                Ok(())
            }
            Ok(Ok(())) => Err(ReadError::Final(self.ended_early())),
            Ok(Err(error)) => {
                if self.leave_store(&read.grant, error, deadline).await? == Then::AskAnew
                    && self.open_store(Some(read.grant), deadline).await?
                {
                    return Ok(());
                }
                self.next_round(deadline).await
            }
            Err(_) => {
                self.note_silence();
                self.next_round(deadline).await
            }
        }
    }

    /// Turns to the store when all workers have been asked in vain; false when that is not to be, or does not work.
    pub(super) async fn turn_to_store(&mut self, deadline: Instant) -> Result<bool, ReadError> {
        if self.file.client.direct.is_none() || self.trouble.as_ref().is_some_and(|trouble| trouble.lasts) {
            return Ok(false);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let has_waited = left <= self.file.client.config.deadlines.read / 2 || self.opened.has_right();
        let may_be_served = self.attempt.is_busy || self.file.client.workers.table().is_still_empty();
        if left.is_zero() || (may_be_served && !has_waited) {
            return Ok(false);
        }
        self.open_store(None, deadline).await
    }

    /// Begins to read from the store; `refused` is the right that it has refused.
    async fn open_store(&mut self, mut refused: Option<Arc<Grant>>, deadline: Instant) -> Result<bool, ReadError> {
        loop {
            let Some(grant) = self.right(refused.as_ref(), deadline).await? else {
                return Ok(false);
            };
            let Some(direct) = &self.file.client.direct else { return Ok(false) };
            let opened = direct.reads.read(&grant.right, self.range.clone());
            let error = match tokio::time::timeout_at(deadline, opened).await {
                Ok(Ok(chunks)) => {
                    if direct.worked() {
                        tracing::warn!(path = %self.opened.entry.path, store = grant.right.store, "no worker serves, reading from stores themselves");
                    }
                    self.trouble = None;
                    self.store = Some(DirectRead { grant, chunks, rest: Bytes::new() });
                    return Ok(true);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    self.note_silence();
                    return Ok(false);
                }
            };
            if self.leave_store(&grant, error, deadline).await? == Then::GiveUp || refused.is_some() {
                return Ok(false);
            }
            refused = Some(grant);
        }
    }

    /// The right to read; none when the masters do not give it, which is noted.
    async fn right(
        &mut self,
        refused: Option<&Arc<Grant>>,
        deadline: Instant,
    ) -> Result<Option<Arc<Grant>>, ReadError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let patience = patience.min(self.file.client.config.deadlines.connect);
        let asked = self.opened.grant(&self.file.client, refused, patience);
        match tokio::time::timeout_at(deadline, asked).await {
            Ok(Ok(grant)) => Ok(Some(grant)),
            Ok(Err(RenewError::Changed)) => {
                let message = format!("{} has another version by now", self.opened.entry.path);
                Err(ReadError::Conflict(Error::new(ErrorKind::Conflict, message)))
            }
            Ok(Err(RenewError::Failed(error))) => {
                self.note(error);
                Ok(None)
            }
            Err(_) => {
                self.note(Error::new(ErrorKind::Unavailable, "the masters do not answer"));
                Ok(None)
            }
        }
    }

    /// Notes why the store was of no use. A refused right is asked for anew; another version is a conflict.
    async fn leave_store(&mut self, grant: &Grant, error: UfsError, deadline: Instant) -> Result<Then, ReadError> {
        tracing::debug!(%error, offset = self.range.start, "a read from a store failed");
        match (&grant.right.way, &error) {
            (GrantedWay::Http(_), UfsError::Denied(_)) => {
                self.note(error.into());
                return Ok(Then::AskAnew);
            }
            (way, UfsError::VersionChanged(_) | UfsError::NotFound(_)) => {
                match self.has_changed(deadline).await {
                    Ok(true) => return Err(ReadError::Conflict(error.into())),
                    Ok(false) => {}
                    Err(unknown) => {
                        self.note(Error::new(
                            ErrorKind::Unavailable,
                            format!("{error}; and the masters cannot tell: {unknown}"),
                        ));
                        return Ok(Then::GiveUp);
                    }
                }
                let reason = match way {
                    GrantedWay::Directory(_) => "this host has not the same file system as the masters",
                    GrantedWay::Http(_) => {
                        "the masters see this version: another store answers this host at its address"
                    }
                };
                let error = Error::new(ErrorKind::Unavailable, format!("{reason}: {error}"));
                self.trouble = Some(Trouble { error, lasts: true });
            }
            (GrantedWay::Directory(_), UfsError::RootMissing(_) | UfsError::Unsupported(_)) => {
                self.trouble = Some(Trouble { error: error.into(), lasts: true });
            }
            _ => self.note(error.into()),
        }
        Ok(Then::GiveUp)
    }

    /// Whether the masters, who look at the store now, know of another version. If not, what this host sees is another file. The tag counts, too: content that
    /// is put where nobody has read it yet keeps its number.
    async fn has_changed(&mut self, deadline: Instant) -> Result<bool, Error> {
        let now = Opened::open(&self.file.client, &self.opened.entry.path, SyncMode::Now);
        match tokio::time::timeout_at(deadline, now).await {
            Ok(Ok(now)) => {
                Ok(now.file_id() != self.opened.file_id() || now.entry.version_tag != self.opened.entry.version_tag)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::new(ErrorKind::Unavailable, "they do not answer")),
        }
    }

    fn note_silence(&mut self) {
        let waited = self.file.client.config.deadlines.read;
        let message = format!("the store did not give the bytes within {}", HumanDuration(waited));
        self.note(Error::new(ErrorKind::Unavailable, message));
    }

    fn note(&mut self, error: Error) {
        self.file.cause.set(error.to_string());
        let passes = matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::DeadlineExceeded);
        self.attempt.may_pass |= passes;
        self.trouble = Some(Trouble { error, lasts: !passes });
    }

    fn ended_early(&self) -> Error {
        let message = format!("the store's answer ended at {}, before {}", self.range.start, self.range.end);
        Error::new(ErrorKind::Internal, message)
    }
}

/// What comes after a read from a store that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    AskAnew,
    GiveUp,
}
