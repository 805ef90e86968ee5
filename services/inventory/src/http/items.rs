//! Handlers for items: create, receive, read, list.

use axum::extract::State;
use axum::response::Response;
use axum::{Extension, Json};
use chassis::auth::{ClientsAndOperators, Operators};
use chassis::problem_document::ProblemDocument;
use chassis::{ApiError, Caller, Page, ValidJson, ValidPath};
use inventory_api::{CreateItem, Item, ItemPage, Receipt};
use journal::entry::hash;
use mainstay::RequestContext;

use super::{Api, Command, reply};
use crate::app::{self, Inventory, Receive, Refusal};
use crate::domain::stock::{Quantity, Sku};
use crate::store::items::Listed;

/// Create an item
///
/// Consistency: the reply shows the item at its commit. Every read that begins after the reply shows that state or a newer
/// one.
#[utoipa::path(
    post, path = "/v1/items", request_body = CreateItem, tag = "items",
    params(("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Created", body = Item),
        (status = 400, description = "malformed-json, idempotency-key-missing, idempotency-key-invalid", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 409, description = "sku-exists", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn create(
    State(api): State<Api>,
    caller: Caller<Operators>,
    command: Command,
    body: ValidJson<app::CreateItem>,
) -> Result<Response, ApiError> {
    let create = body.value;
    let payload_hash = hash(body.document.as_bytes());
    command.log.set("sku", create.sku.as_str());
    let use_case = |inventory: Inventory, ask| async move { inventory.create_item(ask, create).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

/// Receive stock
///
/// Consistency: the reply shows the item at its commit. Every read that begins after the reply shows that state or a newer
/// one. A replayed reply shows the stock as the first reply did.
#[utoipa::path(
    post, path = "/v1/items/{sku}/receipts", request_body = Receipt, tag = "items",
    params(("sku" = String, Path, description = "The SKU, percent-encoded"), ("Idempotency-Key" = String, Header, description = "16 to 255 printable ASCII characters")),
    responses(
        (status = 201, description = "Received; the item with its new stock", body = Item),
        (status = 400, description = "Malformed SKU, key or body", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 408, description = "request-timeout: the body took too long", body = ProblemDocument),
        (status = 413, description = "payload-too-large", body = ProblemDocument),
        (status = 415, description = "unsupported-media-type", body = ProblemDocument),
        (status = 422, description = "validation-failed, idempotency-key-reused", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal, write-refused", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
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
    let receive = Receive { sku, quantity: body.value };
    let use_case = |inventory: Inventory, ask| async move { inventory.receive(ask, receive).await };
    command.run(&api, caller, body.fingerprint, Some(payload_hash), use_case).await
}

/// Read an item and its stock
///
/// Consistency: read your writes. `on_hand`, `held` and `available` are of one moment and can change at once: `available`
/// is a hint, and only a reservation guarantees stock.
#[utoipa::path(
    get, path = "/v1/items/{sku}", tag = "items",
    params(("sku" = String, Path, description = "The SKU, percent-encoded")),
    responses(
        (status = 200, description = "The item", body = Item),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 404, description = "not-found", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn get(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ClientsAndOperators>,
    ValidPath(sku): ValidPath<Sku>,
) -> Result<Json<Item>, ApiError> {
    let found = api.inventory.item(&sku, context.deadline.instant()).await;
    match found.map_err(|error| chassis::stored::database(&error))? {
        Some(item) => Ok(Json(body_of(&item))),
        None => Err(reply::problem(&Refusal::NoItem(sku)).into()),
    }
}

/// List items by SKU
///
/// Consistency: each page is one snapshot, the pages together are not. An item that exists during the whole pass is listed
/// once. An item that is created during the pass can be missing. A list that begins after a reply shows the state that the
/// reply reported.
#[utoipa::path(
    get, path = "/v1/items", tag = "items",
    params(
        ("after" = Option<String>, Query, description = "The cursor of the page before"),
        ("limit" = Option<u16>, Query, description = "1 to 500, default 50", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "A page", body = ItemPage),
        (status = 400, description = "malformed-parameter", body = ProblemDocument),
        (status = 401, description = "unauthenticated", body = ProblemDocument),
        (status = 403, description = "forbidden", body = ProblemDocument),
        (status = 429, description = "rate-limited", body = ProblemDocument),
        (status = 500, description = "internal", body = ProblemDocument),
        (status = 503, description = "overloaded, unavailable, shutting-down", body = ProblemDocument),
        (status = 504, description = "deadline-exceeded", body = ProblemDocument),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ClientsAndOperators>,
    page: Page,
) -> Result<Json<ItemPage>, ApiError> {
    // The cursor is the last SKU of the page before.
    let after = page.after.map(Sku::try_from).transpose().map_err(|_| Page::bad_cursor())?;
    let after = after.as_ref().map_or("", Sku::as_str);
    let found = api.inventory.items(after, i64::from(page.limit), context.deadline.instant()).await;
    let found = found.map_err(|error| chassis::stored::database(&error))?;
    let is_full = found.len() == usize::from(page.limit);
    let next = found.last().filter(|_| is_full).map(|item| item.sku.clone());
    Ok(Json(ItemPage { items: found.iter().map(body_of).collect(), next }))
}

fn body_of(item: &Listed) -> Item {
    reply::item_body(&item.sku, &item.name, item.stock)
}
