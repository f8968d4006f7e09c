//! What a worker says when it does nothing.

use custody::{Denial, Reason};
use enclave_client::Refusal;

/// A denial as it is sent.
pub(crate) fn denied(denial: Denial) -> Refusal {
    let text = denial.to_string();
    Refusal::new(denial.reason.code(), text, denial.reason.retry())
}

/// A denial with what exactly.
pub(crate) fn deny(reason: Reason, detail: impl std::fmt::Display) -> Refusal {
    denied(Denial::new(reason, detail))
}

/// Too few custodians took part.
pub(crate) const CUSTODIANS: &str = "custodians";
/// A custodian, worker or dealer gave something that it should not have: named in the sentence.
pub(crate) const CHEATED: &str = "cheated";
