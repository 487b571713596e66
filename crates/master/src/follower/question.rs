//! How old the own state is: the question to the leader, and the wait for its answer.
//!
//! A question that began at `s` and is answered with the index `i`: the leader was certain to lead after `s`, so that everything acknowledged before `s`, by
//! whomever, lies at or before `i` (docs/adr/2026-11-23-lease.md). When `i` is applied here this member has it all. Only the begin and the look at it are compared, both
//! by the own monotonic clock; how long the answer took makes the state look older than it is, never younger.
//!
//! Who leads asks itself: that it led after `s` makes its own state one that has everything from before. So it has something to show when it leads no more.

use super::Follower;
use crate::error::Result;
use crate::freshness::What;
use crate::metrics::names;
use forebay_base::{MountId, NsPath};
use forebay_consensus::Member;
use forebay_proto::v1;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long an answer may take. A leader without a lease asks a majority first, which takes some milliseconds.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// How long it may take until it is applied here. One that lags by seconds serves those who allow that.
const APPLY_MAX: Duration = Duration::from_secs(5);
/// After one that failed: readers wait for the next one, which would fail as well.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a read waits. The leader would answer it at once.
const WAIT: Duration = Duration::from_millis(150);

/// Without anybody who waits. When the leader dies the state is known to be no older than this, and the bound lasts so much longer for it.
const QUESTION_EVERY: Duration = Duration::from_secs(1);

/// Moments of questions; each is that in which one began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Of the last one that began.
    asked: Option<Instant>,
    /// Of the last one that was answered, with everything applied.
    confirmed: Option<Instant>,
    /// Of the last one that was not.
    failed: Option<Instant>,
}

/// What the next question tells of the last answer.
#[derive(Default)]
struct Known {
    lead: u64,
    notes_next: u64,
}

impl Progress {
    /// Whether the state has everything that was acknowledged before that moment; none: before this process began.
    fn covers(&self, needed: Option<Instant>) -> bool {
        self.confirmed.is_some_and(|confirmed| needed.is_none_or(|needed| confirmed >= needed))
    }

    /// Whether it is time for the next question, so that those who read go on without waiting: half of what they allow has passed since the last one.
    fn is_due(&self, now: Instant, allowed: Duration) -> bool {
        self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= allowed / 2)
    }
}

impl Follower {
    /// Returns when the state has everything that was acknowledged `bound` before the call, and the entry `seen`.
    ///
    /// # Errors
    /// `unavailable` when that cannot be had in a short time.
    pub(super) async fn fresh(&self, bound: Duration, seen: u64) -> Result<()> {
        let came = Instant::now();
        // The client's bound is by its own clock, which may run faster than this one.
        let allowed = bound * 100u32.saturating_sub(self.settings.group.clock_drift_percent) / 100;
        let needed = came.checked_sub(allowed);
        let progress = *self.progress.borrow();
        let covered = progress.covers(needed);
        if !covered || progress.is_due(came, allowed) {
            self.wanted.notify_one();
        }
        if covered && self.state.position() >= seen {
            return Ok(());
        }
        match timeout(WAIT, self.wait(came, needed, seen)).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.behind("it gets no answer from the master that leads")),
            Err(_) if self.progress.borrow().covers(needed) => {
                Err(self.behind(&format!("it has not applied entry {seen} of the log yet")))
            }
            Err(_) => Err(self.behind("the master that leads has not confirmed in time that nothing is missing here")),
        }
    }

    /// False: a question that began since has failed.
    async fn wait(&self, came: Instant, needed: Option<Instant>, seen: u64) -> bool {
        let mut progress = self.progress.subscribe();
        let ended =
            |progress: &Progress| progress.covers(needed) || progress.failed.is_some_and(|failed| failed >= came);
        // Its sender is here.
        let covered = progress.wait_for(ended).await.is_ok_and(|progress| progress.covers(needed));
        if covered {
            self.state.reached(seen).await;
        }
        covered
    }

    /// Whether the next question that begins at or after that moment is answered, in a short time.
    pub(super) async fn answered(&self, since: Instant) -> bool {
        self.wanted.notify_one();
        let mut progress = self.progress.subscribe();
        let is_past = |moment: Option<Instant>| moment.is_some_and(|moment| moment >= since);
        let ended = progress.wait_for(|progress| is_past(progress.confirmed) || is_past(progress.failed));
        // Its sender is here.
        matches!(timeout(WAIT, ended).await, Ok(Ok(progress)) if is_past(progress.confirmed))
    }

    /// Asks whenever somebody waits for an answer, and now and then, one question at a time, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut known = Known::default();
        loop {
            let woken = timeout(QUESTION_EVERY, self.wanted.notified());
            let Some(woken) = stop.run_until_cancelled(woken).await else { return };
            let asked = stop.run_until_cancelled(self.look(woken.is_ok(), &mut known)).await;
            match asked {
                None => return,
                Some(Ok(())) => {}
                Some(Err(why)) => {
                    tracing::debug!(why, "the leader does not say how far everything is");
                    if stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Finds out how old the state is, and what the leader knows of what is wanted.
    async fn look(&self, is_wanted: bool, known: &mut Known) -> std::result::Result<(), String> {
        let own = self.consensus.status().member.id;
        let leader = self.consensus.leader();
        if leader.as_ref().is_some_and(|leader| leader.id == own) {
            return self.look_at_own(known).await;
        }
        if leader.is_none() && !is_wanted {
            return Ok(());
        }
        let (began, wanted) = self.paths.take();
        self.progress.send_modify(|progress| progress.asked = Some(began));
        let answer = match leader {
            Some(leader) => self.ask(&leader, began, wanted, known).await,
            None => Err("no other master is known to lead".to_owned()),
        };
        let outcome = if answer.is_ok() { "answered" } else { "failed" };
        metrics::counter!(names::FOLLOWER_QUESTIONS, "outcome" => outcome).increment(1);
        self.ended_at(began, answer.is_ok());
        answer
    }

    /// The question of one that leads. What it compares meanwhile, and what it forgets, is not known here: all that was told before counts no more.
    async fn look_at_own(&self, known: &mut Known) -> std::result::Result<(), String> {
        if known.lead != 0 {
            self.freshness.forget_all();
            *known = Known::default();
        }
        let (began, _) = self.paths.take();
        self.progress.send_modify(|progress| progress.asked = Some(began));
        let leads = self.consensus.read_barrier().await;
        self.ended_at(began, leads.is_ok());
        leads.map_err(|error| error.to_string())
    }

    fn ended_at(&self, began: Instant, is_confirmed: bool) {
        self.progress.send_modify(|progress| match is_confirmed {
            true => progress.confirmed = Some(began),
            false => progress.failed = Some(began),
        });
    }

    async fn ask(
        &self,
        leader: &Member,
        began: Instant,
        wanted: Vec<v1::SyncPath>,
        known: &mut Known,
    ) -> std::result::Result<(), String> {
        let request = v1::ConfirmRequest {
            cluster_id: self.keys.cluster_id.clone(),
            lead: known.lead,
            notes_next: known.notes_next,
            wanted,
            workers_epoch: self.workers.epoch(),
        };
        let mut client = self.transport.members(leader).map_err(|error| error.to_string())?;
        let reply = timeout(ANSWER_MAX, client.confirm(request)).await.map_err(|_| "no answer in time")?;
        let reply = reply.map_err(|status| status.message().to_owned())?.into_inner();
        timeout(APPLY_MAX, self.state.reached(reply.index)).await.map_err(|_| "its answer is not applied in time")?;
        // Not before: what was compared may be in the state since that entry alone.
        self.take(began, reply.anew, reply.notes);
        if let Some(workers) = reply.workers {
            self.workers.set(workers);
        }
        *known = Known { lead: reply.lead, notes_next: reply.notes_next };
        Ok(())
    }

    /// Does to the own table what the leader did to its. A comparison is taken for as old as it can be; all that
    /// were told before what is forgotten began before this question, and those that are told later hold at the leader.
    fn take(&self, began: Instant, anew: bool, notes: Vec<v1::SyncNote>) {
        if anew {
            self.freshness.forget_all();
        }
        for note in notes {
            let (mount, kind) = (MountId(note.mount), note.kind());
            let path = match kind {
                v1::SyncNoteKind::MountForgotten => Ok(NsPath::root()),
                _ => NsPath::parse(&note.path),
            };
            let Ok(path) = path else { continue };
            let compared = |what| {
                if let Some(asked) = began.checked_sub(Duration::from_micros(note.age_us)) {
                    self.freshness.compared(mount, what, &path, asked);
                }
            };
            match kind {
                v1::SyncNoteKind::PathCompared => compared(What::Path),
                v1::SyncNoteKind::EntriesCompared => compared(What::Entries),
                v1::SyncNoteKind::FoundCompared => compared(What::Found),
                v1::SyncNoteKind::PathForgotten => self.freshness.forget(mount, &path),
                v1::SyncNoteKind::TreeForgotten => self.freshness.forget_tree(mount, &path, began),
                v1::SyncNoteKind::MountForgotten => self.freshness.forget_mount(mount, began),
            }
        }
    }
}
