//! Whether the log and the vote that lie in the directory can be those that the state machine was fed from.
//!
//! A member whose log was taken away must not start: alone it would go on without what it had acknowledged, and among others it would vote as if it
//! had never confirmed anything. One whose whole directory is gone, state included, is another case: nobody takes it for what it was.
//!
//! What a crash leaves is none of this. The first segment, and the note that there is one, are durable before anything is confirmed, and from then on
//! there is one, unless all that it had is taken back, and the note before it; a state that came from another member is installed before the log is
//! started over behind it, but who gets one has voted or seen a leader before.

use std::path::Path;

use crate::error::OpenError;
use crate::log::{Log, Position};

/// Refuses a log that entries, or whose vote, have been taken from; `applied` is the last one that the state machine has. (A log whose end is gone is
/// refused when it is opened.)
pub(crate) fn check(log: &Log, dir: &Path, applied: Option<Position>) -> Result<(), OpenError> {
    let identity = log.identity();
    let reason = match log.has_segments() {
        true => begins_too_late(log, applied),
        false if identity.begun => Some("there is no segment, but there was one".to_owned()),
        false => match (log.vote(), applied) {
            // Only who has the group's first entry, or a state, stands for election.
            (Some(vote), _) if vote.member == identity.member => {
                Some(format!("this member led in term {} or wanted to, and there is no segment", vote.term))
            }
            // A restored state is of term 0: its log begins when it is started first.
            (None, Some(applied)) if applied.term > 0 => {
                Some(format!("the state is as of entry {} of a log, and there is no log", applied.index))
            }
            _ => None,
        },
    };
    let reason = reason.or_else(|| vote_is_gone(log, applied));
    reason.map_or(Ok(()), |reason| Err(OpenError::LogMissing { dir: dir.to_owned(), reason }))
}

/// The log forgets only what the state machine has for good.
fn begins_too_late(log: &Log, applied: Option<Position>) -> Option<String> {
    let forgotten = log.bounds().0?;
    let has = applied.map(|applied| applied.index);
    (has < Some(forgotten.index)).then(|| {
        let has = has.map_or("nothing".to_owned(), |index| format!("what was decided up to entry {index}"));
        format!("its first segment begins after entry {}, and the state has {has}", forgotten.index)
    })
}

/// Without its vote it could vote twice in a term. Who has an entry of a term has voted in that term, or seen its leader, and stored that first; only the
/// group's first entry, and a restored state, are of term 0.
fn vote_is_gone(log: &Log, applied: Option<Position>) -> Option<String> {
    let seen = log.bounds().1.max(applied).map_or(0, |position| position.term);
    match log.vote() {
        None if log.identity().voted => Some("the file `vote` is missing, and this member has voted".to_owned()),
        None if seen > 0 => Some(format!("the file `vote` is missing, and there are entries of term {seen}")),
        Some(vote) if vote.term < seen => {
            Some(format!("the vote is of term {}, and there are entries of term {seen}", vote.term))
        }
        _ => None,
    }
}
