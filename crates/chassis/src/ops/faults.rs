//! `/admin/v1/faults`: faults that operators inject and clear.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use mainstay::fault::{FaultError, FaultSpec, FaultStatus, Faults};
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::admin::{Operator, Reason, error};
use super::changes::ChangeLog;
use crate::{ApiError, ValidJson, ValidPath, Validate};

#[derive(Debug, Clone)]
struct FaultRoutes {
    faults: Faults,
    log: ChangeLog,
}

/// `GET faults`, `GET|PUT|DELETE faults/{name}`. A PUT takes a [`FaultSpec`] with a `reason`, a DELETE a `reason`.
pub fn routes(faults: Faults, log: ChangeLog) -> Router {
    Router::new()
        .route("/faults", get(list))
        .route("/faults/{name}", get(one).put(set).delete(clear))
        .with_state(FaultRoutes { faults, log })
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
    /// True if the change is in the ledger.
    recorded: bool,
}

async fn list(State(held): State<FaultRoutes>) -> Json<Listed> {
    Json(Listed { items: held.faults.list(), next: None })
}

async fn one(
    State(held): State<FaultRoutes>,
    ValidPath(name): ValidPath<String>,
) -> Result<Json<FaultStatus>, ApiError> {
    held.find(&name).map(Json)
}

#[derive(Debug)]
struct Setting {
    spec: FaultSpec,
    reason: Reason,
}

/// Members of a fault's setting: those of [`FaultSpec`], which cannot refuse other members itself, and `reason`.
const MEMBERS: [&str; 12] = [
    "fault",
    "probability",
    "times",
    "for_ms",
    "method",
    "path_prefix",
    "ms",
    "jitter_ms",
    "status",
    "effect",
    "how",
    "reason",
];

impl Validate for Setting {
    type Wire = BTreeMap<String, Value>;

    fn validate(mut wire: BTreeMap<String, Value>) -> Result<Self, Vec<FieldError>> {
        let unknown = wire.keys().filter(|name| !MEMBERS.contains(&name.as_str()));
        let mut errors: Vec<_> = unknown
            .map(|name| error(name, format!("is unknown; there are: {}", MEMBERS.join(", "))))
            .collect();
        let reason = match wire.remove("reason") {
            Some(Value::String(reason)) => Reason::parse(&reason),
            _ => Err(error("reason", "must be a text")),
        };
        let spec = serde_json::from_value::<FaultSpec>(wire.into_iter().collect::<Value>());
        let spec = spec.map_err(|fault| error("body", fault.to_string()));
        if let Ok(spec) = &spec
            && let Err(FaultError::OutOfRange { field, range }) = spec.validate()
        {
            errors.push(error(field, format!("must be {range}")));
        }
        match (spec, reason) {
            (Ok(spec), Ok(reason)) if errors.is_empty() => Ok(Self { spec, reason }),
            (spec, reason) => {
                errors.extend(spec.err());
                errors.extend(reason.err());
                Err(errors)
            }
        }
    }
}

/// Body of a request that clears a fault.
#[derive(Debug)]
struct ClearBody(Reason);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearWire {
    reason: String,
}

impl Validate for ClearBody {
    type Wire = ClearWire;

    fn validate(wire: ClearWire) -> Result<Self, Vec<FieldError>> {
        Reason::parse(&wire.reason).map(Self).map_err(|error| vec![error])
    }
}

async fn set(
    State(held): State<FaultRoutes>,
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
    State(held): State<FaultRoutes>,
    ValidPath(name): ValidPath<String>,
    operator: Operator,
    ValidJson { value: ClearBody(reason), .. }: ValidJson<ClearBody>,
) -> Result<Json<Changed>, ApiError> {
    held.find(&name)?;
    held.faults.delete(&name);
    held.changed(operator, "fault.cleared", name, reason, json!({})).await
}

impl FaultRoutes {
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
