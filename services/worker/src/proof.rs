//! What askers show of the ledger, as `custody` reads it.

use custody::proof::{LedgerProof, Shown};
use enclave_client::Refusal;

use crate::state::Worker;

impl Worker {
    /// Opens a proof at a header that this worker's view of the ledger admits.
    pub(crate) fn shown<'a>(&self, proof: &'a LedgerProof<'a>) -> Result<Shown<'a>, Refusal> {
        Shown::open(self.view.as_ref(), &self.ledger.deployment, proof).map_err(Refusal::from)
    }
}
