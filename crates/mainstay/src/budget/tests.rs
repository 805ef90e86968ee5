//! The budget compared with a complete ledger.

use proptest::prelude::*;

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_withdrawal_is_paid_by_deposits_or_the_floor(
        percent in 0_u32..=100,
        floor_per_second in 0_u32..3,
        steps in prop::collection::vec((0_u64..400, 0_usize..20, 0_usize..6), 1..200),
    ) {
        let base = Instant::now();
        let config = BudgetConfig { percent, floor_per_second, ..BudgetConfig::default() };
        let (core, mut now) = (Core::new(&config, base), base);
        let (mut deposits, mut paid, mut free) = (Vec::new(), Vec::new(), Vec::<Instant>::new());
        for (pause, good, tries) in steps {
            now += Duration::from_millis(pause);
            for _ in 0..good {
                core.deposit(now);
                deposits.push(now);
            }
            for _ in 0..tries {
                // Slots of 100 ms, as in the window.
                let slot = |at: Instant| (at - base).as_millis() / 100;
                let live = |list: &[Instant]| list.iter().filter(|at| slot(**at) + 100 > slot(now)).count();
                let earned = live(&deposits) * percent as usize / 100;
                let due = live(&paid) < earned;
                let floor = floor_per_second > 0
                    && free.last().is_none_or(|at| now - *at >= Duration::from_secs(1) / floor_per_second);
                match core.withdraw(now) {
                    Ok(()) if due => paid.push(now),
                    Ok(()) => {
                        prop_assert!(floor, "granted, though neither earned nor due from the floor");
                        free.push(now);
                    }
                    Err(spent) => {
                        prop_assert!(!due && !floor, "refused, though {spent}");
                        prop_assert_eq!(usize::try_from(spent.allowed).unwrap(), earned);
                    }
                }
            }
        }
    }
}

#[test]
fn a_client_without_answers_can_still_retry_once_a_second() {
    let base = Instant::now();
    let core = Core::new(&BudgetConfig::default(), base);
    let granted =
        (0..100_u64).filter(|tenth| core.withdraw(base + Duration::from_millis(tenth * 100)).is_ok()).count();
    assert_eq!(granted, 10, "in ten seconds");
}

#[test]
fn settings_out_of_range_are_named() {
    let wrong = BudgetConfig { percent: 101, ..BudgetConfig::default() };
    assert_eq!(RetryBudget::new(&wrong).unwrap_err().problems[0].field, "budget.percent");
}
