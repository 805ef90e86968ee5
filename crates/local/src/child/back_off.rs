//! Waits between restarts: 200 ms at first, doubled after each death, 5 s at most.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(5);

/// The age from which a child counts as healthy: its next death starts again with the first wait.
const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// The wait before the next restart.
#[derive(Debug, Default)]
pub(crate) struct BackOff {
    deaths: u32,
}

impl BackOff {
    pub(crate) fn after_death(&mut self, lived: Duration) -> Duration {
        if lived >= HEALTHY_AFTER {
            self.deaths = 0;
        }
        let wait = FIRST.saturating_mul(2_u32.saturating_pow(self.deaths)).min(LONGEST);
        self.deaths = self.deaths.saturating_add(1);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_start_again_after_a_child_ran_ten_seconds() {
        let mut back_off = BackOff::default();
        let mut waits: Vec<_> = (0..6).map(|_| back_off.after_death(Duration::ZERO).as_millis()).collect();
        waits.push(back_off.after_death(HEALTHY_AFTER).as_millis());
        assert_eq!(waits, [200, 400, 800, 1600, 3200, 5000, 200]);
        back_off.deaths = u32::MAX;
        assert_eq!(back_off.after_death(Duration::ZERO), LONGEST);
    }
}
