//! Cancellation of a future at a chosen await.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Polls `future` at most `polls` times and then drops it. Returns `None` if it had not finished by then.
///
/// To reach every await, the peer of the future must not be able to answer during a poll. Put a proxy that runs in the
/// same thread between them ([`crate::proxy::TcpProxy`] under `#[tokio::test]`): the proxy cannot run while the future
/// is polled.
pub async fn cut_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The future is pending in the middle of an operation. Returning now drops it there.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
