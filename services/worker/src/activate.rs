//! Checking a version that another worker has dealt, before anybody encrypts under it.

use bytes::Bytes;
use crypto::Secret;
use crypto::kem::{PqSeed, PublicKeys};
use custody::Reason;
use domain::ShareIndex;
use enclave::LockedSecret;
use enclave_client::Refusal;
use enclave_wire::{secrets, v1};
use futures_util::future::join_all;
use ledger::Record as _;
use ledger::records::{Member, VersionStatement};
use threshold::pq::{ActivationError, PQ_SHARE_BYTES, check_activation};
use threshold::{CommitmentList, PqShare};

use crate::deal::{Wanted, failed};
use crate::refusal::{CHEATED, CUSTODIANS, code, deny};
use crate::state::Worker;

impl Worker {
    /// Collects the post-quantum shares of all custodians of a pending version and signs that they are shares of one key.
    pub(crate) async fn activate(&self, ask: v1::Activate) -> Result<v1::Activated, Refusal> {
        let statement = VersionStatement::decode(&ask.statement)
            .map_err(|error| deny(Reason::Malformed, error))?;
        if statement.dealer == self.principal() {
            return Err(deny(Reason::Statement, "whoever deals does not check"));
        }
        let _under_way = self.begin((statement.key, statement.version, statement.fencing))?;
        self.expect_fresh()?;
        let (key, version, fencing) = (statement.key, statement.version, statement.fencing);
        let wanted = self.wanted(key, version, fencing, ask.proof.as_ref(), None)?;
        if (statement.epoch, statement.committee)
            != (wanted.sharing.epoch, wanted.sharing.committee)
        {
            return Err(deny(Reason::Statement, "of another epoch or committee"));
        }
        let list = self.check_public(&statement, &wanted, &ask.commitments)?;
        let shown = self.all_shares(&wanted, &ask.statement, ask.proof.as_ref());
        let shares = tokio::time::timeout(self.settings.step, shown)
            .await
            .map_err(|_| Refusal::new(CUSTODIANS, "custodians took too long", true))??;
        let checking = tokio::task::spawn_blocking(move || {
            check(&list, &shares, &statement)?;
            Ok::<_, Refusal>(statement)
        });
        let statement = checking
            .await
            .map_err(|_| Refusal::new(code::INTERNAL, "checking failed: this is a bug", false))??;
        let activation = statement.activate(&self.identity, &self.ledger.deployment);
        Ok(v1::Activated {
            worker: activation.worker.0.to_vec().into(),
            signature: activation.signature.0.to_vec().into(),
        })
    }

    /// What can be checked without any secret: the public keys are keys, the commitments are the statement's, and the threshold leg's
    /// public keys are t-of-n shares of its key.
    fn check_public(
        &self,
        statement: &VersionStatement,
        wanted: &Wanted,
        commitments: &Bytes,
    ) -> Result<CommitmentList, Refusal> {
        let public = PublicKeys::from_bytes(&statement.pq, &statement.dh)
            .map_err(|error| deny(Reason::Statement, error))?;
        let deployment = &self.ledger.deployment;
        let list = statement
            .commitment_list(deployment, wanted.sharing.threshold, commitments)
            .map_err(|error| deny(Reason::Statement, error))?;
        list.dh_public(public.dh)
            .map_err(|error| deny(Reason::Statement, error))?;
        Ok(list)
    }

    /// The share of every custodian that is no standby.
    async fn all_shares(
        &self,
        wanted: &Wanted,
        statement: &Bytes,
        proof: Option<&v1::LedgerProof>,
    ) -> Result<Vec<(ShareIndex, LockedSecret)>, Refusal> {
        let show = async |member: &Member| {
            let peer = self.custodians.get(&member.key).ok_or_else(|| {
                let detail = format!("custodian {}: no address is known", member.slot.index);
                Refusal::new(CUSTODIANS, detail, true)
            })?;
            let ask = v1::ShowShare {
                statement: statement.clone(),
                proof: proof.cloned(),
            };
            let mut shown = peer
                .show_share(ask, self.settings.step)
                .await
                .map_err(|error| failed(member.slot, &error))?;
            let secret = secrets::take::<PQ_SHARE_BYTES>(&mut shown.pq_share).ok_or_else(|| {
                let detail = format!("custodian {}: a share has 96 bytes", member.slot.index);
                Refusal::new(CHEATED, detail, true)
            })?;
            // Wiped by `take`.
            let mut bytes = *secret.expose();
            let locked = self.memory.take(&mut bytes);
            let locked = locked.map_err(|_| deny(Reason::Busy, "no locked memory is left"))?;
            Ok((member.slot.index, locked))
        };
        join_all(wanted.committee.primaries().map(show))
            .await
            .into_iter()
            .collect()
    }
}

/// Checks the shares against commitments and public key, and says whose fault it is when they do not fit.
fn check(
    list: &CommitmentList,
    shares: &[(ShareIndex, LockedSecret)],
    statement: &VersionStatement,
) -> Result<(), Refusal> {
    let share = |(index, locked): &(ShareIndex, LockedSecret)| {
        let bytes = Secret::<PQ_SHARE_BYTES>::from_slice(locked.expose())?;
        PqShare::from_secret(*index, &bytes)
    };
    let shares: Vec<PqShare> = shares.iter().filter_map(share).collect();
    let derive = |seed: &Secret<64>| {
        let copy = Secret::from_slice(seed.expose());
        copy.map(|copy| *PqSeed::from_secret(copy).public().as_bytes())
    };
    check_activation(list, &shares, derive, &Some(statement.pq)).map_err(|error| {
        let named = match &error {
            ActivationError::Missing(who) | ActivationError::Custodians(who) => {
                let who: Vec<String> = who.iter().map(ToString::to_string).collect();
                format!("custodian {}: {error}", who.join(", "))
            }
            ActivationError::Dealer(fault) => {
                format!("worker {}, the dealer: {fault}", statement.dealer)
            }
        };
        Refusal::new(CHEATED, named, true)
    })
}
