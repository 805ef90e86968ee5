//! The layers around services that know nothing of HTTP, with their own requests, replies and errors.
#![cfg(not(loom))]

use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http::Uri;
use mainstay::attempt_timeout::AttemptTimeoutLayer;
use mainstay::breaker::{BreakerLayer, BreakerState};
use mainstay::bulkhead::BulkheadLayer;
use mainstay::classify::{ByFn, Classify, ReadRequest};
use mainstay::retry::{Repeatable, RetryLayer};
use mainstay::throttle::ThrottleLayer;
use mainstay::total_deadline::TotalDeadlineLayer;
use mainstay::{CallError, Error, Outcome, RequestContext};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _, service_fn};

/// A request to a store: read or count.
#[derive(Debug, Clone, PartialEq)]
enum Command {
    Read(u64),
    Increment(u64),
}

#[derive(Debug, Clone, PartialEq)]
enum StoreError {
    Absent,
    Busy,
    Disconnected,
}

fn outcome(result: Result<&u64, &StoreError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(StoreError::Absent) => Outcome::Refused,
        Err(StoreError::Busy) => Outcome::Throttled,
        Err(StoreError::Disconnected) => Outcome::Unknown,
    }
}

fn repeatable(command: &Command) -> Repeatable {
    match command {
        Command::Read(_) => Repeatable::Safe,
        Command::Increment(_) => Repeatable::OnlyUnexecuted,
    }
}

/// A store that answers every command with `answer`, and counts the calls.
#[derive(Clone)]
struct Store {
    answer: Result<u64, StoreError>,
    calls: Arc<AtomicU32>,
}

impl Store {
    fn answering(answer: Result<u64, StoreError>) -> Self {
        Self { answer, calls: Arc::default() }
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl<Req> Service<Req> for Store {
    type Response = u64;
    type Error = StoreError;
    type Future = std::future::Ready<Result<u64, StoreError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), StoreError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        self.calls.fetch_add(1, Ordering::Relaxed);
        ready(self.answer.clone())
    }
}

#[tokio::test(start_paused = true)]
async fn a_breaker_opens_by_the_classifier_of_its_user() {
    let store = Store::answering(Err(StoreError::Disconnected));
    let layer = BreakerLayer::builder("store").classify(outcome).build().unwrap();
    let client = layer.layer(store.clone());
    for _ in 0..5 {
        let error = client.clone().oneshot(Command::Read(1)).await.unwrap_err();
        assert_eq!(error.into_inner(), Some(StoreError::Disconnected));
    }
    let refused = client.oneshot(Command::Read(1)).await.unwrap_err();
    assert!(matches!(refused.rejected(), Some(CallError::BreakerRejected { .. })), "{refused:?}");
    assert_eq!(store.calls(), 5);
    assert_eq!(layer.breakers().get("store").unwrap().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_store_is_no_failure_although_it_is_an_error() {
    let store = Store::answering(Err(StoreError::Absent));
    let client = BreakerLayer::builder("store").classify(outcome).build().unwrap().layer(store.clone());
    for _ in 0..50 {
        assert!(client.clone().oneshot(Command::Read(1)).await.unwrap_err().rejected().is_none());
    }
    assert_eq!(store.calls(), 50);
}

#[tokio::test(start_paused = true)]
async fn a_breaker_without_a_classifier_takes_every_error_for_a_failure() {
    let store = Store::answering(Err(StoreError::Absent));
    let client = BreakerLayer::builder("store").build().unwrap().layer(store.clone());
    for _ in 0..6 {
        drop(client.clone().oneshot(Command::Read(1)).await);
    }
    assert_eq!(store.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_hangs_ends_by_the_breakers_own_timer() {
    let client = BreakerLayer::builder("store").build().unwrap();
    let failing = client.layer(Store::answering(Err(StoreError::Disconnected)));
    for _ in 0..5 {
        drop(failing.clone().oneshot(Command::Read(1)).await);
    }
    tokio::time::advance(Duration::from_secs(3)).await;
    let hanging = client.layer(service_fn(|_: Command| pending::<Result<u64, StoreError>>()));
    let began = Instant::now();
    let error = hanging.oneshot(Command::Read(1)).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(CallError::AttemptTimedOut { .. })), "{error:?}");
    assert_eq!(began.elapsed(), Duration::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn a_command_is_repeated_only_when_that_is_harmless() {
    for (answer, command, calls) in [
        (StoreError::Disconnected, Command::Read(1), 2),
        (StoreError::Disconnected, Command::Increment(1), 1),
        (StoreError::Busy, Command::Increment(1), 2),
        (StoreError::Absent, Command::Read(1), 1),
    ] {
        let store = Store::answering(Err(answer.clone()));
        let layer = RetryLayer::builder("store").classify(outcome).build().unwrap().repeat(repeatable);
        let error = layer.layer(store.clone()).oneshot(command.clone()).await.unwrap_err();
        assert_eq!(error.into_inner(), Some(answer.clone()));
        // The floor of the budget pays for one retry.
        assert_eq!(store.calls(), calls, "{answer:?} {command:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_first_attempt_is_unknown_stays_unknown() {
    let answers = Arc::new(AtomicU32::new(0));
    let store = service_fn(move |_: Command| {
        let first = answers.fetch_add(1, Ordering::Relaxed) == 0;
        ready(Err::<u64, _>(if first { StoreError::Disconnected } else { StoreError::Busy }))
    });
    let with_key = |_: &Command| Repeatable::WithKey;
    let layer = RetryLayer::builder("store").classify(outcome).build().unwrap().repeat(with_key);
    let error = layer.layer(store).oneshot(Command::Increment(1)).await.unwrap_err();
    let Some(unknown @ CallError::EarlierAttemptUnknown { attempt: 1, .. }) = error.rejected() else {
        panic!("{error:?}")
    };
    assert_eq!(unknown.outcome(), Outcome::Unknown);
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_and_a_throttle_hold_calls_back() {
    let hanging = service_fn(|_: Command| pending::<Result<u64, StoreError>>());
    let layer = BulkheadLayer::builder("store").limit(1).build().unwrap();
    let held = layer.layer(hanging).oneshot(Command::Read(1));
    tokio::pin!(held);
    assert!(tokio::time::timeout(Duration::from_millis(1), held.as_mut()).await.is_err());
    let refused = layer.layer(Store::answering(Ok(1))).oneshot(Command::Read(1)).await.unwrap_err();
    assert!(matches!(refused, Error::Rejected(CallError::BulkheadFull { limit: 1, .. })), "{refused:?}");

    let busy = Store::answering(Err(StoreError::Busy));
    let client = ThrottleLayer::builder("store").classify(outcome).build().unwrap().layer(busy.clone());
    let mut held_back = 0;
    for _ in 0..200 {
        let error = client.clone().oneshot(Command::Read(1)).await.unwrap_err();
        held_back += u32::from(matches!(error, Error::Rejected(CallError::HeldBack { .. })));
    }
    assert!(held_back > 100, "{held_back}");
    assert_eq!(busy.calls() + held_back, 200);
}

#[tokio::test(start_paused = true)]
async fn layers_over_layers_return_one_error() {
    let hanging = service_fn(|_: Command| pending::<Result<u64, StoreError>>());
    let retry = RetryLayer::builder("store").classify(outcome).outer().build().unwrap().repeat(repeatable);
    let breaker = BreakerLayer::builder("store").classify(outcome).outer().build().unwrap();
    let timeout = AttemptTimeoutLayer::builder("store").timeout(Duration::from_millis(100)).build().unwrap();
    let client = ServiceBuilder::new().layer(retry).layer(breaker).layer(timeout).service(hanging);
    let result: Result<u64, Error<StoreError>> = client.oneshot(Command::Read(1)).await;
    assert!(matches!(result, Err(Error::Rejected(CallError::AttemptTimedOut { .. }))), "{result:?}");
}

#[tokio::test(start_paused = true)]
async fn a_total_deadline_ends_a_call_of_any_type() {
    let hanging = service_fn(|_: Command| pending::<Result<u64, StoreError>>());
    let client = TotalDeadlineLayer::plain("store", Duration::from_millis(300)).layer(hanging);
    let error = client.oneshot(Command::Read(1)).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(CallError::DeadlineExceeded { .. })), "{error:?}");
}

/// A request that knows its target and its caller's deadline.
#[derive(Clone)]
struct Sent {
    to: Uri,
    context: RequestContext,
}

#[derive(Clone)]
struct ReadSent;

impl Classify<u64, StoreError> for ReadSent {
    type Error = Error<StoreError>;

    fn rejected(&self, error: CallError) -> Self::Error {
        Error::Rejected(error)
    }

    fn inner(&self, error: StoreError) -> Self::Error {
        Error::Inner(error)
    }

    fn outcome(&self, result: &Result<u64, Self::Error>) -> Outcome {
        ByFn(outcome).outcome(result)
    }
}

impl ReadRequest<Sent> for ReadSent {
    fn uri<'a>(&self, request: &'a Sent) -> Option<&'a Uri> {
        Some(&request.to)
    }

    fn context<'a>(&self, request: &'a Sent) -> Option<&'a RequestContext> {
        Some(&request.context)
    }

    fn context_mut<'a>(&self, request: &'a mut Sent) -> Option<&'a mut RequestContext> {
        Some(&mut request.context)
    }
}

fn sent(to: &'static str) -> Sent {
    Sent { to: Uri::from_static(to), context: RequestContext::background(Duration::from_millis(50)) }
}

#[tokio::test(start_paused = true)]
async fn a_classifier_of_the_user_gives_targets_and_deadlines() {
    let layer = BreakerLayer::builder("store").classifier(ReadSent).build().unwrap();
    let client = layer.layer(Store::answering(Err(StoreError::Disconnected)));
    for _ in 0..5 {
        drop(client.clone().oneshot(sent("http://one:1/")).await);
    }
    assert!(client.clone().oneshot(sent("http://one:1/")).await.unwrap_err().rejected().is_some());
    let other = client.oneshot(sent("http://other:1/")).await.unwrap_err();
    assert_eq!(
        other.into_inner(),
        Some(StoreError::Disconnected),
        "the other target has a breaker of its own"
    );

    let hanging = service_fn(|_: Sent| pending::<Result<u64, StoreError>>());
    let timeout = AttemptTimeoutLayer::builder("store").classifier(ReadSent).build().unwrap();
    let (request, began) = (sent("http://one:1/"), Instant::now());
    let trail = request.context.trail.clone();
    drop(timeout.layer(hanging).oneshot(request).await);
    assert_eq!(
        began.elapsed(),
        Duration::from_millis(50),
        "the caller's deadline is shorter than the timeout"
    );
    assert_eq!(trail.snapshot().last().map(|decision| decision.action.clone()), Some("cut_off".into()));
}
