//! The error of a layer around a service whose errors are the user's own.

use crate::CallError;

/// Error of a layer that wraps a service with errors `E`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error<E> {
    /// The layer refused the call, or ended it. [`CallError::outcome`] states whether the service may have received
    /// it.
    #[error("{0}")]
    Rejected(CallError),
    /// The service's own error.
    #[error("{0}")]
    Inner(E),
}

impl<E> Error<E> {
    /// The service's own error; `None` when the layer refused or ended the call.
    pub fn into_inner(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Inner(error) => Some(error),
        }
    }

    /// The layer's failure; `None` for the service's own error.
    pub fn rejected(&self) -> Option<&CallError> {
        match self {
            Self::Rejected(error) => Some(error),
            Self::Inner(_) => None,
        }
    }
}
