//! Metrics: those of the `metrics` crate with the feature of that name, and otherwise the same names without effect.

#[cfg(feature = "metrics")]
pub(crate) use ::metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

#[cfg(not(feature = "metrics"))]
mod silent {
    /// A counter, gauge or histogram that reports to no recorder.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Silent;

    pub(crate) type Counter = Silent;
    pub(crate) type Gauge = Silent;
    pub(crate) type Histogram = Silent;

    #[allow(clippy::unused_self)] // the methods of the `metrics` crate
    impl Silent {
        pub(crate) fn increment<T>(&self, _by: T) {}
        pub(crate) fn decrement(&self, _by: f64) {}
        pub(crate) fn set<T>(&self, _to: T) {}
        pub(crate) fn record(&self, _value: f64) {}
    }

    /// Units of histograms.
    pub(crate) enum Unit {
        Seconds,
    }

    macro_rules! handle {
        ($name:expr $(, $label:expr => $value:expr)*) => {{
            let _ = ($name, $($label, &$value),*);
            $crate::metric::Counter {}
        }};
    }
    macro_rules! describe {
        ($($given:expr),*) => {{
            let _ = ($($given),*);
        }};
    }
    pub(crate) use describe as describe_counter;
    pub(crate) use describe as describe_gauge;
    pub(crate) use describe as describe_histogram;
    pub(crate) use handle as counter;
    pub(crate) use handle as gauge;
    pub(crate) use handle as histogram;
}

#[cfg(not(feature = "metrics"))]
pub(crate) use silent::*;
