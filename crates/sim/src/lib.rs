//! A group of masters under faults, from one seed: the real consensus, log and namespace, on a network, disks and clocks that are made up.
//!
//! [`run()`] lives through a [`Plan`]: it starts the members, lets clients work, brings faults step by step, mends everything and waits for the group to
//! recover. `Checks` look at whatever happens. All is on one thread and follows from the seed ([`forebay_vtime`]), so a run that fails
//! fails again. What the simulation stands on, and what it cannot see, is in docs/adr/2026-11-23-simulation.md.

mod checks;
mod client;
mod clients;
mod director;
mod member;
mod net;
mod run;
mod state;
mod trace;
mod work;
mod world;

pub use checks::Counts;
pub use run::{Broken, Plan, Planted, Report, run};
