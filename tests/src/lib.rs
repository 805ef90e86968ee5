//! Shared parts of the tests of the whole pair: the services' contract for the checker, and their programs.

use checker::Contract;
use journal::State;
use journal::rule::ReplayError;
use local::pair::Programs;
use order_service::domain::Status;

/// The contract of both services: legal moves and rules, from the services' own code.
pub fn contract() -> Contract<'static> {
    let orders = order_service::domain::TRANSITIONS.into_iter().map(|(from, to)| (Status::KIND, from, to));
    let stock = inventory_service::domain::TRANSITIONS;
    Contract::new(orders.chain(stock), |rule, inputs| {
        match order_service::domain::decisions::replay(rule, inputs) {
            Err(ReplayError::UnknownRule(_)) => inventory_service::domain::replay(rule, inputs),
            decided => decided,
        }
    })
}

/// The programs of both services, both of which are the binary `pair`.
pub fn programs(pair: &str) -> Programs {
    Programs::mainstay(pair.as_ref())
}
