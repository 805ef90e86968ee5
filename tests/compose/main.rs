//! Test of the containers, with the real compose file, the published ports, and faults caused by docker commands.
//!
//! The test needs a docker daemon, so `tests/compose/run.sh` runs it and a plain `cargo test` does not.
//!
//! All tests use one stack and run one after the other, in the order below. The last test checks the whole history
//! against the contract.

#![allow(clippy::unwrap_used)] // a failed `unwrap` fails the test and shows the error

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

/// The stack and its clients, which all tests share.
#[derive(Debug)]
struct Fixture {
    stack: Stack,
    shop: Arc<Shop>,
}

impl Fixture {
    async fn start() -> Self {
        let stack = Stack::up().await;
        let shop = Arc::new(Shop::open(&stack).await);
        Self { stack, shop }
    }
}

/// Makes a list of tests from functions that take the fixture.
macro_rules! trials {
    ($fixture:expr, $runtime:expr, [$($test:path,)*]) => {
        vec![$({
            let (fixture, runtime) = ($fixture.clone(), $runtime.handle().clone());
            Trial::test(stringify!($test), move || {
                let fixture = fixture.as_ref().expect("the fixture is missing only with --list, which runs no test");
                runtime.block_on($test(fixture));
                Ok(())
            })
        },)*]
    };
}

fn main() -> ExitCode {
    // One thread, because all tests share the stack and a fault of one test would disturb the others.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let runtime = tokio::runtime::Runtime::new().expect("the operating system gives threads for the runtime");
    let fixture = (!arguments.list).then(|| runtime.block_on(Fixture::start())).map(Arc::new);
    let trials = trials!(
        fixture,
        runtime,
        [
            ordinary::each_schema_was_migrated_by_its_owner_before_its_service_started,
            ordinary::only_health_and_metrics_can_be_read_without_a_token,
            ordinary::orders_are_placed_confirmed_and_cancelled,
            hardening::no_image_can_inject_faults,
            hardening::no_process_runs_as_root_or_can_become_root,
            hardening::root_file_systems_are_read_only,
            hardening::every_container_has_limits,
            hardening::nothing_is_published_beyond_loopback,
            hardening::the_database_is_on_a_network_that_reaches_nothing_else,
            hardening::no_secret_is_visible_and_each_service_has_only_its_own,
            faults::a_paused_inventory_leaves_orders_undecided_and_loses_none,
            faults::an_inventory_without_a_network_leaves_orders_undecided_and_loses_none,
            faults::a_killed_inventory_leaves_orders_undecided_and_loses_none,
            faults::a_killed_database_is_answered_503_and_loses_no_order,
            faults::a_service_that_exits_is_restarted,
            checked::the_whole_history_follows_the_contract,
        ]
    );
    let conclusion = run(&arguments, trials);
    if conclusion.has_failed()
        && let Some(fixture) = &fixture
    {
        runtime.block_on(fixture.stack.print_logs());
    }
    // Dropping the fixture takes the stack down. Returning from `main` would not wait for that.
    drop(fixture);
    conclusion.exit_code()
}
