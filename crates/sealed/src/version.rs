//! Version records: an entry with what opens its object. Unsigned: a wrong wrap fails the manifest's DEK commitment.

use crypto::Dek;
use crypto::wrap::{BucketKey, UnwrapError, WRAPPED_DEK_BYTES, Wrap, WrappedDek};
use domain::BucketKeyId;
use domain::limits::RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};
use crate::entry::{SignedEntry, Target};
use crate::signed::Signed;
use crate::wraps::{self, WireWrap};

/// One version: its entry, its DEK under a bucket key, further wraps of the DEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRecord {
    entry: SignedEntry,
    protection: Option<Protection>,
    wraps: Vec<Wrap>,
}

/// The DEK under a bucket key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Which bucket key.
    pub bucket_key: BucketKeyId,
    /// Salt and key wrap.
    pub wrapped_dek: WrappedDek,
}

impl VersionRecord {
    /// Of an object.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] when the entry is a tombstone or there are more than 64 wraps.
    pub fn object(
        entry: SignedEntry,
        protection: Protection,
        wraps: Vec<Wrap>,
    ) -> Result<Self, RecordError> {
        Self::checked(entry, Some(protection), wraps)
    }

    /// Of a tombstone.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] when the entry is an object's.
    pub fn tombstone(entry: SignedEntry) -> Result<Self, RecordError> {
        Self::checked(entry, None, Vec::new())
    }

    /// The entry; verify it before believing it.
    #[must_use]
    pub fn entry(&self) -> &SignedEntry {
        &self.entry
    }

    /// The DEK's wrap; none in a tombstone.
    #[must_use]
    pub fn protection(&self) -> Option<&Protection> {
        self.protection.as_ref()
    }

    /// Further wraps of the DEK.
    #[must_use]
    pub fn wraps(&self) -> &[Wrap] {
        &self.wraps
    }

    /// The DEK, through its bucket key. Whether it is the right one is decided by the manifest's commitment.
    ///
    /// # Errors
    /// [`UnwrapError::Dek`], also when the record names another bucket key or is a tombstone.
    pub fn unwrap_dek(&self, key: &BucketKey) -> Result<Dek, UnwrapError> {
        let protection = self.protection.as_ref().ok_or(UnwrapError::Dek)?;
        if protection.bucket_key != key.id || self.entry.bucket != key.bucket {
            return Err(UnwrapError::Dek);
        }
        key.unwrap_dek(&self.entry.version, &protection.wrapped_dek)
    }

    /// Deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            entry: self.entry.encode(),
            key: self.protection.map(|protection| protection.bucket_key),
            dek: self
                .protection
                .map(|protection| ByteArray::new(protection.wrapped_dek.0)),
            wraps: wraps::to_wire(&self.wraps),
        })
    }

    /// Reads strictly; checks no signature.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        let protection = match (wire.key, wire.dek) {
            (Some(bucket_key), Some(dek)) => Some(Protection {
                bucket_key,
                wrapped_dek: WrappedDek(dek.into_array()),
            }),
            (None, None) => None,
            _ => {
                return Err(invalid::<Wire>(
                    "a bucket key and a wrapped DEK come together",
                ));
            }
        };
        let wraps = wraps::from_wire::<Wire>(&wire.wraps)?;
        Self::checked(Signed::decode(&wire.entry)?, protection, wraps)
    }

    fn checked(
        entry: SignedEntry,
        protection: Option<Protection>,
        wraps: Vec<Wrap>,
    ) -> Result<Self, RecordError> {
        let tombstone = entry.target == Target::Tombstone;
        if tombstone == protection.is_some() || (tombstone && !wraps.is_empty()) {
            return Err(invalid::<Wire>(
                "an object has a wrapped DEK, a tombstone has none",
            ));
        }
        if wraps.len() > domain::limits::WRAPS_MAX {
            return Err(invalid::<Wire>("at most 64 wraps"));
        }
        Ok(Self {
            entry,
            protection,
            wraps,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    #[serde(with = "serde_bytes")]
    entry: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<BucketKeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dek: Option<ByteArray<WRAPPED_DEK_BYTES>>,
    wraps: Vec<WireWrap>,
}

impl Typed for Wire {
    const TYPE: &'static str = "version";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
}
