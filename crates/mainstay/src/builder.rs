//! Builders of layers for any tower service, whatever its requests, replies and errors.

use crate::Outcome;
use crate::classify::{ByFn, Outer, Plain};
use crate::random::Random;

/// A layer in the making: the dependency's name, the settings `T` and the classifier `C`.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct Builder<T, C> {
    pub(crate) peer: String,
    pub(crate) config: T,
    pub(crate) random: Random,
    pub(crate) classify: C,
}

impl<T: Default> Builder<T, Plain> {
    pub(crate) fn new(peer: &str) -> Self {
        Self { peer: peer.to_owned(), config: T::default(), random: Random::from_entropy(), classify: Plain }
    }
}

impl<T, C> Builder<T, C> {
    /// Reads each result by the function `f`, as [`ByFn`] does.
    pub fn classify<F, R, E>(self, f: F) -> Builder<T, ByFn<F>>
    where
        F: Fn(Result<&R, &E>) -> Outcome,
    {
        self.classifier(ByFn(f))
    }

    /// Reads requests and results by `classify`, which may know deadlines, targets and waits too.
    pub fn classifier<D>(self, classify: D) -> Builder<T, D> {
        let Self { peer, config, random, classify: _ } = self;
        Builder { peer, config, random, classify }
    }

    /// Builds the layer for a service that is a layer of this crate, as [`Outer`] describes. Call it after
    /// [`classify`](Self::classify).
    pub fn outer(self) -> Builder<T, Outer<C>> {
        let Self { peer, config, random, classify } = self;
        Builder { peer, config, random, classify: Outer(classify) }
    }

    /// Replaces the settings.
    pub fn config(self, config: T) -> Self {
        Self { config, ..self }
    }

    /// Replaces the random source, for a test that repeats its draws.
    pub fn random(self, random: Random) -> Self {
        Self { random, ..self }
    }
}
