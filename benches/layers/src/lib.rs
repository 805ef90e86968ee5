//! Each layer of mainstay beside its peers, around a service that does nothing: what is measured. How, and the table,
//! is in the binaries.

pub mod call;
pub mod growth;
pub mod ours;
pub mod peers;
pub mod traps;

use std::sync::Arc;

/// One shared instance of what is measured. Runs that many calls on the calling thread; two threads may run at once.
pub type Instance = Arc<dyn Fn(usize) + Send + Sync>;

/// What a call costs before any layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Baseline {
    /// A request and a reply.
    Plain,
    /// With a request context among the extensions.
    Context,
    /// With the headers that a request has on arrival.
    Incoming,
}

/// One row of the table.
#[derive(Debug)]
pub struct Variant {
    /// What the row is compared with.
    pub group: &'static str,
    /// Whose it is.
    pub owner: &'static str,
    /// What it is.
    pub name: &'static str,
    /// What is subtracted.
    pub baseline: Baseline,
    /// Builds the shared instance.
    pub make: fn() -> Instance,
}

impl Variant {
    /// Unique, for the command line.
    pub fn id(&self) -> String {
        let id = format!("{}/{}/{}", self.group, self.owner, self.name);
        id.replace(' ', "-").replace(|c: char| !c.is_ascii_alphanumeric() && !"/-".contains(c), "")
    }
}

/// Every row, in the order of the table.
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
