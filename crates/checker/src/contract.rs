//! The services' contract as data: the checker depends on none of their code.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::Value;

use journal::Entry;
use journal::rule::ReplayError;

/// Re-executes the rule on recorded inputs and returns the state that it reaches.
pub type Decide<'a> = Box<dyn Fn(&str, &Value) -> Result<String, ReplayError> + Send + Sync + 'a>;

/// The legal transitions, the decisions and the budgets of both services.
pub struct Contract<'a> {
    legal: HashMap<String, HashSet<(String, String)>>,
    leaves: HashMap<String, HashSet<String>>,
    states: HashMap<String, HashSet<String>>,
    pub(crate) decide: Decide<'a>,
    pub(crate) budget: AttemptBudget,
}

/// Limits on the attempts of a call and of a hop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttemptBudget {
    /// Attempts of one call, the first included.
    pub per_call: u32,
    /// Retries of a hop, as a share of its calls.
    pub ratio: f64,
    /// Retries per second that a hop may make in any case.
    pub floor_per_second: f64,
}

impl Default for AttemptBudget {
    /// The middleware's defaults: 3 attempts, 10 %, 1/s.
    fn default() -> Self {
        Self { per_call: 3, ratio: 0.1, floor_per_second: 1.0 }
    }
}

impl<'a> Contract<'a> {
    /// Creates a contract of `(aggregate kind, from, to)` triples and a function that re-executes decisions.
    pub fn new<K: Into<String>, S: Into<String>>(
        transitions: impl IntoIterator<Item = (K, S, S)>,
        decide: impl Fn(&str, &Value) -> Result<String, ReplayError> + Send + Sync + 'a,
    ) -> Self {
        let mut legal: HashMap<String, HashSet<(String, String)>> = HashMap::new();
        let mut leaves: HashMap<String, HashSet<String>> = HashMap::new();
        let mut states: HashMap<String, HashSet<String>> = HashMap::new();
        for (kind, from, to) in transitions {
            let (kind, from, to) = (kind.into(), from.into(), to.into());
            states.entry(kind.clone()).or_default().extend([from.clone(), to.clone()]);
            leaves.entry(kind.clone()).or_default().insert(from.clone());
            legal.entry(kind).or_default().insert((from, to));
        }
        Self { legal, leaves, states, decide: Box::new(decide), budget: AttemptBudget::default() }
    }

    /// Replaces the attempt budget.
    #[must_use]
    pub fn budget(mut self, budget: AttemptBudget) -> Self {
        self.budget = budget;
        self
    }

    pub(crate) fn is_legal(&self, entry: &Entry) -> bool {
        // The pair is cloned because a `HashSet` of owned pairs cannot be searched with borrowed ones. Both are state
        // names of a few bytes.
        self.legal
            .get(&*entry.aggregate_kind)
            .is_some_and(|pairs| pairs.contains(&(entry.from.to_string(), entry.to.to_string())))
    }

    /// Returns whether this release has aggregates of this kind.
    pub(crate) fn knows_kind(&self, kind: &str) -> bool {
        self.states.contains_key(kind)
    }

    /// Returns whether this release has this state of such aggregates.
    pub(crate) fn knows(&self, kind: &str, state: &str) -> bool {
        self.states.get(kind).is_some_and(|states| states.contains(state))
    }

    /// Returns whether no legal transition leaves `state`.
    pub(crate) fn is_terminal(&self, kind: &str, state: &str) -> bool {
        !self.leaves.get(kind).is_some_and(|states| states.contains(state))
    }

    /// Returns whether legal transitions lead from `state` to `goal`.
    pub(crate) fn can_reach(&self, kind: &str, state: &str, goal: &str) -> bool {
        let Some(pairs) = self.legal.get(kind) else { return false };
        let mut seen = HashSet::from([state]);
        let mut open = vec![state];
        while let Some(here) = open.pop() {
            if here == goal {
                return true;
            }
            for (_, to) in pairs.iter().filter(|(from, _)| from == here) {
                if seen.insert(to) {
                    open.push(to);
                }
            }
        }
        false
    }
}

impl fmt::Debug for Contract<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contract")
            .field("legal", &self.legal)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
