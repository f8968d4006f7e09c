//! Content identifiers: CIDv1 with BLAKE3-256, `raw` for chunks and shards, `dag-cbor` for manifests.
//!
//! Text is multibase base32 (`b…`), binary is the 36 bytes `01 codec 1e 20 digest`, as any multiformats library
//! reads them.

use std::fmt;
use std::str::FromStr;

/// Multihash code of BLAKE3 (multicodec table).
pub const BLAKE3: u64 = 0x1e;

/// What a [`Cid`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// Uninterpreted bytes: a chunk or a shard (multicodec 0x55).
    Raw,
    /// A manifest or a directory (multicodec 0x71).
    DagCbor,
}

impl Codec {
    /// The multicodec number.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Raw => 0x55,
            Self::DagCbor => 0x71,
        }
    }
}

/// Why a text or byte string is not one of our CIDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CidError {
    /// Not a CID at all.
    #[error("not a CID: expected CIDv1 in base32, starting with `b`")]
    Malformed,
    /// A CID of another version, codec or hash.
    #[error("a CID of an unsupported kind: expected version 1, raw or dag-cbor, BLAKE3-256")]
    Unsupported,
}

/// Names content by its BLAKE3-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cid {
    codec: Codec,
    digest: [u8; 32],
}

impl Cid {
    /// Length of the binary form.
    pub const BINARY_LEN: usize = 36;

    /// From a digest that was computed elsewhere.
    #[must_use]
    pub const fn from_digest(codec: Codec, digest: [u8; 32]) -> Self {
        Self { codec, digest }
    }

    /// Hashes `bytes`.
    #[must_use]
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        Self::from_digest(codec, *blake3::hash(bytes).as_bytes())
    }

    /// The CID of a chunk or shard.
    #[must_use]
    pub fn of_raw(bytes: &[u8]) -> Self {
        Self::of(Codec::Raw, bytes)
    }

    /// What it names.
    #[must_use]
    pub const fn codec(&self) -> Codec {
        self.codec
    }

    /// The BLAKE3-256 digest.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The 36 bytes `01 codec 1e 20 digest`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BINARY_LEN] {
        let mut out = [0; Self::BINARY_LEN];
        let codec = match self.codec {
            Codec::Raw => 0x55,
            Codec::DagCbor => 0x71,
        };
        let (head, digest) = out.split_at_mut(4);
        head.copy_from_slice(&[1, codec, 0x1e, 32]);
        digest.copy_from_slice(&self.digest);
        out
    }

    /// Reads the binary form; anything but the exact 36 bytes is refused.
    ///
    /// # Errors
    /// [`CidError`] when the bytes are no CID of ours.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CidError> {
        match bytes {
            [1, codec, 0x1e, 32, digest @ ..] => {
                let digest = <[u8; 32]>::try_from(digest).map_err(|_| CidError::Malformed)?;
                match codec {
                    0x55 => Ok(Self::from_digest(Codec::Raw, digest)),
                    0x71 => Ok(Self::from_digest(Codec::DagCbor, digest)),
                    _ => Err(CidError::Unsupported),
                }
            }
            [1, ..] => Err(CidError::Unsupported),
            _ => Err(CidError::Malformed),
        }
    }
}

impl From<Cid> for cid::Cid {
    fn from(ours: Cid) -> Self {
        #[expect(
            clippy::expect_used,
            reason = "a 32-byte digest always fits a 64-byte multihash"
        )]
        let hash = cid::multihash::Multihash::wrap(BLAKE3, &ours.digest)
            .expect("a 32-byte digest fits a multihash");
        cid::Cid::new_v1(ours.codec.code(), hash)
    }
}

impl TryFrom<&cid::Cid> for Cid {
    type Error = CidError;

    fn try_from(theirs: &cid::Cid) -> Result<Self, CidError> {
        Self::from_bytes(&theirs.to_bytes())
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("b")?;
        f.write_str(&BASE32_LOWER.encode(&self.to_bytes()))
    }
}

/// RFC 4648 base32, lower case, no padding: multibase prefix `b`.
static BASE32_LOWER: std::sync::LazyLock<data_encoding::Encoding> =
    std::sync::LazyLock::new(|| {
        let mut spec = data_encoding::Specification::new();
        spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
        #[expect(
            clippy::expect_used,
            reason = "a constant alphabet of 32 distinct symbols"
        )]
        spec.encoding().expect("the base32 alphabet is valid")
    });

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cid({self})")
    }
}

impl FromStr for Cid {
    type Err = CidError;

    fn from_str(text: &str) -> Result<Self, CidError> {
        let body = text.strip_prefix('b').ok_or(CidError::Malformed)?;
        if body.len() > 64 {
            return Err(CidError::Malformed);
        }
        let bytes = BASE32_LOWER
            .decode(body.as_bytes())
            .map_err(|_| CidError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

impl serde::Serialize for Cid {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            cid::Cid::from(*self).serialize(serializer)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Cid {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        if deserializer.is_human_readable() {
            String::deserialize(deserializer)?
                .parse()
                .map_err(D::Error::custom)
        } else {
            let theirs = cid::Cid::deserialize(deserializer)?;
            Self::try_from(&theirs).map_err(D::Error::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_binary_agree_with_the_cid_crate() {
        for codec in [Codec::Raw, Codec::DagCbor] {
            let ours = Cid::of(codec, b"strongroom");
            let theirs = cid::Cid::from(ours);
            assert_eq!(ours.to_string(), theirs.to_string());
            assert_eq!(ours.to_bytes().as_slice(), theirs.to_bytes());
            assert_eq!(ours.to_string().parse(), Ok(ours));
            assert_eq!(Cid::try_from(&theirs), Ok(ours));
        }
    }

    #[test]
    fn foreign_cids_are_refused() {
        // CIDv0, sha2-256 CIDv1, truncated, upper case.
        for text in [
            "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy",
            "bafkr4",
            "BAFKR4I",
            "",
            "b",
        ] {
            assert!(text.parse::<Cid>().is_err(), "{text}");
        }
    }
}
