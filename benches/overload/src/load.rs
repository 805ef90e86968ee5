//! Open-loop load on an absolute schedule.
//!
//! Every request is sent at its time on the schedule, also if earlier requests have no answer yet, and its latency
//! counts from that time. Refusals are counted apart from successes.

use mainstay::random::Random;

/// A phase of constant rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Requests per second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) phases: Vec<Phase>,
    /// Share of requests for the hot key.
    pub(crate) hot: f64,
    pub(crate) seed: u64,
}

impl Load {
    pub(crate) fn steady(rate: f64, seconds: f64) -> Self {
        Self::of(vec![Phase { rate, seconds }])
    }

    pub(crate) fn of(phases: Vec<Phase>) -> Self {
        Self { phases, hot: 0.0, seed: 20_261_121 }
    }

    /// Times at which the requests are due, in seconds from the start of the run.
    ///
    /// Within a second the times are random, as bursty as those of independent callers. The number in each second is
    /// fixed by the rate, so that runs can be compared.
    pub(crate) fn schedule(&self) -> Vec<f64> {
        let random = Random::seeded(self.seed);
        let (mut begins, mut all) = (0.0, Vec::new());
        for phase in &self.phases {
            let (mut from, ends) = (begins, begins + phase.seconds);
            while from < ends {
                let span = f64::min(1.0, ends - from);
                let count = (phase.rate * span).round() as usize;
                let first = all.len();
                all.extend((0..count).map(|_| from + random.next_f64() * span));
                all[first..].sort_by(f64::total_cmp);
                from += span;
            }
            begins = ends;
        }
        all
    }
}

/// Result of a request, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// A success within the caller's patience.
    Success,
    /// Refused by the client's stack or by the dependency, so it was certainly not executed.
    Refused,
    /// Any other result.
    Failed,
    /// Not sent, because too many requests were in flight.
    Unsent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Time at which the request was due, in seconds from the start of the run.
    pub(crate) due: f64,
    /// Time from then until the result, in seconds.
    pub(crate) took: f64,
    pub(crate) end: End,
    pub(crate) endpoint: usize,
    pub(crate) hot: bool,
}
