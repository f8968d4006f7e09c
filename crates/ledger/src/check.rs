//! What can be said of a transaction without the state: size, form, chain, signatures. Runs on any thread.

use domain::{DeploymentId, GenesisHash, KeyId, TransactionHash};
use sealed::Bucket;
use sealed::bucket::{BucketError, VerifiedBucket};
use sealed::signed::Signed;

use crate::genesis::{Genesis, Limits};
use crate::records::{KeyCreation, KeyGrant};
use crate::rejection::Rejection;
use crate::transaction::{Action, SignedTransaction, TRANSACTION_BYTES_MAX, transaction_hash};

/// What identifies a ledger to whoever checks transactions for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The genesis.
    pub genesis: GenesisHash,
    /// Bounds.
    pub limits: Limits,
}

impl From<&Genesis> for Chain {
    fn from(genesis: &Genesis) -> Self {
        Self {
            deployment: genesis.deployment,
            genesis: genesis.hash(),
            limits: genesis.limits,
        }
    }
}

/// A transaction of this ledger with good form and signatures: its sender's, and those of records that it brings. Whether the state
/// allows it is another question.
#[derive(Clone, Debug)]
pub struct Checked {
    transaction: SignedTransaction,
    bytes: Vec<u8>,
    hash: TransactionHash,
    pub(crate) brought: Brought,
}

/// A record that a transaction brings, with its author's signature verified.
#[derive(Clone, Debug)]
pub(crate) enum Brought {
    Nothing,
    Creation(KeyId, Box<Signed<KeyCreation>>),
    Grant(Box<Signed<KeyGrant>>),
    Bucket(Box<VerifiedBucket>),
}

impl Checked {
    /// What was signed.
    #[must_use]
    pub fn transaction(&self) -> &SignedTransaction {
        &self.transaction
    }

    /// As it came.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its name.
    #[must_use]
    pub fn hash(&self) -> TransactionHash {
        self.hash
    }
}

/// Checks size, form, chain and signatures.
///
/// # Errors
/// [`Rejection`]: `too-large`, `malformed`, `wrong-chain`, `bad-signature`, `bad-record-signature`.
pub fn check(chain: &Chain, bytes: &[u8]) -> Result<Checked, Rejection> {
    check_with(chain, bytes, true)
}

/// Like [`check()`], without verifying the signatures of sender, creation and grant: for bytes that this very machine has checked
/// before, and that a header with a good certificate binds, as when a log is read again. Anything else must go through
/// [`check()`].
///
/// # Errors
/// [`Rejection`].
pub fn danger_check_again(chain: &Chain, bytes: &[u8]) -> Result<Checked, Rejection> {
    check_with(chain, bytes, false)
}

fn check_with(chain: &Chain, bytes: &[u8], signatures: bool) -> Result<Checked, Rejection> {
    let max = usize::try_from(chain.limits.transaction_bytes)
        .unwrap_or(usize::MAX)
        .min(TRANSACTION_BYTES_MAX);
    if bytes.len() > max {
        return Err(Rejection::TooLarge {
            len: bytes.len(),
            max,
        });
    }
    let transaction = SignedTransaction::decode(bytes).map_err(malformed)?;
    if transaction.chain != chain.genesis {
        return Err(Rejection::WrongChain);
    }
    if signatures {
        transaction
            .verify_signature(&chain.deployment)
            .map_err(|_| Rejection::BadSignature)?;
    }
    let brought = match &transaction.action {
        Action::CreateKey(create) => {
            let creation = verified::<KeyCreation>(chain, &create.creation, signatures)?;
            if creation.scheme != 1 {
                return Err(Rejection::Malformed("only scheme 1 is known".to_owned()));
            }
            Brought::Creation(creation.key_id(&chain.deployment), Box::new(creation))
        }
        Action::GrantKey(grant) => Brought::Grant(Box::new(verified::<KeyGrant>(
            chain,
            &grant.record,
            signatures,
        )?)),
        Action::RegisterBucket(bucket) => {
            let record = Signed::<Bucket>::decode(&bucket.record).map_err(malformed)?;
            let owner = record.owner;
            let verified = record
                .verify(&chain.deployment)
                .map_err(|error| match error {
                    BucketError::Signature(_) => Rejection::BadRecordSignature(owner),
                    other => malformed(other),
                })?;
            Brought::Bucket(Box::new(verified))
        }
        _ => Brought::Nothing,
    };
    let hash = transaction_hash(&chain.deployment, &transaction);
    Ok(Checked {
        transaction,
        bytes: bytes.to_vec(),
        hash,
        brought,
    })
}

fn verified<T: sealed::signed::Content>(
    chain: &Chain,
    bytes: &[u8],
    signatures: bool,
) -> Result<Signed<T>, Rejection> {
    let record = Signed::<T>::decode(bytes).map_err(malformed)?;
    if signatures {
        record
            .verify_signature(&chain.deployment)
            .map_err(|_| Rejection::BadRecordSignature(record.author()))?;
    }
    Ok(record)
}

pub(crate) fn malformed(error: impl std::fmt::Display) -> Rejection {
    Rejection::Malformed(error.to_string())
}
