//! Wraps: a DEK under a bucket key, and a bucket key (or, later, a single DEK) under what its readers hold.
//!
//! A DEK takes a 16-byte salt and 40 bytes of AES-256 key wrap (RFC 3394, NIST SP 800-38F), so thousands of objects
//! share one expensive unwrap of their bucket key. A bucket key is wrapped to each kind of holder through one port,
//! [`WrapTo`] and [`UnwrapWith`]; named keys are in [`named_key`], link keys will come in under the kind reserved here.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use domain::{BucketId, BucketKeyId, DeploymentId, EnvelopeId, Principal, VersionId};
use rand_core::CryptoRng;

use crate::context::{ContextHash, EncryptionContext};
use crate::dek::Dek;
use crate::hybrid;
use crate::identity::{Identity, ReceiverKey};
use crate::kdf::hkdf;
use crate::label::Label;
use crate::passphrase::{OutOfMemory, PARAMS_BYTES, PassphraseParams, PassphraseParamsError};
use crate::sealed_box::{gcm_key, open_once, seal_once};
use crate::secret::Secret;

pub mod named_key;

pub use named_key::{NamedKeyWrap, ReleasedKey};

/// Bytes of a wrapped DEK: salt (16) and AES-256 key wrap (40).
pub const WRAPPED_DEK_BYTES: usize = 56;
/// Bytes of one wrap's data, at most.
pub const WRAP_DATA_BYTES_MAX: usize = 8_192;

/// A writer's key for one bucket, used for at most 24 hours; wraps DEKs.
#[derive(Debug)]
pub struct BucketKey {
    /// Its id.
    pub id: BucketKeyId,
    /// Its bucket.
    pub bucket: BucketId,
    key: Secret<32>,
    deployment: DeploymentId,
}

/// Why a DEK or a bucket key was not unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// The wrapped DEK does not open under this bucket key for this bucket and version.
    #[error("the wrapped key does not open: another bucket key, bucket or version, or altered")]
    Dek,
    /// The unwrapped bucket key is not the one that its writer committed to.
    #[error("bucket key {0} is not the one that its writer committed to")]
    Commitment(BucketKeyId),
    /// None of the wraps is for this holder.
    #[error("none of the wraps is for {0}")]
    NotForMe(String),
    /// A wrap is for this holder and does not open.
    #[error("the wrap for {0} does not open: wrong passphrase, another key, or altered")]
    Refused(String),
    /// A wrap whose data is not of its kind's form.
    #[error("malformed wrap of kind {0}")]
    Malformed(u64),
    /// Costs out of bounds in a passphrase wrap.
    #[error(transparent)]
    Params(#[from] PassphraseParamsError),
    /// Argon2id's memory could not be had.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Says which bucket key a record is about: HKDF-SHA-256 under its own label. Its writer signs it, so a wrap that was
/// replaced by one of another key is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketKeyCommitment(pub [u8; 32]);

/// A DEK under a bucket key: salt and AES key wrap.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct WrappedDek(pub [u8; WRAPPED_DEK_BYTES]);

impl std::fmt::Debug for WrappedDek {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WrappedDek({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl BucketKey {
    /// Draws a key and its id.
    #[must_use]
    pub fn random(rng: &mut dyn CryptoRng, deployment: DeploymentId, bucket: BucketId) -> Self {
        let mut id = [0; BucketKeyId::LEN];
        rng.fill_bytes(&mut id);
        Self::new(BucketKeyId(id), bucket, Secret::random(rng), deployment)
    }

    /// From a key that was unwrapped or kept in sealed local state.
    #[must_use]
    pub fn new(
        id: BucketKeyId,
        bucket: BucketId,
        key: Secret<32>,
        deployment: DeploymentId,
    ) -> Self {
        Self {
            id,
            bucket,
            key,
            deployment,
        }
    }

    /// The key itself, for wrapping and for sealed local state.
    #[must_use]
    pub fn danger_key(&self) -> &Secret<32> {
        &self.key
    }

    /// HKDF(key, info = label, deployment, bucket id, key id).
    #[must_use]
    pub fn commitment(&self) -> BucketKeyCommitment {
        let mut body = Vec::with_capacity(BucketId::LEN + BucketKeyId::LEN);
        body.extend_from_slice(self.bucket.as_bytes());
        body.extend_from_slice(self.id.as_bytes());
        let info = Label::BUCKET_KEY_COMMITMENT.message(&self.deployment, &body);
        let derived: Secret<32> = hkdf(self.key.expose(), &[], &info);
        BucketKeyCommitment(*derived.expose())
    }

    /// Wraps a DEK for one version of an object in this bucket.
    #[must_use]
    pub fn wrap_dek(&self, rng: &mut dyn CryptoRng, version: &VersionId, dek: &Dek) -> WrappedDek {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        self.danger_wrap_dek_with_salt(salt, version, dek)
    }

    /// [`BucketKey::wrap_dek`] under a given salt: for test vectors.
    #[must_use]
    pub fn danger_wrap_dek_with_salt(
        &self,
        salt: [u8; 16],
        version: &VersionId,
        dek: &Dek,
    ) -> WrappedDek {
        let mut out = [0; WRAPPED_DEK_BYTES];
        let (head, body) = out.split_at_mut(16);
        head.copy_from_slice(&salt);
        self.kek(&salt, version)
            .wrap(dek.danger_key().expose(), body)
            .expect("AES key wrap takes 32 bytes and gives 40");
        WrappedDek(out)
    }

    /// Unwraps a DEK. Which DEK it must be is then decided by the commitment in the object's manifest.
    ///
    /// # Errors
    /// [`UnwrapError::Dek`].
    pub fn unwrap_dek(
        &self,
        version: &VersionId,
        wrapped: &WrappedDek,
    ) -> Result<Dek, UnwrapError> {
        let (salt, body) = wrapped
            .0
            .split_first_chunk::<16>()
            .ok_or(UnwrapError::Dek)?;
        let mut key = Secret::<32>::zeroed();
        self.kek(salt, version)
            .unwrap(body, key.expose_mut())
            .map_err(|_| UnwrapError::Dek)?;
        Ok(Dek::new(key, self.deployment))
    }

    fn kek(&self, salt: &[u8; 16], version: &VersionId) -> AesKek {
        let mut body = Vec::with_capacity(BucketId::LEN + VersionId::LEN);
        body.extend_from_slice(self.bucket.as_bytes());
        body.extend_from_slice(version.as_bytes());
        let info = Label::DEK_WRAP.message(&self.deployment, &body);
        let kek: Secret<32> = hkdf(self.key.expose(), salt, &info);
        aes_kek(&kek)
    }
}

fn aes_kek(key: &Secret<32>) -> AesKek {
    AesKek::new(&AES_256, key.expose()).expect("AES-256 takes 32 bytes")
}

/// What a wrapped key is, bound into the wrap: so a wrap cannot be moved to another key's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrapContext {
    /// A bucket key.
    BucketKey {
        /// Its bucket.
        bucket: BucketId,
        /// Its id.
        key: BucketKeyId,
    },
    /// The DEK of one version.
    Dek {
        /// The bucket.
        bucket: BucketId,
        /// The version.
        version: VersionId,
    },
    /// The DEK of an envelope.
    Envelope {
        /// The envelope's encryption context.
        context: ContextHash,
        /// The envelope.
        envelope: EnvelopeId,
    },
}

impl WrapContext {
    /// `01 <bucket id> <bucket key id>`, `02 <bucket id> <version id>` or `03 <context hash> <envelope id>`.
    #[must_use]
    pub fn encode(&self) -> [u8; 49] {
        let (kind, what, id) = match self {
            Self::BucketKey { bucket, key } => (1, bucket.as_bytes(), key.as_bytes()),
            Self::Dek { bucket, version } => (2, bucket.as_bytes(), version.as_bytes()),
            Self::Envelope { context, envelope } => (3, &context.0, envelope.as_bytes()),
        };
        let mut out = [kind; 49];
        let bytes = what.iter().chain(id);
        for (slot, byte) in out.iter_mut().skip(1).zip(bytes) {
            *slot = *byte;
        }
        out
    }

    /// What custodians are shown of a wrap to a named key, so that grants can be confined to a bucket; `None` for an
    /// envelope, whose own context stands in it.
    #[must_use]
    pub fn encryption_context(&self) -> Option<EncryptionContext> {
        let (bucket, what, id) = match self {
            Self::BucketKey { bucket, key } => (bucket, "bucket-key", key.to_string()),
            Self::Dek { bucket, version } => (bucket, "version", version.to_string()),
            Self::Envelope { .. } => return None,
        };
        let entries = [("bucket", bucket.to_string()), (what, id)];
        Some(EncryptionContext::reserved(entries))
    }

    /// The hash of what custodians are shown.
    #[must_use]
    pub fn context_hash(&self, deployment: &DeploymentId) -> ContextHash {
        if let Self::Envelope { context, .. } = self {
            return *context;
        }
        self.encryption_context()
            .unwrap_or_default()
            .hash(deployment)
    }
}

/// A key under something that a reader holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrap {
    /// To an identity's X-Wing key.
    Identity {
        /// Whose.
        receiver: Principal,
        /// HPKE: encapsulated key, ciphertext, tag.
        sealed: Vec<u8>,
    },
    /// Under a passphrase.
    Passphrase {
        /// Argon2id's costs and salt.
        params: PassphraseParams,
        /// Ciphertext and tag.
        sealed: [u8; 48],
    },
    /// To a named key.
    NamedKey(Box<NamedKeyWrap>),
    /// A kind that this version does not open, carried unchanged.
    Other {
        /// Its number.
        kind: u64,
        /// Its data.
        data: Vec<u8>,
    },
}

/// Numbers of the kinds in stored wraps.
pub mod kind {
    /// [`super::Wrap::Identity`].
    pub const IDENTITY: u64 = 1;
    /// [`super::Wrap::Passphrase`].
    pub const PASSPHRASE: u64 = 2;
    /// [`super::Wrap::NamedKey`].
    pub const NAMED_KEY: u64 = 3;
    /// Reserved: a link key.
    pub const LINK_KEY: u64 = 4;
    /// Reserved: a key that the S3 client brings with each request.
    pub const CUSTOMER_KEY: u64 = 5;
}

impl Wrap {
    /// The stored kind and data.
    #[must_use]
    pub fn to_parts(&self) -> (u64, Vec<u8>) {
        match self {
            Self::Identity { receiver, sealed } => (
                kind::IDENTITY,
                [receiver.as_bytes().as_slice(), sealed].concat(),
            ),
            Self::Passphrase { params, sealed } => (
                kind::PASSPHRASE,
                [params.encode().as_slice(), sealed].concat(),
            ),
            Self::NamedKey(wrap) => (kind::NAMED_KEY, wrap.to_bytes()),
            Self::Other { kind, data } => (*kind, data.clone()),
        }
    }

    /// Reads the stored form; kinds that are not known here are kept as [`Wrap::Other`].
    ///
    /// # Errors
    /// [`UnwrapError::Malformed`], [`UnwrapError::Params`].
    pub fn from_parts(kind: u64, data: &[u8]) -> Result<Self, UnwrapError> {
        let malformed = UnwrapError::Malformed(kind);
        if data.len() > WRAP_DATA_BYTES_MAX {
            return Err(malformed);
        }
        match kind {
            kind::IDENTITY => {
                let (receiver, sealed) = data.split_first_chunk::<32>().ok_or(malformed.clone())?;
                if sealed.len() != hybrid::OVERHEAD + 32 {
                    return Err(malformed);
                }
                Ok(Self::Identity {
                    receiver: Principal(*receiver),
                    sealed: sealed.to_vec(),
                })
            }
            kind::PASSPHRASE => {
                let (params, sealed) = data
                    .split_first_chunk::<PARAMS_BYTES>()
                    .ok_or(malformed.clone())?;
                let sealed = sealed.try_into().map_err(|_| malformed)?;
                Ok(Self::Passphrase {
                    params: PassphraseParams::decode(params)?,
                    sealed,
                })
            }
            kind::NAMED_KEY => NamedKeyWrap::from_bytes(data)
                .map(|wrap| Self::NamedKey(Box::new(wrap)))
                .ok_or(malformed),
            _ => Ok(Self::Other {
                kind,
                data: data.to_vec(),
            }),
        }
    }
}

/// The port through which a key is wrapped: whoever holds the counterpart can unwrap it.
pub trait WrapTo {
    /// Wraps `key` for `context` in `deployment`.
    ///
    /// # Errors
    /// [`OutOfMemory`] where a passphrase is stretched.
    fn wrap(
        &self,
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: &WrapContext,
        key: &Secret<32>,
    ) -> Result<Wrap, OutOfMemory>;
}

/// The port through which a key is unwrapped.
pub trait UnwrapWith {
    /// Opens the first of `wraps` that is for this holder.
    ///
    /// # Errors
    /// [`UnwrapError::NotForMe`] when there is none, [`UnwrapError::Refused`] when none that is opens.
    fn unwrap_key(
        &self,
        deployment: &DeploymentId,
        context: &WrapContext,
        wraps: &[Wrap],
    ) -> Result<Secret<32>, UnwrapError>;
}

impl WrapTo for ReceiverKey {
    fn wrap(
        &self,
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: &WrapContext,
        key: &Secret<32>,
    ) -> Result<Wrap, OutOfMemory> {
        let aad = context.encode();
        let sealed = self
            .public()
            .seal(rng, Label::WRAP_IDENTITY, deployment, &aad, key.expose());
        Ok(Wrap::Identity {
            receiver: self.principal(),
            sealed,
        })
    }
}

impl UnwrapWith for Identity {
    fn unwrap_key(
        &self,
        deployment: &DeploymentId,
        context: &WrapContext,
        wraps: &[Wrap],
    ) -> Result<Secret<32>, UnwrapError> {
        let me = self.principal();
        first_that_opens(wraps, &me.to_string(), |wrap| match wrap {
            Wrap::Identity { receiver, sealed } if *receiver == me => Some(
                self.open(Label::WRAP_IDENTITY, deployment, &context.encode(), sealed)
                    .ok()
                    .and_then(|key| Secret::from_slice(&key)),
            ),
            _ => None,
        })
    }
}

/// A passphrase as a holder of keys. Its bytes are used as they are.
pub struct Passphrase<'a> {
    /// The passphrase.
    pub bytes: &'a [u8],
    /// Costs of new wraps: memory in KiB, passes, lanes; the recommended ones where there are none or they are out of
    /// bounds.
    pub costs: Option<(u32, u32, u32)>,
}

impl std::fmt::Debug for Passphrase<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(redacted)")
    }
}

impl WrapTo for Passphrase<'_> {
    fn wrap(
        &self,
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: &WrapContext,
        key: &Secret<32>,
    ) -> Result<Wrap, OutOfMemory> {
        let mut salt = [0; 16];
        rng.fill_bytes(&mut salt);
        let recommended = PassphraseParams::recommended(salt);
        let params = self
            .costs
            .and_then(|(memory, passes, lanes)| {
                PassphraseParams::new(memory, passes, lanes, salt).ok()
            })
            .unwrap_or(recommended);
        let one_use = gcm_key(&params.derive(self.bytes, &passphrase_info(deployment))?);
        let mut body = key.expose().to_vec();
        seal_once(&one_use, &context.encode(), &mut body);
        let sealed = body
            .as_slice()
            .try_into()
            .expect("a key of 32 bytes seals to 48");
        Ok(Wrap::Passphrase { params, sealed })
    }
}

impl UnwrapWith for Passphrase<'_> {
    fn unwrap_key(
        &self,
        deployment: &DeploymentId,
        context: &WrapContext,
        wraps: &[Wrap],
    ) -> Result<Secret<32>, UnwrapError> {
        let mut out_of_memory = None;
        let result = first_that_opens(wraps, "a passphrase", |wrap| match wrap {
            Wrap::Passphrase { params, sealed } => {
                match params.derive(self.bytes, &passphrase_info(deployment)) {
                    Ok(key) => Some(
                        open_once(&gcm_key(&key), &context.encode(), sealed)
                            .and_then(|key| Secret::from_slice(&key)),
                    ),
                    Err(error) => {
                        out_of_memory = Some(error);
                        None
                    }
                }
            }
            _ => None,
        });
        match (result, out_of_memory) {
            (Err(_), Some(error)) => Err(error.into()),
            (result, _) => result,
        }
    }
}

fn passphrase_info(deployment: &DeploymentId) -> Vec<u8> {
    Label::WRAP_PASSPHRASE.message(deployment, &[])
}

/// `open` says `None` for a wrap that is another's, `Some(None)` for one that is the holder's and does not open.
fn first_that_opens(
    wraps: &[Wrap],
    holder: &str,
    mut open: impl FnMut(&Wrap) -> Option<Option<Secret<32>>>,
) -> Result<Secret<32>, UnwrapError> {
    let mut refused = false;
    for wrap in wraps {
        match open(wrap) {
            Some(Some(key)) => return Ok(key),
            Some(None) => refused = true,
            None => {}
        }
    }
    let holder = holder.to_owned();
    Err(if refused {
        UnwrapError::Refused(holder)
    } else {
        UnwrapError::NotForMe(holder)
    })
}

#[cfg(test)]
mod tests;
