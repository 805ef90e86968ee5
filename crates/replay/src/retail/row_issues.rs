//! Unusual rows: refused, left out, or taken with a note, counted by reason. Every row of a file that is in no order
//! is counted here, with its line number.

use std::collections::BTreeMap;
use std::fmt;

/// The number of line numbers kept for each reason.
const LINES_KEPT: usize = 3;
/// The number of refused rows that are listed one by one.
const REFUSED_LISTED: usize = 10;

/// The handling of a row to which a reason applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handling {
    /// The row cannot be read and is in no order. The replay's exit code reports it.
    Refused,
    /// The row was read and asks for nothing that can be ordered.
    LeftOut,
    /// The row is in an order or a return.
    Taken,
}

macro_rules! reasons {
    ($($name:ident: $what:literal, $handling:ident, $done:literal;)*) => {
        /// A reason why a row, or a whole invoice, is unusual.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Reason { $(#[doc = $what] $name,)* }

        impl Reason {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn what(self) -> &'static str { match self { $(Self::$name => $what,)* } }

            const fn handling(self) -> Handling { match self { $(Self::$name => Handling::$handling,)* } }

            /// The action that was taken, or the fix.
            const fn done(self) -> &'static str { match self { $(Self::$name => $done,)* } }
        }
    };
}

reasons! {
    OpenQuote: "quoted field that does not end on its line", Refused, "refused: double or remove the quote";
    AfterQuote: "text after the closing quote of a field", Refused, "refused: double or remove the quote";
    TooLong: "line of more than 65,536 bytes", Refused, "refused";
    Fields: "not as many fields as the header", Refused, "refused";
    NoInvoice: "no invoice number", Refused, "refused";
    BadSku: "stock code empty, over 64 characters, or not printable ASCII", Refused, "refused";
    BadQuantity: "quantity is not a whole number without separators", Refused, "refused";
    OverLimit: "quantity over 1,000,000, alone or summed", Refused, "refused";
    ZeroQuantity: "quantity 0", LeftOut, "left out";
    NegativeSale: "negative quantity on an invoice that is no return", LeftOut, "left out: a write-off, not a sale";
    PositiveReturn: "positive quantity on a return", LeftOut, "left out";
    NothingLeft: "invoice of which no row was left", Taken, "no order";
    TooManyLines: "invoice of more than 1,000 SKUs", Taken, "split into several orders";
    RepeatedSku: "SKU that its invoice had already", Taken, "quantities summed";
    OtherCustomer: "customer other than in the invoice's first row", Taken, "the first one counts";
    NoCustomer: "no customer", Taken, "ordered by guest";
    BadCustomer: "customer over 64 characters or not printable ASCII", Taken, "ordered by guest";
    NotAnArticle: "stock code that is no article (POST, D, M, …)", Taken, "an item like any other";
    NoDescription: "no description", Taken, "none: names are only shown";
    CleanedDescription: "description over 200 characters, not UTF-8, or with controls", Taken, "cleaned";
    NoPrice: "price 0", Taken, "none: orders carry no prices";
    NegativePrice: "price below 0", Taken, "none: orders carry no prices";
    BadPrice: "price is not a number", Taken, "none: orders carry no prices";
    NoLineEnd: "last line without a line end: the file may be cut", Taken, "taken as it is";
}

/// The rows that one reason applies to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Occurrences {
    count: u64,
    first: Vec<u64>,
}

/// The unusual rows by reason.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RowIssues {
    by_reason: BTreeMap<Reason, Occurrences>,
    refused: u64,
    left_out: u64,
    /// The first refused rows: line and reason.
    first_refused: Vec<(u64, Reason)>,
}

impl RowIssues {
    pub(super) fn count(&mut self, reason: Reason, line: u64) {
        let seen = self.by_reason.entry(reason).or_default();
        seen.count += 1;
        if seen.first.len() < LINES_KEPT {
            seen.first.push(line);
        }
        match reason.handling() {
            Handling::Refused => {
                self.refused += 1;
                if self.first_refused.len() < REFUSED_LISTED {
                    self.first_refused.push((line, reason));
                }
            }
            Handling::LeftOut => self.left_out += 1,
            Handling::Taken => {}
        }
    }

    pub fn is_empty(&self) -> bool {
        self.by_reason.is_empty()
    }

    /// The number of rows that could not be read. Each counts once, for its first reason.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The number of rows that ask for nothing that can be ordered.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The text of the first refused rows with their lines, and the number of the others; empty without any.
    pub fn refusals(&self) -> String {
        if self.refused == 0 {
            return String::new();
        }
        let row = |(line, reason): &(u64, Reason)| {
            let way_out = reason.done().strip_prefix("refused: ");
            let way_out = way_out.map_or_else(String::new, |way_out| format!("; {way_out}"));
            format!("  line {line}: {}{way_out}\n", reason.what())
        };
        let rows: String = self.first_refused.iter().map(row).collect();
        let more = match self.refused - self.first_refused.len() as u64 {
            0 => String::new(),
            more => format!("  and {more} more\n"),
        };
        format!("Refused rows, which are in no order:\n{rows}{more}")
    }

    #[cfg(test)]
    pub(super) fn of(&self, reason: Reason) -> (u64, &[u64]) {
        self.by_reason.get(&reason).map_or((0, &[]), |seen| (seen.count, &seen.first))
    }
}

impl fmt::Display for RowIssues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:>7}  {:<62}  {:<37}  first at line", "rows", "reason", "action")?;
        for (reason, seen) in &self.by_reason {
            let more = if seen.count > LINES_KEPT as u64 { ", …" } else { "" };
            let lines: Vec<_> = seen.first.iter().map(u64::to_string).collect();
            let (what, done) = (reason.what(), reason.done());
            writeln!(f, "  {:>7}  {what:<62}  {done:<37}  {}{more}", seen.count, lines.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_counts_and_the_first_lines() {
        let mut issues = RowIssues::default();
        for line in [4, 9, 11, 30] {
            issues.count(Reason::ZeroQuantity, line);
        }
        issues.count(Reason::NoPrice, 2);
        let table = issues.to_string();
        let rows: Vec<_> = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(rows[1][..3], ["4", "quantity", "0"]);
        assert_eq!(rows[1][rows[1].len() - 4..], ["4,", "9,", "11,", "…"]);
        assert_eq!(rows[2].last(), Some(&"2"));
    }

    #[test]
    fn ten_refused_rows_are_listed_by_line_and_the_others_counted() {
        let mut issues = RowIssues::default();
        issues.count(Reason::ZeroQuantity, 1);
        for line in 2..14 {
            issues.count(Reason::OpenQuote, line);
        }
        assert_eq!((issues.refused(), issues.left_out()), (12, 1));
        let listed = issues.refusals();
        let lines: Vec<_> = listed.lines().collect();
        assert_eq!(lines.len(), 12, "{listed}");
        let first = "  line 2: quoted field that does not end on its line; double or remove the quote";
        assert_eq!((lines[1], lines[11]), (first, "  and 2 more"));
        assert_eq!(RowIssues::default().refusals(), "");
    }

    #[test]
    fn every_reason_fits_its_column() {
        for reason in Reason::ALL {
            assert!(reason.what().chars().count() <= 62 && reason.done().chars().count() <= 37, "{reason:?}");
        }
    }
}
