//! `/admin/v1/faults`: inject faults, look at them, take them back. Mounted only when faults are enabled.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mainstay::fault::{FaultError, FaultSpec, FaultStatus, Faults};
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::admin::{Because, Operator, Reason, error};
use super::changes::ChangeLog;
use crate::{ApiError, ValidJson, ValidPath, Validate};

#[derive(Debug, Clone)]
struct Held {
    faults: Faults,
    log: ChangeLog,
}

/// `GET faults`, `GET|PUT|DELETE faults/{name}`. A PUT takes a [`FaultSpec`] with a `reason`, a DELETE a `reason`.
pub fn routes(faults: Faults, log: ChangeLog) -> Router {
    Router::new()
        .route("/faults", get(list))
        .route("/faults/{name}", get(one).put(set).delete(clear))
        .with_state(Held { faults, log })
}

#[derive(Debug, Serialize)]
struct Listed {
    items: Vec<FaultStatus>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Changed {
    #[serde(flatten)]
    fault: FaultStatus,
    /// Whether the change ledger has it.
    recorded: bool,
}

async fn list(State(held): State<Held>) -> Json<Listed> {
    Json(Listed { items: held.faults.list(), next: None })
}

async fn one(
    State(held): State<Held>,
    ValidPath(name): ValidPath<String>,
) -> Result<Json<FaultStatus>, ApiError> {
    held.find(&name).map(Json)
}

#[derive(Debug)]
struct Setting {
    spec: FaultSpec,
    reason: Reason,
}

#[derive(Debug, Deserialize)]
struct SettingWire {
    #[serde(flatten)]
    spec: FaultSpec,
    reason: String,
}

impl Validate for Setting {
    type Wire = SettingWire;

    fn validate(wire: SettingWire) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        if let Err(FaultError::OutOfRange { field, range }) = wire.spec.validate() {
            errors.push(error(field, format!("must be {range}")));
        }
        match Reason::parse(&wire.reason) {
            Ok(reason) if errors.is_empty() => Ok(Self { spec: wire.spec, reason }),
            Ok(_) => Err(errors),
            Err(wrong) => {
                errors.push(wrong);
                Err(errors)
            }
        }
    }
}

async fn set(
    State(held): State<Held>,
    ValidPath(name): ValidPath<String>,
    operator: Operator,
    ValidJson { value: Setting { spec, reason }, .. }: ValidJson<Setting>,
) -> Result<Json<Changed>, ApiError> {
    let detail = serde_json::to_value(&spec).map_err(ApiError::internal)?;
    held.faults.put(&name, spec).map_err(|error| match error {
        FaultError::UnknownPoint { .. } => ApiError::not_found(error.to_string()),
        FaultError::OutOfRange { .. } => ApiError::internal(error),
    })?;
    held.changed(operator, "fault.set", name, reason, detail).await
}

async fn clear(
    State(held): State<Held>,
    ValidPath(name): ValidPath<String>,
    operator: Operator,
    ValidJson { value: Because(reason), .. }: ValidJson<Because>,
) -> Result<Json<Changed>, ApiError> {
    held.find(&name)?;
    held.faults.delete(&name);
    held.changed(operator, "fault.cleared", name, reason, json!({})).await
}

impl Held {
    fn find(&self, name: &str) -> Result<FaultStatus, ApiError> {
        self.faults.get(name).ok_or_else(|| {
            let known: Vec<_> = self.faults.list().into_iter().map(|point| point.name).collect();
            ApiError::not_found(format!("no fault point is called {name:?}; there are: {}", known.join(", ")))
        })
    }

    async fn changed(
        &self,
        operator: Operator,
        kind: &'static str,
        name: String,
        reason: Reason,
        detail: Value,
    ) -> Result<Json<Changed>, ApiError> {
        let recorded = operator.changed(&self.log, kind, name.clone(), reason, detail).await;
        Ok(Json(Changed { fault: self.find(&name)?, recorded }))
    }
}
