//! What an owner, or who was granted as much, changes about a key.

use std::time::{Duration, Instant};

use ::ledger::records::{Committee, CommitteeEntry, KeyGrant, Operations};
use ::ledger::transaction::{Retire, RevokeKey, SetDeleteProtection, SignedRecord, VersionOf};
use ::ledger::{Action, Record as _, StateKey};
use domain::{Height, KeyId, KeyVersion, Principal, RecordHash, TimestampMs};
use http::Method;
use sealed::signed::Signed;
use wire::rest::Base64Url;
use wire::rest::custody::{ConfirmAnswer, ConfirmBody, CustodianRefusal};

use super::{KeyInfo, Keys};
use crate::api::json;
use crate::error::{Error, Result};
use crate::ledger::{Applied, json_body};

/// After this long no custodian releases on proofs from before a block: each has learned of a newer height by itself twice over, or
/// denies everything.
pub const FRESHNESS_WINDOW: Duration = Duration::from_secs(21);
/// How long custodians are asked to confirm before the window is waited out.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(5);

/// A grant that was revoked.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The block.
    pub height: Height,
    /// Share indices of custodians that release nothing any more on older proofs, as the gateway says.
    pub confirmed: Vec<u8>,
    /// How many it takes so that no t others are left: n - t + 1.
    pub needed: usize,
    /// Those that did not confirm.
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
    pub async fn revoke(&self, id: &KeyId, grantee: &Principal) -> Result<Revoked> {
        let known = self
            .granted(id, grantee)
            .await?
            .ok_or_else(|| Error::NoNamedKey(format!("key {id} was never granted to {grantee}")))?;
        let height = match known.entry.revoked {
            // Revoked before, perhaps by a call that broke off: custodians are asked again.
            Some(height) => height,
            None => {
                let revoke = RevokeKey {
                    key: *id,
                    grantee: *grantee,
                    serial: known.grant.serial,
                };
                self.ledger.submit(Action::RevokeKey(revoke)).await?.height
            }
        };
        let revoked = self.effective(id, height).await?;
        // By proof, at a height that custodians were told of: the receipt is only the gateway's word.
        let entry = self.granted(id, grantee).await?;
        let stands = entry.is_none_or(|now| {
            now.grant.serial == known.grant.serial
                && now.entry.revoked.is_none_or(|at| at > revoked.height)
        });
        if stands {
            return Err(Error::integrity(
                format!("the revocation of key {id} from {grantee}"),
                "the ledger's state shows the grant standing",
            ));
        }
        Ok(revoked)
    }

    /// Waits until no t custodians release on proofs from before `height`.
    async fn effective(&self, id: &KeyId, height: Height) -> Result<Revoked> {
        let final_at = Instant::now();
        let info = self.show(id).await?;
        let needed = usize::from(info.creation.threshold.n() - info.creation.threshold.t()) + 1;
        let mut revoked = Revoked {
            height,
            confirmed: Vec::new(),
            needed,
            refused: Vec::new(),
            waited: false,
        };
        match self.confirm().await {
            Ok(answer) => {
                let confirmed = answer.confirmed.iter();
                let confirmed = confirmed.filter(|one| one.height >= height.0);
                revoked.confirmed = confirmed.map(|one| one.index).collect();
                revoked.confirmed.sort_unstable();
                revoked.confirmed.dedup();
                revoked.refused = answer.refused;
            }
            Err(error) => tracing::debug!(%error, "custodians were not asked to confirm"),
        }
        if revoked.confirmed.len() < needed {
            tokio::time::sleep(FRESHNESS_WINDOW.saturating_sub(final_at.elapsed())).await;
            revoked.waited = true;
        }
        Ok(revoked)
    }

    /// Tells every custodian of the newest block.
    async fn confirm(&self) -> Result<ConfirmAnswer> {
        let what = "telling the custodians";
        // Never older than what this handle has written.
        let answer = self.ledger.answer(&[StateKey::Governance]).await?;
        let body = ConfirmBody {
            header: Base64Url(answer.last.header.encode()),
            certificate: Base64Url(answer.last.certificate.encode()),
        };
        let inner = &self.client().inner;
        let target = "/v1/custody/confirm".to_owned();
        let mut call = inner.control(what, Method::POST, target, json_body(&body)?);
        call.timeout = CONFIRM_TIMEOUT;
        call.retry_for = CONFIRM_TIMEOUT;
        let (_, bytes) = inner.call(&call).await?;
        json(what, &bytes)
    }

    /// Sets when a version, or the whole key, stops opening anything; `None` takes a deadline back that has not passed.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn retire(
        &self,
        id: &KeyId,
        version: Option<KeyVersion>,
        deadline: Option<TimestampMs>,
    ) -> Result<Applied> {
        let retire = Retire {
            key: *id,
            version,
            deadline,
        };
        let applied = self.ledger.submit(Action::Retire(retire)).await?;
        self.forget(id);
        if version.is_none() {
            self.shown(id, "the key's retirement", |info| {
                info.status.retires == deadline
            })
            .await?;
        }
        Ok(applied)
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
        Err(Error::integrity(
            format!("{what} of key {id}"),
            "the ledger's state does not show it",
        ))
    }

    /// Sets the version below which nothing is opened.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn set_min_decrypt(&self, id: &KeyId, version: KeyVersion) -> Result<Applied> {
        let of = VersionOf { key: *id, version };
        let applied = self.ledger.submit(Action::SetMinDecrypt(of)).await?;
        self.shown(id, "the least version", |info| {
            info.status.min_decrypt == version
        })
        .await?;
        Ok(applied)
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
        self.ledger.submit(Action::SetDeleteProtection(set)).await
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
        let entry = self
            .ledger
            .record::<CommitteeEntry>(&StateKey::Committee(committee))
            .await?;
        let missing = || Error::integrity("the committee", "the ledger does not have it");
        let entry = entry.ok_or_else(missing)?;
        Committee::decode(&entry.committee)
            .map_err(|error| Error::integrity("the committee", error))
    }
}
