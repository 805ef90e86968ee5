//! Runs a use case for a request, and maps its result to the HTTP reply.

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
use journal::{DatabaseError, KeyHash};
use mainstay::problem::Effect;
use mainstay::server::LogFields;
use mainstay::{Problem, RequestContext};

use super::causality::Causality;
use super::{Api, reply};
use crate::app::{Ask, Failure, Inventory, Reply};

/// Time kept back from the deadline for writing the reply.
const REPLYING: Duration = Duration::from_millis(20);

/// `Retry-After` of a refused write, in seconds. An operator has to remove the cause first.
const WRITE_REFUSED_RETRY: u64 = 30;

/// The parts of a command's request beside its body: context, idempotency key, cause, log fields.
///
/// A handler names it after the caller and the path, so that a forbidden caller and a malformed path are refused first.
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
    /// Runs a use case to its end, also when the client disconnects, and waits for its result until the deadline.
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

/// The header with the service's hybrid time. The order service's clock adopts it.
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
        Failure::NotExecuted(DatabaseError::Defect(cause)) if is_of_one_write(cause) => write_refused(cause),
        Failure::NotExecuted(error) | Failure::Unknown(error) => chassis::stored::database(error),
    }
}

/// True if the database refused the values of this one write: SQLSTATE class 22 (data), 23 (constraint), 44 (check
/// option) or P0 (raised by a trigger). Any other refusal, as of a missing table, concerns every write.
fn is_of_one_write(cause: &sqlx::Error) -> bool {
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| ["22", "23", "44", "P0"].iter().any(|class| code.starts_with(class)))
}

/// 500 `write-refused`, outcome `refused`: the caller's breaker counts an answer, because this service serves other
/// requests, and its retry sends nothing again at once, because the same write would be refused again.
fn write_refused(cause: &sqlx::Error) -> ApiError {
    tracing::error!(error = %cause, "write refused by the database; nothing was changed");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "write-refused", "The database refused this write")
        .detail(
            "nothing was changed; repeat it with the same key once the cause is removed: the log names it",
        )
        .outcome(Effect::Refused)
        .retry_after(WRITE_REFUSED_RETRY)
        .into()
}

/// 504 for a deadline that passed while the use case was running. The use case goes on.
fn too_late() -> ApiError {
    Problem::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", "The deadline passed")
        .detail(
            "it is not known whether the request was carried out; repeat it with the same idempotency key",
        )
        .outcome(Effect::Unknown)
        .retry_after(1)
        .into()
}
