//! Classifiers: the way in which a layer reads the requests and the results of the service that it wraps.
//!
//! A layer of this crate wraps any tower service. It needs to know the outcome of each call, and it adds failures of
//! its own. Both are the classifier's part. A function is enough:
//!
//! ```
//! use mainstay::breaker::BreakerLayer;
//! use mainstay::{Error, Outcome};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #[derive(Debug, PartialEq)]
//! enum LookupError { NoSuchKey, Disconnected }
//!
//! fn outcome(result: Result<&String, &LookupError>) -> Outcome {
//!     match result {
//!         Ok(_) => Outcome::Success,
//!         Err(LookupError::NoSuchKey) => Outcome::Refused,
//!         Err(LookupError::Disconnected) => Outcome::Unknown,
//!     }
//! }
//!
//! let store = service_fn(|_key: u64| async { Err::<String, _>(LookupError::Disconnected) });
//! let client = BreakerLayer::builder("store").classify(outcome).build()?.layer(store);
//! for key in 0..5 {
//!     assert_eq!(client.clone().oneshot(key).await.unwrap_err().into_inner(), Some(LookupError::Disconnected));
//! }
//! assert!(matches!(client.oneshot(5).await, Err(Error::Rejected(_))));
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use http::Uri;

use super::Summary;
use crate::{CallError, Error, Outcome, RequestContext};

/// The reading of results: replies of type `R` and errors of type `E`.
pub trait Classify<R, E> {
    /// Error that the layer returns: the layer's own failures, and the service's.
    type Error;

    /// A failure that the layer itself decided.
    fn rejected(&self, error: CallError) -> Self::Error;

    /// The service's own error.
    fn inner(&self, error: E) -> Self::Error;

    /// The outcome of a call.
    fn outcome(&self, result: &Result<R, Self::Error>) -> Outcome;

    /// Whether the reply also settles an earlier attempt at the same work. Default: it does.
    fn settles_earlier(&self, _reply: &R) -> bool {
        true
    }

    /// Time to wait before the next call, as the service asks. Default: it does not ask.
    fn retry_after(&self, _result: &Result<R, Self::Error>) -> Option<Duration> {
        None
    }

    /// A short text for events and the decision trail. Default: the outcome's name.
    fn summary(&self, result: &Result<R, Self::Error>) -> Summary {
        Summary::Text(self.outcome(result).to_string())
    }
}

/// The reading of requests. Every method has a default for requests that carry nothing a layer could use.
pub trait ReadRequest<Req> {
    /// The target. Requests to different hosts or ports have breakers of their own; without a target all requests
    /// share one.
    fn uri<'a>(&self, _request: &'a Req) -> Option<&'a Uri> {
        None
    }

    /// The request's deadline, identity and decision trail.
    fn context<'a>(&self, _request: &'a Req) -> Option<&'a RequestContext> {
        None
    }

    /// The same, for a layer that shortens the deadline.
    fn context_mut<'a>(&self, _request: &'a mut Req) -> Option<&'a mut RequestContext> {
        None
    }

    /// Gives a copy of the request the context of its own attempt. Default: requests carry no context.
    fn set_context(&self, _request: &mut Req, _context: RequestContext) {}

    /// Whether the request repeats work that has failed before, as [`RepeatedWork`](crate::RepeatedWork) describes.
    fn is_repeat(&self, _request: &Req) -> bool {
        false
    }

    /// Whether the request is the second call of a hedged read.
    fn is_hedge(&self, _request: &Req) -> bool {
        false
    }
}

/// The classifier of a layer that was given none: a reply is a success, and an error leaves the effect unknown.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl<R, E> Classify<R, E> for Plain {
    type Error = Error<E>;

    fn rejected(&self, error: CallError) -> Error<E> {
        Error::Rejected(error)
    }

    fn inner(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }

    fn outcome(&self, result: &Result<R, Error<E>>) -> Outcome {
        match result {
            Ok(_) => Outcome::Success,
            Err(Error::Rejected(error)) => error.outcome(),
            Err(Error::Inner(_)) => Outcome::Unknown,
        }
    }
}

impl<Req> ReadRequest<Req> for Plain {}

/// A classifier made of a function from a reply or an error to its outcome.
#[derive(Debug, Clone, Copy)]
pub struct ByFn<F>(pub F);

impl<F, R, E> Classify<R, E> for ByFn<F>
where
    F: Fn(Result<&R, &E>) -> Outcome,
{
    type Error = Error<E>;

    fn rejected(&self, error: CallError) -> Error<E> {
        Error::Rejected(error)
    }

    fn inner(&self, error: E) -> Error<E> {
        Error::Inner(error)
    }

    fn outcome(&self, result: &Result<R, Error<E>>) -> Outcome {
        match result {
            Ok(reply) => (self.0)(Ok(reply)),
            Err(Error::Rejected(error)) => error.outcome(),
            Err(Error::Inner(error)) => (self.0)(Err(error)),
        }
    }
}

impl<F, Req> ReadRequest<Req> for ByFn<F> {}

/// A classifier for a layer around another layer of this crate. Both layers return one [`Error`], so that a stack of
/// them does not nest its errors.
#[derive(Debug, Clone, Copy)]
pub struct Outer<C>(pub C);

impl<C, R, E> Classify<R, Error<E>> for Outer<C>
where
    C: Classify<R, E, Error = Error<E>>,
{
    type Error = Error<E>;

    fn rejected(&self, error: CallError) -> Error<E> {
        self.0.rejected(error)
    }

    fn inner(&self, error: Error<E>) -> Error<E> {
        error
    }

    fn outcome(&self, result: &Result<R, Error<E>>) -> Outcome {
        self.0.outcome(result)
    }

    fn settles_earlier(&self, reply: &R) -> bool {
        self.0.settles_earlier(reply)
    }

    fn retry_after(&self, result: &Result<R, Error<E>>) -> Option<Duration> {
        self.0.retry_after(result)
    }

    fn summary(&self, result: &Result<R, Error<E>>) -> Summary {
        self.0.summary(result)
    }
}

impl<C: ReadRequest<Req>, Req> ReadRequest<Req> for Outer<C> {
    fn uri<'a>(&self, request: &'a Req) -> Option<&'a Uri> {
        self.0.uri(request)
    }

    fn context<'a>(&self, request: &'a Req) -> Option<&'a RequestContext> {
        self.0.context(request)
    }

    fn context_mut<'a>(&self, request: &'a mut Req) -> Option<&'a mut RequestContext> {
        self.0.context_mut(request)
    }

    fn set_context(&self, request: &mut Req, context: RequestContext) {
        self.0.set_context(request, context);
    }

    fn is_repeat(&self, request: &Req) -> bool {
        self.0.is_repeat(request)
    }

    fn is_hedge(&self, request: &Req) -> bool {
        self.0.is_hedge(request)
    }
}
