//! The attestation policy: which measurements are allowed, which platform levels are asked for, who decides.

use domain::{Height, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::genesis::Governance;
use crate::record::record;

/// What a platform measures of the code that it runs: at most 64 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Measurement(#[serde(with = "serde_bytes")] Vec<u8>);

/// Why bytes are no measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a measurement has at most 64 bytes")]
pub struct MeasurementError;

impl Measurement {
    /// Takes up to 64 bytes.
    ///
    /// # Errors
    /// [`MeasurementError`] for more.
    pub fn new(bytes: Vec<u8>) -> Result<Self, MeasurementError> {
        if bytes.len() > 64 {
            return Err(MeasurementError);
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for Measurement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measurement(")?;
        for byte in &self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

impl<'de> Deserialize<'de> for Measurement {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        Self::new(bytes).map_err(serde::de::Error::custom)
    }
}

record! {
    /// What the policy says of one measurement in one role on one platform. Absent: refused.
    MeasurementEntry = "measurement", 512;
    /// From when it is allowed.
    allowed_from: TimestampMs,
    /// Denied: whatever the rest says. A later decision may allow it again, after the time lock.
    denied: bool,
    /// The block of the last change.
    height: Height,
}

impl MeasurementEntry {
    /// Whether the measurement is allowed at `now`.
    #[must_use]
    pub fn is_allowed(&self, now: TimestampMs) -> bool {
        !self.denied && now >= self.allowed_from
    }
}

/// The least that evidence of a platform must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minimum {
    /// Intel's TCB evaluation data number, AMD's reported TCB, or the like.
    pub tcb: u64,
    /// Number of the revocation list.
    pub revocation_list: u64,
}

impl Minimum {
    /// Whether this asks for at least as much as `other` in everything.
    #[must_use]
    pub fn is_at_least(self, other: Self) -> bool {
        self.tcb >= other.tcb && self.revocation_list >= other.revocation_list
    }
}

record! {
    /// The least that evidence of one platform must show. Absent: nothing is asked for.
    MinimumEntry = "platform-minimum", 512;
    /// What is asked for now.
    minimum: Minimum,
    /// A lower one that takes its place later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<(Minimum, TimestampMs)>,
    /// The block of the last change.
    height: Height,
}

impl MinimumEntry {
    /// What is asked for at `now`.
    #[must_use]
    pub fn at(&self, now: TimestampMs) -> Minimum {
        match self.next {
            Some((minimum, from)) if now >= from => minimum,
            _ => self.minimum,
        }
    }
}

record! {
    /// Who governs.
    GovernanceEntry = "governance", 16_384;
    /// The keys now.
    governance: Governance,
    /// Keys that take their place later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<(Governance, TimestampMs)>,
    /// The sequence number that the next decision must have.
    sequence: u64,
}

impl GovernanceEntry {
    /// Who governs at `now`.
    #[must_use]
    pub fn at(&self, now: TimestampMs) -> &Governance {
        match &self.next {
            Some((governance, from)) if now >= *from => governance,
            _ => &self.governance,
        }
    }
}
