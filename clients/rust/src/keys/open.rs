//! Opening: a signed request, the custodians' partials and the worker's secrets, all checked, combined here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::ledger::records::{EnrolmentEntry, Role};
use ::ledger::{StateKey, VerifiedVersion};
use crypto::identity::Signature;
use crypto::kem::{KemCiphertext, SharedSecrets};
use crypto::ristretto::Element;
use crypto::wrap::{ReleasedKey, WrapContext};
use crypto::{EncryptionContext, NamedKeyWrap, Secret};
use custody::request::{CIPHERTEXTS_MAX, KemHashes};
use custody::{DecryptRequest, Operation, Recipient, RequestHash, SealedPartials, SealedSecrets};
use domain::{KeyId, KeyVersion, Principal, ShareIndex, Slot, TimestampMs};
use http::Method;
use sealed::signed::Signed;
use threshold::partial::{
    BadPartial, Request, VerifiedCiphertext, VerifiedPartial, combine, verify_batch,
};
use threshold::{DhPublic, Sharing};
use wire::problem::Code;
use wire::rest::Base64Url;
use wire::rest::custody::{CiphertextInfo, DecryptAnswer, DecryptBody, SealedPartialsInfo};

use super::Keys;
use crate::api::json;
use crate::error::{Error, Result};
use crate::key::blocking;
use crate::ledger::json_body;
use crate::random;

/// How long custodians may take over one request.
const DECRYPT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a request is good for, by the ledger's time.
const LIFETIME_MS: u64 = 45_000;
/// Requests for the same ciphertexts, each signed anew, when the reason may pass.
const ATTEMPTS_MAX: u32 = 4;
const PAUSE: Duration = Duration::from_millis(150);

/// A ciphertext to open: which key version made it, in which context.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The named key.
    pub key: KeyId,
    /// The version that was current then.
    pub version: KeyVersion,
    /// The ciphertext.
    pub ciphertext: KemCiphertext,
    /// What it is about; custodians see it.
    pub context: EncryptionContext,
}

/// A wrap to open, with what it is a wrap of.
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<'a> {
    /// The wrap.
    pub wrap: &'a NamedKeyWrap,
    /// What is wrapped.
    pub context: &'a WrapContext,
    /// The encryption context that custodians are shown: of an envelope its own, otherwise
    /// [`WrapContext::encryption_context`].
    pub shown: &'a EncryptionContext,
}

/// K of a wrap, one for each that was asked for, in order.
pub type Released = Result<ReleasedKey>;

/// What is fixed of a key version, checked once.
#[derive(Debug)]
pub(crate) struct Checked {
    version: VerifiedVersion,
    sharing: Sharing,
    public: DhPublic,
}

/// One of a batch after the check of its proof.
struct Item {
    /// Its place among what was asked for.
    at: usize,
    ciphertext: KemCiphertext,
    context: EncryptionContext,
    u: Element,
}

impl Keys {
    /// Opens wraps to named keys, in batches of up to 64 of one key version.
    pub async fn release(&self, wraps: &[Wrapped<'_>]) -> Vec<Released> {
        let deployment = self.deployment();
        let openings: Vec<Opening> = wraps
            .iter()
            .map(|wrapped| Opening {
                key: wrapped.wrap.key,
                version: wrapped.wrap.version,
                ciphertext: wrapped.wrap.ciphertext.clone(),
                context: wrapped.shown.clone(),
            })
            .collect();
        let keys = self.open_many(&openings).await;
        let released = wraps.iter().zip(keys).map(|(wrapped, key)| {
            Ok(ReleasedKey {
                kem_hash: wrapped.wrap.kem_hash(deployment, wrapped.context),
                key: key?,
            })
        });
        released.collect()
    }

    /// K of each ciphertext, in order. What fails, fails for its batch (one key version, up to 64 ciphertexts) or for one ciphertext
    /// whose own proof does not hold; the others are opened all the same.
    pub async fn open_many(&self, openings: &[Opening]) -> Vec<Result<Secret<32>>> {
        let mut out: Vec<Option<Result<Secret<32>>>> = openings.iter().map(|_| None).collect();
        let mut groups: BTreeMap<(KeyId, KeyVersion), Vec<usize>> = BTreeMap::new();
        for (at, opening) in openings.iter().enumerate() {
            groups
                .entry((opening.key, opening.version))
                .or_default()
                .push(at);
        }
        for ((key, version), places) in groups {
            let checked = match self.checked(&key, version).await {
                Ok(checked) => checked,
                Err(error) => {
                    fail(&mut out, &places, error);
                    continue;
                }
            };
            for batch in places.chunks(CIPHERTEXTS_MAX) {
                let items = self.items(&checked, openings, batch, &mut out);
                if items.is_empty() {
                    continue;
                }
                let places: Vec<usize> = items.iter().map(|item| item.at).collect();
                match self.open_batch(&checked, items).await {
                    Ok(keys) => {
                        for (at, key) in places.into_iter().zip(keys) {
                            if let Some(slot) = out.get_mut(at) {
                                *slot = Some(Ok(key));
                            }
                        }
                    }
                    Err(error) => fail(&mut out, &places, error),
                }
            }
        }
        let missing = || Err(Error::Internal("a ciphertext without an answer".to_owned()));
        out.into_iter()
            .map(|slot| slot.unwrap_or_else(missing))
            .collect()
    }

    /// What is needed to check answers about a key version; from memory for five minutes.
    async fn checked(&self, key: &KeyId, version: KeyVersion) -> Result<Arc<Checked>> {
        let place = (*key, version);
        if let Some(known) = self.cache().versions.get(&place) {
            return Ok(known);
        }
        let version = self.verified(key, version).await?;
        let wrong =
            |reason: String| Error::integrity(format!("key {key} version {}", place.1), reason);
        if version.entry.committee != version.statement.committee
            || version.entry.epoch != version.statement.epoch
        {
            return Err(wrong(
                "its shares were dealt anew, which this version does not know: use a newer strongroom"
                    .to_owned(),
            ));
        }
        let threshold = version.committee.threshold;
        let list = version
            .statement
            .commitment_list(self.deployment(), threshold, &version.entry.commitments)
            .map_err(|error| wrong(error.to_string()))?;
        let public = list
            .dh_public(version.key.public.dh)
            .map_err(|error| wrong(error.to_string()))?;
        let checked = Arc::new(Checked {
            sharing: *list.sharing(),
            version,
            public,
        });
        self.cache().versions.insert(place, Arc::clone(&checked));
        Ok(checked)
    }

    /// Checks the ciphertexts' own proofs: custodians would refuse the whole batch for one that does not hold.
    fn items(
        &self,
        checked: &Checked,
        openings: &[Opening],
        batch: &[usize],
        out: &mut [Option<Result<Secret<32>>>],
    ) -> Vec<Item> {
        let target = checked.version.key.target();
        let mut items = Vec::with_capacity(batch.len());
        for at in batch {
            let (Some(opening), Some(slot)) = (openings.get(*at), out.get_mut(*at)) else {
                continue;
            };
            let context = opening.context.hash(self.deployment());
            let parts = opening.ciphertext.parts(self.deployment(), context);
            match VerifiedCiphertext::verify(&parts, &target) {
                Ok(verified) => items.push(Item {
                    at: *at,
                    ciphertext: opening.ciphertext.clone(),
                    context: opening.context.clone(),
                    u: *verified.u(),
                }),
                Err(error) => {
                    let what = "the ciphertext";
                    let reason = format!("{error}: altered, or of another key version or context");
                    *slot = Some(Err(Error::integrity(what, reason)));
                }
            }
        }
        items
    }

    async fn open_batch(
        &self,
        checked: &Arc<Checked>,
        items: Vec<Item>,
    ) -> Result<Vec<Secret<32>>> {
        let mut attempt = 1;
        let items = Arc::new(items);
        loop {
            let error = match self.open_once(checked, &items).await {
                Ok(keys) => return Ok(keys),
                Err(error) => error,
            };
            if attempt >= ATTEMPTS_MAX || !may_pass(&error) {
                return Err(error);
            }
            tracing::debug!(attempt, %error, "custodians did not open, asking again");
            tokio::time::sleep(PAUSE * 2_u32.saturating_pow(attempt)).await;
            attempt += 1;
        }
    }

    async fn open_once(
        &self,
        checked: &Arc<Checked>,
        items: &Arc<Vec<Item>>,
    ) -> Result<Vec<Secret<32>>> {
        let what = "opening ciphertexts";
        let deployment = *self.deployment();
        let recipient = Recipient::generate(&mut random::rng());
        let request = self.request(checked, items, &recipient).await?;
        let hash = request.hash(&deployment);
        let identity = &self.client().inner.config.identity;
        let signed = Signed::sign(identity, &deployment, request);
        let body = DecryptBody {
            request: Base64Url(signed.encode()),
            ciphertexts: items
                .iter()
                .map(|item| CiphertextInfo {
                    dh: Base64Url(item.ciphertext.dh.to_bytes().to_vec()),
                    pq: Base64Url(item.ciphertext.pq.as_bytes().to_vec()),
                    context: Base64Url(item.context.encode()),
                })
                .collect(),
        };
        let target = format!("/v1/keys/{}/decrypt", checked.version.key.key);
        let inner = &self.client().inner;
        let mut call = inner.control(what, Method::POST, target, json_body(&body)?);
        call.timeout = DECRYPT_TIMEOUT;
        // A custodian answers a request once: another attempt is signed anew, above.
        call.retry_for = Duration::ZERO;
        let (_, bytes) = inner.call(&call).await?;
        let answer: DecryptAnswer = json(what, &bytes)?;
        self.expect_worker(&answer.worker).await?;
        let (checked, items) = (Arc::clone(checked), Arc::clone(items));
        blocking(move || checked.combine(&recipient, &hash, &items, &answer)).await
    }

    /// That the ledger enrols this worker; from memory for five minutes.
    async fn expect_worker(&self, worker: &Principal) -> Result<()> {
        let workers = &self.cache().workers;
        if workers.get(worker).is_some() {
            return Ok(());
        }
        let key = StateKey::Enrolment(Role::Worker, *worker);
        let entry = self.ledger.record::<EnrolmentEntry>(&key).await?;
        let now = self.ledger.time().await?;
        if !is_enrolled(entry.as_ref(), worker, now) {
            return Err(Error::integrity(
                "the answer of a worker",
                format!("the ledger does not enrol {worker} as one"),
            ));
        }
        workers.insert(*worker, ());
        Ok(())
    }

    async fn request(
        &self,
        checked: &Checked,
        items: &[Item],
        recipient: &Recipient,
    ) -> Result<DecryptRequest> {
        let deployment = self.deployment();
        let hashes = items.iter().map(|item| {
            let context = item.context.hash(deployment);
            item.ciphertext.kem_hash(deployment, context)
        });
        let kem_hashes =
            KemHashes::new(hashes.collect()).map_err(|error| Error::Internal(error.to_string()))?;
        let issued = self.ledger.time().await?;
        let mut nonce = [0; 16];
        random::fill(&mut nonce)?;
        Ok(DecryptRequest {
            chain: self.ledger.chain(),
            principal: self.client().principal(),
            operation: Operation::Decrypt,
            key: checked.version.key.key,
            version: checked.version.key.version,
            kem_hashes,
            recipient_dh: recipient.dh(),
            recipient_pq: recipient.pq(),
            min_height: self.ledger.height().max(checked.version.entry.height),
            issued,
            expires: TimestampMs(issued.0.saturating_add(LIFETIME_MS)),
            nonce,
            job: None,
        })
    }
}

impl Checked {
    /// Checks signatures, seals and proofs, names who misbehaved, and derives K of each.
    fn combine(
        &self,
        recipient: &Recipient,
        hash: &RequestHash,
        items: &[Item],
        answer: &DecryptAnswer,
    ) -> Result<Vec<Secret<32>>> {
        let mut findings: Vec<String> = answer
            .failures
            .iter()
            .map(|failure| match failure.index {
                0 => format!("the worker: {} ({})", failure.detail, failure.code),
                index => format!("custodian {index}: {} ({})", failure.detail, failure.code),
            })
            .collect();
        let failed = |findings: Vec<String>| Error::Custodians {
            what: format!(
                "key {} version {} did not open",
                self.version.key.key, self.version.key.version
            ),
            findings,
        };
        let partials = self.partials(recipient, hash, items, &answer.partials, &mut findings);
        let needed = usize::from(self.sharing.threshold.t());
        if partials.len() < needed {
            findings.push(format!(
                "{} of the {needed} custodians that are needed gave a right answer",
                partials.len()
            ));
            return Err(failed(findings));
        }
        if !findings.is_empty() {
            tracing::warn!(?findings, "opened in spite of custodians that failed");
        }
        let deployment = self.sharing.deployment;
        let sealed = SealedSecrets {
            sealed: answer.sealed_secrets.0.clone(),
            signature: signature(&answer.signature),
        };
        let secrets = recipient
            .open_secrets(&answer.worker, &deployment, hash, items.len(), &sealed)
            .map_err(|error| failed(vec![format!("worker {}: {error}", answer.worker)]))?;
        let mut keys = Vec::with_capacity(items.len());
        for (at, (item, pq)) in items.iter().zip(secrets).enumerate() {
            let of_item: Vec<VerifiedPartial> = partials
                .values()
                .filter_map(|partials| partials.get(at).cloned())
                .collect();
            let dh = combine(&of_item).map_err(|error| failed(vec![error.to_string()]))?;
            let context = item.context.hash(&deployment);
            let shared = SharedSecrets { pq, dh };
            keys.push(
                self.version
                    .key
                    .derive_key(&item.ciphertext, &context, &shared),
            );
        }
        Ok(keys)
    }

    /// The partials of every custodian whose signature and proofs all hold, by index; the others are named in `findings`.
    fn partials(
        &self,
        recipient: &Recipient,
        hash: &RequestHash,
        items: &[Item],
        given: &[SealedPartialsInfo],
        findings: &mut Vec<String>,
    ) -> BTreeMap<ShareIndex, Vec<VerifiedPartial>> {
        let mut opened = BTreeMap::new();
        for sealed in given {
            match self.open_sealed(recipient, hash, items.len(), sealed) {
                Ok((index, partials)) => {
                    opened.insert(index, partials);
                }
                Err(finding) => findings.push(finding),
            }
        }
        let mut questions = Vec::new();
        for partials in opened.values() {
            for (item, partial) in items.iter().zip(partials) {
                let request = Request {
                    public: &self.public,
                    u: &item.u,
                    request_hash: &hash.0,
                };
                questions.push((request, partial.clone()));
            }
        }
        let mut answers = verify_batch(questions).into_iter();
        let mut good = BTreeMap::new();
        for index in opened.keys() {
            // All of a custodian's answers are taken, whatever the first of them says.
            let answers: Vec<_> = answers.by_ref().take(items.len()).collect();
            let all: std::result::Result<Vec<_>, BadPartial> = answers.into_iter().collect();
            match all {
                Ok(partials) => {
                    good.insert(*index, partials);
                }
                Err(error) => findings.push(error.to_string()),
            }
        }
        good
    }

    fn open_sealed(
        &self,
        recipient: &Recipient,
        hash: &RequestHash,
        count: usize,
        given: &SealedPartialsInfo,
    ) -> std::result::Result<(ShareIndex, Vec<threshold::Partial>), String> {
        let finding = |reason: String| format!("custodian {}: {reason}", given.index);
        let index = ShareIndex::new(given.index).map_err(|error| finding(error.to_string()))?;
        let member = [false, true]
            .into_iter()
            .filter_map(|standby| self.version.committee.member(Slot { index, standby }))
            .find(|member| member.key == given.custodian)
            .ok_or_else(|| finding(format!("{} does not hold that share", given.custodian)))?;
        let sealed = SealedPartials {
            sealed: given.sealed.0.clone(),
            signature: signature(&given.signature),
        };
        let partials = recipient
            .open_partials(&member.key, &self.sharing, index, hash, count, &sealed)
            .map_err(|error| finding(error.to_string()))?;
        Ok((index, partials))
    }
}

/// Whether an entry of the ledger enrols that worker at `now`.
fn is_enrolled(entry: Option<&EnrolmentEntry>, worker: &Principal, now: TimestampMs) -> bool {
    entry.is_some_and(|entry| {
        let enrolment = &entry.enrolment;
        entry.is_active(now) && enrolment.role == Role::Worker && enrolment.key == *worker
    })
}

/// A signature as it came; one of another length verifies nowhere.
fn signature(bytes: &Base64Url) -> Signature {
    Signature(<[u8; 64]>::try_from(bytes.0.as_slice()).unwrap_or([0; 64]))
}

/// Whether another request, signed anew, may be answered.
fn may_pass(error: &Error) -> bool {
    match error.custody_reason() {
        Some(reason) => {
            let known = reason.parse::<custody::Reason>();
            // A worker's own words (unreachable, timeout, ...) are no custodian's reason; those may pass.
            known.map_or(error.code() == Some(Code::NotEnoughCustodians), |reason| {
                reason.retry()
            })
        }
        None => matches!(
            error.code(),
            Some(Code::NotEnoughCustodians | Code::Unavailable | Code::TooManyRequests)
        ),
    }
}

/// The same failure for every place.
fn fail(out: &mut [Option<Result<Secret<32>>>], places: &[usize], error: Error) {
    let mut error = Some(error);
    for at in places {
        let Some(slot) = out.get_mut(*at) else {
            continue;
        };
        let this = match error.take() {
            Some(first) => {
                error = Some(again(&first));
                first
            }
            None => continue,
        };
        *slot = Some(Err(this));
    }
}

/// The same failure for another ciphertext of the batch.
fn again(error: &Error) -> Error {
    match error {
        Error::Refused(problem) => Error::Refused(problem.clone()),
        Error::NoNamedKey(text) => Error::NoNamedKey(text.clone()),
        Error::Unreachable { endpoint, reason } => Error::Unreachable {
            endpoint: endpoint.clone(),
            reason: reason.clone(),
        },
        Error::Timeout { what, after } => Error::Timeout {
            what,
            after: *after,
        },
        Error::Integrity { what, reason } => Error::Integrity {
            what: what.clone(),
            reason: reason.clone(),
        },
        Error::Custodians { what, findings } => Error::Custodians {
            what: what.clone(),
            findings: findings.clone(),
        },
        Error::Protocol { what, reason } => Error::Protocol {
            what,
            reason: reason.clone(),
        },
        other => Error::Internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
