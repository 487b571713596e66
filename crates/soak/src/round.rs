//! One round: work, faults, healing, and the verdict.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use forebay_testkit::wait;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::task::{JoinError, JoinSet};

use crate::faults::Faults;
use crate::kept::Keeper;
use crate::load::Load;
use crate::report::Outcome;
use crate::schedule::{Event, Fault, Plan};
use crate::world::World;

/// Writes that have to succeed after all is healed.
const WRITES_AFTER: u64 = 50;
const WRITES_DEADLINE: Duration = Duration::from_secs(60);
/// More than the patience of any client.
const END_DEADLINE: Duration = Duration::from_secs(150);

/// The clients of a round at work.
struct Clients {
    load: Arc<Load>,
    fighters: JoinSet<Result<()>>,
    keepers: JoinSet<Result<Keeper>>,
}

/// Runs one round to its verdict.
pub async fn run(world: &mut World, plan: &Plan) -> Result<Outcome> {
    let begun = Instant::now();
    let mut clients = Clients::start(world, plan.seed);
    let load = Arc::clone(&clients.load);
    let (faults, had_majority) = clients.through(breaking(world, plan, &load)).await?;
    let enough = load.pulse.count() + WRITES_AFTER;
    let writes =
        wait::until("writes after everything is healed", WRITES_DEADLINE, || async { load.pulse.count() >= enough });
    clients.through(writes).await?;
    let (outage, recovery) = (load.pulse.longest(), load.pulse.recovery().unwrap_or_default());
    world.keepers = clients.end().await?;
    let term = world.observer.masters().await?.term;
    let worked = begun.elapsed();
    let mut outcome = Outcome { faults, had_majority, outage, recovery, term, worked, ..Outcome::default() };
    for ground in &mut world.grounds {
        let ground = Arc::get_mut(ground).context("a client still holds it")?;
        outcome.judged.add(ground.judge(&world.observer, &world.clock).await?);
    }
    outcome.judging = begun.elapsed() - worked;
    Ok(outcome)
}

/// Does what the plan says, and mends it: what was broken, and whether a majority was left alone.
async fn breaking(world: &mut World, plan: &Plan, load: &Load) -> Result<(Vec<Fault>, bool)> {
    let mut faults = Faults::new(&mut world.cluster, &world.network);
    let mut done = Vec::new();
    for event @ Event { after, fault, .. } in &plan.events {
        tokio::time::sleep(*after).await;
        done.extend(faults.strike(event).await.with_context(|| fault.to_string())?);
    }
    tokio::time::sleep(plan.hold).await;
    load.pulse.mends();
    faults.heal().await.with_context(|| format!("healing what was broken ({done:?})"))?;
    Ok((done, faults.left_a_majority()))
}

impl Clients {
    fn start(world: &mut World, seed: u64) -> Clients {
        let mut random = StdRng::seed_from_u64(seed);
        let load = Arc::new(Load::new(Arc::clone(&world.clock)));
        let (mut fighters, mut keepers) = (JoinSet::new(), JoinSet::new());
        for fighter in &world.fighters {
            let ground = Arc::clone(&world.grounds[fighter.ground]);
            fighters.spawn(fighter.clone().fight(ground, Arc::clone(&load), random.random()));
        }
        for onlooker in &world.onlookers {
            let ground = Arc::clone(&world.grounds[onlooker.ground]);
            fighters.spawn(onlooker.clone().look(ground, Arc::clone(&load), random.random()));
        }
        for keeper in std::mem::take(&mut world.keepers) {
            keepers.spawn(keeper.keep(Arc::clone(&load)));
        }
        Clients { load, fighters, keepers }
    }

    /// Waits for something while they work; fails at once when one of them does.
    async fn through<T>(&mut self, something: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = something => done,
            Some(ended) = self.fighters.join_next() => Err(too_early(ended)),
            Some(ended) = self.keepers.join_next() => Err(too_early(ended)),
        }
    }

    /// Lets them end what they have begun.
    async fn end(mut self) -> Result<Vec<Keeper>> {
        self.load.stop();
        let all = async {
            while let Some(ended) = self.fighters.join_next().await {
                ended??;
            }
            let mut keepers = Vec::new();
            while let Some(ended) = self.keepers.join_next().await {
                keepers.push(ended??);
            }
            anyhow::Ok(keepers)
        };
        match tokio::time::timeout(END_DEADLINE, all).await {
            Ok(keepers) => keepers,
            Err(_) => bail!("a client was not answered within {END_DEADLINE:?} after everything was healed"),
        }
    }
}

fn too_early<T>(ended: Result<Result<T>, JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(_)) => anyhow::anyhow!("a client has ended before it was told to"),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    }
}
