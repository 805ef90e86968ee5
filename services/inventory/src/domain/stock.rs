//! SKUs, quantities and lines. Each value is valid once it exists, also when it is read from an old entry.

use std::fmt;
use std::sync::Arc;

use inventory_api::{Line as WireLine, validate};
use mainstay::problem::FieldError;
use serde::{Deserialize, Serialize};

/// A text or number that breaks a rule, with the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub &'static str);

/// Stock-keeping unit: 1 to 64 printable ASCII characters, spaces only inside. Case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Sku(Arc<str>);

impl Sku {
    /// The SKU as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Sku {
    type Error = Invalid;

    fn try_from(text: &str) -> Result<Self, Invalid> {
        if validate::is_identifier(text) {
            Ok(Self(text.into()))
        } else {
            Err(Invalid(validate::IDENTIFIER_RULE))
        }
    }
}

impl TryFrom<String> for Sku {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.as_str().try_into()
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Name of an item, for people: 0 to 200 characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ItemName(String);

impl ItemName {
    /// Longest name, in characters.
    pub const MAX_CHARS: usize = 200;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ItemName {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.chars().count() <= Self::MAX_CHARS && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(Invalid("must have at most 200 characters, none of them a control character"))
        }
    }
}

/// A type for a whole number between two bounds.
macro_rules! bounded {
    ($(#[$doc:meta])* $name:ident, $range:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "i64")]
        pub struct $name(i64);

        impl $name {
            /// The number.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = Invalid;

            fn try_from(number: i64) -> Result<Self, Invalid> {
                if $range.contains(&number) { Ok(Self(number)) } else { Err(Invalid($what)) }
            }
        }
    };
}

bounded!(
    /// Pieces of a line or a receipt: 1 to 1,000,000.
    Quantity,
    (1..=1_000_000),
    "must be a whole number from 1 to 1000000"
);
bounded!(
    /// Pieces that a new item begins with: 0 to 1,000,000,000.
    OpeningStock,
    (0..=1_000_000_000),
    "must be a whole number from 0 to 1000000000"
);
bounded!(
    /// Length of a hold: 1 to 86,400 s.
    HoldSeconds,
    (1..=86_400),
    "must be a whole number of seconds from 1 to 86400"
);

/// A line of a reservation: SKU and quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// SKU of the item.
    pub sku: Sku,
    /// Number of pieces.
    pub quantity: Quantity,
}

impl From<&Line> for WireLine {
    fn from(line: &Line) -> Self {
        Self { sku: line.sku.to_string(), quantity: line.quantity.get() }
    }
}

/// 1 to 1,000 lines of distinct SKUs, in the order of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines(Arc<[Line]>);

impl Lines {
    /// Checks the lines of a request.
    ///
    /// # Errors
    /// The list of all faults.
    pub fn new(lines: &[WireLine]) -> Result<Self, Vec<FieldError>> {
        let errors = validate::lines(lines);
        if !errors.is_empty() {
            return Err(errors);
        }
        let valid = "lines without errors have valid SKUs and quantities: see the test of both";
        let line = |line: &WireLine| Line {
            sku: line.sku.as_str().try_into().expect(valid),
            quantity: line.quantity.try_into().expect(valid),
        };
        Ok(Self(lines.iter().map(line).collect()))
    }

    /// The lines.
    pub fn as_slice(&self) -> &[Line] {
        &self.0
    }

    /// The lines, shared.
    pub fn shared(&self) -> Arc<[Line]> {
        Arc::clone(&self.0)
    }
}

/// Stock of an item, as a decision reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stock {
    /// Pieces on hand that reservations hold.
    pub held: i64,
    /// Pieces in the warehouse.
    pub on_hand: i64,
    /// Version of the item's newest entry.
    pub version: i64,
}

impl Stock {
    /// Pieces that can still be reserved.
    pub const fn available(self) -> i64 {
        self.on_hand - self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sku_is_short_printable_and_unpadded() {
        let longest = "x".repeat(64);
        for good in ["1", "85123A", "a b", "~!\"", &longest] {
            assert_eq!(Sku::try_from(good.to_owned()).unwrap().as_str(), good);
        }
        let too_long = "x".repeat(65);
        for bad in ["", " a", "a ", "a\tb", "a\u{7f}", "é", &too_long] {
            assert!(Sku::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_name_may_be_empty_or_foreign_but_hold_no_controls() {
        for good in ["", "Käse", &"ü".repeat(200)] {
            assert!(ItemName::try_from(good.to_owned()).is_ok(), "{good:?}");
        }
        for bad in ["a\nb", "\u{1b}[31m", "\u{85}", &"ü".repeat(201)] {
            assert!(ItemName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_taken_at_their_bounds_and_refused_beyond() {
        assert!([1, 1_000_000].into_iter().all(|n| Quantity::try_from(n).is_ok()));
        assert!([0, -1, 1_000_001, i64::MAX, i64::MIN].into_iter().all(|n| Quantity::try_from(n).is_err()));
        assert!([0, 1_000_000_000].into_iter().all(|n| OpeningStock::try_from(n).is_ok()));
        assert!([-1, 1_000_000_001].into_iter().all(|n| OpeningStock::try_from(n).is_err()));
        assert!([1, 86_400].into_iter().all(|n| HoldSeconds::try_from(n).is_ok()));
        assert!([0, 86_401].into_iter().all(|n| HoldSeconds::try_from(n).is_err()));
    }

    #[test]
    fn lines_without_faults_are_accepted_and_all_faults_are_listed() {
        let line = |sku: &str, quantity| WireLine { sku: sku.to_owned(), quantity };
        for sku in ["a", "", " a", "a b", "\u{7f}", &"x".repeat(64), &"x".repeat(65)] {
            for quantity in [i64::MIN, -1, 0, 1, 1_000_000, 1_000_001, i64::MAX] {
                let good = Sku::try_from(sku.to_owned()).is_ok() && Quantity::try_from(quantity).is_ok();
                assert_eq!(Lines::new(&[line(sku, quantity)]).is_ok(), good, "{sku:?} {quantity}");
            }
        }
        let errors = Lines::new(&[line("a", 1), line("", 0), line("a", 2)]).unwrap_err();
        let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["lines[1].sku", "lines[1].quantity", "lines[2].sku"]);
        assert!(Lines::new(&[]).is_err());
    }
}
