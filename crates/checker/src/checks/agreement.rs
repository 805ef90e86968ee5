//! Invariant 4: the two services agree. The pivot is inventory's `confirmed`: before it an order may only have
//! asked, after it an order may only become `confirmed`.

use std::collections::HashMap;

use uuid::Uuid;

use crate::fold::{Fold, Order, Reservation};
use crate::report::{Rule, Tally, Violation};
use crate::{Contract, Observed, OrderRow, Side};
use journal::rule::NONE;

/// The states in which an order may have its reservation confirmed.
const CONFIRMING: [&str; 3] = ["confirming", "confirm_unknown", "confirmed"];
/// States that take stock.
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

/// Order `confirmed` => reservation `confirmed`, earlier, with the same lines.
fn together(fold: &Fold, id: Uuid, order: &Order, mine: &[(Uuid, &Reservation)], tally: &mut Tally) {
    let clock = |entry: Option<Uuid>| entry.and_then(|entry| fold.entries.get(&entry)).map(|brief| brief.hlc);
    let confirmed = mine.iter().find(|(_, reservation)| reservation.confirmed_by.is_some());
    let holds = confirmed.is_some_and(|(other, reservation)| {
        order.reservation.is_none_or(|asked| asked == *other)
            && reservation.lines == order.lines
            && clock(reservation.confirmed_by) < clock(order.confirmed_by)
    });
    tally.check(Rule::ConfirmedTogether, holds, || {
        let at = clock(order.confirmed_by);
        let what = match confirmed {
            None => format!("confirmed without a confirmed reservation; it has {mine:?}"),
            Some((other, reservation)) => format!(
                "confirmed at {at:?} with lines {:?} and reservation {:?}; {other} at {:?} with {:?}",
                order.lines,
                order.reservation,
                clock(reservation.confirmed_by),
                reservation.lines
            ),
        };
        Violation::new(what).of(Side::Order, id)
    });
}

/// Reservation `confirmed` => the entry that caused it left its order confirming, and the order has not turned
/// back since.
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
    let state = fold.head(Side::Order, order).map_or(NONE, |head| &*head.state);
    let ahead = !at_rest && contract.can_reach("order", state, "confirmed");
    let Some(cause) = cause else {
        if ahead {
            tally.defer(Rule::ConfirmedWhenAsked);
        } else {
            tally.check(Rule::ConfirmedWhenAsked, false, || {
                Violation::new(format!("confirmed without a known cause, for order {order} which is {state}"))
                    .of(Side::Inventory, id)
            });
        }
        return;
    };
    let asked = cause.aggregate == order && CONFIRMING.contains(&&*cause.to);
    let holds = asked && (CONFIRMING.contains(&state) || ahead);
    tally.check(Rule::ConfirmedWhenAsked, holds, || {
        let asker = format!("{} in {} (v{})", cause.aggregate, cause.to, cause.version);
        Violation::new(format!("confirmed because of {asker}, for order {order} which is {state}"))
            .of(Side::Inventory, id)
    });
}

/// What only holds once faults have stopped and the resolution bound has passed.
fn rest(
    contract: &Contract<'_>,
    fold: &Fold,
    id: Uuid,
    mine: &[(Uuid, &Reservation)],
    row: Option<&OrderRow>,
    observed: &Observed,
    tally: &mut Tally,
) {
    let state = fold.head(Side::Order, id).map_or(NONE, |head| &*head.state);
    if !observed.at_rest {
        tally.defer(Rule::RestIsSettled);
        return;
    }
    let unexpired = match (observed.now, row.and_then(|row| row.expires_at)) {
        (Some(now), Some(expires_at)) => now < expires_at,
        _ => true,
    };
    let settled = contract.is_terminal("order", state) || (state == "reserved" && unexpired);
    tally.check(Rule::RestIsSettled, settled, || {
        let expires_at = row.and_then(|row| row.expires_at);
        let what = format!("still {state} at rest (now {:?}, expires {expires_at:?})", observed.now);
        Violation::new(what).of(Side::Order, id)
    });
    if matches!(state, "cancelled" | "rejected" | "expired") {
        let live = mine.iter().find_map(|(reservation, _)| {
            let head = fold.head(Side::Inventory, *reservation)?;
            LIVE.contains(&&*head.state).then(|| format!("{reservation} is {}", head.state))
        });
        tally.check(Rule::RestHoldsNothing, live.is_none(), || {
            Violation::new(format!("{state}, yet its reservation {}", live.unwrap_or_default()))
                .of(Side::Order, id)
        });
    }
}
