//! An entry in plain words: the inputs of its decision, shortened to what a reader needs.
//!
//! Each rule's inputs have their own wording. The inputs of a rule that this release does not know are shown
//! unchanged.

use journal::Entry;
use serde_json::Value;
use time::OffsetDateTime;
use time::macros::format_description;

use super::requests::Requests;
use crate::screen::is_harmless;

/// The number of SKUs of a basket that are named.
const SKUS_NAMED: usize = 3;
/// The length at which a journal's text is cut; `--json` has the whole text.
const LONGEST: usize = 240;

/// The reason for an entry: the rule's inputs in words, and the rule.
///
/// `cause` is the entry that led to it, where it was found. Inventory's reply to a release does not say whether there
/// was anything to release; its entry does.
pub(crate) fn why(entry: &Entry, cause: Option<&Entry>) -> String {
    let rule = entry.rule.split('@').next().unwrap_or_default();
    let inputs = &entry.inputs;
    let reason = match rule {
        "order.place" => place(inputs),
        "order.intend" => intend(inputs),
        "order.answered" => answered(inputs, cause),
        "order.expire" | "order.lapse" => expire(inputs),
        "inventory.reserve" => reserve(inputs),
        "inventory.confirm" | "inventory.expire" => hold(inputs),
        "inventory.release" => release(inputs),
        "inventory.create_item" => quantity(inputs).map(|n| format!("a new item with {n} pieces")),
        "inventory.receive" => quantity(inputs).map(|n| format!("{n} pieces came in")),
        _ => None,
    };
    let reason = reason.unwrap_or_else(|| format!("not readable by this release: {inputs}"));
    format!("{} [{}]", plain(&reason), plain(&entry.rule))
}

/// The refused alternatives, each with its reason.
pub(crate) fn refused(entry: &Entry) -> Vec<String> {
    let each = entry.alternatives.iter();
    each.map(|other| plain(&format!("{}: {}", other.to, other.refused_because))).collect()
}

/// The middleware's observations.
pub(crate) fn seen(entry: &Entry) -> Vec<String> {
    let decisions = entry.evidence.get("decisions").and_then(Value::as_array).into_iter().flatten();
    let mut seen: Vec<_> = decisions.map(|decision| plain(&decided(decision))).collect();
    let requests = Requests::of(entry);
    if requests.is_remarkable() {
        seen.push(format!("requests to inventory: {requests}"));
    }
    if entry.attempt > 1 {
        seen.push(format!("attempt {} of the request", entry.attempt));
    }
    seen
}

/// The ordered lines, shortened.
pub(crate) fn basket(inputs: &Value) -> Option<String> {
    let lines = inputs.get("lines")?.as_array()?;
    let one = |line: &Value| {
        let sku = line.get("sku").and_then(Value::as_str)?;
        Some(format!("{} x {}", line.get("quantity")?, plain(sku)))
    };
    let named: Option<Vec<_>> = lines.iter().take(SKUS_NAMED).map(one).collect();
    Some(match lines.len().saturating_sub(SKUS_NAMED) {
        0 => named?.join(", "),
        more => format!("{} and {more} more", named?.join(", ")),
    })
}

/// Replaces control characters, so that a journal's text cannot control the terminal, and cuts a long text.
pub(crate) fn plain(text: &str) -> String {
    let mut plain: String =
        text.chars().take(LONGEST).map(|c| if is_harmless(c) { c } else { '\u{fffd}' }).collect();
    if text.chars().nth(LONGEST).is_some() {
        plain.push('…');
    }
    plain
}

/// Formats a date and time of day, in UTC.
pub(crate) fn date(at: OffsetDateTime) -> String {
    let format =
        format_description!("[year]-[month]-[day] at [hour]:[minute]:[second].[subsecond digits:3] UTC");
    at.to_offset(time::UtcOffset::UTC).format(format).unwrap_or_else(|_| at.unix_timestamp().to_string())
}

/// Formats milliseconds for people.
pub(crate) fn span(millis: i64) -> String {
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{:02} s", millis / 1_000, millis % 1_000 / 10),
        _ => format!("{} min {:02} s", millis / 60_000, millis % 60_000 / 1_000),
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn quantity(inputs: &Value) -> Option<i64> {
    inputs.get("quantity")?.as_i64()
}

/// The time of day of an RFC 3339 time; the rows show the date.
fn clock(time: &str) -> &str {
    let time = time.split('T').nth(1).unwrap_or(time);
    time.get(..8).unwrap_or(time)
}

fn deadline(inputs: &Value) -> String {
    let left = inputs.get("deadline_left_ms").and_then(Value::as_i64);
    left.map_or_else(String::new, |left| format!("; {} left to the deadline", span(left)))
}

fn plan(inputs: &Value) -> String {
    text(inputs, "if_unknown").map_or_else(String::new, |plan| format!("; if no answer comes: {plan}"))
}

fn place(inputs: &Value) -> Option<String> {
    let customer = text(inputs, "customer_id")?;
    let hold = inputs.get("hold_seconds")?;
    let basket = basket(inputs)?;
    let (deadline, plan) = (deadline(inputs), plan(inputs));
    Some(format!("customer {customer} wants {basket}, held for {hold} s{deadline}{plan}"))
}

fn intend(inputs: &Value) -> Option<String> {
    let (wish, state) = (text(inputs, "wish")?, text(inputs, "state")?);
    let until = text(inputs, "expires_at").map_or_else(String::new, |t| format!(" until {}", clock(t)));
    let (deadline, plan) = (deadline(inputs), plan(inputs));
    Some(format!("the client asked to {wish} it, and it was {state}{until}{deadline}{plan}"))
}

fn answered(inputs: &Value, cause: Option<&Entry>) -> Option<String> {
    let reply = inputs.get("reply")?;
    Some(match text(reply, "kind")? {
        "held" => format!("inventory holds the stock until {}", clock(text(reply, "expires_at")?)),
        "insufficient_stock" => format!("inventory has too little stock: {}", short_lines(reply)?),
        "unknown_sku" => format!("inventory has no item {}", reply.get("skus")?),
        "reservation_voided" => "inventory had already voided the reservation".to_owned(),
        "shipped" => "inventory has shipped it".to_owned(),
        "released" => released(cause).to_owned(),
        "hold_expired" => "inventory says that the hold had expired".to_owned(),
        "nothing" => format!("no reliable answer: {}", text(reply, "seen")?),
        _ => return None,
    })
}

/// The wording of an answered release. Inventory answers every release alike; only its entry says whether anything
/// was held.
fn released(cause: Option<&Entry>) -> &'static str {
    match cause.filter(|cause| cause.aggregate_kind == "reservation").map(|cause| &*cause.to) {
        Some("released") => "inventory has given the stock back",
        Some("voided") => "inventory held nothing: it had never seen the reservation, and has voided it",
        Some("refused") => "inventory held nothing: it had refused the reservation",
        Some("expired") => "inventory held nothing any more: the hold had expired",
        Some(_) | None => "inventory holds nothing for it now",
    }
}

fn short_lines(reply: &Value) -> Option<String> {
    let lines = reply.get("short_lines")?.as_array()?;
    let one = |line: &Value| {
        let sku = text(line, "sku")?;
        Some(format!("{sku}: {} asked for, {} available", line.get("requested")?, line.get("available")?))
    };
    let named: Option<Vec<_>> = lines.iter().take(SKUS_NAMED).map(one).collect();
    Some(match lines.len().saturating_sub(SKUS_NAMED) {
        0 => named?.join("; "),
        more => format!("{}; and {more} more", named?.join("; ")),
    })
}

fn expire(inputs: &Value) -> Option<String> {
    Some(format!("inventory was asked, and says that the reservation is {}", text(inputs, "reservation")?))
}

/// Each line, with the stock that was available.
fn reserve(inputs: &Value) -> Option<String> {
    let lines = inputs.get("lines")?.as_array()?;
    let one = |line: &Value| {
        let (sku, wanted) = (text(line, "sku")?, line.get("quantity")?.as_i64()?);
        let stock = line.get("stock")?;
        Some(
            match (stock.get("on_hand").and_then(Value::as_i64), stock.get("held").and_then(Value::as_i64)) {
                (Some(on_hand), Some(held)) => format!("{wanted} x {sku} of {} available", on_hand - held),
                _ => format!("{wanted} x {sku}, no such item"),
            },
        )
    };
    let is_short = |line: &&Value| {
        let number = |value: Option<&Value>| value.and_then(Value::as_i64).unwrap_or(0);
        let stock = line.get("stock");
        let available =
            number(stock.and_then(|s| s.get("on_hand"))) - number(stock.and_then(|s| s.get("held")));
        available < number(line.get("quantity"))
    };
    // Short lines decided, so they come first.
    let (short, met): (Vec<_>, Vec<_>) = lines.iter().partition(is_short);
    let reason: Option<Vec<_>> = short.into_iter().chain(met).take(SKUS_NAMED).map(one).collect();
    Some(match lines.len().saturating_sub(SKUS_NAMED) {
        0 => reason?.join(", "),
        more => format!("{} and {more} more", reason?.join(", ")),
    })
}

fn hold(inputs: &Value) -> Option<String> {
    let (state, now) = (text(inputs, "state")?, clock(text(inputs, "now")?));
    let end = text(inputs, "expires_at").map_or("no end", clock);
    Some(format!("it was {state} until {end}, and by inventory's clock it is {now}"))
}

fn release(inputs: &Value) -> Option<String> {
    Some(match inputs.get("state")? {
        Value::Null => "inventory had never seen it, and has voided it".to_owned(),
        state => format!("it was {}", state.as_str()?),
    })
}

fn decided(decision: &Value) -> String {
    let word = |name: &str| text(decision, name).unwrap_or("?");
    let number = |name: &str| decision.get(name).and_then(Value::as_i64);
    let at = number("at_ms").map_or_else(String::new, |at| format!(" at {}", span(at)));
    let (layer, action, why) = (word("layer"), word("action"), word("why"));
    match (layer, number("attempt").unwrap_or(0)) {
        ("attempt", attempt) => format!("attempt {attempt}{at}: {action}: {why}"),
        (_, 0) => format!("{layer}{at}: {action}: {why}"),
        (_, attempt) => format!("{layer}{at}, attempt {attempt}: {action}: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use inventory_api::{Line, ReservationStatus, ShortLine};
    use journal::{Alternative, Rule};
    use order_service::domain::decisions::{Answered, Expire, Intend, InventoryAnswer, Place};
    use order_service::domain::{CustomerCommand, Status};
    use serde::Serialize;
    use serde_json::json;
    use uuid::Uuid;

    use super::super::tests::lost_reply;
    use super::*;

    fn reason_of_rule(rule: &str, inputs: impl Serialize) -> String {
        let (_, recorded) = lost_reply()[0].recorded();
        let inputs = serde_json::to_value(inputs).unwrap();
        why(&Entry { rule: rule.to_owned().into(), inputs, ..recorded.entry }, None)
    }

    fn reason<R: Rule>(rule: &R) -> String {
        reason_of_rule(R::NAME, rule)
    }

    #[test]
    fn every_rule_of_the_order_service_has_its_own_wording() {
        let lines = ["a", "b", "c", "d"].map(|sku| Line { sku: sku.to_owned(), quantity: 2 });
        let place = Place {
            customer_id: "7".into(),
            lines: lines.into(),
            reservation_id: Uuid::nil(),
            hold_seconds: 900,
            deadline_left_ms: 1_950,
            if_unknown: "ask again".into(),
        };
        assert_eq!(
            reason(&place),
            "customer 7 wants 2 x a, 2 x b, 2 x c and 1 more, held for 900 s; 1.95 s left to the deadline; \
             if no answer comes: ask again [order.place@1]"
        );
        let intend = Intend {
            state: Status::Reserved,
            command: CustomerCommand::Cancel,
            reservation_id: Uuid::nil(),
            expires_at: Some("2026-11-21T12:15:00.123Z".to_owned()),
            deadline_left_ms: 20,
            if_unknown: "ask again".into(),
        };
        assert!(
            reason(&intend)
                .starts_with("the client asked to cancel it, and it was reserved until 12:15:00; 20 ms"),
            "{}",
            reason(&intend)
        );
        let short = ShortLine { sku: "a".to_owned(), requested: 6, available: 2 };
        let answers = [
            (
                InventoryAnswer::Held { expires_at: "2026-11-21T12:15:00Z".to_owned() },
                "holds the stock until 12:15:00",
            ),
            (
                InventoryAnswer::InsufficientStock { short_lines: vec![short] },
                "too little stock: a: 6 asked for, 2 available",
            ),
            (InventoryAnswer::UnknownSku { skus: vec!["x".to_owned()] }, "no item [\"x\"]"),
            (InventoryAnswer::ReservationVoided, "voided"),
            (InventoryAnswer::Shipped, "shipped"),
            (InventoryAnswer::Released, "holds nothing for it now"),
            (InventoryAnswer::HoldExpired, "hold had expired"),
            (
                InventoryAnswer::Nothing { seen: "connection lost".to_owned() },
                "no reliable answer: connection lost",
            ),
        ];
        for (answer, words) in answers {
            let reason = reason(&Answered { state: Status::Reserving, answer });
            assert!(reason.contains(words) && reason.ends_with("[order.answered@1]"), "{reason}");
        }
        let expire =
            Expire { state: Status::Reserved, reservation: ReservationStatus::Expired, expires_at: None };
        assert!(reason(&expire).contains("is expired"), "{}", reason(&expire));
    }

    #[test]
    fn inventorys_decisions_are_described_with_their_inputs() {
        let inputs = json!({"lines": [
            {"sku": "a", "quantity": 1, "stock": {"on_hand": 9, "held": 2, "version": 1}},
            {"sku": "b", "quantity": 5, "stock": {"on_hand": 4, "held": 1, "version": 1}},
            {"sku": "c", "quantity": 5, "stock": null},
        ]});
        assert_eq!(
            reason_of_rule("inventory.reserve@1", inputs),
            "5 x b of 3 available, 5 x c, no such item, 1 x a of 7 available [inventory.reserve@1]"
        );
        let inputs =
            json!({"state": "held", "now": "2026-11-21T12:01:00Z", "expires_at": "2026-11-21T12:15:00Z"});
        assert!(
            reason_of_rule("inventory.confirm@1", inputs)
                .starts_with("it was held until 12:15:00, and by inventory's clock it is 12:01:00")
        );
        assert!(
            reason_of_rule("inventory.release@1", json!({"state": null}))
                .starts_with("inventory had never seen it")
        );
    }

    #[test]
    fn a_rule_of_another_release_is_shown_by_its_inputs() {
        let reason = reason_of_rule("order.gift@7", json!({"ribbon": "red"}));
        assert_eq!(reason, "not readable by this release: {\"ribbon\":\"red\"} [order.gift@7]");
        // A known name with inputs of another shape.
        let reason = reason_of_rule("order.place@2", json!({"basket": 1}));
        assert_eq!(reason, "not readable by this release: {\"basket\":1} [order.place@2]");
    }

    #[test]
    fn the_decision_trail_and_the_refused_alternatives_are_shown() {
        let (_, recorded) = lost_reply()[2].recorded();
        let entry = Entry {
            alternatives: vec![Alternative { to: "rejected".into(), refused_because: "no".into() }],
            evidence: json!({"tries": 3, "decisions": [{"layer": "retry", "action": "give_up", "why": "budget",
                "attempt": 2, "endpoint": null, "deadline_left_ms": 4, "at_ms": 1_200}]}),
            ..recorded.entry
        };
        assert_eq!(refused(&entry), ["rejected: no"]);
        let seen = seen(&entry);
        assert_eq!(seen[0], "retry at 1.20 s, attempt 2: give_up: budget");
        assert!(
            seen.last().is_some_and(|last| last.contains("before that 2 tries, not executed")),
            "{seen:?}"
        );
    }

    #[test]
    fn the_reason_for_a_released_order_follows_inventorys_own_entry() {
        let (_, cause) = lost_reply()[1].recorded();
        let (_, recorded) = lost_reply()[3].recorded();
        let answered = Answered { state: Status::Cancelling, answer: InventoryAnswer::Released };
        let inputs = serde_json::to_value(answered).unwrap();
        let entry = Entry { rule: Answered::NAME.into(), inputs, ..recorded.entry };
        let table = [
            ("released", "inventory has given the stock back"),
            ("voided", "inventory held nothing: it had never seen the reservation"),
            ("refused", "inventory held nothing: it had refused"),
            ("expired", "inventory held nothing any more"),
            ("dissolved", "inventory holds nothing for it now"),
        ];
        for (state, words) in table {
            let cause = Entry { to: state.into(), ..cause.entry.clone() };
            let reason = why(&entry, Some(&cause));
            assert!(reason.starts_with(words), "{state}: {reason}");
        }
    }

    #[test]
    fn text_of_a_journal_cannot_control_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\r\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}");
        // Text that reverses or hides the text beside it.
        assert_eq!(plain("a\u{202e}b\u{200b}c\u{2066}d"), "a\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(plain(&"x".repeat(300)).chars().count(), 241);
    }

    #[test]
    fn spans_have_a_unit_that_fits_their_length() {
        assert_eq!(
            [0, 999, 1_000, 4_310, 59_999].map(span),
            ["0 ms", "999 ms", "1.00 s", "4.31 s", "59.99 s"]
        );
        assert_eq!(span(61_500), "1 min 01 s");
    }
}
