//! What an owner, or who was granted as much, changes about a key.

use std::time::{Duration, Instant};

use ::ledger::records::{Committee, CommitteeEntry, KeyGrant, Operations, VersionEntry};
use ::ledger::transaction::{Retire, RevokeKey, SetDeleteProtection, SignedRecord, VersionOf};
use ::ledger::{Action, Record as _, StateKey};
use crypto::identity::Signature;
use custody::confirm::NONCE_BYTES;
use custody::{ConfirmQuestion, Confirmation, Reason};
use domain::{
    CommitteeId, DeploymentId, Height, KeyId, KeyVersion, Principal, RecordHash, ShareIndex,
    TimestampMs,
};
use http::Method;
use sealed::signed::Signed;
use wire::rest::Base64Url;
use wire::rest::custody::{ConfirmAnswer, ConfirmBody, CustodianRefusal};

use super::{KeyInfo, Keys};
use crate::api::json;
use crate::error::{Error, Result};
use crate::ledger::{Applied, json_body};
use crate::random;

/// After this long no custodian releases on proofs from before a block: each has learned of a newer height by itself twice over, or
/// denies everything.
pub const FRESHNESS_WINDOW: Duration = Duration::from_secs(21);
/// How long custodians are asked to confirm before the window is waited out.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// A change that no t custodians can be brought to overlook any more.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The block.
    pub height: Height,
    /// Share indices of custodians that have signed that they release nothing any more on older proofs. Where versions of the key are
    /// held by several committees: of the one with the fewest.
    pub confirmed: Vec<u8>,
    /// How many it takes so that no t others are left: n - t + 1. 0 for a change that takes nothing away.
    pub needed: usize,
    /// Those that did not confirm, and those whose confirmation does not count.
    pub refused: Vec<CustodianRefusal>,
    /// Whether the freshness window was waited out instead.
    pub waited: bool,
}

impl Keys {
    /// Lets a principal use a key, in one's own name. The ledger carries the signed grant.
    ///
    /// # Errors
    /// [`Error::Refused`] when the ledger does not take it; [`Error::NoNamedKey`] when this identity has no grant to pass on.
    pub async fn grant(
        &self,
        id: &KeyId,
        grantee: Principal,
        operations: Operations,
        expires: Option<TimestampMs>,
    ) -> Result<Applied> {
        let info = self.show(id).await?;
        let me = self.client().principal();
        let parent = if me == info.status.owner {
            None
        } else {
            let chain = self.chain(&info, &me).await?;
            let own = chain.first().ok_or_else(|| {
                Error::NoNamedKey(format!(
                    "this identity neither owns key {id} nor has a grant of it to pass on"
                ))
            })?;
            Some(RecordHash(own.grant.hash()))
        };
        let serial = self
            .granted(id, &grantee)
            .await?
            .map_or(1, |known| known.grant.serial.saturating_add(1));
        let grant = KeyGrant {
            key: *id,
            grantee,
            operations,
            granted_by: me,
            parent,
            serial,
            expires,
        };
        let identity = &self.client().inner.config.identity;
        let record = Signed::sign(identity, self.deployment(), grant).encode();
        self.ledger
            .submit(Action::GrantKey(SignedRecord { record }))
            .await
    }

    /// Takes a grant back and returns when no t custodians release under it any more: when n - t + 1 of them have confirmed the
    /// block, or the freshness window has passed. What was opened before stays known to whoever opened it.
    ///
    /// # Errors
    /// [`Error::NoNamedKey`] when there is no such grant; what the ledger says.
    pub async fn revoke(&self, id: &KeyId, grantee: &Principal) -> Result<Effective> {
        let known = self
            .granted(id, grantee)
            .await?
            .ok_or_else(|| Error::NoNamedKey(format!("key {id} was never granted to {grantee}")))?;
        // Revoked before, perhaps by a call that broke off: custodians are asked again.
        if known.entry.revoked.is_none() {
            let revoke = RevokeKey {
                key: *id,
                grantee: *grantee,
                serial: known.grant.serial,
            };
            self.ledger.submit(Action::RevokeKey(revoke)).await?;
        }
        // By proof, before custodians are told of a block that has it: the receipt is only the gateway's word.
        let entry = self.granted(id, grantee).await?;
        let stands = entry.is_none_or(|now| {
            now.grant.serial == known.grant.serial && now.entry.revoked.is_none()
        });
        if stands {
            return Err(not_shown(id, "the revocation of a grant"));
        }
        self.effective(id).await
    }

    /// Waits until no t custodians release on proofs from before the newest block that this handle knows of. What shall hold then has been
    /// read by proof before.
    async fn effective(&self, id: &KeyId) -> Result<Effective> {
        let height = self.ledger.height();
        let final_at = Instant::now();
        let mut counted = Counted::default();
        // The one that the owner named holds every version.
        let committee = self.show(id).await?.creation.committee;
        let committees = [self.committee_by_id(committee).await?];
        match self.confirm(id).await {
            Ok((question, answer)) => {
                counted = count(&question, self.deployment(), &committees, height, answer);
            }
            Err(error) => tracing::debug!(%error, "custodians were not asked to confirm"),
        }
        let waited = !counted.enough;
        if waited {
            tokio::time::sleep(FRESHNESS_WINDOW.saturating_sub(final_at.elapsed())).await;
        }
        Ok(Effective {
            height,
            confirmed: counted.confirmed,
            needed: counted.needed,
            refused: counted.refused,
            waited,
        })
    }

    /// Tells every custodian of the newest block; their answers, and what they are bound to.
    async fn confirm(&self, id: &KeyId) -> Result<(ConfirmQuestion, ConfirmAnswer)> {
        let what = "telling the custodians";
        // Never older than what this handle has written.
        let answer = self.ledger.answer(&[StateKey::Governance]).await?;
        let mut nonce = [0; NONCE_BYTES];
        random::fill(&mut nonce)?;
        let question = ConfirmQuestion {
            chain: self.ledger.chain(),
            key: *id,
            nonce,
        };
        let body = ConfirmBody {
            header: Base64Url(answer.last.header.encode()),
            certificate: Base64Url(answer.last.certificate.encode()),
            key: *id,
            nonce: Base64Url(nonce.to_vec()),
        };
        let inner = &self.client().inner;
        let target = "/v1/custody/confirm".to_owned();
        let mut call = inner.control(what, Method::POST, target, json_body(&body)?);
        call.timeout = CONFIRM_TIMEOUT;
        call.retry_for = CONFIRM_TIMEOUT;
        let (_, bytes) = inner.call(&call).await?;
        Ok((question, json(what, &bytes)?))
    }

    /// A committee as the ledger's state shows it.
    pub(super) async fn committee_by_id(&self, id: CommitteeId) -> Result<Committee> {
        let wrong = |reason: String| Error::integrity("the committee", reason);
        let entry = self
            .ledger
            .record::<CommitteeEntry>(&StateKey::Committee(id))
            .await?
            .ok_or_else(|| wrong("the ledger does not have it".to_owned()))?;
        let committee =
            Committee::decode(&entry.committee).map_err(|error| wrong(error.to_string()))?;
        if committee.id(self.deployment()) != id {
            return Err(wrong("it is not the one that its id names".to_owned()));
        }
        committee
            .validate()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(committee)
    }

    /// Sets when a version, or the whole key, stops opening anything; `None` takes a deadline back that has not passed. Returns when no t
    /// custodians overlook a deadline.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn retire(
        &self,
        id: &KeyId,
        version: Option<KeyVersion>,
        deadline: Option<TimestampMs>,
    ) -> Result<Effective> {
        let retire = Retire {
            key: *id,
            version,
            deadline,
        };
        self.ledger.submit(Action::Retire(retire)).await?;
        self.forget(id);
        match version {
            None => {
                self.shown(id, "the key's retirement", |info| {
                    info.status.retires == deadline
                })
                .await?;
            }
            Some(version) => {
                let key = StateKey::KeyVersion(*id, version);
                let entry = self.ledger.record::<VersionEntry>(&key).await?;
                if entry.is_none_or(|entry| entry.retires != deadline) {
                    return Err(not_shown(id, "a version's retirement"));
                }
            }
        }
        match deadline {
            Some(_) => self.effective(id).await,
            // Whoever has not heard of it refuses for a while: nothing to wait for.
            None => Ok(Effective {
                height: self.ledger.height(),
                confirmed: Vec::new(),
                needed: 0,
                refused: Vec::new(),
                waited: false,
            }),
        }
    }

    /// Reads by proof that a change holds: a receipt is only the gateway's word.
    async fn shown(
        &self,
        id: &KeyId,
        what: &str,
        holds: impl FnOnce(&KeyInfo) -> bool,
    ) -> Result<()> {
        if holds(&self.show(id).await?) {
            return Ok(());
        }
        Err(not_shown(id, what))
    }

    /// Sets the version below which nothing is opened. Returns when no t custodians overlook it.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn set_min_decrypt(&self, id: &KeyId, version: KeyVersion) -> Result<Effective> {
        let of = VersionOf { key: *id, version };
        self.ledger.submit(Action::SetMinDecrypt(of)).await?;
        self.shown(id, "the least version", |info| {
            info.status.min_decrypt == version
        })
        .await?;
        self.effective(id).await
    }

    /// Protects a key from being retired or destroyed, or no longer.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn set_delete_protection(&self, id: &KeyId, protected: bool) -> Result<Applied> {
        let set = SetDeleteProtection {
            key: *id,
            protected,
        };
        let applied = self.ledger.submit(Action::SetDeleteProtection(set)).await?;
        self.shown(id, "the protection", |info| {
            info.status.delete_protected == protected
        })
        .await?;
        Ok(applied)
    }

    /// The committee that holds a key's shares now.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn committee_of(&self, id: &KeyId) -> Result<Committee> {
        let info = self.show(id).await?;
        let committee = match info.status.current {
            Some(current) => self.verified(id, current).await?.entry.committee,
            None => info.creation.committee,
        };
        self.committee_by_id(committee).await
    }
}

fn not_shown(id: &KeyId, what: &str) -> Error {
    Error::integrity(
        format!("{what} of key {id}"),
        "the ledger's state does not show it",
    )
}

/// What custodians' answers come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counted {
    confirmed: Vec<u8>,
    needed: usize,
    refused: Vec<CustodianRefusal>,
    enough: bool,
}

/// Counts confirmations of `height` in every committee: enough when no t members of any are left that have not confirmed.
fn count(
    question: &ConfirmQuestion,
    deployment: &DeploymentId,
    committees: &[Committee],
    height: Height,
    answer: ConfirmAnswer,
) -> Counted {
    let (mut given, mut refused) = (Vec::new(), answer.refused);
    for one in answer.confirmed {
        let signature = <[u8; 64]>::try_from(one.signature.0.as_slice());
        let confirmation = Confirmation {
            custodian: one.custodian,
            height: Height(one.height),
            signature: Signature(signature.unwrap_or([0; 64])),
        };
        if question.verify(deployment, &confirmation).is_ok() {
            given.push(confirmation);
            continue;
        }
        refused.push(CustodianRefusal {
            index: one.index,
            code: Reason::Signature.code().to_owned(),
            detail: format!("{} did not sign this confirmation", one.custodian),
            retry: true,
        });
    }
    // How many are missing, and of which committee most.
    let worst = committees
        .iter()
        .map(|committee| {
            let threshold = committee.threshold;
            let needed = usize::from(threshold.n() - threshold.t()) + 1;
            let confirmed = question.confirmed(deployment, committee, height, &given);
            let confirmed: Vec<u8> = confirmed.into_iter().map(ShareIndex::get).collect();
            (needed.saturating_sub(confirmed.len()), needed, confirmed)
        })
        .max_by_key(|(missing, ..)| *missing);
    match worst {
        Some((missing, needed, confirmed)) => Counted {
            confirmed,
            needed,
            refused,
            enough: missing == 0,
        },
        // No version: nothing can be opened.
        None => Counted {
            refused,
            enough: true,
            ..Counted::default()
        },
    }
}

#[cfg(test)]
mod tests;
