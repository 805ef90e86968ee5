//! Sales and returns, read from a file in the columns of UCI's Online Retail, or generated, and made into a plan of
//! orders, cancellations, receipts and initial stock.

mod fields;
mod file;
mod generator;
mod invoices;
mod lines;
mod plan;
mod row_issues;

use inventory_api::Line;

use crate::screen::grouped;

pub(crate) use file::read;
pub(crate) use generator::{Generator, generate};
pub(crate) use plan::{Fate, Item, Plan, Return, Sale, Step};
pub(crate) use row_issues::RowIssues;

/// The customer of an invoice without one.
pub(crate) const GUEST: &str = "guest";

/// All invoices of a file, or of the generator, in their order.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ledger {
    pub(crate) invoices: Vec<Invoice>,
    /// The first non-blank description of each SKU.
    pub(crate) names: std::collections::BTreeMap<String, String>,
    /// The number of rows read, without the header and empty lines. Each row is taken, left out or refused.
    pub(crate) rows: u64,
    /// The number of lines read: the header, the rows and the empty lines. Zero for generated orders.
    pub(crate) lines: u64,
    pub(crate) issues: RowIssues,
}

impl Ledger {
    /// The sums of all lines that were read, which a reader can check against the file; empty for generated orders.
    pub(crate) fn accounts(&self) -> String {
        if self.lines == 0 {
            return String::new();
        }
        let (refused, left_out) = (self.issues.refused(), self.issues.left_out());
        format!(
            "{} lines read: 1 header, {} empty, {} rows. Of the rows {} are in orders and returns, {} left out, {} refused.",
            grouped(self.lines),
            grouped(self.lines - 1 - self.rows),
            grouped(self.rows),
            grouped(self.rows - left_out - refused),
            grouped(left_out),
            grouped(refused)
        )
    }
}

/// An invoice: a sale or a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invoice {
    pub(crate) number: String,
    pub(crate) kind: Kind,
    pub(crate) customer: String,
    /// Lines with distinct SKUs, in the order of the file; quantities are above zero.
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sale,
    /// An invoice whose number begins with `C`. It does not name the sale that it returns.
    Return,
}

impl Kind {
    fn of(number: &str) -> Self {
        if number.starts_with(['C', 'c']) { Self::Return } else { Self::Sale }
    }
}
