//! Reads the body and then makes the inner call, as a named state machine.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::Service;

use super::body::{Ended, ReceivedBody};
use super::permits::{NoReadPermit, ReadPermit};
use super::{BodyLimits, announced};
use crate::context::RequestSummary;
use crate::problem::{Effect, Problem};
use crate::server::decide;

/// Factor of the limit up to which a body that is too large is read and discarded. If the server closed the
/// connection while the client still sends, a reset would destroy the reply.
const THROWN_AWAY: usize = 4;

pin_project! {
    /// The future of [`ReadBody`](super::ReadBody). Dropping it while it reads returns its permit to read.
    pub struct ReadBodyFuture<S, B>
    where
        S: Service<Request<ReceivedBody<B>>>,
        B: Body,
    {
        #[pin]
        stage: Stage<S::Future, Reading<S, B>>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<F, R> {
        // Boxed, because it holds the request. Requests without a body would otherwise carry space for it.
        Reading { reading: Pin<Box<R>> },
        Running { #[pin] inner: F, unread: Option<Ended> },
    }
}

impl<S, B> ReadBodyFuture<S, B>
where
    S: Service<Request<ReceivedBody<B>>>,
    B: Body,
{
    pub(super) fn pass(inner: S::Future, unread: Option<Ended>) -> Self {
        Self { stage: Stage::Running { inner, unread } }
    }

    pub(super) fn read(
        shared: Arc<BodyLimits>,
        key: Arc<str>,
        summary: RequestSummary,
        service: S,
        request: Request<B>,
    ) -> Self {
        let (parts, body) = request.into_parts();
        let announced = announced(&parts.headers).and_then(|bytes| usize::try_from(bytes).ok());
        let reading = Reading {
            too_large: announced.is_some_and(|bytes| bytes > shared.config.max),
            waits_to_send: parts.headers.contains_key(header::EXPECT),
            shared,
            key,
            summary,
            next: Some((service, parts)),
            body,
            whole: Whole::default(),
            seen: 0,
            permit: None,
            timer: None,
        };
        Self { stage: Stage::Reading { reading: Box::pin(reading) } }
    }
}

impl<S, B> std::fmt::Debug for ReadBodyFuture<S, B>
where
    S: Service<Request<ReceivedBody<B>>>,
    B: Body,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadBodyFuture").finish_non_exhaustive()
    }
}

impl<S, B, ResBody> Future for ReadBodyFuture<S, B>
where
    S: Service<Request<ReceivedBody<B>>, Response = Response<ResBody>>,
    B: Body,
    ResBody: From<Bytes>,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            let next = match stage.as_mut().project() {
                StageProj::Reading { reading } => match ready!(reading.as_mut().poll_read(cx)) {
                    Ok((mut service, request)) => {
                        Stage::Running { inner: service.call(request), unread: None }
                    }
                    Err(refusal) => {
                        return Poll::Ready(Ok(reading.as_mut().refuse(refusal)));
                    }
                },
                StageProj::Running { inner, unread } => {
                    let mut reply = ready!(inner.poll(cx));
                    if let (Ok(response), Some(ended)) = (&mut reply, unread)
                        && !ended.has_come()
                    {
                        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                    }
                    return Poll::Ready(reply);
                }
            };
            stage.set(next);
        }
    }
}

pin_project! {
    struct Reading<S, B> {
        shared: Arc<BodyLimits>,
        key: Arc<str>,
        summary: RequestSummary,
        next: Option<(S, Parts)>,
        #[pin]
        body: B,
        whole: Whole,
        seen: usize,
        // The body is larger than allowed, and further bytes are discarded.
        too_large: bool,
        // The client waits for `100 Continue`, which the first poll of the body sends.
        waits_to_send: bool,
        permit: Option<ReadPermit>,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// The service and the request for it.
type Received<S, B> = (S, Request<ReceivedBody<B>>);

#[derive(Debug, Clone, Copy)]
enum Refusal {
    Slow,
    TooLarge { close: bool },
    NoReadPermit(NoReadPermit),
}

impl<S, B: Body> Reading<S, B> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Received<S, B>, Refusal>> {
        let mut this = self.project();
        let max = this.shared.config.max;
        let failure = loop {
            let unsent = *this.waits_to_send && *this.seen == 0;
            if *this.too_large && (unsent || *this.seen > max.saturating_mul(THROWN_AWAY)) {
                return Poll::Ready(Err(Refusal::TooLarge { close: true }));
            }
            match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    *this.seen += data.remaining();
                    *this.too_large |= *this.seen > max;
                    if !*this.too_large {
                        this.whole.push(data);
                    }
                }
                Poll::Ready(end) if *this.too_large => {
                    return Poll::Ready(Err(Refusal::TooLarge { close: end.is_some() }));
                }
                Poll::Ready(Some(Err(failure))) => break Some(failure),
                Poll::Ready(None) => break None,
                Poll::Pending => {
                    if this.timer.is_none() {
                        let permit = this.shared.permits.take(this.key).map_err(Refusal::NoReadPermit)?;
                        *this.permit = Some(permit);
                        let until = Instant::now() + this.shared.config.time;
                        this.timer.set(Some(sleep_until(until.min(this.summary.deadline.instant()))));
                    }
                    let timer = this.timer.as_mut().as_pin_mut().expect("set just above");
                    ready!(timer.poll(cx));
                    let too_large = Refusal::TooLarge { close: true };
                    return Poll::Ready(Err(if *this.too_large { too_large } else { Refusal::Slow }));
                }
            }
        };
        // Return the permit to read before the inner service asks for a permit to work.
        *this.permit = None;
        let (service, parts) = this.next.take().expect("a reading is not polled again after it has ended");
        let body = ReceivedBody::whole(std::mem::take(this.whole).finish(), failure);
        Poll::Ready(Ok((service, Request::from_parts(parts, body))))
    }

    #[cold]
    fn refuse<R: From<Bytes>>(self: Pin<&mut Self>, refusal: Refusal) -> Response<R> {
        let this = self.project();
        let (config, summary) = (&this.shared.config, &*this.summary);
        let (reason, why, close) = match refusal {
            Refusal::Slow => {
                let left = summary.deadline.remaining().as_millis();
                let why =
                    format!("{} bytes read in the time allowed; {left} ms left to the deadline", this.seen);
                ("body-timeout", why, true)
            }
            Refusal::TooLarge { close } => {
                ("body-limit", format!("body larger than the {} bytes allowed", config.max), close)
            }
            Refusal::NoReadPermit(NoReadPermit::ShareTaken) => {
                let why = format!(
                    "{} bodies of this principal are being read, which is its maximum",
                    config.at_once_each
                );
                ("body-share", why, true)
            }
            Refusal::NoReadPermit(NoReadPermit::Full) => (
                "bodies-full",
                format!("{} bodies are being read, which is the maximum", config.at_once),
                true,
            ),
        };
        decide::shed(summary, "read_body", reason, why.into());
        let problem = problem(refusal, config.max).outcome(Effect::NotExecuted);
        let mut response = problem.correlated(&summary.correlation_id).into_response();
        if close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn problem(refusal: Refusal, max: usize) -> Problem {
    match refusal {
        Refusal::Slow => {
            let mut problem =
                Problem::new(StatusCode::REQUEST_TIMEOUT, "request-timeout", "The body took too long")
                    .detail("the body stopped or arrived too slowly; the request was not executed");
            (problem.retryable, problem.same_key) = (true, true);
            problem
        }
        Refusal::TooLarge { .. } => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large", "The body is too large")
                .field("body", format!("must be at most {max} bytes"))
        }
        Refusal::NoReadPermit(NoReadPermit::ShareTaken) => {
            let title = "Too many bodies of this caller are being read";
            Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate-limited", title).retry_after(1)
        }
        Refusal::NoReadPermit(NoReadPermit::Full) => {
            let title = "There is no room for this request now";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", title).retry_after(1)
        }
    }
}

/// The bytes read so far. A body of one piece, the usual case, is not copied.
#[derive(Debug, Default)]
struct Whole {
    first: Bytes,
    all: BytesMut,
}

impl Whole {
    fn push(&mut self, mut data: impl Buf) {
        if self.all.is_empty() && self.first.is_empty() {
            self.first = data.copy_to_bytes(data.remaining());
        } else {
            let first = std::mem::take(&mut self.first);
            self.all.extend_from_slice(&first);
            self.all.put(data);
        }
    }

    fn finish(self) -> Bytes {
        if self.all.is_empty() { self.first } else { self.all.freeze() }
    }
}
