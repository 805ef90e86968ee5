//! What a careful service does without a library: a timeout, and three tries with the same jittered waits as the crate
//! has.

use std::time::Duration;

use http_body_util::Full;
use mainstay::client::ClientRequest;
use mainstay::random::Random;
use mainstay::{CallError, Outcome, classify};
use tokio::time::{sleep, timeout};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use crate::arm::{ATTEMPT, Caller};

/// Tries in all.
const TRIES: u32 = 3;
/// The ceiling of the first wait; each further one is twice as high.
const BACKOFF: Duration = Duration::from_millis(25);

/// Gives each attempt its time.
pub(crate) fn timed(transport: Caller) -> Caller {
    BoxCloneSyncService::new(service_fn(move |request: ClientRequest| {
        let attempt = timeout(ATTEMPT, transport.clone().oneshot(request));
        async move { attempt.await.unwrap_or(Err(CallError::AttemptTimedOut { after: ATTEMPT })) }
    }))
}

/// Repeats whatever neither succeeded nor was refused for good.
pub(crate) fn three_tries(inner: Caller, random: Random) -> Caller {
    BoxCloneSyncService::new(service_fn(move |request: ClientRequest| {
        let (inner, random) = (inner.clone(), random.clone());
        async move {
            let mut tried = 0;
            loop {
                let result = inner.clone().oneshot(copy(&request)).await;
                tried += 1;
                let settled = matches!(
                    classify::outcome(&result),
                    Outcome::Success | Outcome::Refused | Outcome::ClientFault
                );
                if settled || tried == TRIES {
                    return result;
                }
                sleep(random.up_to(BACKOFF * 2_u32.pow(tried - 1))).await;
            }
        }
    }))
}

fn copy(request: &ClientRequest) -> ClientRequest {
    let mut copy = ClientRequest::new(Full::default());
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    request.extensions().clone_into(copy.extensions_mut());
    copy
}
