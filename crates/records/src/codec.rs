//! Records as deterministic dag-cbor: a map with a `type`, a format version `v`, and the record's own fields.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The format version of every record here.
pub const VERSION: u64 = 1;

/// Why bytes are not a record of the wanted type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Longer than any record of that type; not even parsed.
    #[error("a {kind} record has at most {max} bytes, this one has {len}")]
    TooLong {
        /// The record's type.
        kind: &'static str,
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not dag-cbor, not of that type, or with missing, unknown or mistyped fields.
    #[error("not a {kind} record: {reason}")]
    Malformed {
        /// The record's type.
        kind: &'static str,
        /// What the parser says.
        reason: String,
    },
    /// The bytes are another encoding of their content than the deterministic one.
    #[error("a {kind} record that is not encoded deterministically")]
    NotCanonical {
        /// The record's type.
        kind: &'static str,
    },
    /// A later version than this program reads.
    #[error("{kind} records of version {version} are not known here: use a newer strongroom")]
    UnsupportedVersion {
        /// The record's type.
        kind: &'static str,
        /// Its version.
        version: u64,
    },
    /// Fields that contradict each other or are out of bounds.
    #[error("a {kind} record is not valid: {reason}")]
    Invalid {
        /// The record's type.
        kind: &'static str,
        /// The rule that is broken.
        reason: &'static str,
    },
}

/// What is stored under which name, and how long it may be.
pub trait Typed {
    /// The value of `type`.
    const TYPE: &'static str;
    /// Bytes of the longest record.
    const BYTES_MAX: usize;
}

/// Refuses a record that parsed and means nothing.
#[must_use]
pub fn invalid<T: Typed>(reason: &'static str) -> RecordError {
    RecordError::Invalid {
        kind: T::TYPE,
        reason,
    }
}

/// Deterministic dag-cbor (keys by length, then bytewise; shortest integers; definite lengths).
///
/// # Panics
/// For a type that no record may have: floating-point numbers, map keys that are no text.
#[must_use]
pub fn encode<T: Serialize>(record: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(record)
        .expect("records have text keys and no floating-point numbers")
}

/// Strict: bounded, of that type and version, no unknown field, and byte for byte what [`encode`] gives.
///
/// # Errors
/// [`RecordError`].
pub fn decode<T: Typed + Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, RecordError> {
    let kind = T::TYPE;
    if bytes.len() > T::BYTES_MAX {
        return Err(RecordError::TooLong {
            kind,
            len: bytes.len(),
            max: T::BYTES_MAX,
        });
    }
    let record: T = serde_ipld_dagcbor::from_slice(bytes).map_err(|error| {
        // A later version may have other fields; say that rather than which field is unknown.
        match serde_ipld_dagcbor::from_slice::<Head>(bytes) {
            Ok(head) if head.kind == kind && head.v != VERSION => RecordError::UnsupportedVersion {
                kind,
                version: head.v,
            },
            _ => RecordError::Malformed {
                kind,
                reason: bounded(&error.to_string()),
            },
        }
    })?;
    if encode(&record) != bytes {
        return Err(RecordError::NotCanonical { kind });
    }
    Ok(record)
}

/// The parser's words may quote the input.
fn bounded(reason: &str) -> String {
    reason.chars().take(200).collect()
}

struct Head {
    kind: String,
    v: u64,
}

impl<'de> Deserialize<'de> for Head {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Head;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a record")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
                let (mut kind, mut v) = (None, None);
                while let Some(key) = map.next_key::<String>()? {
                    match key.as_str() {
                        "type" => kind = Some(map.next_value()?),
                        "v" => v = Some(map.next_value()?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let missing = || A::Error::custom("no type or version");
                Ok(Head {
                    kind: kind.ok_or_else(missing)?,
                    v: v.ok_or_else(missing)?,
                })
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// The `type` field of `T`: always `T::TYPE`.
pub struct TypeName<T>(PhantomData<fn() -> T>);

impl<T> TypeName<T> {
    /// The name.
    #[must_use]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Default for TypeName<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Typed> Serialize for TypeName<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(T::TYPE)
    }
}

impl<'de, T: Typed> Deserialize<'de> for TypeName<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        if name == T::TYPE {
            return Ok(Self::new());
        }
        Err(D::Error::custom("another type of record"))
    }
}

/// The `v` field: always 1.
pub struct V1;

impl Serialize for V1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(VERSION)
    }
}

impl<'de> Deserialize<'de> for V1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if u64::deserialize(deserializer)? == VERSION {
            return Ok(Self);
        }
        Err(D::Error::custom("another version"))
    }
}

/// For numbers that are written only when they say something: fields that later records of a type have.
#[must_use]
#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[serde(rename = "type")]
        kind: TypeName<Sample>,
        v: V1,
        n: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        o: Option<u64>,
    }

    impl Typed for Sample {
        const TYPE: &'static str = "sample";
        const BYTES_MAX: usize = 64;
    }

    fn error(hex: &str) -> RecordError {
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        match decode::<Sample>(&bytes) {
            Ok(_) => panic!("{hex} was taken"),
            Err(error) => error,
        }
    }

    #[test]
    fn the_encoding_is_deterministic_and_the_decoding_strict() {
        let sample = Sample {
            kind: TypeName::new(),
            v: V1,
            n: 5,
            o: None,
        };
        let bytes = encode(&sample);
        // {"n": 5, "v": 1, "type": "sample"}: shorter keys first.
        assert_eq!(
            data_encoding::HEXLOWER.encode(&bytes),
            "a3616e0561760164747970656673616d706c65"
        );
        assert_eq!(decode::<Sample>(&bytes).unwrap().n, 5);

        // The same content with keys in another order, a long integer, an indefinite map, a trailing byte.
        for other in [
            "a3617601616e0564747970656673616d706c65",
            "a3616e180561760164747970656673616d706c65",
            "bf616e0561760164747970656673616d706c65ff",
            "a3616e0561760164747970656673616d706c6500",
            "a4616e05616e0561760164747970656673616d706c65",
            "a2616e05617601",
            "",
        ] {
            let error = error(other);
            let refused = matches!(
                error,
                RecordError::Malformed { .. } | RecordError::NotCanonical { .. }
            );
            assert!(refused, "{other}: {error}");
        }
        assert!(matches!(
            error("a3616e0561760164747970656673616d706c64"),
            RecordError::Malformed { .. }
        ));
        // An absent key spelt out as null: the parser takes it, only encoding again tells.
        assert_eq!(
            error("a4616e05616ff661760164747970656673616d706c65"),
            RecordError::NotCanonical { kind: "sample" }
        );
        // A later version with a field that this one does not know.
        let later = error("a4616e05617602627a7a0164747970656673616d706c65");
        assert_eq!(
            later,
            RecordError::UnsupportedVersion {
                kind: "sample",
                version: 2
            }
        );
        let later = error("a3616e0561760264747970656673616d706c65");
        assert_eq!(
            later,
            RecordError::UnsupportedVersion {
                kind: "sample",
                version: 2
            }
        );
        assert_eq!(
            error(&"00".repeat(65)),
            RecordError::TooLong {
                kind: "sample",
                len: 65,
                max: 64
            }
        );
    }

    #[test]
    fn deep_nesting_and_huge_lengths_cost_nothing() {
        // 60 nested arrays; a byte string, an array and a map that claim 2^60 elements.
        for hex in [
            "81".repeat(60),
            "5b1000000000000000".into(),
            "9b1000000000000000".into(),
            "bb1000000000000000".into(),
        ] {
            assert!(matches!(error(&hex), RecordError::Malformed { .. }));
        }
    }
}
