//! What askers show of the ledger, as `custody` reads it.

use custody::proof::{LedgerProof, ProvedValue, Shown};
use enclave_client::Refusal;
use enclave_wire::v1;

use crate::refusal::denied;
use crate::state::Worker;

/// Borrows a proof as it came.
pub(crate) fn borrow(proof: Option<&v1::LedgerProof>) -> LedgerProof<'_> {
    let Some(proof) = proof else {
        return LedgerProof::default();
    };
    LedgerProof {
        header: &proof.header,
        certificate: &proof.certificate,
        values: proof
            .values
            .iter()
            .map(|value| ProvedValue {
                key: &value.key,
                value: value.value.as_deref(),
                proof: &value.proof,
            })
            .collect(),
    }
}

impl Worker {
    /// Opens a proof at a header that this worker's view of the ledger admits.
    pub(crate) fn shown<'a>(&self, proof: &'a LedgerProof<'a>) -> Result<Shown<'a>, Refusal> {
        Shown::open(self.view.as_ref(), &self.ledger.deployment, proof).map_err(denied)
    }
}
