//! Ids, counters and sizes of the custody plane: named keys, their versions, sharings and custodians, ledger heights.

use std::fmt;
use std::str::FromStr;

use crate::base_ids::{IdParseError, hex_id, id_serde};

hex_id!(
    /// A named key: the hash of its creation record.
    KeyId, 32, "key id", "64 lower-case hexadecimal digits"
);
hex_id!(
    /// A committee: the hash of the ledger record that fixes its custodians and their slots.
    CommitteeId, 32, "committee id", "64 lower-case hexadecimal digits"
);

/// A number that is out of its type's range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {kind}: expected {expected}")]
pub struct NumberError {
    /// What was being parsed, in words.
    pub kind: &'static str,
    /// The accepted range.
    pub expected: &'static str,
}

/// A number that starts at 1: zero is refused wherever it comes in.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $number:ident, $repr:literal, $kind:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            PartialOrd,
            Ord,
            Hash,
            serde::Serialize,
            serde::Deserialize,
        )]
        #[serde(try_from = $repr, into = $repr)]
        pub struct $name($number);

        impl $name {
            /// The first.
            pub const FIRST: Self = Self(1);

            /// Takes 1 and above.
            ///
            /// # Errors
            /// [`NumberError`] for 0.
            pub const fn new(number: $number) -> Result<Self, NumberError> {
                if number == 0 {
                    return Err(NumberError { kind: $kind, expected: $expected });
                }
                Ok(Self(number))
            }

            /// The number.
            #[must_use]
            pub const fn get(self) -> $number {
                self.0
            }

            /// The one after; `None` at the end of the range.
            #[must_use]
            pub const fn next(self) -> Option<Self> {
                match self.0.checked_add(1) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = NumberError;

            fn from_str(text: &str) -> Result<Self, NumberError> {
                text.parse()
                    .map_err(|_| NumberError { kind: $kind, expected: $expected })
                    .and_then(Self::new)
            }
        }

        impl TryFrom<$number> for $name {
            type Error = NumberError;

            fn try_from(number: $number) -> Result<Self, NumberError> {
                Self::new(number)
            }
        }

        impl From<$name> for $number {
            fn from(value: $name) -> Self {
                value.0
            }
        }
    };
}

counter!(
    /// A version of a named key: rotation makes the next one.
    KeyVersion, u32, "u32", "key version", "a number from 1 to 4,294,967,295"
);
counter!(
    /// One sharing of a key version: refresh and reshare make the next one.
    Epoch, u64, "u64", "epoch", "a number from 1 to 18,446,744,073,709,551,615"
);
counter!(
    /// A share's x-coordinate, 1 to 255. Zero would be the secret itself.
    ShareIndex, u8, "u8", "share index", "a number from 1 to 255"
);

/// Place of a block in the ledger: the genesis is 0.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// t of n: any t shares open, fewer tell nothing. 1 <= t <= n <= 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Threshold {
    t: u8,
    n: u8,
}

impl Threshold {
    /// Checks 1 <= t <= n.
    ///
    /// # Errors
    /// [`NumberError`] otherwise.
    pub const fn new(t: u8, n: u8) -> Result<Self, NumberError> {
        if t == 0 || t > n {
            return Err(THRESHOLD_ERROR);
        }
        Ok(Self { t, n })
    }

    /// t: shares that are needed.
    #[must_use]
    pub const fn t(self) -> u8 {
        self.t
    }

    /// n: shares that exist (standbys hold copies, not shares of their own).
    #[must_use]
    pub const fn n(self) -> u8 {
        self.n
    }

    /// Whether a share of that index exists.
    #[must_use]
    pub const fn has(self, index: ShareIndex) -> bool {
        index.0 <= self.n
    }

    /// Every index: 1 to n.
    pub fn indices(self) -> impl DoubleEndedIterator<Item = ShareIndex> + ExactSizeIterator {
        (0..self.n).map(|before| ShareIndex(before + 1))
    }
}

const THRESHOLD_ERROR: NumberError = NumberError {
    kind: "threshold",
    expected: "T-of-N with 1 <= T <= N <= 255",
};

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.t, self.n)
    }
}

impl FromStr for Threshold {
    type Err = NumberError;

    /// Reads what [`fmt::Display`] writes, `3-of-5`.
    fn from_str(text: &str) -> Result<Self, NumberError> {
        let (t, n) = text.split_once("-of-").ok_or(THRESHOLD_ERROR)?;
        let number = |digits: &str| digits.parse().map_err(|_| THRESHOLD_ERROR);
        Self::new(number(t)?, number(n)?)
    }
}

impl<'de> serde::Deserialize<'de> for Threshold {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts {
            t: u8,
            n: u8,
        }
        let Parts { t, n } = Parts::deserialize(deserializer)?;
        Self::new(t, n).map_err(serde::de::Error::custom)
    }
}

/// Whose copy of a share: the custodian's that serves the index, or its standby's.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Which share.
    pub index: ShareIndex,
    /// Whether this copy waits rather than serves.
    pub standby: bool,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let standby = if self.standby { " (standby)" } else { "" };
        write!(f, "{}{standby}", self.index)
    }
}

/// What protects an enclave's memory and seals its store.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub enum PlatformType {
    /// An ordinary process: protects nothing from that machine's owner.
    Software,
    /// Intel SGX.
    Sgx,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    SevSnp,
    /// AWS Nitro Enclaves.
    Nitro,
}

impl PlatformType {
    /// The stored form.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Software => 0,
            Self::Sgx => 1,
            Self::Tdx => 2,
            Self::SevSnp => 3,
            Self::Nitro => 4,
        }
    }

    /// The name that users read and write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::SevSnp => "sev-snp",
            Self::Nitro => "nitro",
        }
    }
}

impl fmt::Display for PlatformType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<PlatformType> for u8 {
    fn from(platform: PlatformType) -> Self {
        platform.code()
    }
}

impl TryFrom<u8> for PlatformType {
    type Error = NumberError;

    fn try_from(code: u8) -> Result<Self, NumberError> {
        match code {
            0 => Ok(Self::Software),
            1 => Ok(Self::Sgx),
            2 => Ok(Self::Tdx),
            3 => Ok(Self::SevSnp),
            4 => Ok(Self::Nitro),
            _ => Err(NumberError {
                kind: "platform type",
                expected: "0 (software), 1 (sgx), 2 (tdx), 3 (sev-snp) or 4 (nitro)",
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_start_at_one_and_stop_at_their_end() {
        assert!(KeyVersion::new(0).is_err() && "0".parse::<Epoch>().is_err());
        assert!("-1".parse::<KeyVersion>().is_err() && "256".parse::<ShareIndex>().is_err());
        assert_eq!(ShareIndex::new(254).unwrap().next().unwrap().get(), 255);
        assert_eq!(ShareIndex::new(255).unwrap().next(), None);
        assert_eq!("7".parse::<Epoch>().unwrap().to_string(), "7");
    }

    #[test]
    fn thresholds_are_bounded() {
        for (t, n) in [(0, 0), (0, 5), (6, 5), (255, 254)] {
            assert!(Threshold::new(t, n).is_err(), "{t} of {n}");
        }
        for (t, n) in [(1, 1), (3, 5), (255, 255)] {
            let threshold = Threshold::new(t, n).unwrap();
            assert_eq!(threshold.to_string().parse(), Ok(threshold));
            assert_eq!(threshold.indices().len(), usize::from(n));
            assert_eq!(threshold.indices().next().unwrap(), ShareIndex::FIRST);
            assert!(threshold.indices().all(|index| threshold.has(index)));
        }
        for bad in ["3/5", "3-of-", "", "5-of-3", "3-of-256", "+3-of-5-of-7"] {
            assert!(bad.parse::<Threshold>().is_err(), "{bad}");
        }
        let last = Threshold::new(3, 5).unwrap().indices().last().unwrap();
        assert_eq!(last.get(), 5);
        assert!(!Threshold::new(3, 5).unwrap().has(ShareIndex(6)));
    }

    #[test]
    fn platform_codes_are_stable() {
        for code in 0..=255 {
            match PlatformType::try_from(code) {
                Ok(platform) => assert_eq!(platform.code(), code),
                Err(_) => assert!(code > 4),
            }
        }
    }
}
