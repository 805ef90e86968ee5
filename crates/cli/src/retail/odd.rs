//! Rows that are not what one would expect, by reason. Nothing is dropped without being counted here, and
//! whoever wonders finds the first lines by number.

use std::collections::BTreeMap;
use std::fmt;

/// How many line numbers are kept for each reason.
const LINES_KEPT: usize = 3;

macro_rules! reasons {
    ($($name:ident: $what:literal, $done:literal;)*) => {
        /// What is odd about a row, or about a whole invoice.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Reason { $(#[doc = $what] $name,)* }

        impl Reason {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn what(self) -> &'static str { match self { $(Self::$name => $what,)* } }

            /// What became of the row.
            const fn done(self) -> &'static str { match self { $(Self::$name => $done,)* } }
        }
    };
}

reasons! {
    Fields: "not as many fields as the header, or a quote left open", "row left out";
    NoInvoice: "no invoice number", "row left out";
    BadSku: "stock code empty, over 64 characters, or not printable ASCII", "row left out";
    BadQuantity: "quantity is not a whole number", "row left out";
    ZeroQuantity: "quantity 0", "row left out";
    NegativeSale: "negative quantity on an invoice that is no return", "row left out: a write-off, not a sale";
    PositiveReturn: "positive quantity on a return", "row left out";
    OverLimit: "quantity over 1,000,000, alone or summed", "row left out";
    NothingLeft: "invoice of which no row was left", "no order";
    TooManyLines: "invoice of more than 1,000 SKUs", "split into several orders";
    RepeatedSku: "SKU that its invoice had already", "quantities summed";
    OtherCustomer: "customer other than in the invoice's first row", "the first one counts";
    NoCustomer: "no customer", "ordered by guest";
    BadCustomer: "customer over 64 characters or not printable ASCII", "ordered by guest";
    NotAnArticle: "stock code that is no article (POST, D, M, …)", "an item like any other";
    NoDescription: "no description", "nothing: names are for people";
    OddDescription: "description over 200 characters, not UTF-8, or with controls", "cleaned";
    NoPrice: "price 0", "nothing: orders carry no prices";
    NegativePrice: "price below 0", "nothing: orders carry no prices";
    BadPrice: "price is not a number", "nothing: orders carry no prices";
}

/// The rows that one reason applies to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Seen {
    count: u64,
    first: Vec<u64>,
}

/// All reasons that were met.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OddRows(BTreeMap<Reason, Seen>);

impl OddRows {
    pub(super) fn count(&mut self, reason: Reason, line: u64) {
        let seen = self.0.entry(reason).or_default();
        seen.count += 1;
        if seen.first.len() < LINES_KEPT {
            seen.first.push(line);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[cfg(test)]
    pub(super) fn of(&self, reason: Reason) -> (u64, &[u64]) {
        self.0.get(&reason).map_or((0, &[]), |seen| (seen.count, &seen.first))
    }
}

impl fmt::Display for OddRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  {:>7}  {:<62}  {:<37}  first at line", "rows", "what is odd", "what was done")?;
        for (reason, seen) in &self.0 {
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
        let mut odd = OddRows::default();
        for line in [4, 9, 11, 30] {
            odd.count(Reason::ZeroQuantity, line);
        }
        odd.count(Reason::NoPrice, 2);
        let table = odd.to_string();
        let rows: Vec<_> = table.lines().map(|row| row.split_whitespace().collect::<Vec<_>>()).collect();
        assert_eq!(rows[1][..3], ["4", "quantity", "0"]);
        assert_eq!(rows[1][rows[1].len() - 4..], ["4,", "9,", "11,", "…"]);
        assert_eq!(rows[2].last(), Some(&"2"));
    }

    #[test]
    fn every_reason_fits_its_column() {
        for reason in Reason::ALL {
            assert!(reason.what().chars().count() <= 62 && reason.done().chars().count() <= 37, "{reason:?}");
        }
    }
}
