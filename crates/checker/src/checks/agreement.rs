//! Invariant 4: the two services agree.
//!
//! The pivot is inventory's entry `confirmed`. Before it, the order has only asked; after it, the order can only
//! become `confirmed`.

use std::collections::HashMap;

use time::Duration;
use uuid::Uuid;

use crate::fold::{Fold, Order, Reservation};
use crate::report::{Rule, Tally, Violation};
use crate::{Contract, Observed, OrderRow, Side};
use journal::rule::NONE;

/// Order states in which the reservation may be confirmed.
const CONFIRMING: [&str; 3] = ["confirming", "confirm_unknown", "confirmed"];
/// Time from inventory's expiry until the order must be `expired` (the contract's bound). Until then the order may
/// still read `reserved`.
const RESOLVED_WITHIN: Duration = Duration::seconds(5);
/// Reservation states that take stock.
const LIVE: [&str; 2] = ["held", "confirmed"];

pub(crate) fn finish(contract: &Contract<'_>, fold: &Fold, observed: &Observed, tally: &mut Tally) {
    let mut reservations: HashMap<Uuid, Vec<(Uuid, &Reservation)>> = HashMap::new();
    for (id, reservation) in &fold.reservations {
        if let Some(order) = reservation.order {
            reservations.entry(order).or_default().push((*id, reservation));
        }
        if reservation.confirmed_by.is_some() {
            asked(contract, fold, *id, reservation, observed.at_rest, tally);
        }
    }
    let rows: HashMap<Uuid, &OrderRow> =
        observed.tables.iter().flat_map(|tables| &tables.orders).map(|row| (row.id, row)).collect();
    for (id, order) in &fold.orders {
        let mine = reservations.get(id).map_or(&[][..], Vec::as_slice);
        if order.confirmed_by.is_some() {
            together(fold, *id, order, mine, tally);
        }
        rest(contract, fold, *id, mine, rows.get(id).copied(), observed, tally);
    }
}

/// Checks a confirmed order: its reservation is confirmed, has the same lines, and is the cause of the order's entry.
fn together(fold: &Fold, id: Uuid, order: &Order, mine: &[(Uuid, &Reservation)], tally: &mut Tally) {
    let confirmed = mine.iter().find(|(_, reservation)| reservation.confirmed_by.is_some());
    let holds = confirmed.is_some_and(|(other, reservation)| {
        order.reservation.is_none_or(|asked| asked == *other)
            && reservation.lines == order.lines
            && follows(fold, order, reservation)
    });
    let mut known = order.reservation.into_iter().chain(mine.iter().map(|(id, _)| *id));
    let depends = fold.doubts.aggregate(Side::Order, id)
        || known.any(|reservation| fold.doubts.aggregate(Side::Inventory, reservation));
    tally.judge(Rule::ConfirmedTogether, holds, depends, || {
        let what = match confirmed {
            None => format!("confirmed without a confirmed reservation; it has {mine:?}"),
            Some((other, reservation)) => format!(
                "confirmed by entry {:?} with lines {:?} and reservation {:?}; {other} was confirmed by entry {:?} with {:?}",
                order.confirmed_by, order.lines, order.reservation, reservation.confirmed_by, reservation.lines
            ),
        };
        Violation::new(what).of(Side::Order, id)
    });
}

/// Returns whether the order's `confirmed` follows from the reservation's, judged by causes and versions. The hosts'
/// clocks prove nothing.
fn follows(fold: &Fold, order: &Order, reservation: &Reservation) -> bool {
    let entry = |id: Option<Uuid>| id.and_then(|id| fold.entries.get(&id));
    let (Some(effect), Some(pivot)) = (entry(order.confirmed_by), entry(reservation.confirmed_by)) else {
        return false;
    };
    match entry(effect.cause) {
        Some(cause) if cause.side == Side::Inventory => effect.cause == reservation.confirmed_by,
        // Inventory's reply did not name its entry. Then the order's request must be an earlier version of the order.
        Some(_) | None => entry(pivot.cause)
            .is_some_and(|asked| asked.aggregate == effect.aggregate && asked.version < effect.version),
    }
}

/// Checks a confirmed reservation: the entry that caused it left the order confirming, and the order has not left
/// that path since.
fn asked(
    contract: &Contract<'_>,
    fold: &Fold,
    id: Uuid,
    reservation: &Reservation,
    at_rest: bool,
    tally: &mut Tally,
) {
    let cause = reservation
        .confirmed_by
        .and_then(|entry| fold.entries.get(&entry))
        .and_then(|brief| brief.cause)
        .and_then(|cause| fold.entries.get(&cause));
    let order = reservation.order.unwrap_or_default();
    let state = state(fold, order);
    let ahead = !at_rest && contract.can_reach("order", state, "confirmed");
    let asked_by =
        reservation.confirmed_by.and_then(|id| fold.entries.get(&id)).and_then(|brief| brief.cause);
    let depends = fold.doubts.aggregate(Side::Order, order)
        || fold.doubts.aggregate(Side::Inventory, id)
        || !contract.knows("order", state)
        || (cause.is_none() && asked_by.is_some_and(|cause| fold.doubts.cause(cause)));
    let Some(cause) = cause else {
        if ahead {
            tally.defer(Rule::ConfirmedWhenAsked);
        } else {
            tally.judge(Rule::ConfirmedWhenAsked, false, depends, || {
                Violation::new(format!("confirmed without a known cause, for order {order} which is {state}"))
                    .of(Side::Inventory, id)
            });
        }
        return;
    };
    let asked = cause.aggregate == order && CONFIRMING.contains(&&*cause.to);
    let holds = asked && (CONFIRMING.contains(&state) || ahead);
    tally.judge(Rule::ConfirmedWhenAsked, holds, depends, || {
        let asker = format!("{} in {} (v{})", cause.aggregate, cause.to, cause.version);
        Violation::new(format!("confirmed because of {asker}, for order {order} which is {state}"))
            .of(Side::Inventory, id)
    });
}

/// Checks the facts that hold only at rest: faults have stopped and the resolution bound has passed.
fn rest(
    contract: &Contract<'_>,
    fold: &Fold,
    id: Uuid,
    mine: &[(Uuid, &Reservation)],
    row: Option<&OrderRow>,
    observed: &Observed,
    tally: &mut Tally,
) {
    let state = state(fold, id);
    if !observed.at_rest {
        tally.defer(Rule::RestIsSettled);
        return;
    }
    let is_known = contract.knows("order", state) && !fold.doubts.aggregate(Side::Order, id);
    let unexpired = match (observed.now, row.map(|row| row.expires_at)) {
        (Some(now), Some(Some(expires_at))) => now < expires_at.saturating_add(RESOLVED_WITHIN),
        // Without the tables, the end of a hold is not known.
        (None, _) | (_, None) => true,
        (Some(_), Some(None)) => false,
    };
    let settled = is_known && (contract.is_terminal("order", state) || (state == "reserved" && unexpired));
    tally.judge(Rule::RestIsSettled, settled, !is_known, || {
        let expires_at = row.and_then(|row| row.expires_at);
        let what =
            format!("still {state} at rest (inventory's clock {:?}, expires {expires_at:?})", observed.now);
        Violation::new(what).of(Side::Order, id)
    });
    if matches!(state, "cancelled" | "rejected" | "expired") {
        let live = mine.iter().find_map(|(reservation, _)| {
            let state = fold.head(Side::Inventory, *reservation)?.state.as_deref()?;
            LIVE.contains(&state).then(|| format!("{reservation} is {state}"))
        });
        let is_open = |id: &Uuid| {
            let state = fold.head(Side::Inventory, *id).and_then(|head| head.state.as_deref());
            fold.doubts.aggregate(Side::Inventory, *id)
                || state.is_none_or(|state| !contract.knows("reservation", state))
        };
        if mine.iter().any(|(id, _)| is_open(id)) {
            tally.doubt(Rule::RestHoldsNothing);
            return;
        }
        tally.check(Rule::RestHoldsNothing, live.is_none(), || {
            Violation::new(format!("{state}, yet its reservation {}", live.unwrap_or_default()))
                .of(Side::Order, id)
        });
    }
}

/// The order's state by its last journal entry. Empty text, which is no state, where that entry cannot be read.
fn state(fold: &Fold, order: Uuid) -> &str {
    fold.head(Side::Order, order).map_or(NONE, |head| head.state.as_deref().unwrap_or_default())
}
