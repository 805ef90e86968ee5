//! The queue of events and the thread that writes them, so that no request waits for the disk.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use time::OffsetDateTime;

use crate::stamp::stamp;
use crate::store::{OpenError, Repairs, Store, Tiers};
use crate::{Event, Options, Origin, names};

/// Most bytes in the queue: about two seconds of events at full load. The batch being written may be as large again.
const MAX_QUEUED_BYTES: usize = 4 * 1024 * 1024;

/// Time that the writer waits for further events before it writes a batch. A process that is killed loses at most the
/// events of this time.
const BATCH_DELAY: Duration = Duration::from_millis(20);

/// Time between two looks at the age of the open segment while no event comes.
const IDLE: Duration = Duration::from_secs(1);

/// Handle that records events. Clones share one queue. A recorder that is off does nothing.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    /// Members of [`Origin`] as JSON, without braces.
    origin: String,
    options: Options,
    queue: Mutex<Queue>,
    filled: Condvar,
    tiers: Mutex<Tiers>,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    events: u64,
    flushes: Vec<SyncSender<()>>,
    is_ending: bool,
}

/// The running writer. Dropping it writes and seals the events that were recorded.
#[derive(Debug)]
#[must_use = "dropping it ends the recording"]
pub struct Writing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// Reason why recording could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The writer thread did not start.
    #[error("the writer of events did not start: {0}")]
    Thread(io::Error),
    /// The origin has no JSON form.
    #[error("the origin of events: {0}")]
    Origin(#[from] serde_json::Error),
}

impl Recorder {
    /// A recorder that records nothing.
    pub fn off() -> Self {
        Self(None)
    }

    /// Opens the store and starts its writer.
    pub fn start(options: Options, origin: &Origin) -> Result<(Self, Writing, Repairs), StartError> {
        let (store, repairs) = Store::open(options.clone(), OffsetDateTime::now_utc())?;
        let (recorder, writing) = Self::to(store, options, origin)?;
        Ok((recorder, writing, repairs))
    }

    fn to(disk: impl Disk, options: Options, origin: &Origin) -> Result<(Self, Writing), StartError> {
        names::describe();
        let origin = serde_json::to_string(origin)?;
        let origin = origin.trim_start_matches('{').trim_end_matches('}').to_owned();
        let tiers = Mutex::new(disk.tiers());
        let shared =
            Arc::new(Shared { origin, options, queue: Mutex::default(), filled: Condvar::new(), tiers });
        let writer = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("evidence".to_owned())
            .spawn(move || write_all(&writer, disk))
            .map_err(StartError::Thread)?;
        Ok((Self(Some(Arc::clone(&shared))), Writing { shared, thread: Some(thread) }))
    }

    /// True if events are recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Settings of the store; `None` when the recorder is off.
    pub fn options(&self) -> Option<&Options> {
        self.0.as_ref().map(|shared| &shared.options)
    }

    /// Sizes and ages of the tiers, at most a second old.
    pub fn tiers(&self) -> Option<Tiers> {
        self.0.as_ref().map(|shared| lock(&shared.tiers).clone())
    }

    /// Adds an event that ended now. It never waits for the disk: when the queue is full, the event is dropped and counted.
    pub fn record(&self, event: &Event<'_>) {
        let Some(shared) = &self.0 else { return };
        let Some(line) = shared.line(event, OffsetDateTime::now_utc()) else {
            return count_dropped(names::DISK, 1);
        };
        let mut queue = lock(&shared.queue);
        if queue.lines.len() + line.len() > MAX_QUEUED_BYTES {
            drop(queue);
            return count_dropped(names::QUEUE_FULL, 1);
        }
        let is_first = queue.lines.is_empty();
        queue.lines.extend_from_slice(&line);
        queue.events += 1;
        drop(queue);
        if is_first {
            shared.filled.notify_one();
        }
    }

    /// Waits until the events recorded so far are written, for `bound` at most.
    pub fn flush(&self, bound: Duration) {
        if let Some(shared) = &self.0 {
            shared.flush(bound);
        }
    }
}

impl Shared {
    /// The event's line, with its line break.
    fn line(&self, event: &Event<'_>, now: OffsetDateTime) -> Option<Vec<u8>> {
        let mut line = Vec::with_capacity(1_024);
        line.extend_from_slice(b"{\"timestamp\":\"");
        line.extend_from_slice(stamp(now).as_bytes());
        line.extend_from_slice(b"\",");
        line.extend_from_slice(self.origin.as_bytes());
        let brace = line.len();
        serde_json::to_writer(&mut line, event).ok()?;
        line[brace] = b',';
        line.push(b'\n');
        Some(line)
    }

    fn flush(&self, bound: Duration) {
        let (done, flushed) = sync_channel(1);
        lock(&self.queue).flushes.push(done);
        self.filled.notify_one();
        // An error means that the disk is blocked or the writer is gone. Waiting longer would not help.
        let _ = flushed.recv_timeout(bound);
    }
}

impl Writing {
    /// Longest wait at the end of the process for the disk.
    pub const FLUSH_BOUND: Duration = Duration::from_secs(2);
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.flush(Self::FLUSH_BOUND);
        lock(&self.shared.queue).is_ending = true;
        self.shared.filled.notify_one();
        let Some(thread) = self.thread.take() else { return };
        // A blocked disk must not hold up the end of the process; the next start seals the segment.
        let mut waits = Self::FLUSH_BOUND.as_millis() / BATCH_DELAY.as_millis();
        while !thread.is_finished() && waits > 0 {
            thread::sleep(BATCH_DELAY);
            waits -= 1;
        }
    }
}

/// The disk, as the writer thread uses it. A test's disk can be slow or full.
trait Disk: Send + 'static {
    fn append(&mut self, lines: &[u8], now: OffsetDateTime) -> io::Result<()>;
    fn tick(&mut self, now: OffsetDateTime) -> io::Result<()>;
    fn finish(&mut self, now: OffsetDateTime) -> io::Result<()>;
    fn tiers(&self) -> Tiers;
}

impl Disk for Store {
    fn append(&mut self, lines: &[u8], now: OffsetDateTime) -> io::Result<()> {
        Self::append(self, lines, now)
    }

    fn tick(&mut self, now: OffsetDateTime) -> io::Result<()> {
        Self::tick(self, now)
    }

    fn finish(&mut self, now: OffsetDateTime) -> io::Result<()> {
        Self::finish(self, now)
    }

    fn tiers(&self) -> Tiers {
        Self::tiers(self)
    }
}

/// Body of the writer thread.
fn write_all(shared: &Shared, mut disk: impl Disk) {
    let mut lines = Vec::new();
    let mut failing = Failing::default();
    loop {
        let queue = lock(&shared.queue);
        let is_idle =
            |queue: &mut Queue| queue.lines.is_empty() && queue.flushes.is_empty() && !queue.is_ending;
        let (queue, waited) =
            shared.filled.wait_timeout_while(queue, IDLE, is_idle).unwrap_or_else(PoisonError::into_inner);
        drop(queue);
        if !waited.timed_out() {
            thread::sleep(BATCH_DELAY);
        }
        let mut queue = lock(&shared.queue);
        std::mem::swap(&mut lines, &mut queue.lines);
        let events = std::mem::take(&mut queue.events);
        let flushes = std::mem::take(&mut queue.flushes);
        let is_ending = queue.is_ending;
        drop(queue);
        let now = OffsetDateTime::now_utc();
        if !lines.is_empty() {
            let written = disk.append(&lines, now);
            match &written {
                Ok(()) => metrics::counter!(names::EVENTS).increment(events),
                Err(_) => count_dropped(names::DISK, events),
            }
            failing.note("append", written);
            lines.clear();
        }
        let upkeep = if is_ending { disk.finish(now) } else { disk.tick(now) };
        if upkeep.is_err() {
            metrics::counter!(names::FAILURES).increment(1);
        }
        failing.note("seal or expire", upkeep);
        let tiers = disk.tiers();
        for (tier, bytes) in
            [("hot", tiers.hot.bytes), ("sealed", tiers.sealed.bytes), ("manifest", tiers.manifest_bytes)]
        {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            metrics::gauge!(names::BYTES, "tier" => tier).set(bytes as f64);
        }
        *lock(&shared.tiers) = tiers;
        for done in flushes {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
        if is_ending {
            return;
        }
    }
}

/// Logs the first failure of an operation and its end, and no repeats.
#[derive(Default)]
struct Failing(Vec<&'static str>);

impl Failing {
    fn note(&mut self, operation: &'static str, result: io::Result<()>) {
        let known = self.0.iter().position(|known| *known == operation);
        match (result, known) {
            (Err(error), None) => {
                tracing::warn!(operation, %error, "evidence: the disk refused an operation; events are dropped or wait");
                self.0.push(operation);
            }
            (Ok(()), Some(at)) => {
                tracing::info!(operation, "evidence: the disk accepts the operation again");
                self.0.swap_remove(at);
            }
            (Ok(()), None) | (Err(_), Some(_)) => {}
        }
    }
}

fn count_dropped(reason: &'static str, events: u64) {
    metrics::counter!(names::DROPPED, "reason" => reason).increment(events);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::RequestEvent;

    /// A disk that takes a batch for each permit, and refuses it when the permit says so.
    struct Gate(Receiver<bool>, Sender<Vec<u8>>);

    impl Disk for Gate {
        fn append(&mut self, lines: &[u8], _: OffsetDateTime) -> io::Result<()> {
            if self.0.recv().map_err(io::Error::other)? {
                return self.1.send(lines.to_vec()).map_err(io::Error::other);
            }
            Err(io::ErrorKind::StorageFull.into())
        }

        fn tick(&mut self, _: OffsetDateTime) -> io::Result<()> {
            Ok(())
        }

        fn finish(&mut self, _: OffsetDateTime) -> io::Result<()> {
            Ok(())
        }

        fn tiers(&self) -> Tiers {
            Tiers::default()
        }
    }

    fn origin() -> Origin {
        Origin {
            service: "order".to_owned(),
            version: "1".to_owned(),
            revision: "r".to_owned(),
            instance: "i".to_owned(),
            environment: "test".to_owned(),
            region: None,
            config_hash: "c".to_owned(),
        }
    }

    fn record(recorder: &Recorder, route: &str) {
        recorder.record(&Event::Request(&RequestEvent { route, ..RequestEvent::default() }));
    }

    #[test]
    fn a_slow_disk_does_not_make_a_request_wait() {
        let (permits, gate) = channel();
        let (out, seen) = channel();
        let (recorder, writing) = Recorder::to(Gate(gate, out), Options::new("/"), &origin()).unwrap();
        let route = "x".repeat(1_000);
        // This loop would never end if a full queue made the caller wait.
        (0..3 * MAX_QUEUED_BYTES / 1_000).for_each(|_| record(&recorder, &route));
        recorder.flush(Duration::from_millis(10));
        let queued = lock(&recorder.0.as_ref().unwrap().queue).lines.len();
        assert!(queued <= MAX_QUEUED_BYTES, "{queued}");
        (0..3).for_each(|_| permits.send(true).unwrap());
        recorder.flush(Duration::from_secs(5));
        let written: usize = seen.try_iter().map(|batch| batch.len()).sum();
        assert!(written > 0 && written <= 2 * MAX_QUEUED_BYTES, "{written}");
        drop(permits);
        drop(writing);
    }

    #[test]
    fn events_of_a_refused_batch_are_dropped_and_the_next_ones_are_written() {
        let (permits, gate) = channel();
        let (out, seen) = channel();
        let (recorder, writing) = Recorder::to(Gate(gate, out), Options::new("/"), &origin()).unwrap();
        for (route, is_accepted) in [("/lost", false), ("/kept", true)] {
            record(&recorder, route);
            permits.send(is_accepted).unwrap();
            recorder.flush(Duration::from_secs(5));
        }
        drop(writing);
        let text = String::from_utf8(seen.try_iter().flatten().collect()).unwrap();
        assert!(text.contains("/kept") && !text.contains("/lost"), "{text}");
        let event: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["service.name"], "order");
        assert_eq!(event["event"], "request");
    }

    #[test]
    fn a_recorder_that_is_off_records_nothing() {
        let recorder = Recorder::off();
        record(&recorder, "/v1/orders");
        recorder.flush(Duration::ZERO);
        assert!(!recorder.is_on() && recorder.tiers().is_none());
    }
}
