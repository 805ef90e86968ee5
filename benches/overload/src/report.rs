//! The table of figures, and the claims of the short form.

use std::path::PathBuf;

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Finding {
    goal: String,
    figure: String,
    met: Option<bool>,
}

/// The rows and broken claims so far.
#[derive(Debug)]
pub(crate) struct Report {
    findings: Vec<Finding>,
    /// Claims of the short form that do not hold.
    broken: Vec<String>,
    pub(crate) out: PathBuf,
}

impl Report {
    pub(crate) fn new(out: PathBuf) -> Self {
        Self { findings: Vec::new(), broken: Vec::new(), out }
    }

    /// Adds a goal with its figure.
    pub(crate) fn goal(&mut self, goal: impl Into<String>, figure: impl Into<String>, met: bool) {
        self.add(Finding { goal: goal.into(), figure: figure.into(), met: Some(met) });
    }

    /// Adds a figure for comparison, without a goal.
    pub(crate) fn compare(&mut self, row: impl Into<String>, figure: impl Into<String>) {
        self.add(Finding { goal: row.into(), figure: figure.into(), met: None });
    }

    /// Adds a claim, which must hold on any machine, also on a busy one.
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

    /// Prints the table. Returns true if every claim holds.
    pub(crate) fn print(&self) -> bool {
        println!("\n| goal or comparison | figure | met |\n|---|---|---|");
        for finding in &self.findings {
            println!("| {} | {} | {} |", finding.goal, finding.figure, finding.met.map_or("", met));
        }
        for broken in &self.broken {
            println!("broken claim: {broken}");
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

/// A time in seconds, or the time for which the run waited in vain.
pub(crate) fn seconds(after: Option<f64>, watched: f64) -> String {
    after.map_or_else(|| format!("not within {watched:.0} s"), |after| format!("{after:.2} s"))
}
