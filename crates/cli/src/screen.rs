//! The output of a command: lines that stay, and on a terminal a live region below them that is redrawn in place.
//! Without a terminal there are only lines.

use std::io::{self, IsTerminal, Write};

pub(crate) use replay::text::{grouped, is_harmless};

/// The width in columns when the terminal does not report one.
const USUAL_WIDTH: usize = 100;

/// Standard output.
#[derive(Debug)]
pub(crate) struct Screen {
    is_terminal: bool,
    has_colours: bool,
    /// Lines of the live region on the screen.
    drawn: usize,
    live: Vec<String>,
}

impl Screen {
    pub(crate) fn open() -> Self {
        let is_terminal = io::stdout().is_terminal();
        let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { is_terminal, has_colours, drawn: 0, live: Vec::new() }
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// The width of the output in columns.
    pub(crate) fn width(&self) -> usize {
        if self.is_terminal { terminal_width().unwrap_or(USUAL_WIDTH) } else { USUAL_WIDTH }
    }

    /// Writes one or more lines that stay.
    pub(crate) fn say(&mut self, text: &str) -> io::Result<()> {
        let mut output = self.erased();
        output.push_str(text);
        output.push('\n');
        self.redraw(&mut output);
        flush(&output)
    }

    /// Writes a heading.
    pub(crate) fn heading(&mut self, text: &str) -> io::Result<()> {
        if self.has_colours {
            self.say(&format!("\n\x1b[1m{text}\x1b[0m"))
        } else {
            self.say(&format!("\n{text}"))
        }
    }

    /// Shows `lines` in the live region, in place of its present lines. Has no effect without a terminal.
    pub(crate) fn show(&mut self, lines: Vec<String>) -> io::Result<()> {
        if !self.is_terminal {
            return Ok(());
        }
        let mut output = self.erased();
        self.live = lines;
        self.redraw(&mut output);
        flush(&output)
    }

    /// Removes the live region.
    pub(crate) fn clear(&mut self) -> io::Result<()> {
        self.show(Vec::new())
    }

    /// Returns the text that erases the live region.
    fn erased(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn redraw(&mut self, output: &mut String) {
        // A line that the terminal wraps would take two rows.
        let width = self.width().saturating_sub(1);
        for line in &self.live {
            output.extend(line.chars().take(width));
            output.push('\n');
        }
        self.drawn = self.live.len();
    }
}

/// The error of an output whose reader is gone, as `head` is when it has read enough. The command has not failed and
/// ends quietly.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct OutputClosed;

/// Writes one or more lines to standard output.
///
/// # Errors
/// [`OutputClosed`] when the reader is gone; other errors unchanged.
pub(crate) fn print(text: &str) -> io::Result<()> {
    flush(&format!("{text}\n"))
}

fn flush(output: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => io::Error::new(error.kind(), OutputClosed),
        _ => error,
    })
}

/// Returns whether `error` means that the reader of standard output is gone.
pub(crate) fn is_output_closed(error: &anyhow::Error) -> bool {
    let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<OutputClosed>)
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns >= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(is_terminal: bool) -> Screen {
        Screen { is_terminal, has_colours: false, drawn: 0, live: Vec::new() }
    }

    #[test]
    fn the_region_is_erased_before_it_is_drawn_again() {
        let mut screen = screen(true);
        screen.live = vec!["a".to_owned(), "b".to_owned()];
        let mut output = screen.erased();
        screen.redraw(&mut output);
        assert_eq!(output, "a\nb\n");
        assert_eq!(screen.erased(), "\x1b[2A\x1b[J");
        assert_eq!(screen.erased(), "");
    }

    #[test]
    fn a_line_of_the_region_is_cut_to_the_width() {
        let mut screen = screen(true);
        screen.live = vec!["x".repeat(500)];
        let mut output = String::new();
        screen.redraw(&mut output);
        assert!(output.len() <= screen.width());
    }
}
