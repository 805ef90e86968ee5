//! Confirming a reservation: its held stock is shipped.

use journal::{Decided, Keys};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, CommandContext, CommandResult, Moved, Written};
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

    async fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let Some((now, known)) = reservations::lock(connection, self.reservation_id).await? else {
            return Ok(CommandResult::Passing(Refusal::NoReservation(self.reservation_id)));
        };
        if context.is_late() {
            return Ok(CommandResult::TooLate);
        }
        let rule = rules::Confirm {
            order_id: known.order_id,
            lines: known.lines.clone(),
            state: known.state,
            version: known.head.version,
            now,
            expires_at: known.expires_at,
        };
        let (to, decided) = Decided::by(&rule);
        if to == known.state {
            let by = known.head.clone();
            return Ok(CommandResult::Settled {
                answer: standing(known),
                entry_id: by.entry_id,
                decided_at: Some(by.hlc),
            });
        }
        let sealed = context.seal(decided, Some((known.state, &known.head)));
        let reply = context.render(&standing(Reservation { state: to, ..known.clone() }));
        let moves = [Move { from: &known, to, sealed: &sealed }];
        reservations::leave_held(connection, &moves, now, Keys::Record(&[(&context.claim, &reply)])).await?;
        Ok(CommandResult::Written(Written { reply, entry_id: sealed.id, moved: Moved::to(to) }))
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
