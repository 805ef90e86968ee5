//! The body that the inner service gets: fully read, or unread.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// A request's body behind [`ReadBodyLayer`](super::ReadBodyLayer): fully read, with its trailers dropped, or
    /// unread.
    pub struct ReceivedBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        // The bytes, and the failure that ended the body early.
        Whole { bytes: Option<Bytes>, failure: Option<B::Error> },
        Unread { #[pin] body: B, ended: Option<Ended> },
    }
}

/// Whether an unread body has been read to its end.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<AtomicBool>);

impl Ended {
    pub(super) fn has_come(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<B: Body> fmt::Debug for ReceivedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let read = matches!(self.kind, Kind::Whole { .. });
        f.debug_struct("ReceivedBody").field("read", &read).finish_non_exhaustive()
    }
}

impl<B: Body> ReceivedBody<B> {
    pub(super) fn whole(bytes: Bytes, failure: Option<B::Error>) -> Self {
        Self { kind: Kind::Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), failure } }
    }

    /// An empty body, or a body that is passed on unread because there is no configuration.
    pub(super) fn empty(body: B) -> Self {
        Self { kind: Kind::Unread { body, ended: None } }
    }

    pub(super) fn unread(request: Request<B>) -> (Request<Self>, Ended) {
        let ended = Ended::default();
        let watched = ended.clone();
        (request.map(|body| Self { kind: Kind::Unread { body, ended: Some(watched) } }), ended)
    }
}

impl<B: Body> Body for ReceivedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Whole { bytes, failure } => {
                let data = bytes.take().map(|bytes| Ok(Frame::data(bytes)));
                Poll::Ready(data.or_else(|| failure.take().map(Err)))
            }
            KindProj::Unread { body, ended } => {
                let frame = ready!(body.poll_frame(cx));
                if let (None, Some(ended)) = (&frame, ended) {
                    ended.0.store(true, Ordering::Relaxed);
                }
                let owned = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(owned))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole { bytes, failure } => bytes.is_none() && failure.is_none(),
            Kind::Unread { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Unread { body, .. } => body.size_hint(),
        }
    }
}
