//! Asking custodians: as many as are needed, one more when one is slow, one more for each that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crypto::Secret;
use crypto::identity::Signature;
use custody::{Reason, SealedPartials};
use domain::{Principal, ShareIndex};
use enclave::LockedSecret;
use enclave_client::{CallError, Peer, Refusal};
use enclave_wire::{secrets, v1};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use threshold::PqShare;
use threshold::pq::PQ_SHARE_BYTES;

use super::{Job, for_custodians};
use crate::refusal::{CHEATED, CUSTODIANS, deny};
use crate::state::Worker;

/// A custodian's good answer.
pub(super) struct Released {
    index: ShareIndex,
    principal: Principal,
    partials: SealedPartials,
    /// Its share with the opening, in locked memory until it is used.
    share: LockedSecret,
}

impl Released {
    /// The share, in ordinary memory, for the moment of its use.
    pub(super) fn share(&self) -> Option<PqShare> {
        let bytes = Secret::<PQ_SHARE_BYTES>::from_slice(self.share.expose())?;
        PqShare::from_secret(self.index, &bytes)
    }

    pub(super) fn into_partials(self) -> v1::SealedPartials {
        v1::SealedPartials {
            sealed: self.partials.sealed.into(),
            signature: Some(v1::CustodianSignature {
                index: u32::from(self.index.get()),
                principal: self.principal.0.to_vec().into(),
                signature: self.partials.signature.0.to_vec().into(),
            }),
        }
    }
}

/// A custodian that may be asked.
#[derive(Clone)]
struct Candidate {
    index: ShareIndex,
    principal: Principal,
    /// `None`: nobody has told this worker where it is.
    peer: Option<Arc<Peer>>,
}

/// Who failed, and how.
pub(super) type Failures = Vec<v1::CustodianFailure>;

impl Worker {
    /// Good answers of exactly t custodians, each asked at most once.
    pub(super) async fn collect(
        &self,
        job: &Job,
        ask: &v1::Decrypt,
    ) -> Result<(Vec<Released>, Failures), Refusal> {
        let needed = usize::from(job.committee.threshold.t());
        let question = for_custodians(ask);
        let mut candidates = self.candidates(job, &ask.avoid).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut good: Vec<Released> = Vec::with_capacity(needed);
        let mut failures: Vec<(ShareIndex, CallError)> = Vec::new();
        for candidate in candidates.by_ref().take(needed) {
            asked.push(self.ask(job, &question, candidate));
        }
        let mut hedge = std::pin::pin!(tokio::time::sleep(self.speeds.hedge_after()));
        let mut hedged = false;
        while good.len() < needed {
            if good.len() + asked.len() + candidates.len() < needed {
                return Err(too_few(needed, good.len(), &failures));
            }
            tokio::select! {
                biased;
                Some((candidate, took, answer)) = asked.next() => match answer {
                    Ok(released) => {
                        self.speeds.answered(&candidate.principal, took);
                        good.push(released);
                    }
                    Err(error) => {
                        tracing::info!(custodian = %candidate.index, code = error.code(), %error, "a custodian released nothing");
                        self.counters.custodian_failures.fetch_add(1, Ordering::Relaxed);
                        // A custodian that refuses is as quick as any other.
                        if !matches!(&error, CallError::Refused(refusal) if refusal.code != CHEATED) {
                            self.speeds.failed(&candidate.principal);
                        }
                        failures.push((candidate.index, error));
                        if let Some(next) = candidates.next() {
                            asked.push(self.ask(job, &question, next));
                        }
                    }
                },
                () = &mut hedge, if !hedged => {
                    hedged = true;
                    if let Some(next) = candidates.next() {
                        self.counters.hedged.fetch_add(1, Ordering::Relaxed);
                        asked.push(self.ask(job, &question, next));
                    }
                }
            }
        }
        // Whoever has not answered yet is not waited for; what it still sends is wiped unread.
        drop(asked);
        good.sort_by_key(|released| released.index);
        let failures = failures.iter().map(failure).collect();
        Ok((good, failures))
    }

    /// The committee's members that are no standby, in the order in which they are asked.
    fn candidates(&self, job: &Job, avoid: &[u32]) -> Vec<Candidate> {
        let candidate = |member: &ledger::records::Member| Candidate {
            index: member.slot.index,
            principal: member.key,
            peer: self.custodians.get(&member.key).cloned(),
        };
        let mut candidates: Vec<Candidate> = job.committee.primaries().map(candidate).collect();
        self.speeds.order(
            &mut candidates,
            |candidate| candidate.principal,
            |candidate| {
                let connected = candidate
                    .peer
                    .as_ref()
                    .is_some_and(|peer| peer.is_connected());
                !connected || avoid.contains(&u32::from(candidate.index.get()))
            },
            || getrandom::u32().unwrap_or(0),
        );
        candidates
    }

    async fn ask(
        &self,
        job: &Job,
        question: &v1::Decrypt,
        candidate: Candidate,
    ) -> (Candidate, Duration, Result<Released, CallError>) {
        let begun = Instant::now();
        let result = match &candidate.peer {
            Some(peer) => peer
                .release(question.clone(), self.settings.release)
                .await
                .and_then(|release| self.judge(job, &candidate, release)),
            None => Err(CallError::Unreachable("no address is known".to_owned())),
        };
        (candidate, begun.elapsed(), result)
    }

    /// Takes an answer if the custodian has signed it for this request and its share is the one that the ledger has committed it to.
    /// The partials are sealed: their proofs are for the recipient to check.
    fn judge(
        &self,
        job: &Job,
        candidate: &Candidate,
        mut release: v1::Release,
    ) -> Result<Released, CallError> {
        let cheated = |what: &str| CallError::Refused(Refusal::new(CHEATED, what, false));
        let secret = secrets::take::<PQ_SHARE_BYTES>(&mut release.pq_share)
            .ok_or_else(|| cheated("its share has not 96 bytes"))?;
        let signature = release
            .signature
            .as_ref()
            .map(|signed| &signed.signature[..]);
        let signature = signature
            .and_then(|signature| <[u8; 64]>::try_from(signature).ok())
            .ok_or_else(|| cheated("it has not signed its answer"))?;
        let partials = SealedPartials {
            sealed: release.sealed_partials.to_vec(),
            signature: Signature(signature),
        };
        let list = &job.version.commitments;
        partials
            .verify(
                &candidate.principal,
                list.sharing(),
                candidate.index,
                &job.hash,
            )
            .map_err(|_| cheated("its answer is not signed by it for this request"))?;
        let share = PqShare::from_secret(candidate.index, &secret)
            .filter(|share| share.opens(list))
            .ok_or_else(|| cheated("its share is not the one that it was dealt"))?;
        drop(share);
        // Wiped by `take`.
        let mut bytes = *secret.expose();
        let share = self
            .memory
            .take(&mut bytes)
            .map_err(|_| CallError::Refused(deny(Reason::Busy, "no locked memory is left")))?;
        Ok(Released {
            index: candidate.index,
            principal: candidate.principal,
            partials,
            share,
        })
    }
}

fn failure((index, error): &(ShareIndex, CallError)) -> v1::CustodianFailure {
    v1::CustodianFailure {
        index: u32::from(index.get()),
        refusal: Some(error.to_refusal().into()),
    }
}

/// Why there are not enough: the reason that most custodians gave, and who gave which. Silence is a reason only where nobody gave
/// one: whoever is not permitted shall not be told to try again because others are away.
fn too_few(needed: usize, good: usize, failures: &[(ShareIndex, CallError)]) -> Refusal {
    let count = |code: &str| {
        failures
            .iter()
            .filter(|(_, one)| one.code() == code)
            .count()
    };
    let most = failures
        .iter()
        .filter_map(|(_, error)| match error {
            CallError::Refused(refusal) if refusal.code.parse::<Reason>().is_ok() => Some(refusal),
            _ => None,
        })
        .max_by_key(|refusal| count(&refusal.code));
    let named: Vec<String> = failures
        .iter()
        .map(|(index, error)| format!("custodian {index}: {error}"))
        .collect();
    let detail = format!(
        "{needed} custodians are needed and {good} released: {}",
        named.join("; ")
    );
    match most {
        Some(refusal) => Refusal::new(&refusal.code, detail, refusal.retry),
        None => Refusal::new(CUSTODIANS, detail, true),
    }
}
