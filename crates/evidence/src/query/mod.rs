//! Queries: events of a time that meet conditions, or their counts by facets, in constant memory.

mod facets;
mod filter;
mod read;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use serde::Serialize;

use crate::stamp;
use filter::Filter;

pub use filter::QueryError;

/// Groups that are counted at most. Further ones are counted together, so that memory stays constant.
const MAX_GROUPS: usize = 10_000;
/// Times before and after all events, as text.
const ALWAYS: (&str, &str) = ("", "~");

/// Receiver of an event that meets the conditions: line, values and weight.
type Found<'f> = dyn FnMut(&[u8], &[facets::Facet<'_>], u64) -> ControlFlow<()> + 'f;

/// A question to a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    from: String,
    until: String,
    filters: Vec<Filter>,
    by: Vec<&'static str>,
    /// Names that are read of each event, without repeats.
    names: Vec<&'static str>,
}

/// Counts of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Summary {
    /// Stored events that were read.
    pub read: u64,
    /// Stored events that met the conditions.
    pub matched: u64,
    /// Events that these stand for.
    pub weight: u64,
    /// Lines that are no events.
    pub unreadable: u64,
    /// Sealed files that could not be read to their end.
    pub damaged: u64,
    /// Stored events in groups beyond the first ten thousand.
    pub ungrouped: u64,
}

/// Events with the same values of the facets that a query groups by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Values in the order of the facets; `none` for an event without the field.
    pub values: Vec<String>,
    /// Stored events.
    pub matched: u64,
    /// Events that these stand for.
    pub weight: u64,
}

impl Query {
    /// Reads a query. Each part may be empty: the times are RFC 3339, `conditions` is `name=value …`, and `by` is
    /// `name,…`.
    pub fn parse(from: &str, until: &str, conditions: &str, by: &str) -> Result<Self, QueryError> {
        let filters = filter::parse(conditions)?;
        let by = by.split(',').map(str::trim).filter(|name| !name.is_empty());
        let by = by.map(filter::facet).collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<_> = filters.iter().map(|filter| filter.name).chain(by.iter().copied()).collect();
        names.sort_unstable();
        names.dedup();
        Ok(Self {
            from: time("from", from, ALWAYS.0)?,
            until: time("to", until, ALWAYS.1)?,
            names,
            filters,
            by,
        })
    }

    /// Full names of the facets that the query groups by.
    pub fn by(&self) -> &[&'static str] {
        &self.by
    }

    /// Passes the line of each event to `each`, oldest segment first, until it breaks.
    pub fn events(&self, dir: &Path, mut each: impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<Summary> {
        self.run(dir, &mut |line, _, _| each(line))
    }

    /// Counts the events by facets, most frequent first.
    pub fn groups(&self, dir: &Path) -> io::Result<(Vec<Group>, Summary)> {
        let mut groups: HashMap<Vec<String>, (u64, u64)> = HashMap::new();
        let mut ungrouped = 0;
        let mut summary = self.run(dir, &mut |_, values, weight| {
            let key: Vec<String> = self.by.iter().map(|name| self.value(values, name).key()).collect();
            let is_full = groups.len() >= MAX_GROUPS;
            match groups.entry(key) {
                Entry::Vacant(_) if is_full => ungrouped += 1,
                entry => {
                    let (matched, total) = entry.or_default();
                    *matched += 1;
                    *total += weight;
                }
            }
            ControlFlow::Continue(())
        })?;
        summary.ungrouped = ungrouped;
        let mut groups: Vec<_> =
            groups.into_iter().map(|(values, (matched, weight))| Group { values, matched, weight }).collect();
        groups.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.values.cmp(&b.values)));
        Ok((groups, summary))
    }

    /// The value of the member `name`, which is among `names`.
    fn value<'f, 'a>(&self, values: &'f [facets::Facet<'a>], name: &str) -> &'f facets::Facet<'a> {
        let at = self.names.iter().position(|known| *known == name);
        at.and_then(|at| values.get(at)).unwrap_or(&facets::Facet::Absent)
    }

    /// Passes line, values of [`Self::names`] and weight of each event that meets the conditions.
    fn run(&self, dir: &Path, each: &mut Found<'_>) -> io::Result<Summary> {
        let mut summary = Summary::default();
        let damaged = read::lines(dir, (&self.from, &self.until), &mut |line| {
            let Some(found) = facets::read(line, &self.names) else {
                summary.unreadable += 1;
                return ControlFlow::Continue(());
            };
            summary.read += 1;
            let is_in_time = *found.timestamp >= *self.from && *found.timestamp <= *self.until;
            let holds = |filter: &Filter| filter.holds(self.value(&found.values, filter.name));
            if !is_in_time || !self.filters.iter().all(holds) {
                return ControlFlow::Continue(());
            }
            summary.matched += 1;
            summary.weight += found.weight;
            each(line, &found.values, found.weight)
        })?;
        summary.damaged = damaged;
        Ok(summary)
    }
}

fn time(name: &'static str, value: &str, default: &str) -> Result<String, QueryError> {
    if value.is_empty() {
        return Ok(default.to_owned());
    }
    stamp::parse(value).ok_or_else(|| QueryError::Time { name, value: value.to_owned() })
}
