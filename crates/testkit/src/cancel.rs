//! Leaving in the middle: a future that is dropped at a chosen await.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Polls `future` at most `polls` times and then drops it; `None` when it had not finished by then.
///
/// To reach every await, whatever answers the future must not be able to answer within one poll: put a proxy that
/// runs in the same thread in between ([`crate::proxy::TcpProxy`] under `#[tokio::test]`), and it stands still while
/// the future is being polled.
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
            // The last poll has begun something; what is dropped is dropped in the middle of it.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
