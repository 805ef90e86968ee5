//! Gets lines out without making anybody wait for their reader.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Destination;

/// Bytes that wait at most: two seconds of lines at full load. As many again may be on their way out.
const MOST: usize = 8 * 1024 * 1024;

/// What is kept to write into once a flood is over.
const ROOM: usize = 256 * 1024;

/// How long the writer waits for more once a line has come, and once more after it has written. Whoever writes a line
/// while it waits wakes nobody: under load, to wake the writer for each cost as much as to make the line. It is what a
/// process that is killed can lose.
const GATHER: Duration = Duration::from_millis(5);

/// The way to the thread that writes. When there is no more room, because the reader of the log does not keep up, lines
/// are dropped and counted; a blocked pipe must not become a blocked service.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    waiting: Arc<Mutex<Waiting>>,
    writer: Thread,
}

#[derive(Debug, Default)]
struct Waiting {
    /// Lines one after the other, so that they go out as they are.
    lines: Vec<u8>,
    /// Who wants to know when they are out.
    flushes: Vec<SyncSender<()>>,
}

impl Lines {
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        match destination {
            Destination::Stdout => Self::to(io::stdout()),
            Destination::Stderr => Self::to(io::stderr()),
        }
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let waiting = Arc::default();
        let theirs = Arc::clone(&waiting);
        let thread =
            thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_all(&theirs, output))?;
        Ok(Self { waiting, writer: thread.thread().clone() })
    }

    /// `line` ends with its line break.
    pub(super) fn write(&self, line: &[u8]) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() + line.len() > MOST {
            drop(waiting);
            return lost(1);
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.writer.unpark();
        }
    }

    /// Waits until everything written so far is out, or `bound` has passed.
    pub(crate) fn flush(&self, bound: Duration) {
        let (done, flushed) = sync_channel(1);
        lock(&self.waiting).flushes.push(done);
        self.writer.unpark();
        // An error means that the reader is stuck: there is nothing more to wait for.
        let _ = flushed.recv_timeout(bound);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines that came together go out together. A reader that is gone is not an error of ours: the lines are dropped.
fn write_all(waiting: &Mutex<Waiting>, mut output: impl Write) {
    let mut lines = Vec::new();
    // Whether it may have ended within a line.
    let mut is_torn = false;
    loop {
        thread::sleep(GATHER);
        let mut found = lock(waiting);
        std::mem::swap(&mut lines, &mut found.lines);
        let flushes = std::mem::take(&mut found.flushes);
        drop(found);
        if lines.is_empty() && flushes.is_empty() {
            // What has come since then has left word.
            thread::park();
            continue;
        }
        let mend: &[u8] = if is_torn { b"\n" } else { b"" };
        let written = output.write_all(mend).and_then(|()| output.write_all(&lines));
        is_torn = written.and_then(|()| output.flush()).is_err();
        if is_torn {
            lost(lines.split_inclusive(|byte| *byte == b'\n').count());
        }
        lines.clear();
        lines.shrink_to(ROOM);
        for done in flushes {
            // Who asked may have given up.
            let _ = done.send(());
        }
    }
}

fn lost(lines: usize) {
    metrics::counter!("telemetry_log_lines_dropped_total").increment(lines as u64);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A reader that takes a line only when it is told to.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_blocks_nobody() {
        let (_closed_gate, permits) = channel();
        let (out, _seen) = channel();
        let lines = Lines::to(Gate(permits, out)).unwrap();
        // Would never end if a lack of room made the caller wait.
        let line = [b'x'; 1_024];
        (0..2 * MOST / line.len()).for_each(|_| lines.write(&line));
        lines.flush(Duration::from_millis(10));
        assert!(lock(&lines.waiting).lines.len() <= MOST);
    }

    /// A disk that has room for some bytes, and later for all.
    struct Full(usize, Sender<Vec<u8>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = std::mem::replace(&mut self.0, usize::MAX).min(bytes.len());
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.send(bytes[..taken].to_vec()).map_err(io::Error::other)?;
            if taken < bytes.len() {
                self.0 = 0;
            }
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_was_cut_short_spoils_no_other() {
        let (out, seen) = channel();
        let lines = Lines::to(Full(8, out)).unwrap();
        for text in ["first\nsecond\n", "third\n"] {
            lines.write(text.as_bytes());
            lines.flush(Duration::from_secs(10));
        }
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, "first\nse\nthird\n");
    }

    #[test]
    fn what_was_written_is_out_after_a_flush_and_in_order() {
        let (permits, gate) = channel();
        let (out, seen) = channel();
        let lines = Lines::to(Gate(gate, out)).unwrap();
        (0..1_000).for_each(|_| permits.send(()).unwrap());
        let written: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        for line in &written {
            lines.write(line.as_bytes());
        }
        lines.flush(Duration::from_secs(10));
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, written.concat());
    }
}
