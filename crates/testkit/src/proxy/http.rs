//! A proxy that carries whole HTTP/1.1 exchanges and spoils the ones it is told to.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::message::{Inbox, Kind, Message};
use super::port::{Port, reset_on_drop};
use super::script::{Ending, Fault, Script, When};

/// Where an exchange can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before the request is delivered.
    Request,
    /// After the service has answered, before the client hears it.
    Reply,
}

/// What the proxy has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients opened.
    pub connections: u64,
    /// Requests that clients sent.
    pub requests: u64,
    /// Requests that the service got; a duplicate counts twice.
    pub delivered: u64,
    /// Replies that clients got whole and unchanged.
    pub answered: u64,
    /// Exchanges that a fault was applied to.
    pub faults: u64,
}

/// One request and what became of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Its number, from 0.
    pub id: usize,
    /// The request as it was sent.
    pub request: Message,
    /// The fault that was applied.
    pub fault: Option<&'static str>,
    /// How often the service got it.
    pub delivered: u32,
    /// What the service answered, each time it did.
    pub replies: Vec<Message>,
    /// Whether the client got the first of these, whole and unchanged.
    pub answered: bool,
}

/// A scripted HTTP/1.1 proxy on loopback. Everything ends when the last handle is dropped.
///
/// ```no_run
/// # async fn example(inventory: std::net::SocketAddr) -> std::io::Result<()> {
/// use testkit::proxy::{Ending, Fault, HttpProxy, When};
///
/// let proxy = HttpProxy::start(inventory).await?;
/// proxy.script(When::next("POST /v1/reservations"), Fault::LoseReply(Ending::Reset));
/// // … place an order by way of `proxy.url()` …
/// assert_eq!(proxy.counts().faults, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct HttpProxy {
    port: Arc<Port>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes held exchanges.
    released: Notify,
}

#[derive(Debug)]
struct State {
    upstream: SocketAddr,
    script: Script,
    counts: Counts,
    exchanges: Vec<Exchange>,
    held: Vec<usize>,
}

impl HttpProxy {
    /// Listens on a free port of loopback for the service at `upstream`.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let state = State {
            upstream,
            script: Script::default(),
            counts: Counts::default(),
            exchanges: Vec::new(),
            held: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), released: Notify::new() });
        let serving = shared.clone();
        let port = Port::open(move |stream| serve(serving.clone(), stream)).await?;
        Ok(Self { port: Arc::new(port), shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Sends new connections to another address: the service has moved, or came back elsewhere.
    pub fn forward_to(&self, upstream: SocketAddr) {
        self.shared.state().upstream = upstream;
    }

    /// Applies `fault` to the requests that `when` names. Of several, the one that was added first is applied.
    pub fn script(&self, when: When, fault: Fault) {
        self.shared.state().script.add(when, fault);
    }

    /// Forgets every fault that was not applied yet and releases what is held. The port stays as it is.
    pub fn heal(&self) {
        self.shared.state().script.clear();
        self.release_all();
    }

    /// Stops listening: from now on, connecting is refused. Open connections are reset.
    pub async fn close(&self) {
        self.port.listen(false).await;
        self.port.cut();
    }

    /// Listens again.
    pub async fn open(&self) {
        self.port.listen(true).await;
    }

    /// Resets every open connection; what is held is gone.
    pub fn cut(&self) {
        self.port.cut();
    }

    /// The exchanges that are held, oldest first.
    pub fn held(&self) -> Vec<Exchange> {
        let state = self.shared.state();
        state.held.iter().map(|id| state.exchanges[*id].clone()).collect()
    }

    /// Lets one held exchange go on.
    pub fn release(&self, id: usize) {
        self.shared.state().held.retain(|held| *held != id);
        self.shared.released.notify_waiters();
    }

    /// Lets every held exchange go on.
    pub fn release_all(&self) {
        self.shared.state().held.clear();
        self.shared.released.notify_waiters();
    }

    /// What it did so far.
    pub fn counts(&self) -> Counts {
        self.shared.state().counts
    }

    /// Every exchange so far, oldest first.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.state().exchanges.clone()
    }

    /// Delivers an old request once more, as a network that kept a copy would; gives the service's reply.
    pub async fn resend(&self, id: usize) -> io::Result<Message> {
        let request = self.shared.state().exchanges[id].request.clone();
        let mut upstream = Upstream::default();
        self.shared.deliver(id, &request, &mut upstream).await
    }
}

/// A connection to the service, opened when it is needed.
#[derive(Debug, Default)]
struct Upstream {
    stream: Option<(SocketAddr, TcpStream)>,
    inbox: Inbox,
}

/// What the client gets.
enum Answer {
    Whole(Message),
    Bytes(Vec<u8>, Ending),
    Nothing(Ending),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Each update is complete in itself, so a panic elsewhere cannot leave half of one behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to the service and reads its reply.
    async fn deliver(&self, id: usize, request: &Message, upstream: &mut Upstream) -> io::Result<Message> {
        let target = self.state().upstream;
        // A kept connection may have been closed by the service in the meantime; nothing was sent on it then,
        // unless it dies under the request, which is for the client to find out.
        let idle = upstream.stream.take().filter(|(address, stream)| *address == target && is_open(stream));
        let mut stream = match idle {
            Some((_, stream)) => stream,
            None => TcpStream::connect(target).await?,
        };
        stream.write_all(request.bytes()).await?;
        {
            let mut state = self.state();
            state.counts.delivered += 1;
            state.exchanges[id].delivered += 1;
        }
        let reply = upstream.inbox.next(&mut stream, Kind::Reply).await?;
        let reply = reply.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.state().exchanges[id].replies.push(reply.clone());
        if !reply.is_last() {
            upstream.stream = Some((target, stream));
        }
        Ok(reply)
    }

    /// Counted before the client has its answer, so that no client ever sees a count without it.
    fn answered(&self, id: usize) {
        let mut state = self.state();
        state.counts.answered += 1;
        state.exchanges[id].answered = true;
    }

    /// Waits until the exchange is released.
    async fn hold(&self, id: usize) {
        self.state().held.push(id);
        loop {
            let released = self.released.notified();
            tokio::pin!(released);
            // Registered before the look, so that a release in between is not missed.
            released.as_mut().enable();
            if !self.state().held.contains(&id) {
                return;
            }
            released.await;
        }
    }

    async fn exchange(
        &self,
        id: usize,
        request: &Message,
        fault: Option<Fault>,
        upstream: &mut Upstream,
    ) -> io::Result<Answer> {
        let Some(fault) = fault else {
            return Ok(Answer::Whole(self.deliver(id, request, upstream).await?));
        };
        match fault {
            Fault::Delay { request: before, reply: after } => {
                pause(before).await;
                let reply = self.deliver(id, request, upstream).await?;
                pause(after).await;
                Ok(Answer::Whole(reply))
            }
            Fault::LoseRequest(ending) => Ok(Answer::Nothing(ending)),
            Fault::LoseReply(ending) => {
                self.deliver(id, request, upstream).await?;
                Ok(Answer::Nothing(ending))
            }
            Fault::CutReply { after, ending } => {
                let reply = self.deliver(id, request, upstream).await?;
                let kept = after.min(reply.bytes().len().saturating_sub(1));
                Ok(Answer::Bytes(reply.bytes()[..kept].to_vec(), ending))
            }
            Fault::ReplaceReply(bytes) => {
                self.deliver(id, request, upstream).await?;
                Ok(Answer::Bytes(bytes, Ending::Close))
            }
            Fault::Answer(bytes) => Ok(Answer::Bytes(bytes, Ending::Close)),
            Fault::Duplicate { at_once } => {
                let mut second = Upstream::default();
                let first = if at_once {
                    let both = tokio::join!(
                        self.deliver(id, request, upstream),
                        self.deliver(id, request, &mut second)
                    );
                    both.1?;
                    both.0?
                } else {
                    let first = self.deliver(id, request, upstream).await?;
                    self.deliver(id, request, &mut second).await?;
                    first
                };
                Ok(Answer::Whole(first))
            }
            Fault::Hold(Point::Request) => {
                self.hold(id).await;
                Ok(Answer::Whole(self.deliver(id, request, upstream).await?))
            }
            Fault::Hold(Point::Reply) => {
                let reply = self.deliver(id, request, upstream).await?;
                self.hold(id).await;
                Ok(Answer::Whole(reply))
            }
        }
    }
}

/// Serves one client connection until either side has had enough.
async fn serve(shared: Arc<Shared>, mut client: TcpStream) {
    // Small replies must not wait for acknowledgements of earlier ones.
    let _gone = client.set_nodelay(true);
    reset_on_drop(&client);
    shared.state().counts.connections += 1;
    let (mut inbox, mut upstream) = (Inbox::default(), Upstream::default());
    while let Ok(Some(request)) = inbox.next(&mut client, Kind::Request).await {
        let (id, fault) = {
            let mut state = shared.state();
            let fault = state.script.take(&request);
            state.counts.requests += 1;
            state.counts.faults += u64::from(fault.is_some());
            let id = state.exchanges.len();
            state.exchanges.push(Exchange {
                id,
                request: request.clone(),
                fault: fault.as_ref().map(Fault::name),
                delivered: 0,
                replies: Vec::new(),
                answered: false,
            });
            (id, fault)
        };
        let spoiled = fault.is_some();
        let exchange = shared.exchange(id, &request, fault, &mut upstream);
        tokio::pin!(exchange);
        let answer = if spoiled {
            // The network has the request now; that the client leaves does not call it back.
            exchange.await
        } else {
            tokio::select! {
                answer = &mut exchange => answer,
                // A healthy network tells the service that its client has left.
                () = left(&mut inbox, &mut client) => return,
            }
        };
        // An unreachable service, or one that breaks off, looks the same from here: a reset.
        let Ok(answer) = answer else { return };
        if !give(&shared, id, &mut client, answer).await {
            return;
        }
    }
    let _gone = client.shutdown().await;
}

/// Gives the client its answer. `false`: the connection has ended.
async fn give(shared: &Shared, id: usize, client: &mut TcpStream, answer: Answer) -> bool {
    let (bytes, ending) = match answer {
        Answer::Whole(reply) => {
            shared.answered(id);
            if reply.is_last() {
                (reply.bytes().to_vec(), Ending::Close)
            } else {
                return client.write_all(reply.bytes()).await.is_ok();
            }
        }
        Answer::Bytes(bytes, ending) => (bytes, ending),
        Answer::Nothing(ending) => (Vec::new(), ending),
    };
    if client.write_all(&bytes).await.is_err() {
        return false;
    }
    match ending {
        Ending::Hang => left(&mut Inbox::default(), client).await,
        Ending::Close => {
            let _gone = client.shutdown().await;
            left(&mut Inbox::default(), client).await;
        }
        // Dropping the socket resets the connection; what was written before has reached the client's kernel.
        Ending::Reset => {}
    }
    false
}

/// Returns when the client has closed its side.
async fn left(inbox: &mut Inbox, client: &mut TcpStream) {
    while inbox.fill(client).await.unwrap_or(false) {}
}

/// Whether an idle connection can still be used: neither closed nor with bytes that nobody asked for.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
