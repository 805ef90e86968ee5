//! One run: services, clients, load, and faults of the services at given times.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http_body_util::Full;
use mainstay::client::ClientRequest;
use mainstay::random::Random;
use mainstay::{Deadline, Outcome, RequestContext, classify};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tower::ServiceExt as _;

use crate::arm::{Arm, Client, Extras, Guard};
use crate::load::{End, Load, Record};
use crate::series::Series;
use crate::service::{GIVEN_UP_AT, HOT_PATH, Service, Trouble};
use crate::settings::PATIENCE;

/// Number of clients that share the load. Each stands for a process, with its own budget, breakers and connections.
const CLIENTS: usize = 8;

/// Most requests in flight. A request that is due while so many are in flight counts as unsent.
///
/// The sockets of both ends fit under a usual limit of 20,000 open files.
const MAX_IN_FLIGHT: usize = 4_000;

pub(crate) struct Stage {
    pub(crate) services: Vec<Service>,
    pub(crate) clients: Vec<Client>,
    /// Requests passed to the clients' transports.
    pub(crate) attempts: Series,
    pub(crate) base: Instant,
}

/// Settings of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) arm: Arm,
    pub(crate) endpoints: usize,
    pub(crate) clients: usize,
    pub(crate) extras: Extras,
    /// True if a lock serializes the requests for the hot key.
    pub(crate) hot_lock: bool,
}

impl Plan {
    pub(crate) fn new(arm: Arm) -> Self {
        Self { arm, endpoints: 1, clients: CLIENTS, extras: Extras::default(), hot_lock: false }
    }
}

/// A change of a service at a time, in seconds from the start of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Trouble { at: f64, endpoint: usize, trouble: Trouble },
    WorkTime { at: f64, endpoint: usize, work: Duration },
}

impl Stage {
    pub(crate) async fn build(plan: Plan) -> anyhow::Result<Self> {
        let base = Instant::now();
        let attempts = Series::new(base);
        let mut services = Vec::new();
        for _ in 0..plan.endpoints {
            services.push(Service::start(Guard(plan.arm, plan.extras), base, plan.hot_lock).await?);
        }
        let clients = (0..plan.clients)
            .map(|n| Client::new(plan.arm, plan.extras, &attempts, n as u64))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { services, clients, attempts, base })
    }

    /// Runs the load together with the events, which must be ordered by time.
    pub(crate) async fn run(&self, load: &Load, events: &[Event]) -> anyhow::Result<Vec<Record>> {
        let script = async {
            for event in events {
                let (Event::Trouble { at, .. } | Event::WorkTime { at, .. }) = event;
                sleep_until(self.base + Duration::from_secs_f64(*at)).await;
                match *event {
                    Event::Trouble { endpoint, trouble, .. } => {
                        self.services[endpoint].set_trouble(trouble).await?;
                    }
                    Event::WorkTime { endpoint, work, .. } => self.services[endpoint].set_work_time(work),
                }
            }
            anyhow::Ok(())
        };
        let (records, script) = tokio::join!(send(load, self), script);
        script?;
        Ok(records)
    }

    /// Requests that reached the services.
    pub(crate) fn arrivals(&self, from: f64, to: f64) -> f64 {
        self.services.iter().map(|service| service.state.arrivals.between(from, to)).sum()
    }

    /// Number of requests whose work started, and how many of them started after their deadline.
    pub(crate) fn started(&self) -> (u64, u64) {
        self.services.iter().fold((0, 0), |(started, late), service| {
            let state = &service.state;
            (
                started + state.started.load(Ordering::Relaxed),
                late + state.started_late.load(Ordering::Relaxed),
            )
        })
    }
}

/// Sends the load to the stage and returns when every request has its result.
async fn send(load: &Load, stage: &Stage) -> Vec<Record> {
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

fn request(stage: &Stage, endpoint: usize, path: &str, due: Instant) -> ClientRequest {
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
