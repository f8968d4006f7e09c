//! From evidence to a decision (RFC 9334, section 8): verification, then the policy.

use domain::{PlatformType, TimestampMs};

use crate::binding::ReportData;
use crate::claims::{Claims, Measurement, SecurityVersions};
use crate::evidence::Evidence;
use crate::policy::Policy;
use crate::ports::{Verifiers, VerifyError};
use crate::role::Role;

/// How long an appraisal counts, at most: one hour.
pub const APPRAISAL_LIFETIME_MS_MAX: u64 = 3_600_000;

/// What the session at hand demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// What the peer says that it acts as.
    pub role: Role,
    /// What its evidence must be bound to.
    pub report_data: ReportData,
}

/// Evidence that was found good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appraisal {
    /// What the peer acts as.
    pub role: Role,
    /// What its evidence says.
    pub claims: Claims,
    /// Under which version of the policy.
    pub policy_version: u64,
    /// When it has to be appraised again: one hour from now, or when the evidence ends.
    pub valid_until: TimestampMs,
}

/// Why evidence is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppraisalError {
    /// No verifier for it here.
    #[error(
        "evidence of the {platform} platform is not supported here{}",
        if *.platform == PlatformType::Software { ": software attestation is for development deployments only" } else { "" }
    )]
    UnsupportedPlatform {
        /// Which platform.
        platform: PlatformType,
    },
    /// Not authentic, or not now.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The record claims something else than the platform's evidence says.
    #[error("the record's {field} is not what the platform's evidence says")]
    ClaimDiffers {
        /// Which one.
        field: &'static str,
    },
    /// Evidence of another role than the peer acts as.
    #[error("evidence of a {evidence}, and the peer acts as a {expected}")]
    Role {
        /// What the evidence is for.
        evidence: Role,
        /// What the peer acts as.
        expected: Role,
    },
    /// Bound to another session, direction, key or deployment: relayed, reflected or replayed.
    #[error("the evidence belongs to another session")]
    ReportData,
    /// Its owner may look inside.
    #[error("a debug enclave is never acceptable")]
    Debug,
    /// The policy does not name the platform.
    #[error("the attestation policy does not accept the {platform} platform")]
    PlatformNotAccepted {
        /// Which platform.
        platform: PlatformType,
    },
    /// Below the policy's least number.
    #[error(
        "the {platform} platform's {which} security version is too low: {have:?}, and the policy wants {want:?}"
    )]
    SecurityVersion {
        /// Which platform.
        platform: PlatformType,
        /// Which number.
        which: &'static str,
        /// What the evidence says.
        have: SecurityVersions,
        /// What the policy demands.
        want: SecurityVersions,
    },
    /// The policy revokes this code.
    #[error("measurement {measurement} is revoked")]
    Revoked {
        /// Which code.
        measurement: Measurement,
    },
    /// The policy does not allow this code for the role.
    #[error("measurement {measurement} is not allowed as a {role}")]
    NotAllowed {
        /// Which code.
        measurement: Measurement,
        /// What it wants to be.
        role: Role,
    },
}

impl AppraisalError {
    /// A stable word for logs, audit records and counters.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnsupportedPlatform { .. } => "unsupported-platform",
            Self::Verify(VerifyError::Malformed { .. }) => "malformed-evidence",
            Self::Verify(VerifyError::Signature { .. }) => "evidence-signature",
            Self::Verify(VerifyError::NotYetValid { .. }) => "evidence-not-yet-valid",
            Self::Verify(VerifyError::Expired { .. }) => "evidence-expired",
            Self::Verify(VerifyError::TooLong { .. }) => "evidence-too-long",
            Self::Verify(VerifyError::RevokedByVendor { .. }) => "platform-revoked",
            Self::ClaimDiffers { .. } => "claim-differs",
            Self::Role { .. } => "wrong-role",
            Self::ReportData => "wrong-session",
            Self::Debug => "debug-enclave",
            Self::PlatformNotAccepted { .. } => "platform-not-accepted",
            Self::SecurityVersion { .. } => "security-version",
            Self::Revoked { .. } => "measurement-revoked",
            Self::NotAllowed { .. } => "measurement-not-allowed",
        }
    }
}

/// Verifies evidence, then holds it against the session and the policy.
///
/// # Errors
/// [`AppraisalError`]: the first thing that is wrong, authenticity before content before policy.
pub fn appraise(
    evidence: &Evidence,
    expected: &Expected,
    verifiers: &Verifiers,
    policy: &Policy,
    now: TimestampMs,
) -> Result<Appraisal, AppraisalError> {
    let platform = evidence.platform;
    let verifier = verifiers
        .get(platform)
        .ok_or(AppraisalError::UnsupportedPlatform { platform })?;
    let claims = verifier.verify(evidence, now)?;
    check_record(evidence, &claims)?;
    if evidence.role != expected.role {
        return Err(AppraisalError::Role {
            evidence: evidence.role,
            expected: expected.role,
        });
    }
    if claims.report_data != expected.report_data {
        return Err(AppraisalError::ReportData);
    }
    check_policy(&claims, expected.role, policy)?;
    let valid_until = now
        .0
        .saturating_add(APPRAISAL_LIFETIME_MS_MAX)
        .min(claims.not_after.0);
    Ok(Appraisal {
        role: expected.role,
        claims,
        policy_version: policy.version,
        valid_until: TimestampMs(valid_until),
    })
}

/// Whether what was accepted once would be accepted under `policy` too. Report data and validity are not looked at
/// again.
///
/// # Errors
/// [`AppraisalError`].
pub fn check_policy(claims: &Claims, role: Role, policy: &Policy) -> Result<(), AppraisalError> {
    let (platform, measurement) = (claims.platform, claims.measurement);
    if claims.debug {
        return Err(AppraisalError::Debug);
    }
    let minimum = policy
        .platforms
        .get(&platform)
        .ok_or(AppraisalError::PlatformNotAccepted { platform })?;
    if let Some(which) = claims.security.below(minimum) {
        return Err(AppraisalError::SecurityVersion {
            platform,
            which,
            have: claims.security,
            want: *minimum,
        });
    }
    if policy.revoked.contains(&measurement) {
        return Err(AppraisalError::Revoked { measurement });
    }
    let allowed = policy.allowed.get(&role);
    if !allowed.is_some_and(|allowed| allowed.contains(&measurement)) {
        return Err(AppraisalError::NotAllowed { measurement, role });
    }
    Ok(())
}

fn check_record(evidence: &Evidence, claims: &Claims) -> Result<(), AppraisalError> {
    let field = if claims.platform != evidence.platform {
        "platform"
    } else if claims.measurement != evidence.measurement {
        "measurement"
    } else if claims.role.is_some_and(|role| role != evidence.role) {
        "role"
    } else if claims.report_data != evidence.report_data {
        "report data"
    } else {
        return Ok(());
    };
    Err(AppraisalError::ClaimDiffers { field })
}
