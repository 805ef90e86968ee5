//! Log filter that applies to events and leaves spans alone.
//!
//! At `RUST_LOG=warn` a warning still carries the fields of its request's span, and spans are still exported.
//!
//! There is one exception: without a collector, the span of a call attempt is not created. The few log lines inside it
//! name the call, the peer and the attempt themselves.

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Global filter layer.
///
/// It stands beside the layer that writes lines. As a per-layer filter around that layer it would be slower, because
/// a per-layer filter looks the span up again each time the span is entered or left.
#[derive(Debug)]
pub(crate) struct EventFilter {
    inner: EnvFilter,
    /// True if a directive names a span (`[request]=debug`). Only then does the inner filter track entered spans.
    names_spans: bool,
    /// True if spans are exported to a collector.
    exports_spans: bool,
}

impl EventFilter {
    pub(crate) fn parse(text: &str, exports_spans: bool) -> Result<Self, String> {
        let inner = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        Ok(Self { inner, names_spans: text.contains('['), exports_spans })
    }

    fn is_unused_attempt(&self, metadata: &Metadata<'_>) -> bool {
        !self.exports_spans && !self.names_spans && metadata.is_span() && metadata.target() == ATTEMPT
    }
}

/// Target of the span of a call attempt.
const ATTEMPT: &str = "mainstay::client";

fn is_always_enabled(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= Level::INFO
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        !self.is_unused_attempt(metadata)
            && (is_always_enabled(metadata) || Layer::enabled(&self.inner, metadata, context))
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Always call the inner filter: the call also tells it about the spans that its directives name.
        let interest = Layer::<S>::register_callsite(&self.inner, metadata);
        match metadata {
            span if self.is_unused_attempt(span) => Interest::never(),
            span if is_always_enabled(span) => Interest::always(),
            _ => interest,
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.inner).map(|level| level.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Layer::on_new_span(&self.inner, attributes, id, context);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if self.names_spans {
            Layer::on_record(&self.inner, id, values, context);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Layer::on_enter(&self.inner, id, context);
        }
    }

    fn on_exit(&self, id: &Id, context: Context<'_, S>) {
        if self.names_spans {
            Layer::on_exit(&self.inner, id, context);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if self.names_spans {
            Layer::on_close(&self.inner, id, context);
        }
    }
}
