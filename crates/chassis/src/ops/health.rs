//! Liveness, readiness, metrics.

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;

use crate::server::Lifecycle;
use crate::tasks::LoopState;

/// One thing that the service looked at to say whether it is ready.
#[derive(Debug, Clone, Serialize)]
pub struct Condition {
    /// What was looked at: `database`, `schema`, `inventory`, …
    pub name: Cow<'static, str>,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the service is not ready without it. A peer never decides: if it did, one service's trouble would
    /// take every other out of rotation.
    pub decides: bool,
    /// What was seen, without secrets: anyone who reaches the port can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Condition {
    /// Without this the service is not ready.
    pub fn deciding(name: impl Into<Cow<'static, str>>, ok: bool) -> Self {
        Self { name: name.into(), ok, decides: true, detail: None }
    }

    /// Reported only.
    pub fn reported(name: impl Into<Cow<'static, str>>, ok: bool) -> Self {
        Self { decides: false, ..Self::deciding(name, ok) }
    }

    /// Says what was seen.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

type Look = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Condition>> + Send>> + Send + Sync>;

/// Knows how to find out whether the service is ready.
#[derive(Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    look: Look,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("lifecycle", &self.lifecycle).finish_non_exhaustive()
    }
}

/// Shorter than the usual probe's timeout, so that the probe gets the reason and not a silence.
const LONGEST_LOOK: Duration = Duration::from_millis(900);

impl Health {
    pub(super) fn new<R, F>(lifecycle: Lifecycle, readiness: R) -> Self
    where
        R: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Vec<Condition>> + Send + 'static,
    {
        Self { lifecycle, look: Arc::new(move || Box::pin(readiness())) }
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
}

/// The process runs and answers. Nothing else: a restart mends no database.
pub(super) async fn livez() -> impl IntoResponse {
    Json(Report { status: "alive", conditions: Vec::new() })
}

pub(super) async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let (status, report) = if health.lifecycle.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, Report { status: "shutting-down", conditions: Vec::new() })
    } else {
        let looked = tokio::time::timeout(LONGEST_LOOK, (health.look)()).await;
        let mut conditions = looked.unwrap_or_else(|_| {
            vec![Condition::deciding("readiness", false).detail("looking took longer than 900 ms")]
        });
        conditions.extend(health.lifecycle.tasks().loops().into_iter().map(of_loop));
        if conditions.iter().all(|condition| condition.ok || !condition.decides) {
            (StatusCode::OK, Report { status: "ready", conditions })
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, Report { status: "not-ready", conditions })
        }
    };
    (status, Json(report))
}

/// A loop that fails does not decide: a replica that takes no requests would not run it any better.
fn of_loop(LoopState { task, restarts, is_steady }: LoopState) -> Condition {
    let condition = Condition::reported(task, is_steady);
    if is_steady {
        return condition;
    }
    condition.detail(format!(
        "background loop ended and was started again, {restarts} times so far; the log says why"
    ))
}

pub(super) async fn metrics() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], telemetry::render_metrics())
}
