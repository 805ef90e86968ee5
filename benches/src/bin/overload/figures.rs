//! Figures of a run, computed from the records of its orders.

use crate::load::{End, Phase, Record};

/// Share of orders that must be placed in a normal second.
const NORMAL: f64 = 0.95;
/// Time in seconds for which every second must be normal.
const LASTING: f64 = 3.0;

/// Figures of one phase of a run.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Orders placed in time, per second.
    pub(crate) goodput: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Share of the sent orders that were answered 202, in percent. The next two are shares of the sent orders too.
    pub(crate) accepted: f64,
    pub(crate) refused: f64,
    pub(crate) unknown: f64,
    pub(crate) unsent: usize,
    /// Requests per sent order.
    pub(crate) attempts: f64,
}

fn of_phase(records: &[Record], from: f64, seconds: f64) -> impl Iterator<Item = &Record> {
    records.iter().filter(move |record| record.due >= from && record.due < from + seconds)
}

#[allow(clippy::cast_precision_loss)] // counts of orders
pub(crate) fn figures(records: &[Record], from: f64, phase: Phase) -> Figures {
    let orders: Vec<&Record> = of_phase(records, from, phase.seconds).collect();
    let count = |end| orders.iter().filter(|order| order.end == end).count();
    let unsent = count(End::Unsent);
    let sent = (orders.len() - unsent) as f64;
    let mut times: Vec<f64> =
        orders.iter().filter(|order| order.end == End::Placed).map(|order| order.took).collect();
    times.sort_by(f64::total_cmp);
    let quantile = |q: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // an index
        let index = (times.len() as f64 * q) as usize;
        times.get(index.min(times.len().saturating_sub(1))).map_or(f64::NAN, |seconds| seconds * 1e3)
    };
    let percent = |end| 100.0 * count(end) as f64 / sent;
    Figures {
        goodput: times.len() as f64 / phase.seconds,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        accepted: percent(End::Accepted),
        refused: percent(End::Refused),
        unknown: percent(End::Unknown),
        unsent,
        attempts: orders.iter().map(|order| f64::from(order.attempts)).sum::<f64>() / sent,
    }
}

/// Seconds from `from` until three consecutive seconds are normal, or `None` if that does not happen within the phase.
#[allow(clippy::cast_precision_loss)] // counts of orders
pub(crate) fn normal_after(records: &[Record], from: f64, phase: Phase) -> Option<f64> {
    let tenths = |seconds: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // tenths of seconds of a run
        let tenths = (seconds * 10.0).round() as usize;
        tenths
    };
    let at = |tenth: usize| from + tenth as f64 / 10.0;
    let normal: Vec<bool> = (0..=tenths(phase.seconds - 1.0))
        .map(|tenth| {
            let (mut placed, mut all) = (0.0, 0.0);
            for order in of_phase(records, at(tenth), 1.0) {
                all += 1.0;
                placed += f64::from(u8::from(order.end == End::Placed));
            }
            placed >= NORMAL * all
        })
        .collect();
    let lasting = tenths(LASTING - 1.0) + 1;
    let first = normal.windows(lasting).position(|windows| windows.iter().all(|normal| *normal))?;
    Some(at(first) - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(placed: impl Fn(f64) -> bool) -> Vec<Record> {
        (0..1_000)
            .map(|n| {
                let due = f64::from(n) / 100.0;
                let end = if placed(due) { End::Placed } else { End::Refused };
                Record { due, took: due / 1e3, attempts: 2, end }
            })
            .collect()
    }

    const TEN: Phase = Phase { rate: 100.0, seconds: 10.0 };

    #[test]
    fn normal_after_is_the_start_of_three_consecutive_normal_seconds() {
        assert_eq!(normal_after(&records(|_| true), 0.0, TEN), Some(0.0));
        assert_eq!(normal_after(&records(|_| false), 0.0, TEN), None);
        let after = |from: f64| normal_after(&records(move |due| due >= from), 0.0, TEN).unwrap();
        // Up to a twentieth of the orders of a second may fail.
        assert!((after(4.0) - 4.0).abs() < 0.06, "{}", after(4.0));
        assert_eq!(
            normal_after(&records(|due| due >= 8.0), 0.0, TEN),
            None,
            "two normal seconds are too few"
        );
        // A normal second and a half between bad ones does not count.
        let relapse = records(|due| (2.0..3.5).contains(&due) || due >= 5.0);
        assert!((normal_after(&relapse, 0.0, TEN).unwrap() - 5.0).abs() < 0.06);
    }

    #[test]
    fn shares_are_relative_to_the_sent_orders() {
        let mut all = records(|due| due < 5.0);
        all[0].end = End::Unsent;
        all[0].attempts = 0;
        let figures = figures(&all, 0.0, TEN);
        assert!((figures.goodput - 49.9).abs() < 1e-9, "{figures:?}");
        assert!((figures.refused - 100.0 * 500.0 / 999.0).abs() < 1e-9, "{figures:?}");
        assert!((figures.attempts - 2.0).abs() < 1e-9, "{figures:?}");
        assert_eq!(figures.unsent, 1);
        assert!(figures.p50_ms > 2.0 && figures.p50_ms < 3.0, "{figures:?}");
    }
}
