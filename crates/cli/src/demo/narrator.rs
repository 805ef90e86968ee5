//! The lines of the demo, with the time that has passed.

use tokio::time::Instant;

use crate::screen::Screen;

/// Prints lines with the time that has passed.
pub(super) struct Narrator {
    pub(super) screen: Screen,
    began: Instant,
}

impl Narrator {
    pub(super) fn new() -> Self {
        Self { screen: Screen::open(), began: Instant::now() }
    }

    pub(super) fn at(&mut self, text: &str) -> anyhow::Result<()> {
        let seconds = self.began.elapsed().as_secs_f64();
        Ok(self.screen.say(&format!("{seconds:6.1} s  {text}"))?)
    }

    pub(super) fn plain(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.screen.say(text)?)
    }

    pub(super) fn heading(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(self.screen.heading(text)?)
    }
}
