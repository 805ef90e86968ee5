//! Request bodies and their validation.

use chassis::Validate;
use inventory_api::{Line, RequestLine, validate};
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::place::NewOrder;

/// An order to place: inventory holds all of its lines or none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceOrder {
    /// Id of the customer: 1 to 64 printable ASCII characters.
    #[schema(example = "17850", min_length = 1, max_length = 64)]
    pub customer_id: String,
    /// Order lines: 1 to 1,000, with distinct SKUs.
    #[serde(deserialize_with = "RequestLine::all")]
    #[schema(value_type = Vec<RequestLine>, min_items = 1, max_items = 1000)]
    pub lines: Vec<Line>,
}

impl Validate for NewOrder {
    type Wire = PlaceOrder;

    fn validate(wire: PlaceOrder) -> Result<Self, Vec<FieldError>> {
        let mut errors = validate::lines(&wire.lines);
        if !validate::is_identifier(&wire.customer_id) {
            let detail = validate::IDENTIFIER_RULE.to_owned();
            errors.insert(0, FieldError { field: "customer_id".to_owned(), detail });
        }
        if errors.is_empty() {
            Ok(Self { customer_id: wire.customer_id.into(), lines: wire.lines.into() })
        } else {
            Err(errors)
        }
    }
}
