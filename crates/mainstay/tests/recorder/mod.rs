//! Recorder of the events and metrics of a test's own thread; shared by the test binaries of this crate.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Once;

use mainstay::server::CANONICAL;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt as _};

/// Records every event and every metric of this thread. It does not record other threads, so tests run on the
/// current-thread runtime.
pub(crate) struct Recorder {
    events: Events,
    snapshotter: Snapshotter,
    _metrics: metrics::LocalRecorderGuard<'static>,
}

pub(crate) type Fields = BTreeMap<String, Value>;

/// Events of this thread, as target and fields.
type Events = Rc<RefCell<Vec<(String, Fields)>>>;

thread_local! {
    static EVENTS: RefCell<Option<Events>> = const { RefCell::new(None) };
}

/// One subscriber for the whole process. Subscribers of single tests would race for the interest that tracing caches
/// for each callsite.
static SUBSCRIBER: Once = Once::new();

impl Recorder {
    pub(crate) fn new() -> Self {
        SUBSCRIBER.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Listen);
            tracing::subscriber::set_global_default(subscriber)
                .expect("the test binary installs no other subscriber");
        });
        let events = Events::default();
        EVENTS.set(Some(Rc::clone(&events)));
        let recorder = Box::leak(Box::new(DebuggingRecorder::new()));
        let snapshotter = recorder.snapshotter();
        Self { events, snapshotter, _metrics: metrics::set_default_local_recorder(recorder) }
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
    /// Records a span as an event whose target is `span ` followed by the span's own target.
    fn on_new_span(&self, span: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
        let mut fields = Collect(Fields::new());
        span.record(&mut fields);
        record(format!("span {}", span.metadata().target()), fields.0);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut fields = Collect(Fields::new());
        event.record(&mut fields);
        record(event.metadata().target().to_owned(), fields.0);
    }
}

fn record(target: String, fields: Fields) {
    EVENTS.with_borrow(|events| {
        if let Some(events) = events {
            events.borrow_mut().push((target, fields));
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
