//! The log as openraft sees it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use crate::log::{Done, Log, StoredVote};
use crate::raft_types::{LogId, RaftEntry, RaftVote, Types, log_id, position, to_entry, to_record};
use crate::runtime::spawn_blocking;

/// Bytes of entries read at once: what the memory of a replay or of a lagging member's stream is made of.
const READ_BYTES: usize = 1 << 20;

/// A handle on the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: Arc<Log>,
}

impl LogStore {
    pub(crate) fn new(log: Arc<Log>) -> LogStore {
        LogStore { log }
    }

    /// The next records, at least one unless the log has none of them. Does not block the runtime.
    async fn read(&self, from: u64, to: u64) -> io::Result<Vec<RaftEntry>> {
        let records = if self.log.in_memory(from) {
            self.log.read(from, to, READ_BYTES)?
        } else {
            let log = self.log.clone();
            let read = spawn_blocking(move || log.read(from, to, READ_BYTES));
            read.await.map_err(io::Error::other)??
        };
        records.into_iter().map(to_entry).collect()
    }

    /// Waits until a job of the log is done.
    async fn wait(&self, start: impl FnOnce(&Log, Done)) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        // The receiver is gone only when the caller was dropped: nobody is left to tell.
        start(&self.log, Box::new(move |result| drop(tell.send(result))));
        told.await.map_err(|_| io::Error::other("the log is closed"))?
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        let (mut from, to) = limits(&range);
        let mut entries = Vec::new();
        loop {
            let more = self.read(from, to).await?;
            let Some(last) = more.last() else {
                return Ok(entries);
            };
            from = last.log_id.index + 1;
            entries.extend(more);
        }
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = limits(&range);
        let store = self.clone();
        let chunks = futures::stream::try_unfold(from, move |from| {
            let store = store.clone();
            async move {
                let entries = store.read(from, to).await?;
                let next = entries.last().map(|last| last.log_id.index + 1);
                Ok::<_, io::Error>(next.map(|next| (futures::stream::iter(entries.into_iter().map(Ok)), next)))
            }
        });
        Box::pin(futures::TryStreamExt::try_flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<RaftVote>> {
        Ok(self.log.vote().map(RaftVote::from))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        let entries = self.read(start, end).await?;
        // A stream that is being given up may still read while the log forgets what it reads. It gets nothing then, and never what
        // comes after the gap.
        let has_start = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if has_start { entries } else { Vec::new() })
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let (purged, last) = self.log.bounds();
        Ok(LogState { last_purged_log_id: purged.map(log_id), last_log_id: last.map(log_id) })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &RaftVote) -> io::Result<()> {
        let vote =
            StoredVote { term: vote.leader_id.term, member: vote.leader_id.voted_for, committed: vote.committed };
        self.wait(|log, done| log.save_vote(vote, done)).await
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let records = entries.into_iter().map(to_record).collect();
        self.log.append(records, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.wait(|log, done| log.truncate_after(last_log_id.map(position), done)).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.wait(|log, done| log.purge(position(log_id), done)).await
    }
}

/// The first index and the one after the last.
fn limits(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before + 1,
        Bound::Unbounded => 0,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last + 1,
        Bound::Excluded(to) => *to,
        Bound::Unbounded => u64::MAX,
    };
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{LogSettings, OsDisk, Position, Record, RecordKind};
    use crate::settings::MemberId;

    /// A stream to a follower that is being given up may ask for what the log forgets meanwhile.
    #[tokio::test]
    async fn who_asks_for_forgotten_entries_gets_nothing_and_not_later_ones() {
        let dir = tempfile::tempdir().unwrap();
        let settings = LogSettings { segment_bytes: 4 << 10, cache_bytes: 4 << 10 };
        let nothing = (Box::new(|_: &str| ()), Box::new(|_| ()));
        let log = Log::open(Arc::new(OsDisk), dir.path(), MemberId(1), settings, nothing.0, nothing.1).unwrap();
        let mut store = LogStore::new(Arc::new(log));
        let record = |index| Record { index, term: 1, kind: RecordKind::Blank, payload: Default::default() };
        store.wait(|log, done| log.append((0..10).map(record).collect(), done)).await.unwrap();
        store.wait(|log, done| log.purge(Position { term: 1, index: 5 }, done)).await.unwrap();
        let mut ask = async |from| store.limited_get_log_entries(from, 10).await.unwrap().len();
        assert_eq!((ask(3).await, ask(5).await, ask(6).await), (0, 0, 4));
    }
}
