//! Decisions as pure functions of their recorded inputs.
//!
//! A rule is a struct of its inputs. The decision and its record use the same value, so the recorded inputs are the inputs of the
//! decision. The name of a rule has a version, so that old entries keep their meaning.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The states of one kind of aggregate.
pub trait State: Copy + Eq + std::fmt::Debug + Send + Sync + 'static {
    /// Name of the aggregate in the journal and in the table of transitions.
    const KIND: &'static str;

    /// Stable name of the state.
    fn as_str(self) -> &'static str;
}

/// Value of `from` for an aggregate that does not exist yet.
pub const NONE: &str = "none";

/// A refused branch, with the predicate that refused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alternative {
    /// Predicate that failed, with the observed values.
    pub refused_because: Cow<'static, str>,
    /// State that the branch leads to.
    pub to: Cow<'static, str>,
}

impl Alternative {
    /// Creates the record that `to` was refused because of `why`.
    pub fn new(to: impl State, why: impl Into<Cow<'static, str>>) -> Self {
        Self { to: to.as_str().into(), refused_because: why.into() }
    }
}

/// Decision of a rule: the next state and the refused branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict<S> {
    /// Next state.
    pub to: S,
    /// Refused branches.
    pub alternatives: Vec<Alternative>,
}

/// A pure decision: it reads its fields, and no clock, database or random source.
pub trait Rule: Serialize + DeserializeOwned {
    /// Name and version, as `aggregate.decision@version`.
    const NAME: &'static str;
    /// States of the aggregate.
    type State: State;

    /// Decides on the fields alone.
    fn decide(&self) -> Verdict<Self::State>;
}

/// A decision together with its rule and the inputs.
#[derive(Debug, Clone)]
pub struct Decided<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) to: &'static str,
    pub(crate) alternatives: Vec<Alternative>,
}

impl<'a, R: Rule> Decided<'a, R> {
    /// Executes the rule, and returns the next state and the decision.
    pub fn by(rule: &'a R) -> (R::State, Self) {
        let Verdict { to, alternatives } = rule.decide();
        (to, Self { rule, to: to.as_str(), alternatives })
    }
}

/// Reasons why a recorded decision cannot be executed again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// This release has no rule of that name and version.
    #[error("no rule is called {0}")]
    UnknownRule(String),
    /// The recorded inputs are not those of the rule.
    #[error("the inputs of {rule} do not fit: {source}")]
    Inputs {
        /// Name of the rule.
        rule: &'static str,
        /// Reason.
        source: serde_json::Error,
    },
}

/// Executes `R` again on recorded inputs, and returns the state that it reaches.
pub fn replay<R: Rule>(inputs: &Value) -> Result<String, ReplayError> {
    let rule: R = R::deserialize(inputs).map_err(|source| ReplayError::Inputs { rule: R::NAME, source })?;
    Ok(rule.decide().to.as_str().to_owned())
}
