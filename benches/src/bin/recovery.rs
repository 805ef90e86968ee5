//! Benchmark of recovery: the time until orders are decided after inventory comes back.
//!
//! Inventory is killed under a steady stream of orders, stays dead for a while, and is restarted.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use local::child::Restart;
use local::pair::{PairOptions, Programs, Server};
use local::{PostgresOptions, RunningPair, Service};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

/// Kills inventory under load, restarts it, and measures how long orders stay undecided.
#[derive(Parser, Debug)]
struct Args {
    /// Orders per second, open loop
    #[arg(long, default_value_t = 50)]
    rate: u64,
    /// Seconds that inventory stays dead
    #[arg(long, default_value_t = 30)]
    dead: u64,
}

type Http = Client<HttpConnector, Full<Bytes>>;

fn main() -> ExitCode {
    if let Some(ended) = pair_benches::as_service() {
        return ended;
    }
    let args = Args::parse();
    let runtime =
        tokio::runtime::Runtime::new().expect("the operating system gives threads for the load's runtime");
    match runtime.block_on(measure(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Number of replies by kind.
#[derive(Debug, Default)]
struct Replies {
    created: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let programs = Programs::mainstay(&std::env::current_exe()?);
    let mut options = PairOptions::new(programs, Server::Private(PostgresOptions::temporary()));
    options.restart = Restart::Never;
    let pair = RunningPair::start(options).await?;
    let ready = pair.ready();
    let http: Http = Client::builder(TokioExecutor::new()).build_http();
    for n in 0..100 {
        let body = format!(r#"{{"sku":"sku-{n:05}","on_hand":1000000}}"#);
        let status =
            post(&http, &format!("{}/v1/items", ready.inventory), &ready.tokens.operator, body).await?;
        ensure!(status == 201, "creating an item was answered {status}");
    }

    let replies = Arc::new(Replies::default());
    let stop = Arc::new(tokio::sync::Notify::new());
    let load = tokio::spawn(load(
        http,
        format!("{}/v1/orders", ready.order),
        ready.tokens.client,
        args.rate,
        replies.clone(),
        stop.clone(),
    ));
    sleep(Duration::from_secs(5)).await;
    pair.kill(Service::Inventory).await;
    println!("inventory killed; {} orders/s continue for {} s", args.rate, args.dead);
    sleep(Duration::from_secs(args.dead)).await;

    let mut orders =
        PgConnection::connect(&ready.databases.order).await.context("connecting to the order database")?;
    let waiting = undecided(&mut orders, None).await?;
    let started = Instant::now();
    pair.start_service(Service::Inventory).await?;
    pair.wait_until_ready(Service::Inventory).await?;
    let (back, back_at): (Instant, time::OffsetDateTime) =
        (Instant::now(), sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut orders).await?);
    println!(
        "inventory is back, ready after {:.1} s; {waiting} orders undecided",
        (back - started).as_secs_f64()
    );
    // Count only orders placed before inventory was back. Later orders are ordinary traffic.
    while undecided(&mut orders, Some(back_at)).await? > 0 {
        ensure!(back.elapsed() < Duration::from_mins(1), "orders are still undecided after a minute");
        sleep(Duration::from_millis(20)).await;
    }
    println!("all of these orders decided {:.2} s after that", back.elapsed().as_secs_f64());
    sleep(Duration::from_secs(2)).await;
    stop.notify_one();
    load.await??;
    while undecided(&mut orders, None).await? > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    let placed: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&mut orders).await?;
    let (created, accepted) =
        (replies.created.load(Ordering::Relaxed), replies.accepted.load(Ordering::Relaxed));
    println!(
        "answered 201: {created}, 202: {accepted}, refused: {}; orders in the database: {placed}",
        replies.refused.load(Ordering::Relaxed)
    );
    ensure!(u64::try_from(placed)? == created + accepted, "an order was lost or duplicated");
    orders.close().await?;
    pair.stop().await?;
    Ok(())
}

async fn undecided(orders: &mut PgConnection, before: Option<time::OffsetDateTime>) -> anyhow::Result<i64> {
    let query = "SELECT count(*) FROM orders WHERE due_at IS NOT NULL AND status <> 'reserved'
                 AND created_at < coalesce($1, 'infinity')";
    Ok(sqlx::query_scalar(query).bind(before).fetch_one(orders).await?)
}

/// Sends orders at absolute times, also if earlier orders have no answer yet.
async fn load(
    http: Http,
    url: String,
    token: String,
    rate: u64,
    replies: Arc<Replies>,
    stop: Arc<tokio::sync::Notify>,
) -> anyhow::Result<()> {
    let (started, gap) = (Instant::now(), Duration::from_secs(1) / u32::try_from(rate)?);
    let mut due = started;
    let mut sent = tokio::task::JoinSet::new();
    let mut n = 0_u64;
    loop {
        tokio::select! {
            () = sleep_until(due) => {}
            () = stop.notified() => break,
        }
        due += gap;
        n += 1;
        let body =
            format!(r#"{{"customer_id":"1","lines":[{{"sku":"sku-{:05}","quantity":1}}]}}"#, n * 7 % 100);
        let (http, url, token, replies) = (http.clone(), url.clone(), token.clone(), replies.clone());
        sent.spawn(async move {
            let counter = match post(&http, &url, &token, body).await {
                Ok(201) => &replies.created,
                Ok(202) => &replies.accepted,
                Ok(_) | Err(_) => &replies.refused,
            };
            counter.fetch_add(1, Ordering::Relaxed);
        });
        while sent.try_join_next().is_some() {}
    }
    while sent.join_next().await.is_some() {}
    Ok(())
}

async fn post(http: &Http, url: &str, token: &str, body: String) -> anyhow::Result<u16> {
    let request = http::Request::post(url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .header("idempotency-key", Uuid::new_v4().to_string())
        .body(Full::from(body))?;
    let reply = http.request(request).await?;
    let status = reply.status().as_u16();
    reply.into_body().collect().await?;
    Ok(status)
}
