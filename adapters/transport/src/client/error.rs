//! What can go wrong with a peer, told apart by what the caller does about it.

use std::error::Error as _;

use crate::protocol::{REFUSAL, Refusal};

/// Why a call to a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It cannot be reached, or the connection broke: ask another node, try again later.
    #[error("the node cannot be reached: {detail}")]
    Unavailable {
        /// What happened.
        detail: String,
    },
    /// The deadline passed.
    #[error("the node did not answer in time")]
    Timeout,
    /// It does not hold the shard.
    #[error("the node does not hold the shard")]
    NotFound,
    /// It has no room.
    #[error("the node is full: {detail}")]
    Full {
        /// What it said.
        detail: String,
    },
    /// It refused for another reason.
    #[error("the node refused ({reason}): {detail}")]
    Refused {
        /// The code it gave.
        reason: Refusal,
        /// What it said.
        detail: String,
    },
    /// It broke the protocol, or is not the node it should be: count it against the node.
    #[error("the node misbehaved: {detail}")]
    Misbehaved {
        /// What it did.
        detail: String,
    },
}

impl PeerError {
    pub(crate) fn unavailable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Unavailable {
            detail: chain(error),
        }
    }

    pub(crate) fn misbehaved(detail: impl Into<String>) -> Self {
        Self::Misbehaved {
            detail: detail.into(),
        }
    }

    pub(crate) fn from_refusal(reason: Refusal, detail: String) -> Self {
        match reason {
            Refusal::NotFound => Self::NotFound,
            Refusal::Full => Self::Full { detail },
            reason => Self::Refused { reason, detail },
        }
    }

    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        // What the connection said, when it never came to an answer.
        let mut source = status.source();
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<Self>() {
                return error.clone();
            }
            source = error.source();
        }
        let code = status
            .metadata()
            .get(REFUSAL)
            .and_then(|value| value.to_str().ok());
        match code.and_then(Refusal::from_code) {
            Some(reason) => Self::from_refusal(reason, status.message().to_owned()),
            None if status.code() == tonic::Code::Unavailable || status.source().is_some() => {
                Self::Unavailable {
                    detail: status.message().to_owned(),
                }
            }
            None => Self::misbehaved(format!("{}: {}", status.code(), status.message())),
        }
    }
}

/// An error and what caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
        source = error.source();
    }
    text
}
