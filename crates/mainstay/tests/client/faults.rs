//! Injected faults look like real ones, on both sides of a connection, and end as specified.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use mainstay::breaker::BreakerState;
use mainstay::client::ReplyReader;
use mainstay::fault::{ClientFaultLayer, Fault, FaultError, FaultSpec, Faults, Loss, ServerFaultLayer};
use mainstay::problem::Effect;
use mainstay::random::Random;
use mainstay::{CallError, Outcome, classify};
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::recorder::Recorder;
use crate::support::{Called, Do, Peer, begin, call, config, get, post, post_with_key, stack};

const POINT: &str = "inventory-client";

async fn one(faults: &Faults, spec: FaultSpec) -> (Called, usize) {
    let peer = Peer::always(Do::Reply(201));
    let client = ClientFaultLayer::new(faults, POINT).layer(peer.clone());
    faults.put(POINT, spec).unwrap();
    let result = tokio::time::timeout(Duration::from_mins(1), client.oneshot(post())).await;
    (result.unwrap_or(Err(CallError::AttemptTimedOut { after: Duration::from_mins(1) })), peer.calls())
}

#[tokio::test(start_paused = true)]
async fn each_fault_has_the_outcome_of_the_real_one() {
    let faults = Faults::default();
    let error = |status, effect| Fault::Error { status, effect };
    let table = [
        (error(None, None), Outcome::FailedKnown, 0),
        (error(Some(503), None), Outcome::Unknown, 0),
        (error(Some(503), Some(Effect::NotExecuted)), Outcome::Throttled, 0),
        (Fault::Hang, Outcome::Unknown, 0),
        (Fault::ReplyLost { how: Loss::Reset }, Outcome::Unknown, 1),
        (Fault::ReplyLost { how: Loss::Hang }, Outcome::Unknown, 1),
        (Fault::Garbage, Outcome::Success, 1),
        (Fault::Latency { ms: 300, jitter_ms: 0 }, Outcome::Success, 1),
    ];
    for (fault, outcome, made) in table {
        let (result, calls) = one(&faults, FaultSpec::always(fault.clone())).await;
        assert_eq!(classify::outcome(&result), outcome, "{fault:?}");
        assert_eq!(calls, made, "{fault:?}: calls that had their effect");
    }
    let (garbage, _) = one(&faults, FaultSpec::always(Fault::Garbage)).await;
    assert!(serde_json::from_slice::<serde_json::Value>(garbage.unwrap().body()).is_err());
    assert_eq!(faults.get(POINT).unwrap().hits, 9);
}

#[tokio::test(start_paused = true)]
async fn garbage_is_no_success_for_a_client_that_reads_its_replies() {
    let (recorder, faults) = (Recorder::new(), Faults::default());
    let config = config().faults(Some((faults.clone(), POINT.to_owned())));
    let stack = stack(config, &Peer::always(Do::Reply(201)));
    faults.put(POINT, FaultSpec::always(Fault::Garbage)).unwrap();
    for _ in 0..20 {
        let mut request = post_with_key();
        request.extensions_mut().insert(ReplyReader::new(|reply: &mut Response<Bytes>| {
            let read = serde_json::from_slice::<serde_json::Value>(reply.body());
            read.map(drop).map_err(|error| error.to_string())
        }));
        call(&stack, request).await.unwrap_err();
    }
    let metrics = recorder.metrics();
    let calls =
        |outcome| metrics[&format!("mainstay_client_requests_total{{peer=inventory,outcome={outcome}}}")][0];
    assert!(calls("success") == 0.0 && calls("unknown") > 0.0, "{metrics:?}");
    assert!(metrics["mainstay_retries_total{peer=inventory}"][0] > 0.0);
    assert_eq!(stack.breakers().list()[0].state, BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn latency_is_in_milliseconds_and_its_jitter_is_added() {
    let faults = Faults::new(Random::seeded(1));
    for _ in 0..20 {
        let began = Instant::now();
        one(&faults, FaultSpec::always(Fault::Latency { ms: 300, jitter_ms: 100 })).await.0.unwrap();
        assert!((300..=401).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_settled_by_the_same_key() {
    let faults = Faults::default();
    let peer = Peer::always(Do::Reply(201));
    let stack = stack(config().faults(Some((faults.clone(), POINT.to_owned()))), &peer);
    faults.put(POINT, FaultSpec::always(Fault::ReplyLost { how: Loss::Reset }).times(1)).unwrap();
    assert_eq!(call(&stack, post_with_key()).await.unwrap().status(), 201);
    let keys: Vec<_> = peer.seen().iter().map(|s| s.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys, ["0123456789abcdef"; 2], "the write was sent twice with one key");
}

#[tokio::test(start_paused = true)]
async fn faults_are_found_by_name_method_and_path_and_end_as_specified() {
    let recorder = Recorder::new();
    let faults = Faults::default();
    let client = ClientFaultLayer::new(&faults, POINT).layer(Peer::always(Do::Reply(200)));
    let refused = async |request| client.clone().oneshot(request).await.is_err();
    let error = || FaultSpec::always(Fault::Error { status: None, effect: None });

    let unknown = faults.put("inventroy-client", error()).unwrap_err();
    assert_eq!(
        unknown.to_string(),
        r#"no fault point is called "inventroy-client"; there are: inventory-client"#
    );
    faults.put(POINT, FaultSpec { method: Some("post".to_owned()), ..error() }).unwrap();
    assert!(refused(post()).await && !refused(get()).await);
    faults.put(POINT, FaultSpec { path_prefix: Some("/v1/items".to_owned()), ..error() }).unwrap();
    assert!(!refused(post()).await && refused(get()).await);

    faults.put(POINT, error().times(2)).unwrap();
    assert_eq!([refused(get()).await, refused(get()).await, refused(get()).await], [true, true, false]);
    assert_eq!(faults.get(POINT).unwrap().fault, None);

    faults.put(POINT, FaultSpec { for_ms: Some(500), ..error() }).unwrap();
    assert!(refused(get()).await);
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!(faults.get(POINT).unwrap().fault, None);
    assert!(!refused(get()).await);

    faults.put(POINT, error()).unwrap();
    assert!(faults.delete(POINT) && !faults.delete("another"));
    assert!(!refused(get()).await);

    faults.put(POINT, error()).unwrap();
    faults.clear();
    assert!(!refused(get()).await);
    let hits = recorder.metrics()["mainstay_faults_injected_total{point=inventory-client,fault=error}"][0];
    assert!((hits - 5.0).abs() < 0.1, "{hits}");
    assert_eq!(recorder.at("mainstay::decision").len(), 5);
}

#[tokio::test(start_paused = true)]
async fn probability_is_a_share_of_the_calls() {
    let faults = Faults::new(Random::seeded(5));
    let client = ClientFaultLayer::new(&faults, POINT).layer(Peer::always(Do::Reply(200)));
    let spec =
        FaultSpec { probability: 0.2, ..FaultSpec::always(Fault::Error { status: None, effect: None }) };
    faults.put(POINT, spec).unwrap();
    let mut failed = 0;
    for _ in 0..1_000 {
        failed += usize::from(client.clone().oneshot(get()).await.is_err());
    }
    assert!((160..=240).contains(&failed), "{failed} of 1,000");
}

#[test]
fn a_spec_reads_as_an_operator_writes_it() {
    let read = |text: &str| serde_json::from_str::<FaultSpec>(text).map_err(|error| error.to_string());
    let latency = read(r#"{"fault": "latency", "ms": 400, "probability": 0.5, "for_ms": 60000}"#).unwrap();
    assert_eq!(latency.fault, Fault::Latency { ms: 400, jitter_ms: 0 });
    assert_eq!((latency.probability, latency.for_ms, latency.times), (0.5, Some(60_000), None));
    assert_eq!(read(&serde_json::to_string(&latency).unwrap()), Ok(latency));
    let lost = read(r#"{"fault": "reply-lost"}"#).unwrap();
    assert_eq!(lost, FaultSpec::always(Fault::ReplyLost { how: Loss::Reset }));
    for bad in [r#"{"fault": "laency"}"#, r#"{"fault": "latency"}"#, "{}"] {
        assert!(read(bad).is_err(), "{bad}");
    }
    let wrong = |text: &str| read(text).unwrap().validate();
    for (text, field) in [
        (r#"{"fault": "hang", "probability": 0}"#, "probability"),
        (r#"{"fault": "hang", "probability": 1.5}"#, "probability"),
        (r#"{"fault": "hang", "times": 0}"#, "times"),
        (r#"{"fault": "hang", "for_ms": 0}"#, "for_ms"),
        (r#"{"fault": "error", "status": 200}"#, "status"),
        (r#"{"fault": "latency", "ms": 600001}"#, "ms"),
    ] {
        assert!(
            matches!(wrong(text), Err(FaultError::OutOfRange { field: named, .. }) if named == field),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_hang_and_a_lost_reply_return_every_permit_when_dropped() {
    let faults = Faults::default();
    let peer = Peer::always(Do::Reply(200));
    let stack = stack(config().faults(Some((faults.clone(), POINT.to_owned()))), &peer);
    for fault in [Fault::Hang, Fault::ReplyLost { how: Loss::Hang }, Fault::Latency { ms: 500, jitter_ms: 0 }]
    {
        faults.put(POINT, FaultSpec::always(fault)).unwrap();
        let mut hanging = Box::pin(call(&stack, get()));
        begin(&mut hanging).await;
        assert_eq!(stack.in_flight(), 1);
        drop(hanging);
        assert_eq!((stack.in_flight(), peer.inside()), (0, 0));
    }
}

/// On the server side, the connection closes when the service returns an error.
#[tokio::test(start_paused = true)]
async fn a_server_runs_the_request_and_then_loses_the_reply() {
    let (faults, ran) = (Faults::default(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&ran);
    let routes = service_fn(move |_: Request<Full<Bytes>>| {
        counted.fetch_add(1, Ordering::SeqCst);
        async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done"))) }
    });
    let server = ServerFaultLayer::new(&faults, "inventory-server").layer(routes);
    let ask = || server.clone().oneshot(Request::new(Full::default()));
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK);

    faults.put("inventory-server", FaultSpec::always(Fault::ReplyLost { how: Loss::Reset })).unwrap();
    assert!(ask().await.is_err());
    assert_eq!(ran.load(Ordering::SeqCst), 2, "the effect took place");
    let error = |status| FaultSpec::always(Fault::Error { status, effect: None });
    faults.put("inventory-server", error(None)).unwrap();
    assert!(ask().await.is_err());
    faults.put("inventory-server", error(Some(500))).unwrap();
    assert_eq!(ask().await.unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(ran.load(Ordering::SeqCst), 2, "these requests did not run");
}
