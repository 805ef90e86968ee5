//! Handlers that read: a reservation, an item, the list of items.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chassis::auth::{ClientsAndOperators, ServicesAndOperators};
use chassis::problem_document::{ProblemDocument, ReadProblems};
use chassis::{ApiError, Caller, Page, ValidPath};
use http::HeaderValue;
use inventory_api::{Item, ItemPage, Reservation, X_ENTRY_ID, X_HYBRID_CLOCK};
use mainstay::RequestContext;
use uuid::Uuid;

use super::{Api, replies};
use crate::domain::Refusal;
use crate::domain::stock::Sku;

/// Read a reservation in its present state
///
/// Consistency: read your writes, and monotonic. `held` can be shown for about half a second after `expires_at`; a confirm
/// in that time is refused.
#[utoipa::path(
    get, path = "/v1/reservations/{id}", tag = "reservations",
    params(("id" = Uuid, Path, description = "The reservation")),
    responses(
        (status = 200, description = "The reservation", body = Reservation),
        (status = 404, description = "not-found", body = ProblemDocument),
        ReadProblems,
    )
)]
pub(super) async fn get_reservation(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ServicesAndOperators>,
    ValidPath(id): ValidPath<Uuid>,
) -> Result<Response, ApiError> {
    let found = api.app.store.reservation(id, context.deadline.instant()).await;
    let Some(found) = found.map_err(|error| chassis::stored::database(&error))? else {
        return Err(replies::problem(&Refusal::NoReservation(id)).into());
    };
    let entry_id = HeaderValue::try_from(found.head.entry_id.to_string()).expect("a UUID is header-safe");
    let headers = [(X_ENTRY_ID, entry_id), (X_HYBRID_CLOCK, replies::clock_header(&api))];
    Ok((headers, Json(replies::reservation_body(&found.reservation))).into_response())
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
        (status = 404, description = "not-found", body = ProblemDocument),
        ReadProblems,
    )
)]
pub(super) async fn get_item(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ClientsAndOperators>,
    ValidPath(sku): ValidPath<Sku>,
) -> Result<Json<Item>, ApiError> {
    let found = api.app.store.item(&sku, context.deadline.instant()).await;
    match found.map_err(|error| chassis::stored::database(&error))? {
        Some(item) => Ok(Json(replies::item_body(&item))),
        None => Err(replies::problem(&Refusal::NoItem(sku)).into()),
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
        ReadProblems,
    )
)]
pub(super) async fn list_items(
    State(api): State<Api>,
    Extension(context): Extension<RequestContext>,
    _: Caller<ClientsAndOperators>,
    page: Page,
) -> Result<Json<ItemPage>, ApiError> {
    // The cursor is the last SKU of the page before.
    let after = page.after.map(Sku::try_from).transpose().map_err(|_| Page::bad_cursor())?;
    let after = after.as_ref().map_or("", Sku::as_str);
    let found = api.app.store.items(after, i64::from(page.limit), context.deadline.instant()).await;
    let found = found.map_err(|error| chassis::stored::database(&error))?;
    let is_full = found.len() == usize::from(page.limit);
    let next = found.last().filter(|_| is_full).map(|item| item.sku.clone());
    Ok(Json(ItemPage { items: found.iter().map(replies::item_body).collect(), next }))
}
