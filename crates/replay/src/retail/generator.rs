//! Generated orders, for a replay without a file: a small shop whose goods and customers are as unequal as real ones.
//!
//! The popularity of the k-th SKU is proportional to 1/k (Zipf's law, as sales ranks roughly are), so that a few
//! rows of inventory are contended and most are not. The same seed gives the same shop and the same orders.

use inventory_api::Line;
use mainstay::random::Random;

use super::ledger::{GUEST, Invoice, Kind, Ledger};

/// The parameters of the generator.
#[derive(Debug, Clone, Copy)]
pub struct Generator {
    pub seed: u64,
    /// The number of invoices, returns included.
    pub invoices: usize,
}

const SKUS: usize = 240;
const CUSTOMERS: usize = 300;
/// The number of latest sales that a customer may return.
const RETURNS_OF_LAST: u64 = 40;
/// The share of returns: 8 %, as in the first days of the real data; there one basket in nine has no customer.
const RETURNS: f64 = 0.08;
const GUESTS: f64 = 0.11;

const COLOURS: [&str; 12] =
    ["WHITE", "RED", "BLUE", "GREEN", "BLACK", "IVORY", "PINK", "AMBER", "GREY", "COPPER", "TEAL", "PLAIN"];
const THINGS: [&str; 20] = [
    "MUG",
    "PLATE",
    "BOWL",
    "LANTERN",
    "CANDLE",
    "TRAY",
    "CLOCK",
    "JUG",
    "TIN",
    "BASKET",
    "CUSHION",
    "FRAME",
    "KETTLE",
    "TEA TOWEL",
    "VASE",
    "LAMP",
    "NOTEBOOK",
    "SPOON",
    "COAT HOOK",
    "DOOR STOP",
];

/// A distribution over 0..n in which k has a weight of 1/(k+1).
struct Zipf {
    cumulative: Vec<f64>,
}

impl Zipf {
    #[allow(clippy::cast_precision_loss)] // ranks are below a thousand
    fn new(n: usize) -> Self {
        let mut total = 0.0;
        let cumulative = (1..=n)
            .map(|rank| {
                total += 1.0 / rank as f64;
                total
            })
            .collect();
        Self { cumulative }
    }

    fn draw(&self, random: &Random) -> usize {
        let total = self.cumulative.last().copied().unwrap_or_default();
        let point = random.next_f64() * total;
        self.cumulative.partition_point(|sum| *sum <= point)
    }
}

/// Generates a ledger, as a function of the seed.
pub fn generate(generator: Generator) -> Ledger {
    let random = Random::seeded(generator.seed);
    let goods = Zipf::new(SKUS);
    let customers = Zipf::new(CUSTOMERS);
    let mut ledger = Ledger::default();
    for number in 0..generator.invoices {
        let invoice = match returned(&ledger.invoices, &random) {
            Some(invoice) => invoice,
            None => sold(number, &goods, &customers, &random),
        };
        for line in &invoice.lines {
            ledger.names.entry(line.sku.clone()).or_insert_with(|| name(&line.sku));
        }
        ledger.rows += invoice.lines.len() as u64;
        ledger.invoices.push(invoice);
    }
    ledger
}

fn sold(number: usize, goods: &Zipf, customers: &Zipf, random: &Random) -> Invoice {
    let mut lines: Vec<Line> = Vec::new();
    // One line, and another one with a probability of three fifths each time: 2.5 lines on average.
    loop {
        let sku = sku(goods.draw(random));
        if !lines.iter().any(|line| line.sku == sku) {
            lines.push(Line { sku, quantity: quantity(random) });
        }
        if !random.chance(0.6) {
            break;
        }
    }
    let customer =
        if random.chance(GUESTS) { GUEST.to_owned() } else { (12_346 + customers.draw(random)).to_string() };
    Invoice { number: (600_000 + number).to_string(), kind: Kind::Sale, customer, lines }
}

/// Draws a quantity: single, pair, half dozen or dozen, as goods are sold.
fn quantity(random: &Random) -> i64 {
    const USUAL: [i64; 8] = [1, 1, 1, 2, 2, 4, 6, 12];
    USUAL[below(USUAL.len() as u64, random)]
}

/// Sometimes returns one of the latest sales: all of it, or its first line only.
fn returned(earlier: &[Invoice], random: &Random) -> Option<Invoice> {
    if !random.chance(RETURNS) {
        return None;
    }
    let back = below(RETURNS_OF_LAST, random);
    let sale = earlier.iter().rev().filter(|invoice| invoice.kind == Kind::Sale).nth(back)?;
    let whole = random.chance(0.5);
    let count = if whole { sale.lines.len() } else { 1 };
    Some(Invoice {
        number: format!("C{}", sale.number),
        kind: Kind::Return,
        customer: sale.customer.clone(),
        lines: sale.lines[..count].to_vec(),
    })
}

fn below(n: u64, random: &Random) -> usize {
    usize::try_from(random.next_u64() % n).expect("a remainder of a small number is small")
}

fn sku(rank: usize) -> String {
    (20_000 + rank).to_string()
}

fn name(sku: &str) -> String {
    let rank: usize = sku.parse().unwrap_or_default();
    format!("{} {}", COLOURS[rank % COLOURS.len()], THINGS[rank / COLOURS.len() % THINGS.len()])
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_orders_and_another_gives_others() {
        let of = |seed| generate(Generator { seed, invoices: 50 });
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_few_skus_make_most_of_the_sales() {
        let goods = Zipf::new(SKUS);
        let random = Random::seeded(3);
        let mut drawn = vec![0_u32; SKUS];
        for _ in 0..60_000 {
            drawn[goods.draw(&random)] += 1;
        }
        // The harmonic number of 240 is 6.06: the first SKU has a 1/6.06 share, the second half of that, and
        // the first ten 2.93/6.06.
        let near = |count: u32, share: f64| (f64::from(count) - 60_000.0 * share).abs() < 600.0;
        assert!(near(drawn[0], 1.0 / 6.06), "{}", drawn[0]);
        assert!(near(drawn[1], 0.5 / 6.06), "{}", drawn[1]);
        assert!(near(drawn[..10].iter().sum(), 2.93 / 6.06));
        assert!(drawn.iter().all(|count| *count > 0));
    }

    #[test]
    fn every_invoice_is_valid_and_every_return_matches_a_sale() {
        let ledger = generate(Generator { seed: 7, invoices: 2_000 });
        let mut sold: HashMap<&str, HashSet<&Line>> = HashMap::new();
        let mut returns = 0;
        for invoice in &ledger.invoices {
            assert!(inventory_api::validate::lines(&invoice.lines).is_empty());
            if invoice.kind == Kind::Sale {
                sold.entry(&invoice.customer).or_default().extend(&invoice.lines);
            } else {
                returns += 1;
                assert!(invoice.lines.iter().all(|line| sold[&*invoice.customer].contains(line)));
            }
        }
        assert!((100..220).contains(&returns), "{returns}");
        assert_eq!(ledger.names["20000"].split(' ').count(), 2);
    }
}
