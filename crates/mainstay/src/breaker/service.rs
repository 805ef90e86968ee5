//! The breaker's tower layer, its service and its named future.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tower::{Layer, Service};

use super::cell::Cell;
use super::permit::Permit;
use super::{BreakerConfig, Breakers};
use crate::builder::Builder;
use crate::classify::{Classify, Http, Plain, ReadRequest};
use crate::{CallError, ConfigError, Deadline, Gate, clock};

/// Layer that puts the breaker of each request's endpoint in front of a service.
#[derive(Debug, Clone)]
pub struct BreakerLayer<C = Http> {
    breakers: Breakers,
    classify: C,
}

impl BreakerLayer {
    /// A layer for HTTP that shares these breakers.
    pub fn new(breakers: Breakers) -> Self {
        Self::classified(breakers, Http)
    }

    /// A layer for any service. Without further settings it has the defaults of [`BreakerConfig`] and takes every
    /// error for a failure.
    pub fn builder(peer: &str) -> Builder<BreakerConfig, Plain> {
        Builder::new(peer)
    }
}

impl<C> BreakerLayer<C> {
    /// A layer that shares these breakers and reads requests and results by `classify`.
    pub fn classified(breakers: Breakers, classify: C) -> Self {
        Self { breakers, classify }
    }

    /// The breakers, one for each endpoint that was called so far.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }
}

impl<C> Builder<BreakerConfig, C> {
    /// The layer. Fails when a setting is out of its range.
    pub fn build(self) -> Result<BreakerLayer<C>, ConfigError> {
        let breakers = Breakers::new(&self.peer, self.config, self.random)?;
        Ok(BreakerLayer::classified(breakers, self.classify))
    }
}

impl<S, C: Clone> Layer<S> for BreakerLayer<C> {
    type Service = Breaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Breaker { inner, breakers: self.breakers.clone(), classify: self.classify.clone(), last: None }
    }
}

/// The service of [`BreakerLayer`].
#[derive(Debug, Clone)]
pub struct Breaker<S, C = Http> {
    inner: S,
    breakers: Breakers,
    classify: C,
    /// The breaker of the last call. Most clients call one endpoint, and comparing a name is cheaper than looking it
    /// up.
    last: Option<Arc<Cell>>,
}

impl<S, C, Req> Service<Req> for Breaker<S, C>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
{
    type Response = S::Response;
    type Error = C::Error;
    type Future = BreakerFuture<S::Future, C, C::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(|error| self.classify.inner(error))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let uri = self.classify.uri(&request);
        let cell = match &self.last {
            Some(cell) if cell.serves(uri) => cell,
            _ => self.last.insert(self.breakers.of(uri)),
        };
        let context = self.classify.context(&request);
        let is_hedge = || self.classify.is_hedge(&request);
        let admitted = match cell.admit(context, self.classify.is_repeat(&request), is_hedge) {
            Ok(admitted) => admitted,
            Err(error) => return Gate::refused(self.classify.rejected(error)),
        };
        let permit = Permit::new(cell, admitted, context);
        if admitted.probe {
            return self.probe(request, permit);
        }
        let classify = self.classify.clone();
        Gate::open(Permitted { call: self.inner.call(request), probe: None, permit, classify })
    }
}

impl<S, C> Breaker<S, C> {
    #[cold]
    fn probe<Req>(&mut self, mut request: Req, permit: Permit) -> BreakerFuture<S::Future, C, C::Error>
    where
        S: Service<Req>,
        C: Classify<S::Response, S::Error> + ReadRequest<Req> + Clone,
    {
        let until = clock::now() + permit.probe_timeout();
        if let Some(context) = self.classify.context_mut(&mut request) {
            context.deadline = context.deadline.earliest(Deadline::at(until));
        }
        let probe = Some(Box::pin(tokio::time::sleep_until(until)));
        let classify = self.classify.clone();
        Gate::open(Permitted { call: self.inner.call(request), probe, permit, classify })
    }
}

/// The future of [`Breaker`]: a call, or its refusal. If it is dropped, the breaker counts a call whose caller left or
/// whose deadline passed.
pub type BreakerFuture<F, C, E> = Gate<Permitted<F, C>, E>;

pin_project! {
    /// A call with its permit.
    #[derive(Debug)]
    pub struct Permitted<F, C> {
        #[pin]
        call: F,
        // Timeout of a probe. Other calls carry no timer.
        probe: Option<Pin<Box<Sleep>>>,
        permit: Permit,
        classify: C,
    }
}

impl<F, C, R, E> Future for Permitted<F, C>
where
    F: Future<Output = Result<R, E>>,
    C: Classify<R, E>,
{
    type Output = Result<R, C::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Poll the call before the timer: a reply that has arrived wins over a timer that has fired.
        let mut polled = this.call.poll(cx).map_err(|error| this.classify.inner(error));
        if polled.is_pending() {
            let after = this.permit.waits();
            let Some(timer) = this.probe else { return polled };
            ready!(timer.as_mut().poll(cx));
            polled = Poll::Ready(Err(this.classify.rejected(CallError::AttemptTimedOut { after })));
        }
        // Read the result in place: taking it out and putting it back would move it twice.
        if let Poll::Ready(result) = &polled {
            this.permit.count(this.classify.outcome(result));
        }
        polled
    }
}
