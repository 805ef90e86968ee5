//! The table, and the claims that the short form stands for.

use std::path::PathBuf;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Finding {
    goal: String,
    figure: String,
    met: Option<bool>,
}

/// Everything found so far.
#[derive(Debug)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    /// Claims that did not hold, in the short form.
    broken: Vec<String>,
    pub(crate) out: PathBuf,
}

impl Report {
    pub(crate) fn new(out: PathBuf) -> Self {
        Self { findings: Vec::new(), broken: Vec::new(), out }
    }

    /// A goal with its figure.
    pub(crate) fn goal(&mut self, goal: impl Into<String>, figure: impl Into<String>, met: bool) {
        self.add(Finding { goal: goal.into(), figure: figure.into(), met: Some(met) });
    }

    /// A figure to compare with.
    pub(crate) fn beside(&mut self, what: impl Into<String>, figure: impl Into<String>) {
        self.add(Finding { goal: what.into(), figure: figure.into(), met: None });
    }

    /// What must hold on any machine, however busy.
    pub(crate) fn claim(&mut self, holds: bool, claim: impl Into<String>) {
        let claim = claim.into();
        println!("    claim: {claim}: {}", if holds { "holds" } else { "BROKEN" });
        if !holds {
            self.broken.push(claim);
        }
    }

    fn add(&mut self, finding: Finding) {
        println!("    {}: {} {}", finding.goal, finding.figure, finding.met.map_or("", met));
        self.findings.push(finding);
    }

    /// Prints the table; true when every claim holds.
    pub(crate) fn print(&self) -> bool {
        println!("\n| goal, or what stands beside it | figure | met |\n|---|---|---|");
        for finding in &self.findings {
            println!("| {} | {} | {} |", finding.goal, finding.figure, finding.met.map_or("", met));
        }
        for broken in &self.broken {
            println!("BROKEN: {broken}");
        }
        self.broken.is_empty()
    }
}

const fn met(met: bool) -> &'static str {
    if met { "yes" } else { "**no**" }
}

/// A share as a percentage.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A time that may not have come.
pub(crate) fn seconds(after: Option<f64>, watched: f64) -> String {
    after.map_or_else(|| format!("not within {watched:.0} s"), |after| format!("{after:.2} s"))
}
