//! The typed client: what inventory's reply means, with no retries of its own.
//!
//! Only the problems that the contract names are verdicts. Every other reply, however plausible, leaves the
//! outcome unknown, and the caller has to live with that until it asks again.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use mainstay::classify::HasOutcome;
use mainstay::client::{CallError, ReplyReader};
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::problem::Effect;
use mainstay::{Outcome, Problem, RequestContext};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower::{Service, ServiceExt};
use uuid::Uuid;

use crate::types::{Reservation, ReserveRequest, ShortLine};

/// The journal entry that led to a request.
pub const X_CAUSATION_ID: http::HeaderName = http::HeaderName::from_static("x-causation-id");
/// The journal entry that a request led to.
pub const X_ENTRY_ID: http::HeaderName = http::HeaderName::from_static("x-entry-id");
/// The sender's hybrid logical clock, both ways.
pub const X_HYBRID_CLOCK: http::HeaderName = http::HeaderName::from_static("x-hybrid-clock");

/// Inventory's definite no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Not enough of these.
    InsufficientStock(Vec<ShortLine>),
    /// No such items.
    UnknownSku(Vec<String>),
    /// The reservation was released before it was made.
    ReservationVoided,
    /// The hold had run out.
    ReservationExpired,
    /// The reservation's state does not allow it: which state.
    IllegalTransition(String),
    /// No such reservation.
    NotFound,
}

/// What is known after a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// It is done.
    Applied(T),
    /// It is decided, and the decision is no.
    Refused(Refusal),
    /// It was not done, and nothing was decided: send it again.
    NotExecuted(String),
    /// It may have been done.
    Unknown(String),
}

/// A call's answer, with what the journal wants to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<T> {
    /// The answer.
    pub answer: Answer<T>,
    /// Inventory's journal entry that decided it.
    pub entry_id: Option<Uuid>,
    /// Inventory's clock, as text.
    pub clock: Option<String>,
}

/// What goes with every call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Deadline, correlation, trace, decision trail.
    pub request: RequestContext,
    /// The derived key: the same for every attempt of one step.
    pub key: Uuid,
    /// The entry that stated the intent.
    pub causation_id: Option<Uuid>,
    /// Our clock, as text.
    pub clock: String,
}

/// Calls inventory through any client stack.
#[derive(Clone)]
pub struct InventoryClient<S> {
    stack: S,
    base: String,
    authorization: HeaderValue,
}

impl<S> std::fmt::Debug for InventoryClient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InventoryClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl<S> InventoryClient<S>
where
    S: Service<Request<Full<Bytes>>, Response = Response<Bytes>, Error = CallError> + Clone + Send,
    S::Future: Send,
{
    /// For the service at `base` (`http://host:port`), as the holder of `token`.
    ///
    /// # Errors
    /// A token that cannot be sent in a header.
    pub fn new(stack: S, base: &str, token: &str) -> Result<Self, http::header::InvalidHeaderValue> {
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        Ok(Self { stack, base: base.trim_end_matches('/').to_owned(), authorization })
    }

    /// Holds stock.
    pub async fn reserve(&self, context: CallContext, body: &ReserveRequest) -> Call<Reservation> {
        self.call(Method::POST, "/v1/reservations", context, Some(body)).await
    }

    /// Turns a hold into shipped stock.
    pub async fn confirm(&self, context: CallContext, id: Uuid) -> Call<Reservation> {
        self.call::<(), _>(Method::POST, &format!("/v1/reservations/{id}/confirm"), context, None).await
    }

    /// Gives a hold back, or makes sure that it can never come to be.
    pub async fn release(&self, context: CallContext, id: Uuid) -> Call<Reservation> {
        self.call::<(), _>(Method::POST, &format!("/v1/reservations/{id}/release"), context, None).await
    }

    /// Reads a reservation.
    pub async fn reservation(&self, context: CallContext, id: Uuid) -> Call<Reservation> {
        self.call::<(), _>(Method::GET, &format!("/v1/reservations/{id}"), context, None).await
    }

    async fn call<B: Serialize, T: Reply>(
        &self,
        method: Method,
        path: &str,
        context: CallContext,
        body: Option<&B>,
    ) -> Call<T> {
        let body = match body.map(serde_json::to_vec).transpose() {
            Ok(body) => Bytes::from(body.unwrap_or_default()),
            Err(error) => return Call::unsent(format!("the request could not be written: {error}")),
        };
        let mut request = Request::new(Full::new(body));
        let is_write = method != Method::GET;
        *request.method_mut() = method;
        *request.uri_mut() = match format!("{}{path}", self.base).parse() {
            Ok(uri) => uri,
            Err(error) => return Call::unsent(format!("the inventory URL does not parse: {error}")),
        };
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        if is_write {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            insert(headers, IDEMPOTENCY_KEY, context.key.to_string());
        }
        if let Some(id) = context.causation_id {
            insert(headers, X_CAUSATION_ID, id.to_string());
        }
        insert(headers, X_HYBRID_CLOCK, context.clock);
        request.extensions_mut().insert(context.request);
        request.extensions_mut().insert(ReplyReader::new(judge::<T>));
        match self.stack.clone().oneshot(request).await {
            // A stack without the attempt layer runs no reader.
            Ok(mut response) => response.extensions_mut().remove().unwrap_or_else(|| read(&response)),
            Err(error) if matches!(error.outcome(), Outcome::Unknown | Outcome::Cancelled) => {
                Call { answer: Answer::Unknown(error.to_string()), entry_id: None, clock: None }
            }
            Err(error) => Call::unsent(error.to_string()),
        }
    }
}

impl<T> Call<T> {
    fn unsent(why: String) -> Self {
        Self { answer: Answer::NotExecuted(why), entry_id: None, clock: None }
    }
}

/// The path of an item, its SKU percent-encoded.
pub fn item_path(sku: &str) -> String {
    format!("/v1/items/{}", utf8_percent_encode(sku, NON_ALPHANUMERIC))
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, text: String) {
    headers.insert(name, HeaderValue::try_from(text).expect("UUIDs and hex digits are header-safe"));
}

/// What a reply's body can be read as.
trait Reply: DeserializeOwned + Clone + Send + Sync + 'static {}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Reply for T {}

/// Reads the reply where the client stack judges the attempt, so that breaker, retry and metrics have the same verdict,
/// and keeps the reading with it. Status and headers may promise more than the body holds: such a reply is unreadable.
fn judge<T: Reply>(response: &mut Response<Bytes>) -> Result<(), String> {
    let call: Call<T> = read(response);
    match call.answer {
        Answer::Unknown(why) if response.outcome() != Outcome::Unknown => Err(why),
        Answer::Applied(_) | Answer::Refused(_) | Answer::NotExecuted(_) | Answer::Unknown(_) => {
            response.extensions_mut().insert(call);
            Ok(())
        }
    }
}

fn read<T: DeserializeOwned>(response: &Response<Bytes>) -> Call<T> {
    let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    Call {
        answer: answer(response),
        entry_id: text(X_ENTRY_ID).and_then(|t| t.parse().ok()),
        clock: text(X_HYBRID_CLOCK).map(str::to_owned),
    }
}

fn answer<T: DeserializeOwned>(response: &Response<Bytes>) -> Answer<T> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        return match serde_json::from_slice(response.body()) {
            Ok(body) => Answer::Applied(body),
            Err(error) => Answer::Unknown(format!("{status} with an unreadable body: {error}")),
        };
    }
    let Ok(problem) = serde_json::from_slice::<Problem>(response.body()) else {
        return Answer::Unknown(format!("{status} without a problem document"));
    };
    let said = || problem.detail.clone().unwrap_or_else(|| problem.title.clone());
    if problem.status != status.as_u16() || !problem.kind.starts_with(mainstay::problem::TYPE_PREFIX) {
        return Answer::Unknown(format!("{status} with a problem document that is not inventory's"));
    }
    match (status.as_u16(), problem.name()) {
        (409, "insufficient-stock") => match problem.members.get("short_lines").map(short_lines) {
            Some(Ok(lines)) => Answer::Refused(Refusal::InsufficientStock(lines)),
            _ => Answer::Unknown("insufficient-stock without its short lines".to_owned()),
        },
        (422, "unknown-sku") => Answer::Refused(Refusal::UnknownSku(strings(problem.members.get("skus")))),
        (409, "reservation-voided") => Answer::Refused(Refusal::ReservationVoided),
        (410, "reservation-expired") => Answer::Refused(Refusal::ReservationExpired),
        (404, "not-found") => Answer::Refused(Refusal::NotFound),
        (409, "illegal-transition") => {
            let from = problem.members.get("from").and_then(|v| v.as_str()).unwrap_or_default();
            Answer::Refused(Refusal::IllegalTransition(from.to_owned()))
        }
        (401 | 403 | 429, _) => Answer::NotExecuted(format!("{status}: {}", said())),
        _ if problem.outcome == Some(Effect::NotExecuted) => {
            Answer::NotExecuted(format!("{status}: {}", said()))
        }
        _ => Answer::Unknown(format!("{status}: {}", said())),
    }
}

fn short_lines(value: &serde_json::Value) -> Result<Vec<ShortLine>, serde_json::Error> {
    serde_json::from_value(value.clone())
}

fn strings(value: Option<&serde_json::Value>) -> Vec<String> {
    let texts = value.and_then(|v| v.as_array()).into_iter().flatten();
    texts.filter_map(|v| v.as_str()).map(str::to_owned).collect()
}
