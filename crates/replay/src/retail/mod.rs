//! Sales and returns, read from a file in the columns of UCI's Online Retail, or generated, and made into a plan of
//! orders, cancellations, receipts and initial stock.

mod fields;
mod file;
mod generator;
mod header;
mod invoices;
mod ledger;
mod lines;
mod plan;
mod row_issues;

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;

pub use file::read;
pub use generator::{Generator, generate};
pub use header::NotRetail;
pub use ledger::{GUEST, Invoice, Kind, Ledger};
pub use plan::{Action, Fate, Item, Plan, Return, Sale};
pub use row_issues::RowIssues;

/// The invoices of a file, or generated ones; `limit` at most.
pub fn load(file: Option<&Path>, seed: u64, limit: usize) -> anyhow::Result<Ledger> {
    let Some(path) = file else { return Ok(generate(Generator { seed, invoices: limit })) };
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let ledger = read(BufReader::new(file), Some(limit));
    ledger.with_context(|| format!("{} cannot be replayed", path.display()))
}
