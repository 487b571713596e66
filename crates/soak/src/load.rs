//! Clients that fight over a directory until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use forebay_client::{Client, ClientConfig, Deadlines};
use forebay_testkit::wait;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::ground::{Ground, Step, answered};
use crate::model::{Input, Output};
use crate::outage::Pulse;

/// Between two operations of a client: a history of one round stays short enough to be judged in moments.
const PAUSE_MS: std::ops::Range<u64> = 0..12;

/// Each change without a known end doubles the orders that are to be searched at worst: after so many a client rests for the round.
const UNKNOWN_MAX: usize = 4;

/// What is asked for when nothing is broken any more.
const END_DEADLINE: Duration = Duration::from_secs(120);

/// How long a client waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Longer than anything stays broken: every answer comes, and none tells of what was broken.
    Patient,
    /// Not for long, so that the end of what it asked for is sometimes not known.
    Impatient,
}

impl Patience {
    fn deadline(self) -> Duration {
        match self {
            Patience::Patient => Duration::from_secs(120),
            Patience::Impatient => Duration::from_secs(1),
        }
    }

    /// A client of these masters (`host:port,…`).
    pub async fn client(self, masters: &str) -> Result<Client> {
        let (wait, connect) = (self.deadline(), Patience::Patient.deadline());
        let deadlines = Deadlines { connect, metadata: wait, write: wait, ..Deadlines::default() };
        Ok(Client::connect(ClientConfig { deadlines, ..ClientConfig::new(masters.split(',')) }).await?)
    }
}

/// What the clients of a round share.
#[derive(Debug)]
pub struct Load {
    stop: AtomicBool,
    /// Successful writes.
    pub pulse: Pulse,
    /// Orders calls and answers of all clients.
    pub clock: Arc<AtomicU64>,
}

impl Load {
    /// Clients begin now.
    pub fn new(clock: Arc<AtomicU64>) -> Load {
        Load { stop: AtomicBool::new(false), pulse: Pulse::new(), clock }
    }

    /// No client begins anything more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether clients are to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// One client, and where it works.
#[derive(Clone, Debug)]
pub struct Fighter {
    /// Its connections stay from round to round.
    pub client: Client,
    /// How long it waits.
    pub patience: Patience,
    /// Its ground, by number.
    pub ground: usize,
}

impl Fighter {
    /// Works on its ground until told to stop.
    pub async fn fight(self, ground: Arc<Ground>, load: Arc<Load>, seed: u64) -> Result<()> {
        let mut random = StdRng::seed_from_u64(seed);
        let mut unknown = 0;
        while !load.is_stopped() {
            // Each mark is another one, so that a look at it tells who has set it.
            let input = Input::draw(&mut random, load.clock.fetch_add(1, Ordering::Relaxed));
            let step = ground.step(&self.client, &load.clock, input).await?;
            match (&step, self.patience) {
                (Step::Unknown(_), Patience::Impatient) => unknown += 1,
                _ => drop(answered(step.clone())?),
            }
            if unknown == UNKNOWN_MAX {
                wait::until("the end of the round", END_DEADLINE, || std::future::ready(load.is_stopped())).await?;
            }
            if input.changes() && step == Step::Answered(Output::Done) {
                load.pulse.beat();
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(PAUSE_MS))).await;
        }
        wait::until("a client's last change", END_DEADLINE, || async { ground.end(&self.client).await.is_ok() }).await
    }
}
