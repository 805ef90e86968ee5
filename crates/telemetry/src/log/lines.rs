//! Queue of log lines and the thread that writes them, so that no request waits for the reader of the log.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Destination;

/// Most bytes in the queue: about two seconds of lines at full load. The batch being written may be as large again.
const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;

/// Buffer capacity that the writer keeps after a large batch.
const KEPT_CAPACITY: usize = 256 * 1024;

/// Time that the writer thread waits for further lines before it writes a batch.
///
/// A task that adds a line while the writer waits need not wake it. Under load, waking the writer for each line cost
/// as much as formatting the line. A process that is killed loses at most the lines of this time.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// Sender to the writer thread.
///
/// When the queue is full because the reader of the log is too slow, lines are dropped and counted. A blocked pipe
/// must not block the service.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    waiting: Arc<Mutex<Waiting>>,
    writer: Thread,
}

#[derive(Debug, Default)]
struct Waiting {
    /// The queued lines, concatenated and ready to be written.
    lines: Vec<u8>,
    /// Callers of [`Lines::flush`] that wait until the lines are written.
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
        let queue = Arc::clone(&waiting);
        let thread =
            thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_all(&queue, output))?;
        Ok(Self { waiting, writer: thread.thread().clone() })
    }

    /// Adds a line to the queue. `line` must end with a line break.
    pub(super) fn write(&self, line: &[u8]) {
        let mut waiting = lock(&self.waiting);
        if waiting.lines.len() + line.len() > MAX_QUEUED_BYTES {
            drop(waiting);
            return count_dropped(1);
        }
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if is_first {
            self.writer.unpark();
        }
    }

    /// Waits until the lines queued so far are written, for `bound` at most.
    pub(crate) fn flush(&self, bound: Duration) {
        let (done, flushed) = sync_channel(1);
        lock(&self.waiting).flushes.push(done);
        self.writer.unpark();
        // An error means that the output is blocked or the writer is gone. Waiting longer would not help.
        let _ = flushed.recv_timeout(bound);
    }
}

fn lock(waiting: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Body of the writer thread: writes the queued lines in batches. If the output fails, the lines of the batch are
/// dropped and counted, and the thread goes on.
fn write_all(waiting: &Mutex<Waiting>, mut output: impl Write) {
    let mut lines = Vec::new();
    // True if the last write failed, perhaps in the middle of a line.
    let mut is_torn = false;
    loop {
        thread::sleep(BATCH_DELAY);
        let mut found = lock(waiting);
        std::mem::swap(&mut lines, &mut found.lines);
        let flushes = std::mem::take(&mut found.flushes);
        drop(found);
        if lines.is_empty() && flushes.is_empty() {
            // A line added since the lock was released has unparked this thread, so `park` returns at once.
            thread::park();
            continue;
        }
        let line_break: &[u8] = if is_torn { b"\n" } else { b"" };
        let written = output.write_all(line_break).and_then(|()| output.write_all(&lines));
        is_torn = written.and_then(|()| output.flush()).is_err();
        if is_torn {
            count_dropped(lines.split_inclusive(|byte| *byte == b'\n').count());
        }
        lines.clear();
        lines.shrink_to(KEPT_CAPACITY);
        for done in flushes {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }
}

fn count_dropped(lines: usize) {
    metrics::counter!("telemetry_log_lines_dropped_total").increment(lines as u64);
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// An output that accepts one write for each permit.
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
    fn a_blocked_output_does_not_block_the_caller() {
        let (_closed_gate, permits) = channel();
        let (out, _seen) = channel();
        let lines = Lines::to(Gate(permits, out)).unwrap();
        // This loop would never end if a full queue made the caller wait.
        let line = [b'x'; 1_024];
        (0..2 * MAX_QUEUED_BYTES / line.len()).for_each(|_| lines.write(&line));
        lines.flush(Duration::from_millis(10));
        assert!(lock(&lines.waiting).lines.len() <= MAX_QUEUED_BYTES);
    }

    /// A disk that is full after the given number of bytes, fails one write, and then has space again.
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
    fn a_truncated_line_does_not_damage_the_next_line() {
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
    fn a_flush_waits_until_queued_lines_are_written_in_order() {
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
