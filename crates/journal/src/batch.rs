//! Concurrent writes of one kind, in one transaction.
//!
//! The cost of a statement hardly depends on its number of rows: most of it is round trips, the start of a plan and the flush
//! of a commit. So a write that arrives alone begins as soon as its thread has nothing else to do, and writes that arrive
//! while a transaction is running share the next one. If that takes long, up to [`WRITERS`] transactions run side by side.
//!
//! One failing write must not fail its batch. A shared transaction waits 50 ms for a lock and 250 ms for a statement. If
//! that is too short, or if the database refuses a row, or if a write panics, each write gets a transaction of its own ([`Database::alone`]), beside the next shared one.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use sqlx::PgConnection;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::database::{Database, DatabaseError, Timer, TxEnd, Work, is_cut_off, is_held_up};

/// Most transactions of one kind at the same time. With one, most writes share it. Four keep a server busy whose rows are slow,
/// and three go on while one hangs.
pub const WRITERS: usize = 4;

/// Time after which a write that no transaction has taken begins another one: several times as long as a shared transaction
/// takes on a healthy server.
const UNTAKEN: Duration = Duration::from_millis(10);

/// Most writes in one transaction, so that no write waits for many others.
const MOST: usize = 64;

/// Largest weight of one transaction: that of two of the largest orders. A heavier one would hold its locks for long.
const HEAVIEST: usize = 2_000;

/// Function that executes writes and returns their outputs in the same order.
pub type Write<I, O> = for<'c> fn(&'c mut PgConnection, &'c [Arc<I>]) -> Work<'c, TxEnd<Vec<O>>>;

/// Writes of one kind. Clones share the queue.
#[derive(Debug)]
pub struct Batch<I, O>(Arc<Inner<I, O>>);

#[derive(Debug)]
struct Inner<I, O> {
    database: Database,
    weight: fn(&I) -> usize,
    write: Write<I, O>,
    queue: Mutex<Queue<I, O>>,
}

#[derive(Debug)]
struct Queue<I, O> {
    waiting: VecDeque<Waiting<I, O>>,
    /// Number of tasks that take writes from the queue.
    writers: usize,
    /// Most writes in the next transaction: [`MOST`], and fewer after a statement took too long.
    most: usize,
}

#[derive(Debug)]
struct Waiting<I, O> {
    item: Arc<I>,
    deadline: Option<Instant>,
    reply: oneshot::Sender<Result<O, DatabaseError>>,
}

impl<I, O> Clone for Batch<I, O> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Batch<I, O> {
    /// Creates a queue without writes. `weight` is the number of lines or rows of an item.
    pub fn new(database: Database, weight: fn(&I) -> usize, write: Write<I, O>) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), writers: 0, most: MOST });
        Self(Arc::new(Inner { database, weight, write, queue }))
    }

    /// Writes `item` together with other waiting items. The write does not begin after `deadline`, and does not commit after the
    /// latest deadline of its transaction.
    ///
    /// # Errors
    /// As of [`Database::alone`]: an item that cannot be written fails no other item. An item that no writer took within the
    /// time for a free connection was not written: [`DatabaseError::Busy`], or `Deadline` if the deadline came first. An item
    /// for which `write` panics is a [`DatabaseError::Defect`].
    ///
    /// # Cancellation
    /// An item whose future is dropped before a writer has taken it is not written. After that it is written.
    pub async fn write(&self, deadline: Option<Instant>, item: Arc<I>) -> Result<O, DatabaseError> {
        let _spent = Timer::total();
        let (reply, written) = oneshot::channel();
        let began = Instant::now();
        let bound = began + self.0.database.limits().acquire;
        let bound = deadline.map_or(bound, |d| d.min(bound));
        self.queue().waiting.push_back(Waiting { item: Arc::clone(&item), deadline, reply });
        self.begin_unless(1);
        let mut written = pin!(written);
        let mut answer = timeout_at(bound.min(began + UNTAKEN), written.as_mut()).await;
        if answer.is_err() {
            self.begin_unless(WRITERS);
            answer = timeout_at(bound, written.as_mut()).await;
        }
        let written = match answer {
            Ok(written) => written,
            Err(_) if self.take_back(&item) => {
                return Err(if deadline.is_some_and(|d| d <= Instant::now()) {
                    DatabaseError::Deadline
                } else {
                    self.0.database.not_served()
                });
            }
            Err(_) => written.await,
        };
        // The sender is dropped without an answer only when the runtime ends, perhaps in the middle of a transaction.
        written.unwrap_or_else(|_| Err(DatabaseError::Unknown(Arc::new(sqlx::Error::WorkerCrashed))))
    }

    fn queue(&self) -> MutexGuard<'_, Queue<I, O>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the item from the queue, and returns whether it was still there.
    fn take_back(&self, item: &Arc<I>) -> bool {
        let waiting = &mut self.queue().waiting;
        let place = waiting.iter().position(|waiting| Arc::ptr_eq(&waiting.item, item));
        place.and_then(|place| waiting.remove(place)).is_some()
    }

    /// Begins another writer if a write waits, unless `enough` writers run.
    fn begin_unless(&self, enough: usize) {
        let mut queue = self.queue();
        if queue.waiting.is_empty() || queue.writers >= enough {
            return;
        }
        queue.writers += 1;
        let mut writer = Writer { batch: self.clone(), is_done: false };
        tokio::spawn(async move {
            loop {
                // Yield first, so that tasks on this worker can enqueue. Without such tasks it costs one turn of the scheduler.
                tokio::task::yield_now().await;
                let Some(some) = writer.take() else { break };
                writer.batch.together(some).await;
            }
        });
    }

    /// Writes items in one transaction, and each in a transaction of its own if that fails because of one of them.
    async fn together(&self, some: Vec<Waiting<I, O>>) {
        let now = Instant::now();
        let (some, late): (Vec<_>, Vec<_>) = some
            .into_iter()
            .filter(|waiting| !waiting.reply.is_closed())
            .partition(|waiting| waiting.deadline.is_none_or(|deadline| deadline > now));
        for waiting in late {
            waiting.end(Err(DatabaseError::Deadline));
        }
        if some.is_empty() {
            return;
        }
        // The transaction has no deadline if one of its writes has none.
        let deadline =
            some.iter().map(|waiting| waiting.deadline).max_by_key(|d| (d.is_none(), *d)).flatten();
        let items: Vec<Arc<I>> = some.iter().map(|waiting| Arc::clone(&waiting.item)).collect();
        let input = (self.0.write, items);
        let written = self.0.database.hurried(deadline, input, carry_out).await;
        self.learn(some.len(), &written);
        match written {
            Ok(written) => {
                for (waiting, output) in some.into_iter().zip(written) {
                    waiting.end(Ok(output));
                }
            }
            Err(error) if is_of_one(&error) && some.len() > 1 => {
                for waiting in some {
                    tokio::spawn(self.clone().alone(waiting, None));
                }
            }
            Err(error) => {
                for waiting in some {
                    if is_held_up(&error) {
                        tokio::spawn(self.clone().alone(waiting, Some(error.clone())));
                    } else {
                        waiting.end(Err(error.clone()));
                    }
                }
            }
        }
    }

    /// Half as many writes share a transaction after a statement was cut off, and one more after each full success: where
    /// each row takes the server long, a full batch could never be written.
    fn learn(&self, count: usize, written: &Result<Vec<O>, DatabaseError>) {
        let mut queue = self.queue();
        match written {
            Ok(_) if count >= queue.most => queue.most = (queue.most + 1).min(MOST),
            Err(DatabaseError::Busy(error)) if is_cut_off(error) => queue.most = (count / 2).max(1),
            Ok(_) | Err(_) => {}
        }
    }

    /// Writes one item in its own transaction. `held_up` is the error of a brief transaction of this write alone, if there was
    /// one.
    async fn alone(self, waiting: Waiting<I, O>, held_up: Option<DatabaseError>) {
        let database = &self.0.database;
        let input = (self.0.write, vec![Arc::clone(&waiting.item)]);
        let written = match held_up {
            None => database.alone(waiting.deadline, input, carry_out).await,
            Some(error) => database.patient(error, waiting.deadline, input, carry_out).await,
        };
        match written.map(|outputs| outputs.into_iter().next()) {
            Ok(Some(output)) => waiting.end(Ok(output)),
            Ok(None) => unreachable!("a write gives an output for each item"),
            Err(error) => waiting.end(Err(error)),
        }
    }
}

/// Executes the writes. A panic becomes an error, so that it ends neither the writer nor the other writes.
fn carry_out<'c, I: Send + Sync + 'static, O: Send + 'static>(
    connection: &'c mut PgConnection,
    (write, items): &'c (Write<I, O>, Vec<Arc<I>>),
) -> Work<'c, TxEnd<Vec<O>>> {
    let written = AssertUnwindSafe(async move { write(connection, items).await }).catch_unwind();
    Box::pin(async move { written.await.unwrap_or(Err(sqlx::Error::WorkerCrashed)) })
}

/// Returns whether a single write may have caused the error of a shared transaction: it was refused, it waited for a lock, or it
/// was slow. A server that is full or unreachable fails every write, so the writes are not repeated one by one.
fn is_of_one(error: &DatabaseError) -> bool {
    matches!(error, DatabaseError::Defect(_)) || is_held_up(error)
}

/// A task that writes until the queue is empty. When it ends, also by a panic, another may begin.
struct Writer<I: Send + Sync + 'static, O: Send + 'static> {
    batch: Batch<I, O>,
    is_done: bool,
}

impl<I: Send + Sync + 'static, O: Send + 'static> Writer<I, O> {
    /// Takes the next writes. `None` ends the writer: it is counted out under the lock under which the queue was empty.
    fn take(&mut self) -> Option<Vec<Waiting<I, O>>> {
        let mut queue = self.batch.queue();
        if queue.waiting.is_empty() {
            queue.writers -= 1;
            self.is_done = true;
            return None;
        }
        let mut weight = 0;
        let fits = |waiting: &&Waiting<I, O>| {
            let is_first = weight == 0;
            weight += (self.batch.0.weight)(&waiting.item).max(1);
            is_first || weight <= HEAVIEST
        };
        let count = queue.waiting.iter().take(queue.most).take_while(fits).count();
        Some(queue.waiting.drain(..count).collect())
    }
}

impl<I: Send + Sync + 'static, O: Send + 'static> Drop for Writer<I, O> {
    fn drop(&mut self) {
        if !self.is_done {
            self.batch.queue().writers -= 1;
        }
        // Begin another writer only after a panic. When the runtime ends, no task can begin.
        if std::thread::panicking() {
            self.batch.begin_unless(1);
        }
    }
}

impl<I, O> Waiting<I, O> {
    /// Sends the result to the waiting task, which may have left.
    fn end(self, result: Result<O, DatabaseError>) {
        let Self { item, reply, .. } = self;
        // Drop the item first, so that the receiver of the result is its only owner.
        drop(item);
        let _ = reply.send(result);
    }
}
