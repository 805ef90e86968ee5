//! Rows of the benchmark: each layer of mainstay and its peers, around a service that does nothing.
//!
//! The binaries contain the measurement and the table.

pub mod call;
pub mod growth;
pub mod ours;
pub mod peers;
pub mod traps;

use std::sync::Arc;

/// A shared instance of a row. It makes the given number of calls on the calling thread. Two threads may call it
/// concurrently.
pub type Instance = Arc<dyn Fn(usize) + Send + Sync>;

/// Kind of request. The cost of a bare call with it is subtracted from the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// A request without context and headers.
    Plain,
    /// A request with a request context in its extensions.
    Context,
    /// A request with the headers of an incoming request.
    Incoming,
}

/// One row of the table.
#[derive(Debug)]
pub struct Variant {
    /// Group of comparable rows.
    pub group: &'static str,
    /// Library that the row measures.
    pub owner: &'static str,
    /// Layer or combination of layers.
    pub name: &'static str,
    /// Baseline to subtract.
    pub baseline: Baseline,
    /// Function that builds the shared instance.
    pub make: fn() -> Instance,
}

impl Variant {
    /// Unique id of the row for the command line.
    pub fn id(&self) -> String {
        let id = format!("{}/{}/{}", self.group, self.owner, self.name);
        id.replace(' ', "-").replace(|c: char| !c.is_ascii_alphanumeric() && !"/-".contains(c), "")
    }
}

/// All rows in the order of the table.
pub fn all() -> Vec<Variant> {
    let mut all = ours::variants();
    all.extend(peers::variants());
    let mut groups: Vec<&str> = Vec::new();
    for variant in &all {
        if !groups.contains(&variant.group) {
            groups.push(variant.group);
        }
    }
    let rank: Vec<usize> =
        all.iter().map(|v| groups.iter().position(|g| *g == v.group).unwrap_or_default()).collect();
    let mut ranked: Vec<_> = rank.into_iter().zip(all).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, variant)| variant).collect()
}
