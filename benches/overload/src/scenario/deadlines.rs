//! Scenario: a million requests with short deadlines, in one process and in virtual time.
//!
//! Virtual time stands still while code runs. So work that starts late is late because of the crate and not because of
//! the machine.
//!
//! A request travels as over a network: only its headers go to the server, in a task that does not notice when the
//! caller stops waiting. The wall clocks of both hosts are wrong by up to five minutes, as their `Date` headers show.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{Empty, Full};
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::client::{ClientRequest, StampLayer};
use mainstay::headers::X_DEADLINE_MS;
use mainstay::limit::QueueConfig;
use mainstay::random::Random;
use mainstay::server::body_limit::LimitedBody;
use mainstay::server::read_body::ReceivedBody;
use mainstay::server::{self, DeadlinePolicy, LimitConfig, ServerConfig};
use mainstay::total_deadline::TotalDeadlineLayer;
use mainstay::{CallError, Deadline, RequestContext};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::Lab;
use crate::arm::Layer;

const CALLERS: u64 = 2_000;
/// Longest time until a request's deadline. The queue alone takes two thirds of it.
const TIME: Duration = Duration::from_millis(60);
/// Longest time of the handler.
const WORK: Duration = Duration::from_millis(4);

#[derive(Debug, Default)]
struct Counts {
    arrived: AtomicU64,
    started: AtomicU64,
    late: AtomicU64,
    /// Longest time by which a start was late, in microseconds.
    latest: AtomicU64,
}

/// The connection between the two hosts.
#[derive(Debug, Clone, Copy)]
struct Network {
    /// Longest transit time of a request.
    transit: Duration,
    /// True if the server gets the deadline header.
    sends_deadline: bool,
}

async fn cross(requests: u64, network: Network) -> anyhow::Result<Arc<Counts>> {
    let counts = Arc::new(Counts::default());
    let random = Random::seeded(9);
    let (seen, draws, base) = (Arc::clone(&counts), random.clone(), Instant::now());
    let handler = service_fn(move |request: Request<ReceivedBody<LimitedBody<Empty<Bytes>>>>| {
        let (seen, work) = (Arc::clone(&seen), draws.up_to(WORK));
        seen.started.fetch_add(1, Ordering::Relaxed);
        let given_up_at = request.headers().get(crate::service::GIVEN_UP_AT);
        let given_up_at = given_up_at.and_then(|v| v.to_str().ok()?.parse::<u64>().ok()).unwrap_or(0);
        let now = micros(base.elapsed());
        if now > given_up_at {
            seen.late.fetch_add(1, Ordering::Relaxed);
            seen.latest.fetch_max(now - given_up_at, Ordering::Relaxed);
        }
        async move {
            sleep(work).await;
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
        }
    });
    let config = ServerConfig::default()
        .limit(LimitConfig::Fixed(64))
        .queue(QueueConfig::default().capacity(Some(1_000)))
        .deadline(DeadlinePolicy::new(Duration::from_secs(30), Duration::from_secs(30)));
    let server = server::stack(config)?.layer(handler);
    let (seen, draws) = (Arc::clone(&counts), random.clone());
    let transport = service_fn(move |request: ClientRequest| {
        let (server, seen, transit) = (server.clone(), Arc::clone(&seen), draws.up_to(network.transit));
        let mut crossing = Request::new(Empty::<Bytes>::new());
        request.headers().clone_into(crossing.headers_mut());
        if !network.sends_deadline {
            crossing.headers_mut().remove(X_DEADLINE_MS);
        }
        let served = tokio::spawn(async move {
            if !transit.is_zero() {
                sleep(transit).await;
            }
            seen.arrived.fetch_add(1, Ordering::Relaxed);
            server.oneshot(crossing).await
        });
        async move {
            match served.await {
                Ok(Ok(reply)) => Ok(reply.map(|_| Bytes::new())),
                Ok(Err(never)) => match never {},
                Err(cause) => Err(CallError::Transport(Arc::new(cause))),
            }
        }
    });
    let client =
        AttemptTimeoutLayer::new("dependency", TIME)?.layer(StampLayer::new("dependency").layer(transport));
    let client = TotalDeadlineLayer::new("dependency", TIME, Duration::ZERO).layer(client);
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let (client, random, counts) = (client.clone(), random.clone(), Arc::clone(&counts));
        callers.spawn(async move {
            sleep(Duration::from_micros(n * 10)).await;
            while counts.arrived.load(Ordering::Relaxed) < requests {
                let left = random.up_to(TIME);
                let mut context = RequestContext::background(left);
                context.deadline = Deadline::at(Instant::now() + left);
                let wrong = random.up_to(Duration::from_mins(10)).as_secs();
                let request = Request::get("http://127.0.0.1/")
                    .header(crate::service::GIVEN_UP_AT, micros(base.elapsed() + left))
                    .header(
                        header::DATE,
                        format!("Sat, 21 Nov 2026 12:{:02}:{:02} GMT", wrong / 60, wrong % 60),
                    )
                    .extension(context)
                    .body(Full::default())
                    .expect("every part is well formed");
                // The scenario does not need the result.
                drop(client.clone().oneshot(request).await);
                sleep(random.up_to(TIME)).await;
            }
        });
    }
    while callers.join_next().await.is_some() {}
    Ok(counts)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

pub(super) fn run(lab: &mut Lab) -> anyhow::Result<()> {
    let requests = if lab.quick { 100_000 } else { 1_000_000 };
    lab.progress(&format!("{requests} requests with at most {} ms each, in virtual time", TIME.as_millis()));
    let virtually = |requests, network| {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(cross(requests, network))
    };
    let sends_deadline = lab.without != Some(Layer::Deadline);
    let at_once = Network { transit: Duration::ZERO, sends_deadline };
    let counts = virtually(requests, at_once)?;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let late = count(&counts.late);
    let text = format!("{late} of {} arrived, {} started", count(&counts.arrived), count(&counts.started));
    lab.report.goal(
        format!("work started after its deadline in {requests} requests, skewed clocks: 0"),
        text,
        late == 0,
    );
    if lab.quick {
        lab.report.claim(late == 0, "no work starts after its deadline");
    }
    let without_header = virtually(requests / 10, Network { sends_deadline: false, ..at_once })?;
    let text = format!("{} of {} started", count(&without_header.late), count(&without_header.started));
    lab.report.compare("work started after its deadline, if the server does not get the deadline", text);
    let slow = virtually(requests / 10, Network { transit: Duration::from_millis(5), ..at_once })?;
    let text = format!(
        "{} of {} started, at most {:.1} ms late",
        count(&slow.late),
        count(&slow.started),
        count(&slow.latest) as f64 / 1_000.0
    );
    lab.report.compare(
        "work started after its deadline by the caller's clock, if a request travels up to 5 ms",
        text,
    );
    let (started, late) = lab.started;
    lab.report.compare(
        "work started after its deadline over sockets, all scenarios, all on",
        format!("{late} of {started} started"),
    );
    Ok(())
}
