//! A client of a price feed behind a retry with its budget, a timeout and a circuit breaker. Request, reply and error
//! are the program's own types; nothing here is HTTP.
//!
//! ```text
//! retry with budget → breaker → attempt timeout → the price feed
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::BreakerLayer;
use mainstay::retry::{Repeatable, RetryLayer};
use mainstay::{CallError, Error, Outcome};
use tower::{Layer, Service, ServiceExt};

/// A question for the price of a share.
#[derive(Debug, Clone)]
struct Ask(&'static str);

/// A price in cents.
#[derive(Debug, PartialEq)]
struct Price(u64);

#[derive(Debug, Clone, PartialEq)]
enum FeedError {
    UnknownShare,
    LineDropped,
}

/// A feed whose line drops the first call, and that stops answering after the third.
#[derive(Debug, Clone, Default)]
struct Feed {
    calls: Arc<AtomicU32>,
}

impl Service<Ask> for Feed {
    type Response = Price;
    type Error = FeedError;
    type Future = Pin<Box<dyn Future<Output = Result<Price, FeedError>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), FeedError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, Ask(share): Ask) -> Self::Future {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            match (call, share) {
                (0, _) => Err(FeedError::LineDropped),
                (1..=2, "ACME") => Ok(Price(1_250)),
                (1..=2, _) => Err(FeedError::UnknownShare),
                _ => std::future::pending().await,
            }
        })
    }
}

/// The outcome of a call, for every layer.
fn outcome(result: Result<&Price, &FeedError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(FeedError::UnknownShare) => Outcome::Refused,
        Err(FeedError::LineDropped) => Outcome::Unknown,
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let timeout = AttemptTimeoutLayer::builder("feed").timeout(Duration::from_millis(50)).build()?;
    let breaker = BreakerLayer::builder("feed").classify(outcome).outer().build()?;
    // Asking for a price changes nothing, so a question may be sent again.
    let retry = RetryLayer::builder("feed").classify(outcome).outer().build()?.repeat(|_: &Ask| Repeatable::Safe);
    let client = retry.layer(breaker.layer(timeout.layer(Feed::default())));
    let ask = |share| client.clone().oneshot(Ask(share));

    // The line drops, and the retry gets the price.
    assert_eq!(ask("ACME").await.ok(), Some(Price(1_250)));
    // An answer that refuses is no failure of the feed, and is not repeated.
    assert_eq!(ask("NONE").await.unwrap_err().into_inner(), Some(FeedError::UnknownShare));
    // The feed hangs: each attempt is cut off, the budget allows few repeats, and the breaker opens.
    loop {
        match ask("ACME").await {
            Err(Error::Rejected(CallError::AttemptTimedOut { after })) => println!("no answer within {after:?}"),
            Err(Error::Rejected(refused)) => {
                println!("not sent: {refused}");
                return Ok(());
            }
            other => return Err(format!("the feed is silent, but the client got {other:?}").into()),
        }
    }
}
