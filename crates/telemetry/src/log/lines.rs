//! Queue of log lines and the thread that writes them, so that no request waits for the reader of the log.
//!
//! The queue and the thread are those of `tracing-appender`. It counts the lines that a full queue drops, and says nothing
//! of a failed write; [`Batches`] counts those lines and keeps a torn line apart from the next.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use super::Destination;

/// Most lines in the queue: about two seconds of lines at full load, or 8 MiB. Further lines are dropped and counted.
const MAX_QUEUED: usize = 8_192;

/// Bytes in one write. A smaller batch is written when the queue is empty.
const BATCH: usize = 64 * 1_024;

/// Starts the writer thread. Dropping the guard writes the queued lines, for [`FLUSH_BOUND`](crate::Guard) at most.
pub(crate) fn start(destination: Destination) -> (NonBlocking, Dropped, WorkerGuard) {
    match destination {
        Destination::Stdout => to(io::stdout()),
        Destination::Stderr => to(io::stderr()),
    }
}

fn to(output: impl Write + Send + 'static) -> (NonBlocking, Dropped, WorkerGuard) {
    let failed = Arc::<AtomicU64>::default();
    let batches = Batches { output, lines: Vec::new(), is_torn: false, failed: Arc::clone(&failed) };
    let (lines, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MAX_QUEUED)
        .thread_name("log-writer")
        .finish(batches);
    let dropped = Dropped { full: lines.error_counter(), failed };
    (lines, dropped, guard)
}

/// Counter of the lines that were not written.
#[derive(Debug)]
pub(crate) struct Dropped {
    full: ErrorCounter,
    failed: Arc<AtomicU64>,
}

impl Dropped {
    pub(crate) fn total(&self) -> u64 {
        self.full.dropped_lines() as u64 + self.failed.load(Ordering::Relaxed)
    }
}

/// Output of the writer thread, which flushes it when the queue is empty.
struct Batches<W> {
    output: W,
    lines: Vec<u8>,
    /// True if the last write failed, perhaps in the middle of a line.
    is_torn: bool,
    failed: Arc<AtomicU64>,
}

impl<W: Write> Write for Batches<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.extend_from_slice(line);
        if self.lines.len() >= BATCH {
            self.flush()?;
        }
        Ok(line.len())
    }

    /// Writes the batch. If the output fails, its lines are dropped and counted.
    fn flush(&mut self) -> io::Result<()> {
        let line_break: &[u8] = if self.is_torn { b"\n" } else { b"" };
        let written = self.output.write_all(line_break).and_then(|()| self.output.write_all(&self.lines));
        self.is_torn = written.and_then(|()| self.output.flush()).is_err();
        if self.is_torn {
            let lines = self.lines.split_inclusive(|byte| *byte == b'\n').count();
            self.failed.fetch_add(lines as u64, Ordering::Relaxed);
        }
        self.lines.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::time::Duration;

    use tokio::time::Instant;

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
    fn a_blocked_output_does_not_block_the_caller_and_the_dropped_lines_are_counted() {
        let (_closed_gate, permits) = channel();
        let (out, _seen) = channel();
        let (mut lines, dropped, guard) = to(Gate(permits, out));
        // This loop would never end if a full queue made the caller wait.
        let line = [b'x'; 1_024];
        (0..2 * MAX_QUEUED).for_each(|_| lines.write_all(&line).unwrap());
        // The writer thread took a batch before its output blocked.
        let taken = (BATCH / line.len()) as u64;
        let least = MAX_QUEUED as u64 - taken;
        assert!((least..=MAX_QUEUED as u64).contains(&dropped.total()), "{}", dropped.total());
        let began = Instant::now();
        drop(guard);
        assert!(began.elapsed() < crate::Guard::FLUSH_BOUND, "{:?}", began.elapsed());
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
    fn a_truncated_line_does_not_damage_the_next_line_and_is_counted() {
        let (out, seen) = channel();
        let failed = Arc::<AtomicU64>::default();
        let mut batches =
            Batches { output: Full(8, out), lines: Vec::new(), is_torn: false, failed: Arc::clone(&failed) };
        for text in ["first\nsecond\n", "third\n"] {
            batches.write_all(text.as_bytes()).unwrap();
            batches.flush().unwrap();
        }
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, "first\nse\nthird\n");
        assert_eq!(failed.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_end_waits_until_queued_lines_are_written_in_order() {
        let (permits, gate) = channel();
        let (out, seen) = channel();
        let (mut lines, dropped, guard) = to(Gate(gate, out));
        (0..1_000).for_each(|_| permits.send(()).unwrap());
        let written: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        for line in &written {
            lines.write_all(line.as_bytes()).unwrap();
        }
        drop(guard);
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert_eq!((text, dropped.total()), (written.concat(), 0));
        assert!(seen.recv_timeout(Duration::from_millis(10)).is_err());
    }
}
