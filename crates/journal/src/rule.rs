//! Decisions as pure functions of what they read.
//!
//! A rule is a struct of its inputs. Deciding and recording use the same value, so the recorded inputs are
//! the ones that were decided on; and a rule's name carries a version, so that old entries keep meaning what
//! they meant.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The states of one kind of aggregate.
pub trait State: Copy + Eq + std::fmt::Debug + Send + Sync + 'static {
    /// What the aggregate is called in the journal and in the table of transitions.
    const KIND: &'static str;

    /// The state's stable name.
    fn as_str(self) -> &'static str;
}

/// What stands for "does not exist yet" in `from`.
pub const NONE: &str = "none";

/// A branch that was not taken, and the predicate that ruled it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    // In the order of their names, as canonical JSON has them, so that none has to be moved.
    /// Why not, with the observed values.
    pub refused_because: Cow<'static, str>,
    /// The state that would have been reached.
    pub to: Cow<'static, str>,
}

impl Alternative {
    /// `to` was ruled out because of `why`.
    pub fn new(to: impl State, why: impl Into<Cow<'static, str>>) -> Self {
        Self { to: to.as_str().into(), refused_because: why.into() }
    }
}

/// What a rule decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<S> {
    /// The state to move to.
    pub to: S,
    /// The branches refused.
    pub alternatives: Vec<Alternative>,
}

/// A pure decision: no clock, no database, no randomness beyond what its fields hold.
pub trait Rule: Serialize + DeserializeOwned {
    /// `aggregate.decision@version`.
    const NAME: &'static str;
    /// What it decides about.
    type State: State;

    /// Decides.
    fn decide(&self) -> Verdict<Self::State>;
}

/// What a rule decided, with what it read.
#[derive(Debug, Clone)]
pub struct Decided<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) to: &'static str,
    pub(crate) alternatives: Vec<Alternative>,
}

impl<'a, R: Rule> Decided<'a, R> {
    /// Executes the rule.
    pub fn by(rule: &'a R) -> (R::State, Self) {
        let Verdict { to, alternatives } = rule.decide();
        (to, Self { rule, to: to.as_str(), alternatives })
    }
}

/// An entry's decision could not be executed again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// No rule of that name and version is known to this build.
    #[error("no rule is called {0}")]
    UnknownRule(String),
    /// The recorded inputs are not what the rule reads.
    #[error("the inputs of {rule} do not fit: {source}")]
    Inputs {
        /// The rule's name.
        rule: &'static str,
        /// What did not fit.
        source: serde_json::Error,
    },
}

/// Executes `R` again from recorded inputs; gives the state it reaches.
pub fn replay<R: Rule>(inputs: &Value) -> Result<String, ReplayError> {
    let rule: R = R::deserialize(inputs).map_err(|source| ReplayError::Inputs { rule: R::NAME, source })?;
    Ok(rule.decide().to.as_str().to_owned())
}
