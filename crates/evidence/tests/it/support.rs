//! A folder, options and events for a test.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use evidence::{Options, Query, Store};
use time::macros::datetime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub(crate) const NOON: OffsetDateTime = datetime!(2026-11-28 12:00 UTC);

/// A folder that is removed with its test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("evidence-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn options(&self) -> Options {
        Options::new(&self.0)
    }

    pub(crate) fn open(&self, now: OffsetDateTime) -> Store {
        Store::open(self.options(), now).unwrap().0
    }

    /// Stored events that meet the conditions, and those that they stand for.
    pub(crate) fn count(&self, conditions: &str) -> (u64, u64) {
        let query = Query::parse("", "", conditions, "").unwrap();
        let summary = query.events(&self.0, |_| ControlFlow::Continue(())).unwrap();
        (summary.matched, summary.weight)
    }

    /// Names of the faults that a verification finds.
    pub(crate) fn faults(&self) -> Vec<String> {
        let verified = evidence::verify(&self.0).unwrap();
        verified
            .faults
            .iter()
            .map(|fault| format!("{} {:?}: {}", fault.file, fault.seal, fault.what))
            .collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A line of an event.
pub(crate) fn line(at: OffsetDateTime, verdict: &str, route: &str, number: u64) -> String {
    let at = at.replace_microsecond(1).unwrap().format(&Rfc3339).unwrap();
    let status = if verdict == "bad" { 503 } else { 201 };
    format!(
        "{{\"timestamp\":\"{at}\",\"service.name\":\"order\",\"event\":\"request\",\"verdict\":\"{verdict}\",\
         \"http.route\":\"{route}\",\"http.response.status_code\":{status},\"order_id\":\"{number}\"}}\n"
    )
}

/// Adds `count` good events a second apart.
pub(crate) fn add_good(store: &mut Store, from: OffsetDateTime, count: u64) {
    for number in 0..count {
        let at = from + Duration::from_secs(number);
        store.append(line(at, "good", "/v1/orders", number).as_bytes(), at).unwrap();
    }
}
