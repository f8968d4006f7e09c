//! The encryption context: what a ciphertext is about, in the open, bound to it and shown to every custodian's policy.
//!
//! A map of texts, bounded and with one encoding, hashed under its own label. It is not secret and is not stored in the
//! ciphertext's proof or key derivation but by its hash: who opens must know it, and whoever changes it opens nothing.

use std::collections::BTreeMap;
use std::fmt;

use domain::DeploymentId;
use domain::limits::{
    CONTEXT_BYTES_MAX, CONTEXT_ENTRIES_MAX, CONTEXT_KEY_BYTES_MAX, CONTEXT_VALUE_BYTES_MAX,
};
use serde::de::Error as _;
use serde::ser::SerializeMap as _;

use crate::label::Label;

/// What keys that Strongroom sets itself begin with: a user's context cannot pass for one of those.
pub const RESERVED_PREFIX: &str = "strongroom:";

/// Why texts are not an encryption context.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// More entries than a context has.
    #[error("an encryption context has at most {CONTEXT_ENTRIES_MAX} entries")]
    Entries,
    /// A key that is empty or too long.
    #[error("a key of an encryption context has 1 to {CONTEXT_KEY_BYTES_MAX} bytes")]
    Key,
    /// A value that is too long.
    #[error(
        "the value of {key:?} in an encryption context has more than {CONTEXT_VALUE_BYTES_MAX} bytes"
    )]
    Value {
        /// Its key.
        key: String,
    },
    /// Longer than a context may be all in all.
    #[error("an encryption context has at most {CONTEXT_BYTES_MAX} bytes")]
    TooLong,
    /// Bytes that are not what [`EncryptionContext::encode`] gives.
    #[error("not an encoded encryption context")]
    Encoding,
    /// A key given twice.
    #[error("the key {key:?} stands twice in an encryption context")]
    Repeated {
        /// The key.
        key: String,
    },
    /// A key that only Strongroom sets.
    #[error(
        "keys of an encryption context that begin with {RESERVED_PREFIX} are Strongroom's own: {key:?}"
    )]
    Reserved {
        /// The key.
        key: String,
    },
}

/// The hash of an encryption context in a deployment: what proofs, keys and requests are bound to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ContextHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl fmt::Debug for ContextHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.0);
        write!(f, "ContextHash({hex})")
    }
}

/// A map of texts within bounds: at most 32 entries, keys of 1 to 128 bytes, values of at most 1,024, 8,192 together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EncryptionContext(BTreeMap<String, String>);

impl EncryptionContext {
    /// The context that a user gives.
    ///
    /// # Errors
    /// [`ContextError`], for a reserved key too.
    pub fn from_user<K: Into<String>, V: Into<String>>(
        entries: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ContextError> {
        let mut context = Self::default();
        for (key, value) in entries {
            let key = key.into();
            if key.starts_with(RESERVED_PREFIX) {
                return Err(ContextError::Reserved { key });
            }
            context.insert(key, value.into())?;
        }
        Ok(context)
    }

    /// The context of one of Strongroom's own wraps: keys get the reserved prefix.
    pub(crate) fn reserved<const N: usize>(entries: [(&str, String); N]) -> Self {
        let entry = |(key, value): (&str, String)| (format!("{RESERVED_PREFIX}{key}"), value);
        Self(entries.into_iter().map(entry).collect())
    }

    /// The value under `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Keys and values, ascending by the keys' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For each entry, ascending by the key's bytes: u32 length and bytes of the key, u32 length and bytes of the value.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for text in self.0.iter().flat_map(|(key, value)| [key, value]) {
            let len = u32::try_from(text.len()).expect("a text of a context is short");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out
    }

    /// Reads what [`EncryptionContext::encode`] gives and nothing else, so that the bytes have the context's hash. Takes reserved keys;
    /// the bounds hold.
    ///
    /// # Errors
    /// [`ContextError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ContextError> {
        let mut context = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            let key = text(&mut rest)?;
            let value = text(&mut rest)?;
            let last = context.0.last_key_value();
            if last.is_some_and(|(last, _)| last.as_str() >= key) {
                return Err(ContextError::Encoding);
            }
            context.insert(key.to_owned(), value.to_owned())?;
        }
        Ok(context)
    }

    /// BLAKE3 of the label's message over [`EncryptionContext::encode`].
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> ContextHash {
        ContextHash(Label::ENCRYPTION_CONTEXT.hash(deployment, &[&self.encode()]))
    }

    fn insert(&mut self, key: String, value: String) -> Result<(), ContextError> {
        if self.0.len() == CONTEXT_ENTRIES_MAX {
            return Err(ContextError::Entries);
        }
        if key.is_empty() || key.len() > CONTEXT_KEY_BYTES_MAX {
            return Err(ContextError::Key);
        }
        if value.len() > CONTEXT_VALUE_BYTES_MAX {
            return Err(ContextError::Value { key });
        }
        let bytes: usize = self
            .0
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if bytes + key.len() + value.len() > CONTEXT_BYTES_MAX {
            return Err(ContextError::TooLong);
        }
        if self.0.contains_key(&key) {
            return Err(ContextError::Repeated { key });
        }
        self.0.insert(key, value);
        Ok(())
    }
}

/// Takes `u32 length || text` from the front.
fn text<'a>(rest: &mut &'a [u8]) -> Result<&'a str, ContextError> {
    let (len, tail) = rest.split_first_chunk().ok_or(ContextError::Encoding)?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| ContextError::Encoding)?;
    let (text, tail) = tail.split_at_checked(len).ok_or(ContextError::Encoding)?;
    *rest = tail;
    std::str::from_utf8(text).map_err(|_| ContextError::Encoding)
}

impl serde::Serialize for EncryptionContext {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// Takes reserved keys, as it reads what Strongroom wrote; the bounds hold.
impl<'de> serde::Deserialize<'de> for EncryptionContext {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = EncryptionContext;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an encryption context")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<EncryptionContext, A::Error> {
                let mut context = EncryptionContext::default();
                while let Some((key, value)) = map.next_entry()? {
                    context.insert(key, value).map_err(A::Error::custom)?;
                }
                Ok(context)
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(entries: &[(&str, &str)]) -> Result<EncryptionContext, ContextError> {
        EncryptionContext::from_user(entries.iter().copied())
    }

    #[test]
    fn bounds_hold_at_the_bound() {
        let (key, value) = ("k".repeat(128), "v".repeat(1_024));
        assert!(of(&[(&key, &value), ("", "")]).is_err());
        assert!(of(&[(&key, &value), ("k", "")]).is_ok());
        assert_eq!(of(&[(&"k".repeat(129), "")]), Err(ContextError::Key));
        let long = "v".repeat(1_025);
        assert_eq!(
            of(&[("k", &long)]),
            Err(ContextError::Value { key: "k".into() })
        );
        assert_eq!(
            of(&[("k", "1"), ("k", "2")]),
            Err(ContextError::Repeated { key: "k".into() })
        );
        assert_eq!(
            of(&[("strongroom:bucket", "1")]),
            Err(ContextError::Reserved {
                key: "strongroom:bucket".into()
            })
        );
        let many = |count: usize| (0..count).map(|i| (format!("{i}"), ""));
        assert!(EncryptionContext::from_user(many(32)).is_ok());
        assert_eq!(
            EncryptionContext::from_user(many(33)),
            Err(ContextError::Entries)
        );
        // 7 * (1 + 1,024) + 1 + 1,016 = 8,192.
        let full = |last: usize| {
            (0..8).map(move |i| (format!("{i}"), "v".repeat(if i < 7 { 1_024 } else { last })))
        };
        assert!(EncryptionContext::from_user(full(1_016)).is_ok());
        assert_eq!(
            EncryptionContext::from_user(full(1_017)),
            Err(ContextError::TooLong)
        );
    }

    #[test]
    fn the_encoding_is_lengths_and_texts_in_order() {
        let context = of(&[("b", ""), ("a", "xy")]).unwrap();
        assert_eq!(
            context.encode(),
            b"\0\0\0\x01a\0\0\0\x02xy\0\0\0\x01b\0\0\0\0"
        );
        assert_eq!(context.get("a"), Some("xy"));
        assert_eq!(of(&[]).unwrap().encode(), b"");
    }

    #[test]
    fn only_the_one_encoding_is_read() {
        let entry = |text: &str| {
            let len = u32::try_from(text.len()).unwrap().to_be_bytes();
            [len.as_slice(), text.as_bytes()].concat()
        };
        let join = |texts: &[&str]| {
            texts
                .iter()
                .flat_map(|text| entry(text))
                .collect::<Vec<u8>>()
        };
        let good = join(&["a", "1", "b", "2"]);
        let read = EncryptionContext::decode(&good).unwrap();
        assert_eq!((read.get("a"), read.get("b")), (Some("1"), Some("2")));
        assert_eq!(
            EncryptionContext::decode(&[]),
            Ok(EncryptionContext::default())
        );
        for len in (1..good.len()).filter(|len| *len != good.len() / 2) {
            let cut = EncryptionContext::decode(&good[..len]);
            assert_eq!(cut, Err(ContextError::Encoding), "{len}");
        }
        for bad in [
            join(&["b", "2", "a", "1"]),
            join(&["a", "1", "a", "1"]),
            [0, 0, 0, 1, 0xff, 0, 0, 0, 0].to_vec(),
            [0xff; 8].to_vec(),
        ] {
            assert_eq!(EncryptionContext::decode(&bad), Err(ContextError::Encoding));
        }
        assert_eq!(
            EncryptionContext::decode(&join(&["", "1"])),
            Err(ContextError::Key)
        );
        let long = "x".repeat(CONTEXT_VALUE_BYTES_MAX + 1);
        assert!(EncryptionContext::decode(&join(&["a", &long])).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(
            entries in prop::collection::btree_map("[ab:]{1,3}", "\\PC{0,9}", 0..6),
        ) {
            let context = EncryptionContext(entries);
            prop_assert_eq!(EncryptionContext::decode(&context.encode()), Ok(context));
        }

        #[test]
        fn different_contexts_have_different_encodings(
            a in prop::collection::btree_map("[ab]{1,3}", "[ab]{0,3}", 0..4),
            b in prop::collection::btree_map("[ab]{1,3}", "[ab]{0,3}", 0..4),
        ) {
            let same = a == b;
            let (a, b) = (EncryptionContext(a), EncryptionContext(b));
            prop_assert_eq!(a.encode() == b.encode(), same);
            let deployment = DeploymentId([1; 32]);
            prop_assert_eq!(a.hash(&deployment) == b.hash(&deployment), same);
            prop_assert_ne!(a.hash(&deployment), a.hash(&DeploymentId([2; 32])));
        }
    }
}
