//! Names that users choose.

use std::fmt;
use std::str::FromStr;

use crate::Cid;
use crate::limits::OBJECT_KEY_BYTES_MAX;

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A bucket name of the wrong length.
    #[error("a bucket name has 3 to 63 characters, this one has {0}")]
    BucketLength(usize),
    /// A bucket name with a character that is not allowed.
    #[error(
        "a bucket name has only a-z, 0-9, `.` and `-`, and starts and ends with a letter or digit"
    )]
    BucketAlphabet,
    /// A bucket name that would be taken for a CID.
    #[error("a bucket name may not be a CID")]
    BucketIsCid,
    /// A key name of the wrong length.
    #[error("a key name has 1 to 63 characters, this one has {0}")]
    KeyNameLength(usize),
    /// A key name with a character that is not allowed.
    #[error(
        "a key name has only a-z, 0-9, `.`, `_` and `-`, and starts and ends with a letter or digit"
    )]
    KeyNameAlphabet,
    /// An object key without a character.
    #[error("an object key may not be empty")]
    KeyEmpty,
    /// An object key that is too long.
    #[error("an object key has at most 1,024 bytes of UTF-8, this one has {0}")]
    KeyLength(usize),
    /// An object key with a NUL.
    #[error("an object key may not contain a NUL character")]
    KeyNul,
}

/// The name of a bucket: 3 to 63 of `a-z 0-9 . -`, as S3 has it, and never a CID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct BucketName(String);

/// The name that an owner gives to a named key: 1 to 63 of `a-z 0-9 . _ -`. Names are public.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct KeyName(String);

/// The key of an object in its bucket: 1 to 1,024 bytes of UTF-8, any Unicode but NUL, compared byte by byte.
///
/// Keys are not paths: `..` and `//` are ordinary text here. Whoever maps keys to files must check them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct ObjectKey(String);

impl FromStr for BucketName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(3..=63).contains(&text.len()) {
            return Err(NameError::BucketLength(text.chars().count()));
        }
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let allowed =
            |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        if !bytes.iter().all(allowed) || !edge(bytes.first()) || !edge(bytes.last()) {
            return Err(NameError::BucketAlphabet);
        }
        if text.parse::<Cid>().is_ok() {
            return Err(NameError::BucketIsCid);
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for KeyName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if !(1..=63).contains(&text.len()) {
            return Err(NameError::KeyNameLength(text.chars().count()));
        }
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let allowed = |b: &u8| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-')
        };
        if !bytes.iter().all(allowed) || !edge(bytes.first()) || !edge(bytes.last()) {
            return Err(NameError::KeyNameAlphabet);
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for ObjectKey {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.len() {
            0 => Err(NameError::KeyEmpty),
            n if n > OBJECT_KEY_BYTES_MAX => Err(NameError::KeyLength(n)),
            _ if text.contains('\0') => Err(NameError::KeyNul),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?
                    .parse()
                    .map_err(serde::de::Error::custom)
            }
        }
    };
}

name_type!(BucketName);
name_type!(KeyName);
name_type!(ObjectKey);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_follow_the_s3_rules() {
        for good in ["abc", "a.b-c", "0ab", &"a".repeat(63)] {
            assert!(good.parse::<BucketName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "ab",
            "Abc",
            "a_b",
            "-ab",
            "ab-",
            "é11",
            "a b",
            "../..",
            &"a".repeat(64),
        ] {
            assert!(bad.parse::<BucketName>().is_err(), "{bad}");
        }
        let cid = Cid::of_raw(b"x").to_string();
        assert_eq!(cid.parse::<BucketName>(), Err(NameError::BucketIsCid));
    }

    #[test]
    fn key_names_are_short_and_plain() {
        for good in ["a", "payroll", "a.b_c-d", &"a".repeat(63)] {
            assert!(good.parse::<KeyName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "-a", "a_", "a/b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn object_keys_take_any_unicode_up_to_their_length() {
        for good in [
            "a",
            "../../etc/passwd",
            "日本/語 \u{202e}",
            &"k".repeat(1024),
        ] {
            assert!(good.parse::<ObjectKey>().is_ok(), "{good}");
        }
        assert_eq!("".parse::<ObjectKey>(), Err(NameError::KeyEmpty));
        assert_eq!("a\0b".parse::<ObjectKey>(), Err(NameError::KeyNul));
        assert_eq!(
            "k".repeat(10_000).parse::<ObjectKey>(),
            Err(NameError::KeyLength(10_000))
        );
    }
}
