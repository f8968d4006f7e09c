//! Creating and rotating: the owner's transaction, the ceremony that custodians and two workers hold, and the transaction that
//! brings their signatures. A create or rotate that broke off is finished by asking for it again.

use std::time::Duration;

use ::ledger::records::{
    Acknowledgement, Activation, Committee, CommitteeEntry, ContextPolicy, KeyCreation, Pending,
    VersionStatement,
};
use ::ledger::transaction::{AbandonVersion, ActivateVersion, BeginVersion, CreateKey as Create};
use ::ledger::{Action, Record as _, StateKey, StatePrefix};
use crypto::identity::Signature;
use crypto::kem::{PublicKeys, SCHEME};
use custody::DealRequest;
use domain::{CommitteeId, KeyId, KeyName, KeyVersion, ShareIndex, Slot, Threshold, TimestampMs};
use http::Method;
use sealed::signed::Signed;
use wire::problem::Code;
use wire::rest::Base64Url;
use wire::rest::custody::{DealAnswer, DealBody};

use super::{KeyInfo, Keys};
use crate::api::json;
use crate::error::{Error, Result};
use crate::ledger::json_body;
use crate::random;
use crate::transport::now;

/// How long the making of one version may take.
const DEAL_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a request to begin is good for, by the ledger's time.
const LIFETIME_MS: u64 = 45_000;
/// How often a gateway that reaches no worker is asked, and the pause between.
const REACH_ASKS_MAX: u32 = 20;
const REACH_PAUSE: Duration = Duration::from_millis(500);
/// Committees that are looked at when none was named, newest first.
const COMMITTEES_MAX: usize = 64;

/// What a new key shall be.
#[derive(Clone, Debug)]
pub struct CreateKey {
    /// Its name among one's own.
    pub name: KeyName,
    /// Who shall hold its shares; `None`: the committee that was admitted last.
    pub committee: Option<CommitteeId>,
    /// What custodians ask of an encryption context.
    pub context: ContextPolicy,
}

impl Keys {
    /// Makes a key with its first version, or finishes making one of that name that broke off. Whether it is new.
    ///
    /// # Errors
    /// [`Error::Refused`] with the ledger's or the enclaves' reason; [`Error::Custodians`] when what they made does not hold.
    pub async fn create(&self, what: &CreateKey) -> Result<(KeyInfo, bool)> {
        let owner = self.client().principal();
        let name = StateKey::KeyName(owner, what.name.clone());
        let known = self
            .ledger
            .read(&[name])
            .await?
            .into_iter()
            .next()
            .flatten();
        if let Some(bytes) = known {
            let id = <[u8; 32]>::try_from(bytes.as_ref()).map(KeyId);
            let id = id.map_err(|_| Error::integrity("a key's name on the ledger", "no id"))?;
            let info = self.named(&id, &owner, &what.name).await?;
            if info.status.current.is_some() {
                return Ok((info, false));
            }
            self.finish(&info).await?;
            return Ok((self.made(&id).await?, true));
        }
        let (committee, threshold) = self.committee(what.committee).await?;
        let mut random = [0; 32];
        random::fill(&mut random)?;
        let creation = KeyCreation {
            owner,
            name: what.name.clone(),
            random,
            scheme: SCHEME,
            threshold,
            committee,
            context: what.context.clone(),
            created: now()?,
        };
        let identity = &self.client().inner.config.identity;
        let id = creation.key_id(self.deployment());
        let creation = Signed::sign(identity, self.deployment(), creation).encode();
        self.ledger
            .submit(Action::CreateKey(Create { creation }))
            .await?;
        self.finish(&self.show(&id).await?).await?;
        Ok((self.made(&id).await?, true))
    }

    /// A key that has a version by now, by proof.
    async fn made(&self, id: &KeyId) -> Result<KeyInfo> {
        let info = self.show(id).await?;
        if info.status.current.is_none() {
            return Err(Error::integrity(
                format!("the making of key {id}"),
                "the ledger's state does not show a version",
            ));
        }
        Ok(info)
    }

    /// Makes the next version of a key and encrypts under it from now on; old versions still open. A rotation that broke off is
    /// finished instead of beginning another one.
    ///
    /// # Errors
    /// As [`Keys::create`].
    pub async fn rotate(&self, id: &KeyId) -> Result<KeyInfo> {
        let info = self.show(id).await?;
        if info.status.pending.is_none() {
            let current = info.status.current.ok_or_else(|| {
                Error::Unsupported("the key has no version yet: create it first".to_owned())
            })?;
            let committee = self.verified(id, current).await?.entry.committee;
            let version = current
                .next()
                .ok_or_else(|| Error::Unsupported("the key has its last version".to_owned()))?;
            self.begin(&info, version, committee).await?;
        }
        self.finish(&self.show(id).await?).await?;
        self.forget(id);
        let now = self.show(id).await?;
        // A receipt is only the gateway's word.
        if now.status.current <= info.status.current {
            return Err(Error::integrity(
                format!("the rotation of key {id}"),
                "the ledger's state does not show a newer version",
            ));
        }
        Ok(now)
    }

    async fn begin(
        &self,
        info: &KeyInfo,
        version: KeyVersion,
        committee: CommitteeId,
    ) -> Result<()> {
        let begin = BeginVersion {
            key: info.id,
            version,
            fencing: info.status.fencing,
            committee,
        };
        self.ledger
            .submit(Action::BeginVersion(begin))
            .await
            .map(drop)
    }

    /// Has the pending version made. When this attempt does not come to an end, another one is begun in its place, once.
    async fn finish(&self, info: &KeyInfo) -> Result<()> {
        let Some(pending) = info.status.pending else {
            // The pending version was given up: begin anew.
            let committee = info.creation.committee;
            let version = info.status.current.and_then(KeyVersion::next);
            self.begin(info, version.unwrap_or(KeyVersion::FIRST), committee)
                .await?;
            let info = self.show(&info.id).await?;
            let pending = info.status.pending.ok_or_else(fenced)?;
            return self.make(&info, &pending).await;
        };
        let Err(first) = self.make(info, &pending).await else {
            return Ok(());
        };
        let now = self.show(&info.id).await?;
        match now.status.pending {
            // Somebody else has brought it to its end.
            None if now.status.current == Some(pending.version) => Ok(()),
            Some(still) if still.fencing == pending.fencing && worth_another(&first) => {
                tracing::debug!(%first, "an attempt to make a key version failed, beginning another");
                let abandon = AbandonVersion {
                    key: info.id,
                    fencing: pending.fencing,
                };
                self.ledger.submit(Action::AbandonVersion(abandon)).await?;
                let info = self.show(&info.id).await?;
                self.begin(&info, pending.version, pending.committee)
                    .await?;
                let info = self.show(&info.id).await?;
                let pending = info.status.pending.ok_or_else(fenced)?;
                self.make(&info, &pending).await
            }
            _ => Err(first),
        }
    }

    /// Deals a pending version and brings the custodians' and the worker's signatures to the ledger.
    /// Has it made; while no worker can be reached nothing is dealt, and it is asked again: enclaves that were just admitted or
    /// started are reached within seconds.
    async fn make(&self, info: &KeyInfo, pending: &Pending) -> Result<()> {
        let mut asked = 1;
        loop {
            match self.make_once(info, pending).await {
                Err(error) if asked < REACH_ASKS_MAX && nobody_reached(&error) => {
                    tracing::debug!(%error, asked, "no worker yet, asking again");
                    tokio::time::sleep(REACH_PAUSE).await;
                    asked += 1;
                }
                other => return other,
            }
        }
    }

    async fn make_once(&self, info: &KeyInfo, pending: &Pending) -> Result<()> {
        let what = "making a version of a key";
        let target = format!("/v1/keys/{}/versions/{}/deal", info.id, pending.version);
        let issued = self.ledger.time().await?;
        let mut nonce = [0; 16];
        random::fill(&mut nonce)?;
        let request = DealRequest {
            chain: self.ledger.chain(),
            principal: self.client().principal(),
            key: info.id,
            version: pending.version,
            fencing: pending.fencing,
            issued,
            expires: TimestampMs(issued.0.saturating_add(LIFETIME_MS)),
            nonce,
        };
        let identity = &self.client().inner.config.identity;
        let request = Signed::sign(identity, self.deployment(), request);
        let body = DealBody {
            request: Base64Url(request.encode()),
        };
        let inner = &self.client().inner;
        let mut call = inner.control(what, Method::POST, target, json_body(&body)?);
        call.timeout = DEAL_TIMEOUT;
        // An attempt is dealt once; this side begins another one if it has to.
        call.retry_for = Duration::ZERO;
        let (_, bytes) = inner.call(&call).await?;
        let dealt: DealAnswer = json(what, &bytes)?;
        let committee = self.committee_by_id(pending.committee).await?;
        let activate = self.check_dealt(info, pending, &committee, &dealt)?;
        self.ledger
            .submit(Action::ActivateVersion(activate))
            .await
            .map(drop)
    }

    /// What was dealt is what the ledger will check; checked here first, so that who is to blame is said.
    fn check_dealt(
        &self,
        info: &KeyInfo,
        pending: &Pending,
        committee: &Committee,
        dealt: &DealAnswer,
    ) -> Result<ActivateVersion> {
        let deployment = self.deployment();
        let failed = |findings: Vec<String>| Error::Custodians {
            what: format!(
                "version {} of key {} was not made",
                pending.version, info.id
            ),
            findings,
        };
        let statement = VersionStatement::decode(&dealt.statement.0)
            .map_err(|error| failed(vec![format!("the worker's statement: {error}")]))?;
        let expected = (info.id, pending.version, pending.fencing, pending.committee);
        let got = (
            statement.key,
            statement.version,
            statement.fencing,
            statement.committee,
        );
        if expected != got {
            let finding = "the worker's statement is about something else than was asked for";
            return Err(failed(vec![finding.to_owned()]));
        }
        PublicKeys::from_bytes(&statement.pq, &statement.dh)
            .map_err(|error| failed(vec![format!("the worker's statement: {error}")]))?;
        statement
            .commitment_list(deployment, committee.threshold, &dealt.commitments.0)
            .map_err(|error| failed(vec![format!("the commitments to the shares: {error}")]))?;
        let mut acknowledgements = Vec::new();
        let mut findings = Vec::new();
        for given in &dealt.acknowledgements {
            let signature = <[u8; 64]>::try_from(given.signature.0.as_slice()).map(Signature);
            let index = ShareIndex::new(given.index);
            let (Ok(signature), Ok(index)) = (signature, index) else {
                findings.push("an acknowledgement that is none".to_owned());
                continue;
            };
            let slot = Slot {
                index,
                standby: given.standby,
            };
            let acknowledgement = Acknowledgement { slot, signature };
            let holds = committee.member(slot).is_some_and(|member| {
                statement
                    .verify_acknowledgement(&member.key, deployment, &acknowledgement)
                    .is_ok()
            });
            if !holds {
                findings.push(format!("custodian {index} did not sign for its share"));
            }
            acknowledgements.push(acknowledgement);
        }
        let signature = <[u8; 64]>::try_from(dealt.activation_signature.0.as_slice());
        let activation = Activation {
            worker: dealt.activation_worker,
            signature: Signature(signature.unwrap_or([0; 64])),
        };
        if statement
            .verify_activation(deployment, &activation)
            .is_err()
        {
            findings.push(format!(
                "worker {} did not sign that the shares are good",
                dealt.activation_worker
            ));
        }
        if !findings.is_empty() {
            return Err(failed(findings));
        }
        Ok(ActivateVersion {
            statement: dealt.statement.0.clone(),
            commitments: dealt.commitments.0.clone(),
            acknowledgements,
            activation,
        })
    }

    /// A committee that keys may be made with: the named one, or the one that was admitted last.
    async fn committee(&self, id: Option<CommitteeId>) -> Result<(CommitteeId, Threshold)> {
        let now = self.ledger.time().await?;
        let mut candidates: Vec<(CommitteeId, CommitteeEntry)> = Vec::new();
        let ids = match id {
            Some(id) => vec![id],
            None => {
                let listed = self.ledger.list(StatePrefix::Committees).await?;
                let ids = listed.iter().filter_map(|(key, _)| key.last_chunk::<32>());
                ids.take(COMMITTEES_MAX)
                    .map(|id| CommitteeId(*id))
                    .collect()
            }
        };
        for id in ids {
            let key = StateKey::Committee(id);
            if let Some(entry) = self.ledger.record::<CommitteeEntry>(&key).await?
                && entry.from <= now
            {
                candidates.push((id, entry));
            }
        }
        let newest = candidates
            .into_iter()
            .max_by_key(|(_, entry)| entry.height)
            .ok_or_else(|| {
                Error::NoNamedKey(
                    "the ledger has no committee of custodians that keys can be made with: its governance admits one"
                        .to_owned(),
                )
            })?;
        let wrong = |reason: String| Error::integrity("the committee", reason);
        let committee =
            Committee::decode(&newest.1.committee).map_err(|error| wrong(error.to_string()))?;
        if committee.id(self.deployment()) != newest.0 {
            return Err(wrong("it is not the one that its id names".to_owned()));
        }
        Ok((newest.0, committee.threshold))
    }
}

/// Whether another attempt may go better: enclaves were away or misbehaved, not the ledger's rules.
/// The gateway reached no worker: it says so, and nothing was sent.
fn nobody_reached(error: &Error) -> bool {
    error.code() == Some(Code::NotEnoughCustodians) && error.custody_reason() == Some("unreachable")
}

fn worth_another(error: &Error) -> bool {
    error.rejection().is_none()
        && !matches!(
            error,
            Error::Config(_) | Error::Internal(_) | Error::Unreachable { .. } | Error::State { .. }
        )
}

fn fenced() -> Error {
    Error::Unsupported("somebody else is making a version of this key: try again".to_owned())
}
