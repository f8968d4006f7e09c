//! Headers, finality certificates and fresh answers: all that an enclave or a light client needs to know what is final.
//!
//! Signatures are plain Ed25519, so nothing here links an engine's consensus code. This module and [`crate::merkle::proof`] are
//! the whole of a verifier.

use crypto::Identity;
use crypto::identity::{Signature, verify};
use domain::{DeploymentId, GenesisHash, HeaderHash, Height, MerkleRoot, Principal, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::labels;
use crate::record::{Record as _, record};

/// Validators, at most.
pub const VALIDATORS_MAX: usize = 128;

record! {
    /// What a block comes to.
    Header = "ledger-header", 1_024;
    /// The ledger.
    genesis: GenesisHash,
    /// The block's place.
    height: Height,
    /// Never before the previous header's.
    time: TimestampMs,
    /// The header before; zeros at height 0.
    previous: HeaderHash,
    /// The state after the block ([`crate::merkle::proof`]).
    state_root: MerkleRoot,
    /// The block's transactions ([`crate::merkle::list`]).
    transactions_root: MerkleRoot,
    /// Their receipts, likewise.
    receipts_root: MerkleRoot,
    /// [`ValidatorSet::hash`] of who signs the next header.
    next_validators: MerkleRoot,
}

impl Header {
    /// BLAKE3 of label, deployment id and the record.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> HeaderHash {
        HeaderHash(labels::hash(labels::HEADER, deployment, &self.encode()))
    }

    fn finality(&self, deployment: &DeploymentId) -> Finality {
        Finality {
            genesis: self.genesis,
            height: self.height,
            header: self.hash(deployment),
            next_validators: self.next_validators,
        }
    }
}

record! {
    /// What a validator signs to make a header final.
    Finality = "ledger-finality", 512;
    /// The ledger.
    genesis: GenesisHash,
    /// The header's height.
    height: Height,
    /// The header.
    header: HeaderHash,
    /// Who signs the next one.
    next_validators: MerkleRoot,
}

record! {
    /// What a validator signs to say, now, which header is its newest.
    Freshness = "ledger-freshness", 512;
    /// The ledger.
    genesis: GenesisHash,
    /// Random, from whoever asks.
    #[serde(with = "serde_bytes")]
    nonce: [u8; 32],
    /// The newest final height.
    height: Height,
    /// Its header.
    header: HeaderHash,
}

record! {
    /// Signatures of validators over a [`Finality`].
    Certificate = "ledger-certificate", 32_768;
    /// Ascending by validator, each once.
    signatures: Vec<ValidatorSignature>,
}

record! {
    /// A signed [`Freshness`].
    FreshAnswer = "ledger-fresh-answer", 1_024;
    /// The nonce that was asked with.
    #[serde(with = "serde_bytes")]
    nonce: [u8; 32],
    /// The validator's newest final height.
    height: Height,
    /// Its header.
    header: HeaderHash,
    /// The validator's signature.
    signature: ValidatorSignature,
}

/// One validator's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidatorSignature {
    /// Whose.
    pub validator: Principal,
    /// Ed25519.
    pub signature: Signature,
}

/// Who signs headers: 1 to 128 keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ValidatorSet(Vec<Principal>);

/// Why a validator set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a validator set has 1 to {VALIDATORS_MAX} keys, ascending, each once")]
pub struct ValidatorSetError;

impl ValidatorSet {
    /// Sorts the keys.
    ///
    /// # Errors
    /// [`ValidatorSetError`] for none, too many, or one that is given twice.
    pub fn new(mut keys: Vec<Principal>) -> Result<Self, ValidatorSetError> {
        keys.sort_unstable();
        if keys.is_empty() || keys.len() > VALIDATORS_MAX || !keys.is_sorted_by(|a, b| a < b) {
            return Err(ValidatorSetError);
        }
        Ok(Self(keys))
    }

    /// The keys, ascending.
    #[must_use]
    pub fn keys(&self) -> &[Principal] {
        &self.0
    }

    /// Signatures that make a header final: more than two thirds of the validators.
    #[must_use]
    pub fn quorum(&self) -> usize {
        self.0.len() - (self.0.len() - 1) / 3
    }

    /// What a header says of the next set.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> MerkleRoot {
        let keys: Vec<u8> = self.0.iter().flat_map(|key| key.0).collect();
        MerkleRoot(labels::hash(labels::VALIDATORS, deployment, &keys))
    }

    fn contains(&self, key: &Principal) -> bool {
        self.0.binary_search(key).is_ok()
    }
}

impl<'de> Deserialize<'de> for ValidatorSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let keys = Vec::<Principal>::deserialize(deserializer)?;
        if !keys.is_sorted_by(|a, b| a < b) {
            return Err(serde::de::Error::custom(ValidatorSetError));
        }
        Self::new(keys).map_err(serde::de::Error::custom)
    }
}

/// Signs a header as a validator.
#[must_use]
pub fn sign_header(
    validator: &Identity,
    deployment: &DeploymentId,
    header: &Header,
) -> ValidatorSignature {
    let body = header.finality(deployment).encode();
    ValidatorSignature {
        validator: validator.principal(),
        signature: validator.sign(labels::FINALITY, deployment, &body),
    }
}

/// Says as a validator, to whoever sent `nonce`, that `header` is the newest.
#[must_use]
pub fn sign_freshness(
    validator: &Identity,
    deployment: &DeploymentId,
    header: &Header,
    nonce: [u8; 32],
) -> FreshAnswer {
    let hash = header.hash(deployment);
    let body = Freshness {
        genesis: header.genesis,
        nonce,
        height: header.height,
        header: hash,
    }
    .encode();
    FreshAnswer {
        nonce,
        height: header.height,
        header: hash,
        signature: ValidatorSignature {
            validator: validator.principal(),
            signature: validator.sign(labels::FRESHNESS, deployment, &body),
        },
    }
}

/// Why a header or a fresh answer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Of another ledger.
    #[error("the header is of ledger {got}, not of {expected}")]
    AnotherLedger {
        /// The pinned one.
        expected: GenesisHash,
        /// The header's.
        got: GenesisHash,
    },
    /// Too few signatures.
    #[error("{got} validators signed, {needed} must")]
    TooFewSignatures {
        /// Distinct validators that signed.
        got: usize,
        /// The quorum.
        needed: usize,
    },
    /// Signatures out of order, or one validator's twice.
    #[error("signatures stand in ascending order of validators, each once")]
    Order,
    /// Signed by somebody who is no validator.
    #[error("{0} is no validator")]
    NoValidator(Principal),
    /// A signature that does not fit.
    #[error("the signature of validator {0} does not fit")]
    Signature(Principal),
    /// Older than what is known.
    #[error("height {got} is not above {known}, which is known")]
    NotNewer {
        /// The newest known height.
        known: Height,
        /// The header's.
        got: Height,
    },
    /// Time runs backwards.
    #[error("the header's time is before that of a lower one")]
    Time,
    /// Another header at a height that is known: its validators are equivocating.
    #[error("two final headers at height {0}: validators are equivocating")]
    Equivocation(Height),
    /// The next header does not name the one known as the one before.
    #[error("the header does not continue the one before")]
    NotLinked,
    /// The validators change here and the next set was not given, or another one.
    #[error("the validators change at height {0}: the next set is needed")]
    NextValidators(Height),
    /// A fresh answer to another question.
    #[error("an answer to another nonce")]
    Nonce,
    /// A quorum said that this height is final; the header is older.
    #[error("height {got} is stale: {needed} is known to be final")]
    Stale {
        /// What validators said is final.
        needed: Height,
        /// The header's.
        got: Height,
    },
}

/// Checks a certificate: at least a quorum of `validators`, each signature good, nobody else's.
///
/// # Errors
/// [`HeaderError`].
pub fn verify_certificate(
    deployment: &DeploymentId,
    validators: &ValidatorSet,
    header: &Header,
    certificate: &Certificate,
) -> Result<(), HeaderError> {
    let signatures = &certificate.signatures;
    if !signatures.is_sorted_by(|a, b| a.validator < b.validator) {
        return Err(HeaderError::Order);
    }
    if signatures.len() < validators.quorum() {
        return Err(HeaderError::TooFewSignatures {
            got: signatures.len(),
            needed: validators.quorum(),
        });
    }
    let body = header.finality(deployment).encode();
    for one in signatures {
        if !validators.contains(&one.validator) {
            return Err(HeaderError::NoValidator(one.validator));
        }
        verify(
            &one.validator,
            labels::FINALITY,
            deployment,
            &body,
            &one.signature,
        )
        .map_err(|_| HeaderError::Signature(one.validator))?;
    }
    Ok(())
}

/// What an enclave keeps of the ledger: who signs, and the newest header that it has checked. Starts from a pinned
/// genesis and only ever goes forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LightClient {
    deployment: DeploymentId,
    genesis: GenesisHash,
    validators: ValidatorSet,
    newest: Option<Header>,
    /// The highest height that a quorum said, in answer to a nonce of ours, is final.
    fresh: Height,
}

impl LightClient {
    /// From a genesis record whose hash the caller has pinned.
    #[must_use]
    pub fn new(genesis: &crate::Genesis) -> Self {
        Self {
            deployment: genesis.deployment,
            genesis: genesis.hash(),
            validators: genesis.validators.clone(),
            newest: None,
            fresh: Height(0),
        }
    }

    /// The newest checked header.
    #[must_use]
    pub fn newest(&self) -> Option<&Header> {
        self.newest.as_ref()
    }

    /// The highest height known to be final by a quorum's fresh answers.
    #[must_use]
    pub fn fresh_height(&self) -> Height {
        self.fresh
    }

    /// Who signs the next header.
    #[must_use]
    pub fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// Takes a header if a quorum signed it and it does not contradict what is known; the same one again changes
    /// nothing. When `header` changes the validators, `next` must be the set that it names.
    ///
    /// # Errors
    /// [`HeaderError`]; nothing is taken then.
    pub fn advance(
        &mut self,
        header: &Header,
        certificate: &Certificate,
        next: Option<&ValidatorSet>,
    ) -> Result<(), HeaderError> {
        if header.genesis != self.genesis {
            return Err(HeaderError::AnotherLedger {
                expected: self.genesis,
                got: header.genesis,
            });
        }
        if self.newest.as_ref() == Some(header) {
            return Ok(());
        }
        verify_certificate(&self.deployment, &self.validators, header, certificate)?;
        if let Some(known) = &self.newest {
            if header.height == known.height {
                return Err(HeaderError::Equivocation(header.height));
            }
            if header.height < known.height {
                return Err(HeaderError::NotNewer {
                    known: known.height,
                    got: header.height,
                });
            }
            if header.time < known.time {
                return Err(HeaderError::Time);
            }
            let follows = known.height.0.checked_add(1) == Some(header.height.0);
            if follows && header.previous != known.hash(&self.deployment) {
                return Err(HeaderError::NotLinked);
            }
        }
        if header.next_validators != self.validators.hash(&self.deployment) {
            match next {
                Some(set) if set.hash(&self.deployment) == header.next_validators => {
                    self.validators = set.clone();
                }
                _ => return Err(HeaderError::NextValidators(header.height)),
            }
        }
        self.newest = Some(header.clone());
        Ok(())
    }

    /// Takes a header that proofs were made against: goes forward with a newer one, and accepts an older one too as long as a quorum
    /// signed it and it is not below what validators said is final. For requests whose proofs were fetched while blocks went on.
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn admit(
        &mut self,
        header: &Header,
        certificate: &Certificate,
        next: Option<&ValidatorSet>,
    ) -> Result<(), HeaderError> {
        self.expect_fresh(header)?;
        if self
            .newest
            .as_ref()
            .is_none_or(|known| header.height >= known.height)
        {
            return self.advance(header, certificate, next);
        }
        if header.genesis != self.genesis {
            return Err(HeaderError::AnotherLedger {
                expected: self.genesis,
                got: header.genesis,
            });
        }
        verify_certificate(&self.deployment, &self.validators, header, certificate)
    }

    /// Takes validators' answers to `nonce`: the highest height that a quorum has reached is final. Returns it.
    ///
    /// # Errors
    /// [`HeaderError`] when an answer is not good or too few are; nothing is taken then.
    pub fn freshen(
        &mut self,
        nonce: &[u8; 32],
        answers: &[FreshAnswer],
    ) -> Result<Height, HeaderError> {
        let height = self.check_fresh(nonce, answers)?;
        self.require(height);
        Ok(self.fresh)
    }

    /// Admits nothing below `height` from now on, if it did.
    pub fn require(&mut self, height: Height) {
        self.fresh = self.fresh.max(height);
    }

    /// What [`LightClient::freshen`] checks, without taking it: for those who ask before they demand.
    ///
    /// # Errors
    /// [`HeaderError`] when an answer is not good or too few are.
    pub fn check_fresh(
        &self,
        nonce: &[u8; 32],
        answers: &[FreshAnswer],
    ) -> Result<Height, HeaderError> {
        if !answers.is_sorted_by(|a, b| a.signature.validator < b.signature.validator) {
            return Err(HeaderError::Order);
        }
        let needed = self.validators.quorum();
        let mut heights = Vec::with_capacity(answers.len().min(VALIDATORS_MAX));
        for answer in answers {
            let validator = answer.signature.validator;
            if answer.nonce != *nonce {
                return Err(HeaderError::Nonce);
            }
            if !self.validators.contains(&validator) {
                return Err(HeaderError::NoValidator(validator));
            }
            let body = Freshness {
                genesis: self.genesis,
                nonce: *nonce,
                height: answer.height,
                header: answer.header,
            }
            .encode();
            verify(
                &validator,
                labels::FRESHNESS,
                &self.deployment,
                &body,
                &answer.signature.signature,
            )
            .map_err(|_| HeaderError::Signature(validator))?;
            heights.push(answer.height);
        }
        // The height that a quorum has reached: the lowest of the `needed` highest answers.
        heights.sort_unstable_by(|a, b| b.cmp(a));
        let got = heights.len();
        needed
            .checked_sub(1)
            .and_then(|index| heights.get(index))
            .copied()
            .ok_or(HeaderError::TooFewSignatures { got, needed })
    }

    /// Whether `header` is at least as new as what validators said is final.
    ///
    /// # Errors
    /// [`HeaderError::Stale`].
    pub fn expect_fresh(&self, header: &Header) -> Result<(), HeaderError> {
        if header.height < self.fresh {
            return Err(HeaderError::Stale {
                needed: self.fresh,
                got: header.height,
            });
        }
        Ok(())
    }
}
