//! Open-loop load on an absolute schedule.
//!
//! Every order is sent at its time on the schedule, also if earlier orders have no answer yet, and its latency counts
//! from that time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use pair_benches::draw::Draw;
use pair_benches::variant::Target;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// Time that a client waits for a reply, and the longest latency of an order that counts as placed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Most orders in flight. An order that is due while so many are in flight counts as unsent.
///
/// The sockets of both ends fit under a usual limit of 20,000 open files.
const MAX_IN_FLIGHT: usize = 4_000;

/// A phase of constant rate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Orders per second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

/// Result of an order, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Answered 201 within the patience.
    Placed,
    /// Answered 202: the order exists and is decided later.
    Accepted,
    /// Every attempt was refused.
    Refused,
    /// No attempt succeeded, and at least one had no complete answer in time. The order may exist.
    Unknown,
    /// Not sent, because too many orders were in flight.
    Unsent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// Time at which the order was due, in seconds from the start of the run.
    pub(crate) due: f64,
    /// Time from then until the result, in seconds.
    pub(crate) took: f64,
    pub(crate) attempts: u32,
    pub(crate) end: End,
}

/// Runs the phases one after the other and returns when every order has its result.
///
/// Each client makes up to `tries` attempts with one idempotency key, without a pause between them.
pub(crate) async fn run(target: &Target, phases: &[Phase], tries: u32) -> anyhow::Result<Vec<Record>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let in_flight = Arc::new(AtomicUsize::new(0));
    let url = format!("http://{}{}", target.address, target.path);
    let (begin, mut due, mut ends) = (Instant::now(), 0.0, 0.0);
    let (mut draw, mut records, mut tasks) = (Draw::seeded(1), Vec::new(), JoinSet::new());
    for phase in phases {
        ends += phase.seconds;
        while due < ends {
            let at = begin + Duration::from_secs_f64(due);
            sleep_until(at).await;
            while let Some(ended) = tasks.try_join_next() {
                records.push(ended?);
            }
            if in_flight.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
                in_flight.fetch_sub(1, Ordering::Relaxed);
                records.push(Record { due, took: 0.0, attempts: 0, end: End::Unsent });
            } else {
                let (http, in_flight) = (http.clone(), Arc::clone(&in_flight));
                let request = target.order(&url, &mut draw)?;
                tasks.spawn(async move {
                    let (attempts, end) = place(&http, &request, tries).await;
                    in_flight.fetch_sub(1, Ordering::Relaxed);
                    let took = at.elapsed();
                    let end = if end == End::Placed && took > PATIENCE { End::Unknown } else { end };
                    Record { due, took: took.as_secs_f64(), attempts, end }
                });
            }
            due += 1.0 / phase.rate;
        }
    }
    while let Some(ended) = tasks.join_next().await {
        records.push(ended?);
    }
    Ok(records)
}

type Http = Client<HttpConnector, Full<bytes::Bytes>>;

async fn place(http: &Http, request: &http::Request<Full<bytes::Bytes>>, tries: u32) -> (u32, End) {
    let mut end = End::Refused;
    for attempt in 1..=tries {
        let answered = async {
            let reply = http.request(request.clone()).await.ok()?;
            let status = reply.status();
            // A reply counts as received with its last byte.
            reply.into_body().collect().await.ok().map(|_| status)
        };
        // A client that times out closes its connection.
        match timeout(PATIENCE, answered).await.ok().flatten() {
            Some(http::StatusCode::CREATED) => return (attempt, End::Placed),
            Some(http::StatusCode::ACCEPTED) => return (attempt, End::Accepted),
            // On any other status the client tries again at once.
            Some(_) => {}
            None => end = End::Unknown,
        }
    }
    (tries, end)
}
