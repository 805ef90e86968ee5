//! A typed client's reading of a reply, made where the stack classifies the attempt.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::CallError;
use crate::classify::HasOutcome;

/// Longest reason that is kept, in bytes: a parser's message can quote the reply.
const MAX_REASON: usize = 256;

/// A request extension: the function with which a typed client reads the reply.
///
/// Status and headers cannot show that a body is garbage. A typed client that discovers it after the call has its own
/// verdict, while the breaker, the retry and the metrics have recorded a success. So the client gives its reading to
/// the stack, and [`Attempt`](super::Attempt) runs it on each reply, before any outer layer judges it. A reply that
/// cannot be read becomes [`CallError::UnreadableReply`], with the outcome unknown. The breaker then counts a
/// failure, the retry repeats the call where that is safe, metrics and logs say unknown, and the caller gets an error
/// instead of the reply.
///
/// The reading may keep the parsed value in the reply's extensions, so that the body is parsed once:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use mainstay::client::{self, ClientConfig, ClientRequest, ReplyReader};
/// use mainstay::{CallError, Outcome};
/// use tower::{ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let stock = ReplyReader::new(|reply: &mut Response<Bytes>| {
///     let stock: u64 = serde_json::from_slice(reply.body()).map_err(|error| error.to_string())?;
///     reply.extensions_mut().insert(stock);
///     Ok(())
/// });
/// let peer = |body| {
///     let transport = service_fn(move |_: ClientRequest| async move {
///         Ok::<_, CallError>(Response::new(Bytes::from_static(body)))
///     });
///     client::stack(ClientConfig::new("inventory"), transport)
/// };
/// let request = || {
///     Request::post("http://127.0.0.1:8081/v1/items").extension(stock.clone()).body(Full::default())
/// };
/// let reply = peer(b"7")?.oneshot(request()?).await?;
/// assert_eq!(reply.extensions().get(), Some(&7_u64));
///
/// let error = peer(b"<html>")?.oneshot(request()?).await.unwrap_err();
/// assert!(matches!(error, CallError::UnreadableReply { .. }));
/// assert_eq!(error.outcome(), Outcome::Unknown);
/// # Ok(())
/// # }
/// ```
pub struct ReplyReader<R = Response<Bytes>>(Arc<Reading<R>>);

type Reading<R> = dyn Fn(&mut R) -> Result<(), String> + Send + Sync;

impl<R> ReplyReader<R> {
    /// A reader that uses `reading`, which returns an error with the reason when a reply cannot be read. The reason
    /// is written to logs and the decision trail, so it must hold no secrets; 256 bytes of it are kept.
    ///
    /// The type of the reply is that of the transport: a reader of another type is not found, and reads nothing.
    pub fn new(reading: impl Fn(&mut R) -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(reading))
    }
}

impl<R: HasOutcome> ReplyReader<R> {
    pub(super) fn read(&self, mut reply: R) -> Result<R, CallError> {
        match (self.0)(&mut reply) {
            Ok(()) => Ok(reply),
            Err(mut reason) => {
                reason.truncate(reason.floor_char_boundary(MAX_REASON));
                let retry_after = reply.retry_after();
                Err(CallError::UnreadableReply { reply: reply.summary(), reason, retry_after })
            }
        }
    }
}

impl<R> Clone for ReplyReader<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<R> fmt::Debug for ReplyReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyReader").finish_non_exhaustive()
    }
}
