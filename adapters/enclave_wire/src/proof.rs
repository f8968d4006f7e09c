//! What askers show of the ledger, as `custody` reads it.

use custody::{LedgerProof, ProvedValue};

use crate::{PROOF_VALUES_MAX, v1};

/// Borrows a proof as it came. An absent one is empty, and shows nothing; of one with too many values as many are taken as are refused
/// where it is opened.
#[must_use]
pub fn borrow(proof: Option<&v1::LedgerProof>) -> LedgerProof<'_> {
    let Some(proof) = proof else {
        return LedgerProof::default();
    };
    let values = proof.values.iter().take(PROOF_VALUES_MAX + 1);
    LedgerProof {
        header: &proof.header,
        certificate: &proof.certificate,
        values: values
            .map(|value| ProvedValue {
                key: &value.key,
                value: value.value.as_deref(),
                proof: &value.proof,
            })
            .collect(),
    }
}
