//! Generation of a schedule from a seed.
//!
//! Each seed first draws the kinds of faults that it may use, and then faults of these kinds only (swarm testing: Groce
//! and others, 2012). A run with all kinds hides failures that a few kinds alone would show, for example because a
//! breaker is open all the time.

use std::ops::RangeInclusive;

use local::Service;
use mainstay::random::Random;

use super::schedule::{Fault, OnHop, OnNetwork, Schedule, Settings, Step, Target};
use crate::proxy::{Cut, Direction, Ending, Point};

/// Length of the load: long enough for three faults at each target, and short enough for three seeds in an ordinary
/// test run.
const LENGTH_MS: u64 = 6_000;

/// Random draws that repeat for the same seed.
#[derive(Debug)]
pub(super) struct Draw(Random);

impl Draw {
    /// The draws of one `stream` of a seed. Each stream is a separate sequence.
    pub(super) fn of(seed: u64, stream: u64) -> Self {
        let start = Random::seeded(seed ^ Random::seeded(stream).next_u64()).next_u64();
        Self(Random::seeded(start))
    }

    /// A number of the range. The draw is uniform, except that 2^64 may not be a multiple of the range's width.
    pub(super) fn within(&self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.0.next_u64() % (range.end() - range.start() + 1)
    }

    pub(super) fn index(&self, length: usize) -> usize {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        usize::try_from(self.within(0..=length - 1)).unwrap_or(0)
    }

    pub(super) fn one_of<T: Copy>(&self, all: &[T]) -> T {
        all[self.index(all.len())]
    }

    pub(super) fn percent(&self, chance: u64) -> bool {
        self.within(0..=99) < chance
    }
}

/// Kind of fault that a seed may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Leave,
    Pause,
    KillPostgres,
    Delay,
    LoseRequest,
    LoseReply,
    BrokenReply,
    Duplicate,
    Hold,
    Refuse,
    Resend,
    SlowDatabase,
    Freeze,
    Blackhole,
    RefuseDatabase,
    CutCommits,
    CutReplies,
}

const OF_PROCESS: &[Kind] = &[Kind::Kill, Kind::Leave, Kind::Pause];
const OF_POSTGRES: &[Kind] = &[Kind::KillPostgres];
const OF_HOP: &[Kind] = &[
    Kind::Delay,
    Kind::LoseRequest,
    Kind::LoseReply,
    Kind::BrokenReply,
    Kind::Duplicate,
    Kind::Hold,
    Kind::Refuse,
    Kind::Resend,
];
const OF_NETWORK: &[Kind] = &[
    Kind::SlowDatabase,
    Kind::Freeze,
    Kind::Blackhole,
    Kind::RefuseDatabase,
    Kind::CutCommits,
    Kind::CutReplies,
];

impl Schedule {
    /// The schedule of a seed. The same seed always gives the same schedule.
    pub fn of_seed(seed: u64) -> Self {
        let draw = Draw::of(seed, 0);
        let settings = Settings {
            seed,
            length_ms: LENGTH_MS,
            orders: draw.one_of(&[1, 2]),
            inventories: draw.one_of(&[1, 2]),
            // The service's default, or so short that holds expire during other faults.
            hold_seconds: draw.one_of(&[900, 900, 3]),
            clients: draw.within(5..=10),
        };
        let mut steps = Vec::new();
        for (target, kinds) in targets(&settings) {
            let usable: Vec<Kind> = kinds.iter().copied().filter(|_| draw.percent(60)).collect();
            if !usable.is_empty() && draw.percent(70) {
                add_steps(&draw, &settings, target, &usable, &mut steps);
            }
        }
        steps.sort_by_key(|step: &Step| step.at_ms);
        Self { settings, steps }
    }
}

fn targets(settings: &Settings) -> Vec<(Target, &'static [Kind])> {
    let mut targets = vec![(Target::Postgres, OF_POSTGRES)];
    for service in Service::BOTH {
        targets.push((Target::Network(service), OF_NETWORK));
        let replicas = 0..settings.replicas(service);
        targets.extend(replicas.map(|replica| (Target::Process(service, replica), OF_PROCESS)));
    }
    targets.extend((0..settings.hops()).map(|hop| (Target::Hop(hop), OF_HOP)));
    targets
}

/// Adds faults at one target, one after the other. The pauses between them are sometimes too short to recover.
fn add_steps(draw: &Draw, settings: &Settings, target: Target, kinds: &[Kind], steps: &mut Vec<Step>) {
    let mut at_ms = draw.within(100..=2_500);
    loop {
        let (fault, for_ms) = fault(draw, target, draw.one_of(kinds));
        if at_ms + for_ms > settings.length_ms {
            return;
        }
        steps.push(Step { at_ms, for_ms, fault });
        at_ms += for_ms + draw.within(200..=2_500);
    }
}

/// A fault of this kind at this target, and its length in milliseconds.
fn fault(draw: &Draw, target: Target, kind: Kind) -> (Fault, u64) {
    let brief = draw.within(50..=1_200);
    // The lease of a request ends two seconds after its deadline. Some pauses must be longer than that.
    let long = draw.within(200..=4_000);
    match target {
        Target::Process(service, replica) => match kind {
            Kind::Leave => (Fault::Leave { service, replica }, brief),
            Kind::Pause => (Fault::Pause { service, replica }, long),
            _ => (Fault::Kill { service, replica }, brief),
        },
        Target::Postgres => (Fault::KillPostgres, brief),
        Target::Hop(hop) => {
            let calls =
                draw.one_of(&["/reservations", "/reservations", "/confirm", "/release", ""]).to_owned();
            let spoils = on_hop(draw, kind);
            (Fault::Hop { hop, calls, spoils }, if kind == Kind::Hold { long } else { brief })
        }
        Target::Network(service) => (Fault::Network { service, spoils: on_network(draw, kind) }, brief),
    }
}

fn on_hop(draw: &Draw, kind: Kind) -> OnHop {
    let ending = draw.one_of(&[Ending::Hang, Ending::Close, Ending::Reset]);
    match kind {
        Kind::Delay => OnHop::Delay { request_ms: draw.within(0..=800), reply_ms: draw.within(0..=800) },
        Kind::LoseRequest => OnHop::LoseRequest { ending },
        Kind::BrokenReply if draw.percent(50) => OnHop::CutReply { after: draw.index(600), ending },
        Kind::BrokenReply => OnHop::Nonsense { status: draw.one_of(&[200, 201, 404, 409, 500, 502]) },
        Kind::Duplicate => OnHop::Duplicate { at_once: draw.percent(50) },
        Kind::Hold => OnHop::Hold { point: draw.one_of(&[Point::Request, Point::Request, Point::Reply]) },
        Kind::Refuse => OnHop::Refuse,
        Kind::Resend => OnHop::Resend { back: draw.index(60) },
        _ => OnHop::LoseReply { ending },
    }
}

fn on_network(draw: &Draw, kind: Kind) -> OnNetwork {
    let direction = draw.one_of(&[Direction::Up, Direction::Down]);
    match kind {
        Kind::SlowDatabase => OnNetwork::Slow { ms: draw.within(1..=60) },
        Kind::Freeze => OnNetwork::Freeze { direction },
        Kind::Blackhole => OnNetwork::Blackhole { direction },
        Kind::CutCommits => {
            OnNetwork::CutCommits { cut: draw.one_of(&[Cut::BeforeDelivery, Cut::BeforeReply]) }
        }
        Kind::CutReplies => OnNetwork::CutReplies { after: draw.within(1..=20_000) },
        _ => OnNetwork::Refuse,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_same_seed_gives_the_same_schedule(seed: u64) {
            prop_assert_eq!(Schedule::of_seed(seed), Schedule::of_seed(seed));
        }

        /// Every target exists, every fault ends before the clients stop, and faults at one target do not overlap.
        #[test]
        fn every_generated_schedule_is_valid(seed: u64) {
            let schedule = Schedule::of_seed(seed);
            prop_assert!(schedule.check().is_ok(), "{:?}", schedule.check());
        }

        /// Shrinking relies on this.
        #[test]
        fn every_part_of_a_schedule_is_valid(seed: u64, kept in proptest::bits::u64::ANY) {
            let schedule = Schedule::of_seed(seed);
            let steps = schedule.steps.iter().enumerate();
            let part = steps.filter(|(n, _)| kept >> (n % 64) & 1 == 1).map(|(_, step)| step.clone());
            prop_assert!(schedule.with(part.collect()).check().is_ok());
        }

        #[test]
        fn a_schedule_read_from_its_file_equals_the_written_one(seed: u64) {
            let schedule = Schedule::of_seed(seed);
            let lines = schedule.to_lines().unwrap();
            prop_assert_eq!(lines.lines().count(), schedule.steps.len() + 1);
            prop_assert_eq!(Schedule::from_lines(&lines).unwrap(), schedule);
        }
    }

    #[test]
    fn three_hundred_seeds_use_every_fault() {
        let steps = (0..300).flat_map(|seed| Schedule::of_seed(seed).steps);
        let seen: HashSet<String> = steps
            .map(|step| {
                let json = serde_json::to_value(&step).unwrap();
                format!("{} {}", json["fault"], json["spoils"])
            })
            .collect();
        // 3 faults of a process, 1 of PostgreSQL, 9 of a hop, 6 of a network.
        assert_eq!(seen.len(), 19, "{seen:?}");
    }
}
