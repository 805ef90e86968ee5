//! Gets lines out without making anybody wait for their reader.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use super::Destination;

/// A few seconds of lines at full load, a few megabytes at most.
const QUEUE: usize = 8_192;

/// How long the writer waits for more once a line has come. Whoever writes a line while it waits wakes nobody: under
/// load, to wake the writer for each cost as much as to make the line. It is what a process that is killed can lose.
const GATHER: Duration = Duration::from_millis(5);

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

/// The way to the thread that writes. When its queue is full, because the reader of the log does not keep up, lines
/// are dropped and counted; a blocked pipe must not become a blocked service.
#[derive(Debug, Clone)]
pub(crate) struct Lines(SyncSender<Message>);

impl Lines {
    pub(crate) fn start(destination: Destination) -> io::Result<Self> {
        match destination {
            Destination::Stdout => Self::to(io::stdout()),
            Destination::Stderr => Self::to(io::stderr()),
        }
    }

    fn to(output: impl Write + Send + 'static) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_all(&receiver, output))?;
        Ok(Self(sender))
    }

    pub(super) fn write(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.0.try_send(Message::Line(line))
        {
            metrics::counter!("telemetry_log_lines_dropped_total").increment(1);
        }
    }

    /// Waits until everything queued so far is out, or `bound` has passed.
    pub(crate) fn flush(&self, bound: Duration) {
        let (done, flushed) = sync_channel(1);
        let message = Message::Flush(done);
        // A full queue means that the reader is stuck: there is nothing to wait for.
        if self.0.try_send(message).is_ok() {
            let _ = flushed.recv_timeout(bound);
        }
    }
}

/// Lines that came together go out together. A reader that is gone is not an error of ours: the lines are dropped.
fn write_all(messages: &Receiver<Message>, output: impl Write) {
    let mut output = io::BufWriter::with_capacity(64 * 1024, output);
    while let Ok(first) = messages.recv() {
        if matches!(first, Message::Line(_)) {
            std::thread::sleep(GATHER);
        }
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => count_if_lost(&output.write_all(&line)),
                Message::Flush(done) => {
                    count_if_lost(&output.flush());
                    let _ = done.send(());
                }
            }
            next = messages.try_recv().ok();
        }
        count_if_lost(&output.flush());
    }
}

fn count_if_lost(written: &io::Result<()>) {
    if written.is_err() {
        metrics::counter!("telemetry_log_lines_dropped_total").increment(1);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

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
        // Would never end if a full queue made the caller wait.
        for _ in 0..QUEUE * 2 {
            lines.write(b"line\n".to_vec());
        }
        lines.flush(Duration::from_millis(10));
    }

    #[test]
    fn what_was_written_is_out_after_a_flush_and_in_order() {
        let (permits, gate) = channel();
        let (out, seen) = channel();
        let lines = Lines::to(Gate(gate, out)).unwrap();
        (0..1_000).for_each(|_| permits.send(()).unwrap());
        let written: Vec<String> = (0..100).map(|number| format!("{number}\n")).collect();
        for line in &written {
            lines.write(line.clone().into_bytes());
        }
        lines.flush(Duration::from_secs(10));
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert_eq!(text, written.concat());
    }
}
