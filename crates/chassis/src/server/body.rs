//! Request bodies with a time limit.
//!
//! tower-http's `TimeoutBody` limits the time between two frames only: a client that sends one byte before each limit is
//! served without end. Here the whole body has a limit too; the test below shows both.

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

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use tower_http::timeout::TimeoutBody;

    use super::*;

    const JUST_BELOW: Duration = Duration::from_millis(9_999);
    const PROGRESS: Duration = Duration::from_secs(10);

    /// 20 bytes, each one just before the limit on the time between two frames.
    fn slow() -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(Box::pin(stream::unfold(0, async |sent| {
            tokio::time::sleep(JUST_BELOW).await;
            (sent < 20).then(|| (Ok(Frame::data(Bytes::from_static(b"x"))), sent + 1))
        })))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_one_byte_in_each_limit_ends_at_the_total_and_tower_https_does_not() {
        let theirs = TimeoutBody::new(PROGRESS, slow());
        assert_eq!(theirs.collect().await.unwrap().to_bytes().len(), 20);
        let began = Instant::now();
        let total = Duration::from_secs(30);
        let error = TimedBody::new(slow(), PROGRESS, total).collect().await.unwrap_err();
        let ended = began.elapsed();
        assert!(error.is::<BodyTimeout>() && (total..total + PROGRESS).contains(&ended), "{error} {ended:?}");
    }
}
