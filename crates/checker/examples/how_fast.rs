//! Measures a check of about 100,000 entries and of twice as many: the time must double, not quadruple.

use checker::sample;

fn main() {
    let contract = sample::contract();
    for orders in [18_000, 36_000] {
        let history = sample::healthy(orders);
        let began = tokio::time::Instant::now();
        let report = history.check(&contract);
        let took = began.elapsed();
        assert!(report.is_clean(), "{report}");
        println!("{} entries in {took:?}", report.entries);
    }
}
