//! Events of this process: where they are kept, how a finished request becomes one, and how operators read them.
//!
//! The server stack passes each finished request to [`observer`]. That is the one place where a request becomes an
//! event; handlers add what they know with [`LogFields`](mainstay::server::LogFields).

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use evidence::objective::Judged;
use evidence::{Event, Objectives, Options, Origin, Query, Recorder, RequestEvent, Summary, Writing};
use futures_util::stream;
use http::header::CONTENT_TYPE;
use mainstay::server::{FinishedRequest, ObserverFn};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{Sender, channel};

use crate::config::REVISION;
use crate::params::malformed;
use crate::{ApiError, StartError, ValidQuery};

/// Bytes that are sent at once.
const CHUNK: usize = 64 * 1024;
/// Chunks that wait for a slow reader. The query then waits, so that memory stays constant.
const CHUNKS: usize = 4;
/// Events that `last` may ask for. They are kept in memory until the end of the query.
const MOST_LAST: usize = 1_000;
/// Path of the route under `/admin/v1`.
const PATH: &str = "/evidence";

/// Settings of the events.
#[derive(Debug, Clone, Default)]
pub struct EventSettings {
    /// Folder of the events; without one, none are kept.
    pub dir: Option<PathBuf>,
    /// Most bytes on disk.
    pub budget: u64,
    /// Region that the process runs in.
    pub region: Option<String>,
}

impl EventSettings {
    /// Opens the folder and starts the writer. Without a folder the recorder is off.
    pub fn start(
        &self,
        service: &str,
        environment: &str,
        config_hash: &str,
    ) -> Result<(Recorder, Option<Writing>), StartError> {
        let Some(dir) = &self.dir else { return Ok((Recorder::off(), None)) };
        let origin = Origin {
            service: service.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: REVISION.to_owned(),
            instance: uuid::Uuid::now_v7().to_string(),
            environment: environment.to_owned(),
            region: self.region.clone(),
            config_hash: config_hash.to_owned(),
        };
        let options = Options { budget: self.budget, ..Options::new(dir) };
        let (recorder, writing, repairs) =
            Recorder::start(options, &origin).map_err(|error| StartError::setting("EVIDENCE_DIR", &error))?;
        if repairs != evidence::Repairs::default() {
            let evidence::Repairs { sealed, cut, broken } = repairs;
            tracing::warn!(sealed, cut, broken, "evidence: files of an earlier process repaired");
        }
        Ok((recorder, Some(writing)))
    }
}

/// The observer of a server stack that records each finished request; `None` when the recorder is off.
pub fn observer(recorder: &Recorder, objectives: Objectives) -> Option<ObserverFn> {
    let recorder = recorder.is_on().then(|| recorder.clone())?;
    Some(Arc::new(move |request: &FinishedRequest<'_>| {
        // Reading the events adds none.
        if !request.route.ends_with(PATH) {
            record(&recorder, objectives, request);
        }
    }))
}

fn record(recorder: &Recorder, objectives: Objectives, request: &FinishedRequest<'_>) {
    let FinishedRequest { context, method, route, body_size, fields, .. } = *request;
    let (status, outcome) = (request.status.map(|status| status.as_u16()), request.outcome.as_str());
    let duration_ms = millis(request.duration);
    let (verdict, missed) = objectives.judge(Judged { method, status, outcome, duration_ms });
    let (decisions, calls) = (context.trail.snapshot(), context.trail.calls());
    let (trace_id, span_id) = (context.trace.trace_id_hex(), context.trace.span_id_hex());
    let event = RequestEvent {
        verdict,
        missed: &missed,
        method,
        route,
        status,
        body_size,
        outcome,
        duration_ms,
        queue_ms: millis(request.queued),
        deadline_left_ms: u64::try_from(context.deadline.remaining().as_millis()).unwrap_or(u64::MAX),
        attempt: context.attempt,
        priority: context.priority.as_str(),
        correlation_id: context.correlation_id.as_str(),
        trace_id: &trace_id,
        span_id: &span_id,
        peer: calls.as_ref().map(|calls| &*calls.peer),
        peer_outcome: calls.as_ref().map(|calls| &*calls.outcome),
        peer_ms: calls.as_ref().map(|calls| millis(calls.total)),
        decisions: (!decisions.is_empty()).then(|| json!(decisions)),
        ..RequestEvent::default()
    };
    fields.read(|set| {
        let (event, skus, rest) = with_fields(event, set);
        let fields = (!rest.is_empty()).then_some(rest);
        recorder.record(&Event::Request(&RequestEvent { skus: &skus, fields, ..event }));
    });
}

/// Fields of the canonical line that the handler has set.
type Fields = [(std::borrow::Cow<'static, str>, Value)];

/// The event with the fields that it has members for, the SKUs, and the other fields.
fn with_fields<'a>(
    mut event: RequestEvent<'a>,
    fields: &'a Fields,
) -> (RequestEvent<'a>, Vec<&'a str>, Map<String, Value>) {
    let (mut skus, mut rest) = (Vec::new(), Map::new());
    for (name, value) in fields {
        match &**name {
            "principal" => event.principal = value.as_str(),
            "customer_id" => event.customer_id = value.as_str(),
            "order_id" => event.order_id = value.as_str(),
            "reservation_id" => event.reservation_id = value.as_str(),
            "skus.count" => event.sku_count = value.as_u64(),
            "skus" => skus = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect(),
            "idempotent_replayed" => event.idempotent_replayed = value.as_bool(),
            "error.type" => event.error_type = value.as_str(),
            "pool_ms" => event.pool_ms = value.as_f64(),
            "database_ms" => event.database_ms = value.as_f64(),
            "flags" => event.flags = value.as_object(),
            other => {
                rest.insert(other.to_owned(), value.clone());
            }
        }
    }
    (event, skus, rest)
}

/// Milliseconds with microsecond precision.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Value of the field `skus`: the first SKUs of a request.
pub fn first_skus<'a>(skus: impl IntoIterator<Item = &'a str>) -> Value {
    skus.into_iter().take(evidence::MAX_SKUS).collect()
}

/// `GET evidence`, `evidence/tiers` and `evidence/verified`.
pub fn routes(recorder: Recorder) -> Router {
    Router::new()
        .route(PATH, get(events))
        .route("/evidence/tiers", get(tiers))
        .route("/evidence/verified", get(verified))
        .with_state(recorder)
}

/// Times, conditions and groups, as text. Each may be absent.
#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(default, rename = "where")]
    conditions: String,
    #[serde(default)]
    by: String,
    last: Option<usize>,
}

async fn events(
    State(recorder): State<Recorder>,
    ValidQuery(asked): ValidQuery<Asked>,
) -> Result<Response, ApiError> {
    let dir = dir(&recorder)?;
    let query = Query::parse(&asked.from, &asked.to, &asked.conditions, &asked.by)
        .map_err(|error| malformed(name_of(&error), error.to_string()))?;
    let last = match asked.last {
        Some(last) if !(1..=MOST_LAST).contains(&last) => {
            return Err(malformed("last", format!("must be 1 to {MOST_LAST}")));
        }
        last => last,
    };
    recorder.flush(Duration::from_millis(200));
    let (send, receive) = channel::<io::Result<Bytes>>(CHUNKS);
    tokio::task::spawn_blocking(move || {
        let mut reply = Lines { chunk: Vec::new(), send };
        let answered = answer(&query, &dir, last, &mut reply);
        if let Err(error) = answered {
            tracing::warn!(%error, "evidence: events cannot be read");
            // The reader may have left. An error cuts the reply off, so that it does not pass for a whole one.
            let _ = reply.send.blocking_send(Err(error));
        }
    });
    let lines =
        stream::unfold(receive, |mut receive| async { receive.recv().await.map(|chunk| (chunk, receive)) });
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// Sends the events or the groups, and then a line that says that these are all: `{"event":"end",…}`.
fn answer(query: &Query, dir: &std::path::Path, last: Option<usize>, reply: &mut Lines) -> io::Result<()> {
    let summary = if query.by().is_empty() {
        let mut newest = std::collections::VecDeque::new();
        let summary = query.events(dir, |line| {
            let Some(last) = last else { return reply.line(line) };
            if newest.len() == last {
                newest.pop_front();
            }
            newest.push_back(line.to_vec());
            ControlFlow::Continue(())
        })?;
        for line in newest {
            let _ = reply.line(&line);
        }
        summary
    } else {
        let (groups, summary) = query.groups(dir)?;
        for group in groups {
            let values: Map<String, Value> = query
                .by()
                .iter()
                .map(|name| (*name).to_owned())
                .zip(group.values.into_iter().map(Value::from))
                .collect();
            let line =
                json!({"event": "group", "by": values, "matched": group.matched, "weight": group.weight});
            let _ = reply.line(&serde_json::to_vec(&line)?);
        }
        summary
    };
    // A reader that has left needs no rest.
    let _ = reply.line(&end(summary)?);
    let _ = reply.flush();
    Ok(())
}

fn end(summary: Summary) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = json!({"event": "end"});
    if let (Value::Object(line), Value::Object(counts)) = (&mut line, json!(summary)) {
        line.extend(counts);
    }
    serde_json::to_vec(&line)
}

/// Lines on their way to the reader.
struct Lines {
    chunk: Vec<u8>,
    send: Sender<io::Result<Bytes>>,
}

impl Lines {
    /// Adds a line. It breaks when the reader has left.
    fn line(&mut self, line: &[u8]) -> ControlFlow<()> {
        self.chunk.extend_from_slice(line);
        self.chunk.push(b'\n');
        if self.chunk.len() >= CHUNK { self.flush() } else { ControlFlow::Continue(()) }
    }

    fn flush(&mut self) -> ControlFlow<()> {
        let chunk = std::mem::take(&mut self.chunk);
        match self.send.blocking_send(Ok(chunk.into())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }
}

async fn tiers(State(recorder): State<Recorder>) -> Result<Response, ApiError> {
    let tiers = recorder.tiers().ok_or_else(off)?;
    Ok(Json(tiers).into_response())
}

async fn verified(State(recorder): State<Recorder>) -> Result<Response, ApiError> {
    let dir = dir(&recorder)?;
    let verified = tokio::task::spawn_blocking(move || evidence::verify(&dir)).await;
    let verified = verified.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    Ok(Json(verified).into_response())
}

fn dir(recorder: &Recorder) -> Result<PathBuf, ApiError> {
    recorder.options().map(|options| options.dir.clone()).ok_or_else(off)
}

fn off() -> ApiError {
    ApiError::not_found("this process keeps no events: EVIDENCE_DIR is not set")
}

/// The parameter that an error is about.
fn name_of(error: &evidence::QueryError) -> &'static str {
    use evidence::QueryError::{Malformed, NotANumber, Time, UnknownFacet};
    match error {
        UnknownFacet { .. } | Malformed(_) | NotANumber(_) => "where",
        Time { name, .. } => name,
    }
}
