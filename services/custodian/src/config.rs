//! What a custodian is told when it starts.

use std::path::PathBuf;
use std::time::Duration;

use enclave_client::Address;

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The data folder; the sealed store lies in `store` below it.
    pub data: PathBuf,
    /// The genesis record. Whoever starts the process pins it, and the measurement does not cover it: the sealed store belongs to
    /// one deployment, and everything that is signed names it.
    pub genesis: PathBuf,
    /// The relay's socket.
    pub relay: PathBuf,
    /// Where to listen.
    pub listen: Address,
    /// What protects the process.
    pub platform: Platform,
}

/// What protects the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Nothing: keys in this configuration folder stand in for hardware. Development deployments only.
    DangerSoftware(PathBuf),
}

/// Text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform: write software:DIR (development only)")]
pub struct PlatformParseError(String);

impl std::str::FromStr for Platform {
    type Err = PlatformParseError;

    fn from_str(text: &str) -> Result<Self, PlatformParseError> {
        match text.split_once(':') {
            Some(("software", dir)) if !dir.is_empty() => Ok(Self::DangerSoftware(dir.into())),
            _ => Err(PlatformParseError(text.to_owned())),
        }
    }
}

/// Bounds of one custodian, beside those of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Key generations at a time.
    pub ceremonies_max: usize,
    /// Attempts at versions whose fate is open, kept at a time.
    pub pending_max: usize,
    /// Of keys of one owner, at a time: so that nobody keeps all others from making keys.
    pub pending_of_one_max: usize,
    /// Audit records that are kept; the oldest go first.
    pub audit_records_max: u64,
    /// Refusals a second that get a record of their own, of requests with a good signature; a tenth as many others. More are counted.
    pub denials_per_second: u32,
    /// Shares that are kept in locked memory, to be read from the store no more.
    pub hot_shares: usize,
    /// Questions that are computed at a time; more wait.
    pub computing_max: usize,
    /// After so many new audit records the log's end is put on the ledger...
    pub anchor_records: u64,
    /// ... but not so soon after the last time.
    pub anchor_gap: Duration,
    /// After this long the log's end is put on the ledger however few records are new.
    pub anchor_within: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            ceremonies_max: 64,
            pending_max: 4_096,
            pending_of_one_max: 256,
            audit_records_max: 500_000,
            denials_per_second: 2,
            hot_shares: 1_024,
            computing_max: std::thread::available_parallelism().map_or(2, usize::from),
            anchor_records: 1_000,
            anchor_gap: Duration::from_secs(10),
            anchor_within: Duration::from_secs(600),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_named() {
        let software = Platform::DangerSoftware("/x:y".into());
        assert_eq!("software:/x:y".parse(), Ok(software));
        for text in ["", "software", "software:", "sgx:1", "Software:/x"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
