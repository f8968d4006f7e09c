//! What a worker says when it does nothing.

use custody::{Denial, Reason};
use enclave_client::Refusal;

/// A denial with what exactly.
pub(crate) fn deny(reason: Reason, detail: impl std::fmt::Display) -> Refusal {
    Denial::new(reason, detail).into()
}

/// Too few custodians took part.
pub(crate) const CUSTODIANS: &str = "custodians";
/// A custodian, worker or dealer gave something that it should not have: named in the sentence.
pub(crate) const CHEATED: &str = "cheated";
