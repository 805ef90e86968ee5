//! The scenarios, in the order in which they run.

mod deadlines;
mod down;
mod endpoints;
mod heal;
mod hot_key;
mod outage;
mod overload;
mod step;

use std::path::PathBuf;

use tokio::time::Instant;

use crate::arm::{Arm, Layer};
use crate::report::Report;
use crate::stage::Stage;

/// State that the scenarios share.
pub(crate) struct Lab {
    pub(crate) report: Report,
    pub(crate) quick: bool,
    without: Option<Layer>,
    only: Vec<String>,
    /// Peak rate of the bare service, in requests per second.
    pub(crate) peak: f64,
    /// Requests whose work started with all on, and how many of them started after their deadline.
    started: (u64, u64),
    beginning: Instant,
}

impl Lab {
    pub(crate) fn new(out: PathBuf, quick: bool, without: Option<Layer>, only: Vec<String>) -> Self {
        let (report, beginning) = (Report::new(out), Instant::now());
        Self { report, quick, without, only, peak: f64::NAN, started: (0, 0), beginning }
    }

    /// The arm with all layers on, except the layer of `--without`.
    pub(crate) fn all_on(&self) -> Arm {
        Arm::All { without: self.without, adaptive: false }
    }

    pub(crate) fn adaptive(&self) -> Arm {
        Arm::All { without: self.without, adaptive: true }
    }

    /// Prints the next step of the run.
    pub(crate) fn progress(&self, step: &str) {
        println!("[{:>3.0} s] {step}", self.beginning.elapsed().as_secs_f64());
    }

    /// Adds the counts of a stage with all on.
    pub(crate) fn add_started(&mut self, stage: &Stage) {
        let (started, late) = stage.started();
        self.started = (self.started.0 + started, self.started.1 + late);
    }

    fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Runs the scenarios that need sockets and therefore real time.
pub(crate) async fn all(lab: &mut Lab) -> anyhow::Result<()> {
    overload::peak(lab).await?;
    if lab.wanted("overload") {
        overload::run(lab).await?;
    }
    if lab.wanted("outage") {
        outage::run(lab).await?;
    }
    if lab.wanted("down") {
        down::run(lab).await?;
    }
    if lab.wanted("step") && !lab.quick {
        step::run(lab).await?;
    }
    if lab.wanted("heal") {
        heal::run(lab).await?;
    }
    if lab.wanted("endpoints") {
        endpoints::run(lab).await?;
    }
    if lab.wanted("hot-key") && !lab.quick {
        hot_key::run(lab).await?;
    }
    Ok(())
}

/// Runs the scenario in virtual time.
pub(crate) fn deadlines(lab: &mut Lab) -> anyhow::Result<()> {
    if lab.wanted("deadlines") { deadlines::run(lab) } else { Ok(()) }
}
