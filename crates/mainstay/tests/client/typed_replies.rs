//! A typed client's reading of replies: a reply that cannot be read is unknown to every layer.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use mainstay::breaker::BreakerState;
use mainstay::client::{ClientRequest, ReplyReader};
use mainstay::retry::RetryConfig;
use mainstay::{CallError, Outcome, RequestContext};
use tokio::time::Instant;

use crate::recorder::Recorder;
use crate::support::{
    DepositMany as _, Do, HOST, Peer, With as _, call, config, get, post, post_with_key, stack,
};

/// A request whose reader cannot read the scripted peer's replies, because their bodies are not JSON.
fn typed(mut request: ClientRequest) -> ClientRequest {
    request.extensions_mut().insert(ReplyReader::new(|reply: &mut Response<Bytes>| {
        serde_json::from_slice::<u64>(reply.body()).map(drop).map_err(|error| error.to_string())
    }));
    request
}

#[tokio::test(start_paused = true)]
async fn law_01_a_reply_that_cannot_be_read_is_unknown_to_every_layer_and_never_a_success() {
    for status in [200, 201, 404, 409, 503] {
        let recorder = Recorder::new();
        let retry = RetryConfig::default().max_attempts(1);
        let stack = stack(config().retry(retry), &Peer::always(Do::Says(status, "refused")));
        let context = RequestContext::background(Duration::from_secs(5));
        let error = call(&stack, typed(post_with_key()).with(&context)).await.unwrap_err();
        assert_eq!((error.outcome(), error.reason()), (Outcome::Unknown, "unreadable-reply"));
        assert!(
            error.to_string().starts_with(&format!("reply with status {status} cannot be read")),
            "{error}"
        );
        let metrics = recorder.metrics();
        for name in ["mainstay_client_attempts_total", "mainstay_client_requests_total"] {
            assert_eq!(metrics[&format!("{name}{{peer=inventory,outcome=unknown}}")], [1.0]);
        }
        assert!(!metrics.iter().any(|(name, n)| name.contains("outcome=success") && n.contains(&1.0)));
        assert!(context.trail.snapshot().iter().any(|d| d.layer == "attempt" && d.action == "unknown"));
        assert_eq!(stack.breakers().get(HOST).unwrap().snapshot().failures, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn replies_that_cannot_be_read_open_the_breaker() {
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config(), &peer);
    for _ in 0..5 {
        call(&stack, typed(post())).await.unwrap_err();
    }
    assert_eq!(stack.breakers().get(HOST).unwrap().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_cannot_be_read_is_retried_where_that_is_safe_and_spends_the_budget() {
    for (request, attempts) in [(get(), 3), (post_with_key(), 3), (post(), 1)] {
        let peer = Peer::always(Do::Reply(200));
        let stack = stack(config(), &peer);
        stack.budget().deposit_many(100);
        let before = stack.budget().available(Instant::now());
        call(&stack, typed(request)).await.unwrap_err();
        assert_eq!(peer.calls(), attempts);
        assert_eq!(before - stack.budget().available(Instant::now()), attempts as u64 - 1);
    }
}

#[tokio::test(start_paused = true)]
async fn the_retry_after_of_a_reply_that_cannot_be_read_is_kept() {
    let stack = stack(config(), &Peer::always(Do::ComeBackAfter(3)));
    let error = call(&stack, typed(post())).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
}

#[tokio::test(start_paused = true)]
async fn the_reason_that_a_reader_gives_is_bounded() {
    let stack = stack(config(), &Peer::always(Do::Reply(200)));
    let mut request = post();
    request.extensions_mut().insert(ReplyReader::new(|_: &mut Response<Bytes>| Err("é".repeat(100_000))));
    let CallError::UnreadableReply { reason, .. } = call(&stack, request).await.unwrap_err() else {
        panic!("the reader refuses every reply")
    };
    assert_eq!(reason.len(), 256);
}
