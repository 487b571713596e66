//! Reads that a master answers without leading, no older than the client allows (docs/adr/2026-11-23-follower-reads.md).
//!
//! The hard problem is to know how old its own state is, without comparing clocks. So it asks the leader how far everything is that was acknowledged, and waits until it
//! has applied that: from then on it has all that was acknowledged before it *began to ask* ([`question`]), by its own clock. One question at a time serves all who
//! wait, and one a second is asked whoever waits, so that there is something to show when the leader dies. What needs the leader is refused, and the client asks
//! there: paths whose store is to be asked first, as far as the leader, asked for these ([`wanted`]), does not say that it is not; files that are being written; and
//! everything when the leader gives no answer.
//!
//! Invariants:
//! - A read that came at `t` with the bound `b` is answered from a state that has all that was acknowledged before `t - b`, or not at all.
//! - Nothing is answered from a state before an entry that the client has seen.
//! - What counts as compared with a store here was so at the leader when it was asked, and nothing that it had forgotten by then.

mod list;
mod question;
mod view;
mod wanted;
mod workers;

use crate::admission::{Admission, Class};
use crate::core::parse_path;
use crate::data_dir::Keys;
use crate::error::Result;
use crate::freshness::Freshness;
use crate::group::GrpcTransport;
use crate::metrics::names;
use crate::ops::content_summary::sum;
use crate::ops::open::{found, found_file, open_reply, stat_reply};
use crate::ops::tickets;
use crate::service::count;
use crate::settings::Settings;
use crate::state::State;
use forebay_base::ErrorKind;
use forebay_consensus::Consensus;
use forebay_proto::error::WireError;
use forebay_proto::v1;
use metrics::Counter;
use question::Progress;
use std::sync::{Arc, LazyLock};
use std::time::Instant;
use tokio::sync::{Notify, watch};
use view::View;
use wanted::Wanted;
use workers::KnownWorkers;

pub(crate) use list::Listing;
pub(crate) use wanted::WANTED_MAX;

/// What a master needs to answer reads while another one leads.
pub(crate) struct Follower {
    pub(crate) settings: Settings,
    pub(crate) keys: Keys,
    pub(crate) state: State,
    pub(crate) consensus: Arc<Consensus>,
    pub(crate) transport: Arc<GrpcTransport>,
    freshness: Freshness,
    admission: Admission,
    progress: watch::Sender<Progress>,
    paths: Wanted,
    workers: KnownWorkers,
    /// Rings when somebody waits for an answer of the leader.
    wanted: Notify,
}

/// How reads ended, by outcome, looked up once.
struct Outcomes {
    served: Counter,
    behind: Counter,
    leader: Counter,
}

static OUTCOMES: LazyLock<Outcomes> = LazyLock::new(|| {
    let of = |outcome: &'static str| metrics::counter!(names::FOLLOWER_READS, "outcome" => outcome);
    Outcomes { served: of("served"), behind: of("behind"), leader: of("leader") }
});

impl Follower {
    pub(crate) fn new(
        settings: Settings,
        keys: Keys,
        state: State,
        consensus: Arc<Consensus>,
        transport: Arc<GrpcTransport>,
    ) -> Follower {
        Follower {
            freshness: Freshness::new(settings.freshness_entries),
            admission: Admission::new(settings.limits),
            progress: watch::Sender::new(Progress::default()),
            paths: Wanted::default(),
            workers: KnownWorkers::default(),
            wanted: Notify::new(),
            settings,
            keys,
            state,
            consensus,
            transport,
        }
    }

    pub(crate) async fn stat(
        self: &Arc<Self>,
        bound: v1::ReadBound,
        request: v1::StatRequest,
    ) -> Result<v1::StatReply> {
        let view = View::new(self, bound);
        let work = async {
            let path = parse_path(&request.path)?;
            let (resolved, _) = view.locate(&path, request.sync()).await?;
            Ok(stat_reply(&resolved, found(&resolved, &path)?, &path, &request))
        };
        let reply = self.serve(work).await?;
        Ok(v1::StatReply { index: self.state.seen_index(), ..reply })
    }

    pub(crate) async fn open(
        self: &Arc<Self>,
        bound: v1::ReadBound,
        request: v1::OpenRequest,
    ) -> Result<v1::OpenReply> {
        let view = View::new(self, bound);
        let work = async {
            let path = parse_path(&request.path)?;
            let (resolved, site) = view.locate(&path, request.sync()).await?;
            let inode = found_file(&resolved, &path)?;
            if !inode.is_complete() {
                return Err(self.ask_leader(&format!("{path} is being written")));
            }
            let (mount, key) = site.map_or((0, bytes::Bytes::new()), |site| (site.mount.id, site.key));
            let signed = tickets::for_reading(&self.settings, &self.keys, inode, mount, key);
            Ok(open_reply(&resolved, inode, &path, signed))
        };
        let reply = self.serve(work).await?;
        Ok(v1::OpenReply { index: self.state.seen_index(), ..reply })
    }

    pub(crate) async fn content_summary(
        self: &Arc<Self>,
        bound: v1::ReadBound,
        request: v1::ContentSummaryRequest,
    ) -> Result<v1::ContentSummaryReply> {
        let view = View::new(self, bound);
        let work = async {
            let path = parse_path(&request.path)?;
            let (resolved, _) = view.locate(&path, request.sync()).await?;
            let top = found(&resolved, &path)?.clone();
            sum(&view, path, top, request.sync()).await
        };
        let reply = self.serve(work).await?;
        Ok(v1::ContentSummaryReply { index: self.state.seen_index(), ..reply })
    }

    /// Serves a read in its queue, and counts it.
    async fn serve<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let started = Instant::now();
        let outcome = async {
            let _place = self.admission.enter(Class::Read).await?;
            work.await
        }
        .await;
        self.ended(started, outcome.as_ref().err());
        outcome.map_err(|error| error.at_index(self.state.seen_index()))
    }

    /// Counts a read that has ended. Refusals have been counted when they were made.
    fn ended(&self, started: Instant, error: Option<&WireError>) {
        count(Class::Read, started, error);
        if error.is_none_or(|error| error.kind != ErrorKind::Unavailable) {
            OUTCOMES.served.increment(1);
        }
    }

    /// Only the leader can answer this.
    fn ask_leader(&self, why: &str) -> WireError {
        OUTCOMES.leader.increment(1);
        self.refusal(&format!("only the master that leads can answer this: {why}"))
    }

    /// The state is, or may be, older than the client allows.
    fn behind(&self, why: &str) -> WireError {
        OUTCOMES.behind.increment(1);
        self.refusal(&format!("this master cannot answer as the client wishes: {why}"))
    }

    fn refusal(&self, message: &str) -> WireError {
        let own = self.consensus.status().member.id;
        let leader = self.consensus.leader().filter(|leader| leader.id != own);
        let address = leader.map_or(String::new(), |leader| leader.address);
        WireError::new(ErrorKind::Unavailable, message).with_hint("ask the master that leads").with_leader(address)
    }
}
