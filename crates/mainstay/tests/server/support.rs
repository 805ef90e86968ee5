//! What the server tests share: a stack over a closure, and ears for its log lines and metrics.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use mainstay::limit::QueueConfig;
use mainstay::server::{CANONICAL, LimitConfig, ServerConfig, ServerService, ServerStack, stack};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::Value;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt as _};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

pub(crate) type Inner = BoxCloneSyncService<Request<()>, Response<Full<Bytes>>, Infallible>;
pub(crate) type Stacked = ServerService<Inner>;
pub(crate) type Reply = <Stacked as Service<Request<()>>>::Response;

/// A service of a closure.
pub(crate) fn service<F, Fut>(handler: F) -> Inner
where
    F: Fn(Request<()>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |request| {
        let reply = handler(request);
        async move { Ok(reply.await) }
    }))
}

/// 200 with a short body.
pub(crate) fn ok() -> Response<Full<Bytes>> {
    Response::new(Full::from("ok"))
}

/// A stack that admits `limit` at once and queues at most `queue`.
pub(crate) fn limited(limit: usize, queue: usize) -> ServerStack {
    stack(config(limit, queue)).unwrap()
}

pub(crate) fn config(limit: usize, queue: usize) -> ServerConfig {
    ServerConfig {
        limit: LimitConfig::Fixed(limit),
        queue: QueueConfig { capacity: Some(queue), ..QueueConfig::default() },
        ..ServerConfig::default()
    }
}

/// A request with these headers.
pub(crate) fn request(headers: &[(&'static str, &str)]) -> Request<()> {
    let mut builder = Request::get("/");
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(()).unwrap()
}

/// Sends one request through a clone, as a server does for each connection.
pub(crate) async fn send(service: &Stacked, headers: &[(&'static str, &str)]) -> Reply {
    service.clone().oneshot(request(headers)).await.unwrap()
}

/// The body as JSON, or as a string when it is none.
pub(crate) async fn body(reply: Reply) -> Value {
    let bytes = reply.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into())
}

/// The last part of a problem's type.
pub(crate) async fn problem(reply: Reply) -> String {
    let body = body(reply).await;
    body["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned()
}

/// Counts how many are inside at once, and the most there ever were.
#[derive(Debug, Clone, Default)]
pub(crate) struct Crowd(Arc<(AtomicUsize, AtomicUsize)>);

impl Crowd {
    pub(crate) fn enter(&self) -> Present {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        Present(self.clone())
    }

    pub(crate) fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct Present(Crowd);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Hears every event on this thread, and every metric. Metrics and events of other threads are not heard, so tests
/// run on the current-thread runtime.
pub(crate) struct Ears {
    events: Events,
    snapshotter: Snapshotter,
    _recorder: metrics::LocalRecorderGuard<'static>,
}

pub(crate) type Fields = BTreeMap<String, Value>;

/// What was said on this thread, as target and fields.
type Events = Rc<RefCell<Vec<(String, Fields)>>>;

thread_local! {
    static EVENTS: RefCell<Option<Events>> = const { RefCell::new(None) };
}

/// One subscriber for the whole process. A subscriber for each test would race with the others for the interest that
/// tracing caches for each place in the code.
static SUBSCRIBER: Once = Once::new();

impl Ears {
    pub(crate) fn new() -> Self {
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Listen);
            tracing::subscriber::set_global_default(subscriber).expect("nothing else installs one");
        });
        let events = Events::default();
        EVENTS.set(Some(Rc::clone(&events)));
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let snapshotter = recorder.snapshotter();
        Self { events, snapshotter, _recorder: metrics::set_default_local_recorder(recorder) }
    }

    /// The canonical lines so far.
    pub(crate) fn lines(&self) -> Vec<Fields> {
        self.at(CANONICAL)
    }

    /// The events at a target so far.
    pub(crate) fn at(&self, target: &str) -> Vec<Fields> {
        let events = self.events.borrow();
        events.iter().filter(|(at, _)| at == target).map(|(_, fields)| fields.clone()).collect()
    }

    /// All metrics since the last call, as `name{label=value,…}`; a histogram as its samples.
    pub(crate) fn metrics(&self) -> BTreeMap<String, Vec<f64>> {
        let all = self.snapshotter.snapshot().into_vec();
        all.into_iter()
            .map(|(key, _, _, value)| {
                let key = key.key();
                let labels: Vec<_> = key.labels().map(|l| format!("{}={}", l.key(), l.value())).collect();
                let value = match value {
                    DebugValue::Counter(n) => vec![f64::from(u32::try_from(n).unwrap())],
                    DebugValue::Gauge(x) => vec![x.into_inner()],
                    DebugValue::Histogram(samples) => samples.into_iter().map(f64::from).collect(),
                };
                let labels =
                    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                (format!("{}{labels}", key.name()), value)
            })
            .collect()
    }
}

struct Listen;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Listen {
    /// A span is heard as an event whose target is `span `, and the span's own.
    fn on_new_span(&self, span: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
        let mut fields = Collect(Fields::new());
        span.record(&mut fields);
        hear(format!("span {}", span.metadata().target()), fields.0);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Collect(Fields::new());
        event.record(&mut fields);
        hear(event.metadata().target().to_owned(), fields.0);
    }
}

fn hear(target: String, fields: Fields) {
    EVENTS.with_borrow(|heard| {
        if let Some(heard) = heard {
            heard.borrow_mut().push((target, fields));
        }
    });
}

struct Collect(Fields);

impl Visit for Collect {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}
