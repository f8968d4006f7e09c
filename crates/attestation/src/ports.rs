//! What platforms provide: evidence, its verification, and a key to seal with. One implementation of each per platform.

use std::error::Error;
use std::fmt;

use crypto::Secret;
use domain::{PlatformType, TimestampMs};

use crate::binding::ReportData;
use crate::claims::{Claims, Measurement};
use crate::evidence::Evidence;
use crate::role::Role;

/// Makes evidence about the process that asks.
pub trait EvidenceSource: Send + Sync {
    /// What protects the process.
    fn platform(&self) -> PlatformType;

    /// Which code it runs.
    fn measurement(&self) -> Measurement;

    /// Evidence with `report_data` in it. May block for milliseconds; call it off an async runtime's threads.
    ///
    /// # Errors
    /// [`SourceError`] when the platform does not answer.
    fn evidence(
        &self,
        role: Role,
        report_data: &ReportData,
        now: TimestampMs,
    ) -> Result<Evidence, SourceError>;
}

/// Gives the key under which a role's store is sealed on this machine: the same one every time for code that may read
/// it, and nobody else's.
pub trait SealingKeySource: Send + Sync {
    /// What protects the key.
    fn platform(&self) -> PlatformType;

    /// The sealing root of `role`.
    ///
    /// # Errors
    /// [`SourceError`] when the platform has none for it.
    fn sealing_root(&self, role: Role) -> Result<Secret<32>, SourceError>;
}

/// The platform did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the {platform} platform cannot {action}: {source}")]
pub struct SourceError {
    /// Which platform.
    pub platform: PlatformType,
    /// What was asked, as a verb.
    pub action: &'static str,
    /// Its answer.
    pub source: Box<dyn Error + Send + Sync>,
}

/// Turns a platform's evidence into claims.
pub trait Verifier: Send + Sync {
    /// Whose evidence this verifies.
    fn platform(&self) -> PlatformType;

    /// Checks that the evidence is authentic and valid at `now`, collateral and revocation included. Whether what it
    /// says is acceptable is not this function's concern.
    ///
    /// # Errors
    /// [`VerifyError`].
    fn verify(&self, evidence: &Evidence, now: TimestampMs) -> Result<Claims, VerifyError>;
}

/// Why evidence is not authentic, or not now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The platform's bytes do not parse.
    #[error("malformed {platform} evidence: {reason}")]
    Malformed {
        /// Which platform.
        platform: PlatformType,
        /// What is wrong.
        reason: String,
    },
    /// Not signed by what the platform's evidence must be signed by.
    #[error("the signature on the {platform} evidence does not lead to its root")]
    Signature {
        /// Which platform.
        platform: PlatformType,
    },
    /// Dated in the future, beyond the tolerated difference of clocks.
    #[error("the evidence begins at {not_before:?}, and it is {now:?}")]
    NotYetValid {
        /// When it begins.
        not_before: TimestampMs,
        /// The time that was passed.
        now: TimestampMs,
    },
    /// Its time is over.
    #[error("the evidence ended at {not_after:?}, and it is {now:?}")]
    Expired {
        /// When it ended.
        not_after: TimestampMs,
        /// The time that was passed.
        now: TimestampMs,
    },
    /// Claims a longer life than evidence may have.
    #[error("the evidence claims to live for {lifetime_ms} ms, at most {max_ms} are allowed")]
    TooLong {
        /// What it claims.
        lifetime_ms: u64,
        /// What is allowed.
        max_ms: u64,
    },
    /// A certificate or platform level on a revocation list.
    #[error("revoked by the {platform} platform's vendor")]
    RevokedByVendor {
        /// Which platform.
        platform: PlatformType,
    },
}

/// The verifiers that a process has, one per platform. Empty at first: every platform is then unsupported.
#[derive(Default)]
pub struct Verifiers(Vec<Box<dyn Verifier>>);

impl Verifiers {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one, in place of an earlier one for the same platform.
    #[must_use]
    pub fn with(mut self, verifier: impl Verifier + 'static) -> Self {
        self.0
            .retain(|known| known.platform() != verifier.platform());
        self.0.push(Box::new(verifier));
        self
    }

    /// The one for `platform`.
    #[must_use]
    pub fn get(&self, platform: PlatformType) -> Option<&dyn Verifier> {
        self.0
            .iter()
            .map(AsRef::as_ref)
            .find(|verifier| verifier.platform() == platform)
    }
}

impl fmt::Debug for Verifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|verifier| verifier.platform()))
            .finish()
    }
}
