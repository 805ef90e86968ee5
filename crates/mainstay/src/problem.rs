//! RFC 9457 problem documents: a refusal's name, whether a repeat may succeed, and the effect of the call.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::headers::{X_CORRELATION_ID, X_OUTCOME};
use crate::{CorrelationId, Outcome};

/// The media type of a problem document.
pub const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Prefix of `type`; the stable name follows. The URI need not resolve.
pub const TYPE_PREFIX: &str = "urn:mainstay:problem:";

/// The effect of a refused or failed call at the service that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The call had no effect and will have none.
    NotExecuted,
    /// The call was decided, and the decision is a refusal.
    Refused,
    /// The call may or may not have had its effect.
    Unknown,
}

impl Effect {
    /// The name in the document and in `X-Outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotExecuted => "not-executed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }

    /// The outcome from the caller's point of view.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::NotExecuted => Outcome::FailedKnown,
            Self::Refused => Outcome::Refused,
            Self::Unknown => Outcome::Unknown,
        }
    }
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldError {
    /// A path into the body (`lines[2].quantity`), or the name of a header or parameter.
    pub field: String,
    /// The fault, and the valid value.
    pub detail: String,
}

/// A problem document under construction, or, when deserialised, one from a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// [`TYPE_PREFIX`] and a stable name.
    #[serde(rename = "type")]
    pub kind: String,
    /// A short text for people, the same for every occurrence.
    pub title: String,
    /// The HTTP status, repeated for readers that see only the body.
    pub status: u16,
    /// Description of this occurrence, and how to resolve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retryable: bool,
    /// Whether a repeat should carry the same idempotency key.
    #[serde(default)]
    pub same_key: bool,
    /// The call's effect, where it may be in question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Effect>,
    /// The request's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The wrong fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Whole seconds after which a repeat makes sense; sent as `Retry-After` and not in the body.
    #[serde(skip)]
    pub retry_after_secs: Option<u64>,
    /// Further members: `order_id`, `short_lines`, `allowed`, …
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

impl Problem {
    /// A problem with the stable `name`, not retryable by default.
    pub fn new(status: StatusCode, name: &str, title: &str) -> Self {
        Self {
            kind: format!("{TYPE_PREFIX}{name}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail: None,
            retryable: false,
            same_key: false,
            outcome: None,
            correlation_id: None,
            errors: Vec::new(),
            retry_after_secs: None,
            members: Map::new(),
        }
    }

    /// The stable name at the end of `type`.
    pub fn name(&self) -> &str {
        self.kind.rsplit([':', '/']).next().unwrap_or(&self.kind)
    }

    /// Sets the description of this occurrence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the effect of the call.
    #[must_use]
    pub fn outcome(mut self, effect: Effect) -> Self {
        self.outcome = Some(effect);
        self
    }

    /// Marks the problem as retryable with the same key after `Retry-After` seconds.
    #[must_use]
    pub fn retry_after(mut self, secs: u64) -> Self {
        self.retryable = true;
        self.same_key = true;
        self.retry_after_secs = Some(secs);
        self
    }

    /// Adds a wrong field.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// Adds a further member.
    #[must_use]
    pub fn member(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Sets the correlation id.
    #[must_use]
    pub fn correlated(mut self, id: &CorrelationId) -> Self {
        self.correlation_id = Some(id.to_string());
        self
    }

    /// The reply: status, media type, `X-Outcome`, `Retry-After`, `X-Correlation-Id`, body.
    pub fn into_response<B: From<Bytes>>(self) -> Response<B> {
        // Most problems fit, so that refusals, which may be many, do not grow a buffer step by step.
        let mut body = Vec::with_capacity(512);
        serde_json::to_writer(&mut body, &self)
            .expect("a problem holds only strings, numbers and JSON values");
        let mut response = Response::new(B::from(Bytes::from(body)));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, PROBLEM_JSON);
        if let Some(effect) = self.outcome {
            headers.insert(X_OUTCOME, HeaderValue::from_static(effect.as_str()));
        }
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if let Some(Ok(id)) = self.correlation_id.as_deref().map(HeaderValue::from_str) {
            headers.insert(X_CORRELATION_ID, id);
        }
        response
    }
}
