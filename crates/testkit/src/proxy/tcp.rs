//! TCP proxy that handles only bytes and directions. It is for PostgreSQL and for faults below HTTP.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Direction;
use super::message::find;
use super::port::{Port, reset_on_drop};

/// Treatment of the bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// The bytes arrive after this delay.
    Pass(Duration),
    /// The bytes wait until the flow changes, as in a partition that heals.
    Freeze,
    /// The bytes are lost. A connection that lost bytes stays silent in this direction for ever.
    Blackhole,
}

/// Moment at which a connection is cut, relative to bytes that its client sends, such as `COMMIT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// Before the bytes reach the server, so the server certainly did not execute them.
    BeforeDelivery,
    /// After the server has answered and before the client gets the answer: the bytes were executed, and the client
    /// does not know.
    BeforeReply,
}

/// Counts of the proxy's actions so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpCounts {
    /// Connections that clients opened.
    pub connections: u64,
    /// Bytes that reached the server.
    pub up: u64,
    /// Bytes that reached clients.
    pub down: u64,
    /// Bytes that a black hole lost.
    pub swallowed: u64,
    /// Connections cut because of bytes that the client sent or of the number of reply bytes.
    pub cuts: u64,
    /// Connections held: the server has got all the bytes that it will get, and the client waits.
    pub held: u64,
}

/// A scripted TCP proxy on loopback. It and its connections end when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct TcpProxy {
    port: Arc<Port>,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    upstream: SocketAddr,
    up: watch::Sender<Flow>,
    down: watch::Sender<Flow>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: TcpCounts,
    trigger: Option<Trigger>,
    /// Reply bytes that may still pass before a connection is cut.
    replies_left: Option<u64>,
}

/// Condition on a client's bytes for cutting or holding its connection.
#[derive(Debug)]
struct Trigger {
    /// Bytes that the connection must have carried first.
    after: Option<Vec<u8>>,
    bytes: Vec<u8>,
    /// Number of matches that pass before the trigger acts.
    skip: u32,
    cut: Cut,
    hold: bool,
    /// True if the trigger stays armed after its first use.
    again: bool,
}

/// Treatment of the server's answer to bytes that matched the trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Delivered,
    Cut,
    Held,
}

const COMMIT: &[u8] = b"COMMIT";

impl TcpProxy {
    /// Starts a proxy on a free loopback port in front of the server at `upstream`.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let pass = Flow::Pass(Duration::ZERO);
        let inner = Arc::new(Inner {
            upstream,
            up: watch::Sender::new(pass),
            down: watch::Sender::new(pass),
            state: Mutex::default(),
        });
        let serving = inner.clone();
        let port = Port::open(move |stream| serve(serving.clone(), stream)).await?;
        Ok(Self { port: Arc::new(port), inner })
    }

    /// Address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Changes the flow in one direction, for open connections too.
    pub fn flow(&self, direction: Direction, flow: Flow) {
        self.inner.flow(direction).send_replace(flow);
    }

    /// Cuts the next connection whose client sends `bytes`, after letting `bytes` pass `skip` times.
    pub fn cut_on(&self, bytes: &[u8], skip: u32, cut: Cut) {
        self.inner.state().trigger =
            Some(Trigger { after: None, bytes: bytes.to_vec(), skip, cut, hold: false, again: false });
    }

    /// Cuts every connection whose client sends COMMIT, until [`TcpProxy::heal`].
    pub fn cut_every_commit(&self, cut: Cut) {
        self.inner.state().trigger =
            Some(Trigger { after: None, bytes: COMMIT.to_vec(), skip: 0, cut, hold: false, again: true });
    }

    /// Cuts the connection of the next transaction that sends `bytes`, at the COMMIT of the transaction.
    pub fn cut_commit_of(&self, bytes: &[u8], cut: Cut) {
        let after = Some(bytes.to_vec());
        self.inner.state().trigger =
            Some(Trigger { after, bytes: COMMIT.to_vec(), skip: 0, cut, hold: false, again: false });
    }

    /// Holds the connection of the next transaction that sends `bytes`, at its COMMIT: before the COMMIT arrives, or
    /// once the server has answered it. The connection ends when the client closes it. [`TcpCounts::held`] counts it.
    pub fn hold_commit_of(&self, bytes: &[u8], cut: Cut) {
        let after = Some(bytes.to_vec());
        self.inner.state().trigger =
            Some(Trigger { after, bytes: COMMIT.to_vec(), skip: 0, cut, hold: true, again: false });
    }

    /// Counts reply bytes from now on, and cuts the connection that carries byte number `bytes` right after that byte.
    pub fn cut_replies_after(&self, bytes: u64) {
        self.inner.state().replies_left = Some(bytes);
    }

    /// Removes all faults and opens the port. Connections that lost bytes stay silent until they are cut.
    pub async fn heal(&self) {
        self.flow(Direction::Up, Flow::Pass(Duration::ZERO));
        self.flow(Direction::Down, Flow::Pass(Duration::ZERO));
        self.inner.disarm();
        self.port.listen(true).await;
    }

    /// Stops listening and resets every open connection.
    pub async fn close(&self) {
        self.port.listen(false).await;
        self.port.cut();
    }

    /// Resets every open connection.
    pub fn cut(&self) {
        self.port.cut();
    }

    /// The counts so far.
    pub fn counts(&self) -> TcpCounts {
        self.inner.state().counts
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be used: each update is a single step, so a panic cannot leave half an update behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flow(&self, direction: Direction) -> &watch::Sender<Flow> {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    fn disarm(&self) {
        let mut state = self.state();
        state.trigger = None;
        state.replies_left = None;
    }

    /// The trigger's action, if `sent` fires the trigger: when to cut, and true to hold instead.
    ///
    /// `seen` says whether the connection has carried the bytes of [`Trigger::after`].
    fn triggered(&self, sent: &[u8], seen: &mut bool) -> Option<(Cut, bool)> {
        let mut state = self.state();
        let trigger = state.trigger.as_mut()?;
        if let Some(before) = &trigger.after {
            *seen |= find(sent, before).is_some();
            if !*seen {
                return None;
            }
        }
        find(sent, &trigger.bytes)?;
        if trigger.skip > 0 {
            trigger.skip -= 1;
            return None;
        }
        let (cut, hold) = (trigger.cut, trigger.hold);
        if !trigger.again {
            state.trigger = None;
        }
        state.counts.cuts += u64::from(!hold);
        Some((cut, hold))
    }

    /// The number of these reply bytes that may pass, if the connection must end after them.
    fn last_reply_bytes(&self, length: usize) -> Option<usize> {
        let mut state = self.state();
        let left = state.replies_left?;
        if let Some(rest) = left.checked_sub(length as u64).filter(|rest| *rest > 0) {
            state.replies_left = Some(rest);
            return None;
        }
        state.replies_left = None;
        state.counts.cuts += 1;
        usize::try_from(left).ok()
    }
}

/// Serves one connection until both sides have closed it or a fault ends it. After a fault the client sees a reset.
async fn serve(inner: Arc<Inner>, mut client: TcpStream) {
    inner.state().counts.connections += 1;
    reset_on_drop(&client);
    let Ok(mut server) = TcpStream::connect(inner.upstream).await else { return };
    let _gone = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let (losing, lost) = watch::channel(Answer::Delivered);
    let _ended = tokio::try_join!(
        up(&inner, from_client, to_server, losing),
        down(&inner, from_server, to_client, lost),
    );
}

/// End of a connection by an error or a fault.
struct Ended;

/// Copies bytes from the client to the server.
async fn up(
    inner: &Inner,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    answer: watch::Sender<Answer>,
) -> Result<(), Ended> {
    let mut pipe = Pipe::new(inner, Direction::Up);
    let mut seen = false;
    while let Some(bytes) = pipe.read(&mut from).await? {
        match inner.triggered(&bytes, &mut seen) {
            Some((Cut::BeforeDelivery, false)) => return Err(Ended),
            Some((Cut::BeforeDelivery, true)) => {
                inner.state().counts.held += 1;
                return wait_for_close(&mut pipe, &mut from).await;
            }
            Some((Cut::BeforeReply, hold)) => {
                answer.send_replace(if hold { Answer::Held } else { Answer::Cut });
                pipe.write(&mut to, &bytes).await?;
                // The other direction handles the server's answer, unless the client closes first.
                return wait_for_close(&mut pipe, &mut from).await;
            }
            None => pipe.write(&mut to, &bytes).await?,
        }
    }
    to.shutdown().await.map_err(|_| Ended)
}

/// Waits until the client has closed its side.
async fn wait_for_close(pipe: &mut Pipe<'_>, from: &mut ReadHalf<'_>) -> Result<(), Ended> {
    while pipe.read(from).await?.is_some() {}
    Err(Ended)
}

/// Copies bytes from the server to the client.
async fn down(
    inner: &Inner,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    answer: watch::Receiver<Answer>,
) -> Result<(), Ended> {
    let mut pipe = Pipe::new(inner, Direction::Down);
    while let Some(bytes) = pipe.read(&mut from).await? {
        let answer = *answer.borrow();
        match answer {
            Answer::Delivered => {}
            Answer::Cut => return Err(Ended),
            Answer::Held => {
                inner.state().counts.held += 1;
                return std::future::pending().await;
            }
        }
        if let Some(last) = inner.last_reply_bytes(bytes.len()) {
            pipe.write(&mut to, &bytes[..last]).await?;
            return Err(Ended);
        }
        pipe.write(&mut to, &bytes).await?;
    }
    to.shutdown().await.map_err(|_| Ended)
}

/// One direction of one connection.
struct Pipe<'a> {
    inner: &'a Inner,
    direction: Direction,
    flow: watch::Receiver<Flow>,
    /// True if bytes were lost. Then later bytes are lost too, since they would make no sense without the earlier ones.
    dead: bool,
}

impl<'a> Pipe<'a> {
    fn new(inner: &'a Inner, direction: Direction) -> Self {
        Self { inner, direction, flow: inner.flow(direction).subscribe(), dead: false }
    }

    /// The next bytes, or `None` at the end.
    async fn read(&mut self, from: &mut ReadHalf<'_>) -> Result<Option<Vec<u8>>, Ended> {
        let mut bytes = Vec::with_capacity(16 << 10);
        match from.read_buf(&mut bytes).await {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(bytes)),
            Err(_) => Err(Ended),
        }
    }

    /// Writes, delays or loses the bytes, as the flow says.
    async fn write(&mut self, to: &mut WriteHalf<'_>, bytes: &[u8]) -> Result<(), Ended> {
        let flow = *self.flow.wait_for(|flow| *flow != Flow::Freeze).await.map_err(|_| Ended)?;
        let length = bytes.len() as u64;
        if self.dead || flow == Flow::Blackhole {
            self.dead = true;
            self.inner.state().counts.swallowed += length;
            return Ok(());
        }
        if let Flow::Pass(latency) = flow
            && !latency.is_zero()
        {
            sleep(latency).await;
        }
        to.write_all(bytes).await.map_err(|_| Ended)?;
        let counts = &mut self.inner.state().counts;
        match self.direction {
            Direction::Up => counts.up += length,
            Direction::Down => counts.down += length,
        }
        Ok(())
    }
}
