//! One type per entity, so that a bucket id can never be passed where a version id is meant.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected}")]
pub struct IdParseError {
    /// What was being parsed, in words.
    pub kind: &'static str,
    /// The accepted form.
    pub expected: &'static str,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $kind:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The identifier's bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;

            fn from_str(text: &str) -> Result<Self, IdParseError> {
                data_encoding::HEXLOWER
                    .decode(text.as_bytes())
                    .ok()
                    .and_then(|bytes| <[u8; $len]>::try_from(bytes).ok())
                    .map(Self)
                    .ok_or(IdParseError { kind: $kind, expected: $expected })
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdParseError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdParseError> {
                <[u8; $len]>::try_from(bytes)
                    .map(Self)
                    .map_err(|_| IdParseError { kind: $kind, expected: $expected })
            }
        }

        id_serde!($name, $len, $expected);
    };
}

/// Text in human-readable formats (JSON), a byte string in binary ones (CBOR).
macro_rules! id_serde {
    ($name:ident, $len:literal, $expected:literal) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::Error as _;
                if deserializer.is_human_readable() {
                    let text = String::deserialize(deserializer)?;
                    text.parse().map_err(D::Error::custom)
                } else {
                    let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
                    <[u8; $len]>::try_from(bytes.as_slice())
                        .map(Self)
                        .map_err(|_| D::Error::invalid_length(bytes.len(), &$expected))
                }
            }
        }
    };
}

pub(crate) use {hex_id, id_serde};

hex_id!(
    /// A deployment: 32 random bytes drawn by `strongroom init`; bound into every label and signature.
    DeploymentId, 32, "deployment id", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A bucket: a hash over deployment id, owner and a random value (see `sealed::bucket`).
    BucketId, 32, "bucket id", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A storage node: SHA-256 of its Ed25519 public key.
    NodeId, 32, "node id", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// One version of an object: 16 random bytes drawn by the client that writes it.
    VersionId, 16, "version id", "32 lower-case hexadecimal digits"
);
hex_id!(
    /// An envelope: 16 random bytes drawn by whoever seals it.
    EnvelopeId, 16, "envelope id", "32 lower-case hexadecimal digits"
);
hex_id!(
    /// An upload in progress: 16 random bytes drawn by the gateway.
    UploadId, 16, "upload id", "32 lower-case hexadecimal digits"
);
hex_id!(
    /// A bucket key: 16 random bytes drawn by the client that made it.
    BucketKeyId, 16, "bucket key id", "32 lower-case hexadecimal digits"
);

/// Who acts: an Ed25519 public key, written in base58.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal(pub [u8; 32]);

impl Principal {
    /// The Ed25519 public key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Principal({self})")
    }
}

impl FromStr for Principal {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        let mut bytes = [0; 32];
        // base58 of 32 bytes never exceeds 44 digits; the length check bounds the work.
        let decoded = (text.len() <= 44)
            .then(|| bs58::decode(text).onto(&mut bytes).ok())
            .flatten();
        match decoded {
            Some(32) => Ok(Self(bytes)),
            _ => Err(IdParseError {
                kind: "principal",
                expected: "a base58 Ed25519 public key",
            }),
        }
    }
}

id_serde!(Principal, 32, "a base58 Ed25519 public key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_round_trip_through_text() {
        let id = VersionId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        let principal = Principal([7; 32]);
        assert_eq!(principal.to_string().parse(), Ok(principal));
        let zero = Principal([0; 32]);
        assert_eq!(zero.to_string().parse(), Ok(zero));
    }

    #[test]
    fn ids_refuse_other_lengths_and_alphabets() {
        for text in ["", "ab", "AB", &"a".repeat(33), &"G".repeat(32)] {
            assert!(text.parse::<VersionId>().is_err(), "{text}");
        }
        for text in ["", "0", "l", &"1".repeat(31), &"z".repeat(100)] {
            assert!(text.parse::<Principal>().is_err(), "{text}");
        }
    }
}
