//! Fields that a handler adds to its request's canonical log line.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serializer as _;
use serde_json::Value;

/// A handle in the request's extensions; clones share one set of fields. Do not put a secret into it.
///
/// ```
/// # use mainstay::server::LogFields;
/// let fields = LogFields::default();
/// fields.set("principal", "client-1");
/// fields.set("lines", 3);
/// assert_eq!(fields.get("lines"), Some(3.into()));
/// ```
#[derive(Debug, Clone, Default)]
pub struct LogFields(Arc<Mutex<Fields>>);

#[derive(Debug, Default)]
struct Fields {
    set: Vec<(Cow<'static, str>, Value)>,
    queued: Option<Duration>,
}

impl LogFields {
    /// Maximum number of fields of one request. Later ones are dropped, so that a loop in a handler cannot grow the log line
    /// without end.
    pub const MAX: usize = 32;

    /// Sets a field and replaces an earlier value of the same name. `principal` is logged as a field of its own.
    pub fn set(&self, name: impl Into<Cow<'static, str>>, value: impl Into<Value>) {
        let (name, value) = (name.into(), value.into());
        let mut fields = self.lock();
        if let Some(known) = fields.set.iter_mut().find(|(known, _)| *known == name) {
            known.1 = value;
        } else if fields.set.len() < Self::MAX {
            fields.set.push((name, value));
        }
    }

    /// The value of the field `name`.
    pub fn get(&self, name: &str) -> Option<Value> {
        self.lock().set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    /// Passes all fields to `read`, in the order in which they were set first. `read` must not set a field.
    pub fn read<T>(&self, read: impl FnOnce(&[(Cow<'static, str>, Value)]) -> T) -> T {
        read(&self.lock().set)
    }

    pub(super) fn queued(&self, waited: Duration) {
        self.lock().queued = Some(waited);
    }

    pub(super) fn queue_time(&self) -> Duration {
        self.lock().queued.unwrap_or_default()
    }

    /// The fields except `principal`, as a JSON object; `None` when there are none.
    pub(super) fn to_json(&self) -> Option<String> {
        let fields = self.lock();
        let mut shown = fields.set.iter().filter(|(name, _)| name != "principal").peekable();
        shown.peek()?;
        let mut bytes = Vec::with_capacity(256);
        let members = shown.map(|(name, value)| (name, value));
        serde_json::Serializer::new(&mut bytes).collect_map(members).ok()?;
        String::from_utf8(bytes).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Fields> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
