//! The classifier of the HTTP stacks.

use std::time::Duration;

use http::{Request, Uri};

use super::{Classify, HasOutcome, ReadRequest, Summary};
use crate::context::IsHedge;
use crate::{CallError, Outcome, RepeatedWork, RequestContext};

/// Classifier for HTTP: it reads status and headers of a reply, and what the request's extensions carry. Errors become
/// a [`CallError`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Http;

impl<R, E> Classify<R, E> for Http
where
    R: HasOutcome,
    E: Into<CallError>,
{
    type Error = CallError;

    fn rejected(&self, error: CallError) -> CallError {
        error
    }

    #[inline]
    fn inner(&self, error: E) -> CallError {
        error.into()
    }

    #[inline]
    fn outcome(&self, result: &Result<R, CallError>) -> Outcome {
        super::outcome(result)
    }

    fn settles_earlier(&self, reply: &R) -> bool {
        reply.settles_earlier()
    }

    fn retry_after(&self, result: &Result<R, CallError>) -> Option<Duration> {
        match result {
            Ok(reply) => reply.retry_after(),
            Err(error) => error.retry_after(),
        }
    }

    fn summary(&self, result: &Result<R, CallError>) -> Summary {
        match result {
            Ok(reply) => reply.summary(),
            Err(error) => error.summary(),
        }
    }
}

impl<B> ReadRequest<Request<B>> for Http {
    fn uri<'a>(&self, request: &'a Request<B>) -> Option<&'a Uri> {
        Some(request.uri())
    }

    fn context<'a>(&self, request: &'a Request<B>) -> Option<&'a RequestContext> {
        request.extensions().get()
    }

    fn context_mut<'a>(&self, request: &'a mut Request<B>) -> Option<&'a mut RequestContext> {
        request.extensions_mut().get_mut()
    }

    fn set_context(&self, request: &mut Request<B>, context: RequestContext) {
        request.extensions_mut().insert(context);
    }

    fn is_repeat(&self, request: &Request<B>) -> bool {
        RepeatedWork::marks(request)
    }

    fn is_hedge(&self, request: &Request<B>) -> bool {
        request.extensions().get::<IsHedge>().is_some()
    }
}
