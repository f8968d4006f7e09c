//! A deployment with its root, a policy that accepts one program, and evidence of it.

use attestation::{
    Appraisal, AppraisalError, Evidence, Expected, Measurement, Policy, ReportData, Role,
    SecurityVersions, SoftwareStatement, SoftwareVerifier, Verifiers, appraise,
};
use crypto::{Identity, Secret};
use domain::{DeploymentId, PlatformType, TimestampMs};

pub const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
pub const NOW: TimestampMs = TimestampMs(1_800_000_000_000);
pub const PROGRAM: Measurement = Measurement([2; 32]);
pub const REPORT_DATA: ReportData = ReportData([3; 64]);

pub fn root(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

pub fn statement() -> SoftwareStatement {
    SoftwareStatement {
        root: root(7).principal(),
        measurement: PROGRAM,
        role: Role::Custodian,
        report_data: REPORT_DATA,
        debug: false,
        security_version: 5,
        not_before: NOW,
        not_after: TimestampMs(NOW.0 + 600_000),
    }
}

pub fn evidence() -> Evidence {
    statement().danger_sign(&root(7), &DEPLOYMENT)
}

pub fn verifiers() -> Verifiers {
    let software = SoftwareVerifier::danger_new(DEPLOYMENT, root(7).principal(), true);
    Verifiers::new().with(software.unwrap())
}

pub fn policy() -> Policy {
    Policy {
        version: 4,
        ..Policy::default()
    }
    .allow(Role::Custodian, PROGRAM)
    .accept(
        PlatformType::Software,
        SecurityVersions {
            code: 5,
            ..SecurityVersions::default()
        },
    )
}

pub fn expected() -> Expected {
    Expected {
        role: Role::Custodian,
        report_data: REPORT_DATA,
    }
}

/// Appraises `statement`, rightly signed, with everything else as it should be.
pub fn judge(statement: SoftwareStatement) -> Result<Appraisal, AppraisalError> {
    let evidence = statement.danger_sign(&root(7), &DEPLOYMENT);
    appraise(&evidence, &expected(), &verifiers(), &policy(), NOW)
}
