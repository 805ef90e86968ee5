//! Confirming a reservation: its held stock is shipped.

use journal::{Decided, Keys};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, Ending, Moved, Scene, Written};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::rules;
use crate::store::reservations::{self, Move, Reservation};

/// The command to ship the held lines of a reservation.
#[derive(Debug, Clone, Copy)]
pub struct Confirm {
    /// Id of the reservation.
    pub reservation_id: Uuid,
}

impl Inventory {
    /// Confirms a hold that has not ended. A hold that has ended is expired in the same transaction, if the sweep has not
    /// done so yet.
    pub async fn confirm(&self, ask: Ask, command: Confirm) -> Result<Reply, Failure> {
        self.execute(ask, command).await
    }
}

impl Command for Confirm {
    const NAME: &'static str = "confirm";

    fn aggregate_id(&self) -> Uuid {
        self.reservation_id
    }

    async fn carry_out(&self, scene: &Scene, connection: &mut PgConnection) -> Result<Ending, sqlx::Error> {
        let Some((now, known)) = reservations::lock(connection, self.reservation_id).await? else {
            return Ok(Ending::Passing(Refusal::NoReservation(self.reservation_id)));
        };
        if scene.is_late() {
            return Ok(Ending::TooLate);
        }
        let rule = rules::Confirm {
            order_id: known.order_id,
            lines: known.lines.clone(),
            state: known.state,
            version: known.newest.version,
            now,
            expires_at: known.expires_at,
        };
        let (to, decided) = Decided::by(&rule);
        if to == known.state {
            let by = known.newest.clone();
            return Ok(Ending::Settled {
                answer: standing(known),
                entry_id: by.entry_id,
                decided_at: Some(by.hlc),
            });
        }
        let sealed = scene.seal(decided, Some((known.state, &known.newest)));
        let reply = scene.render(&standing(Reservation { state: to, ..known.clone() }));
        let moves = [Move { from: &known, to, sealed: &sealed }];
        reservations::leave_held(connection, &moves, now, Keys::Record(&[(&scene.claim, &reply)])).await?;
        Ok(Ending::Written(Written { reply, entry_id: sealed.id, moved: Moved::to(to) }))
    }
}

/// The answer to a confirm of a reservation that keeps its state, or that has its new one.
fn standing(reservation: Reservation) -> Answer {
    match reservation.state {
        ReservationState::Confirmed => Answer::Present(reservation),
        ReservationState::Expired => Answer::Refused(Refusal::expired(&reservation)),
        ReservationState::Held
        | ReservationState::Released
        | ReservationState::Refused
        | ReservationState::Voided => {
            match transition(Some(reservation.state), ReservationEvent::Confirmed) {
                Err(illegal) => Answer::Refused(illegal.into()),
                Ok(_) => unreachable!("a hold is confirmed or expired: see the rule"),
            }
        }
    }
}
