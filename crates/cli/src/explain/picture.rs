//! The story as a swim-lane picture: time runs down, each service has a lane, an arrow leads from every cause to its
//! effect, and a hatched bar marks a time with an unknown outcome. It is plain SVG, without scripts, fonts or
//! external resources.

use std::fmt::Write;

use checker::Side;
use time::macros::format_description;

use super::rows::Row;
use super::timeline::{Timeline, WaitKind};
use super::words::{basket, plain, span};

const WIDTH: i64 = 940;
const TOP: i64 = 132;
/// The distance between two entries. The time is written beside each, because milliseconds and minutes share one
/// picture.
const STEP: i64 = 74;
const BOX_WIDTH: i64 = 250;
const BOX_HEIGHT: i64 = 46;

const STYLE: &str = "\
text{font-family:system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;fill:#1f2933}\
.title{font-size:19px;font-weight:600}.lane{font-size:15px;font-weight:600;text-anchor:middle}\
.state{font-size:14px;font-weight:600}.small{font-size:12px;fill:#52606d}.end{text-anchor:end}\
.wait{font-size:12px;fill:#9c4a00;text-anchor:end;paint-order:stroke;stroke:#fff;stroke-width:5px}.wire{fill:none;stroke:#52606d;stroke-width:1.6}\
.rail{stroke:#cbd2d9;stroke-width:1.5}";

/// Draws the picture.
pub(crate) fn picture(timeline: &Timeline) -> String {
    let count = i64::try_from(timeline.rows.len()).unwrap_or(i64::MAX / STEP);
    let height = TOP + count * STEP + 24;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n"
    );
    let (title, subtitle) = titles(timeline);
    let (title, subtitle) = (escaped(&title), escaped(&subtitle));
    put(&mut svg, format_args!("<title>{title}</title><style>{STYLE}</style>\n"));
    svg.push_str(
        "<defs><marker id=\"tip\" viewBox=\"0 0 10 10\" refX=\"9\" refY=\"5\" markerWidth=\"7\" markerHeight=\"7\" \
         orient=\"auto\"><path d=\"M0 0L10 5L0 10z\" fill=\"#52606d\"/></marker>\
         <pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" \
         patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" fill=\"#ffe3c2\"/>\
         <rect width=\"2.5\" height=\"6\" fill=\"#f59b3d\"/></pattern></defs>\n",
    );
    put(&mut svg, format_args!("<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n"));
    put(&mut svg, format_args!("<text class=\"title\" x=\"24\" y=\"34\">{title}</text>\n"));
    put(&mut svg, format_args!("<text class=\"small\" x=\"24\" y=\"56\">{subtitle}</text>\n"));
    for side in [Side::Order, Side::Inventory] {
        let x = middle(side);
        put(&mut svg, format_args!("<text class=\"lane\" x=\"{x}\" y=\"96\">{side}</text>\n"));
        let bottom = height - 16;
        put(
            &mut svg,
            format_args!("<line class=\"rail\" x1=\"{x}\" y1=\"108\" x2=\"{x}\" y2=\"{bottom}\"/>\n"),
        );
    }
    waits(&mut svg, timeline, height);
    for (n, row) in timeline.rows.iter().enumerate() {
        if let Some(cause) = row.cause {
            wire(&mut svg, (cause, timeline.rows[cause].service), (n, row.service));
        }
    }
    for (n, row) in timeline.rows.iter().enumerate() {
        entry(&mut svg, timeline, n, row);
    }
    svg.push_str("</svg>\n");
    svg
}

fn titles(timeline: &Timeline) -> (String, String) {
    let orders = timeline.orders();
    let took = timeline.rows.iter().map(|row| row.after_ms).max().unwrap_or(0);
    let entries = format!("{} entries within {}", timeline.rows.len(), span(took));
    match orders.as_slice() {
        [(id, first, last)] => {
            let what = basket(&first.entry.inputs).map_or_else(String::new, |basket| format!("{basket}; "));
            (format!("Order {id} is {}", plain(&last.entry.to)), format!("{what}{entries}"))
        }
        orders => (format!("{} orders", orders.len()), entries),
    }
}

fn middle(side: Side) -> i64 {
    match side {
        Side::Order => 290,
        Side::Inventory => 740,
    }
}

fn y(n: usize) -> i64 {
    TOP + i64::try_from(n).unwrap_or(0) * STEP
}

fn entry(svg: &mut String, timeline: &Timeline, n: usize, row: &Row) {
    let (x, y) = (middle(row.service) - BOX_WIDTH / 2, y(n));
    let (fill, stroke) = colours(&row.entry.to);
    let state = escaped(&plain(&row.entry.to));
    let what = escaped(&plain(&format!("{} {}", n + 1, row.entry.command)));
    let rule = escaped(&plain(&row.entry.rule));
    put(
        svg,
        format_args!(
            "<g><title>{}</title><rect x=\"{x}\" y=\"{y}\" width=\"{BOX_WIDTH}\" height=\"{BOX_HEIGHT}\" rx=\"7\" \
             fill=\"{fill}\" stroke=\"{stroke}\" stroke-width=\"1.5\"/>",
            escaped(&super::words::why(&row.entry, timeline.cause_of(row)))
        ),
    );
    put(svg, format_args!("<text class=\"state\" x=\"{}\" y=\"{}\">{state}</text>", x + 12, y + 20));
    put(svg, format_args!("<text class=\"small\" x=\"{}\" y=\"{}\">{what}</text>", x + 12, y + 37));
    let right = x + BOX_WIDTH - 12;
    put(svg, format_args!("<text class=\"small end\" x=\"{right}\" y=\"{}\">{rule}</text></g>\n", y + 37));
    let format = format_description!("[hour]:[minute]:[second].[subsecond digits:3]");
    let at = row.entry.at.to_offset(time::UtcOffset::UTC);
    let at = at.format(format).unwrap_or_else(|_| at.unix_timestamp().to_string());
    put(svg, format_args!("<text class=\"small\" x=\"24\" y=\"{}\">{at}</text>", y + 20));
    let after =
        if row.after_ms < 0 { format!("{} ms", row.after_ms) } else { format!("+{}", span(row.after_ms)) };
    put(svg, format_args!("<text class=\"small\" x=\"24\" y=\"{}\">{after}</text>\n", y + 37));
}

/// An arrow from the bottom or side of the cause to the top or side of the effect.
fn wire(svg: &mut String, (cause, from): (usize, Side), (effect, to): (usize, Side)) {
    let half = BOX_WIDTH / 2;
    if from != to {
        let outward = if from == Side::Order { 1 } else { -1 };
        let (x1, x2) = (middle(from) + outward * half, middle(to) - outward * half);
        let (y1, y2) = (y(cause) + BOX_HEIGHT / 2, y(effect) + BOX_HEIGHT / 2);
        let bend = outward * 60;
        put(
            svg,
            format_args!(
                "<path class=\"wire\" marker-end=\"url(#tip)\" d=\"M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}\"/>\n",
                x1 + bend,
                x2 - bend
            ),
        );
    } else if effect == cause + 1 {
        let x = middle(from);
        let (y1, y2) = (y(cause) + BOX_HEIGHT, y(effect));
        put(svg, format_args!("<path class=\"wire\" marker-end=\"url(#tip)\" d=\"M{x} {y1}L{x} {y2}\"/>\n"));
    } else {
        // Around the boxes in between, on the side away from the other lane.
        let outward = if from == Side::Order { -1 } else { 1 };
        let x = middle(from) + outward * half;
        let (y1, y2) = (y(cause) + BOX_HEIGHT / 2, y(effect) + BOX_HEIGHT / 2);
        let bend = x + outward * 34;
        put(
            svg,
            format_args!(
                "<path class=\"wire\" marker-end=\"url(#tip)\" d=\"M{x} {y1}C{bend} {y1} {bend} {y2} {x} {y2}\"/>\n"
            ),
        );
    }
}

/// A hatched bar beside the order's lane for each time in which the outcome was open.
fn waits(svg: &mut String, timeline: &Timeline, height: i64) {
    for wait in &timeline.waits {
        let top = y(wait.from) + BOX_HEIGHT;
        let bottom = wait.until.map_or(height - 16, y);
        let x = middle(Side::Order) + BOX_WIDTH / 2 - 26;
        let what = match wait.kind {
            WaitKind::Unknown => "not known",
            WaitKind::Undecided => "not decided",
        };
        put(
            svg,
            format_args!(
                "<rect x=\"{x}\" y=\"{top}\" width=\"14\" height=\"{}\" fill=\"url(#hatch)\"/>\
                 <text class=\"wait\" x=\"{}\" y=\"{}\">{what} for {}</text>\n",
                bottom - top,
                x - 8,
                bottom - 10,
                span(wait.lasted_ms)
            ),
        );
    }
}

/// Colours of box and border by the kind of state: reached, refused, unknown, in flight, undone.
fn colours(state: &str) -> (&'static str, &'static str) {
    match state {
        "reserved" | "confirmed" | "held" | "stocked" => ("#e3f9e5", "#3f9142"),
        "rejected" | "refused" | "expired" => ("#ffe3e3", "#ba2525"),
        "cancelled" | "released" | "voided" => ("#e0e8f9", "#35469c"),
        state if state.ends_with("_unknown") => ("#fff3e0", "#de7b12"),
        _ => ("#f5f7fa", "#7b8794"),
    }
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // XML has no form for most control characters, nor for the two last code points.
    let text = text.replace(|c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}'), "\u{fffd}");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

fn put(svg: &mut String, arguments: std::fmt::Arguments<'_>) {
    svg.write_fmt(arguments).expect("a String takes everything");
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::tests::{BEGAN, SampleEntry, lost_reply};
    use super::*;

    fn drawn(entries: &[SampleEntry]) -> String {
        let entries = entries.iter().map(SampleEntry::recorded).collect();
        picture(&Timeline::of(entries, BEGAN + Duration::minutes(1)))
    }

    #[test]
    fn every_entry_has_a_box_every_cause_an_arrow_and_every_unknown_a_bar() {
        let svg = drawn(&lost_reply());
        let count = |what: &str| svg.matches(what).count();
        assert_eq!(count("rx=\"7\""), 7);
        assert_eq!(count("marker-end"), 5);
        assert_eq!(count("url(#hatch)"), 1);
        assert!(svg.contains("not known for 4.31 s"));
    }

    #[test]
    fn every_element_is_closed_and_nothing_reaches_outside_the_picture() {
        let svg = drawn(&lost_reply());
        for name in ["svg", "g", "text", "defs", "pattern", "marker", "style"] {
            let opened =
                svg.matches(&format!("<{name}>")).count() + svg.matches(&format!("<{name} ")).count();
            assert_eq!(opened, svg.matches(&format!("</{name}>")).count(), "{name}");
        }
        let bottom = y(6) + BOX_HEIGHT;
        assert!(svg.contains(&format!("height=\"{}\" role", bottom + STEP - BOX_HEIGHT + 24)));
    }

    #[test]
    fn text_of_a_journal_is_no_markup() {
        assert_eq!(escaped("<script>\"&'\0\u{ffff}"), "&lt;script&gt;&quot;&amp;&#39;\u{fffd}\u{fffd}");
    }
}
