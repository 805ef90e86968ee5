//! Which requests may be sent again, and how they are copied.

use http::Request;

use crate::RequestContext;
use crate::headers::IDEMPOTENCY_KEY;

/// The effect of sending a request twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeatable {
    /// Twice is not the same as once: a repeat is harmless only when the earlier attempt had no effect.
    OnlyUnexecuted,
    /// The request carries a key by which the peer recognizes a repeat.
    WithKey,
    /// The request changes nothing.
    Safe,
}

/// The decision whether a request may be sent again. A function from a request to [`Repeatable`] is one, for requests
/// that are `Clone`.
pub trait Repeat<Req> {
    /// The effect of sending the request twice.
    fn repeatable(&self, request: &Req) -> Repeatable;

    /// A copy for a later attempt, with the same key. It need not carry a
    /// [`RequestContext`]: [`ReadRequest::set_context`](crate::classify::ReadRequest::set_context) adds one.
    fn copy(&self, request: &Req) -> Req;
}

impl<F, Req> Repeat<Req> for F
where
    F: Fn(&Req) -> Repeatable,
    Req: Clone,
{
    fn repeatable(&self, request: &Req) -> Repeatable {
        self(request)
    }

    fn copy(&self, request: &Req) -> Req {
        request.clone()
    }
}

/// The decision for requests of which nothing is known: [`Repeatable::OnlyUnexecuted`].
#[derive(Debug, Clone, Copy, Default)]
pub struct OnlyUnexecuted;

impl<Req: Clone> Repeat<Req> for OnlyUnexecuted {
    fn repeatable(&self, _: &Req) -> Repeatable {
        Repeatable::OnlyUnexecuted
    }

    fn copy(&self, request: &Req) -> Req {
        request.clone()
    }
}

/// The decision for HTTP, by method and `Idempotency-Key`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpRepeat;

impl<B: Clone> Repeat<Request<B>> for HttpRepeat {
    fn repeatable(&self, request: &Request<B>) -> Repeatable {
        if request.method().is_safe() {
            Repeatable::Safe
        } else if request.headers().get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty()) {
            Repeatable::WithKey
        } else {
            Repeatable::OnlyUnexecuted
        }
    }

    /// Each attempt gets its own context, so the context is not copied when it is the only extension.
    fn copy(&self, request: &Request<B>) -> Request<B> {
        let mut copy = Request::new(request.body().clone());
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        *copy.version_mut() = request.version();
        copy.headers_mut().clone_from(request.headers());
        let has_context = request.extensions().get::<RequestContext>().is_some();
        if request.extensions().len() > usize::from(has_context) {
            copy.extensions_mut().clone_from(request.extensions());
        }
        copy
    }
}
