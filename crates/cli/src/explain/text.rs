//! The story as text: one line for each entry, and below it the reason, the refused alternatives and the middleware's
//! observations.

use std::fmt::Write;

use checker::Side;
use journal::Entry;
use time::OffsetDateTime;
use time::macros::format_description;

use super::rows::Row;
use super::timeline::{Timeline, Wait, WaitKind};
use super::words::{basket, date, plain, refused, seen, span, why};

/// Details begin in this column.
const INDENT: usize = 20;
/// The number of middleware decisions shown for one entry; `--json` has all.
const DECISIONS_SHOWN: usize = 8;

/// The amount of detail for each entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Reason, refused alternatives and the middleware's observations.
    Full,
    /// The reason only.
    Brief,
}

/// Formats the whole story in at most `width` columns, as far as lines can be broken between words.
pub(crate) fn text(timeline: &Timeline, width: usize, detail: Detail) -> String {
    let mut text = String::new();
    for (id, first, last) in timeline.orders() {
        headline(&mut text, &id.to_string(), first, last);
    }
    summary(&mut text, timeline, width);
    text.push_str("\n   #  time             after  service    what      from -> to\n");
    for n in 0..timeline.rows.len() {
        entry(&mut text, timeline, n, width, detail);
        for wait in timeline.waits.iter().filter(|wait| wait.from == n) {
            let line = format!("?? {}", unknown(timeline, wait));
            wrapped(&mut text, 6, 9, &line, width);
        }
    }
    if !timeline.missing_causes.is_empty() {
        let ids: Vec<_> = timeline.missing_causes.iter().map(ToString::to_string).collect();
        write(&mut text, format_args!("\nCauses that no journal has: {}\n", ids.join(", ")));
    }
    if timeline.circular > 0 {
        write(
            &mut text,
            format_args!(
                "\nThe last {} entries name each other as causes; they are in the order of their clocks.\n",
                timeline.circular
            ),
        );
    }
    text
}

fn headline(text: &mut String, id: &str, first: &Row, last: &Row) {
    let (begun, ended) = (&first.entry, &last.entry);
    write(text, format_args!("Order {id} is {}\n", plain(&ended.to)));
    if let Some(basket) = basket(&begun.inputs) {
        let customer = begun.inputs.get("customer_id").and_then(serde_json::Value::as_str);
        let customer = plain(customer.unwrap_or("unknown"));
        let (principal, at) = (plain(&begun.principal), date(begun.at));
        write(text, format_args!("  {basket} for customer {customer}; placed by {principal} on {at}\n"));
    }
}

fn summary(text: &mut String, timeline: &Timeline, width: usize) {
    let took = timeline.rows.iter().map(|row| row.after_ms).max().unwrap_or(0);
    let services = ["order", "inventory"]
        .map(|name| timeline.rows.iter().filter(|row| row.service.as_str() == name).count());
    let unknown: i64 =
        timeline.waits.iter().filter(|wait| wait.kind == WaitKind::Unknown).map(|wait| wait.lasted_ms).sum();
    write(
        text,
        format_args!(
            "  {} entries, {} of the order service and {} of inventory, within {}",
            timeline.rows.len(),
            services[0],
            services[1],
            span(took)
        ),
    );
    if unknown > 0 {
        write(text, format_args!("; for {} of it the outcome was not known", span(unknown)));
    }
    text.push('\n');
    let requests = timeline.requests();
    if !requests.is_none() {
        let line = format!("requests to inventory: {requests}");
        wrapped(text, 2, 4, &line, width);
    }
}

fn entry(text: &mut String, timeline: &Timeline, n: usize, width: usize, detail: Detail) {
    let row = &timeline.rows[n];
    let Entry { command, from, to, .. } = &row.entry;
    let cause = row.cause.map_or_else(String::new, |cause| format!("  (by {})", cause + 1));
    let after = if row.after_ms < 0 { format!("{} ms", row.after_ms) } else { span(row.after_ms) };
    write(
        text,
        format_args!(
            "{:>4}  {}  {after:>9}  {:<9}  {:<8}  {} -> {}{cause}\n",
            n + 1,
            time_of_day(row.entry.at),
            row.service.as_str(),
            plain(command),
            plain(from),
            plain(to),
        ),
    );
    let mut labelled = |label: &str, line: &str| {
        wrapped(text, INDENT, INDENT + 6, &format!("{label:<6}{line}"), width);
    };
    labelled("why", &why(&row.entry, timeline.cause_of(row)));
    if detail == Detail::Brief {
        return;
    }
    for other in refused(&row.entry) {
        labelled("not", &other);
    }
    let seen = seen(&row.entry);
    for one in seen.iter().take(DECISIONS_SHOWN) {
        labelled("saw", one);
    }
    if seen.len() > DECISIONS_SHOWN {
        labelled("saw", &format!("and {} more: see --json", seen.len() - DECISIONS_SHOWN));
    }
}

/// A sentence about an unknown outcome: how long it lasted, and what inventory had in fact decided.
pub(super) fn unknown(timeline: &Timeline, wait: &Wait) -> String {
    let what = match (wait.kind, wait.state.as_str()) {
        (WaitKind::Unknown, "reserve_unknown") => "Not known whether inventory holds the stock",
        (WaitKind::Unknown, "confirm_unknown") => "Not known whether inventory has shipped",
        (WaitKind::Unknown, _) => "Not known whether inventory has released the reservation",
        (WaitKind::Undecided, _) => "Not decided",
    };
    let mut line = match wait.until {
        Some(until) => format!("{what}, for {}, until {}", span(wait.lasted_ms), until + 1),
        None => format!("{what}, for {} now", span(wait.lasted_ms)),
    };
    match wait.fact.map(|fact| (fact, &timeline.rows[fact])) {
        Some((fact, row)) => {
            let decided = row.entry.at - timeline.rows[wait.from].entry.at;
            let decided = i64::try_from(decided.whole_milliseconds()).unwrap_or(i64::MAX);
            let when = if decided < 0 {
                format!("{} before: the effect was there, its reply was lost", span(-decided))
            } else {
                format!("{} into it", span(decided))
            };
            write(
                &mut line,
                format_args!(". In fact inventory decided `{}` ({}), {when}", row.entry.to, fact + 1),
            );
        }
        None if wait.until.is_some() => {}
        None if timeline.unread.contains(&Side::Inventory) => {
            line.push_str(". Inventory's journal cannot be read now");
        }
        None => line.push_str(". Inventory's journal has no entry of it yet"),
    }
    line
}

/// Writes `line` with line breaks between words. The first line begins in column `first`, the others in `rest`.
fn wrapped(text: &mut String, first: usize, rest: usize, line: &str, width: usize) {
    let mut column = first;
    text.push_str(&" ".repeat(first));
    let mut is_first = true;
    // A label's padding is part of the first line.
    for word in line.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if column + length > width && !is_first && column > rest {
            let kept = text.trim_end().len();
            text.truncate(kept);
            text.push('\n');
            text.push_str(&" ".repeat(rest));
            column = rest;
        }
        text.push_str(word);
        column += word.chars().count();
        is_first = false;
    }
    text.push('\n');
}

fn time_of_day(at: OffsetDateTime) -> String {
    formatted(at, format_description!("[hour]:[minute]:[second].[subsecond digits:3]"))
}

fn formatted(at: OffsetDateTime, format: &[time::format_description::BorrowedFormatItem<'_>]) -> String {
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_else(|_| at.unix_timestamp().to_string())
}

fn write(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::tests::{BEGAN, SampleEntry, lost_reply};
    use super::*;

    fn story(entries: &[SampleEntry]) -> String {
        let entries = entries.iter().map(SampleEntry::recorded).collect();
        text(&Timeline::of(entries, BEGAN + Duration::minutes(1)), 100, Detail::Full)
    }

    #[test]
    fn the_story_states_the_unknown_outcome_and_inventorys_decision() {
        let text = story(&lost_reply());
        assert!(text.starts_with("Order 00000000-0000-0000-0000-00000000000a is confirmed\n"), "{text}");
        assert!(
            text.contains("7 entries, 5 of the order service and 2 of inventory, within 5.90 s; for 4.31 s"),
            "{text}"
        );
        let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            joined.contains(
                "?? Not known whether inventory holds the stock, for 4.31 s, until 4. In fact inventory decided \
                 `held` (2), 1.03 s before: the effect was there, its reply was lost"
            ),
            "{text}"
        );
        let row = text.lines().find(|line| line.starts_with("   4  ")).unwrap();
        let expected =
            "   4  12:00:05.350     5.35 s  order      reserve   reserve_unknown -> reserved  (by 2)";
        assert_eq!(row, expected);
    }

    #[test]
    fn an_outcome_that_is_still_unknown_is_reported_as_such() {
        let mut entries = lost_reply();
        entries.truncate(3);
        entries.remove(1);
        let text = story(&entries).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("for 58.96 s now. Inventory's journal has no entry of it yet"), "{text}");
    }

    #[test]
    fn lines_break_between_words_and_keep_their_column() {
        let mut text = String::new();
        wrapped(&mut text, 2, 4, "aaa bbb ccc ddd", 10);
        assert_eq!(text, "  aaa bbb\n    ccc ddd\n".replace("ccc ddd", "ccc\n    ddd"));
        text.clear();
        wrapped(&mut text, 0, 2, "averyverylongword b", 10);
        assert_eq!(text, "averyverylongword\n  b\n");
    }
}
