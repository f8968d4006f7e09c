//! What verified evidence says.

use std::fmt;
use std::str::FromStr;

use crypto::Label;
use domain::{IdParseError, PlatformType, TimestampMs};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::binding::ReportData;
use crate::role::Role;

/// Which code runs: a hash over the platform type and all of its code-measuring registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Measurement(pub [u8; 32]);

impl Measurement {
    /// BLAKE3 of `strongroom/v1/measurement 00 platform(1)`, then for each register its length (u16, big-endian) and its
    /// bytes. Software: one register, BLAKE3-256 of the program file. SGX: MRENCLAVE. TDX: MRTD, RTMR0 to RTMR3.
    /// SEV-SNP: MEASUREMENT. Nitro: PCR0, PCR1, PCR2.
    ///
    /// `None` when a register is longer than 65,535 bytes.
    #[must_use]
    pub fn of_registers(platform: PlatformType, registers: &[&[u8]]) -> Option<Self> {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Label::MEASUREMENT.bare());
        hasher.update(&[platform.code()]);
        for register in registers {
            let length = u16::try_from(register.len()).ok()?;
            hasher.update(&length.to_be_bytes());
            hasher.update(register);
        }
        Some(Self(*hasher.finalize().as_bytes()))
    }

    /// Of a program on the software platform, from BLAKE3-256 of its file.
    #[must_use]
    pub fn of_program(file_hash: &[u8; 32]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Label::MEASUREMENT.bare());
        hasher.update(&[PlatformType::Software.code(), 0, 32]);
        hasher.update(file_hash);
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Measurement({self})")
    }
}

impl FromStr for Measurement {
    type Err = IdParseError;

    fn from_str(text: &str) -> Result<Self, IdParseError> {
        data_encoding::HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Self)
            .ok_or(IdParseError {
                kind: "measurement",
                expected: "64 lower-case hexadecimal digits",
            })
    }
}

impl Serialize for Measurement {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Measurement {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        <[u8; 32]>::try_from(bytes.as_slice())
            .map(Self)
            .map_err(|_| D::Error::invalid_length(bytes.len(), &"32 bytes"))
    }
}

/// Numbers that only ever grow, and below which a platform is refused. What a platform does not have is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityVersions {
    /// Of the code: SGX ISVSVN, TDX's from its signer, SNP guest SVN, the software platform's own.
    pub code: u64,
    /// Of the platform: Intel's TCB-evaluation data number, SNP's reported TCB as one number.
    pub tcb: u64,
    /// Of the newest revocation list that was looked at: its CRL number.
    pub crl: u64,
}

impl SecurityVersions {
    /// The name of the first number that is below `minimum`'s.
    #[must_use]
    pub fn below(&self, minimum: &Self) -> Option<&'static str> {
        [
            (self.code, minimum.code, "code"),
            (self.tcb, minimum.tcb, "tcb"),
            (self.crl, minimum.crl, "crl"),
        ]
        .into_iter()
        .find_map(|(have, want, name)| (have < want).then_some(name))
    }
}

/// What authentic evidence says. Not yet that it is acceptable: see [`crate::appraise`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What protects the process.
    pub platform: PlatformType,
    /// Which code runs.
    pub measurement: Measurement,
    /// The role, where the platform's own evidence names one; hardware binds it through the report data alone.
    pub role: Option<Role>,
    /// What the process had put in.
    pub report_data: ReportData,
    /// Whether its owner may look inside.
    pub debug: bool,
    /// Security versions.
    pub security: SecurityVersions,
    /// When the evidence, or a certificate or list under it, ends.
    pub not_after: TimestampMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_depends_on_platform_and_register_borders() {
        let of =
            |platform, registers: &[&[u8]]| Measurement::of_registers(platform, registers).unwrap();
        let base = of(PlatformType::Nitro, &[b"ab", b"c"]);
        assert_ne!(base, of(PlatformType::Nitro, &[b"a", b"bc"]));
        assert_ne!(base, of(PlatformType::Nitro, &[b"abc"]));
        assert_ne!(base, of(PlatformType::Tdx, &[b"ab", b"c"]));
        assert_eq!(
            of(PlatformType::Software, &[&[7; 32]]),
            Measurement::of_program(&[7; 32])
        );
        assert!(Measurement::of_registers(PlatformType::Sgx, &[&vec![0; 65_536]]).is_none());
        assert_eq!(base.to_string().parse(), Ok(base));
        assert!("ab".parse::<Measurement>().is_err());
    }

    #[test]
    fn the_first_number_that_is_too_low_is_named() {
        let have = SecurityVersions {
            code: 2,
            tcb: 2,
            crl: 2,
        };
        assert_eq!(have.below(&have), None);
        let want = |code, tcb, crl| have.below(&SecurityVersions { code, tcb, crl });
        assert_eq!(want(3, 0, 0), Some("code"));
        assert_eq!(want(2, 3, 3), Some("tcb"));
        assert_eq!(want(0, 0, 3), Some("crl"));
    }
}
