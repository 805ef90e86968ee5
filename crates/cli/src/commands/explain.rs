//! `mainstay explain`: what happened to an order, and why.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use journal::clock::wall_now;
use serde::Serialize;

use crate::client::Client;
use crate::explain::{Detail, Feeds, Found, Timeline, picture, text};
use crate::screen::Screen;
use crate::state::{Target, Which};

const LONG: &str = "\
Explain what happened to an order, and why

ID is an order's id, a reservation's, a correlation id (`X-Correlation-Id`, on every reply and in every log line), a \
trace id, an idempotency key, or a SKU. Both services' journals are read over their feeds, never their databases, \
and told as one story in causal order: an entry's cause always stands before it, whatever the clocks said.

Each entry shows why it was decided (what the decision read, and the rule), what was refused (not), and what the \
middleware saw on the way. Where the order service did not know what inventory had done, the story says for how \
long, and what was so in fact.";

const EXAMPLES: &str = "\
Examples:
  mainstay explain 01a1fe12-6a76-71e9-b426-5b8604d9389c
  mainstay explain my-idempotency-key-0001 --svg story.svg
  mainstay explain 3a2cb84407d34fabac88b6c2622291cf --json | jq '.timeline.waits'

Exit code 1 when neither journal knows the id.";

/// Explain what happened to an order, and why
#[derive(Debug, Args)]
#[command(long_about = LONG, after_long_help = EXAMPLES)]
pub(super) struct Explain {
    /// An order, a reservation, a correlation id, a trace id, an idempotency key, or a SKU
    id: String,
    /// Print the story as JSON, with every entry in full
    #[arg(long)]
    json: bool,
    /// Write the story as a swim-lane picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Serialize)]
struct Story<'a> {
    asked: &'a str,
    known_as: &'a BTreeSet<&'static str>,
    gaps: &'a [String],
    timeline: &'a Timeline,
}

impl Explain {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let target = self.which.find()?;
        let id = self.id.trim();
        let Found { entries, known_as, unread, gaps } = feeds(&target)?.everything_about(id).await?;
        if entries.is_empty() {
            eprintln!(
                "Neither journal knows {id:?} as an order, a reservation, a correlation id, a trace id, an"
            );
            eprintln!(
                "idempotency key or a SKU. What was refused before it began (401, 400, 503) is only in the logs."
            );
            for gap in &gaps {
                eprintln!("But {gap}");
            }
            return Ok(ExitCode::FAILURE);
        }
        let timeline = Timeline::of(entries, wall_now()).without(unread);
        if self.json {
            let story = Story { asked: id, known_as: &known_as, gaps: &gaps, timeline: &timeline };
            println!("{}", serde_json::to_string_pretty(&story)?);
        } else {
            let known_as: Vec<_> = known_as.into_iter().collect();
            println!("{id} is {}.\n", known_as.join(", and "));
            print!("{}", text(&timeline, Screen::open().width(), Detail::Full));
            for gap in &gaps {
                println!("\nIncomplete: {gap}");
            }
        }
        if let Some(file) = &self.svg {
            std::fs::write(file, picture(&timeline))
                .with_context(|| format!("{} cannot be written", file.display()))?;
            eprintln!("The picture is in {}.", file.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Both journals of the pair.
pub(crate) fn feeds(target: &Target) -> anyhow::Result<Feeds> {
    let token = target.operator()?;
    Ok(Feeds {
        order: Client::for_feeds("order-operations", &target.urls.order_ops, token)?,
        inventory: Client::for_feeds("inventory-operations", &target.urls.inventory_ops, token)?,
    })
}
