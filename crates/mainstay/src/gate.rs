//! The future of a layer that lets a call through or refuses it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

pin_project! {
    /// A call that a layer has let through, or the error of its refusal.
    #[derive(Debug)]
    pub struct Gate<F, E> {
        #[pin]
        state: State<F, E>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<F, E> {
        Open {
            #[pin]
            call: F,
        },
        Refused { error: Option<E> },
    }
}

impl<F, E> Gate<F, E> {
    #[inline]
    pub(crate) fn open(call: F) -> Self {
        Self { state: State::Open { call } }
    }

    pub(crate) fn refused(error: E) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl<F, R, E> Future for Gate<F, E>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = Result<R, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Open { call } => call.poll(cx),
            StateProj::Refused { error } => {
                Poll::Ready(Err(error.take().expect("a future is not polled after it is ready")))
            }
        }
    }
}
