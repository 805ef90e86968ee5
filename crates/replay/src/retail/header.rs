//! The header of a file: the positions of its columns, and the errors about a file of another kind.

use std::io::{self, BufRead};

use super::fields::{Fields, split};
use super::invoices::Row;
use super::lines::Lines;
use super::row_issues::RowIssues;

/// Reasons why a file cannot be replayed at all. Each message is written for the person who named the file.
#[derive(Debug, thiserror::Error)]
pub enum NotRetail {
    #[error("it cannot be read")]
    Io(#[from] io::Error),
    #[error("it is empty")]
    Empty,
    #[error("it is a ZIP archive, perhaps an .xlsx workbook: save it as CSV first")]
    Archive,
    #[error("it is UTF-16: save it as CSV in UTF-8")]
    Utf16,
    #[error("its lines end in CR alone, as on old Macintoshes: save it with LF or CR LF")]
    OldMac,
    #[error("its header names the column {column} {times} times: rename or remove all but one")]
    TwiceNamed { column: &'static str, times: usize },
    #[error(
        "its first line names no column {missing}. It must be a header with the columns {}, in any order; \
         it begins: {found:?}", COLUMNS.map(|names| names[0]).join(", ")
    )]
    NoHeader { missing: &'static str, found: String },
    #[error("it has a header and no rows")]
    NoRows,
    #[error("none of its {rows} rows can be replayed:\n{issues}{}", issues.refusals())]
    NothingUsable { rows: u64, issues: RowIssues },
}

/// The columns that are read, each with its name in the second edition of the data.
const COLUMNS: [&[&str]; 6] = [
    &["InvoiceNo", "Invoice"],
    &["StockCode"],
    &["Description"],
    &["Quantity"],
    &["UnitPrice", "Price"],
    &["CustomerID", "Customer ID"],
];

/// The number of characters of the first line that an error quotes.
const QUOTED: usize = 120;

/// Reads the first line that is not empty: its columns, and the character between them.
pub(super) fn header(lines: &mut Lines<impl BufRead>) -> Result<(Columns, u8), NotRetail> {
    loop {
        let Some(line) = lines.next()? else { return Err(NotRetail::Empty) };
        let text = line.text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line.text);
        if text.starts_with(b"PK\x03\x04") {
            return Err(NotRetail::Archive);
        }
        if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
            return Err(NotRetail::Utf16);
        }
        if text.contains(&b'\r') {
            return Err(NotRetail::OldMac);
        }
        if text.is_empty() {
            continue;
        }
        let delimiter = delimiter(text);
        let found = || String::from_utf8_lossy(text).chars().take(QUOTED).collect();
        let fields = split(text, delimiter)
            .map_err(|_| NotRetail::NoHeader { missing: COLUMNS[0][0], found: found() })?;
        return Ok((Columns::find(&fields, found)?, delimiter));
    }
}

/// The character between fields. Spreadsheets write semicolons where the comma is the decimal sign, and tabs on
/// request.
fn delimiter(header: &[u8]) -> u8 {
    let count = |wanted: u8| header.split(|byte| *byte == wanted).count();
    [b'\t', b';', b','].into_iter().max_by_key(|byte| count(*byte)).unwrap_or(b',')
}

/// The positions of the columns.
pub(super) struct Columns {
    at: [usize; COLUMNS.len()],
    pub(super) width: usize,
}

impl Columns {
    /// Finds each column's position. A column that is named twice is an error, because either could be the right one.
    fn find(header: &Fields<'_>, found: impl Fn() -> String) -> Result<Self, NotRetail> {
        let mut at = [0; COLUMNS.len()];
        for (at, names) in at.iter_mut().zip(COLUMNS) {
            let is_it = |field: &[u8]| {
                names.iter().any(|name| field.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
            };
            let mut places = header.iter().enumerate().filter(|(_, field)| is_it(field)).map(|(at, _)| at);
            *at = places.next().ok_or_else(|| NotRetail::NoHeader { missing: names[0], found: found() })?;
            match places.count() {
                0 => {}
                more => return Err(NotRetail::TwiceNamed { column: names[0], times: more + 1 }),
            }
        }
        Ok(Self { at, width: header.len() })
    }

    pub(super) fn row<'a>(&self, fields: &'a Fields<'_>, line: u64) -> Row<'a> {
        let field = |column: usize| fields[self.at[column]].trim_ascii();
        Row {
            line,
            invoice: field(0),
            sku: field(1),
            description: field(2),
            quantity: field(3),
            price: field(4),
            customer: field(5),
        }
    }
}
