//! The tables in Markdown.

use std::collections::HashMap;

use layer_benches::Baseline;
use layer_benches::traps::Caught;

use crate::measure::Spread;
use crate::{Grown, Row};

fn spread(of: Spread, digits: usize) -> String {
    let Spread { median, least, most } = of;
    format!("{median:.digits$} [{least:.digits$}–{most:.digits$}]")
}

fn number(of: Option<f64>, less: Option<f64>, digits: usize) -> String {
    match (of, less) {
        (Some(of), Some(less)) => format!("{:.digits$}", of - less),
        _ => "–".to_owned(),
    }
}

pub(crate) fn layers(rows: &[Row]) {
    println!(
        "| group | library | row | ns a call | added ns | added instructions | added allocations | ns a call, two threads | calls a second, two threads to one |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut group = "";
    for row in rows {
        let variant = &row.variant;
        let title = if variant.group == group { "" } else { variant.group };
        group = variant.group;
        let baseline =
            |b: Baseline| rows.iter().find(|r| r.variant.group == "none" && r.variant.baseline == b);
        let base = baseline(variant.baseline).filter(|_| group != "none" && group != "for scale");
        let base = base.map_or((Some(0.0), Some(0.0)), |base| (base.instructions, base.allocations));
        let added =
            if matches!(group, "none" | "for scale") { "–".to_owned() } else { spread(row.added, 0) };
        println!(
            "| {title} | {} | {} | {} | {added} | {} | {} | {} | {} |",
            variant.owner,
            variant.name,
            spread(row.ns, 0),
            number(row.instructions, base.0, 0),
            number(row.allocations, base.1, 1),
            spread(row.two, 0),
            spread(row.relative, 2),
        );
    }
    println!();
}

pub(crate) fn growth(rows: &[Grown]) {
    println!("| breaker | window | calls in it | ns a call | instructions a call |");
    println!("|---|---|---|---|---|");
    for Grown { filled, ns, instructions } in rows {
        println!(
            "| {} | {} s | {} | {} | {} |",
            filled.owner,
            filled.window.as_secs(),
            filled.calls,
            spread(*ns, 0),
            number(*instructions, Some(0.0), 0),
        );
    }
    println!();
}

pub(crate) fn traps(rows: &[Caught]) {
    println!(
        "| breaker | failures that open it after 10,000 successes | of 100 calls at once, let through half-open | closed by a call from before it opened |"
    );
    println!("|---|---|---|---|");
    for Caught { name, failures_to_open, probes, straggler_closes } in rows {
        let failures = failures_to_open.map_or("more than 100,000".to_owned(), |n| n.to_string());
        let straggler = match straggler_closes {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not asked: it lets all through",
        };
        println!("| {name} | {failures} | {probes} | {straggler} |");
    }
    println!();
}

pub(crate) fn bytes(allocations: &HashMap<String, (f64, f64)>) {
    println!("| breaker | bytes kept |");
    println!("|---|---|");
    let mut rows: Vec<_> =
        allocations.iter().filter_map(|(id, (_, bytes))| Some((id.strip_prefix("bytes/")?, bytes))).collect();
    rows.sort_by(|a, b| a.0.cmp(b.0));
    for (name, bytes) in rows {
        println!("| {name} | {bytes} |");
    }
}
