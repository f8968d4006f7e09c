//! Envelopes: bytes sealed to several holders (named keys, identities, a passphrase) outside of any bucket.
//!
//! An envelope has a DEK of its own, wrapped once for each holder, and a commitment to it, so that every holder opens the
//! same bytes. Up to one block the payload lies in the record; anything longer follows it as a stream of chunks
//! ([`stream`]). Holders are outside of what the DEK authenticates: one can be added, removed or wrapped anew (a rotated
//! key) without touching the payload.
//!
//! Nothing here says who sealed: an envelope is not signed.

use crypto::dek::DekCommitment;
use crypto::wrap::{UnwrapError, UnwrapWith, Wrap, WrapContext, WrapTo};
use crypto::{Dek, EncryptionContext};
use domain::limits::{BLOCK_PLAIN_BYTES, RECORD_BYTES_MAX, WRAPS_MAX};
use domain::{DeploymentId, EnvelopeId};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};
use crate::wraps::{self, WireWrap};

mod file;
pub mod stream;

pub use file::{HeadReader, PREFIX_BYTES};
pub use stream::{StreamError, StreamOpener, StreamSealer};

/// Bytes of plaintext that lie in the record itself, at most.
pub const INLINE_PLAIN_BYTES_MAX: usize = BLOCK_PLAIN_BYTES;
/// What a sealed inline payload has more than its plaintext: salt and tag.
const INLINE_OVERHEAD: usize = 32;

/// An envelope: all of it when the payload is inline, its head when a stream follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    deployment: DeploymentId,
    id: EnvelopeId,
    context: EncryptionContext,
    commitment: DekCommitment,
    wraps: Vec<Wrap>,
    body: Body,
}

/// Where the payload is.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    /// Here, sealed.
    Inline(Vec<u8>),
    /// After the record, in chunks of so many blocks.
    Stream {
        /// 1 to 64.
        blocks: u8,
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(sealed) => write!(f, "Inline({} bytes)", sealed.len()),
            Self::Stream { blocks } => write!(f, "Stream({blocks} blocks)"),
        }
    }
}

/// Why an envelope was not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Not the beginning of an envelope's file.
    #[error("not a strongroom envelope")]
    NotAnEnvelope,
    /// A file of a later version.
    #[error("envelopes of version {0} are not known here: use a newer strongroom")]
    UnsupportedVersion(u8),
    /// The file ends before its record does, or has bytes after an inline payload.
    #[error("the envelope's file is {0}")]
    Length(&'static str),
    /// No holder, or too many.
    #[error("an envelope has 1 to {WRAPS_MAX} holders")]
    Holders,
    /// None of the wraps opens.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// What a wrap opened to is not the DEK that the envelope was sealed under.
    #[error("the envelope opens to another key than the one that it is committed to")]
    Commitment,
    /// The payload does not open.
    #[error("the envelope's payload was altered")]
    Payload,
    /// The payload is a stream where it was wanted at once, or the other way round.
    #[error("the envelope's payload is {0}")]
    Body(&'static str),
    /// Too long to be sealed at once.
    #[error(
        "{0} bytes are sealed as a stream: at most {INLINE_PLAIN_BYTES_MAX} lie in an envelope's record"
    )]
    TooLong(usize),
}

impl Envelope {
    /// Seals at most [`INLINE_PLAIN_BYTES_MAX`] bytes to every one of `holders`.
    ///
    /// # Errors
    /// [`EnvelopeError::TooLong`], [`EnvelopeError::Holders`], [`EnvelopeError::Unwrap`] when a passphrase cannot be
    /// stretched for lack of memory.
    pub fn seal(
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: EncryptionContext,
        holders: &[&dyn WrapTo],
        plaintext: &[u8],
    ) -> Result<Self, EnvelopeError> {
        if plaintext.len() > INLINE_PLAIN_BYTES_MAX {
            return Err(EnvelopeError::TooLong(plaintext.len()));
        }
        let body = Body::Inline(Vec::new());
        let (mut envelope, dek) = Self::begin(rng, deployment, context, holders, body)?;
        let hash = envelope.context.hash(deployment);
        let sealed = dek.seal_payload(rng, &envelope.id, &hash, plaintext);
        envelope.body = Body::Inline(sealed);
        Ok(envelope)
    }

    /// Begins an envelope whose payload follows as a stream, in chunks of `blocks` blocks (64 KiB each, 1 to 64): what
    /// sealer and opener keep in memory.
    ///
    /// # Errors
    /// As [`Envelope::seal`]; [`EnvelopeError::Body`] for a number of blocks that no chunk has.
    pub fn stream(
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: EncryptionContext,
        holders: &[&dyn WrapTo],
        blocks: u8,
    ) -> Result<(Self, StreamSealer), EnvelopeError> {
        if !stream::BLOCKS.contains(&blocks) {
            return Err(EnvelopeError::Body("in chunks of 1 to 64 blocks"));
        }
        let body = Body::Stream { blocks };
        let (envelope, dek) = Self::begin(rng, deployment, context, holders, body)?;
        let hash = envelope.context.hash(deployment);
        let sealer = StreamSealer::new(dek, envelope.id, hash, blocks);
        Ok((envelope, sealer))
    }

    fn begin(
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: EncryptionContext,
        holders: &[&dyn WrapTo],
        body: Body,
    ) -> Result<(Self, Dek), EnvelopeError> {
        let mut id = EnvelopeId([0; EnvelopeId::LEN]);
        rng.fill_bytes(&mut id.0);
        let dek = Dek::random(rng, *deployment);
        let mut envelope = Self {
            deployment: *deployment,
            id,
            context,
            commitment: dek.commitment(),
            wraps: Vec::with_capacity(holders.len()),
            body,
        };
        envelope.wraps = envelope.wrap_to(rng, &dek, holders)?;
        Ok((envelope, dek))
    }

    /// The DEK wrapped to each of `holders`, to be put in with [`Envelope::with_wraps`].
    ///
    /// # Errors
    /// [`EnvelopeError::Holders`], [`EnvelopeError::Unwrap`].
    pub fn wrap_to(
        &self,
        rng: &mut dyn CryptoRng,
        dek: &Dek,
        holders: &[&dyn WrapTo],
    ) -> Result<Vec<Wrap>, EnvelopeError> {
        if holders.is_empty() || holders.len() > WRAPS_MAX {
            return Err(EnvelopeError::Holders);
        }
        let context = self.wrap_context();
        let wrap = |holder: &&dyn WrapTo| {
            let wrap = holder.wrap(rng, &self.deployment, &context, dek.danger_key());
            wrap.map_err(|error| UnwrapError::from(error).into())
        };
        holders.iter().map(wrap).collect()
    }

    /// The same payload for other holders.
    ///
    /// # Errors
    /// [`EnvelopeError::Holders`].
    pub fn with_wraps(mut self, wraps: Vec<Wrap>) -> Result<Self, EnvelopeError> {
        if wraps.is_empty() || wraps.len() > WRAPS_MAX {
            return Err(EnvelopeError::Holders);
        }
        self.wraps = wraps;
        Ok(self)
    }

    /// The deployment whose keys it is for.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// The encryption context: in the open, and bound to the payload.
    #[must_use]
    pub fn context(&self) -> &EncryptionContext {
        &self.context
    }

    /// The wraps, one for each holder.
    #[must_use]
    pub fn wraps(&self) -> &[Wrap] {
        &self.wraps
    }

    /// Where the payload is.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// What the wraps are bound to; a request to open one signs [`crypto::NamedKeyWrap::kem_hash`] of it.
    #[must_use]
    pub fn wrap_context(&self) -> WrapContext {
        WrapContext::Envelope {
            context: self.context.hash(&self.deployment),
            envelope: self.id,
        }
    }

    /// Unwraps the DEK with what `holder` has and checks that it is the one committed to.
    ///
    /// # Errors
    /// [`EnvelopeError::Unwrap`], [`EnvelopeError::Commitment`].
    pub fn unwrap_dek(&self, holder: &dyn UnwrapWith) -> Result<Dek, EnvelopeError> {
        let key = holder.unwrap_key(&self.deployment, &self.wrap_context(), &self.wraps)?;
        let dek = Dek::new(key, self.deployment);
        if dek.commitment() != self.commitment {
            return Err(EnvelopeError::Commitment);
        }
        Ok(dek)
    }

    /// Opens an inline payload.
    ///
    /// # Errors
    /// [`EnvelopeError::Payload`]; [`EnvelopeError::Body`] when the payload is a stream.
    pub fn open(&self, dek: &Dek) -> Result<Zeroizing<Vec<u8>>, EnvelopeError> {
        let Body::Inline(sealed) = &self.body else {
            return Err(EnvelopeError::Body("a stream, which is opened in pieces"));
        };
        let context = self.context.hash(&self.deployment);
        dek.open_payload(&self.id, &context, sealed)
            .ok_or(EnvelopeError::Payload)
    }

    /// Begins to open a stream.
    ///
    /// # Errors
    /// [`EnvelopeError::Body`] when the payload is inline.
    pub fn open_stream(&self, dek: Dek) -> Result<StreamOpener, EnvelopeError> {
        let Body::Stream { blocks } = self.body else {
            return Err(EnvelopeError::Body("in the record, not a stream"));
        };
        let context = self.context.hash(&self.deployment);
        Ok(StreamOpener::new(dek, self.id, context, blocks))
    }

    /// The record: deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (payload, blocks) = match &self.body {
            Body::Inline(sealed) => (Some(sealed.clone().into()), None),
            Body::Stream { blocks } => (None, Some(*blocks)),
        };
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            deployment: self.deployment,
            id: self.id,
            context: self.context.clone(),
            commitment: self.commitment.0,
            wraps: wraps::to_wire(&self.wraps),
            payload,
            blocks,
        })
    }

    /// Reads a record strictly; opens nothing.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        let wraps = wraps::from_wire::<Wire>(&wire.wraps)?;
        if wraps.is_empty() {
            return Err(invalid::<Wire>("an envelope without a wrap is lost"));
        }
        let body = match (wire.payload, wire.blocks) {
            (Some(sealed), None) => {
                let longest = INLINE_PLAIN_BYTES_MAX + INLINE_OVERHEAD;
                if !(INLINE_OVERHEAD..=longest).contains(&sealed.len()) {
                    return Err(invalid::<Wire>("an inline payload has at most one block"));
                }
                Body::Inline(sealed.into_vec())
            }
            (None, Some(blocks)) if stream::BLOCKS.contains(&blocks) => Body::Stream { blocks },
            (None, Some(_)) => return Err(invalid::<Wire>("a chunk has 1 to 64 blocks")),
            (Some(_), Some(_)) | (None, None) => {
                return Err(invalid::<Wire>("either a payload or a stream"));
            }
        };
        Ok(Self {
            deployment: wire.deployment,
            id: wire.id,
            context: wire.context,
            commitment: DekCommitment(wire.commitment),
            wraps,
            body,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    deployment: DeploymentId,
    id: EnvelopeId,
    context: EncryptionContext,
    #[serde(with = "serde_bytes")]
    commitment: [u8; 32],
    wraps: Vec<WireWrap>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<serde_bytes::ByteBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<u8>,
}

impl Typed for Wire {
    const TYPE: &'static str = "envelope";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
}

#[cfg(test)]
mod tests;
