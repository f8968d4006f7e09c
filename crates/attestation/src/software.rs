//! The software platform: a process that claims things about itself, signed by a key that lies on the same machine.
//!
//! It protects nothing from that machine's owner. It exists so that everything around attestation can be built, run and
//! tested where there is no hardware for it, through the same ports as the hardware; and its verifier cannot even be
//! made unless the genesis says `development`.

use crypto::identity::{self, Identity};
use crypto::{Label, Signature};
use domain::{DeploymentId, PlatformType, Principal, TimestampMs};
use records::codec::{self, RecordError, TypeName, Typed, V1};
use serde::{Deserialize, Serialize};

use crate::binding::ReportData;
use crate::claims::{Claims, Measurement, SecurityVersions};
use crate::evidence::Evidence;
use crate::ports::{Verifier, VerifyError};
use crate::role::Role;

/// How long a statement lives, at most: one hour.
pub const STATEMENT_LIFETIME_MS_MAX: u64 = 3_600_000;
/// How far the clocks of two machines may differ: one minute.
pub const CLOCK_DIFFERENCE_MS_MAX: u64 = 60_000;
/// Bytes of a statement, at most.
const STATEMENT_BYTES_MAX: usize = 512;

/// What the software platform signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareStatement {
    /// Whose key signs.
    pub root: Principal,
    /// Hash of the program.
    pub measurement: Measurement,
    /// What the process acts as.
    pub role: Role,
    /// What the process had put in.
    pub report_data: ReportData,
    /// Whether the process lets itself be looked into (not hardened, or under a debugger).
    pub debug: bool,
    /// The program's security version.
    pub security_version: u64,
    /// When it was made.
    pub not_before: TimestampMs,
    /// When it ends.
    pub not_after: TimestampMs,
}

impl SoftwareStatement {
    /// Signs it as evidence: the statement's deterministic dag-cbor, then 64 bytes of signature over it under the label
    /// `software-evidence`. `root` must be the statement's.
    ///
    /// # Panics
    /// When `root` is another key: nobody could verify the result.
    #[must_use]
    pub fn danger_sign(self, root: &Identity, deployment: &DeploymentId) -> Evidence {
        assert_eq!(
            root.principal(),
            self.root,
            "a statement names the key that signs it"
        );
        let mut evidence = codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            root: self.root,
            role: self.role,
            debug: self.debug,
            not_after: self.not_after,
            not_before: self.not_before,
            measurement: self.measurement,
            report_data: self.report_data,
            security_version: self.security_version,
        });
        let signature = root.sign(Label::SOFTWARE_EVIDENCE, deployment, &evidence);
        evidence.extend_from_slice(&signature.0);
        Evidence {
            platform: PlatformType::Software,
            role: self.role,
            measurement: self.measurement,
            report_data: self.report_data,
            evidence,
            collateral: Vec::new(),
        }
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(body)?;
        Ok(Self {
            root: wire.root,
            measurement: wire.measurement,
            role: wire.role,
            report_data: wire.report_data,
            debug: wire.debug,
            security_version: wire.security_version,
            not_before: wire.not_before,
            not_after: wire.not_after,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    root: Principal,
    role: Role,
    debug: bool,
    not_after: TimestampMs,
    not_before: TimestampMs,
    measurement: Measurement,
    report_data: ReportData,
    security_version: u64,
}

impl Typed for Wire {
    const TYPE: &'static str = "software-evidence";
    const BYTES_MAX: usize = STATEMENT_BYTES_MAX;
}

/// The genesis does not say `development`, so software attestation counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "software attestation protects nothing and is refused: this deployment's genesis does not say `development`"
)]
pub struct NotDevelopment;

/// Verifies statements of one root.
#[derive(Clone, Debug)]
pub struct SoftwareVerifier {
    deployment: DeploymentId,
    root: Principal,
}

impl SoftwareVerifier {
    /// Trusts `root`, which the genesis pins, in a deployment whose genesis says `development`.
    ///
    /// # Errors
    /// [`NotDevelopment`] when it does not.
    pub const fn danger_new(
        deployment: DeploymentId,
        root: Principal,
        genesis_development: bool,
    ) -> Result<Self, NotDevelopment> {
        if !genesis_development {
            return Err(NotDevelopment);
        }
        Ok(Self { deployment, root })
    }
}

impl Verifier for SoftwareVerifier {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn verify(&self, evidence: &Evidence, now: TimestampMs) -> Result<Claims, VerifyError> {
        let platform = PlatformType::Software;
        let malformed = |reason: String| VerifyError::Malformed { platform, reason };
        if !evidence.collateral.is_empty() {
            return Err(malformed("it has no collateral".to_owned()));
        }
        let (body, signature) = evidence
            .evidence
            .split_last_chunk()
            .ok_or_else(|| malformed("shorter than its signature".to_owned()))?;
        let (label, signature) = (Label::SOFTWARE_EVIDENCE, Signature(*signature));
        // Nothing unsigned is even parsed.
        identity::verify(&self.root, label, &self.deployment, body, &signature)
            .map_err(|_| VerifyError::Signature { platform })?;
        let signed =
            SoftwareStatement::decode(body).map_err(|error| malformed(error.to_string()))?;
        if signed.root != self.root {
            return Err(malformed("it names another root than signed it".to_owned()));
        }
        check_validity(signed.not_before, signed.not_after, now)?;
        Ok(Claims {
            platform,
            measurement: signed.measurement,
            role: Some(signed.role),
            report_data: signed.report_data,
            debug: signed.debug,
            security: SecurityVersions {
                code: signed.security_version,
                ..SecurityVersions::default()
            },
            not_after: signed.not_after,
        })
    }
}

fn check_validity(
    not_before: TimestampMs,
    not_after: TimestampMs,
    now: TimestampMs,
) -> Result<(), VerifyError> {
    if not_before.0 > now.0.saturating_add(CLOCK_DIFFERENCE_MS_MAX) {
        return Err(VerifyError::NotYetValid { not_before, now });
    }
    if not_after <= now {
        return Err(VerifyError::Expired { not_after, now });
    }
    let lifetime_ms = not_after.0.saturating_sub(not_before.0);
    if lifetime_ms > STATEMENT_LIFETIME_MS_MAX {
        return Err(VerifyError::TooLong {
            lifetime_ms,
            max_ms: STATEMENT_LIFETIME_MS_MAX,
        });
    }
    Ok(())
}
