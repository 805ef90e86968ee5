//! `mainstay replay`, `explain`, `verify` and the demo, as people and scripts use them.
#![allow(clippy::unwrap_used, reason = "helpers of tests are outside what clippy takes for a test")]

#[allow(dead_code, reason = "shared with the tests of `up`, which use the rest")]
mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use serde_json::Value;
use sqlx::{Connection, PgConnection};

use support::{Up, is_alive, mainstay, output, request, scratch, send, wait_for};

/// Sales, a return of a whole sale, a return of a part of one, and a row of most unusual kinds.
const SALES: &str = "\
InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
1,10001,BLUE MUG,2,2026-01-01 10:00:00,1.5,7001,Nowhere
1,10002,RED PLATE,3,2026-01-01 10:00:00,2,7001,Nowhere
1,10001,BLUE MUG,1,2026-01-01 10:00:00,1.5,7001,Nowhere
2,10002,RED PLATE,4,2026-01-01 10:01:00,2,7002,Nowhere
3,10003,,5,2026-01-01 10:02:00,0,,Nowhere
C4,10002,RED PLATE,-4,2026-01-01 10:03:00,2,7002,Nowhere
C5,10001,BLUE MUG,-1,2026-01-01 10:04:00,1.5,7001,Nowhere
6,10002,broken in the yard,-7,2026-01-01 10:05:00,0,,Nowhere
7,10004,TEAL JUG
8,POST,POSTAGE,1,2026-01-01 10:06:00,18,7003,Nowhere
";

/// Places a client's order; returns status and body.
fn order(up: &Up, key: &str, correlation: &str, body: &str) -> (u16, Value) {
    let address = up.ready.order.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/orders HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Idempotency-Key: {key}\r\nX-Correlation-Id: {correlation}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        up.ready.tokens.client,
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let status = reply.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(reply.split_once("\r\n\r\n").unwrap().1).unwrap())
}

#[test]
fn a_file_is_replayed_and_every_unusual_row_is_counted() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let file = scratch.path().join("sales.csv");
    std::fs::write(&file, SALES).unwrap();
    let (status, said, complaint) =
        output(mainstay(&scratch).arg("replay").arg(&file).args(["--rate", "20"]));
    // Every order was decided, and one row was refused.
    assert_eq!(status.status.code(), Some(3), "{said}{complaint}");
    assert!(
        said.contains(
            "11 lines read: 1 header, 0 empty, 10 rows. Of the rows 8 are in orders and returns, 1 left out, 1 refused."
        ),
        "{said}"
    );
    assert!(said.contains("  line 10: not as many fields as the header\n"), "{said}");
    // The orders are invoices 1, 2, 3 and 8. C4 returns invoice 2, C5 a part of invoice 1.
    assert!(said.contains("10 rows, 4 orders and 2 returns, 4 SKUs"), "{said}");
    assert!(said.contains("6 of 6 begun"), "{said}");
    for (count, what) in [(1, "cancelled by a return"), (1, "put back into stock")] {
        assert!(
            said.lines().any(|line| line.split_whitespace().eq(format!("{count} {what}").split(' '))),
            "{said}"
        );
    }
    let odd: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let counted = |count: &str, what: &str, line: &str| {
        odd.iter().any(|words| {
            words.first() == Some(&count) && words.last() == Some(&line) && words.join(" ").contains(what)
        })
    };
    assert!(counted("1", "SKU that its invoice had already", "4"), "{said}");
    assert!(counted("1", "no description", "6"), "{said}");
    assert!(counted("1", "negative quantity on an invoice that is no return", "9"), "{said}");
    assert!(counted("1", "invoice of which no row was left", "9"), "{said}");
    assert!(counted("1", "not as many fields", "10"), "{said}");
    assert!(counted("1", "no article", "11"), "{said}");

    let item = |sku: &str| -> Value {
        serde_json::from_str(&request(&up, "GET", &format!("/v1/items/{sku}"), "").1).unwrap()
    };
    // No stock is held: every order was confirmed, cancelled or refused.
    for sku in ["10001", "10002", "10003", "POST"] {
        assert_eq!(item(sku)["held"], 0, "{sku}");
    }

    // The items exist, so a second replay adds the same quantity again.
    let (status, said, complaint) =
        output(mainstay(&scratch).arg("replay").arg(&file).args(["--limit", "2"]));
    assert!(status.status.success(), "{said}{complaint}");
    assert!(said.contains("2 of them existed and got the same quantity again"), "{said}");

    let (status, said, complaint) = output(mainstay(&scratch).args(["verify", "--at-rest"]));
    assert!(status.status.success(), "{said}{complaint}");
    assert!(said.contains("9 of 12 invariants were checked and hold"), "{said}");
    let (status, said, _) = output(mainstay(&scratch).args(["verify", "--json"]));
    assert!(status.status.success());
    let report: Value = serde_json::from_str(&said).unwrap();
    let checked = |rule: &str| {
        let finding = report["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == rule);
        finding.unwrap()["checked"].as_u64().unwrap()
    };
    for rule in [
        "stock-conserved",
        "confirmed-together",
        "tables-equal-fold",
        "decision-reexecutes",
        "chain-verifies",
    ] {
        assert!(checked(rule) > 0, "{rule}: {said}");
    }
}

#[tokio::test]
async fn invented_stock_is_found() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let (status, body) = request(&up, "POST", "/v1/items", r#"{"sku": "A", "name": "a", "on_hand": 7}"#);
    assert_eq!(status, 201, "{body}");
    // Inventory's own role may change the row; its journal has no entry for the change.
    let mut connection = PgConnection::connect(&up.ready.databases.inventory).await.unwrap();
    sqlx::query("UPDATE items SET on_hand = on_hand + 1").execute(&mut connection).await.unwrap();
    let (status, said, _) = output(mainstay(&scratch).args(["verify", "--at-rest"]));
    assert_eq!(status.status.code(), Some(1), "{said}");
    assert!(said.contains("The contract is broken.") && said.contains("on_hand 8"), "{said}");
}

#[test]
fn an_order_is_explained_by_each_of_its_ids() {
    let scratch = scratch();
    let up = Up::start(&scratch, &[]);
    let (status, body) =
        request(&up, "POST", "/v1/items", r#"{"sku": "10001", "name": "mug", "on_hand": 7}"#);
    assert_eq!(status, 201, "{body}");
    let basket = r#"{"customer_id": "7001", "lines": [{"sku": "10001", "quantity": 2}]}"#;
    let (status, placed) = order(&up, "explain-me-by-this-key", "explain-me.1", basket);
    assert_eq!(status, 201, "{placed}");
    let id = placed["id"].as_str().unwrap().to_owned();
    let reservation = placed["reservation"]["id"].as_str().unwrap().to_owned();

    let explain = |name: &str| -> Value {
        let (status, json, complaint) = output(mainstay(&scratch).args(["explain", name, "--json"]));
        assert!(status.status.success(), "{name}: {complaint}");
        serde_json::from_str(&json).unwrap()
    };
    let story = explain(&id);
    let row = |n: usize, story: &Value| -> (String, String) {
        let row = &story["timeline"]["rows"][n];
        (row["service"].as_str().unwrap().to_owned(), row["entry"]["to"].as_str().unwrap().to_owned())
    };
    let told: Vec<_> = (0..3).map(|n| row(n, &story)).collect();
    let expected = [("order", "reserving"), ("inventory", "held"), ("order", "reserved")];
    assert_eq!(told, expected.map(|(service, state)| (service.to_owned(), state.to_owned())));
    let rows = story["timeline"]["rows"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["cause"].as_u64()).collect::<Vec<_>>(), [None, Some(0), Some(1)]);
    let trace = rows[0]["entry"]["trace_id"].as_str().unwrap();
    for (name, known_as) in [
        (reservation.as_str(), "a reservation"),
        ("explain-me.1", "a correlation id"),
        (trace, "a trace id"),
        ("explain-me-by-this-key", "an idempotency key"),
    ] {
        let other = explain(name);
        assert_eq!(other["known_as"], Value::from(vec![known_as]), "{name}");
        assert_eq!(other["timeline"]["rows"], story["timeline"]["rows"], "{name}");
    }
    assert_eq!(explain("10001")["known_as"], Value::from(vec!["an item"]));

    let svg = scratch.path().join("story.svg");
    let (status, text, _) = output(mainstay(&scratch).args(["explain", &id, "--svg"]).arg(&svg));
    assert!(status.status.success());
    assert!(
        text.contains(&format!("Order {id} is reserved")) && text.contains("2 x 10001 of 7 available"),
        "{text}"
    );
    assert!(std::fs::read_to_string(&svg).unwrap().starts_with("<svg"));

    let (status, text, complaint) = output(mainstay(&scratch).args(["explain", "an-id-in-no-journal"]));
    assert_eq!((status.status.code(), text.as_str()), (Some(1), ""));
    assert!(complaint.contains("Neither journal has an entry of \"an-id-in-no-journal\""), "{complaint}");
}

#[test]
fn a_stray_quote_loses_only_its_own_row_and_no_order_gets_another_rows_quantity() {
    let scratch = scratch();
    let _up = Up::start(&scratch, &[]);
    let row = |n: u32| {
        let (description, quantity) = match n {
            10 => ("\"SIGN", 1),
            30 => ("CLOCK 12\" WIDE", 7),
            _ => ("MUG", 1),
        };
        format!("{n},{n},{description},{quantity},1,7001\r\n")
    };
    let rows: String = (1..=40).map(row).collect();
    let file = scratch.path().join("quotes.csv");
    std::fs::write(&file, format!("InvoiceNo,StockCode,Description,Quantity,UnitPrice,CustomerID\r\n{rows}"))
        .unwrap();
    let (status, said, complaint) =
        output(mainstay(&scratch).arg("replay").arg(&file).args(["--rate", "100"]));
    assert_eq!(status.status.code(), Some(3), "{said}{complaint}");
    assert!(said.contains("40 rows, 39 orders and 0 returns, 39 SKUs"), "{said}");
    assert!(
        said.contains("39 of 39 begun") && said.contains("40 rows. Of the rows 39 are in orders"),
        "{said}"
    );
    assert!(
        said.contains("  line 11: quoted field that does not end on its line; double or remove the quote\n"),
        "{said}"
    );
}

#[test]
fn every_error_names_its_cause_and_its_fix() {
    let scratch = scratch();
    let file = |name: &str, text: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file("sales.csv", SALES.as_bytes());
    let base = support::free_base().to_string();
    let table: [(&[&str], &str); 8] = [
        (&["replay", "/nowhere/sales.csv"], "/nowhere/sales.csv cannot be read"),
        (&["replay", &file("book.xlsx", b"PK\x03\x04...")], "save it as CSV first"),
        (&["replay", &file("other.csv", b"a,b\n1,2\n")], "names no column InvoiceNo"),
        (&["replay", &file("empty.csv", b"")], "it is empty"),
        (&["replay", &good], "start one with `mainstay up`"),
        (&["verify"], "start one with `mainstay up`"),
        (&["explain", "some-order", "--port-base", &base], "MAINSTAY_OPERATOR_TOKEN"),
        (&["--file", "/nowhere/sales.csv"], "/nowhere/sales.csv cannot be read"),
    ];
    for (arguments, expected) in table {
        let (status, said, complaint) = output(mainstay(&scratch).args(arguments));
        // `verify` has its own exit code for a pair that cannot be read.
        let code = if arguments == ["verify"] { 2 } else { 1 };
        assert_eq!((status.status.code(), said.as_str()), (Some(code), ""), "{arguments:?}");
        assert!(complaint.contains(expected), "{arguments:?}: {complaint}");
    }
    // No pair runs on these ports, although the command has a token.
    let mut unreachable = mainstay(&scratch);
    unreachable.args(["explain", "some-order", "--port-base", &base]).env("MAINSTAY_OPERATOR_TOKEN", "token");
    let (status, _, complaint) = output(&mut unreachable);
    assert_eq!(status.status.code(), Some(1));
    assert!(complaint.contains("neither service answers; see `mainstay status`"), "{complaint}");
    let (status, _, complaint) = output(mainstay(&scratch).args(["replay", "--rate", "0"]));
    assert_eq!(status.status.code(), Some(2));
    assert!(complaint.contains("must be from 0.1 to 2000"), "{complaint}");
}

#[test]
fn an_interrupted_demo_stops_everything_that_it_started() {
    let scratch = scratch();
    let mut demo = mainstay(&scratch).stdout(Stdio::piped()).process_group(0).spawn().unwrap();
    let mut stdout = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("both are ready") {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "it ended before both were ready");
    }
    // "… order (process 1) at …, inventory (process 2) at …"
    let pid = |text: &str| -> u32 { text.split(')').next().unwrap().parse().unwrap() };
    let pids: Vec<_> = line.split("(process ").skip(1).map(pid).collect();
    assert_eq!(pids.len(), 2, "{line}");
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    send("INT", demo.id());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(demo.wait().unwrap().code(), Some(130), "{rest}");
    assert!(rest.contains("Interrupted: stopping both services and the database"), "{rest}");
    wait_for("the end of both services", || pids.iter().all(|pid| !is_alive(*pid)).then_some(()));
}
