//! The typed client of inventory. It reads the meaning of each reply, and has no retries of its own.
//!
//! Only the problems that the contract names are verdicts. After any other reply, however plausible, the outcome is
//! unknown until the caller asks again.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use mainstay::classify::HasOutcome;
use mainstay::client::{CallError, ReplyReader};
use mainstay::headers::IDEMPOTENCY_KEY;
use mainstay::problem::{Effect, TYPE_PREFIX};
use mainstay::{Outcome, Problem, RepeatedWork, RequestContext};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use tokio::time::Instant;
use tower::{Service, ServiceExt};
use uuid::Uuid;

use crate::types::{Line, Reservation, ReservationStatus, ReserveRequest, ShortLine};

/// Header with the id of the journal entry that led to a request.
pub const X_CAUSATION_ID: http::HeaderName = http::HeaderName::from_static("x-causation-id");
/// Header with the id of the journal entry that a request led to.
pub const X_ENTRY_ID: http::HeaderName = http::HeaderName::from_static("x-entry-id");
/// Header with the time of the sender's hybrid clock, in requests and replies.
pub const X_HYBRID_CLOCK: http::HeaderName = http::HeaderName::from_static("x-hybrid-clock");

/// Reason why inventory refused a call for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is too little stock for these lines.
    InsufficientStock(Vec<ShortLine>),
    /// There is no item for these SKUs.
    UnknownSku(Vec<String>),
    /// The reservation was released before its reserve arrived.
    ReservationVoided,
    /// The hold had ended.
    ReservationExpired,
    /// The state of the reservation, which is given, does not allow the command.
    IllegalTransition(String),
    /// There is no such reservation.
    NotFound,
}

/// Knowledge about the effect of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<T> {
    /// Inventory carried the command out.
    Applied(T),
    /// Inventory refused the command.
    Refused(Refusal),
    /// Inventory did not carry the command out and decided nothing. The caller can send it again.
    NotExecuted(String),
    /// Inventory may have carried the command out.
    Unknown(String),
}

/// The answer to a call, with the facts that the journal records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call<T> {
    /// Knowledge about the effect of the call.
    pub answer: Answer<T>,
    /// Id of inventory's journal entry that decided the answer.
    pub entry_id: Option<Uuid>,
    /// Time of inventory's hybrid clock, as text.
    pub clock: Option<String>,
    /// The place of the failure, if the call decided nothing.
    pub blame: Blame,
}

/// The place of a failure, as far as one call can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The connection to inventory, its capacity, or the caller's rights: every other call would fail as well.
    Peer,
    /// The call was sent and failed. If other calls succeed at the same time, the cause is in this request.
    Request,
}

/// Context of a call.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Deadline, correlation id, trace and decision trail of the request.
    pub request: RequestContext,
    /// The derived idempotency key: the same for every attempt of one step.
    pub key: Uuid,
    /// Id of the caller's entry with the intent.
    pub causation_id: Option<Uuid>,
    /// Time of the caller's hybrid clock, as text.
    pub clock: String,
    /// True if an earlier call for the same work has failed. The breaker does not count such a call.
    pub is_repeat: bool,
}

/// The reservation that a call is about. A reply about another reservation, another order or other SKUs decides nothing,
/// however well it reads: a proxy or a cache may have mixed up two replies.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The reservation's id.
    pub reservation_id: Uuid,
    /// Its order's id.
    pub order_id: Uuid,
    /// The lines of the order.
    pub lines: Arc<[Line]>,
}

/// The reply that a call expects.
#[derive(Debug, Clone)]
struct Expected {
    subject: Subject,
    /// Whether a reservation in this status is an answer to the call.
    fits: fn(&Reservation) -> bool,
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
    /// A client of the service at `base` (`http://host:port`), with `token`.
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
        let subject = Subject {
            reservation_id: body.reservation_id,
            order_id: body.order_id,
            lines: Arc::clone(&body.lines),
        };
        let fits = |it: &Reservation| it.status == ReservationStatus::Held && it.expires_at.is_some();
        self.call(Method::POST, "/v1/reservations", context, Some(body), Expected { subject, fits }).await
    }

    /// Turns a hold into shipped stock.
    pub async fn confirm(&self, context: CallContext, subject: Subject) -> Call<Reservation> {
        let fits = |it: &Reservation| it.status == ReservationStatus::Confirmed;
        let path = format!("/v1/reservations/{}/confirm", subject.reservation_id);
        self.call::<()>(Method::POST, &path, context, None, Expected { subject, fits }).await
    }

    /// Gives a hold back, or makes sure that it can never come to be.
    pub async fn release(&self, context: CallContext, subject: Subject) -> Call<Reservation> {
        let fits =
            |it: &Reservation| !matches!(it.status, ReservationStatus::Held | ReservationStatus::Confirmed);
        let path = format!("/v1/reservations/{}/release", subject.reservation_id);
        self.call::<()>(Method::POST, &path, context, None, Expected { subject, fits }).await
    }

    /// Reads a reservation.
    pub async fn reservation(&self, context: CallContext, subject: Subject) -> Call<Reservation> {
        let path = format!("/v1/reservations/{}", subject.reservation_id);
        self.call::<()>(Method::GET, &path, context, None, Expected { subject, fits: |_| true }).await
    }

    /// Sends a call. `fits` is true for a reservation that is the result which the call asked for.
    async fn call<B: Serialize>(
        &self,
        method: Method,
        path: &str,
        context: CallContext,
        body: Option<&B>,
        expected: Expected,
    ) -> Call<Reservation> {
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
        let trail = context.request.trail.clone();
        let extensions = request.extensions_mut();
        extensions.insert(context.request);
        extensions.insert(reader(expected.clone()));
        if context.is_repeat {
            extensions.insert(RepeatedWork);
        }
        let began = Instant::now();
        let call = match self.stack.clone().oneshot(request).await {
            Ok(response) => match response.extensions().get::<Call<Reservation>>() {
                Some(call) => call.clone(),
                // The stack ran no reader, so the reply is read here.
                None => {
                    read(&response, &expected).unwrap_or_else(|reason| Call::unknown(reason, Blame::Request))
                }
            },
            Err(error) if matches!(error.outcome(), Outcome::Unknown | Outcome::Cancelled) => {
                Call::unknown(error.to_string(), Blame::Request)
            }
            Err(error) => Call::unsent(error.to_string()),
        };
        trail.called("inventory", call.answer.as_str(), began.elapsed());
        call
    }
}

impl<T> Answer<T> {
    /// The outcome as in `X-Outcome`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Applied(_) => "applied",
            Self::Refused(_) => "refused",
            Self::NotExecuted(_) => "not-executed",
            Self::Unknown(_) => "unknown",
        }
    }
}

impl<T> Call<T> {
    fn unsent(why: String) -> Self {
        Self { answer: Answer::NotExecuted(why), entry_id: None, clock: None, blame: Blame::Peer }
    }

    fn unknown(why: String, blame: Blame) -> Self {
        Self { answer: Answer::Unknown(why), entry_id: None, clock: None, blame }
    }
}

/// Reads each reply inside the stack, so that breaker, retry, metrics and logs use the same verdict as the caller.
fn reader(expected: Expected) -> ReplyReader {
    ReplyReader::new(move |response: &mut Response<Bytes>| {
        let call = read(response, &expected)?;
        match call.answer {
            // The status and headers claim a definite outcome, and the document does not confirm it.
            Answer::Unknown(why) if response.outcome() != Outcome::Unknown => Err(why),
            Answer::Applied(_) | Answer::Refused(_) | Answer::NotExecuted(_) | Answer::Unknown(_) => {
                response.extensions_mut().insert(call);
                Ok(())
            }
        }
    })
}

/// The path of an item, its SKU percent-encoded.
pub fn item_path(sku: &str) -> String {
    format!("/v1/items/{}", utf8_percent_encode(sku, NON_ALPHANUMERIC))
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, text: String) {
    headers.insert(name, HeaderValue::try_from(text).expect("UUIDs and hex digits are header-safe"));
}

/// The reply's meaning; an error when it cannot be read.
fn read(response: &Response<Bytes>, expected: &Expected) -> Result<Call<Reservation>, String> {
    let text = |name| response.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let (answer, blame) = answer(response, expected)?;
    Ok(Call {
        answer,
        entry_id: text(X_ENTRY_ID).and_then(|t| t.parse().ok()),
        clock: text(X_HYBRID_CLOCK).map(str::to_owned),
        blame,
    })
}

fn answer(response: &Response<Bytes>, expected: &Expected) -> Result<(Answer<Reservation>, Blame), String> {
    let status = response.status();
    if matches!(status, StatusCode::OK | StatusCode::CREATED) {
        let body = serde_json::from_slice(response.body());
        let body: Reservation = body.map_err(|error| format!("{status} with an unreadable body: {error}"))?;
        expected.subject.is_of(&body).map_err(|fault| format!("{status} with {fault}"))?;
        if !(expected.fits)(&body) {
            return Err(format!(
                "{status} with a reservation that is {:?}, which was not asked for",
                body.status
            ));
        }
        return Ok((Answer::Applied(body), Blame::Request));
    }
    let problem = serde_json::from_slice::<Problem>(response.body())
        .map_err(|_| format!("{status} without a problem document"))?;
    let said = || format!("{status}: {}", brief(problem.detail.as_deref().unwrap_or(&problem.title)));
    if problem.status != status.as_u16() || !problem.kind.starts_with(TYPE_PREFIX) {
        return Err(format!("{status} with a problem document that is not inventory's"));
    }
    let refusal = match (status.as_u16(), problem.name()) {
        (409, "insufficient-stock") => {
            let lines = problem.members.get("short_lines").map(short_lines);
            let Some(Ok(lines)) = lines else {
                return Err("insufficient-stock without its short lines".to_owned());
            };
            Refusal::InsufficientStock(lines)
        }
        (422, "unknown-sku") => Refusal::UnknownSku(strings(problem.members.get("skus"))),
        (409, "reservation-voided") => Refusal::ReservationVoided,
        (410, "reservation-expired") => Refusal::ReservationExpired,
        (404, "not-found") => Refusal::NotFound,
        (409, "illegal-transition") => {
            let from = problem.members.get("from").and_then(|v| v.as_str()).unwrap_or_default();
            Refusal::IllegalTransition(brief(from))
        }
        // Inventory's database refused this one write, so nothing changed.
        (500, "write-refused") => return Ok((Answer::NotExecuted(said()), Blame::Request)),
        (401 | 403 | 429, _) => return Ok((Answer::NotExecuted(said()), Blame::Peer)),
        _ if problem.outcome == Some(Effect::NotExecuted) => {
            return Ok((Answer::NotExecuted(said()), Blame::Peer));
        }
        _ => return Ok((Answer::Unknown(said()), Blame::Request)),
    };
    expected.subject.is_refused_by(&problem, &refusal).map_err(|fault| format!("{status} with {fault}"))?;
    Ok((Answer::Refused(refusal), Blame::Request))
}

impl Subject {
    /// An error when `reservation` is another one.
    fn is_of(&self, reservation: &Reservation) -> Result<(), String> {
        let is_voided = reservation.status == ReservationStatus::Voided;
        if reservation.id != self.reservation_id {
            return Err(format!("the reservation {}, which was not asked for", reservation.id));
        }
        match reservation.order_id {
            Some(order) if order == self.order_id => Ok(()),
            // Released before inventory saw its order.
            None if is_voided => Ok(()),
            Some(order) => Err(format!("a reservation of the order {order}, which was not asked for")),
            None => Err("a reservation without its order".to_owned()),
        }
    }

    /// An error when the problem names another reservation or order, or when the refusal names other lines.
    fn is_refused_by(&self, problem: &Problem, refusal: &Refusal) -> Result<(), String> {
        for (member, ours) in [("reservation_id", self.reservation_id), ("order_id", self.order_id)] {
            let theirs =
                problem.members.get(member).map(|id| id.as_str().and_then(|id| id.parse::<Uuid>().ok()));
            if theirs.is_some_and(|id| id != Some(ours)) {
                return Err(format!("a refusal of another {member}"));
            }
        }
        let has = |sku: &str| self.lines.iter().any(|line| line.sku == sku);
        let is_ours = match refusal {
            Refusal::InsufficientStock(short) => !short.is_empty() && short.iter().all(|line| has(&line.sku)),
            Refusal::UnknownSku(skus) => !skus.is_empty() && skus.iter().all(|sku| has(sku)),
            Refusal::ReservationVoided
            | Refusal::ReservationExpired
            | Refusal::IllegalTransition(_)
            | Refusal::NotFound => true,
        };
        if is_ours { Ok(()) } else { Err("a refusal that names no SKUs of the order, or others".to_owned()) }
    }
}

/// The most of a peer's words that is kept, in characters: they go into the journal and the log, and stay there.
const MAX_WORDS: usize = 200;

/// The beginning of a peer's words.
fn brief(words: &str) -> String {
    words.chars().take(MAX_WORDS).collect()
}

fn short_lines(value: &serde_json::Value) -> Result<Vec<ShortLine>, serde_json::Error> {
    serde_json::from_value(value.clone())
}

fn strings(value: Option<&serde_json::Value>) -> Vec<String> {
    let texts = value.and_then(|v| v.as_array()).into_iter().flatten();
    texts.filter_map(|v| v.as_str()).map(str::to_owned).collect()
}
