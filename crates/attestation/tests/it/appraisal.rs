//! What is refused, one cause at a time, and that nothing else would have refused it.

use attestation::software::{CLOCK_DIFFERENCE_MS_MAX, NotDevelopment, STATEMENT_LIFETIME_MS_MAX};
use attestation::{
    AppraisalError, Evidence, Expected, Measurement, Policy, ReportData, Role, SecurityVersions,
    SoftwareStatement, SoftwareVerifier, Verifiers, VerifyError, appraise,
};
use domain::{DeploymentId, PlatformType, TimestampMs};

use crate::support::{
    DEPLOYMENT, NOW, PROGRAM, REPORT_DATA, evidence, expected, judge, policy, root, statement,
    verifiers,
};

fn code(result: Result<attestation::Appraisal, AppraisalError>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "accepted")
}

fn with_policy(policy: &Policy) -> &'static str {
    code(appraise(
        &evidence(),
        &expected(),
        &verifiers(),
        policy,
        NOW,
    ))
}

fn at(now: u64) -> &'static str {
    code(appraise(
        &evidence(),
        &expected(),
        &verifiers(),
        &policy(),
        TimestampMs(now),
    ))
}

#[test]
fn good_evidence_is_accepted_and_says_what_it_is() {
    let appraisal = judge(statement()).unwrap();
    assert_eq!(appraisal.role, Role::Custodian);
    assert_eq!(appraisal.policy_version, 4);
    assert_eq!(appraisal.claims.measurement, PROGRAM);
    assert_eq!(appraisal.claims.platform, PlatformType::Software);
    assert_eq!(appraisal.claims.security.code, 5);
    assert_eq!(appraisal.valid_until, statement().not_after);
}

#[test]
fn an_appraisal_never_counts_for_more_than_an_hour() {
    let longest = SoftwareStatement {
        not_before: TimestampMs(NOW.0 + CLOCK_DIFFERENCE_MS_MAX),
        not_after: TimestampMs(NOW.0 + CLOCK_DIFFERENCE_MS_MAX + STATEMENT_LIFETIME_MS_MAX),
        ..statement()
    };
    let appraisal = judge(longest).unwrap();
    assert_eq!(appraisal.valid_until, TimestampMs(NOW.0 + 3_600_000));
}

#[test]
fn software_evidence_counts_in_development_only() {
    let principal = root(7).principal();
    assert_eq!(
        SoftwareVerifier::danger_new(DEPLOYMENT, principal, false).err(),
        Some(NotDevelopment)
    );
    // A production process therefore has no verifier for it, whatever the policy says.
    let refused = appraise(&evidence(), &expected(), &Verifiers::new(), &policy(), NOW);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), "unsupported-platform");
    assert!(refused.to_string().contains("development"), "{refused}");
}

#[test]
fn the_session_decides_role_and_report_data() {
    let check = |expected: Expected| {
        code(appraise(
            &evidence(),
            &expected,
            &verifiers(),
            &policy(),
            NOW,
        ))
    };
    assert_eq!(check(expected()), "accepted");
    let worker = Expected {
        role: Role::Worker,
        ..expected()
    };
    assert_eq!(check(worker), "wrong-role");
    let client = Expected {
        role: Role::Client,
        ..expected()
    };
    assert_eq!(check(client), "wrong-role");
    for bit in 0..512 {
        let mut other = REPORT_DATA;
        other.0[bit / 8] ^= 1 << (bit % 8);
        let other = Expected {
            report_data: other,
            ..expected()
        };
        assert_eq!(check(other), "wrong-session", "bit {bit}");
    }
}

#[test]
fn evidence_has_its_time() {
    let end = statement().not_after.0;
    assert_eq!(at(NOW.0 - CLOCK_DIFFERENCE_MS_MAX), "accepted");
    assert_eq!(
        at(NOW.0 - CLOCK_DIFFERENCE_MS_MAX - 1),
        "evidence-not-yet-valid"
    );
    assert_eq!(at(end - 1), "accepted");
    assert_eq!(at(end), "evidence-expired");
    // A clock that is an hour off, either way.
    assert_eq!(at(NOW.0 + 3_600_000), "evidence-expired");
    assert_eq!(at(NOW.0 - 3_600_000), "evidence-not-yet-valid");
    assert_eq!(at(0), "evidence-not-yet-valid");
    assert_eq!(at(u64::MAX), "evidence-expired");
    let eternal = SoftwareStatement {
        not_after: TimestampMs(NOW.0 + STATEMENT_LIFETIME_MS_MAX + 1),
        ..statement()
    };
    assert_eq!(code(judge(eternal)), "evidence-too-long");
    let backwards = SoftwareStatement {
        not_before: TimestampMs(NOW.0 + 30_000),
        not_after: TimestampMs(NOW.0 + 1),
        ..statement()
    };
    // It has no lifetime at all, so it is at worst valid for a millisecond.
    assert_eq!(
        judge(backwards).unwrap().valid_until,
        TimestampMs(NOW.0 + 1)
    );
}

#[test]
fn only_the_pinned_root_of_this_deployment_signs() {
    let forged = |root_named: u8, signer: u8, deployment| {
        let statement = SoftwareStatement {
            root: root(root_named).principal(),
            ..statement()
        };
        let evidence = statement.danger_sign(&root(signer), &deployment);
        code(appraise(
            &evidence,
            &expected(),
            &verifiers(),
            &policy(),
            NOW,
        ))
    };
    assert_eq!(forged(7, 7, DEPLOYMENT), "accepted");
    assert_eq!(forged(8, 8, DEPLOYMENT), "evidence-signature");
    assert_eq!(forged(7, 7, DeploymentId([2; 32])), "evidence-signature");
    // Another root's signature under this root's name, and the other way round.
    let theirs = SoftwareStatement {
        root: root(8).principal(),
        ..statement()
    };
    let theirs = theirs.danger_sign(&root(8), &DEPLOYMENT);
    for swapped in [splice(&evidence(), &theirs), splice(&theirs, &evidence())] {
        let refused = appraise(&swapped, &expected(), &verifiers(), &policy(), NOW);
        assert_eq!(code(refused), "evidence-signature");
    }
}

/// The body of one, the signature of the other.
fn splice(body: &Evidence, signature: &Evidence) -> Evidence {
    let mut out = body.clone();
    let from = out.evidence.len() - 64;
    out.evidence.truncate(from);
    let signature = &signature.evidence[signature.evidence.len() - 64..];
    out.evidence.extend_from_slice(signature);
    out
}

/// Each signed field altered without signing again.
#[test]
fn each_field_of_a_statement_is_signed() {
    let ours = statement();
    let variants = [
        SoftwareStatement {
            measurement: Measurement([9; 32]),
            ..ours.clone()
        },
        SoftwareStatement {
            role: Role::Worker,
            ..ours.clone()
        },
        SoftwareStatement {
            report_data: ReportData([9; 64]),
            ..ours.clone()
        },
        SoftwareStatement {
            debug: true,
            ..ours.clone()
        },
        SoftwareStatement {
            security_version: 6,
            ..ours.clone()
        },
        SoftwareStatement {
            not_before: TimestampMs(NOW.0 - 1),
            ..ours.clone()
        },
        SoftwareStatement {
            not_after: TimestampMs(NOW.0 + 600_001),
            ..ours.clone()
        },
    ];
    for altered in variants {
        let fresh = altered.clone().danger_sign(&root(7), &DEPLOYMENT);
        let evidence = splice(&fresh, &evidence());
        let refused = appraise(&evidence, &expected(), &verifiers(), &policy(), NOW);
        assert_eq!(code(refused), "evidence-signature", "{altered:?}");
    }
}

#[test]
fn the_record_may_not_claim_what_the_platform_does_not() {
    let check = |altered: Evidence| {
        let expected = Expected {
            role: altered.role,
            ..expected()
        };
        appraise(&altered, &expected, &verifiers(), &policy(), NOW).unwrap_err()
    };
    let differs = |field| AppraisalError::ClaimDiffers { field };
    let other = Evidence {
        measurement: Measurement([9; 32]),
        ..evidence()
    };
    assert_eq!(check(other), differs("measurement"));
    let other = Evidence {
        role: Role::Worker,
        ..evidence()
    };
    assert_eq!(check(other), differs("role"));
    let other = Evidence {
        report_data: ReportData([9; 64]),
        ..evidence()
    };
    assert_eq!(check(other), differs("report data"));
    let other = Evidence {
        collateral: vec![0],
        ..evidence()
    };
    assert!(matches!(
        check(other),
        AppraisalError::Verify(VerifyError::Malformed { .. })
    ));
}

#[test]
fn debug_is_refused_whatever_the_policy() {
    let debug = SoftwareStatement {
        debug: true,
        ..statement()
    };
    assert_eq!(judge(debug), Err(AppraisalError::Debug));
}

#[test]
fn the_policy_is_explicit() {
    assert_eq!(with_policy(&policy()), "accepted");
    assert_eq!(with_policy(&Policy::default()), "platform-not-accepted");
    let mut other = policy();
    other.allowed.clear();
    assert_eq!(with_policy(&other), "measurement-not-allowed");
    // The same program as another role.
    let other = Policy {
        allowed: Default::default(),
        ..policy()
    }
    .allow(Role::Worker, PROGRAM);
    assert_eq!(with_policy(&other), "measurement-not-allowed");
    let mut other = policy();
    other.revoked.insert(PROGRAM);
    assert_eq!(with_policy(&other), "measurement-revoked");
    let mut other = policy();
    other.revoked.insert(Measurement([9; 32]));
    assert_eq!(with_policy(&other), "accepted");
    for (code, tcb, crl, expect) in [
        (5, 0, 0, "accepted"),
        (6, 0, 0, "security-version"),
        (0, 1, 0, "security-version"),
        (0, 0, 1, "security-version"),
    ] {
        let minimum = SecurityVersions { code, tcb, crl };
        let other = policy().accept(PlatformType::Software, minimum);
        assert_eq!(with_policy(&other), expect, "{minimum:?}");
    }
    let other = SoftwareStatement {
        measurement: Measurement([9; 32]),
        ..statement()
    };
    assert_eq!(code(judge(other)), "measurement-not-allowed");
}

#[test]
fn a_policy_has_its_bound() {
    let full = |count: u32| {
        let mut policy = policy();
        policy.revoked = (0..count)
            .map(|i| {
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&i.to_be_bytes());
                Measurement(bytes)
            })
            .collect();
        policy.is_bounded()
    };
    assert!(full(1_024) && !full(1_025));
}
