//! The load: open loop. Every order has its time on an absolute schedule, is sent whether or not earlier ones were
//! answered, and is timed from when it was due.

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

/// How long a client waits for a reply, and how long after an order was due its success still counts.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Orders under way at once; what is due beyond is counted as unsent. Sockets for them and for their other ends fit
/// under a usual limit of 20,000 open files.
const MOST_UNDER_WAY: usize = 4_000;

/// A constant rate for some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Orders a second.
    pub(crate) rate: f64,
    pub(crate) seconds: f64,
}

/// How an order ended, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// 201 within the patience.
    Placed,
    /// 202: taken on, and decided later.
    TakenOn,
    /// Every try was refused.
    Refused,
    /// At least one try was not answered in time or broke off, and none succeeded: it may have happened.
    Unknown,
    /// The generator had as many under way as it may.
    Unsent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Record {
    /// When it was due, in seconds from the beginning.
    pub(crate) due: f64,
    /// How long after that it ended, in seconds.
    pub(crate) took: f64,
    pub(crate) attempts: u32,
    pub(crate) end: End,
}

/// Offers the phases one after the other, each client with up to `tries` tries of one key, one right after the other.
/// Comes back when every order has ended.
pub(crate) async fn run(target: &Target, phases: &[Phase], tries: u32) -> anyhow::Result<Vec<Record>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let http: Http = Client::builder(TokioExecutor::new()).build(connector);
    let under_way = Arc::new(AtomicUsize::new(0));
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
            if under_way.fetch_add(1, Ordering::Relaxed) >= MOST_UNDER_WAY {
                under_way.fetch_sub(1, Ordering::Relaxed);
                records.push(Record { due, took: 0.0, attempts: 0, end: End::Unsent });
            } else {
                let (http, under_way) = (http.clone(), Arc::clone(&under_way));
                let request = target.order(&url, &mut draw)?;
                tasks.spawn(async move {
                    let (attempts, end) = place(&http, &request, tries).await;
                    under_way.fetch_sub(1, Ordering::Relaxed);
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
            // A reply counts once its last byte is here.
            reply.into_body().collect().await.ok().map(|_| status)
        };
        // A client that gives up closes its connection.
        match timeout(PATIENCE, answered).await.ok().flatten() {
            Some(http::StatusCode::CREATED) => return (attempt, End::Placed),
            Some(http::StatusCode::ACCEPTED) => return (attempt, End::TakenOn),
            // Whatever else it says, it goes on at once.
            Some(_) => {}
            None => end = End::Unknown,
        }
    }
    (tries, end)
}
