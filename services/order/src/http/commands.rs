//! Handlers of the commands: place, confirm, cancel.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use chassis::auth::Clients;
use chassis::events::first_skus;
use chassis::problem_document::{CommandProblems, ProblemDocument};
use chassis::{ApiError, Caller as Authenticated, EmptyBody, IdempotencyKey, ValidJson, ValidPath};
use journal::KeyHash;
use mainstay::RequestContext;
use mainstay::server::LogFields;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Api, PlaceOrder, replies};
use crate::app::place::NewOrder;
use crate::app::{
    App, CommandContext, CommandError, CommandResult, IntentCommitted, OrderView, stored_replies,
};
use crate::domain::CustomerCommand;

/// Time kept back from the deadline for writing the reply.
const REPLYING: Duration = Duration::from_millis(20);

/// Place an order
///
/// The order exists from the moment it is accepted, even if the reply is lost. 202 means that inventory's answer is not
/// known yet: read the order at `Location`, or repeat with the same key.
///
/// Consistency: the reply shows the order at its commit. Every read that begins after the reply shows that state or a newer
/// one. A replayed reply shows the order as the first reply did.
#[utoipa::path(
    post, path = "/v1/orders", request_body = PlaceOrder, tag = "orders",
    params(("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters, new for each order")),
    responses(
        (status = 201, description = "Reserved", body = OrderView),
        (status = 202, description = "Not yet decided; see Location and Retry-After", body = OrderView),
        (status = 409, description = "insufficient-stock, order-cancelled, idempotency-in-flight", body = ProblemDocument),
        (status = 422, description = "validation-failed, unknown-sku, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn place(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    Extension(log): Extension<LogFields>,
    authenticated: Authenticated<Clients>,
    key: IdempotencyKey,
    body: ValidJson<NewOrder>,
) -> Result<Response, ApiError> {
    log.set("customer_id", &*body.value.customer_id);
    log.set("skus.count", body.value.lines.len());
    log.set("skus", first_skus(body.value.lines.iter().map(|line| line.sku.as_str())));
    let command = command(&authenticated, &key, body.fingerprint.0, context);
    run(&api, &log, command, |app, command, committed| async move {
        app.place(command, body.value, committed).await
    })
    .await
}

/// Confirm an order: inventory ships its stock
///
/// Consistency: 200 means that inventory has committed the shipment. Every read that begins after the reply shows the
/// reported state or a newer one. A replayed reply shows the order as the first reply did.
#[utoipa::path(
    post, path = "/v1/orders/{id}/confirm", tag = "orders",
    params(("id" = Uuid, Path, description = "The order"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Confirmed", body = OrderView),
        (status = 202, description = "Not yet decided", body = OrderView),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 409, description = "illegal-transition, idempotency-in-flight", body = ProblemDocument),
        (status = 410, description = "reservation-expired", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn confirm(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    Extension(log): Extension<LogFields>,
    authenticated: Authenticated<Clients>,
    ValidPath(id): ValidPath<Uuid>,
    key: IdempotencyKey,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    let command = command(&authenticated, &key, body.fingerprint.0, context);
    customer_command(&api, &log, command, id, CustomerCommand::Confirm).await
}

/// Cancel an order: inventory gives its stock back
///
/// Consistency: 200 means that inventory holds nothing for the order and never will. Every read that begins after the reply
/// shows the reported state or a newer one. A replayed reply shows the order as the first reply did.
#[utoipa::path(
    post, path = "/v1/orders/{id}/cancel", tag = "orders",
    params(("id" = Uuid, Path, description = "The order"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 200, description = "Cancelled", body = OrderView),
        (status = 202, description = "Not yet decided", body = OrderView),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 409, description = "illegal-transition, idempotency-in-flight", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        CommandProblems,
    )
)]
pub(super) async fn cancel(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    Extension(log): Extension<LogFields>,
    authenticated: Authenticated<Clients>,
    ValidPath(id): ValidPath<Uuid>,
    key: IdempotencyKey,
    body: EmptyBody,
) -> Result<Response, ApiError> {
    let command = command(&authenticated, &key, body.fingerprint.0, context);
    customer_command(&api, &log, command, id, CustomerCommand::Cancel).await
}

async fn customer_command(
    api: &Api,
    log: &LogFields,
    command: CommandContext,
    id: Uuid,
    wanted: CustomerCommand,
) -> Result<Response, ApiError> {
    log.set("order_id", id.to_string());
    run(api, log, command, move |app, command, committed| async move {
        app.customer_command(command, id, wanted, committed).await
    })
    .await
}

fn command(
    authenticated: &Authenticated<Clients>,
    key: &IdempotencyKey,
    fingerprint: [u8; 32],
    context: RequestContext,
) -> CommandContext {
    let principal = Arc::clone(&authenticated.principal.name);
    CommandContext::new(principal, KeyHash::of(key.as_str()), fingerprint, context)
}

/// Runs a use case to its end, and waits for its result until the deadline. If the deadline comes first and the intent is
/// committed, the reply is 202 and the use case goes on.
async fn run<F, W>(
    api: &Api,
    log: &LogFields,
    command: CommandContext,
    use_case: W,
) -> Result<Response, ApiError>
where
    W: FnOnce(Arc<App>, CommandContext, IntentCommitted) -> F,
    F: Future<Output = Result<CommandResult, CommandError>> + Send + 'static,
{
    let until = command.driver.context.deadline.less(REPLYING).instant();
    let (send, mut committed) = oneshot::channel();
    let work = api.tasks.shield(use_case(Arc::clone(&api.app), command, send));
    let ended = tokio::time::timeout_at(until, work).await;
    let order = committed.try_recv().ok();
    if let Some(order) = &order {
        log.set("order_id", order.id.to_string());
    }
    let Ok(ended) = ended else {
        let order = order.ok_or_else(replies::too_late)?;
        return Ok(replies::accepted(&OrderView::from(&*order)));
    };
    let result = ended.map_err(ApiError::internal)?.map_err(replies::refused)?;
    log.set("idempotent_replayed", matches!(result, CommandResult::Replayed(_)));
    if let CommandResult::Replayed(reply) = &result {
        // A replay writes no entry. Its log line is the only record that links its correlation id to the order.
        if let Some(order_id) = stored_replies::order_of(reply) {
            log.set("order_id", order_id.to_string());
        }
    }
    Ok(replies::result(result))
}
