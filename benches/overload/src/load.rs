//! The load: open loop. Every request has its time on an absolute schedule, is sent whether or not earlier ones were
//! answered, and is timed from when it was due. Refusals are kept apart from successes.

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

/// Requests under way at once; what is due beyond is counted as unsent. Sockets for them and for their other ends fit
/// under a usual limit of 20,000 open files.
const MOST_UNDER_WAY: usize = 4_000;

/// A constant rate for some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Requests a second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) phases: Vec<Phase>,
    /// The share of requests for the hot key.
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

    /// When each request is due, in seconds from the beginning: anywhere within its second, as bursty as independent
    /// callers are, but as many in each second as the rate says, so that runs can be compared.
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

/// How a request ended, as its caller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered with success within the caller's patience.
    Success,
    /// Refused, here or by the dependency: it certainly did not happen.
    Refused,
    /// Anything else.
    Failed,
    /// Not sent, since the generator had as many requests under way as it may.
    Unsent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// When it was due, in seconds from the beginning.
    pub(crate) due: f64,
    /// How long after that it ended, in seconds.
    pub(crate) took: f64,
    pub(crate) end: End,
    pub(crate) endpoint: usize,
    pub(crate) hot: bool,
}

/// Sends the load to the stage, and comes back when every request has ended.
pub(crate) async fn run(load: &Load, stage: &Stage) -> Vec<Record> {
    let records = Arc::new(Mutex::new(Vec::new()));
    let under_way = Arc::new(AtomicUsize::new(0));
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
        if under_way.load(Ordering::Relaxed) >= MOST_UNDER_WAY {
            records.lock().unwrap_or_else(PoisonError::into_inner).push(record);
            continue;
        }
        under_way.fetch_add(1, Ordering::Relaxed);
        let path = if hot { HOT_PATH.to_owned() } else { format!("/{n}") };
        let request = request(stage, endpoint, &path, at);
        let caller = stage.clients[client].caller.clone();
        let (records, under_way) = (Arc::clone(&records), Arc::clone(&under_way));
        tasks.spawn(async move {
            let result = caller.oneshot(request).await;
            let took = at.elapsed();
            record.took = took.as_secs_f64();
            record.end = match classify::outcome(&result) {
                Outcome::Success if took <= PATIENCE => End::Success,
                Outcome::Throttled | Outcome::RejectedUnsent => End::Refused,
                _ => End::Failed,
            };
            under_way.fetch_sub(1, Ordering::Relaxed);
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
