//! Why a question has no answer.

use std::fmt;
use std::time::Duration;

use enclave_wire::v1;

use crate::code;

/// Bytes of a refusal's code that are kept.
const CODE_BYTES_MAX: usize = 64;
/// Bytes of a refusal's sentence that are kept.
const DETAIL_BYTES_MAX: usize = 512;

/// A peer's word that it did nothing, and why. The codes are listed in `docs/custody.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// Whether the same may work later or elsewhere.
    pub retry: bool,
}

impl Refusal {
    /// A refusal of this process.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>, retry: bool) -> Self {
        Self {
            code: code.to_owned(),
            detail: detail.into(),
            retry,
        }
    }
}

/// A decision as it is sent. Nothing in it is secret.
impl From<custody::Denial> for Refusal {
    fn from(denial: custody::Denial) -> Self {
        Self::new(
            denial.reason.code(),
            denial.to_string(),
            denial.reason.retry(),
        )
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)
    }
}

impl From<Refusal> for v1::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            detail: refusal.detail,
            retry: refusal.retry,
        }
    }
}

/// A peer's words, shortened to what a log line takes and without control characters.
impl From<v1::Refusal> for Refusal {
    fn from(refusal: v1::Refusal) -> Self {
        Self {
            code: printable(&refusal.code, CODE_BYTES_MAX),
            detail: printable(&refusal.detail, DETAIL_BYTES_MAX),
            retry: refusal.retry,
        }
    }
}

fn printable(text: &str, bytes_max: usize) -> String {
    let mut out = String::new();
    for char in text.chars().filter(|char| !char.is_control()) {
        if out.len() + char.len_utf8() > bytes_max {
            break;
        }
        out.push(char);
    }
    out
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer says no: nothing was done.
    #[error("{0}")]
    Refused(Refusal),
    /// There is no session with the peer: nothing was sent.
    #[error("not connected: {0}")]
    Unreachable(String),
    /// The session ended before the answer came: it may have been done.
    #[error("the session ended before the answer: {0}")]
    Lost(String),
    /// No answer in time: it may have been done.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The peer answered something else.
    #[error("the peer does not follow the protocol: {0}")]
    Protocol(&'static str),
    /// The question is longer than a message may be.
    #[error("a question of {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl CallError {
    /// Whether the peer may have done what was asked although there is no answer.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        matches!(self, Self::Lost(_) | Self::TimedOut(_) | Self::Protocol(_))
    }

    /// A stable word for counters, answers and logs: the peer's for a refusal.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Unreachable(_) => code::UNREACHABLE,
            Self::Lost(_) => code::LOST,
            Self::TimedOut(_) => code::TIMEOUT,
            Self::Protocol(_) => code::PROTOCOL,
            Self::TooLong { .. } => code::TOO_LONG,
        }
    }

    /// The same as a refusal, for whoever asked this process.
    #[must_use]
    pub fn to_refusal(&self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal.clone(),
            other => Refusal::new(
                other.code(),
                other.to_string(),
                !matches!(other, Self::TooLong { .. }),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peers_words_are_shortened_and_printable() {
        let refusal = Refusal::from(v1::Refusal {
            code: "x".repeat(1_000),
            detail: format!("a\u{1b}[31m{}", "\u{e9}".repeat(1_000)),
            retry: true,
        });
        assert_eq!(refusal.code.len(), CODE_BYTES_MAX);
        assert!(refusal.detail.len() <= DETAIL_BYTES_MAX);
        assert!(refusal.detail.starts_with("a[31m\u{e9}"));
    }
}
