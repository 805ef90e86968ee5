//! Closed-loop load: a fixed number of connections, each with one request at a time.
//!
//! Each order has two lines with SKUs drawn uniformly, and its own idempotency key. The figures are those that a client
//! can measure.

use std::time::Duration;

use anyhow::Context;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::draw::Draw;
use crate::variant::Target;

/// Figures of a run.
#[derive(Debug, Clone)]
pub struct Figures {
    pub orders: f64,
    pub orders_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Number of replies with a status other than 201.
    pub others: u64,
}

/// Runs the load for `time` and returns its figures.
pub async fn run(target: &Target, connections: u64, time: Duration) -> anyhow::Result<Figures> {
    let started = Instant::now();
    let end = started + time;
    let each = (0..connections).map(|n| tokio::spawn(connection(target.clone(), n, end)));
    let each = try_join_all(each).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let mut all = Histogram::<u64>::new(3)?;
    let mut others = 0;
    for one in each {
        let (latencies, failed) = one?;
        all.add(latencies)?;
        others += failed;
    }
    let millis = |q| {
        #[allow(clippy::cast_precision_loss)] // microseconds below 2^53
        let micros = all.value_at_quantile(q) as f64;
        micros / 1_000.0
    };
    #[allow(clippy::cast_precision_loss)] // a count of requests
    let orders = all.len() as f64;
    Ok(Figures {
        orders,
        orders_per_second: orders / elapsed,
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        others,
    })
}

async fn connection(target: Target, number: u64, end: Instant) -> anyhow::Result<(Histogram<u64>, u64)> {
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.with_context(|| format!("connecting to {}", target.address))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut others = 0;
    let mut draw = Draw::seeded(number);
    while Instant::now() < end {
        let request = target.order(target.path, &mut draw)?;
        let sent = Instant::now();
        sender.ready().await?;
        let reply = sender.send_request(request).await?;
        let status = reply.status();
        reply.into_body().collect().await?;
        if status == http::StatusCode::CREATED {
            latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
        } else {
            others += 1;
        }
    }
    Ok((latencies, others))
}
