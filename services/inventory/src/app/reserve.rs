//! Reserving stock for an order, all lines or none.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use journal::append::is_taken;
use journal::{Decided, State as _, Step};
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::execute::{
    Command, CommandContext, CommandRequest, CommandResult, Moved, Round, Written, attempt,
};
use super::{Answer, Ask, Failure, Inventory, Refusal, Reply};
use crate::domain::reservation::{ReservationEvent, ReservationState, transition};
use crate::domain::rules::{self, RequestedLine};
use crate::domain::stock::{HoldSeconds, Lines, Stock};
use crate::store::StoredHead;
use crate::store::reservations::{self, New, Reservation, ReserveLock};

/// The command to hold lines for an order.
#[derive(Debug, Clone)]
pub struct Reserve {
    /// Id of the reservation, which the caller chooses.
    pub reservation_id: Uuid,
    /// Id of the order.
    pub order_id: Uuid,
    /// Lines to hold: SKU and quantity.
    pub lines: Lines,
    /// Length of the hold.
    pub hold_seconds: HoldSeconds,
}

impl Inventory {
    /// Holds the lines, or refuses them for good with the reason. Reserves that come at the same time share a transaction.
    pub async fn reserve(&self, ask: Ask, command: Reserve) -> Result<Reply, Failure> {
        let asked = self.asked(ask, command);
        let first = self.0.reserving.write(Some(asked.context.deadline()), Arc::clone(&asked)).await;
        self.conclude(&asked, first).await
    }
}

/// Executes the reserves of one batch in order. Each reads the stock that the reserves before it left.
pub(super) async fn all(
    connection: &mut PgConnection,
    all: &[Arc<CommandRequest<Reserve>>],
) -> Result<Step<Vec<Round>>, sqlx::Error> {
    if let [one] = all {
        return Ok(match attempt(connection, one, false).await? {
            Step::Commit(round) => Step::Commit(vec![round]),
            Step::Rollback(round) => Step::Rollback(vec![round]),
        });
    }
    let mut rounds: Vec<Option<Round>> = all.iter().map(|_| None).collect();
    let mut known = BTreeSet::new();
    loop {
        let mut ids = known.clone();
        let new: Vec<_> = (0..all.len()).filter(|&at| ids.insert(all[at].command.reservation_id)).collect();
        if new.is_empty() {
            break;
        }
        let ids: Vec<_> = new.iter().map(|&at| all[at].command.reservation_id).collect();
        let skus: BTreeSet<_> = new.iter().flat_map(|&at| all[at].command.skus()).collect();
        let skus: Vec<_> = skus.into_iter().collect();
        match reservations::lock_to_reserve(connection, &ids, &skus).await? {
            ReserveLock::Taken { ids, .. } => known.extend(ids),
            ReserveLock::Free { now, mut stock } => {
                let decided: Vec<_> = new.iter().map(|&at| all[at].decide_in_time(now, &mut stock)).collect();
                reservations::create(connection, &decided.iter().flatten().collect::<Vec<_>>(), now).await?;
                for (at, new) in new.into_iter().zip(decided) {
                    rounds[at] = Some(new.map_or_else(Round::too_late, |new| Round::written(new.into())));
                }
                break;
            }
        }
    }
    let mut ended = Vec::with_capacity(all.len());
    for (asked, round) in all.iter().zip(rounds) {
        ended.push(match round {
            Some(round) => round,
            // A repeat. To roll back is to write nothing for it.
            None => match attempt(connection, asked, false).await? {
                Step::Commit(round) | Step::Rollback(round) => round,
            },
        });
    }
    Ok(Step::Commit(ended))
}

impl CommandRequest<Reserve> {
    /// `None`: the deadline has passed.
    fn decide_in_time(&self, now: OffsetDateTime, stock: &mut HashMap<String, Stock>) -> Option<New<'_>> {
        (!self.context.is_late()).then(|| self.command.decide(&self.context, now, stock))
    }
}

impl Command for Reserve {
    const NAME: &'static str = "reserve";

    fn aggregate_id(&self) -> Uuid {
        self.reservation_id
    }

    async fn carry_out(
        &self,
        context: &CommandContext,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let skus: Vec<_> = self.skus().collect();
        let (now, mut stock) =
            match reservations::lock_to_reserve(connection, &[self.reservation_id], &skus).await? {
                ReserveLock::Taken { first, .. } => return self.again(first, connection).await,
                ReserveLock::Free { now, stock } => (now, stock),
            };
        if context.is_late() {
            return Ok(CommandResult::TooLate);
        }
        let new = self.decide(context, now, &mut stock);
        reservations::create(connection, &[&new], now).await?;
        Ok(CommandResult::Written(new.into()))
    }

    fn refusal(&self, race: &sqlx::Error) -> Option<Refusal> {
        is_taken(race, reservations::ONE_LIVE_PER_ORDER)
            .then_some(Refusal::OrderHasAnother { order_id: self.order_id })
    }
}

impl From<New<'_>> for Written {
    fn from(New { reservation, sealed, reply, .. }: New<'_>) -> Self {
        Self { reply, entry_id: sealed.id, moved: Moved::to(reservation.state) }
    }
}

impl Reserve {
    pub(super) fn skus(&self) -> impl Iterator<Item = &str> {
        self.lines.as_slice().iter().map(|line| line.sku.as_str())
    }

    /// Decides to hold the lines or to refuse them. Held lines are taken out of `stock`, so the next reserve of the batch
    /// cannot have them.
    fn decide<'a>(
        &self,
        context: &'a CommandContext,
        now: OffsetDateTime,
        stock: &mut HashMap<String, Stock>,
    ) -> New<'a> {
        let lines = self.lines.as_slice().iter().map(|line| RequestedLine {
            stock: stock.get(line.sku.as_str()).copied(),
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
        let sealed = context.seal(decided, None);
        let reservation = Reservation {
            id: self.reservation_id,
            order_id: Some(self.order_id),
            state: to,
            lines: self.lines.shared(),
            hold_seconds: Some(self.hold_seconds.get()),
            expires_at: (to == ReservationState::Held).then(|| rule.expires_at()),
            correlation_id: context.correlation_id(),
            head: StoredHead::of(&sealed),
        };
        let answer = match to {
            ReservationState::Held => {
                for line in self.lines.as_slice() {
                    if let Some(stock) = stock.get_mut(line.sku.as_str()) {
                        stock.held += line.quantity.get();
                    }
                }
                Answer::Held(reservation.clone())
            }
            ReservationState::Refused
            | ReservationState::Confirmed
            | ReservationState::Released
            | ReservationState::Expired
            | ReservationState::Voided => Answer::Refused(self.why(&rule)),
        };
        New { reservation, sealed, claim: &context.claim, reply: context.render(&answer) }
    }

    /// Answers for a reservation that exists already: by a request under another key, or because its release came first.
    async fn again(
        &self,
        known: Reservation,
        connection: &mut PgConnection,
    ) -> Result<CommandResult, sqlx::Error> {
        let by = known.head.clone();
        let answer = match known.state {
            ReservationState::Held if !self.is_for(&known) => {
                return Ok(CommandResult::Passing(Refusal::HeldOtherwise { id: known.id }));
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
        Ok(CommandResult::Settled { answer, entry_id: by.entry_id, decided_at: Some(by.hlc) })
    }

    fn is_for(&self, known: &Reservation) -> bool {
        known.order_id == Some(self.order_id)
            && *known.lines == *self.lines.as_slice()
            && known.hold_seconds == Some(self.hold_seconds.get())
    }

    /// The refusal of a rule that decided to refuse.
    fn why(&self, rule: &rules::Reserve) -> Refusal {
        let (id, order_id, skus) = (self.reservation_id, rule.order_id, rule.unknown_skus());
        if skus.is_empty() {
            Refusal::InsufficientStock { id, order_id, short_lines: rule.short_lines() }
        } else {
            Refusal::UnknownSku { id, order_id, skus }
        }
    }
}
