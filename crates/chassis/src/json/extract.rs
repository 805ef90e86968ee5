//! The extractors for request bodies.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use mainstay::problem::{Effect, FieldError};
use mainstay::{Problem, RequestContext};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tokio::time::timeout_at;

use super::fingerprint::{self, Fingerprint};
use crate::ApiError;
use crate::server::BodyTimeout;

/// Longest body, in bytes: 1,000 lines of the longest SKUs take less.
pub const MAX_BODY: usize = 256 * 1024;

/// Most bytes that are read of a body that is too long: four times the limit.
const DISCARDED: usize = 4 * MAX_BODY;

/// A request type whose values are valid.
pub trait Validate: Sized {
    /// Type of the body; it may be `Self`. Its fields stand in the order of their names: release 0.1.0 took fingerprints of
    /// the body with its members in that order, and these have to stay equal.
    type Wire: DeserializeOwned + Serialize;

    /// Checks every field. The error lists each invalid field by its path (`lines[2].quantity`).
    fn validate(wire: Self::Wire) -> Result<Self, Vec<FieldError>>;
}

/// A valid JSON body. It is the last argument of a handler, because it consumes the request. A caller with another role is
/// refused before the body is parsed.
#[derive(Debug, Clone)]
pub struct ValidJson<T> {
    /// The request.
    pub value: T,
    /// The body as JSON of its type: the same text for every spelling of the request.
    pub document: String,
    /// Fingerprint of the request, for the idempotency key.
    pub fingerprint: Fingerprint,
}

impl<T: Validate + Send, S: Send + Sync> FromRequest<S> for ValidJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        require_json(&parts.headers)?;
        let bytes = read(&parts, body).await?;
        let (value, document) = typed(&bytes)?;
        let fingerprint = fingerprint::of(&mut parts, state, &document).await?;
        Ok(Self { value, document, fingerprint })
    }
}

/// The body of a command without parameters: empty, or `{}`.
#[derive(Debug, Clone, Copy)]
pub struct EmptyBody {
    /// Fingerprint of the request, the same for both forms.
    pub fingerprint: Fingerprint,
}

const EMPTY: &str = "{}";

impl<S: Send + Sync> FromRequest<S> for EmptyBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let bytes = read(&parts, body).await?;
        if !bytes.is_empty() {
            require_json(&parts.headers)?;
            match serde_json::from_slice::<HashMap<String, IgnoredAny>>(&bytes) {
                Ok(members) if members.is_empty() => {}
                Err(error) if !error.is_data() => return Err(malformed(&error.to_string())),
                Ok(_) | Err(_) => {
                    let detail = "must be empty or {}".to_owned();
                    return Err(ApiError::invalid(vec![FieldError { field: "body".to_owned(), detail }]));
                }
            }
        }
        let fingerprint = fingerprint::of(&mut parts, state, EMPTY).await?;
        Ok(Self { fingerprint })
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = text.split(';').map(str::trim);
    let json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    let utf8 = parts.filter_map(|parameter| parameter.split_once('=')).all(|(name, value)| {
        !name.eq_ignore_ascii_case("charset") || value.trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if json && utf8 {
        return Ok(());
    }
    Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
        .field("Content-Type", "must be application/json")
        .into())
}

/// Reads the body until the request's deadline. Only this function can answer `not-executed` then: the layers outside it
/// know that the handler has begun and not how far it went.
async fn read(parts: &Parts, body: Body) -> Result<Bytes, ApiError> {
    let reading = read_whole(&parts.headers, body);
    match parts.extensions.get::<RequestContext>() {
        Some(context) => {
            timeout_at(context.deadline.instant(), reading).await.unwrap_or_else(|_| Err(too_slow()))
        }
        None => reading.await,
    }
}

async fn read_whole(headers: &HeaderMap, mut body: Body) -> Result<Bytes, ApiError> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BODY as u64) {
        return Err(too_large(body, 0).await);
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| unreadable(&error))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > MAX_BODY {
            return Err(too_large(body, whole.len() + data.len()).await);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Refuses a body that is too long. A client that still sends when its connection closes gets a reset in place of the reply,
/// so a body up to [`DISCARDED`] is read to its end. For a longer one the connection is closed.
async fn too_large(mut body: Body, mut seen: usize) -> ApiError {
    let problem = refusal(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large")
        .field("body", format!("must be at most {MAX_BODY} bytes"));
    while let Some(frame) = body.frame().await {
        seen += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len);
        if frame.is_err() || seen > DISCARDED {
            return closing(problem);
        }
    }
    problem.into()
}

/// A refusal that closes the connection: with an unread body in it, it cannot serve another request.
fn closing(problem: Problem) -> ApiError {
    ApiError::from(problem).header(CONNECTION, HeaderValue::from_static("close"))
}

fn unreadable(error: &axum::Error) -> ApiError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if inner.is::<BodyTimeout>() {
            return too_slow();
        }
        source = inner.source();
    }
    let problem = refusal(StatusCode::BAD_REQUEST, "malformed-body", "The body could not be read")
        .field("body", "ended early or was framed wrongly");
    closing(problem)
}

fn too_slow() -> ApiError {
    let mut problem = refusal(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The body took too long")
        .detail("the body stopped or arrived too slowly; the request was not executed");
    (problem.retryable, problem.same_key) = (true, true);
    closing(problem)
}

/// The request, and its body as JSON of its type.
fn typed<T: Validate>(bytes: &[u8]) -> Result<(T, String), ApiError> {
    let wire: T::Wire = shaped(bytes)?;
    let document = serde_json::to_string(&wire).map_err(ApiError::internal)?;
    Ok((T::validate(wire).map_err(ApiError::invalid)?, document))
}

/// Reads the body as its type, in which serde accepts each member once. Only a body that is refused is read again, to find
/// the path of the field: the path costs a text for each name.
fn shaped<W: DeserializeOwned>(bytes: &[u8]) -> Result<W, ApiError> {
    let error = match serde_json::from_slice(bytes) {
        Ok(wire) => return Ok(wire),
        Err(error) => error,
    };
    let text = error.to_string();
    // Parsers disagree on which of two equal members counts. A service behind this one could read another request.
    if !error.is_data() || text.starts_with("duplicate field") {
        return Err(malformed(&text));
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let path =
        serde_path_to_error::deserialize::<_, W>(&mut document).err().map(|error| error.path().to_string());
    let field = path.filter(|path| path != ".").unwrap_or_else(|| "body".to_owned());
    let detail = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    Err(ApiError::invalid(vec![FieldError { field, detail: shortened(detail) }]))
}

fn malformed(error: &str) -> ApiError {
    refusal(StatusCode::BAD_REQUEST, "malformed-json", "The body is not well-formed JSON")
        .field("body", shortened(error))
        .into()
}

/// The first 200 characters of a message. Messages quote the body, which may be long.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn refusal(status: StatusCode, name: &str, title: &str) -> Problem {
    Problem::new(status, name, title).outcome(Effect::NotExecuted)
}
