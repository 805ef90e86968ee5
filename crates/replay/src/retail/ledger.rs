//! The invoices of a file or of the generator, with the account of all rows.

use std::collections::BTreeMap;

use inventory_api::Line;

use super::row_issues::RowIssues;
use crate::text::grouped;

/// The customer of an invoice without one.
pub const GUEST: &str = "guest";

/// All invoices of a file, or of the generator, in their order.
#[derive(Debug, Default, PartialEq)]
pub struct Ledger {
    pub invoices: Vec<Invoice>,
    /// The first non-blank description of each SKU.
    pub names: BTreeMap<String, String>,
    /// The number of rows read, without the header and empty lines. Each row is taken, left out or refused.
    pub rows: u64,
    /// The number of lines read: the header, the rows and the empty lines. Zero for generated orders.
    pub lines: u64,
    pub issues: RowIssues,
}

impl Ledger {
    /// The sums of all lines that were read, which a reader can check against the file; empty for generated orders.
    pub(super) fn accounts(&self) -> String {
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

    /// The account of the file's rows: sums, unusual rows by reason, and refused rows by line. Ends with an empty line if
    /// it is not empty.
    pub fn account_of_rows(&self, source: &str) -> String {
        let mut parts = Vec::new();
        if self.lines > 0 {
            parts.push(format!("\n{source}: {}", self.accounts()));
        }
        if !self.issues.is_empty() {
            parts.push(format!("\nUnusual rows of {source}:\n\n{}", self.issues));
        }
        if self.issues.refused() > 0 {
            parts.push(self.issues.refusals());
        }
        parts.join("\n")
    }
}

/// An invoice: a sale or a return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoice {
    pub number: String,
    pub kind: Kind,
    pub customer: String,
    /// Lines with distinct SKUs, in the order of the file; quantities are above zero.
    pub lines: Vec<Line>,
}

/// The kind of an invoice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sale,
    /// An invoice whose number begins with `C`. It does not name the sale that it returns.
    Return,
}

impl Kind {
    pub(super) fn of(number: &str) -> Self {
        if number.starts_with(['C', 'c']) { Self::Return } else { Self::Sale }
    }
}
