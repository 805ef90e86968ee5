//! Request bodies with a time limit.
//!
//! tower-http's `TimeoutBody` limits the time between two frames only: a client that sends one byte before each limit is
//! served without end. Here the whole body has a limit too; the tests in `tests/slow_bodies.rs` show both.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

/// Error of a body whose next frame, or whose end, came too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body did not arrive in time")]
pub struct BodyTimeout;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pin_project! {
    /// Body that fails with [`BodyTimeout`] when the next frame takes longer than `progress`, or all of it longer than
    /// `total`. The timer is made at the first wait, so a body that came with its head needs none.
    pub(super) struct TimedBody<B> {
        #[pin]
        inner: B,
        progress: Duration,
        total: Duration,
        ends: Option<Instant>,
        timer: Option<Pin<Box<Sleep>>>,
        waiting: bool,
    }
}

impl<B> TimedBody<B> {
    pub(super) fn new(inner: B, progress: Duration, total: Duration) -> Self {
        Self { inner, progress, total, ends: None, timer: None, waiting: false }
    }
}

impl<B> Body for TimedBody<B>
where
    B: Body<Error: Into<BoxError>>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            *this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let now = Instant::now();
        let ends = *this.ends.get_or_insert(now + *this.total);
        let until = ends.min(now + *this.progress);
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !*this.waiting {
            *this.waiting = true;
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(Box::new(BodyTimeout))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
