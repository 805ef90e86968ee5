//! The containers as a person starts them: the real compose file, the published ports, and faults that docker itself
//! makes. Needs a docker daemon, so it runs by `tests/compose/run.sh` and not with the other tests.
//!
//! One stack serves all tests, which run one after the other in the order in which they stand here; the last one
//! holds all that happened against the contract.

#![allow(clippy::unwrap_used)] // a test that cannot go on says so

mod checked;
mod faults;
mod hardening;
mod load;
mod ordinary;
mod shop;
mod stack;
mod tunnel;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial, run};

use crate::shop::Shop;
use crate::stack::Stack;

/// What every test works on.
#[derive(Debug)]
struct House {
    stack: Stack,
    shop: Arc<Shop>,
}

impl House {
    async fn open() -> Self {
        let stack = Stack::up().await;
        let shop = Arc::new(Shop::open(&stack).await);
        Self { stack, shop }
    }
}

/// The named functions, as tests of one house.
macro_rules! trials {
    ($house:expr, $runtime:expr, [$($test:path,)*]) => {
        vec![$({
            let (house, runtime) = ($house.clone(), $runtime.handle().clone());
            Trial::test(stringify!($test), move || {
                let house = house.as_ref().expect("only a list is made without a house");
                runtime.block_on($test(house));
                Ok(())
            })
        },)*]
    };
}

fn main() -> ExitCode {
    // One stack: what one test breaks, another would notice.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let house = (!arguments.list).then(|| runtime.block_on(House::open())).map(Arc::new);
    let trials = trials!(
        house,
        runtime,
        [
            ordinary::each_schema_was_migrated_by_its_owner_before_its_service_started,
            ordinary::only_health_and_metrics_can_be_read_without_a_token,
            ordinary::orders_are_placed_confirmed_and_cancelled,
            hardening::no_process_is_root_or_can_become_it,
            hardening::root_file_systems_are_read_only,
            hardening::every_container_has_limits,
            hardening::nothing_is_published_beyond_loopback,
            hardening::the_database_is_on_a_network_that_reaches_nothing_else,
            hardening::no_secret_shows_and_each_service_has_only_its_own,
            faults::a_paused_inventory_leaves_orders_undecided_and_none_lost,
            faults::an_inventory_without_a_network_leaves_orders_undecided_and_none_lost,
            faults::a_killed_inventory_leaves_orders_undecided_and_none_lost,
            faults::a_killed_database_is_said_and_loses_nothing,
            faults::a_service_that_ends_is_started_again,
            checked::all_that_happened_is_within_the_contract,
        ]
    );
    let conclusion = run(&arguments, trials);
    if conclusion.has_failed()
        && let Some(house) = &house
    {
        runtime.block_on(house.stack.print_logs());
    }
    // Takes the stack down, which an exit would not wait for.
    drop(house);
    conclusion.exit_code()
}
