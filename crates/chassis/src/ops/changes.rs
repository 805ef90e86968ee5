//! Changes by operators, for the change ledger.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use mainstay::CorrelationId;
use serde_json::Value;

/// One change made through the operations listener.
#[derive(Debug, Clone)]
pub struct Change {
    /// Kind: `breaker.force_open`, `breaker.force_closed`, `breaker.reset`, `fault.set`, `fault.cleared`.
    pub kind: &'static str,
    /// Name of the changed breaker or fault point.
    pub subject: String,
    /// Principal of the operator's token.
    pub actor: Arc<str>,
    /// Reason, in the operator's words.
    pub reason: String,
    /// States before and after, or the setting.
    pub detail: Value,
    /// Correlation id of the operator's request.
    pub correlation_id: CorrelationId,
}

type Write = dyn Fn(Change) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync;

/// The change ledger. A service supplies it, because the ledger is in the service's database.
#[derive(Clone)]
pub struct ChangeLog(Option<Arc<Write>>);

impl fmt::Debug for ChangeLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChangeLog")
    }
}

impl ChangeLog {
    /// A ledger that records by `write`, which bounds its own waits.
    pub fn new<W, F>(write: W) -> Self
    where
        W: Fn(Change) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        Self(Some(Arc::new(move |change| Box::pin(write(change)))))
    }

    /// No ledger: a change is logged only.
    pub fn none() -> Self {
        Self(None)
    }

    /// Records a change that was made, and returns true if it is in the ledger. A failure does not undo the change: in an
    /// incident the database may be down, and a breaker must still open.
    pub(super) async fn record(&self, change: Change) -> bool {
        tracing::warn!(
            target: "chassis::change",
            kind = change.kind,
            subject = change.subject,
            actor = &*change.actor,
            reason = change.reason,
            detail = %change.detail,
            "change by an operator"
        );
        let Some(write) = &self.0 else { return false };
        let recorded = write(change).await;
        if let Err(error) = &recorded {
            tracing::error!(error, "change not recorded in the ledger");
        }
        recorded.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;

    /// Counter of the errors in the log.
    #[derive(Default)]
    struct Errors(Arc<AtomicUsize>);

    impl Subscriber for Errors {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            self.0.fetch_add(usize::from(*event.metadata().level() == Level::ERROR), Ordering::Relaxed);
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[tokio::test]
    async fn a_ledger_that_fails_is_an_error_and_one_that_does_not_exist_is_none() {
        let errors = Errors::default();
        let seen = errors.0.clone();
        let _logged = tracing::subscriber::set_default(errors);
        let change = Change {
            kind: "breaker.reset",
            subject: "inventory".to_owned(),
            actor: "ana".into(),
            reason: "drill over".to_owned(),
            detail: Value::Null,
            correlation_id: CorrelationId::mint(),
        };
        assert!(!ChangeLog::none().record(change.clone()).await);
        assert_eq!(seen.load(Ordering::Relaxed), 0);
        assert!(!ChangeLog::new(|_| async { Err("it is down".to_owned()) }).record(change).await);
        assert_eq!(seen.load(Ordering::Relaxed), 1);
    }
}
