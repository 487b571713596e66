//! Three masters and a worker as real processes, under clients that fight over a few names and faults that follow from a seed: kills, pauses, cut
//! networks, changed leads, clocks that jump.
//!
//! A run is a number of rounds. In each the clients work, [`schedule`] says what breaks and when, and [`faults`] does it; then all is healed, so that
//! every request ends, and what the clients were told is judged by [`ground`]: there must be one order that explains it. In the end everything
//! that was acknowledged must be there ([`kept`]), and all masters must have the same state ([`agreement`]). What is
//! found is kept with all that explains it ([`evidence`]).

pub mod agreement;
pub mod evidence;
pub mod faults;
pub mod ground;
pub mod kept;
pub mod load;
pub mod model;
pub mod onlooker;
pub mod outage;
pub mod report;
pub mod round;
pub mod schedule;
pub mod world;
