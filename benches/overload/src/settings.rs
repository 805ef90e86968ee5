//! The figures that clients and dependency share.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use mainstay::CallError;
use mainstay::client::ClientRequest;
use tower::util::BoxCloneSyncService;

/// Number of workers.
pub(crate) const WORKERS: usize = 8;
/// Time that a caller waits in all. A later answer is worthless.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Timeout of one attempt: ten times its usual time, and short enough for three attempts within the patience.
pub(crate) const ATTEMPT: Duration = Duration::from_millis(250);

/// A client of the dependency.
pub(crate) type Caller = BoxCloneSyncService<ClientRequest, Response<Bytes>, CallError>;
