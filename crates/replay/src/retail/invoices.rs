//! The invoices of a file: each row is taken, taken with a note, left out or refused.

use std::collections::{BTreeMap, HashMap};

use inventory_api::Line;
use inventory_api::validate::{MAX_LINES, MAX_QUANTITY, is_identifier};

use super::ledger::{GUEST, Invoice, Kind, Ledger};
use super::row_issues::{Reason, RowIssues};

/// The longest item name that inventory accepts, in characters.
const MAX_NAME: usize = 200;

/// A row with trimmed fields.
pub(super) struct Row<'a> {
    pub(super) line: u64,
    pub(super) invoice: &'a [u8],
    pub(super) sku: &'a [u8],
    pub(super) description: &'a [u8],
    pub(super) quantity: &'a [u8],
    pub(super) price: &'a [u8],
    pub(super) customer: &'a [u8],
}

/// An invoice that may get further rows.
struct Open {
    number: String,
    customer: String,
    first_line: u64,
    lines: Vec<Line>,
    /// The index of each SKU in `lines`.
    at: HashMap<String, usize>,
}

/// The invoices so far, in the order of their first rows.
pub(super) struct Invoices {
    limit: usize,
    is_complete: bool,
    open: Vec<Open>,
    by_number: HashMap<String, usize>,
    names: BTreeMap<String, String>,
    rows: u64,
    issues: RowIssues,
}

impl Invoices {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            is_complete: false,
            open: Vec::new(),
            by_number: HashMap::new(),
            names: BTreeMap::new(),
            rows: 0,
            issues: RowIssues::default(),
        }
    }

    /// Returns whether the first invoice beyond the limit has begun.
    pub(super) fn are_complete(&self) -> bool {
        self.is_complete
    }

    /// Counts a row that cannot be split into its fields.
    pub(super) fn refuse(&mut self, reason: Reason, line: u64) {
        self.rows += 1;
        self.issues.count(reason, line);
    }

    /// Notes a reason for a row that is counted elsewhere.
    pub(super) fn note(&mut self, reason: Reason, line: u64) {
        self.issues.count(reason, line);
    }

    pub(super) fn take(&mut self, row: &Row<'_>) {
        if row.invoice.is_empty() {
            return self.refuse(Reason::NoInvoice, row.line);
        }
        let number = String::from_utf8_lossy(row.invoice).into_owned();
        let Some(at) = self.open_invoice(number, row) else { return };
        self.rows += 1;
        match checked(row, Kind::of(&self.open[at].number)) {
            Err(reason) => self.issues.count(reason, row.line),
            Ok((sku, quantity)) => self.add(at, sku, quantity, row),
        }
    }

    /// The index of the row's invoice, which is opened if it is new; `None` when it would exceed the limit.
    fn open_invoice(&mut self, number: String, row: &Row<'_>) -> Option<usize> {
        if let Some(at) = self.by_number.get(&number) {
            match customer(row) {
                Ok(customer) if customer == self.open[*at].customer => {}
                Err(reason) if self.open[*at].customer == GUEST => self.issues.count(reason, row.line),
                Ok(_) | Err(_) => self.issues.count(Reason::OtherCustomer, row.line),
            }
            return Some(*at);
        }
        if self.open.len() >= self.limit {
            self.is_complete = true;
            return None;
        }
        let customer = customer(row).unwrap_or_else(|reason| {
            self.issues.count(reason, row.line);
            GUEST
        });
        self.by_number.insert(number.clone(), self.open.len());
        self.open.push(Open {
            number,
            customer: customer.to_owned(),
            first_line: row.line,
            lines: Vec::new(),
            at: HashMap::new(),
        });
        Some(self.open.len() - 1)
    }

    fn add(&mut self, at: usize, sku: &str, quantity: i64, row: &Row<'_>) {
        let open = &mut self.open[at];
        if let Some(line) = open.at.get(sku).map(|line| &mut open.lines[*line]) {
            if line.quantity + quantity > MAX_QUANTITY {
                return self.issues.count(Reason::OverLimit, row.line);
            }
            line.quantity += quantity;
            self.issues.count(Reason::RepeatedSku, row.line);
        } else {
            open.at.insert(sku.to_owned(), open.lines.len());
            open.lines.push(Line { sku: sku.to_owned(), quantity });
        }
        if !sku.starts_with(|first: char| first.is_ascii_digit()) {
            self.issues.count(Reason::NotAnArticle, row.line);
        }
        let name = self.name(row);
        let known = self.names.entry(sku.to_owned()).or_default();
        if known.is_empty() {
            *known = name;
        }
        match std::str::from_utf8(row.price).ok().and_then(|text| text.replace(',', ".").parse::<f64>().ok())
        {
            None => self.issues.count(Reason::BadPrice, row.line),
            Some(0.0) => self.issues.count(Reason::NoPrice, row.line),
            Some(price) if price < 0.0 => self.issues.count(Reason::NegativePrice, row.line),
            Some(_) => {}
        }
    }

    /// The description in the form that inventory accepts.
    fn name(&mut self, row: &Row<'_>) -> String {
        if row.description.is_empty() {
            self.issues.count(Reason::NoDescription, row.line);
            return String::new();
        }
        let text = String::from_utf8_lossy(row.description);
        let cleaned: String =
            text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_NAME).collect();
        if cleaned.as_bytes() != row.description {
            self.issues.count(Reason::CleanedDescription, row.line);
        }
        cleaned
    }

    pub(super) fn finish(mut self) -> Ledger {
        let mut invoices = Vec::with_capacity(self.open.len());
        for Open { number, customer, first_line, lines, .. } in self.open {
            if lines.is_empty() {
                self.issues.count(Reason::NothingLeft, first_line);
            }
            if lines.len() > MAX_LINES {
                self.issues.count(Reason::TooManyLines, first_line);
            }
            let kind = Kind::of(&number);
            let parts = lines.chunks(MAX_LINES).map(|lines| Invoice {
                number: number.clone(),
                kind,
                customer: customer.clone(),
                lines: lines.to_vec(),
            });
            invoices.extend(parts);
        }
        Ledger { invoices, names: self.names, rows: self.rows, lines: 0, issues: self.issues }
    }
}

/// The row's customer, or the reason why there is none.
fn customer<'a>(row: &Row<'a>) -> Result<&'a str, Reason> {
    if row.customer.is_empty() {
        return Err(Reason::NoCustomer);
    }
    identifier(row.customer).ok_or(Reason::BadCustomer)
}

/// The row's SKU and quantity.
fn checked<'a>(row: &Row<'a>, kind: Kind) -> Result<(&'a str, i64), Reason> {
    let sku = identifier(row.sku).ok_or(Reason::BadSku)?;
    let quantity: i64 = std::str::from_utf8(row.quantity)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Reason::BadQuantity)?;
    match (quantity, kind) {
        (0, _) => Err(Reason::ZeroQuantity),
        (..0, Kind::Sale) => Err(Reason::NegativeSale),
        (1.., Kind::Return) => Err(Reason::PositiveReturn),
        _ if quantity.unsigned_abs() > MAX_QUANTITY.unsigned_abs() => Err(Reason::OverLimit),
        _ => Ok((sku, quantity.abs())),
    }
}

fn identifier(text: &[u8]) -> Option<&str> {
    std::str::from_utf8(text).ok().filter(|text| is_identifier(text))
}
