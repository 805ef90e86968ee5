//! The fields of one line of CSV, read strictly.
//!
//! A row ends where its line ends, also inside quotes. A reader that lets a quoted field run over line ends turns one
//! stray quote into a field of many rows: those rows vanish, and the row after the next quote is joined to the row
//! before the first one. Here a stray quote loses only its own line, which is refused with its number.

use std::borrow::Cow;

use super::row_issues::Reason;

/// The fields of a row.
pub(super) type Fields<'a> = Vec<Cow<'a, [u8]>>;

/// Splits `line`, which has no line end, at `delimiter`. A field that begins with a quote ends with one, and two
/// quotes inside it mean one quote; in any other field a quote is an ordinary character.
pub(super) fn split(line: &[u8], delimiter: u8) -> Result<Fields<'_>, Reason> {
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (field, after) = if let Some(quoted) = text.strip_prefix(b"\"") {
            unquoted(quoted)?
        } else {
            let end = text.iter().position(|byte| *byte == delimiter).unwrap_or(text.len());
            (Cow::Borrowed(&text[..end]), &text[end..])
        };
        fields.push(field);
        rest = match after.split_first() {
            None => None,
            Some((first, after)) if *first == delimiter => Some(after),
            Some(_) => return Err(Reason::AfterQuote),
        };
    }
    Ok(fields)
}

/// The field up to its closing quote, and the text after that quote.
fn unquoted(quoted: &[u8]) -> Result<(Cow<'_, [u8]>, &[u8]), Reason> {
    let mut field = Cow::Borrowed(&quoted[..0]);
    let mut rest = quoted;
    loop {
        let end = rest.iter().position(|byte| *byte == b'"').ok_or(Reason::OpenQuote)?;
        let (text, after) = (&rest[..end], &rest[end + 1..]);
        if field.is_empty() {
            field = Cow::Borrowed(text);
        } else {
            field.to_mut().extend_from_slice(text);
        }
        match after.strip_prefix(b"\"") {
            Some(next) => {
                field.to_mut().push(b'"');
                rest = next;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Result<Vec<String>, Reason> {
        let fields = split(line.as_bytes(), b',')?;
        Ok(fields.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect())
    }

    #[test]
    fn quotes_count_only_at_the_beginning_of_a_field() {
        for (line, fields) in [
            ("a,b", vec!["a", "b"]),
            ("", vec![""]),
            (",", vec!["", ""]),
            ("\"a,b\",c", vec!["a,b", "c"]),
            ("\"12\"\" WIDE\",c", vec!["12\" WIDE", "c"]),
            ("\"\"\"\",\"\"", vec!["\"", ""]),
            ("12\" WIDE,\"\"", vec!["12\" WIDE", ""]),
            (" \"a,b\"", vec![" \"a", "b\""]),
        ] {
            assert_eq!(read(line).unwrap(), fields, "{line}");
        }
    }

    #[test]
    fn an_unclosed_quote_and_text_after_a_closing_quote_are_refused() {
        assert_eq!(read("1,\"20 INCH,1"), Err(Reason::OpenQuote));
        assert_eq!(read("1,\"20 INCH\"\""), Err(Reason::OpenQuote));
        assert_eq!(read("1,\"20 INCH,1,\"c\""), Err(Reason::AfterQuote));
        assert_eq!(read("1,\"20\" WIDE,1"), Err(Reason::AfterQuote));
    }

    proptest! {
        #[test]
        fn lines_that_the_csv_crate_writes_are_read_as_they_were_written(
            row in proptest::collection::vec("[a-c \",;]{0,6}", 1..6)
        ) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(&row).unwrap();
            let line = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(read(line.trim_end_matches('\n')).unwrap(), row);
        }
    }
}
