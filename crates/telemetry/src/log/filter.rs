//! The filter chooses log lines, not spans: at `RUST_LOG=warn` a warning still names its request, and spans are
//! still exported. Only the span of an attempt is not made where nobody collects spans: the few lines inside it name the
//! call, the peer and the attempt themselves.

use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A layer beside the one that writes lines, not a filter around it: such a filter looks a span up again whenever it is
/// entered or left, to see whether it lets it through.
#[derive(Debug)]
pub(crate) struct EventFilter {
    inner: EnvFilter,
    /// Whether a directive names a span (`[request]=debug`); only then need the inner filter know which are entered.
    names_spans: bool,
    /// Whether spans go to a collector.
    exports_spans: bool,
}

impl EventFilter {
    pub(crate) fn parse(text: &str, exports_spans: bool) -> Result<Self, String> {
        let inner = EnvFilter::try_new(text).map_err(|error| error.to_string())?;
        Ok(Self { inner, names_spans: text.contains('['), exports_spans })
    }

    fn has_no_reader(&self, metadata: &Metadata<'_>) -> bool {
        !self.exports_spans && !self.names_spans && metadata.is_span() && metadata.target() == ATTEMPT
    }
}

/// The target of the span around each attempt of a call.
const ATTEMPT: &str = "mainstay::client";

fn always(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && *metadata.level() <= Level::INFO
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventFilter {
    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        !self.has_no_reader(metadata) && (always(metadata) || Layer::enabled(&self.inner, metadata, context))
    }

    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Asked first in either case: this is also how the inner filter learns of spans that its directives name.
        let interest = Layer::<S>::register_callsite(&self.inner, metadata);
        match metadata {
            span if self.has_no_reader(span) => Interest::never(),
            span if always(span) => Interest::always(),
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
