//! Making the pending version of a key: the custodians generate the threshold leg among themselves, this worker deals the
//! post-quantum leg, every custodian keeps both durably, another worker checks.

use std::sync::Arc;

use bytes::Bytes;
use crypto::identity::Signature;
use crypto::kem::PqSeed;
use custody::version::check_deal;
use custody::{Reason, ShareName};
use domain::{Epoch, KeyId, KeyVersion, MerkleRoot, Principal, ShareIndex, Slot};
use enclave_client::{CallError, Peer, Refusal};
use enclave_wire::proof::borrow;
use enclave_wire::{secrets, v1};
use futures_util::future::{join_all, try_join_all};
use ledger::Record as _;
use ledger::records::{Acknowledgement, Activation, Committee, Member, VersionStatement};
use threshold::pq::deal;
use threshold::{CommitmentList, Sharing};

use crate::refusal::{CHEATED, CUSTODIANS, code, deny};
use crate::state::{Worker, rng};

mod ceremony;

use ceremony::Generated;

/// A version that the ledger says is to be made.
pub(crate) struct Wanted {
    /// The key.
    pub(crate) key: KeyId,
    /// The version.
    pub(crate) version: KeyVersion,
    /// Which attempt.
    pub(crate) fencing: u64,
    /// Who will hold the shares.
    pub(crate) committee: Committee,
    /// The sharing.
    pub(crate) sharing: Sharing,
}

/// A member of the committee and the way to it.
#[derive(Clone)]
struct Place {
    member: Member,
    peer: Arc<Peer>,
}

impl Worker {
    /// Makes a pending version: all of it, or nothing that counts.
    pub(crate) async fn deal(&self, ask: v1::DealVersion) -> Result<v1::DealtVersion, Refusal> {
        let key = <[u8; 32]>::try_from(&ask.key[..]);
        let key = KeyId(key.map_err(|_| deny(Reason::Malformed, "a key id has 32 bytes"))?);
        let version = KeyVersion::new(ask.version).map_err(|e| deny(Reason::Malformed, e))?;
        let _under_way = self.begin((key, version, ask.fencing))?;
        self.expect_fresh()?;
        let wanted = self.wanted(
            key,
            version,
            ask.fencing,
            ask.proof.as_ref(),
            Some(&ask.request),
        )?;
        let attempt = (key, version, ask.fencing);
        if let Some(answer) = self.dealt_before(&attempt) {
            return Ok(answer);
        }
        let within = self.settings.deal;
        let answer = tokio::time::timeout(within, self.deal_wanted(&wanted, &ask))
            .await
            .unwrap_or_else(|_| Err(deny(Reason::Busy, "making the version took too long")))?;
        self.remember_dealt(attempt, &answer);
        Ok(answer)
    }

    /// What the ledger says of a version that is to be made; `request` has asked for it, if it was not another worker.
    pub(crate) fn wanted(
        &self,
        key: KeyId,
        version: KeyVersion,
        fencing: u64,
        proof: Option<&v1::LedgerProof>,
        request: Option<&Bytes>,
    ) -> Result<Wanted, Refusal> {
        let proof = borrow(proof);
        let shown = self.shown(&proof)?;
        let creation = shown.creation(&key).map_err(Refusal::from)?;
        let status = shown.status(&key).map_err(Refusal::from)?;
        let pending = status
            .pending
            .filter(|pending| pending.version == version && pending.fencing == fencing)
            .ok_or_else(|| deny(Reason::KeyState, "the ledger has no such version pending"))?;
        if pending.deadline <= self.view.time() {
            return Err(deny(Reason::KeyState, "the time for this attempt is over"));
        }
        if let Some(request) = request {
            let name = ShareName {
                key,
                version,
                fencing,
            };
            let now = self.view.time();
            check_deal(&self.ledger, &shown, &creation, &name, request, now)
                .map_err(Refusal::from)?;
        }
        let committee = shown.committee(&pending.committee).map_err(Refusal::from)?;
        let threshold = creation.creation.threshold;
        if committee.threshold != threshold {
            return Err(deny(
                Reason::Proof,
                "the committee is of another threshold than the key",
            ));
        }
        let sharing = Sharing {
            deployment: self.ledger.deployment,
            key,
            version,
            epoch: Epoch::FIRST,
            committee: pending.committee,
            threshold,
        };
        Ok(Wanted {
            key,
            version,
            fencing,
            committee,
            sharing,
        })
    }

    async fn deal_wanted(
        &self,
        wanted: &Wanted,
        ask: &v1::DealVersion,
    ) -> Result<v1::DealtVersion, Refusal> {
        let places = self.places(&wanted.committee)?;
        self.gather(&places).await;
        let generated = self.generate(wanted, &places, ask).await?;
        let (statement, commitments, holds) = self.deal_pq(wanted, &generated, &places)?;
        let acknowledgements = self.have_held(&statement, &places, holds).await?;
        let activation = self
            .have_activated(&statement, &commitments, ask.proof.as_ref())
            .await?;
        Ok(v1::DealtVersion {
            statement: statement.encode().into(),
            commitments,
            acknowledgements: acknowledgements.iter().map(wire).collect(),
            activation_worker: activation.worker.0.to_vec().into(),
            activation_signature: activation.signature.0.to_vec().into(),
        })
    }

    /// The way to every member of a committee.
    fn places(&self, committee: &Committee) -> Result<Vec<Place>, Refusal> {
        let place = |member: &Member| {
            let peer = self.custodians.get(&member.key).cloned();
            let peer = peer.ok_or_else(|| {
                let detail = format!("{}: no address is known", name(member.slot));
                Refusal::new(CUSTODIANS, detail, true)
            })?;
            Ok(Place {
                member: *member,
                peer,
            })
        };
        committee.members.iter().map(place).collect()
    }

    /// Waits a little for those who are not connected. Who then still is not fails at its first step, and is named.
    async fn gather(&self, places: &[Place]) {
        let within = self.settings.gather;
        let members = all(places.iter().map(|place| place.peer.connected(within)));
        let others = self.workers.peers();
        let checker = async {
            if !others.iter().any(|peer| peer.is_connected()) {
                all(others.iter().map(|peer| peer.connected(within))).await;
            }
        };
        tokio::join!(members, checker);
    }

    /// Draws the post-quantum leg and shares it; what is left of it after this is on its way to the custodians.
    #[allow(clippy::type_complexity, reason = "three things that are used once")]
    fn deal_pq(
        &self,
        wanted: &Wanted,
        generated: &Generated,
        places: &[Place],
    ) -> Result<(VersionStatement, Bytes, Vec<v1::HoldShare>), Refusal> {
        let mut rng = rng();
        let seed = PqSeed::random(&mut rng);
        let pq = seed.public();
        let dealt = deal(&wanted.sharing, seed.danger_bytes(), &mut rng);
        drop(seed);
        let list = CommitmentList::new(&generated.public, &dealt.commitments)
            .map_err(|error| Refusal::new(code::INTERNAL, error.to_string(), false))?;
        let statement = VersionStatement {
            key: wanted.key,
            version: wanted.version,
            fencing: wanted.fencing,
            epoch: wanted.sharing.epoch,
            committee: wanted.sharing.committee,
            pq: *pq.as_bytes(),
            dh: *generated.public.group().as_bytes(),
            commitments: MerkleRoot(list.root()),
            dealer: self.principal(),
        };
        let encoded: Bytes = statement.encode().into();
        let commitments: Bytes = list.encode().into();
        let share_of = |index: ShareIndex| dealt.shares.iter().find(|share| share.index() == index);
        let hold = |place: &Place| {
            let share = share_of(place.member.slot.index)?;
            Some(v1::HoldShare {
                statement: encoded.clone(),
                commitments: commitments.clone(),
                attempt: generated.attempt,
                pq_share: secrets::put(&share.to_secret()),
            })
        };
        let holds: Option<Vec<v1::HoldShare>> = places.iter().map(hold).collect();
        let holds = holds.ok_or_else(|| deny(Reason::Proof, "a member without a share"))?;
        Ok((statement, commitments, holds))
    }

    /// Has every member keep its share, standbys too, and say so.
    async fn have_held(
        &self,
        statement: &VersionStatement,
        places: &[Place],
        holds: Vec<v1::HoldShare>,
    ) -> Result<Vec<Acknowledgement>, Refusal> {
        let one = async |(place, hold): (&Place, v1::HoldShare)| {
            let held = place.peer.hold_share(hold, self.settings.step).await;
            held.map_err(|error| failed(place.member.slot, &error))
                .and_then(|held| self.check_held(statement, &place.member, &held))
        };
        try_join_all(places.iter().zip(holds).map(one)).await
    }

    fn check_held(
        &self,
        statement: &VersionStatement,
        member: &Member,
        held: &v1::Held,
    ) -> Result<Acknowledgement, Refusal> {
        let cheated = || {
            let detail = format!("{} did not sign that it holds its share", name(member.slot));
            Refusal::new(CHEATED, detail, true)
        };
        let signature = held
            .acknowledgement
            .as_ref()
            .and_then(|said| <[u8; 64]>::try_from(&said.signature[..]).ok());
        let acknowledgement = Acknowledgement {
            slot: member.slot,
            signature: Signature(signature.ok_or_else(cheated)?),
        };
        statement
            .verify_acknowledgement(&member.key, &self.ledger.deployment, &acknowledgement)
            .map_err(|_| cheated())?;
        Ok(acknowledgement)
    }

    /// Has another worker check all shares; one on another platform where there is one. The first that does is enough.
    async fn have_activated(
        &self,
        statement: &VersionStatement,
        commitments: &Bytes,
        proof: Option<&v1::LedgerProof>,
    ) -> Result<Activation, Refusal> {
        let mut others: Vec<&Arc<Peer>> = self
            .workers
            .peers()
            .iter()
            .filter(|peer| peer.principal() != self.principal())
            .collect();
        others.sort_by_cached_key(|peer| {
            let platform = peer.state().appraisal.map(|shown| shown.claims.platform);
            let another = platform.is_some_and(|platform| platform != self.about.platform);
            (
                !peer.is_connected(),
                !another,
                getrandom::u32().unwrap_or(0),
            )
        });
        let mut reasons = Vec::new();
        for peer in others {
            let ask = v1::Activate {
                statement: statement.encode().into(),
                commitments: commitments.clone(),
                proof: proof.cloned(),
            };
            // The other worker asks every custodian, a step each.
            let answer = peer
                .activate(ask, self.settings.step + self.settings.step)
                .await;
            let checked = answer.and_then(|answer| self.check_activated(statement, peer, &answer));
            match checked {
                Ok(activation) => return Ok(activation),
                Err(error) => reasons.push(format!("worker {}: {error}", peer.principal())),
            }
        }
        let detail = if reasons.is_empty() {
            "there is no other worker to check the version".to_owned()
        } else {
            format!(
                "no other worker has found the version good: {}",
                reasons.join("; ")
            )
        };
        Err(Refusal::new(code::ACTIVATION, detail, true))
    }

    fn check_activated(
        &self,
        statement: &VersionStatement,
        peer: &Peer,
        answer: &v1::Activated,
    ) -> Result<Activation, CallError> {
        let wrong = || CallError::Protocol("it did not sign that it has checked the version");
        let worker = <[u8; 32]>::try_from(&answer.worker[..]).map_err(|_| wrong())?;
        let signature = <[u8; 64]>::try_from(&answer.signature[..]).map_err(|_| wrong())?;
        let activation = Activation {
            worker: Principal(worker),
            signature: Signature(signature),
        };
        if activation.worker != peer.principal() {
            return Err(wrong());
        }
        statement
            .verify_activation(&self.ledger.deployment, &activation)
            .map_err(|_| wrong())?;
        Ok(activation)
    }
}

fn wire(acknowledgement: &Acknowledgement) -> v1::Acknowledgement {
    v1::Acknowledgement {
        index: u32::from(acknowledgement.slot.index.get()),
        standby: acknowledgement.slot.standby,
        signature: acknowledgement.signature.0.to_vec().into(),
    }
}

/// How a member is called in a sentence.
pub(crate) fn name(slot: Slot) -> String {
    let standby = if slot.standby { " (standby)" } else { "" };
    format!("custodian {}{standby}", slot.index)
}

/// A member that refuses or cannot be asked: named, with the reason it gave.
pub(crate) fn failed(slot: Slot, error: &CallError) -> Refusal {
    let detail = format!("{}: {error}", name(slot));
    match error {
        CallError::Refused(refusal) => Refusal::new(&refusal.code, detail, refusal.retry),
        _ => Refusal::new(CUSTODIANS, detail, true),
    }
}

/// Runs everything at once and gives every result.
async fn all<T>(work: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    join_all(work).await
}
