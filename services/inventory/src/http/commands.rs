//! Handlers of the commands: reserve, confirm, release, create an item, receive stock. The order service calls the first three.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::response::Response;
use chassis::auth::{Allowed, Operators, Services};
use chassis::events::first_skus;
use chassis::json::Fingerprint;
use chassis::problem_document::{CommandProblems, ProblemDocument};
use chassis::{ApiError, Caller, EmptyBody, IdempotencyKey, Principal, ValidJson, ValidPath};
use http::request::Parts;
use inventory_api::{CreateItem, Item, Reservation, ReserveRequest, X_HYBRID_CLOCK};
use journal::KeyHash;
use journal::entry::hash;
use mainstay::RequestContext;
use mainstay::server::LogFields;
use uuid::Uuid;

use super::causality::Causality;
use super::{Api, replies};
use crate::app::{App, CommandContext, CommandError, CommandResult};
use crate::domain::stock::{Quantity, Sku};
use crate::domain::{NewItem, NewReservation, Receipt};

/// Time kept back from the deadline for writing the reply.
const REPLYING: Duration = Duration::from_millis(20);

/// Hold stock for an order, all lines or none
///
/// The caller chooses the reservation's id, so that it can release the reservation even when it got no reply. The hold
/// ends by itself after `hold_seconds`.
///
/// Consistency: the reply shows the reservation at its commit. Every read that begins after the reply shows that state or a
/// newer one. A replayed reply shows the reservation as the first reply did.
#[utoipa::path(
    post, path = "/v1/reservations", request_body = ReserveRequest, tag = "reservations",
    params(("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Held until expires_at", body = Reservation),
        (status = 200, description = "Held already, by the same request under another key", body = Reservation),
        (status = 409, description = "insufficient-stock, reservation-voided, illegal-transition", body = ProblemDocument),
        (status = 422, description = "validation-failed, unknown-sku, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn reserve(
    State(api): State<Api>,
    caller: Caller<Services>,
    command: Command,
    body: ValidJson<NewReservation>,
) -> Result<Response, ApiError> {
    let reserve = body.value;
    let payload_hash = hash(body.document.as_bytes());
    command.log.set("order_id", reserve.order_id.to_string());
    command.log.set("reservation_id", reserve.id.to_string());
    command.log.set("skus.count", reserve.lines.as_slice().len());
    command.log.set("skus", first_skus(reserve.lines.as_slice().iter().map(|line| line.sku.as_str())));
    let use_case = |app: App, context| async move { app.reserve(context, reserve).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

/// Ship the stock that a reservation holds
///
/// Consistency: inventory decides by its own clock under the lock of the row, and not by an earlier read. 200 means that
/// the shipment is committed.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/confirm", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Confirmed", body = Reservation),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 409, description = "illegal-transition", body = ProblemDocument),
        (status = 410, description = "reservation-expired", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    caller: Caller<Services>,
    ValidPath(id): ValidPath<Uuid>,
    command: Command,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    command.log.set("reservation_id", id.to_string());
    let use_case = |app: App, context| async move { app.confirm(context, id).await };
    command.run(&api, caller, body.fingerprint, None, use_case).await
}

/// Give held stock back, or void a reservation whose reserve has not arrived
///
/// Consistency: inventory decides under the lock of the row, and not by an earlier read. After 200 the reservation holds
/// nothing, and a late reserve is rejected.
#[utoipa::path(
    post, path = "/v1/reservations/{id}/release", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Released, or voided when no reserve has arrived; a reservation that had ended keeps its state", body = Reservation),
        (status = 409, description = "illegal-transition once confirmed", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn release(
    State(api): State<Api>,
    caller: Caller<Services>,
    ValidPath(id): ValidPath<Uuid>,
    command: Command,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    command.log.set("reservation_id", id.to_string());
    let use_case = |app: App, context| async move { app.release(context, id).await };
    command.run(&api, caller, body.fingerprint, None, use_case).await
}

/// Create an item
///
/// Consistency: the reply shows the item at its commit. Every read that begins after the reply shows that state or a newer
/// one.
#[utoipa::path(
    post, path = "/v1/items", request_body = CreateItem, tag = "items",
    params(("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Created", body = Item),
        (status = 409, description = "sku-exists", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn create_item(
    State(api): State<Api>,
    caller: Caller<Operators>,
    command: Command,
    body: ValidJson<NewItem>,
) -> Result<Response, ApiError> {
    let create = body.value;
    let payload_hash = hash(body.document.as_bytes());
    command.log.set("sku", create.sku.as_str());
    let use_case = |app: App, context| async move { app.create_item(context, create).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

/// Receive stock
///
/// Consistency: the reply shows the item at its commit. Every read that begins after the reply shows that state or a newer
/// one. A replayed reply shows the stock as the first reply did.
#[utoipa::path(
    post, path = "/v1/items/{sku}/receipts", request_body = inventory_api::Receipt, tag = "items",
    params(("sku" = String, Path, description = "The SKU, percent-encoded"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Received; the item with its new stock", body = Item),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn receive(
    State(api): State<Api>,
    caller: Caller<Operators>,
    ValidPath(sku): ValidPath<Sku>,
    command: Command,
    body: ValidJson<Quantity>,
) -> Result<Response, ApiError> {
    let payload_hash = hash(body.document.as_bytes());
    command.log.set("sku", sku.as_str());
    let receipt = Receipt { sku, quantity: body.value };
    let use_case = |app: App, context| async move { app.receive(context, receipt).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

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
        W: FnOnce(App, CommandContext) -> F,
        F: Future<Output = Result<CommandResult, CommandError>> + Send + 'static,
    {
        let Self { log, context, key, causality: Causality { causation_id, clock } } = self;
        let until = context.deadline.less(REPLYING).instant();
        let principal = Arc::clone(&caller.principal.name);
        let context = CommandContext {
            payload_hash,
            causation_id,
            clock,
            ..CommandContext::new(principal, KeyHash::of(key.as_str()), fingerprint, context)
        };
        let work = api.tasks.shield(use_case(api.app.clone(), context));
        let Ok(ended) = tokio::time::timeout_at(until, work).await else { return Err(replies::too_late()) };
        let clock = replies::clock_header(api);
        match ended.map_err(ApiError::internal)? {
            Ok(result) => Ok(replies::done(result, clock, &log)),
            Err(error) => Err(replies::refused(&error).header(X_HYBRID_CLOCK, clock)),
        }
    }
}
