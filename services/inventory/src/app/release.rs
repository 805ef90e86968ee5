//! Releasing a reservation: its stock is given back, or a late reserve is made to hold none.

use std::sync::Arc;

use journal::{Decided, Keys};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::execute::{Command, CommandContext, CommandResult, Moved, Written};
use super::{Answer, Ask, Failure, Inventory, Reply};
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::rules;
use crate::store::StoredHead;
use crate::store::reservations::{self, Move, New, Reservation};

/// The command to release a reservation.
#[derive(Debug, Clone, Copy)]
pub struct Release {
    /// Id of the reservation.
    pub reservation_id: Uuid,
}

impl Inventory {
    /// Releases a held reservation and voids an unknown one. A confirmed reservation is refused; any other keeps its state.
    pub async fn release(&self, ask: Ask, command: Release) -> Result<Reply, Failure> {
        self.execute(ask, command).await
    }
}

impl Command for Release {
    const NAME: &'static str = "release";

    fn aggregate_id(&self) -> Uuid {
        self.reservation_id
    }

    async fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let found = reservations::lock(connection, self.reservation_id).await?;
        if context.is_late() {
            return Ok(CommandResult::TooLate);
        }
        match found {
            Some((now, known)) => self.known(known, now, context, connection).await,
            None => self.unseen(context, connection).await,
        }
    }
}

impl Release {
    async fn known(
        &self,
        known: Reservation,
        now: OffsetDateTime,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let rule = rules::Release {
            order_id: known.order_id,
            lines: known.lines.clone(),
            state: Some(known.state),
            version: known.head.version,
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

    /// Voids a reservation whose release overtook its reserve. The reservation exists from now on as a tombstone, so a late
    /// reserve is rejected.
    async fn unseen(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let rule = rules::Release { order_id: None, lines: Arc::default(), state: None, version: 0 };
        let (to, decided) = Decided::by(&rule);
        let sealed = context.seal(decided, None);
        let reservation = Reservation {
            id: self.reservation_id,
            order_id: None,
            state: to,
            lines: Arc::default(),
            hold_seconds: None,
            expires_at: None,
            correlation_id: context.correlation_id(),
            head: StoredHead::of(&sealed),
        };
        let reply = context.render(&Answer::Present(reservation.clone()));
        let now = sealed.at;
        let new = New { reservation, sealed, claim: &context.claim, reply };
        reservations::create(connection, &[&new], now).await?;
        Ok(CommandResult::Written(new.into()))
    }
}

/// The answer to a release of a reservation that keeps its state, or that has its new one.
fn standing(reservation: Reservation) -> Answer {
    match reservation.state {
        ReservationState::Confirmed => {
            match transition(Some(ReservationState::Confirmed), ReservationEvent::Released) {
                Err(illegal) => Answer::Refused(illegal.into()),
                Ok(_) => unreachable!("confirmed is terminal: see the transition function"),
            }
        }
        ReservationState::Held
        | ReservationState::Released
        | ReservationState::Expired
        | ReservationState::Refused
        | ReservationState::Voided => Answer::Present(reservation),
    }
}
