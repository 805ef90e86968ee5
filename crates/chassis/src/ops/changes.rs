//! What an operator changed, on its way to the change ledger.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mainstay::CorrelationId;
use serde_json::Value;

/// One change made through the operations listener.
#[derive(Debug, Clone)]
pub struct Change {
    /// What kind: `breaker.force_open`, `breaker.force_closed`, `breaker.reset`, `fault.set`, `fault.cleared`.
    pub kind: &'static str,
    /// What was changed.
    pub subject: String,
    /// Whose token it was.
    pub actor: Arc<str>,
    /// Why, in the operator's words.
    pub reason: String,
    /// What it was changed to.
    pub detail: Value,
    /// The request that did it.
    pub correlation_id: CorrelationId,
}

type Write = dyn Fn(Change) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// Where changes are recorded. The service supplies it, since the ledger is in its database.
#[derive(Clone)]
pub struct ChangeLog(Arc<Write>);

impl fmt::Debug for ChangeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeLog")
    }
}

impl ChangeLog {
    /// Records through `write`, which bounds its own waits.
    pub fn new<W, F>(write: W) -> Self
    where
        W: Fn(Change) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Arc::new(move |change| Box::pin(write(change))))
    }

    /// Only the log line: for a process without a ledger.
    pub fn none() -> Self {
        Self::new(|_| async { Err("there is no ledger".to_owned()) })
    }

    /// Records a change that has been made; whether that worked. It comes after the change, and its failure does not
    /// take the change back: in an incident the database may be what is broken, and a breaker must still open.
    pub(super) async fn record(&self, change: Change) -> bool {
        tracing::warn!(
            target: "chassis::change",
            kind = change.kind,
            subject = change.subject,
            actor = &*change.actor,
            reason = change.reason,
            detail = %change.detail,
            "an operator changed something"
        );
        let recorded = (self.0)(change).await;
        if let Err(error) = &recorded {
            tracing::error!(error, "the change could not be recorded in the ledger");
        }
        recorded.is_ok()
    }
}
