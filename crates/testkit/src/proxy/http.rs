//! HTTP/1.1 proxy that forwards complete exchanges and applies scripted faults to some of them.

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

/// Point at which an exchange can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Point {
    /// Before the request is delivered.
    Request,
    /// After the service has answered and before the client gets the reply.
    Reply,
}

/// Counts of the proxy's actions so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that clients opened.
    pub connections: u64,
    /// Requests that clients sent.
    pub requests: u64,
    /// Requests that the service got. A duplicate counts twice.
    pub delivered: u64,
    /// Replies that clients got complete and unchanged.
    pub answered: u64,
    /// Exchanges with a fault.
    pub faults: u64,
}

/// A request with its fault and its replies.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Number of the exchange, counted from 0.
    pub id: usize,
    /// The request as the client sent it.
    pub request: Message,
    /// Name of the fault, if one was applied.
    pub fault: Option<&'static str>,
    /// Number of times that the service got the request.
    pub delivered: u32,
    /// Replies of the service.
    pub replies: Vec<Message>,
    /// True if the client got the first reply complete and unchanged.
    pub answered: bool,
}

/// A scripted HTTP/1.1 proxy on loopback. It and its connections end when the last handle is dropped.
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
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
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
    /// Starts a proxy on a free loopback port in front of the service at `upstream`.
    pub async fn start(upstream: SocketAddr) -> io::Result<Self> {
        let state = State {
            upstream,
            script: Script::default(),
            counts: Counts::default(),
            exchanges: Vec::new(),
            held: Vec::new(),
        };
        let inner = Arc::new(Inner { state: Mutex::new(state), released: Notify::new() });
        let serving = inner.clone();
        let port = Port::open(move |stream| serve(serving.clone(), stream)).await?;
        Ok(Self { port: Arc::new(port), inner })
    }

    /// Address on which the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// URL of the proxy.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Forwards later requests to another address, for a service that restarted elsewhere.
    pub fn forward_to(&self, upstream: SocketAddr) {
        self.inner.state().upstream = upstream;
    }

    /// Applies `fault` to the requests that `when` matches. If several faults match, the one added first applies.
    pub fn script(&self, when: When, fault: Fault) {
        self.inner.state().script.add(when, fault);
    }

    /// Removes all scripted faults and releases all held exchanges. The port stays open or closed.
    pub fn heal(&self) {
        self.inner.state().script.clear();
        self.release_all();
    }

    /// Closes the port, so that new connections are refused, and resets open connections.
    pub async fn close(&self) {
        self.port.listen(false).await;
        self.port.cut();
    }

    /// Opens the port again.
    pub async fn open(&self) {
        self.port.listen(true).await;
    }

    /// Resets every open connection. Their held exchanges are lost.
    pub fn cut(&self) {
        self.port.cut();
    }

    /// The held exchanges, oldest first.
    pub fn held(&self) -> Vec<Exchange> {
        let state = self.inner.state();
        state.held.iter().map(|id| state.exchanges[*id].clone()).collect()
    }

    /// Releases one held exchange.
    pub fn release(&self, id: usize) {
        self.inner.state().held.retain(|held| *held != id);
        self.inner.released.notify_waiters();
    }

    /// Releases every held exchange.
    pub fn release_all(&self) {
        self.inner.state().held.clear();
        self.inner.released.notify_waiters();
    }

    /// The counts so far.
    pub fn counts(&self) -> Counts {
        self.inner.state().counts
    }

    /// All exchanges so far, oldest first.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.inner.state().exchanges.clone()
    }

    /// Delivers an old request again, like a network that kept a copy, and returns the service's reply.
    pub async fn resend(&self, id: usize) -> io::Result<Message> {
        let request = self.inner.state().exchanges[id].request.clone();
        let mut upstream = Upstream::default();
        self.inner.deliver(id, &request, &mut upstream).await
    }
}

/// A connection to the service, opened on first use.
#[derive(Debug, Default)]
struct Upstream {
    stream: Option<(SocketAddr, TcpStream)>,
    inbox: Inbox,
}

/// Answer of the proxy to its client.
enum Answer {
    Whole(Message),
    Bytes(Vec<u8>, Ending),
    Nothing(Ending),
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock can be used: each update is a single step, so a panic cannot leave half an update behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a request to the service and reads its reply.
    async fn deliver(&self, id: usize, request: &Message, upstream: &mut Upstream) -> io::Result<Message> {
        let target = self.state().upstream;
        // The service may have closed the idle connection; then open a new one. If the connection dies while the
        // request is sent, the client sees the failure, as on a real network.
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

    /// Counts a reply. It is called before the client gets the reply, so that a test that has the reply sees the count.
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
            // Register before the check, so that a release between the two is not missed.
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

/// Serves one client connection until either side closes it.
async fn serve(inner: Arc<Inner>, mut client: TcpStream) {
    // Without this, a small reply would wait for the acknowledgement of an earlier one.
    let _gone = client.set_nodelay(true);
    reset_on_drop(&client);
    inner.state().counts.connections += 1;
    let (mut inbox, mut upstream) = (Inbox::default(), Upstream::default());
    while let Ok(Some(request)) = inbox.next(&mut client, Kind::Request).await {
        let (id, fault) = {
            let mut state = inner.state();
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
        let has_fault = fault.is_some();
        let exchange = inner.exchange(id, &request, fault, &mut upstream);
        tokio::pin!(exchange);
        let answer = if has_fault {
            // The faulty network has the request, and a client that disconnects cannot take it back.
            exchange.await
        } else {
            tokio::select! {
                answer = &mut exchange => answer,
                // A healthy network closes the service's connection when the client closes its own.
                () = wait_for_close(&mut inbox, &mut client) => return,
            }
        };
        // If the service is unreachable or closes early, reset the client's connection.
        let Ok(answer) = answer else { return };
        if !send_answer(&inner, id, &mut client, answer).await {
            return;
        }
    }
    let _gone = client.shutdown().await;
}

/// Sends the client its answer. Returns false if the connection has ended.
async fn send_answer(inner: &Inner, id: usize, client: &mut TcpStream, answer: Answer) -> bool {
    let (bytes, ending) = match answer {
        Answer::Whole(reply) => {
            inner.answered(id);
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
        Ending::Hang => wait_for_close(&mut Inbox::default(), client).await,
        Ending::Close => {
            let _gone = client.shutdown().await;
            wait_for_close(&mut Inbox::default(), client).await;
        }
        // Dropping the socket resets the connection. Bytes written before have reached the client's kernel.
        Ending::Reset => {}
    }
    false
}

/// Waits until the client has closed its side.
async fn wait_for_close(inbox: &mut Inbox, client: &mut TcpStream) {
    while inbox.fill(client).await.unwrap_or(false) {}
}

/// True if an idle connection can be used: it is not closed, and the service has sent no bytes without a request.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
