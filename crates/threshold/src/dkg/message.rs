//! Signed messages.
//!
//! ```text
//! 01  kind  binding (78)  attempt  sender  payload  signature (64)
//! ```
//! The signature is over `message("dkg-message", kind || binding || attempt || sender || hash)`, where hash is that of
//! `message("dkg-payload", payload)`: so a hash with its signature can be echoed without the payload.

use crypto::identity::{Signature, verify};
use domain::{Principal, ShareIndex};

use super::CeremonySigner;
use crate::bytes::Reader;
use crate::labels;
use crate::sharing::Sharing;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 1 + 1 + BINDING_BYTES + 1;
/// Bytes of a signature.
pub(super) const SIGNATURE_BYTES: usize = 64;
/// Bytes of [`Setting::binding`].
pub(super) const BINDING_BYTES: usize = Sharing::BINDING_BYTES + 1;

const VERSION: u8 = 1;
const ATTEMPT_AT: usize = 2 + Sharing::BINDING_BYTES;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// First round: commitments.
    Commit,
    /// Second round: hidden shares, and an echo of the commits.
    Deal,
    /// Third round: the share is stored; an echo of the deals.
    Ready,
    /// Asks for messages that did not come.
    Missing,
    /// Ends the attempt, with a reason.
    Abort,
}

impl Kind {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Commit => 1,
            Self::Deal => 2,
            Self::Ready => 3,
            Self::Missing => 4,
            Self::Abort => 5,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Commit),
            2 => Some(Self::Deal),
            3 => Some(Self::Ready),
            4 => Some(Self::Missing),
            5 => Some(Self::Abort),
            _ => None,
        }
    }

    /// Whether every party sends exactly one of these.
    pub(super) const fn is_round(self) -> bool {
        matches!(self, Self::Commit | Self::Deal | Self::Ready)
    }
}

/// Which attempt bytes claim to be of.
pub(super) fn attempt_of(bytes: &[u8]) -> Option<u8> {
    bytes.get(ATTEMPT_AT).copied()
}

/// What all messages of one attempt share.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    sharing: Sharing,
    roster: Vec<Principal>,
    attempt: u8,
    binding: [u8; BINDING_BYTES],
}

impl Setting {
    pub(super) fn new(sharing: Sharing, roster: Vec<Principal>, attempt: u8) -> Self {
        let mut binding = [attempt; BINDING_BYTES];
        for (slot, byte) in binding.iter_mut().zip(sharing.binding()) {
            *slot = byte;
        }
        Self {
            sharing,
            roster,
            attempt,
            binding,
        }
    }

    pub(super) fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    pub(super) fn attempt(&self) -> u8 {
        self.attempt
    }

    /// `Sharing::binding || attempt`.
    pub(super) fn binding(&self) -> &[u8; BINDING_BYTES] {
        &self.binding
    }

    pub(super) fn t(&self) -> usize {
        usize::from(self.sharing.threshold.t())
    }

    pub(super) fn n(&self) -> usize {
        usize::from(self.sharing.threshold.n())
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = ShareIndex> + use<> {
        self.sharing.threshold.indices()
    }

    fn principal(&self, index: ShareIndex) -> Option<&Principal> {
        self.roster.get(usize::from(index.get()).checked_sub(1)?)
    }

    fn signed_body(&self, kind: Kind, sender: ShareIndex, hash: &[u8; 32]) -> Vec<u8> {
        let mut body = Vec::with_capacity(1 + BINDING_BYTES + 1 + 32);
        body.push(kind.code());
        body.extend_from_slice(&self.binding);
        body.push(sender.get());
        body.extend_from_slice(hash);
        body
    }

    /// Whether `sender` signed for a payload of that hash.
    pub(super) fn has_signed(&self, kind: Kind, sender: ShareIndex, head: &Head) -> bool {
        self.principal(sender).is_some_and(|principal| {
            let body = self.signed_body(kind, sender, &head.hash);
            let deployment = &self.sharing.deployment;
            verify(
                principal,
                labels::DKG_MESSAGE,
                deployment,
                &body,
                &head.signature,
            )
            .is_ok()
        })
    }
}

/// A message without its payload: enough to show that it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) hash: [u8; 32],
    pub(super) signature: Signature,
}

/// Bytes of an encoded [`Head`].
pub(super) const HEAD_BYTES: usize = 32 + SIGNATURE_BYTES;

impl Head {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            hash: reader.array()?,
            signature: Signature(reader.array()?),
        })
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(&self.signature.0);
    }
}

/// A message whose signature holds. Nothing is said about its payload yet.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) kind: Kind,
    pub(super) sender: ShareIndex,
    pub(super) payload: Vec<u8>,
    pub(super) head: Head,
    bytes: Vec<u8>,
}

impl Signed {
    pub(super) fn sign(
        setting: &Setting,
        kind: Kind,
        sender: ShareIndex,
        payload: Vec<u8>,
        signer: &dyn CeremonySigner,
    ) -> Self {
        let hash = hash(setting, &payload);
        let body = setting.signed_body(kind, sender, &hash);
        let signature = signer.sign(labels::DKG_MESSAGE, &setting.sharing.deployment, &body);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + SIGNATURE_BYTES);
        bytes.push(VERSION);
        bytes.push(kind.code());
        bytes.extend_from_slice(&setting.binding);
        bytes.push(sender.get());
        bytes.extend_from_slice(&payload);
        bytes.extend_from_slice(&signature.0);
        Self {
            kind,
            sender,
            payload,
            head: Head { hash, signature },
            bytes,
        }
    }

    /// `None` unless these are bytes of this attempt, of a length that its kind has, signed by the party that they name. (A
    /// message of another length is no message: whoever sends that has sent nothing, so evidence stays bounded.)
    pub(super) fn decode(setting: &Setting, bytes: &[u8]) -> Option<Self> {
        let payload_bytes = bytes.len().checked_sub(HEADER_BYTES + SIGNATURE_BYTES)?;
        let mut reader = Reader::new(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let kind = Kind::from_code(reader.byte()?)?;
        if reader.array::<BINDING_BYTES>()? != setting.binding {
            return None;
        }
        let sender = ShareIndex::new(reader.byte()?).ok()?;
        if !super::payload::has_length(setting, kind, payload_bytes) {
            return None;
        }
        let payload = reader.slice(payload_bytes)?.to_vec();
        let signature = Signature(reader.array()?);
        reader.end()?;
        let head = Head {
            hash: hash(setting, &payload),
            signature,
        };
        setting.has_signed(kind, sender, &head).then(|| Self {
            kind,
            sender,
            payload,
            head,
            bytes: bytes.to_vec(),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn hash(setting: &Setting, payload: &[u8]) -> [u8; 32] {
    labels::DKG_PAYLOAD.hash(&setting.sharing.deployment, &[payload])
}
