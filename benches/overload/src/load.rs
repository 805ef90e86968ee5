//! Open-loop load on an absolute schedule.
//!
//! Every request is sent at its time on the schedule, also if earlier requests have no answer yet, and its latency
//! counts from that time. Refusals are counted apart from successes.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use mainstay::random::Random;
use mainstay::{Deadline, Outcome, RequestContext, classify};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt as _;

use crate::arm::PATIENCE;
use crate::service::{GIVEN_UP_AT, HOT_PATH};
use crate::stage::Stage;

/// Most requests in flight. A request that is due while so many are in flight counts as unsent.
///
/// The sockets of both ends fit under a usual limit of 20,000 open files.
const MAX_IN_FLIGHT: usize = 4_000;

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
    fn schedule(&self) -> Vec<f64> {
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

/// Sends the load to the stage and returns when every request has its result.
pub(crate) async fn run(load: &Load, stage: &Stage) -> Vec<Record> {
    let records = Arc::new(Mutex::new(Vec::new()));
    let in_flight = Arc::new(AtomicUsize::new(0));
    let draws = Random::seeded(load.seed + 1);
    let mut tasks = JoinSet::new();
    for (n, due) in load.schedule().into_iter().enumerate() {
        let at = stage.base + Duration::from_secs_f64(due);
        sleep_until(at).await;
        while tasks.try_join_next().is_some() {}
        let endpoint = n % stage.services.len();
        let client = n / stage.services.len() % stage.clients.len();
        let hot = draws.chance(load.hot);
        let mut record = Record { due, took: 0.0, end: End::Unsent, endpoint, hot };
        if in_flight.load(Ordering::Relaxed) >= MAX_IN_FLIGHT {
            records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            continue;
        }
        in_flight.fetch_add(1, Ordering::Relaxed);
        let path = if hot { HOT_PATH.to_owned() } else { format!("/{n}") };
        let request = request(stage, endpoint, &path, at);
        let caller = stage.clients[client].caller.clone();
        let (records, in_flight) = (Arc::clone(&records), Arc::clone(&in_flight));
        tasks.spawn(async move {
            let result = caller.oneshot(request).await;
            let took = at.elapsed();
            record.took = took.as_secs_f64();
            record.end = match classify::outcome(&result) {
                Outcome::Success if took <= PATIENCE => End::Success,
                Outcome::Throttled | Outcome::RejectedUnsent => End::Refused,
                _ => End::Failed,
            };
            in_flight.fetch_sub(1, Ordering::Relaxed);
            records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        });
    }
    while tasks.join_next().await.is_some() {}
    let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *records)
}

fn request(stage: &Stage, endpoint: usize, path: &str, due: Instant) -> mainstay::client::ClientRequest {
    let mut context = RequestContext::background(PATIENCE);
    context.deadline = Deadline::at(due + PATIENCE);
    let given_up_at = (due + PATIENCE).duration_since(stage.base).as_micros();
    let mut request = Request::get(format!("http://{}{path}", stage.services[endpoint].address))
        .header(GIVEN_UP_AT, given_up_at.to_string())
        .body(Full::default())
        .expect("an address and a path of digits make a URI");
    request.extensions_mut().insert(context);
    request
}
