//! Promising stock to an order, all lines or none.

use journal::append::is_taken;
use journal::{Decided, State as _};
use sqlx::PgConnection;
use uuid::Uuid;

use super::execute::{Command, Ending, Moved, Scene};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::rules::{self, RequestedLine};
use crate::domain::stock::{HoldSeconds, Lines};
use crate::store::Newest;
use crate::store::reservations::{self, Ground, Reservation};

/// Hold these lines for this order.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// Chosen by the caller.
    pub reservation_id: Uuid,
    /// For whom.
    pub order_id: Uuid,
    /// What.
    pub lines: Lines,
    /// For how long.
    pub hold_seconds: HoldSeconds,
}

impl Inventory {
    /// Promises stock, or says for good why not.
    pub async fn reserve(&self, ask: Ask, command: Reserve) -> Result<Reply, Failure> {
        self.execute(ask, command).await
    }
}

impl Command for Reserve {
    const NAME: &'static str = "reserve";

    fn aggregate_id(&self) -> Uuid {
        self.reservation_id
    }

    async fn carry_out(&self, scene: &Scene, connection: &mut PgConnection) -> Result<Ending, sqlx::Error> {
        let skus: Vec<_> = self.lines.as_slice().iter().map(|line| line.sku.as_str()).collect();
        let (now, stock) = match reservations::lock_to_reserve(connection, self.reservation_id, &skus).await?
        {
            Ground::Taken(known) => return self.again(known, connection).await,
            Ground::Free { now, stock } => (now, stock),
        };
        if scene.is_late() {
            return Ok(Ending::TooLate);
        }
        let found = |sku: &str| stock.iter().find(|(known, _)| known == sku).map(|(_, stock)| *stock);
        let lines = self.lines.as_slice().iter().map(|line| RequestedLine {
            stock: found(line.sku.as_str()),
            sku: line.sku.clone(),
            quantity: line.quantity,
        });
        let rule = rules::Reserve {
            order_id: self.order_id,
            lines: lines.collect(),
            hold_seconds: self.hold_seconds,
            now,
        };
        let (to, decided) = Decided::by(&rule);
        let sealed = scene.seal::<ReservationState>(decided, None);
        let new = Reservation {
            id: self.reservation_id,
            order_id: Some(self.order_id),
            state: to,
            lines: self.lines.as_slice().to_vec(),
            hold_seconds: Some(self.hold_seconds.get()),
            expires_at: (to == ReservationState::Held).then(|| rule.expires_at()),
            correlation_id: scene.correlation_id(),
            newest: Newest::of(&sealed),
        };
        let answer = match to {
            ReservationState::Held => Answer::Held(new.clone()),
            ReservationState::Refused
            | ReservationState::Confirmed
            | ReservationState::Released
            | ReservationState::Expired
            | ReservationState::Voided => Answer::Refused(self.why(&rule)),
        };
        let reply = scene.render(&answer);
        reservations::create(connection, &new, now, &sealed, (&scene.claim, &reply)).await?;
        Ok(Ending::Written { reply, entry_id: sealed.entry.id, moved: Moved::to(to) })
    }

    fn refusal(&self, race: &sqlx::Error) -> Option<Refusal> {
        is_taken(race, reservations::ONE_LIVE_PER_ORDER)
            .then_some(Refusal::OrderHasAnother { order_id: self.order_id })
    }
}

impl Reserve {
    /// The reservation is there already: under another key, or because its release came first.
    async fn again(&self, known: Reservation, connection: &mut PgConnection) -> Result<Ending, sqlx::Error> {
        let entry_id = known.newest.entry_id;
        let answer = match known.state {
            ReservationState::Held if !self.is_for(&known) => {
                return Ok(Ending::Passing(Refusal::HeldOtherwise { id: known.id }));
            }
            ReservationState::Held => Answer::Present(known),
            ReservationState::Voided => Answer::Refused(Refusal::ReservationVoided { id: known.id }),
            ReservationState::Refused => {
                let inputs = reservations::first_inputs(connection, known.id).await?;
                let rule: rules::Reserve =
                    serde_json::from_value(inputs).map_err(|e| sqlx::Error::Decode(e.into()))?;
                Answer::Refused(self.why(&rule))
            }
            ReservationState::Confirmed | ReservationState::Released | ReservationState::Expired => {
                match transition(Some(known.state), ReservationEvent::Held) {
                    Err(illegal) => Answer::Refused(illegal.into()),
                    Ok(_) => {
                        unreachable!("{} is terminal: see the transition function", known.state.as_str())
                    }
                }
            }
        };
        Ok(Ending::Settled { answer, entry_id })
    }

    fn is_for(&self, known: &Reservation) -> bool {
        known.order_id == Some(self.order_id)
            && known.lines == self.lines.as_slice()
            && known.hold_seconds == Some(self.hold_seconds.get())
    }

    /// A refused rule's reason.
    fn why(&self, rule: &rules::Reserve) -> Refusal {
        let (id, order_id, skus) = (self.reservation_id, rule.order_id, rule.unknown_skus());
        if skus.is_empty() {
            Refusal::InsufficientStock { id, order_id, short_lines: rule.short_lines() }
        } else {
            Refusal::UnknownSku { id, order_id, skus }
        }
    }
}
