//! The balance of accepted and throttled calls, and the share of calls that it holds back.

use super::ThrottleConfig;
use crate::sync::{AtomicU64, Ordering};

/// The cost of a throttled call in units of the balance. An accepted call earns this value times (K - 1).
const CALL: u64 = 10;
/// The factor by which one call of debt reduces the share that is sent. A smaller factor recovers sooner after an
/// overload and varies more during one; with this factor, ten accepted calls lead from a tenth back to all.
const KEPT: f64 = 0.8;

/// The balance of accepted and throttled calls. One atomic that stays above zero: the balance is `level` less `zero`.
#[derive(Debug)]
pub(crate) struct Balance {
    level: AtomicU64,
    zero: u64,
    full: u64,
    earned: u64,
    most: f64,
}

impl Balance {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
    pub(crate) fn new(config: &ThrottleConfig) -> Self {
        let most = config.most_percent as f64 / 100.0;
        // The debt at which the highest share is held back.
        let zero = ((1.0 - most).ln() / KEPT.ln() * CALL as f64).ceil() as u64;
        let full = zero + config.min_calls * CALL;
        Self { level: AtomicU64::new(full), zero, full, earned: config.multiplier_tenths - CALL, most }
    }

    /// Clears the debt and gives no credit: if the peer throttles again, that counts at once.
    pub(crate) fn forgive(&self) {
        if self.level.load(Ordering::Relaxed) < self.zero {
            self.change(|level| level.max(self.zero));
        }
    }

    pub(crate) fn throttled(&self) {
        self.change(|level| level.saturating_sub(CALL));
    }

    pub(crate) fn accepted(&self) {
        // The usual case does not write.
        if self.level.load(Ordering::Relaxed) < self.full {
            self.change(|level| (level + self.earned).min(self.full));
        }
    }

    fn change(&self, to: impl Fn(u64) -> u64) {
        let mut seen = self.level.load(Ordering::Relaxed);
        while let Err(now) =
            self.level.compare_exchange_weak(seen, to(seen), Ordering::Relaxed, Ordering::Relaxed)
        {
            seen = now;
        }
    }

    /// The share of calls to hold back.
    #[allow(clippy::cast_precision_loss)] // far below 2^52
    pub(crate) fn held_back(&self) -> f64 {
        let debt = self.zero.saturating_sub(self.level.load(Ordering::Relaxed));
        (1.0 - KEPT.powf(debt as f64 / CALL as f64)).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(config: &ThrottleConfig, throttled: u32, accepted: u32) -> f64 {
        let balance = Balance::new(config);
        (0..throttled).for_each(|_| balance.throttled());
        (0..accepted).for_each(|_| balance.accepted());
        (balance.held_back() * 1_000.0).round() / 10.0
    }

    #[test]
    fn the_share_held_back_follows_the_balance_and_its_cap() {
        let config = ThrottleConfig::default();
        let table = [
            (0, 0, 0.0),
            (20, 0, 0.0),
            (21, 0, 20.0),
            (22, 0, 36.0),
            (30, 0, 89.3),
            (31, 0, 90.0),
            (9_999, 0, 90.0),
            (9_999, 5, 70.0),
            (9_999, 11, 0.0),
        ];
        for (throttled, accepted, percent) in table {
            let got = after(&config, throttled, accepted);
            assert!((got - percent).abs() < 0.6, "{throttled} throttled, {accepted} accepted: {got} %");
        }
    }

    #[test]
    fn it_balances_where_one_call_in_k_is_accepted() {
        for (multiplier_tenths, throttled_for_each_accepted) in [(20, 1), (30, 2), (50, 4)] {
            let balance = Balance::new(&ThrottleConfig { multiplier_tenths, ..ThrottleConfig::default() });
            (0..23).for_each(|_| balance.throttled());
            let before = balance.held_back();
            for _ in 0..1_000 {
                (0..throttled_for_each_accepted).for_each(|_| balance.throttled());
                balance.accepted();
            }
            assert!((balance.held_back() - before).abs() < 1e-9, "K = {multiplier_tenths} tenths");
        }
    }
}
