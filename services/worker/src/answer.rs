//! Which question is whose.

use std::sync::atomic::Ordering;

use attestation::Role;
use custody::{Denial, Reason};
use enclave_client::{Answering, Asker, Refusal};
use enclave_wire::v1::{answer::Outcome, question::Ask};

use crate::refusal::deny;
use crate::state::Worker;

impl Answering for Worker {
    async fn answer(&self, asker: &Asker, ask: Ask) -> Result<Outcome, Refusal> {
        let result = match ask {
            Ask::Describe(_) => return Ok(Outcome::Description(self.describe())),
            // From anyone: the request's signature and the ledger's proofs say what is allowed.
            Ask::Decrypt(ask) => self.decrypt(ask).await.map(Outcome::Opened),
            Ask::DealVersion(ask) => self.deal(ask).await.map(Outcome::DealtVersion),
            Ask::Activate(ask) if asker.role == Role::Worker => {
                self.activate(ask).await.map(Outcome::Activated)
            }
            Ask::Activate(_) => Err(Denial::from(Reason::PeerRole).into()),
            Ask::Ceremony(_)
            | Ask::HoldShare(_)
            | Ask::ShowShare(_)
            | Ask::Confirm(_)
            | Ask::Audit(_) => Err(deny(Reason::PeerRole, "this is a question to a custodian")),
        };
        match &result {
            Ok(Outcome::DealtVersion(_)) => self.counters.dealt.fetch_add(1, Ordering::Relaxed),
            Ok(Outcome::Activated(_)) => self.counters.activated.fetch_add(1, Ordering::Relaxed),
            Ok(_) => 0,
            Err(refusal) => {
                self.counters.refused(&refusal.code);
                0
            }
        };
        result
    }
}
