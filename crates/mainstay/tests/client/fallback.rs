//! A substitute is marked as one, and only a read gets it.

use bytes::Bytes;
use http::Response;
use mainstay::fallback::{FallbackLayer, Substituted};
use mainstay::{Outcome, RequestContext};
use tower::{Layer as _, ServiceExt as _};

use crate::recorder::Recorder;
use crate::support::{Do, Peer, With as _, get, post_with_key};

fn substitute(became: Outcome) -> Option<Response<Bytes>> {
    (became != Outcome::Throttled).then(|| Response::new(Bytes::from_static(b"yesterday's")))
}

#[tokio::test(start_paused = true)]
async fn a_read_without_an_answer_gets_a_marked_substitute() {
    let recorder = Recorder::new();
    let client = FallbackLayer::new("prices", substitute).layer(Peer::always(Do::Reply(503)));
    let context = RequestContext::background(std::time::Duration::from_secs(1));
    let reply = client.oneshot(get().with(&context)).await.unwrap();
    assert_eq!((reply.body().as_ref(), reply.status().as_u16()), (&b"yesterday's"[..], 200));
    assert_eq!(reply.extensions().get(), Some(&Substituted(Outcome::Unknown)));
    let decision = context.trail.snapshot().pop().unwrap();
    assert_eq!(
        (&*decision.layer, &*decision.action, &*decision.why),
        ("fallback", "substitute", "the call ended as unknown")
    );
    let name = "mainstay_client_fallbacks_total{peer=prices,outcome=unknown}";
    assert_eq!(recorder.metrics()[name], [1.0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_and_gets_no_substitute() {
    for status in [200, 404, 400] {
        let client = FallbackLayer::new("prices", substitute).layer(Peer::always(Do::Reply(status)));
        assert_eq!(client.oneshot(get()).await.unwrap().status(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_and_a_read_without_a_substitute_return_the_failure() {
    let client = FallbackLayer::new("prices", substitute).layer(Peer::always(Do::Reply(503)));
    assert_eq!(client.oneshot(post_with_key()).await.unwrap().status(), 503);
    let client = FallbackLayer::new("prices", substitute).layer(Peer::always(Do::Reply(429)));
    assert_eq!(client.oneshot(get()).await.unwrap().status(), 429);
}
