//! `/admin/v1/breakers`: the circuit breakers, and their control by operators.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mainstay::Registry;
use mainstay::breaker::{BreakerHandle, BreakerSnapshot, Breakers};
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Condition;
use super::admin::{Operator, Reason};
use super::changes::ChangeLog;
use crate::{ApiError, ValidJson, ValidPath, Validate};

#[derive(Debug, Clone)]
struct BreakerRoutes {
    registry: Registry,
    log: ChangeLog,
}

/// `GET breakers`, `GET|PUT breakers/{name}` with `{"action": "force_open", "reason": "…"}`.
pub fn routes(registry: Registry, log: ChangeLog) -> Router {
    Router::new()
        .route("/breakers", get(list))
        .route("/breakers/{name}", get(one).put(control))
        .with_state(BreakerRoutes { registry, log })
}

/// Readiness conditions of the breakers of `peer`'s endpoints. They are reported and decide nothing.
pub fn breaker_conditions(
    peer: &'static str,
    breakers: &Breakers,
) -> impl Iterator<Item = Condition> + use<> {
    breakers.list().into_iter().map(move |breaker| {
        let state = breaker.state.as_str();
        let ok = state != "open" && state != "forced-open";
        Condition::reported(peer, ok).detail(format!("breaker of {} is {state}", breaker.name))
    })
}

#[derive(Debug, Serialize)]
struct Listed {
    items: Vec<BreakerSnapshot>,
    next: Option<String>,
}

async fn list(State(held): State<BreakerRoutes>) -> Json<Listed> {
    Json(Listed { items: held.registry.snapshot().breakers, next: None })
}

async fn one(
    State(held): State<BreakerRoutes>,
    ValidPath(name): ValidPath<String>,
) -> Result<Json<BreakerSnapshot>, ApiError> {
    held.find(&name).map(|breaker| Json(breaker.snapshot()))
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    ForceOpen,
    ForceClosed,
    Reset,
}

#[derive(Debug)]
struct Control {
    action: Action,
    reason: Reason,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ControlWire {
    action: Action,
    reason: String,
}

impl Validate for Control {
    type Wire = ControlWire;

    fn validate(wire: ControlWire) -> Result<Self, Vec<FieldError>> {
        let reason = Reason::parse(&wire.reason).map_err(|error| vec![error])?;
        Ok(Self { action: wire.action, reason })
    }
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    breaker: BreakerSnapshot,
    /// True if the change is in the ledger.
    recorded: bool,
}

async fn control(
    State(held): State<BreakerRoutes>,
    ValidPath(name): ValidPath<String>,
    operator: Operator,
    ValidJson { value: Control { action, reason }, .. }: ValidJson<Control>,
) -> Result<Json<Changed>, ApiError> {
    let breaker = held.find(&name)?;
    let before = breaker.state();
    let kind = match action {
        Action::ForceOpen => {
            breaker.force_open();
            "breaker.force_open"
        }
        Action::ForceClosed => {
            breaker.force_closed();
            "breaker.force_closed"
        }
        Action::Reset => {
            breaker.reset();
            "breaker.reset"
        }
    };
    let detail = json!({ "from": before.as_str(), "to": breaker.state().as_str() });
    let recorded = operator.changed(&held.log, kind, name, reason, detail).await;
    Ok(Json(Changed { breaker: breaker.snapshot(), recorded }))
}

impl BreakerRoutes {
    fn find(&self, name: &str) -> Result<BreakerHandle, ApiError> {
        self.registry.breaker(name).ok_or_else(|| {
            let known: Vec<_> =
                self.registry.snapshot().breakers.into_iter().map(|breaker| breaker.name).collect();
            ApiError::not_found(format!("no breaker is called {name:?}; there are: {}", known.join(", ")))
        })
    }
}
