//! The reservations of an item, which show where its stock went.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::words::{date, plain};
use crate::screen::grouped;

/// The reply to `GET /admin/v1/items/{sku}/reservations`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stock {
    pub(crate) sku: String,
    pub(crate) shares: Vec<Share>,
    pub(crate) newest: Vec<Holder>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) status: String,
    pub(crate) reservations: u64,
    pub(crate) pieces: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) id: Uuid,
    pub(crate) order_id: Option<Uuid>,
    pub(crate) status: String,
    pub(crate) quantity: Option<i64>,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) updated_at: OffsetDateTime,
}

impl Stock {
    /// Lines of text: the sums by status, and the reservations that hold or took the most recent pieces.
    pub(crate) fn lines(&self) -> Vec<String> {
        let sku = plain(&self.sku);
        if self.shares.is_empty() {
            return vec![format!("No reservation names {sku}.")];
        }
        let mut lines = vec![format!("Reservations that name {sku}:")];
        for Share { status, reservations, pieces } in &self.shares {
            let meaning = match &**status {
                "held" => "held for orders that are not confirmed",
                "confirmed" => "shipped",
                "released" => "given back",
                "expired" => "given back when the hold expired",
                "refused" => "asked for and refused",
                "voided" => "never held",
                _ => "a status that this release does not know",
            };
            let (status, pieces) = (plain(status), grouped(*pieces));
            lines.push(format!("  {:>6} {status:<9}  {pieces:>9} pieces, {meaning}", grouped(*reservations)));
        }
        let all: u64 = self.shares.iter().map(|share| share.reservations).sum();
        let shown = self.newest.len() as u64;
        lines.push(if shown < all {
            format!("The held and the newest {shown} of them:")
        } else {
            "Each of them:".to_owned()
        });
        for holder in &self.newest {
            let order =
                holder.order_id.map_or_else(|| "no order".to_owned(), |order| format!("order {order}"));
            let quantity = holder.quantity.map_or_else(|| "?".to_owned(), |quantity| quantity.to_string());
            lines.push(format!(
                "  {}  {:<9}  {quantity:>6} x  {order}",
                date(holder.updated_at),
                plain(&holder.status)
            ));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_reservations_of_an_item_are_summed_and_listed_with_their_orders() {
        let stock: Stock = serde_json::from_value(json!({
            "sku": "A\u{1b}[31m1",
            "shares": [{"status": "confirmed", "reservations": 30, "pieces": 1_200},
                       {"status": "melted", "reservations": 1, "pieces": 3}],
            "newest": [{"id": Uuid::nil(), "order_id": Uuid::nil(), "status": "confirmed", "quantity": 6,
                        "updated_at": "2026-11-28T13:00:00Z"}]
        }))
        .unwrap();
        let text = stock.lines().join("\n");
        assert!(text.contains("30 confirmed      1,200 pieces, shipped"), "{text}");
        assert!(
            text.contains("melted") && text.contains("a status that this release does not know"),
            "{text}"
        );
        assert!(text.contains("6 x  order 00000000-0000") && text.contains("newest 1 of them"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
