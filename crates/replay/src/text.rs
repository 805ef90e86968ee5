//! Numbers and foreign text in a form that is safe and easy to read.

/// Returns whether a character is safe to print. Control characters, and characters that reverse or hide text, are
/// replaced, so that foreign text cannot control the terminal or read differently from what it is.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Formats `done` of `all` as a bar of `width` characters.
pub fn bar(done: usize, all: usize, width: usize) -> String {
    let filled = (done * width).checked_div(all).unwrap_or(width).min(width);
    format!("[{}{}]", "#".repeat(filled), "-".repeat(width - filled))
}

/// Formats 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_the_share_and_a_number_is_grouped_by_thousands() {
        assert_eq!(
            [bar(0, 4, 4), bar(2, 4, 4), bar(9, 4, 4), bar(0, 0, 2)],
            ["[----]", "[##--]", "[####]", "[##]"]
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
