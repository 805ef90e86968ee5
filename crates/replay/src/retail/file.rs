//! The reader of a file: it reads row after row, and reports a file without a usable row.

use std::io::BufRead;

use super::fields::split;
use super::header::{Columns, NotRetail, header};
use super::invoices::Invoices;
use super::ledger::Ledger;
use super::lines::{Line, Lines};
use super::row_issues::Reason;

/// Reads to the end, or until the invoice after the first `limit` begins. A row is one line.
pub fn read(source: impl BufRead, limit: Option<usize>) -> Result<Ledger, NotRetail> {
    let mut lines = Lines::of(source);
    let (columns, delimiter) = header(&mut lines)?;
    let mut invoices = Invoices::new(limit.unwrap_or(usize::MAX));
    let mut read = lines.count();
    // Only empty lines come before the header.
    while let Some(line) = lines.next()? {
        if !line.text.is_empty() {
            take(&mut invoices, &columns, delimiter, line);
        }
        if invoices.are_complete() {
            break;
        }
        read = line.number;
    }
    let ledger = Ledger { lines: read, ..invoices.finish() };
    match (ledger.rows, ledger.invoices.is_empty()) {
        (0, _) => Err(NotRetail::NoRows),
        (rows, true) => Err(NotRetail::NothingUsable { rows, issues: ledger.issues }),
        (_, false) => Ok(ledger),
    }
}

fn take(invoices: &mut Invoices, columns: &Columns, delimiter: u8, line: Line<'_>) {
    if line.is_too_long {
        return invoices.refuse(Reason::TooLong, line.number);
    }
    match split(line.text, delimiter) {
        Ok(fields) if fields.len() == columns.width => {
            invoices.take(&columns.row(&fields, line.number));
            if line.is_open {
                invoices.note(Reason::NoLineEnd, line.number);
            }
        }
        Ok(_) => invoices.refuse(Reason::Fields, line.number),
        Err(reason) => invoices.refuse(reason, line.number),
    }
}

#[cfg(test)]
mod tests {
    use inventory_api::Line;
    use proptest::prelude::*;

    use super::super::ledger::{GUEST, Invoice, Kind};
    use super::*;

    const HEADER: &str =
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n";

    fn read_rows(rows: &str) -> Ledger {
        read(format!("{HEADER}{rows}").as_bytes(), None).unwrap()
    }

    fn lines(of: &Invoice) -> Vec<(&str, i64)> {
        of.lines.iter().map(|line| (line.sku.as_str(), line.quantity)).collect()
    }

    #[test]
    fn an_invoice_is_an_order_and_a_repeated_sku_is_summed() {
        let ledger = read_rows(
            "1,A1,MUG,2,2010-12-01 08:26:00,1.5,17850,United Kingdom\n\
             1,B2,\"PLATE, BLUE\",1,2010-12-01 08:26:00,3,17850,United Kingdom\n\
             1,A1,MUG,3,2010-12-01 08:26:00,1.5,17850,United Kingdom\n\
             C2,B2,\"PLATE, BLUE\",-1,2010-12-01 09:00:00,3,17850,United Kingdom\n",
        );
        assert_eq!(ledger.invoices.len(), 2);
        assert_eq!(lines(&ledger.invoices[0]), [("A1", 5), ("B2", 1)]);
        assert_eq!((&*ledger.invoices[0].customer, ledger.invoices[0].kind), ("17850", Kind::Sale));
        assert_eq!(lines(&ledger.invoices[1]), [("B2", 1)]);
        assert_eq!(ledger.invoices[1].kind, Kind::Return);
        assert_eq!(ledger.names["B2"], "PLATE, BLUE");
        assert_eq!(ledger.issues.of(Reason::RepeatedSku), (1, &[4][..]));
    }

    #[test]
    fn every_unusual_row_is_counted_under_its_reason_with_its_line() {
        let long = "x".repeat(65);
        let table: [(&str, Reason, u64); 19] = [
            ("1,A1,MUG,1,d,1,7", Reason::Fields, 0),
            (",A1,MUG,1,d,1,7,UK", Reason::NoInvoice, 0),
            ("1,,MUG,1,d,1,7,UK", Reason::BadSku, 0),
            (&format!("1,{long},MUG,1,d,1,7,UK"), Reason::BadSku, 0),
            ("1,caf\u{e9},MUG,1,d,1,7,UK", Reason::BadSku, 0),
            ("1,A1,MUG,six,d,1,7,UK", Reason::BadQuantity, 0),
            ("1,A1,MUG,1.5,d,1,7,UK", Reason::BadQuantity, 0),
            ("1,A1,MUG,0,d,1,7,UK", Reason::ZeroQuantity, 0),
            ("1,A1,damaged,-9600,d,1,7,UK", Reason::NegativeSale, 0),
            ("C1,A1,MUG,4,d,1,7,UK", Reason::PositiveReturn, 0),
            ("1,A1,MUG,1000001,d,1,7,UK", Reason::OverLimit, 0),
            ("1,A1,MUG,99999999999999999999,d,1,7,UK", Reason::BadQuantity, 0),
            ("1,A1,MUG,1,d,1,,UK", Reason::NoCustomer, 1),
            ("1,A1,MUG,1,d,1,caf\u{e9},UK", Reason::BadCustomer, 1),
            ("1,POST,POSTAGE,1,d,18,7,UK", Reason::NotAnArticle, 1),
            ("1,A1,,1,d,1,7,UK", Reason::NoDescription, 1),
            ("1,A1,MUG,1,d,0,7,UK", Reason::NoPrice, 1),
            ("A1,B,Adjust bad debt,1,d,-11062.06,7,UK", Reason::NegativePrice, 1),
            ("1,A1,MUG,1,d,cheap,7,UK", Reason::BadPrice, 1),
        ];
        for (row, reason, orders) in table {
            // A good invoice before it makes the file as a whole usable.
            let ledger = read_rows(&format!("0,1,MUG,1,d,1,7,UK\n{row}\n"));
            assert_eq!(ledger.issues.of(reason), (1, &[3][..]), "{row}");
            assert_eq!(ledger.invoices.len() as u64 - 1, orders, "{row}");
            assert_eq!(ledger.rows, 2, "{row}");
        }
    }

    #[test]
    fn an_invoice_without_a_usable_row_is_no_order_and_is_counted() {
        let ledger = read_rows("1,A1,MUG,1,d,1,7,UK\n2,A1,MUG,0,d,1,7,UK\n2,A1,MUG,-1,d,1,7,UK\n");
        assert_eq!(ledger.invoices.len(), 1);
        assert_eq!(ledger.issues.of(Reason::NothingLeft), (1, &[3][..]));
    }

    #[test]
    fn the_first_customer_of_an_invoice_counts() {
        let ledger = read_rows("1,A1,MUG,1,d,1,7,UK\n1,B1,JUG,1,d,1,8,UK\n1,C1,CUP,1,d,1,,UK\n");
        assert_eq!(ledger.invoices[0].customer, "7");
        assert_eq!(ledger.invoices[0].lines.len(), 3);
        assert_eq!(ledger.issues.of(Reason::OtherCustomer), (2, &[3, 4][..]));
        assert_eq!(read_rows("1,A1,MUG,1,d,1,,UK\n").invoices[0].customer, GUEST);
    }

    #[test]
    fn the_row_that_takes_a_sum_over_the_limit_is_refused() {
        let ledger = read_rows("1,A1,MUG,999999,d,1,7,UK\n1,A1,MUG,2,d,1,7,UK\n1,A1,MUG,1,d,1,7,UK\n");
        assert_eq!(lines(&ledger.invoices[0]), [("A1", 1_000_000)]);
        assert_eq!(ledger.issues.of(Reason::OverLimit), (1, &[3][..]));
    }

    #[test]
    fn an_invoice_of_more_than_a_thousand_skus_becomes_several_orders() {
        let rows: Vec<_> = (0..1_001).map(|n| format!("1,{n},MUG,1,d,1,7,UK\n")).collect();
        let ledger = read_rows(&rows.concat());
        let sizes: Vec<_> = ledger.invoices.iter().map(|invoice| invoice.lines.len()).collect();
        assert_eq!(sizes, [1_000, 1]);
        assert_eq!(ledger.issues.of(Reason::TooManyLines), (1, &[2][..]));
    }

    #[test]
    fn control_characters_and_invalid_text_in_descriptions_are_replaced() {
        let text = [HEADER.as_bytes(), b"1,A1,TAPE \xa3 5,1,d,1,7,UK\n1,A2,TAB\tNUL\0,1,d,1,7,UK\n"].concat();
        let ledger = read(text.as_slice(), None).unwrap();
        assert_eq!(ledger.names["A1"], "TAPE \u{fffd} 5");
        assert_eq!(ledger.names["A2"], "TAB NUL ");
        assert_eq!(ledger.issues.of(Reason::CleanedDescription), (2, &[2, 3][..]));
        assert_eq!(ledger.issues.refused(), 0);
    }

    /// Two hundred rows, each with its own invoice of one piece.
    fn mugs(description: impl Fn(u64) -> &'static str, quantity: impl Fn(u64) -> u64) -> String {
        let row = |n| format!("{n},{n},{},{},d,1,7,UK\n", description(n), quantity(n));
        (1..=200).map(row).collect()
    }

    #[test]
    fn a_stray_quote_loses_only_its_own_row() {
        let ledger = read_rows(&mugs(|n| if n == 10 { "\"20 INCH" } else { "MUG" }, |_| 1));
        assert_eq!((ledger.rows, ledger.lines, ledger.invoices.len()), (200, 201, 199));
        assert_eq!(ledger.issues.of(Reason::OpenQuote), (1, &[11][..]));
        assert_eq!(
            ledger.accounts(),
            "201 lines read: 1 header, 0 empty, 200 rows. Of the rows 199 are in orders and returns, 0 left out, \
             1 refused."
        );
        assert!(ledger.issues.refusals().contains("line 11: quoted field that does not end on its line"));
    }

    #[test]
    fn no_order_mixes_two_rows_for_any_placement_of_quotes() {
        let text = mugs(
            |n| match n {
                10 => "\"SIGN",
                190 => "CLOCK 12\" WIDE",
                _ => "MUG",
            },
            |n| if n == 190 { 7 } else { 1 },
        );
        let ledger = read_rows(&text);
        assert_eq!((ledger.rows, ledger.issues.refused()), (200, 1));
        for invoice in &ledger.invoices {
            let expected = if invoice.number == "190" { 7 } else { 1 };
            assert_eq!(lines(invoice), [(&*invoice.number, expected)]);
        }
        assert_eq!(ledger.names["190"], "CLOCK 12\" WIDE");
    }

    #[test]
    fn one_unreadable_row_of_any_kind_stops_no_other() {
        let endless = vec![b'x'; 3 * super::super::lines::LONGEST];
        let unreadable: [&[u8]; 6] =
            [b"\"", b"\0\0\0", b"2,A1,\"A\"B,1,d,1,7,UK", &endless, b"\xff\xfe\xfd,\xff", b",,,,,,,"];
        for row in unreadable {
            let good = b"1,A1,MUG,1,d,1,7,UK\n";
            let text = [HEADER.as_bytes(), good, row, b"\n", b"3,A1,MUG,1,d,1,7,UK\n"].concat();
            let ledger = read(text.as_slice(), None).unwrap();
            let numbers: Vec<_> = ledger.invoices.iter().map(|invoice| &*invoice.number).collect();
            assert_eq!(
                (numbers.as_slice(), ledger.rows),
                (&["1", "3"][..], 3),
                "{:?}",
                &row[..row.len().min(20)]
            );
            assert!(ledger.issues.refusals().contains("line 3: "), "{}", ledger.issues.refusals());
        }
    }

    #[test]
    fn quantities_with_separators_and_a_file_cut_in_a_row_are_refused() {
        let ledger =
            read_rows("1,A1,MUG,1,d,1,7,UK\n2,A1,MUG,\"1,000\",d,1,7,UK\n3,A1,MUG,1.0,d,1,7,UK\n4,A1,MU");
        assert_eq!((ledger.invoices.len(), ledger.issues.refused()), (1, 3));
        assert_eq!(ledger.issues.of(Reason::BadQuantity), (2, &[3, 4][..]));
        assert_eq!(ledger.issues.of(Reason::Fields), (1, &[5][..]));
        // A row that is cut in its last field may have been another row.
        let ledger = read_rows("1,A1,MUG,1,d,1,7,Unit");
        assert_eq!(ledger.issues.of(Reason::NoLineEnd), (1, &[2][..]));
    }

    #[test]
    fn rows_taken_left_out_and_refused_with_empty_lines_are_all_lines_of_the_file() {
        let rows = "1,A1,MUG,1,d,1,7,UK\n\n1,A1,MUG,0,d,1,7,UK\nC2,A1,MUG,4,d,1,7,UK\n3,A1\n\n";
        let ledger = read_rows(rows);
        assert_eq!((ledger.lines, ledger.rows), (7, 4));
        assert_eq!((ledger.issues.left_out(), ledger.issues.refused()), (2, 1));
        assert!(ledger.accounts().starts_with("7 lines read: 1 header, 2 empty, 4 rows."));
    }

    #[test]
    fn lines_are_counted_from_one_under_either_line_end() {
        for end in ["\n", "\r\n"] {
            let text = format!("{HEADER}1,A1,MUG,1,d,1,7,UK\n1,A1,MUG,0,d,1,7,UK\n").replace('\n', end);
            let ledger = read(text.as_bytes(), None).unwrap();
            assert_eq!(ledger.issues.of(Reason::ZeroQuantity), (1, &[3][..]));
        }
    }

    #[test]
    fn columns_are_found_by_name_in_any_order_under_either_editions_name() {
        let text = "\u{feff}Customer ID;Price;Quantity;Description;StockCode;Invoice\r\n7;1,5;2;MUG;A1;1\r\n";
        let ledger = read(text.as_bytes(), None).unwrap();
        assert_eq!(lines(&ledger.invoices[0]), [("A1", 2)]);
        assert_eq!(ledger.invoices[0].customer, "7");
    }

    #[test]
    fn a_file_of_another_kind_is_named() {
        let error = |text: &[u8]| read(text, None).unwrap_err().to_string();
        assert_eq!(error(b""), "it is empty");
        assert_eq!(error(b"\n\r\n"), "it is empty");
        assert_eq!(error(HEADER.as_bytes()), "it has a header and no rows");
        assert!(error(b"\xff\xfeI\0n\0").contains("UTF-16"));
        assert!(error(format!("{HEADER}1,A1").replace('\n', "\r").as_bytes()).contains("end in CR alone"));
        let twice = error(b"InvoiceNo,Invoice,StockCode,Description,Quantity,Price,CustomerID\n");
        assert!(twice.contains("names the column InvoiceNo 2 times"), "{twice}");
        assert!(error(b"PK\x03\x04rest").contains("save it as CSV"));
        let no_header = error(b"a,b,c\n1,2,3\n");
        assert!(no_header.contains("no column InvoiceNo") && no_header.contains("a,b,c"), "{no_header}");
        let useless = error(format!("{HEADER}1,A1,MUG,0,d,1,7,UK\n").as_bytes());
        assert!(useless.contains("none of its 1 rows") && useless.contains("quantity 0"), "{useless}");
    }

    #[test]
    fn reading_stops_after_the_requested_number_of_invoices() {
        let rows = "1,10,MUG,1,d,1,7,UK\n2,10,MUG,1,d,1,7,UK\n2,11,JUG,1,d,1,7,UK\n3,10,MUG,0,d,1,7,UK\n";
        let ledger = read(format!("{HEADER}{rows}").as_bytes(), Some(2)).unwrap();
        assert_eq!(ledger.invoices.len(), 2);
        assert_eq!((ledger.rows, lines(&ledger.invoices[1])), (3, vec![("10", 1), ("11", 1)]));
        assert!(ledger.issues.is_empty());
    }

    /// A field of a file: sensible, empty, or random.
    fn field() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[0-9]{1,3}".prop_map(String::into_bytes),
            "-?[0-9]{1,8}".prop_map(String::into_bytes),
            "[A-C][0-9]{1,2}".prop_map(String::into_bytes),
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..12),
        ]
    }

    proptest! {
        #[test]
        fn every_order_of_a_random_file_is_valid(
            rows in proptest::collection::vec(proptest::collection::vec(field(), 7..9), 0..40)
        ) {
            let mut text = HEADER.as_bytes().to_vec();
            for row in rows {
                text.extend(row.join(&b','));
                text.push(b'\n');
            }
            let Ok(ledger) = read(text.as_slice(), None) else { return Ok(()) };
            for invoice in &ledger.invoices {
                prop_assert!(inventory_api::validate::lines(&invoice.lines).is_empty(), "{invoice:?}");
                prop_assert!(inventory_api::validate::is_identifier(&invoice.customer));
            }
            for (sku, name) in &ledger.names {
                prop_assert!(inventory_api::validate::is_identifier(sku));
                prop_assert!(name.chars().count() <= 200 && !name.contains(char::is_control));
            }
        }

        #[test]
        fn every_quantity_of_a_written_file_is_read_back(
            sales in proptest::collection::vec((1..50_u32, 1..30_u32, 1..1_000_i64), 1..60)
        ) {
            let rows: Vec<_> = sales.iter().map(|(n, sku, q)| format!("{n},{sku},MUG,{q},d,1,7,UK\n")).collect();
            let ledger = read_rows(&rows.concat());
            let sold: i64 = sales.iter().map(|(_, _, quantity)| quantity).sum();
            let ordered: i64 = ledger.invoices.iter().flat_map(|i| &i.lines).map(|l: &Line| l.quantity).sum();
            prop_assert_eq!(sold, ordered);
            let distinct: std::collections::HashSet<_> = sales.iter().map(|(n, ..)| n).collect();
            prop_assert_eq!(distinct.len(), ledger.invoices.len());
        }
    }
}
