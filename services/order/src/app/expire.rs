//! Expiry of orders: when a hold should have ended, inventory is asked, and its answer decides.

use std::sync::Arc;

use inventory_api::{Answer, Blame, CallContext, Refusal, ReservationStatus};
use journal::{DatabaseError, Decided, Draft};
use time::format_description::well_known::Rfc3339;

use super::App;
use super::drive::{Driven, Driver, Retry, derived, subject, undecided};
use crate::domain::Status;
use crate::domain::rules::Lapse;
use crate::store::orders::NextAttempt;
use crate::store::{Order, orders};

impl App {
    /// Asks inventory for the reservation of a reserved order, and expires the order if inventory says that the reservation
    /// has expired.
    pub async fn expire(&self, driver: &Driver, order: Arc<Order>) -> Result<Driven, DatabaseError> {
        self.clocks.adopt_head(order.head_clock);
        let context = CallContext {
            request: driver.context.clone(),
            key: derived(order.id, "look"),
            causation_id: Some(order.head_entry),
            clock: self.journal.clock().tick().to_string(),
            is_repeat: order.tries > 0,
        };
        let call = self.inventory.reservation(context, subject(&order)).await;
        if let Some(time) = call.clock.as_deref().and_then(|t| t.parse().ok()) {
            self.clocks.adopt_peer(time);
        }
        let looked = match call.answer {
            Answer::Applied(reservation) => Ok(reservation),
            Answer::NotExecuted(why) | Answer::Unknown(why) => Err(why),
            Answer::Refused(Refusal::NotFound) => {
                self.served.answered();
                return self.mismatch(driver, order, "absent").await;
            }
            Answer::Refused(refusal) => Err(format!("{refusal:?}")),
        };
        let reservation = match looked {
            Ok(reservation) => reservation,
            Err(why) => {
                undecided(driver, &order, "look", &why);
                let retry = self.retry(&order, call.blame);
                return self.put_back(driver, order, retry, &why).await;
            }
        };
        self.served.answered();
        let rule = Lapse {
            state: order.status,
            reservation: reservation.status,
            expires_at: order.expires_at.and_then(|t| t.format(&Rfc3339).ok()),
        };
        let (status, decided) = Decided::by(&rule);
        if status != Status::Expired {
            let state = match reservation.status {
                // Inventory has not come to it yet.
                ReservationStatus::Held | ReservationStatus::Expired => {
                    let why = format!("inventory says that the reservation is {:?}", reservation.status);
                    let retry = self.retry(&order, Blame::Peer);
                    return self.put_back(driver, order, retry, &why).await;
                }
                ReservationStatus::Confirmed => "confirmed",
                ReservationStatus::Released => "released",
                ReservationStatus::Refused => "refused",
                ReservationStatus::Voided => "voided",
            };
            return self.mismatch(driver, order, state).await;
        }
        let sealed = self.journal.seal(Draft {
            aggregate_id: order.id,
            head: Some(order.head()),
            command: "expire",
            cause: &driver.cause,
            causation_id: call.entry_id.or(Some(order.head_entry)),
            decided,
            attempt: 1,
            evidence: chassis::evidence(&driver.context.trail, None),
            payload_hash: None,
        });
        let moved = Arc::new(order.after(status, &sealed));
        let replies = Vec::new();
        let advance =
            orders::Advance { from: order, moved: moved.clone(), due: NextAttempt::AtRest, sealed, replies };
        let ours = self.advancing.write(None, Arc::new(advance)).await?;
        Ok(if ours { Driven::Moved(moved) } else { Driven::Overtaken })
    }

    /// Puts back a reserved order whose reservation ended without it: released or confirmed by another holder of a token, or
    /// lost with a restore of inventory. No entry says why, so no rule decides about it: the order stays reserved, its client
    /// may cancel it, and the log and a counter report it to the operator.
    async fn mismatch(
        &self,
        driver: &Driver,
        order: Arc<Order>,
        reservation: &'static str,
    ) -> Result<Driven, DatabaseError> {
        metrics::counter!("mainstay_reservation_mismatches_total", "reservation" => reservation).increment(1);
        let tries = order.tries.unsigned_abs() + 1;
        if tries.is_power_of_two() {
            let correlation_id = &*driver.cause.correlation_id;
            tracing::error!(
                order_id = %order.id, correlation_id, reservation, tries,
                "sweep: reservation of a reserved order ended without the order; order stays reserved"
            );
        }
        let why = format!("the reservation is {reservation} at inventory, and the order is reserved");
        let retry = Retry::of_mismatch(&order);
        self.put_back(driver, order, retry, &why).await
    }
}
