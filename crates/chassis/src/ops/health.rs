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

/// One condition of readiness.
#[derive(Debug, Clone, Serialize)]
pub struct Condition {
    /// Name: `database`, `schema`, `inventory`, …
    pub name: Cow<'static, str>,
    /// True if the condition holds.
    pub ok: bool,
    /// True if the service is not ready without it. A peer never decides: otherwise a failure of one service would take all
    /// others out of rotation.
    pub decides: bool,
    /// Observation, without secrets: the port needs no token for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Condition {
    /// A condition without which the service is not ready.
    pub fn deciding(name: impl Into<Cow<'static, str>>, ok: bool) -> Self {
        Self { name: name.into(), ok, decides: true, detail: None }
    }

    /// A condition that is reported and decides nothing.
    pub fn reported(name: impl Into<Cow<'static, str>>, ok: bool) -> Self {
        Self { decides: false, ..Self::deciding(name, ok) }
    }

    /// Adds the observation.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

type Readiness = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Vec<Condition>> + Send>> + Send + Sync>;

/// State of the health routes.
#[derive(Clone)]
pub struct Health {
    lifecycle: Lifecycle,
    readiness: Readiness,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health").field("lifecycle", &self.lifecycle).finish_non_exhaustive()
    }
}

/// Longest time for one reading. It is shorter than the usual timeout of a probe, so that the probe gets the reason.
const LONGEST_READING: Duration = Duration::from_millis(900);

impl Health {
    pub(super) fn new<R, F>(lifecycle: Lifecycle, readiness: R) -> Self
    where
        R: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Vec<Condition>> + Send + 'static,
    {
        Self { lifecycle, readiness: Arc::new(move || Box::pin(readiness())) }
    }
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    conditions: Vec<Condition>,
}

/// Liveness: the process answers. It depends on nothing else, because a restart does not repair a database.
pub(super) async fn livez() -> impl IntoResponse {
    Json(Report { status: "alive", conditions: Vec::new() })
}

pub(super) async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let (status, report) = if health.lifecycle.is_stopping() {
        (StatusCode::SERVICE_UNAVAILABLE, Report { status: "shutting-down", conditions: Vec::new() })
    } else {
        let read = tokio::time::timeout(LONGEST_READING, (health.readiness)()).await;
        let mut conditions = read.unwrap_or_else(|_| {
            vec![
                Condition::deciding("readiness", false)
                    .detail("the conditions could not be read within 900 ms"),
            ]
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

/// Condition of a background loop. It does not decide: the loop would not run better in a replica that takes no requests.
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
