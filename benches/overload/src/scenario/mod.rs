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

/// What the scenarios share.
pub(crate) struct Lab {
    pub(crate) report: Report,
    pub(crate) quick: bool,
    without: Option<Layer>,
    only: Vec<String>,
    /// Requests a second that the bare service can do.
    pub(crate) peak: f64,
    /// Work begun with everything on, and how much of it after its caller had given up.
    begun: (u64, u64),
    began: Instant,
}

impl Lab {
    pub(crate) fn new(out: PathBuf, quick: bool, without: Option<Layer>, only: Vec<String>) -> Self {
        let (report, began) = (Report::new(out), Instant::now());
        Self { report, quick, without, only, peak: f64::NAN, begun: (0, 0), began }
    }

    /// Everything on, but for what was asked to be left out.
    pub(crate) fn all_on(&self) -> Arm {
        Arm::All { without: self.without, adaptive: false }
    }

    pub(crate) fn adaptive(&self) -> Arm {
        Arm::All { without: self.without, adaptive: true }
    }

    /// Says what comes now.
    pub(crate) fn progress(&self, what: &str) {
        println!("[{:>3.0} s] {what}", self.began.elapsed().as_secs_f64());
    }

    /// Adds what a stage with everything on has begun.
    pub(crate) fn has_begun(&mut self, stage: &Stage) {
        let (begun, late) = stage.begun();
        self.begun = (self.begun.0 + begun, self.begun.1 + late);
    }

    fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// The scenarios that need sockets and so real time.
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

/// The scenario in virtual time.
pub(crate) fn deadlines(lab: &mut Lab) -> anyhow::Result<()> {
    if lab.wanted("deadlines") { deadlines::run(lab) } else { Ok(()) }
}
