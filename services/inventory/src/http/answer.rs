//! Running a use case, and from its end to the reply.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::Response;
use chassis::auth::Allowed;
use chassis::json::Fingerprint;
use chassis::{ApiError, Caller, IdempotencyKey, Principal};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use inventory_api::{X_ENTRY_ID, X_HYBRID_CLOCK};
use journal::KeyHash;
use mainstay::problem::Effect;
use mainstay::server::LogFields;
use mainstay::{Problem, RequestContext};

use super::causality::Causality;
use super::{Api, reply};
use crate::app::{Ask, Failure, Inventory, Reply};

/// Kept back from the deadline for writing the reply.
const REPLYING: Duration = Duration::from_millis(20);

/// What every command brings with it beside its body: name it after the caller and the path, so that who may not
/// call, and what is not there, is refused first.
#[derive(Debug)]
pub(super) struct Command {
    /// Fields for the request's log line.
    pub(super) log: LogFields,
    context: RequestContext,
    key: IdempotencyKey,
    causality: Causality,
}

impl<S: Send + Sync> FromRequestParts<S> for Command {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let missing = || ApiError::internal("a command outside the server stack");
        let key = IdempotencyKey::from_request_parts(parts, state).await?;
        let context = parts.extensions.get::<RequestContext>().cloned().ok_or_else(missing)?;
        let log = parts.extensions.get::<LogFields>().cloned().ok_or_else(missing)?;
        let principal = parts.extensions.get::<Principal>().ok_or_else(missing)?;
        Ok(Self { log, context, key, causality: Causality::of(principal.role, &parts.headers) })
    }
}

impl Command {
    /// Runs a use case to its end, whether or not its client leaves, and waits for it until the deadline.
    pub(super) async fn run<A, W, F>(
        self,
        api: &Api,
        caller: Caller<A>,
        Fingerprint(fingerprint): Fingerprint,
        payload_hash: Option<[u8; 32]>,
        use_case: W,
    ) -> Result<Response, ApiError>
    where
        A: Allowed,
        W: FnOnce(Inventory, Ask) -> F,
        F: Future<Output = Result<Reply, Failure>> + Send + 'static,
    {
        let Self { log, context, key, causality: Causality { causation_id, clock } } = self;
        let until = context.deadline.less(REPLYING).instant();
        let principal = Arc::clone(&caller.principal.name);
        let key = KeyHash::of(key.as_str());
        let ask = Ask { principal, key, fingerprint, payload_hash, causation_id, clock, context };
        let work = api.tasks.shield(use_case(api.inventory.clone(), ask));
        let Ok(ended) = tokio::time::timeout_at(until, work).await else { return Err(too_late()) };
        let clock = clock_header(api);
        match ended.map_err(ApiError::internal)? {
            Ok(done) => Ok(answer(done, clock, &log)),
            Err(failure) => Err(refused(&failure).header(X_HYBRID_CLOCK, clock)),
        }
    }
}

/// The service's hybrid time, for the order service's clock to move past.
pub(super) fn clock_header(api: &Api) -> HeaderValue {
    let time = api.inventory.journal().clock().tick();
    HeaderValue::try_from(time.to_string()).expect("hex digits are header-safe")
}

fn answer(done: Reply, clock: HeaderValue, log: &LogFields) -> Response {
    log.set("idempotent_replayed", done.replayed);
    let mut response = chassis::stored::reply(done.stored, done.replayed);
    let headers = response.headers_mut();
    headers.insert(X_HYBRID_CLOCK, clock);
    if let Some(id) = done.entry_id {
        log.set("entry_id", id.to_string());
        let id = HeaderValue::try_from(id.to_string()).expect("a UUID is header-safe");
        headers.insert(X_ENTRY_ID, id);
    }
    response
}

fn refused(failure: &Failure) -> ApiError {
    match failure {
        Failure::KeyReused => chassis::stored::key_reused(),
        Failure::InFlight => chassis::stored::in_flight(),
        Failure::Refused(refusal) => reply::problem(refusal).into(),
        Failure::NotExecuted(error) | Failure::Unknown(error) => chassis::stored::database(error),
    }
}

/// The deadline passed while the use case was at work, and it goes on.
fn too_late() -> ApiError {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "The deadline passed")
        .detail(
            "it is not known whether the request was carried out; repeat it with the same idempotency key",
        )
        .outcome(Effect::Unknown)
        .retry_after(1)
        .into()
}
