//! The client of the control: the code of a careful service without a library.
//!
//! It has a timeout for each attempt, and three attempts with the same jittered waits as the crate.

use std::time::Duration;

use http_body_util::Full;
use mainstay::client::ClientRequest;
use mainstay::random::Random;
use mainstay::{CallError, Outcome, classify};
use tokio::time::{sleep, timeout};
use tower::util::BoxCloneSyncService;
use tower::{ServiceExt as _, service_fn};

use crate::settings::{ATTEMPT, Caller};

/// Most attempts of a request.
const TRIES: u32 = 3;
/// Longest first wait. The limit doubles for each further wait.
const BACKOFF: Duration = Duration::from_millis(25);

/// Adds the timeout of an attempt.
pub(crate) fn timed(transport: Caller) -> Caller {
    BoxCloneSyncService::new(service_fn(move |request: ClientRequest| {
        let attempt = timeout(ATTEMPT, transport.clone().oneshot(request));
        async move { attempt.await.unwrap_or(Err(CallError::AttemptTimedOut { after: ATTEMPT })) }
    }))
}

/// Repeats a request that neither succeeded nor was finally refused.
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
