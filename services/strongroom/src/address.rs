//! What a command's operands name: an object or folder in a bucket, a local path, or standard input and output.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use domain::{BucketName, ObjectKey};

use crate::failure::Failure;
use crate::output::printable;

/// `sr://` and its long form.
const SCHEMES: [&str; 2] = ["sr://", "strongroom://"];

/// A place in a bucket: the whole bucket, an object, a prefix, or a glob, depending on the command.
///
/// The key is taken literally, byte by byte: nothing in it is percent-decoded, and `..` or `//` have no meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The bucket.
    pub bucket: BucketName,
    /// What follows the bucket; empty for the bucket itself.
    pub key: String,
}

/// One operand of a command that moves data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operand {
    /// `sr://bucket/key`.
    Remote(Remote),
    /// A path on this machine.
    Local(PathBuf),
    /// `-`: standard input as a source, standard output as a target.
    Stdio,
}

impl Remote {
    /// Reads `sr://bucket/key`, `strongroom://bucket/key` or `bucket/key`.
    ///
    /// # Errors
    /// A usage failure that quotes the address.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let rest = strip_scheme(text).unwrap_or(text);
        let wrong = |why: &str| {
            Failure::usage(format!("`{}` is not an address: {why}", printable(text)))
                .advise("write sr://BUCKET/KEY")
        };
        if rest.contains("://") && strip_scheme(text).is_none() {
            return Err(wrong("the scheme is sr:// or strongroom://"));
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = bucket
            .parse()
            .map_err(|error: domain::NameError| wrong(&error.to_string()))?;
        if !key.is_empty() {
            key.parse::<ObjectKey>()
                .map_err(|error| wrong(&error.to_string()))?;
        }
        Ok(Self {
            bucket,
            key: key.to_owned(),
        })
    }

    /// The object's key.
    ///
    /// # Errors
    /// A usage failure when the address names a bucket only.
    pub fn object(&self) -> Result<ObjectKey, Failure> {
        self.key.parse().map_err(|_| {
            Failure::usage(format!("`{self}` names a bucket, not an object"))
                .advise("write sr://BUCKET/KEY")
        })
    }

    /// Whether names are put below it: a bucket, or a key that ends in `/`.
    pub fn is_folder(&self) -> bool {
        self.key.is_empty() || self.key.ends_with('/')
    }

    /// The key of `name` below this folder.
    ///
    /// # Errors
    /// A usage failure when the key would be too long.
    pub fn join(&self, name: &str) -> Result<Self, Failure> {
        let key = match self.key.as_str() {
            "" => name.to_owned(),
            folder if folder.ends_with('/') => format!("{folder}{name}"),
            folder => format!("{folder}/{name}"),
        };
        key.parse::<ObjectKey>().map_err(|error| {
            Failure::usage(format!("`{}` cannot be a key: {error}", printable(&key)))
        })?;
        Ok(Self {
            bucket: self.bucket.clone(),
            key,
        })
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sr://{}", self.bucket)?;
        if self.key.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", printable(&self.key))
        }
    }
}

impl Operand {
    /// Reads an operand; only a scheme makes it remote.
    ///
    /// # Errors
    /// A usage failure for a broken address.
    pub fn parse(text: &OsStr) -> Result<Self, Failure> {
        if text == "-" {
            return Ok(Self::Stdio);
        }
        match text.to_str() {
            Some(text) if strip_scheme(text).is_some() => Remote::parse(text).map(Self::Remote),
            _ => Ok(Self::Local(PathBuf::from(text))),
        }
    }

    /// Reads an operand of a place where only an address makes sense, so that the scheme may be left out.
    ///
    /// # Errors
    /// A usage failure for anything that is no address.
    pub fn remote(text: &OsStr) -> Result<Remote, Failure> {
        let text = text.to_str().ok_or_else(|| {
            Failure::usage(format!(
                "`{}` is not an address: it is not UTF-8",
                text.display()
            ))
        })?;
        Remote::parse(text)
    }

    /// Several addresses in the platform.
    ///
    /// # Errors
    /// As [`Operand::remote`], of the first that is wrong.
    pub fn remotes(texts: &[OsString]) -> Result<Vec<Remote>, Failure> {
        texts.iter().map(|text| Self::remote(text)).collect()
    }
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Remote(remote) => remote.fmt(f),
            Self::Local(path) => f.write_str(&printable(&path.to_string_lossy())),
            Self::Stdio => f.write_str("-"),
        }
    }
}

/// Whether a source names "what is inside" rather than the folder: it ends in `/`, as rsync has it.
pub fn names_contents(text: &OsString) -> bool {
    text.as_encoded_bytes().ends_with(b"/")
}

fn strip_scheme(text: &str) -> Option<&str> {
    SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> (String, String) {
        let remote = Remote::parse(text).unwrap();
        (remote.bucket.to_string(), remote.key)
    }

    #[test]
    fn addresses_are_read_with_either_scheme_and_without() {
        let pair = |bucket: &str, key: &str| (bucket.to_owned(), key.to_owned());
        assert_eq!(remote("sr://photos/a/b.jpg"), pair("photos", "a/b.jpg"));
        assert_eq!(remote("strongroom://photos/a"), pair("photos", "a"));
        assert_eq!(remote("photos/a"), pair("photos", "a"));
        assert_eq!(remote("sr://photos"), pair("photos", ""));
        assert_eq!(remote("sr://photos/"), pair("photos", ""));
    }

    #[test]
    fn keys_are_taken_literally() {
        for key in [
            "../../etc/passwd",
            "a//b",
            "%2e%2e",
            "日本/語",
            "a?b#c",
            " ",
            "x://y",
        ] {
            assert_eq!(remote(&format!("sr://photos/{key}")).1, key);
        }
    }

    #[test]
    fn broken_addresses_are_refused_with_a_reason() {
        for (text, reason) in [
            ("", "3 to 63"),
            ("sr://", "3 to 63"),
            ("sr:///key", "3 to 63"),
            ("sr://Photos/a", "a-z"),
            ("s3://photos/a", "scheme"),
            ("sr://ab/x", "3 to 63"),
        ] {
            let failure = Remote::parse(text).unwrap_err();
            assert!(failure.message.contains(reason), "{text}: {failure}");
            assert_eq!(failure.exit, crate::failure::Exit::Usage);
        }
        let long = format!("sr://photos/{}", "k".repeat(10_000));
        assert!(Remote::parse(&long).unwrap_err().message.contains("1,024"));
        assert!(
            Remote::parse("sr://photos/a\0b")
                .unwrap_err()
                .message
                .contains("NUL")
        );
    }

    #[test]
    fn only_a_scheme_makes_an_operand_remote() {
        let parse = |text: &str| Operand::parse(OsStr::new(text)).unwrap();
        assert_eq!(parse("photos/a"), Operand::Local("photos/a".into()));
        assert_eq!(parse("-"), Operand::Stdio);
        assert_eq!(parse("./-"), Operand::Local("./-".into()));
        assert!(matches!(parse("sr://photos/a"), Operand::Remote(_)));
    }

    #[test]
    fn joining_puts_names_below_folders() {
        let check = |base: &str, name: &str, key: &str| {
            assert_eq!(Remote::parse(base).unwrap().join(name).unwrap().key, key);
        };
        check("sr://photos", "a", "a");
        check("sr://photos/x/", "a/b", "x/a/b");
        check("sr://photos/x", "a", "x/a");
        assert!(
            Remote::parse("sr://photos/x")
                .unwrap()
                .join(&"k".repeat(1_024))
                .is_err()
        );
        assert!(Remote::parse("sr://photos").unwrap().object().is_err());
    }
}
