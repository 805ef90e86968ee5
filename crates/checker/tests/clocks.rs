//! Hosts with wrong clocks: causes and versions order the pair's history, so a clock offset is stated and breaks no
//! invariant.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

use std::collections::HashMap;

use checker::sample::{self, History};
use checker::{Report, Rule, Side};
use time::Duration;

/// A history written by hosts whose wall clocks are wrong by `offset`, a function of the service and of the number of
/// entries written before. With `adopts`, hybrid clocks adopt later times that they receive; earlier releases did
/// not.
fn skewed(offset: impl Fn(Side, usize) -> Duration, adopts: bool) -> History {
    let mut history = sample::healthy(14);
    let mut newest: HashMap<uuid::Uuid, u64> = HashMap::new();
    let mut chains: HashMap<uuid::Uuid, u64> = HashMap::new();
    let mut clocks: HashMap<Side, u64> = HashMap::new();
    for (count, (side, recorded)) in history.entries.iter_mut().enumerate() {
        let entry = &mut recorded.entry;
        entry.at += offset(*side, count);
        let wall = u64::try_from(entry.at.unix_timestamp_nanos() / 1_000_000).unwrap() << 16;
        let cause = entry.causation_id.and_then(|cause| newest.get(&cause)).copied();
        let heard = [cause, chains.get(&entry.aggregate_id).copied()].into_iter().flatten();
        let adopted = heard.filter(|time| adopts || (time >> 16) <= (wall >> 16) + 500).max().unwrap_or(0);
        let clock = clocks.entry(*side).or_default();
        *clock = wall.max(adopted.max(*clock) + 1);
        entry.hlc = format!("{clock:016x}").parse().unwrap();
        newest.insert(entry.id, *clock);
        chains.insert(entry.aggregate_id, *clock);
    }
    history.reseal();
    history
}

fn offset_of(report: &Report, ahead: Side, behind: Side) -> u64 {
    let found = report.clocks.offsets.iter().find(|offset| (offset.ahead, offset.behind) == (ahead, behind));
    found.map_or(0, |offset| offset.milliseconds)
}

#[test]
fn a_host_that_is_an_hour_or_a_day_off_breaks_no_invariant_and_its_offset_is_stated() {
    for (wrong, right) in [(Side::Order, Side::Inventory), (Side::Inventory, Side::Order)] {
        for off in [Duration::seconds(2), Duration::hours(1), Duration::days(1)] {
            for off in [off, -off] {
                let skewed = skewed(|side, _| if side == wrong { off } else { Duration::ZERO }, true);
                let report = skewed.check(&sample::contract());
                report.require(Rule::ALL).unwrap_or_else(|broken| panic!("{wrong} {off}: {broken}"));
                let (ahead, behind) = if off.is_positive() { (wrong, right) } else { (right, wrong) };
                let told = Duration::milliseconds(offset_of(&report, ahead, behind).try_into().unwrap());
                assert!(
                    told <= off.abs() && told + Duration::seconds(1) > off.abs(),
                    "{wrong} {off}: {told}"
                );
                assert_eq!(offset_of(&report, behind, ahead), 0, "{wrong} {off}");
                assert!(report.to_string().contains("clocks: "), "{report}");
            }
        }
    }
}

#[test]
fn clocks_that_are_stepped_back_and_forth_break_no_invariant() {
    let step = |side: Side, count: usize| {
        let hours = [0, 3, -24, 1, 0][(count / 7 + usize::from(side == Side::Order)) % 5];
        Duration::hours(hours)
    };
    let report = skewed(step, true).check(&sample::contract());
    report.require(Rule::ALL).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(offset_of(&report, Side::Order, Side::Inventory) > 3_000_000, "{report}");
    assert!(offset_of(&report, Side::Inventory, Side::Order) > 3_000_000, "{report}");
}

#[test]
fn a_history_of_a_release_that_did_not_adopt_clocks_shows_skew_and_breaks_no_invariant() {
    for off in [Duration::hours(1), -Duration::hours(1)] {
        let history = skewed(|side, _| if side == Side::Order { off } else { Duration::ZERO }, false);
        let report = history.check(&sample::contract());
        assert!(report.is_clean(), "{report}");
        assert!(report.clocks.not_adopted > 0, "{report}");
        assert!(report.require(&[]).is_err(), "this release adopts every clock, so its own tests insist");
    }
}

#[test]
fn clocks_that_agree_are_not_reported() {
    let report = sample::healthy(14).check(&sample::contract());
    assert_eq!(report.clocks, checker::Clocks::default());
}

#[test]
fn a_reserved_order_is_judged_by_the_time_of_its_own_snapshot_and_the_bound_for_expiring() {
    let mut history = sample::healthy(7);
    let tables = history.observed.tables.as_mut().unwrap();
    let row = tables.orders.iter_mut().find(|row| row.status == "reserved").unwrap();
    let expires_at = row.expires_at.unwrap();
    // The hold has ended and inventory has given it back, while the order service still has its five seconds.
    for (late, settled) in [(-1, true), (0, true), (4_999, true), (5_000, false), (60_000, false)] {
        history.observed.now = Some(expires_at + Duration::milliseconds(late));
        let report = history.check(&sample::contract());
        assert_eq!(report.finding(Rule::RestIsSettled).violated == 0, settled, "{late} ms: {report}");
    }
    history.observed.now = Some(expires_at);
    let row =
        history.observed.tables.as_mut().unwrap().orders.iter_mut().find(|row| row.status == "reserved");
    row.unwrap().expires_at = None;
    let report = history.check(&sample::contract());
    assert!(report.is_broken(), "a reserved order without an expiry time would be held for ever: {report}");
}
