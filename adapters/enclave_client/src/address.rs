//! Where an enclave listens.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `unix:PATH` or `tcp:HOST:PORT`. Says where, never who: that is for the session's evidence to show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// Host and port, an IPv6 address in brackets.
    Tcp(String),
}

/// Text that is no [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no address: write unix:PATH or tcp:HOST:PORT")]
pub struct AddressError(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp:{host}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        match text.split_once(':').ok_or_else(wrong)? {
            ("unix", path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            ("tcp", host) => {
                let (name, port) = host.rsplit_once(':').ok_or_else(wrong)?;
                if name.is_empty() || port.parse::<u16>().is_err() {
                    return Err(wrong());
                }
                Ok(Self::Tcp(host.to_owned()))
            }
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in [
            "unix:/run/c.sock",
            "unix:c",
            "tcp:127.0.0.1:80",
            "tcp:[::1]:4",
            "tcp:a.example:0",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "unix:",
            "tcp:",
            "tcp:host",
            "tcp::80",
            "tcp:host:65536",
            "http://x",
            "/run/c.sock",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
