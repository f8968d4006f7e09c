//! How a chunk is coded: k data shards and m parity shards.

use std::fmt;
use std::str::FromStr;

use crate::limits::SHARDS_MAX;

/// Why two numbers or a name are no coding profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a coding profile: use datacentre (10+4), untrusted (10+10), small (1+4) or K+M with K + M <= 255"
)]
pub struct ProfileError;

/// k data shards and m parity shards, k >= 1, k + m <= 255.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Profile {
    data: u8,
    parity: u8,
}

impl Profile {
    /// 10+4, 1.4 times the bytes.
    pub const DATACENTRE: Self = Self {
        data: 10,
        parity: 4,
    };
    /// 10+10, twice the bytes, for nodes of strangers.
    pub const UNTRUSTED: Self = Self {
        data: 10,
        parity: 10,
    };
    /// 1+4: five copies, for objects of at most 256 KiB and for recovery records.
    pub const SMALL: Self = Self { data: 1, parity: 4 };

    /// Checks k >= 1 and k + m <= 255.
    ///
    /// # Errors
    /// [`ProfileError`] otherwise.
    pub const fn new(data: u8, parity: u8) -> Result<Self, ProfileError> {
        if data == 0 || data as usize + parity as usize > SHARDS_MAX {
            return Err(ProfileError);
        }
        Ok(Self { data, parity })
    }

    /// k: shards that are enough to read.
    #[must_use]
    pub const fn data(self) -> usize {
        self.data as usize
    }

    /// m: shards that may be lost when fully placed.
    #[must_use]
    pub const fn parity(self) -> usize {
        self.parity as usize
    }

    /// n = k + m.
    #[must_use]
    pub const fn total(self) -> usize {
        self.data() + self.parity()
    }

    /// Durable shards that acknowledge a chunk: k + ceil(m / 2).
    #[must_use]
    pub const fn write_quorum(self) -> usize {
        self.data() + self.parity().div_ceil(2)
    }

    /// Bytes of each shard of a chunk of `chunk_bytes`: ceil(len / k).
    #[must_use]
    pub const fn shard_bytes(self, chunk_bytes: usize) -> usize {
        chunk_bytes.div_ceil(self.data())
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.data, self.parity)
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    fn from_str(text: &str) -> Result<Self, ProfileError> {
        match text {
            "datacentre" => Ok(Self::DATACENTRE),
            "untrusted" => Ok(Self::UNTRUSTED),
            "small" => Ok(Self::SMALL),
            _ => {
                let (data, parity) = text.split_once('+').ok_or(ProfileError)?;
                let number = |digits: &str| digits.parse().map_err(|_| ProfileError);
                Self::new(number(data)?, number(parity)?)
            }
        }
    }
}

impl serde::Serialize for Profile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Profile {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quorums_are_those_of_the_design() {
        assert_eq!(Profile::DATACENTRE.write_quorum(), 12);
        assert_eq!(Profile::SMALL.write_quorum(), 3);
        assert_eq!(Profile::DATACENTRE.shard_bytes(4 << 20), 419_431);
    }

    #[test]
    fn profiles_are_bounded() {
        for bad in ["0+4", "200+56", "10", "a+b", "", "-1+3", "256+1"] {
            assert!(bad.parse::<Profile>().is_err(), "{bad}");
        }
        assert_eq!("10+4".parse(), Ok(Profile::DATACENTRE));
        assert_eq!("200+55".parse::<Profile>().unwrap().total(), 255);
    }
}
