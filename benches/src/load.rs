//! The load: so many connections, each with one request at a time, two lines of uniformly drawn SKUs, a new key for
//! every order. It sees only what a client sees.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use uuid::Uuid;

/// SKUs that exist; their names are `sku-00001` and so on.
pub(crate) const SKUS: u64 = 1_000;

/// What one variant's load looks like.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: &'static str,
    pub(crate) token: String,
    /// The body for two SKUs.
    pub(crate) body: fn(u64, u64) -> String,
    pub(crate) connections: u64,
    pub(crate) time: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) orders: f64,
    pub(crate) orders_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Replies that were not 201.
    pub(crate) others: u64,
}

/// xorshift64*: cheap, seedable, good enough to draw SKUs.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % below
    }
}

/// Runs the load for its time.
pub(crate) async fn run(load: &Load) -> anyhow::Result<Seen> {
    let began = Instant::now();
    let each = try_join_all((0..load.connections).map(|n| tokio::spawn(connection(load.clone(), n)))).await?;
    let elapsed = began.elapsed().as_secs_f64();
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
    Ok(Seen {
        orders,
        orders_per_second: orders / elapsed,
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
        others,
    })
}

async fn connection(load: Load, number: u64) -> anyhow::Result<(Histogram<u64>, u64)> {
    let stream =
        TcpStream::connect(load.address).await.with_context(|| format!("connecting to {}", load.address))?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut others = 0;
    let mut draw = Draw(0x9E37_79B9_7F4A_7C15 ^ (number + 1) << 17);
    let end = Instant::now() + load.time;
    while Instant::now() < end {
        let one = 1 + draw.next(SKUS - 1);
        let other = one + 1 + draw.next(SKUS - one);
        let request = http::Request::post(load.path)
            .header("host", load.address.to_string())
            .header("authorization", format!("Bearer {}", load.token))
            .header("content-type", "application/json")
            .header("idempotency-key", Uuid::new_v4().to_string())
            .body(Full::<Bytes>::from((load.body)(one, other)))?;
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
