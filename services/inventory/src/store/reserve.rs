//! Reserves: the reservations and items that they lock, and batches of them in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use journal::append::is_taken;
use journal::{DatabaseError, Entry, Step};
use sqlx::{FromRow as _, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::commands::{
    Command, CommandContext, CommandError, CommandRequest, CommandResult, Ended, Transition,
};
use super::reservations::{self, StoredReservation, columns};
use super::{Store, StoredHead, corrupt};
use crate::domain::decisions::{Reserve, repeat_reserve, reserve};
use crate::domain::stock::Stock;
use crate::domain::{Decision, NewReservation, Refusal, Reservation, Status};

/// Name of the constraint that at most one reservation of an order is held or confirmed.
pub(super) const ONE_LIVE_PER_ORDER: &str = "reservations_one_live_per_order";

/// Locks the reservations first. If there are none, it locks the items in SKU
/// order. It reads the clock after both.
pub const LOCK: &str = concat!(
    "WITH known AS MATERIALIZED (SELECT ",
    columns!(),
    " FROM reservations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE),
     stock AS MATERIALIZED (
        SELECT sku, version, on_hand, held FROM items
        WHERE sku = ANY($2) AND NOT EXISTS (SELECT FROM known)
        ORDER BY sku FOR NO KEY UPDATE)
     SELECT clock_timestamp() AS now, s.skus, s.versions, s.on_hands, s.helds, known.*
     FROM (SELECT array_agg(sku) AS skus, array_agg(version) AS versions, array_agg(on_hand) AS on_hands,
                  array_agg(held) AS helds FROM stock) s
     LEFT JOIN known ON true"
);

const FIRST_ENTRY: &str = "SELECT body FROM journal WHERE aggregate_id = $1 AND version = 1";

pub(super) const STATEMENTS: [(&str, &str); 2] =
    [("reserve::LOCK", LOCK), ("reserve::FIRST_ENTRY", FIRST_ENTRY)];

impl Store {
    /// Decides a reserve, and holds its lines unless it is refused. Reserves that come at the same time share a transaction.
    pub async fn reserve(
        &self,
        context: CommandContext,
        new: NewReservation,
    ) -> Result<CommandResult, CommandError> {
        let request = Arc::new(self.request(context, new));
        let first = self.reserving.write(Some(request.deadline()), Arc::clone(&request)).await;
        request.conclude(first).await
    }
}

/// The rows that reserves locked.
#[derive(Debug)]
pub enum Found {
    /// There is no such reservation. The items are locked.
    Free {
        /// Time of the database's clock after the locks.
        now: OffsetDateTime,
        /// Stock of the items that exist, by SKU.
        stock: BTreeMap<String, Stock>,
    },
    /// Some of the reservations exist. They are locked, and no items are.
    Taken {
        /// One of them.
        first: Box<StoredReservation>,
        /// The rule that refused it, if it is refused.
        refused_by: Option<Reserve>,
        /// Ids of all of them.
        ids: Vec<Uuid>,
    },
}

impl Command for NewReservation {
    type Found = Found;
    type Rule = Reserve;
    type Object = Reservation;

    fn name(&self) -> &'static str {
        "reserve"
    }

    fn aggregate_id(&self) -> Uuid {
        self.id
    }

    async fn lock(&self, connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
        lock(connection, &[self.id], &self.skus().collect::<Vec<_>>()).await
    }

    fn decide(&self, found: &mut Found) -> Decision<Reserve, Reservation> {
        match found {
            Found::Free { now, stock } => {
                let (rule, after, outcome) = reserve(self, *now, stock);
                Decision::Transition { rule, after, outcome }
            }
            Found::Taken { first, refused_by, .. } => {
                repeat_reserve(self, &first.reservation, refused_by.as_ref())
            }
        }
    }

    fn head(found: &Found) -> Option<&StoredHead> {
        match found {
            Found::Free { .. } => None,
            Found::Taken { first, .. } => Some(&first.head),
        }
    }

    async fn write(
        connection: &mut PgConnection,
        found: &Found,
        transition: Transition<'_, Reservation>,
    ) -> Result<(), sqlx::Error> {
        match found {
            Found::Free { now, .. } => reservations::create(connection, &[&transition], *now).await,
            Found::Taken { .. } => Err(corrupt("a reservation that is reserved twice")),
        }
    }

    fn lost_race(&self, race: &sqlx::Error) -> Option<Refusal> {
        is_taken(race, ONE_LIVE_PER_ORDER).then_some(Refusal::OrderHasAnother { order_id: self.order_id })
    }
}

/// Executes the reserves of one batch in order. Each reads the stock that the reserves before it left.
pub(super) async fn all(
    connection: &mut PgConnection,
    all: &[Arc<CommandRequest<NewReservation>>],
) -> Result<Step<Vec<Ended>>, sqlx::Error> {
    if let [one] = all {
        return Ok(match one.run(connection, false).await? {
            Step::Commit(ended) => Step::Commit(vec![ended]),
            Step::Rollback(ended) => Step::Rollback(vec![ended]),
        });
    }
    let mut ended: Vec<Option<Ended>> = all.iter().map(|_| None).collect();
    let mut known = BTreeSet::new();
    loop {
        let mut ids = known.clone();
        let new: Vec<_> = (0..all.len()).filter(|&at| ids.insert(all[at].command.id)).collect();
        if new.is_empty() {
            break;
        }
        let ids: Vec<_> = new.iter().map(|&at| all[at].command.id).collect();
        let skus: BTreeSet<_> = new.iter().flat_map(|&at| all[at].command.skus()).collect();
        let skus: Vec<_> = skus.into_iter().collect();
        match lock(connection, &ids, &skus).await? {
            Found::Taken { ids, .. } => known.extend(ids),
            Found::Free { now, mut stock } => {
                let decided: Vec<_> = new.iter().map(|&at| all[at].decide_in_time(now, &mut stock)).collect();
                reservations::create(connection, &decided.iter().flatten().collect::<Vec<_>>(), now).await?;
                for (at, transition) in new.into_iter().zip(decided) {
                    ended[at] = Some(match transition {
                        Some(transition) => Ok(transition.result()),
                        None => Err(CommandError::NotExecuted(DatabaseError::Deadline)),
                    });
                }
                break;
            }
        }
    }
    let mut results = Vec::with_capacity(all.len());
    for (request, ended) in all.iter().zip(ended) {
        results.push(match ended {
            Some(ended) => ended,
            // A repeat. To roll back is to write nothing for it.
            None => match request.run(connection, false).await? {
                Step::Commit(ended) | Step::Rollback(ended) => ended,
            },
        });
    }
    Ok(Step::Commit(results))
}

impl CommandRequest<NewReservation> {
    /// The transition to write; `None` when the deadline has passed.
    fn decide_in_time(
        &self,
        now: OffsetDateTime,
        stock: &mut BTreeMap<String, Stock>,
    ) -> Option<Transition<'_, Reservation>> {
        if self.is_late() {
            return None;
        }
        let (rule, after, outcome) = reserve(&self.command, now, stock);
        Some(self.transition(&rule, after, &outcome, None))
    }
}

/// Locks the rows that new reservations depend on.
async fn lock(connection: &mut PgConnection, ids: &[Uuid], skus: &[&str]) -> Result<Found, sqlx::Error> {
    let rows = sqlx::query(LOCK).bind(ids).bind(skus).fetch_all(&mut *connection).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    if row.try_get::<Option<Uuid>, _>("id")?.is_some() {
        let ids = rows.iter().map(|row| row.try_get("id")).collect::<Result<_, _>>()?;
        let first = Box::new(StoredReservation::from_row(row)?);
        let refused_by = match first.reservation.status {
            Status::Refused => Some(first_rule(connection, first.reservation.id).await?),
            Status::Held | Status::Confirmed | Status::Released | Status::Expired | Status::Voided => None,
        };
        return Ok(Found::Taken { first, refused_by, ids });
    }
    let numbers = |name| row.try_get::<Option<Vec<i64>>, _>(name).map(Option::unwrap_or_default);
    let skus = row.try_get::<Option<Vec<String>>, _>("skus")?.unwrap_or_default();
    let values = numbers("versions")?.into_iter().zip(numbers("on_hands")?).zip(numbers("helds")?);
    let stock = values.map(|((version, on_hand), held)| Stock { held, on_hand, version });
    Ok(Found::Free { now: row.try_get("now")?, stock: skus.into_iter().zip(stock).collect() })
}

/// Reads the rule in a reservation's first entry.
async fn first_rule(connection: &mut PgConnection, id: Uuid) -> Result<Reserve, sqlx::Error> {
    let body: Vec<u8> = sqlx::query_scalar(FIRST_ENTRY).bind(id).fetch_one(connection).await?;
    let rule = serde_json::from_slice(&body).and_then(|entry: Entry| serde_json::from_value(entry.inputs));
    rule.map_err(|e| sqlx::Error::Decode(e.into()))
}
