//! A socket with time limits for the head of a request and for the reply.
//!
//! hyper's own header timer starts when a connection begins to wait for a request, so it cannot tell an idle
//! connection, which may stay open, from a head that arrives slowly. It is used for the idle time. The time of the head is
//! measured here, from its first byte.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Phase of a connection, shared by the socket and the service behind it.
#[derive(Debug, Clone)]
pub(super) struct Phase(Arc<AtomicU8>);

impl Phase {
    const IDLE: u8 = 0;
    const HEAD: u8 = 1;
    const REQUEST: u8 = 2;

    /// The phase of a new connection: it waits for a head.
    pub(super) fn opening() -> Self {
        Self(Arc::new(AtomicU8::new(Self::HEAD)))
    }

    /// The head was read.
    pub(super) fn request_began(&self) {
        self.0.store(Self::REQUEST, Ordering::Relaxed);
    }

    /// The reply was made. The next byte belongs to another request.
    pub(super) fn request_ended(&self) {
        self.0.store(Self::IDLE, Ordering::Relaxed);
    }

    fn is(&self, phase: u8) -> bool {
        self.0.load(Ordering::Relaxed) == phase
    }
}

#[derive(Debug)]
pub(super) struct TimedIo<I> {
    inner: I,
    phase: Phase,
    head: Stopwatch,
    write: Stopwatch,
}

impl<I> TimedIo<I> {
    pub(super) fn new(inner: I, phase: Phase, head: Duration, write: Duration) -> Self {
        Self { inner, phase, head: Stopwatch::new(head), write: Stopwatch::new(write) }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for TimedIo<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        if this.phase.is(Phase::REQUEST) {
            this.head.stop();
            return polled;
        }
        if polled.is_pending() {
            if this.phase.is(Phase::HEAD) {
                ready!(this.head.poll_over(cx));
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the head of the request took too long",
                )));
            }
            return Poll::Pending;
        }
        if this.phase.is(Phase::IDLE) && buf.filled().len() > before {
            this.phase.0.store(Phase::HEAD, Ordering::Relaxed);
            this.head.stop();
        }
        polled
    }
}

impl<I: AsyncWrite + Unpin> TimedIo<I> {
    fn timed<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write.stop();
            return polled;
        }
        ready!(self.write.poll_over(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take the reply")))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for TimedIo<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.timed(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.timed(cx, polled)
    }
}

/// Time limit that runs from the first wait until it is stopped. A connection allocates one timer at most.
#[derive(Debug)]
struct Stopwatch {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    running: bool,
}

impl Stopwatch {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None, running: false }
    }

    fn stop(&mut self) {
        self.running = false;
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.running {
            self.running = true;
            let until = Instant::now() + self.limit;
            match &mut self.timer {
                Some(timer) => timer.as_mut().reset(until),
                None => self.timer = Some(Box::pin(sleep_until(until))),
            }
        }
        match &mut self.timer {
            Some(timer) => timer.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}
