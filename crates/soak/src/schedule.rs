//! What breaks, and when: from a seed, and nothing else.

use std::fmt;
use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Something that breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// `kill -9` of the master that leads.
    KillLeader,
    /// `kill -9` of one that follows.
    KillFollower,
    /// `kill -9` of any master.
    KillAny,
    /// `kill -9` of two masters: no majority is left.
    KillTwo,
    /// A pause of the leader that is shorter than its lease.
    ShortPause,
    /// A pause of the leader that outlasts its lease.
    LongPause,
    /// A pause of any master that is as long.
    PauseAny,
    /// The cable of any master is pulled: it reaches nobody.
    LinkDown,
    /// The leader is cut off from the other masters, and reaches clients.
    LeaderAlone,
    /// Two masters do not reach each other, and the third reaches both.
    PairCut,
    /// A master hears none of the others, and is heard.
    Deaf,
    /// None of the others hears a master, which hears them.
    Mute,
    /// `forebay masters transfer`.
    Transfer,
    /// `forebay masters snapshot`.
    Snapshot,
    /// The wall clock of a master jumps ahead by hours.
    ClockAhead,
    /// It jumps back by hours.
    ClockBack,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Fault; 16] = [
        Fault::KillLeader,
        Fault::KillFollower,
        Fault::KillAny,
        Fault::KillTwo,
        Fault::ShortPause,
        Fault::LongPause,
        Fault::PauseAny,
        Fault::LinkDown,
        Fault::LeaderAlone,
        Fault::PairCut,
        Fault::Deaf,
        Fault::Mute,
        Fault::Transfer,
        Fault::Snapshot,
        Fault::ClockAhead,
        Fault::ClockBack,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::KillLeader => "leader killed",
            Fault::KillFollower => "follower killed",
            Fault::KillAny => "any master killed",
            Fault::KillTwo => "two masters killed",
            Fault::ShortPause => "leader paused for less than its lease",
            Fault::LongPause => "leader paused for longer than its lease",
            Fault::PauseAny => "any master paused",
            Fault::LinkDown => "link taken down",
            Fault::LeaderAlone => "leader cut off from the masters alone",
            Fault::PairCut => "two masters cut off from each other",
            Fault::Deaf => "master that hears no other",
            Fault::Mute => "master that no other hears",
            Fault::Transfer => "lead transferred",
            Fault::Snapshot => "snapshot made",
            Fault::ClockAhead => "clock set ahead",
            Fault::ClockBack => "clock set back",
        })
    }
}

/// One fault, and all that chance has to say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// How long clients work undisturbed before it.
    pub after: Duration,
    /// What breaks.
    pub fault: Fault,
    /// Chooses among the masters that it can be.
    pub choice: u64,
    /// How long a short pause is.
    pub pause: Duration,
    /// By how much a clock jumps.
    pub jump_hours: i64,
}

/// What happens between two moments at which all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// One after the other; what one breaks stays broken.
    pub events: Vec<Event>,
    /// How long all of it stays so.
    pub hold: Duration,
    /// For what else chance is needed.
    pub seed: u64,
}

/// The plans of one seed, one after the other.
#[derive(Debug)]
pub struct Schedule {
    random: StdRng,
    /// Kinds that are to come before any comes again.
    deck: Vec<Fault>,
}

const EVENTS_MIN: usize = 2;
/// How often a third one comes.
const THREE_EVENTS: f64 = 0.25;
const AFTER_MS: std::ops::Range<u64> = 200..1_500;
const HOLD_MS: std::ops::Range<u64> = 1_500..5_000;
/// The lease is one and a half of the election time-out of 700 ms.
const SHORT_PAUSE_MS: std::ops::Range<u64> = 100..1_000;
const JUMP_HOURS: std::ops::RangeInclusive<i64> = 2..=72;

impl Schedule {
    /// That of a seed.
    pub fn new(seed: u64) -> Schedule {
        Schedule { random: StdRng::seed_from_u64(seed), deck: Vec::new() }
    }

    /// The next round's.
    pub fn draw(&mut self) -> Plan {
        let count = EVENTS_MIN + usize::from(self.random.random_bool(THREE_EVENTS));
        let events = (0..count).map(|_| self.event()).collect();
        let hold = Duration::from_millis(self.random.random_range(HOLD_MS));
        Plan { events, hold, seed: self.random.random() }
    }

    fn event(&mut self) -> Event {
        if self.deck.is_empty() {
            self.deck = Fault::ALL.to_vec();
            self.deck.shuffle(&mut self.random);
        }
        let random = &mut self.random;
        Event {
            after: Duration::from_millis(random.random_range(AFTER_MS)),
            fault: self.deck.pop().expect("it was filled"),
            choice: random.random(),
            pause: Duration::from_millis(random.random_range(SHORT_PAUSE_MS)),
            jump_hours: random.random_range(JUMP_HOURS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_seed_is_one_schedule_and_each_kind_comes_before_any_comes_again() {
        let draw = |seed| {
            let mut schedule = Schedule::new(seed);
            (0..8).map(|_| schedule.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for seed in 0..100 {
            let kinds: Vec<Fault> = draw(seed).iter().flat_map(|plan| &plan.events).map(|event| event.fault).collect();
            assert_eq!(kinds[..16].iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from(Fault::ALL));
        }
    }
}
