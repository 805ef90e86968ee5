//! `mainstay query`: events of both services that meet conditions, or their counts by facets.

use std::collections::BTreeMap;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use local::Service;
use replay::{Client, refusal};
use serde::Deserialize;
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use crate::screen::{is_harmless, print};
use crate::state::{Target, Which};

/// A condition, a facet or a time is wrong.
const REFUSED: u8 = 2;
/// A service did not answer, or not with all of its events.
const INCOMPLETE: u8 = 3;

const LONG: &str = "\
Find and count the events of both services: one for each request and each background step

CONDITIONS are name=value, name!=value, name>number or name<number, separated by spaces; all of them must hold. Names are \
those of docs/event-fields.md, full or short. A value with spaces is quoted: 'principal=\"a b\"'. An event without the \
field has the value none. A name that does not exist is an error that lists all names.

Without --by the newest events are printed, oldest first. With --by the events are counted by the values of the facets. \
Beyond a day the services keep every bad event and one in ten good ones; a kept event then counts for all that it \
stands for, so counts stay right.";

const AFTER: &str = "\
Examples:
  mainstay query 'verdict=bad' --since 10m                      what failed in the last ten minutes
  mainstay query 'outcome=unknown route=/v1/orders' --since 10m --by error.type,peer
  mainstay query 'route=/v1/orders' --by objectives.missed      which objectives are missed, and how often
  mainstay query 'customer=17850' --since 2h                    everything that one customer asked for
  mainstay query 'duration>300' --by skus --since 1h            which baskets are slow
  mainstay query --by service,version,outcome                   is the new release worse than the old one?
  mainstay query 'event=step' --by step,verdict                 background work
  mainstay query --tiers                                        how much is kept, and since when
  mainstay query --verify                                       was a kept event altered?

Exit code 0 when an event was found (with --verify: when nothing was altered), 1 when none was, 2 when a condition, facet
or time is wrong, 3 when a service did not answer with all of its events.";

/// Find and count the events of both services
#[derive(Debug, Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(super) struct Query {
    #[command(flatten)]
    which: Which,
    /// Conditions, such as 'outcome=unknown route=/v1/orders'
    #[arg(default_value = "")]
    conditions: String,
    /// Only events of the last time: 90s, 10m, 2h, 1d
    #[arg(long, value_name = "TIME", value_parser = since, conflicts_with = "from")]
    since: Option<Duration>,
    /// Only events from this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only events up to this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Count by these facets, separated by commas
    #[arg(long, value_name = "FACETS", default_value = "")]
    by: String,
    /// Number of events that are printed, from each service
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    last: u16,
    /// Print the sizes and ages of what is kept
    #[arg(long, conflicts_with_all = ["verify", "by"])]
    tiers: bool,
    /// Check that no kept event was altered
    #[arg(long, conflicts_with = "by")]
    verify: bool,
    /// Print lines of JSON
    #[arg(long)]
    json: bool,
}

fn since(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 90s, 10m, 2h or 1d");
    let unit = text.char_indices().next_back().ok_or_else(wrong)?;
    let number: i64 = text[..unit.0].parse().map_err(|_| wrong())?;
    let seconds = match unit.1 {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).filter(|all| *all > 0).map(Duration::seconds).ok_or_else(wrong)
}

/// The last line of a reply.
#[derive(Debug, Deserialize)]
struct End {
    matched: u64,
    weight: u64,
    unreadable: u64,
    damaged: u64,
    ungrouped: u64,
}

/// The reply of one service.
enum Answer {
    Lines(Vec<Value>, End),
    /// The service refused the query, with its reason.
    Refused(String),
    /// The service did not answer, with the reason.
    Missing(String),
}

impl Query {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.which.find()?;
        if self.tiers || self.verify {
            return self.kept(&target).await;
        }
        let path = self.path()?;
        let answers = join_all(Service::BOTH.map(|service| ask(&target, service, &path))).await;
        let (mut lines, mut is_complete, mut weight) = (Vec::new(), true, 0);
        for (service, answer) in Service::BOTH.into_iter().zip(answers) {
            match answer? {
                Answer::Lines(found, end) => {
                    weight += end.weight;
                    lines.extend(found);
                    is_complete &= note(service, &end);
                }
                Answer::Refused(reason) => {
                    eprintln!("mainstay: {}", harmless(&reason));
                    return Ok(ExitCode::from(REFUSED));
                }
                Answer::Missing(reason) => {
                    eprintln!("{service}: no events: {}", harmless(&reason));
                    is_complete = false;
                }
            }
        }
        if self.by.is_empty() {
            self.print_events(lines, weight)?;
        } else {
            self.print_groups(&lines, weight)?;
        }
        Ok(if !is_complete {
            ExitCode::from(INCOMPLETE)
        } else if weight == 0 {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }

    fn path(&self) -> anyhow::Result<String> {
        let from = match (self.since, &self.from) {
            (Some(since), _) => Some((OffsetDateTime::now_utc() - since).format(&Rfc3339)?),
            (None, from) => from.clone(),
        };
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("where", &self.conditions).append_pair("by", &self.by);
        for (name, value) in [("from", &from), ("to", &self.to)] {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if self.by.is_empty() {
            query.append_pair("last", &self.last.to_string());
        }
        Ok(format!("/admin/v1/evidence?{}", query.finish()))
    }

    fn print_events(&self, mut lines: Vec<Value>, weight: u64) -> anyhow::Result<()> {
        lines.sort_by(|a, b| a["timestamp"].as_str().cmp(&b["timestamp"].as_str()));
        for line in &lines {
            let text = if self.json { line.to_string() } else { harmless(&event(line)) };
            print(&text)?;
        }
        if !self.json {
            print(&format!("{weight} events, {} shown", lines.len()))?;
        }
        Ok(())
    }

    fn print_groups(&self, lines: &[Value], weight: u64) -> anyhow::Result<()> {
        // Both services may have a group; its values name it.
        let mut groups: BTreeMap<String, (u64, u64, &Value)> = BTreeMap::new();
        for line in lines {
            let group = groups.entry(line["by"].to_string()).or_insert((0, 0, &line["by"]));
            group.0 += line["weight"].as_u64().unwrap_or_default();
            group.1 += line["matched"].as_u64().unwrap_or_default();
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|(weight, ..)| std::cmp::Reverse(*weight));
        for (count, matched, by) in groups {
            let text = if self.json {
                json!({"by": by, "weight": count, "matched": matched}).to_string()
            } else {
                let values = by.as_object().into_iter().flatten();
                let values: Vec<_> = values
                    .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
                    .collect();
                format!("{count:>8} {:>5.1} %  {}", percent(count, weight), harmless(&values.join("  ")))
            };
            print(&text)?;
        }
        if !self.json {
            print(&format!("{weight:>8} events"))?;
        }
        Ok(())
    }

    /// Prints what the services keep, or what their verification found.
    async fn kept(&self, target: &Target) -> anyhow::Result<ExitCode> {
        let path = if self.tiers { "/admin/v1/evidence/tiers" } else { "/admin/v1/evidence/verified" };
        let (mut is_complete, mut is_well) = (true, true);
        for service in Service::BOTH {
            let client = Client::for_feeds(service.name(), target.urls.ops(service), target.operator()?)?;
            let reply: Value = match client.get_json(path).await {
                Ok(reply) => reply,
                Err(error) => {
                    eprintln!("{service}: {}", harmless(&format!("{error:#}")));
                    is_complete = false;
                    continue;
                }
            };
            is_well &= reply["faults"].as_array().is_none_or(Vec::is_empty);
            let text = match self.json {
                true => json!({"service": service.name(), "kept": reply}).to_string(),
                false if self.tiers => tiers(service, &reply),
                false => verified(service, &reply),
            };
            print(&harmless(&text))?;
        }
        Ok(if !is_complete {
            ExitCode::from(INCOMPLETE)
        } else if is_well {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

async fn ask(target: &Target, service: Service, path: &str) -> anyhow::Result<Answer> {
    let client = Client::for_feeds(service.name(), target.urls.ops(service), target.operator()?)?;
    let reply = match client.send(Method::GET, path, Bytes::new()).await {
        Ok(reply) => reply,
        Err(error) => return Ok(Answer::Missing(format!("{error:#}"))),
    };
    if reply.status() == StatusCode::BAD_REQUEST {
        return Ok(Answer::Refused(refusal_with_fields(reply.body())));
    }
    if reply.status() != StatusCode::OK {
        return Ok(Answer::Missing(refusal(&reply)));
    }
    let lines = reply.body().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let mut lines: Vec<Value> = lines.map(serde_json::from_slice).collect::<Result<_, _>>()?;
    let end = lines.pop().filter(|line| line["event"] == "end");
    Ok(match end {
        Some(end) => Answer::Lines(lines, serde_json::from_value(end)?),
        None => Answer::Missing("the reply was cut off".to_owned()),
    })
}

/// The problem's detail of each field, which names the facets that there are.
fn refusal_with_fields(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let details = problem["errors"].as_array().into_iter().flatten();
    let details: Vec<_> = details.filter_map(|error| error["detail"].as_str()).collect();
    if details.is_empty() {
        problem["title"].as_str().unwrap_or("refused").to_owned()
    } else {
        details.join("; ")
    }
}

/// Says what the reply of a service lacks; true if nothing.
fn note(service: Service, end: &End) -> bool {
    for (count, what) in [
        (end.unreadable, "lines that are no events"),
        (end.damaged, "sealed files that cannot be read to their end"),
        (end.ungrouped, "events in groups beyond the first 10,000"),
    ] {
        if count > 0 {
            eprintln!("{service}: left out: {count} {what} ({} events read)", end.matched);
        }
    }
    end.unreadable + end.damaged + end.ungrouped == 0
}

/// One event on one line.
fn event(line: &Value) -> String {
    let text = |name: &str| match &line[name] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut parts = vec![text("timestamp"), format!("{:<9}", text("service.name"))];
    let names: &[&str] = if line["event"] == "step" {
        &["step", "taken", "moved", "waiting", "failed", "error", "duration_ms"]
    } else {
        &[
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "outcome",
            "duration_ms",
            "error.type",
            "peer",
            "peer.outcome",
            "order_id",
            "customer_id",
            "correlation_id",
        ]
    };
    if line["verdict"] == "bad" {
        parts.push("BAD".to_owned());
    }
    let is_bare = |name: &str| {
        matches!(name, "http.request.method" | "http.route" | "http.response.status_code" | "step")
    };
    for name in names {
        match (text(name), is_bare(name)) {
            (value, _) if value.is_empty() => {}
            (value, true) => parts.push(value),
            (value, false) => parts.push(format!("{name}={value}")),
        }
    }
    if let Some(weight) = line["weight"].as_u64() {
        parts.push(format!("(stands for {weight})"));
    }
    parts.join("  ")
}

fn tiers(service: Service, reply: &Value) -> String {
    let tier = |name: &str| {
        let tier = &reply[name];
        let since = tier["oldest"].as_str().map_or_else(String::new, |oldest| format!(", since {oldest}"));
        format!("{name} {} in {} segments{since}", bytes(&tier["bytes"]), tier["segments"])
    };
    let (manifest, budget) = (bytes(&reply["manifest_bytes"]), bytes(&reply["budget_bytes"]));
    format!(
        "{:<10} {}; {}; manifest {manifest}; budget {budget}",
        service.name(),
        tier("hot"),
        tier("sealed")
    )
}

fn verified(service: Service, reply: &Value) -> String {
    let head = reply["head"].as_str().unwrap_or_default();
    let mut lines = vec![format!(
        "{:<10} {} seals, {} files, head {head}",
        service.name(),
        reply["seals"],
        reply["files"]
    )];
    for fault in reply["faults"].as_array().into_iter().flatten() {
        let seal = fault["seal"].as_u64().map_or_else(String::new, |seal| format!(" (seal {seal})"));
        let text = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        lines.push(format!("{:<10} ALTERED: {}{seal}: {}", "", text("file"), text("what")));
    }
    lines.join("\n")
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn bytes(value: &Value) -> String {
    let bytes = value.as_u64().unwrap_or_default();
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1_024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percent(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

fn harmless(text: &str) -> String {
    text.replace(|c| c != '\n' && !is_harmless(c), "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_number_and_a_unit() {
        assert_eq!(since("90s"), Ok(Duration::seconds(90)));
        assert_eq!(since("2h"), Ok(Duration::hours(2)));
        for wrong in ["", "m", "10", "-5m", "0m", "10 m", "5y", "9999999999999999d", "5µ"] {
            assert!(since(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_with_what_a_person_looks_for() {
        let request = json!({"timestamp": "t", "service.name": "order", "event": "request", "verdict": "bad",
            "http.request.method": "POST", "http.route": "/v1/orders", "http.response.status_code": 503,
            "outcome": "rejected-unsent", "duration_ms": 1.5, "error.type": "overloaded", "weight": 10});
        assert_eq!(
            event(&request),
            "t  order      BAD  POST  /v1/orders  503  outcome=rejected-unsent  duration_ms=1.5  error.type=overloaded  \
             (stands for 10)"
        );
    }
}
