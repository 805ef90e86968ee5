//! The plan of a replay, made before the first request: which orders are confirmed and which cancelled, which return
//! cancels which order, and the initial stock. It is a pure function of the ledger, so a replay is the same for every
//! behaviour of the services.

use std::collections::{BTreeMap, HashMap};

use inventory_api::Line;

use super::ledger::{GUEST, Kind, Ledger};
use crate::text::grouped;

/// One order in this many is cancelled by its customer instead of confirmed.
const CANCELLED_ONE_IN: usize = 16;
/// At most one order in this many has a SKU that runs out. Half of its demand is in stock, so about half of these
/// orders are refused.
const SHORT_ONE_IN: usize = 12;
/// The stock of every other SKU, in percent of its demand.
const AMPLE_PERCENT: i64 = 120;
/// The largest stock of an item that inventory accepts.
const MAX_ON_HAND: i64 = 1_000_000_000;

/// The items and actions of a replay, in order.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub items: Vec<Item>,
    pub actions: Vec<Action>,
}

/// An item with its initial stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    pub sku: String,
    pub name: String,
    pub on_hand: i64,
}

/// An order or a return, begun at its time in the schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Sale(Sale),
    Return(Return),
}

/// An order, and its customer's action after the reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sale {
    pub invoice: String,
    pub customer: String,
    pub lines: Vec<Line>,
    pub fate: Fate,
}

/// The customer's action after the reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Confirm,
    Cancel,
    /// No action: a later return cancels the order.
    AwaitReturn,
}

/// A return of goods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Return {
    /// A return that cancels the sale of this action, which was left unconfirmed for it.
    OfSale { invoice: String, sale: usize },
    /// A return that matches no sale of this replay: the goods go back into stock.
    IntoStock { invoice: String, lines: Vec<Line> },
}

impl Plan {
    /// Makes the plan of a ledger.
    pub fn of(ledger: &Ledger) -> Self {
        let mut actions: Vec<Action> = Vec::with_capacity(ledger.invoices.len());
        // The sales to each customer with exactly these lines that no return has taken, the latest last.
        let mut unclaimed: HashMap<(&str, Vec<Line>), Vec<usize>> = HashMap::new();
        let mut sales = 0;
        for (at, invoice) in ledger.invoices.iter().enumerate() {
            let mut lines = invoice.lines.clone();
            lines.sort();
            let basket = (invoice.customer.as_str(), lines);
            let action = match invoice.kind {
                Kind::Sale => {
                    // Many customers share the name of the guest, so equal lines of two guests do not match.
                    if invoice.customer != GUEST {
                        unclaimed.entry(basket).or_default().push(at);
                    }
                    sales += 1;
                    let is_cancelled = sales % CANCELLED_ONE_IN == 0;
                    Action::Sale(Sale {
                        invoice: invoice.number.clone(),
                        customer: invoice.customer.clone(),
                        lines: invoice.lines.clone(),
                        fate: if is_cancelled { Fate::Cancel } else { Fate::Confirm },
                    })
                }
                Kind::Return => match unclaimed.get_mut(&basket).and_then(Vec::pop) {
                    Some(at) => {
                        if let Some(Action::Sale(sale)) = actions.get_mut(at) {
                            sale.fate = Fate::AwaitReturn;
                        }
                        Action::Return(Return::OfSale { invoice: invoice.number.clone(), sale: at })
                    }
                    None => Action::Return(Return::IntoStock {
                        invoice: invoice.number.clone(),
                        lines: invoice.lines.clone(),
                    }),
                },
            };
            actions.push(action);
        }
        Self { items: items(ledger, &actions), actions }
    }

    /// The number of sales.
    fn sales(&self) -> usize {
        self.actions.iter().filter(|action| matches!(action, Action::Sale(_))).count()
    }

    /// A line about the plan and the rows that it was made from.
    pub fn summary(&self, ledger: &Ledger) -> String {
        format!(
            "{} rows, {} orders and {} returns, {} SKUs",
            grouped(ledger.rows),
            grouped(self.sales() as u64),
            grouped((self.actions.len() - self.sales()) as u64),
            grouped(self.items.len() as u64)
        )
    }
}

/// Every SKU of the ledger with its stock: more than all orders together need. A few SKUs, chosen by a hash of their
/// names, have half of it.
fn items(ledger: &Ledger, actions: &[Action]) -> Vec<Item> {
    let mut demand: BTreeMap<&str, (i64, usize)> = BTreeMap::new();
    let mut sales = 0;
    for action in actions {
        match action {
            Action::Sale(sale) => {
                sales += 1;
                for line in &sale.lines {
                    let (pieces, orders) = demand.entry(&line.sku).or_default();
                    *pieces += line.quantity;
                    *orders += 1;
                }
            }
            Action::Return(Return::IntoStock { lines, .. }) => {
                for line in lines {
                    demand.entry(&line.sku).or_default();
                }
            }
            Action::Return(Return::OfSale { .. }) => {}
        }
    }
    let mut may_be_short = sales / SHORT_ONE_IN;
    let mut by_chance: Vec<_> = demand.keys().copied().collect();
    by_chance.sort_by_key(|sku| scattered(sku));
    let mut is_short: HashMap<&str, bool> = HashMap::new();
    for sku in by_chance {
        let orders = demand[sku].1;
        let chosen = orders > 0 && orders <= may_be_short;
        if chosen {
            may_be_short -= orders;
        }
        is_short.insert(sku, chosen);
    }
    demand
        .into_iter()
        .map(|(sku, (pieces, _))| Item {
            sku: sku.to_owned(),
            name: ledger.names.get(sku).cloned().unwrap_or_default(),
            on_hand: if is_short[sku] { pieces / 2 } else { pieces * AMPLE_PERCENT / 100 + 1 }
                .min(MAX_ON_HAND),
        })
        .collect()
}

/// FNV-1a hash: a fixed order of the SKUs that does not follow their names.
fn scattered(sku: &str) -> u64 {
    sku.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::super::generator::{Generator, generate};
    use super::super::ledger::Invoice;
    use super::*;

    fn invoice(number: &str, customer: &str, lines: &[(&str, i64)]) -> Invoice {
        let lines = lines.iter().map(|(sku, quantity)| Line { sku: (*sku).to_owned(), quantity: *quantity });
        let kind = Kind::of(number);
        Invoice { number: number.to_owned(), kind, customer: customer.to_owned(), lines: lines.collect() }
    }

    fn plan(invoices: Vec<Invoice>) -> Plan {
        Plan::of(&Ledger { invoices, ..Ledger::default() })
    }

    fn fates(plan: &Plan) -> Vec<String> {
        let word = |action: &Action| match action {
            Action::Sale(sale) => format!("{:?}", sale.fate),
            Action::Return(Return::OfSale { sale, .. }) => format!("cancels {sale}"),
            Action::Return(Return::IntoStock { .. }) => "into stock".to_owned(),
        };
        plan.actions.iter().map(word).collect()
    }

    #[test]
    fn a_return_cancels_the_latest_order_of_that_customer_with_those_lines() {
        let plan = plan(vec![
            invoice("1", "7", &[("a", 1), ("b", 2)]),
            invoice("2", "7", &[("a", 1), ("b", 2)]),
            invoice("3", "8", &[("a", 1), ("b", 2)]),
            // The same lines in another order.
            invoice("C4", "7", &[("b", 2), ("a", 1)]),
            invoice("C5", "7", &[("a", 1), ("b", 2)]),
            invoice("C6", "7", &[("a", 1), ("b", 2)]),
        ]);
        let expected = ["AwaitReturn", "AwaitReturn", "Confirm", "cancels 1", "cancels 0", "into stock"];
        assert_eq!(fates(&plan), expected);
    }

    #[test]
    fn other_lines_other_customers_guests_and_later_sales_are_no_match() {
        let plan = plan(vec![
            invoice("1", "7", &[("a", 2)]),
            invoice("C2", "7", &[("a", 1)]),
            invoice("C3", "8", &[("a", 2)]),
            invoice("4", GUEST, &[("a", 5)]),
            invoice("C5", GUEST, &[("a", 5)]),
            invoice("C6", "9", &[("z", 3)]),
            invoice("7", "9", &[("z", 3)]),
        ]);
        assert_eq!(
            fates(&plan),
            ["Confirm", "into stock", "into stock", "Confirm", "into stock", "into stock", "Confirm"]
        );
    }

    #[test]
    fn a_return_of_a_sku_that_was_never_sold_creates_its_item() {
        let plan = plan(vec![invoice("C1", "7", &[("D", 1)])]);
        assert_eq!(plan.items, [Item { sku: "D".to_owned(), name: String::new(), on_hand: 1 }]);
    }

    #[test]
    fn initial_stock_stays_within_inventorys_limit_for_any_demand() {
        let invoices = (0..900).map(|n| invoice(&n.to_string(), "7", &[("a", 1_000_000)])).collect();
        assert_eq!(plan(invoices).items[0].on_hand, MAX_ON_HAND);
    }

    #[test]
    fn most_orders_can_be_met_and_some_cannot() {
        let plan = Plan::of(&generate(Generator { seed: 42, invoices: 1_500 }));
        let mut stock: HashMap<_, _> = plan.items.iter().map(|item| (&*item.sku, item.on_hand)).collect();
        let mut refused = 0;
        for action in &plan.actions {
            let Action::Sale(sale) = action else { continue };
            if sale.lines.iter().all(|line| stock[&*line.sku] >= line.quantity) {
                for line in &sale.lines {
                    *stock.get_mut(&*line.sku).unwrap() -= line.quantity;
                }
            } else {
                refused += 1;
            }
        }
        let percent = refused * 100 / plan.sales();
        assert!((2..10).contains(&percent), "{refused} of {}", plan.sales());
        let cancelled = fates(&plan).iter().filter(|fate| *fate == "Cancel").count();
        assert!((60..120).contains(&cancelled), "{cancelled}");
        assert!(fates(&plan).iter().any(|fate| fate.starts_with("cancels")));
    }
}
