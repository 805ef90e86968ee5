//! `mainstay env`: the pair's URLs and tokens as shell variables, for runbooks and scripts.

use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use crate::screen::print;
use crate::state::{Target, Which};

/// Print the pair's URLs and tokens as shell variables: eval "$(mainstay env)"
#[derive(Debug, Args)]
pub(super) struct Env {
    #[command(flatten)]
    which: Which,
}

impl Env {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Target { urls, client, operator, .. } = self.which.find()?;
        let missing =
            "the tokens of this pair are not known; `mainstay up` writes down those of a pair that it starts";
        let (client, operator) = (client.context(missing)?, operator.context(missing)?);
        let variables = [
            ("ORDER", urls.order.as_str()),
            ("INVENTORY", &urls.inventory),
            ("ORDER_OPS", &urls.order_ops),
            ("INVENTORY_OPS", &urls.inventory_ops),
            ("CLIENT_TOKEN", client.expose()),
            ("OPERATOR_TOKEN", operator.expose()),
        ];
        for (name, value) in variables {
            // URLs on loopback and random tokens hold no character that a shell interprets.
            print(&format!("export {name}={value}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
