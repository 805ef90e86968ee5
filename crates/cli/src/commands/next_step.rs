//! The next command to type when a service or one of its conditions is not as it should be.

use std::fmt;
use std::path::Path;

use local::Service;
use serde::Serialize;
use uuid::Uuid;

use crate::process::ProcessState;
use crate::state::{Urls, Which};

/// A command with its runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct NextStep {
    command: String,
    runbook: &'static str,
}

impl fmt::Display for NextStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}   (runbooks/{})", self.command, self.runbook)
    }
}

/// A service with the ways to reach it.
#[derive(Debug)]
pub(super) struct ServiceAccess<'a> {
    pub(super) which: Which,
    pub(super) service: Service,
    pub(super) urls: &'a Urls,
    /// The pair's directory with both logs; `None` for a pair that `mainstay up` did not start.
    pub(super) home: Option<&'a Path>,
}

impl NextStep {
    /// The step for a service that did not answer.
    pub(super) fn without_answer(access: &ServiceAccess<'_>, process: Option<(u32, ProcessState)>) -> Self {
        let command = match (process, access.home) {
            (Some((pid, ProcessState::Stopped)), _) => format!("kill -CONT {pid}"),
            (_, Some(home)) => format!("tail '{}/{}.log'", home.display(), access.service.name()),
            (_, None) => format!("curl -sS -m 3 {}/readyz", access.urls.ops(access.service)),
        };
        let runbook = match access.service {
            Service::Order => "README.md",
            Service::Inventory => "inventory-down.md",
        };
        Self { command, runbook }
    }

    /// The step for a condition that is not as it should be. An unknown condition, of a newer release, leads to the
    /// list of runbooks.
    pub(super) fn of_condition(access: &ServiceAccess<'_>, name: &str, detail: &str) -> Self {
        let ops = access.urls.ops(access.service);
        match name {
            "orders" | "stuck" | "rows" => {
                Self { command: orders(access, detail), runbook: "orders-unresolved.md" }
            }
            "inventory" => {
                match detail.strip_prefix("breaker of ").and_then(|rest| rest.split_once(" is ")) {
                    Some((breaker, state)) if state.starts_with("forced-open") => Self {
                        command: format!(
                            "curl -sS -X PUT -H \"Authorization: Bearer $OPERATOR_TOKEN\" -H 'Content-Type: application/json' \
                         -d '{{\"action\": \"reset\", \"reason\": \"…\"}}' {ops}/admin/v1/breakers/{breaker}"
                        ),
                        runbook: "breaker-open.md",
                    },
                    _ => Self {
                        command: format!("curl -sS -m 3 {}/readyz", access.urls.ops(Service::Inventory)),
                        runbook: "inventory-down.md",
                    },
                }
            }
            "database" | "schema" | "readiness" => {
                Self { command: format!("curl -sS -m 3 {ops}/readyz"), runbook: "postgres-down.md" }
            }
            _ => Self { command: format!("curl -sS -m 3 {ops}/readyz"), runbook: "README.md" },
        }
    }
}

/// The command that explains the first order which the detail names, or lists the waiting orders.
fn orders(access: &ServiceAccess<'_>, detail: &str) -> String {
    let words = detail.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    match words.into_iter().find_map(|word| Uuid::try_parse(word).ok()) {
        Some(id) => {
            let base = access.which.port_base.map_or_else(String::new, |base| format!(" --port-base {base}"));
            format!("mainstay explain {id}{base}")
        }
        None => format!(
            "curl -sS -H \"Authorization: Bearer $OPERATOR_TOKEN\" '{}/v1/orders?status=reserve_unknown&limit=5'",
            access.urls.order
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls() -> Urls {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        Urls { order: url(1), inventory: url(2), order_ops: url(3), inventory_ops: url(4) }
    }

    fn step(name: &str, detail: &str) -> String {
        let urls = urls();
        let which = Which { port_base: Some(25_000) };
        let access = ServiceAccess { which, service: Service::Order, urls: &urls, home: None };
        NextStep::of_condition(&access, name, detail).to_string()
    }

    #[test]
    fn each_condition_leads_to_its_own_command_and_runbook() {
        let id = "01a1fe12-6a76-71e9-b426-5b8604d9389c";
        let table = [
            (
                "orders",
                format!("1 order has waited longer than 10 s: {id}."),
                format!("mainstay explain {id} --port-base 25000   (runbooks/orders-unresolved.md)"),
            ),
            (
                "inventory",
                "breaker of 127.0.0.1:2 is open".to_owned(),
                "curl -sS -m 3 http://127.0.0.1:4/readyz   (runbooks/inventory-down.md)".to_owned(),
            ),
            (
                "database",
                "takes no writes".to_owned(),
                "curl -sS -m 3 http://127.0.0.1:3/readyz   (runbooks/postgres-down.md)".to_owned(),
            ),
            (
                "moon",
                "is full".to_owned(),
                "curl -sS -m 3 http://127.0.0.1:3/readyz   (runbooks/README.md)".to_owned(),
            ),
        ];
        for (name, detail, expected) in table {
            assert_eq!(step(name, &detail), expected, "{name}");
        }
        let forced = step("inventory", "breaker of 127.0.0.1:2 is forced-open");
        assert!(
            forced.contains("\"reset\"") && forced.contains("/admin/v1/breakers/127.0.0.1:2"),
            "{forced}"
        );
        assert!(step("orders", "3 wait").contains("/v1/orders?status="));
    }

    #[test]
    fn the_step_continues_a_stopped_process_and_reads_the_log_of_any_other() {
        let urls = urls();
        let which = Which { port_base: None };
        let home = Some(Path::new("/data"));
        let access = ServiceAccess { which, service: Service::Inventory, urls: &urls, home };
        let step = |process| NextStep::without_answer(&access, process).command;
        assert_eq!(step(Some((7, ProcessState::Stopped))), "kill -CONT 7");
        assert_eq!(step(Some((7, ProcessState::Alive))), "tail '/data/inventory.log'");
        assert_eq!(step(None), "tail '/data/inventory.log'");
    }
}
