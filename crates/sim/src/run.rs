//! One run, from its seed to its end.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::time::Duration;

use forebay_consensus::Formation;
use forebay_consensus::simulation::{Fault, plant};
use forebay_testkit::linearize::{self, Operation, Verdict};
use forebay_vtime::{Chance, elapsed, is_running};

use crate::checks::{Checks, Counts};
use crate::client::Histories;
use crate::clients::Clients;
use crate::director::Director;
use crate::net::Net;
use crate::trace::Trace;
use crate::work::{Directory, Op, Out};
use crate::world::{Common, World, member};

/// Steps of the search for an order, for each directory. A history that has one takes some thousand; without a verdict after so many the run is
/// broken, since what has no order takes the longest.
const SEARCH_MAX: u64 = 3_000_000;

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything else follows from it.
    pub seed: u64,
    /// How often something happens.
    pub steps: u64,
    /// A mistake to make on purpose.
    pub planted: Option<Planted>,
}

/// Mistakes to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Entries are confirmed before they are on disk.
    AckBeforeSync,
    /// A leader serves reads by its lease as if all clocks ran alike.
    LeaseWithoutDrift,
    /// Snapshots lack what clients were answered.
    RepliesLeftOut,
    /// A change of the group whose leader dies half-way stays as it is.
    ChangeLeftUnfinished,
    /// A read tells what the one before it saw at that member, as if it were what is there now: the index that it names is right.
    OldNames,
}

impl Planted {
    /// All of them, as the command line names them.
    pub const ALL: [(&str, Planted); 5] = [
        ("ack-before-sync", Planted::AckBeforeSync),
        ("lease-without-drift", Planted::LeaseWithoutDrift),
        ("replies-left-out", Planted::RepliesLeftOut),
        ("change-left-unfinished", Planted::ChangeLeftUnfinished),
        ("old-names", Planted::OldNames),
    ];

    /// Where the consensus makes it.
    fn in_consensus(self) -> Option<Fault> {
        match self {
            Planted::AckBeforeSync => Some(Fault::AckBeforeSync),
            Planted::LeaseWithoutDrift => Some(Fault::LeaseWithoutDrift),
            Planted::ChangeLeftUnfinished => Some(Fault::ChangeLeftUnfinished),
            Planted::RepliesLeftOut | Planted::OldNames => None,
        }
    }
}

/// A run in which everything held.
#[derive(Clone)]
pub struct Report {
    /// Equal for equal runs only.
    pub digest: u64,
    /// What happened.
    pub counts: Counts,
    /// Events in the trace.
    pub events: u64,
    /// Time that passed in it.
    pub simulated: Duration,
    /// Histories of directories, all of which have an order.
    pub histories: usize,
    /// The events, the last ones of very many.
    pub trace: Trace,
}

/// A run in which something did not hold.
#[derive(Clone)]
pub struct Broken {
    /// What.
    pub what: String,
    /// The events up to there.
    pub trace: Trace,
}

thread_local! {
    static CAUGHT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lives through a plan. Equal plans give equal results.
pub fn run(plan: Plan) -> Result<Report, Box<Broken>> {
    note_panics();
    let scratch = tempfile::tempdir().expect("a directory for checkpoints can be made");
    let trace = Trace::default();
    plant(plan.planted.and_then(Planted::in_consensus));
    let told = trace.clone();
    let run = || forebay_vtime::run(plan.seed, live(plan, told, scratch.path()));
    let result = catch_unwind(AssertUnwindSafe(run));
    plant(None);
    result.map_err(|_| {
        let what = CAUGHT.take().unwrap_or_else(|| "it panicked".to_owned());
        Box::new(Broken { what, trace })
    })
}

/// What breaks inside of a run is told by its result, not on the terminal.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match is_running() {
            true => CAUGHT.with_borrow_mut(|caught| {
                caught.get_or_insert_with(|| panic.to_string());
            }),
            false => before(panic),
        }));
    });
}

async fn live(plan: Plan, trace: Trace, scratch: &std::path::Path) -> Report {
    let mut chance = Chance::new(plan.seed);
    let checks = Checks::default();
    let count = match chance.below(10) {
        0 => 1,
        1..=7 => 3,
        _ => 5,
    };
    let beyond_lease = chance.permille(150);
    let changes_group = chance.permille(500) && count > 1;
    let common = Common {
        segment_bytes: chance.between(1 << 10, 16 << 10),
        flush_bytes: chance.between(2 << 10, 32 << 10),
        retained_entries: chance.below(100),
        drift_percent: if chance.permille(500) { 10 } else { 30 },
        forgets_replies: plan.planted == Some(Planted::RepliesLeftOut),
        tells_old_names: plan.planted == Some(Planted::OldNames),
    };
    trace.note(format_args!("{count} members, beyond the lease: {beyond_lease}, {common:?}"));
    let mut world = World {
        net: Net::new(&trace, &checks, chance.fork()),
        trace: trace.clone(),
        checks: checks.clone(),
        chance: chance.fork(),
        machines: Default::default(),
        listed: Arc::default(),
        common,
        scratch: scratch.to_owned(),
    };
    for id in 1..=count {
        world.build(id, Formation::Group((1..=count).map(member).collect()));
        world.start(id).await;
    }
    let directories = chance.between(1, 3) as usize;
    let clients = Arc::new(Clients::new(&world, chance.fork(), directories, !beyond_lease));
    clients.prepare().await;
    clients.start(chance.between(2, 6));
    let mut director = Director::new(world, clients.clone(), chance.fork(), beyond_lease, changes_group);
    for _ in 0..plan.steps {
        director.step().await;
    }
    director.recover().await;
    let histories = check_histories(&clients.histories(), !beyond_lease);
    Report {
        digest: trace.digest(),
        counts: checks.counts(),
        events: trace.count(),
        simulated: elapsed(),
        histories,
        trace,
    }
}

/// Looks for an order of what clients saw in each directory; gives the number of directories.
///
/// # Panics
/// When there is none, or the search ends without a verdict.
fn check_histories(histories: &Histories, reads_hold: bool) -> usize {
    let histories = histories.lock();
    for (directory, history) in histories.iter().enumerate() {
        // A look without an answer says nothing, and each doubles the orders that are to be tried at worst.
        let says = |of: &Operation<Op, Out>| of.input != Op::Look || (reads_hold && of.returned.is_some());
        let history: Vec<_> = history.iter().filter(|of| says(of)).cloned().collect();
        match linearize::check(&Directory, &history, SEARCH_MAX) {
            Verdict::Linearizable => {}
            Verdict::TooLong => {
                panic!("no verdict on what clients saw in directory {directory} within {SEARCH_MAX} steps")
            }
            Verdict::Violation(violation) => {
                let stuck = &history[violation.stuck];
                panic!("what clients saw in directory {directory} has no order: stuck at {stuck:?}");
            }
        }
    }
    histories.len()
}
