//! Bucket key records: a writer's key for a bucket, in wraps, with the writer's signed commitment to it.
//!
//! Wraps come and go (a holder is added, a named key rotates), so they are outside the signature. The commitment is
//! inside: HPKE in base mode does not say who sealed, so without it whoever stores the record could put in a wrap of a
//! key of their own, and the writer, coming back to a machine without its local state, would encrypt under it.

use crypto::identity::SignatureError;
use crypto::wrap::{
    BucketKey, BucketKeyCommitment, UnwrapError, UnwrapWith, Wrap, WrapContext, WrapTo,
};
use crypto::{Identity, Label};
use domain::limits::{RECORD_BYTES_MAX, WRAPS_MAX};
use domain::{BucketId, BucketKeyId, DeploymentId, Principal, TimestampMs};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid, is_zero};
use crate::signed::{Content, Signed};
use crate::wraps::{self, WireWrap};

/// What the writer says about a bucket key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketKeyStatement {
    /// Its id.
    pub id: BucketKeyId,
    /// Its bucket.
    pub bucket: BucketId,
    /// Who drew it and encrypts under it.
    pub writer: Principal,
    /// When; it is used for new versions for at most 24 hours.
    pub created: TimestampMs,
    /// The bucket's key generation then; used for new versions only while it is the bucket's.
    pub generation: u64,
    /// Which key it is.
    pub commitment: BucketKeyCommitment,
}

/// A bucket key record: the signed statement and the wraps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketKeyRecord {
    statement: Signed<BucketKeyStatement>,
    wraps: Vec<Wrap>,
}

/// Why a bucket key was not made or had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketKeyError {
    /// Not signed by its writer in this deployment.
    #[error("the bucket key record is not signed by its writer")]
    Signature(#[from] SignatureError),
    /// None of the wraps opens, or what it opens to is another key.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// No holder, or too many.
    #[error("a bucket key has 1 to {WRAPS_MAX} wraps")]
    Wraps,
}

impl BucketKeyRecord {
    /// Wraps `key` to each of `holders` and signs for it.
    ///
    /// # Errors
    /// [`BucketKeyError::Wraps`] for none or more than 64 holders, [`BucketKeyError::Unwrap`] when a passphrase cannot be
    /// stretched for lack of memory.
    pub fn create(
        rng: &mut dyn CryptoRng,
        writer: &Identity,
        deployment: &DeploymentId,
        key: &BucketKey,
        created: TimestampMs,
        generation: u64,
        holders: &[&dyn WrapTo],
    ) -> Result<Self, BucketKeyError> {
        if holders.is_empty() || holders.len() > WRAPS_MAX {
            return Err(BucketKeyError::Wraps);
        }
        let context = WrapContext::BucketKey {
            bucket: key.bucket,
            key: key.id,
        };
        let mut wraps = Vec::with_capacity(holders.len());
        for holder in holders {
            let wrap = holder.wrap(rng, deployment, &context, key.danger_key());
            wraps.push(wrap.map_err(UnwrapError::from)?);
        }
        let statement = BucketKeyStatement {
            id: key.id,
            bucket: key.bucket,
            writer: writer.principal(),
            created,
            generation,
            commitment: key.commitment(),
        };
        Ok(Self {
            statement: Signed::sign(writer, deployment, statement),
            wraps,
        })
    }

    /// The signed statement; verified by [`BucketKeyRecord::verify`] or [`BucketKeyRecord::unwrap_key`].
    #[must_use]
    pub fn statement(&self) -> &Signed<BucketKeyStatement> {
        &self.statement
    }

    /// The wraps.
    #[must_use]
    pub fn wraps(&self) -> &[Wrap] {
        &self.wraps
    }

    /// The same statement with other wraps: a holder was added or removed.
    ///
    /// # Errors
    /// [`BucketKeyError::Wraps`].
    pub fn with_wraps(mut self, wraps: Vec<Wrap>) -> Result<Self, BucketKeyError> {
        if wraps.is_empty() || wraps.len() > WRAPS_MAX {
            return Err(BucketKeyError::Wraps);
        }
        self.wraps = wraps;
        Ok(self)
    }

    /// Checks the writer's signature.
    ///
    /// # Errors
    /// [`BucketKeyError::Signature`].
    pub fn verify(&self, deployment: &DeploymentId) -> Result<(), BucketKeyError> {
        Ok(self.statement.verify_signature(deployment)?)
    }

    /// Checks the signature, unwraps the key with what `holder` has, and checks that it is the one committed to.
    ///
    /// # Errors
    /// [`BucketKeyError`].
    pub fn unwrap_key(
        &self,
        deployment: &DeploymentId,
        holder: &dyn UnwrapWith,
    ) -> Result<BucketKey, BucketKeyError> {
        self.verify(deployment)?;
        let (id, bucket) = (self.statement.id, self.statement.bucket);
        let context = WrapContext::BucketKey { bucket, key: id };
        let secret = holder.unwrap_key(deployment, &context, &self.wraps)?;
        let key = BucketKey::new(id, bucket, secret, *deployment);
        if key.commitment() != self.statement.commitment {
            return Err(UnwrapError::Commitment(id).into());
        }
        Ok(key)
    }

    /// Deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            statement: self.statement.encode(),
            wraps: wraps::to_wire(&self.wraps),
        })
    }

    /// Reads strictly; checks no signature.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        let statement = Signed::decode(&wire.statement)?;
        let wraps = wraps::from_wire::<Wire>(&wire.wraps)?;
        if wraps.is_empty() {
            return Err(invalid::<Wire>("a bucket key without a wrap is lost"));
        }
        Ok(Self { statement, wraps })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    #[serde(with = "serde_bytes")]
    statement: Vec<u8>,
    wraps: Vec<WireWrap>,
}

impl Typed for Wire {
    const TYPE: &'static str = "bucket-key";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
}

impl Content for BucketKeyStatement {
    const LABEL: Label = Label::BUCKET_KEY;

    fn author(&self) -> Principal {
        self.writer
    }

    fn encode(&self) -> Vec<u8> {
        codec::encode(&WireStatement {
            kind: TypeName::new(),
            v: V1,
            id: self.id,
            bucket: self.bucket,
            writer: self.writer,
            created: self.created,
            generation: self.generation,
            commitment: self.commitment.0,
        })
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let wire: WireStatement = codec::decode(body)?;
        Ok(Self {
            id: wire.id,
            bucket: wire.bucket,
            writer: wire.writer,
            created: wire.created,
            generation: wire.generation,
            commitment: BucketKeyCommitment(wire.commitment),
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireStatement {
    #[serde(rename = "type")]
    kind: TypeName<WireStatement>,
    v: V1,
    id: BucketKeyId,
    bucket: BucketId,
    writer: Principal,
    created: TimestampMs,
    #[serde(default, skip_serializing_if = "is_zero")]
    generation: u64,
    #[serde(with = "serde_bytes")]
    commitment: [u8; 32],
}

impl Typed for WireStatement {
    const TYPE: &'static str = "bucket-key-statement";
    const BYTES_MAX: usize = 1_024;
}
