//! Rules for valid SKUs, quantities and lines. Both services use them.

use std::collections::HashMap;

use mainstay::problem::FieldError;

use crate::types::Line;

/// The most lines of one order or reservation. The largest real basket of the sample data has 590.
pub const MAX_LINES: usize = 1_000;
/// The most pieces of one line.
pub const MAX_QUANTITY: i64 = 1_000_000;

/// True if a text is valid as a SKU or customer id: 1 to 64 printable ASCII characters, with inner spaces allowed and
/// outer ones not.
pub fn is_identifier(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b)) && text.trim() == text
}

/// The rule of [`is_identifier`], for messages.
pub const IDENTIFIER_RULE: &str = "must be 1 to 64 printable ASCII characters without outer spaces";

/// All faults of an order's lines, each with the path of its field.
pub fn lines(lines: &[Line]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut error = |field: String, detail: String| errors.push(FieldError { field, detail });
    if lines.is_empty() || lines.len() > MAX_LINES {
        error("lines".to_owned(), format!("must have 1 to {MAX_LINES} entries, not {}", lines.len()));
        return errors;
    }
    let mut seen = HashMap::new();
    for (n, line) in lines.iter().enumerate() {
        if !is_identifier(&line.sku) {
            error(format!("lines[{n}].sku"), IDENTIFIER_RULE.to_owned());
        }
        if !(1..=MAX_QUANTITY).contains(&line.quantity) {
            error(
                format!("lines[{n}].quantity"),
                format!("must be 1 to {MAX_QUANTITY}, not {}", line.quantity),
            );
        }
        if let Some(first) = seen.insert(line.sku.as_str(), n) {
            error(format!("lines[{n}].sku"), format!("repeats lines[{first}].sku: add their quantities up"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, quantity: i64) -> Line {
        Line { sku: sku.to_owned(), quantity }
    }

    #[test]
    fn each_fault_names_its_field() {
        let fields = |l: &[Line]| lines(l).into_iter().map(|e| e.field).collect::<Vec<_>>();
        assert_eq!(fields(&[line("BANK CHARGES", 1), line("85123A", 1_000_000)]), [""; 0]);
        assert_eq!(fields(&[]), ["lines"]);
        assert_eq!(fields(&vec![line("a", 1); 1_001]), ["lines"]);
        assert_eq!(fields(&[line("", 1)]), ["lines[0].sku"]);
        assert_eq!(fields(&[line("a", 0), line("b", 1_000_001), line("c", -1)]).len(), 3);
        assert_eq!(fields(&[line("a", 1), line("a", 2)]), ["lines[1].sku"]);
    }

    #[test]
    fn identifiers_are_printable_ascii_without_outer_spaces() {
        for good in ["a", "BANK CHARGES", "~", &"x".repeat(64)] {
            assert!(is_identifier(good), "{good:?}");
        }
        for bad in ["", " a", "a ", "é", "a\u{7f}", "a\tb", &"x".repeat(65)] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
    }
}
