//! Real hardware evidence travels in the format, and is refused by name as long as nothing verifies it.

use std::path::PathBuf;

use attestation::evidence::PLATFORM_EVIDENCE_BYTES_MAX;
use attestation::{AppraisalError, Evidence, appraise};
use domain::PlatformType;

use crate::support::{NOW, evidence, expected, policy, verifiers};

/// Recorded evidence, where `STRONGROOM_TEST_DATA` says that it lies.
fn recorded(name: &str) -> Option<Vec<u8>> {
    let folder = PathBuf::from(std::env::var_os("STRONGROOM_TEST_DATA")?);
    Some(std::fs::read(folder.join("attestation").join(name)).unwrap())
}

#[test]
fn hardware_evidence_fits_and_is_refused_by_name() {
    for (platform, file, collateral, size) in [
        (
            PlatformType::Sgx,
            "intel-sgx-quote.bin",
            "intel-sgx-collateral.json",
            4_600,
        ),
        (
            PlatformType::Tdx,
            "gcp-tdx-quote.bin",
            "gcp-tdx-collateral.yaml",
            8_000,
        ),
        (
            PlatformType::SevSnp,
            "amd-genoa-report.bin",
            "amd-genoa-vcek.der",
            1_184,
        ),
        (PlatformType::Nitro, "nitro-b.bin", "", 4_709),
    ] {
        // Without the recordings, bytes of their sizes: what is tested here does not read them.
        let quote = recorded(file).unwrap_or_else(|| vec![7; size]);
        assert!(quote.len() <= PLATFORM_EVIDENCE_BYTES_MAX);
        let collateral = match collateral {
            "" => Vec::new(),
            name => recorded(name).unwrap_or_else(|| vec![7; 24_000]),
        };
        let evidence = Evidence {
            platform,
            evidence: quote,
            collateral,
            ..evidence()
        };
        let bytes = evidence.encode().unwrap();
        let evidence = Evidence::decode(&bytes).unwrap();
        let refused = appraise(&evidence, &expected(), &verifiers(), &policy(), NOW).unwrap_err();
        assert_eq!(refused, AppraisalError::UnsupportedPlatform { platform });
        assert!(refused.to_string().contains(platform.name()), "{refused}");
    }
}

/// Software evidence under a hardware name meets no verifier; hardware evidence under the software name is signed by nobody.
#[test]
fn platforms_are_not_interchangeable() {
    let renamed = Evidence {
        platform: PlatformType::Nitro,
        ..evidence()
    };
    let refused = appraise(&renamed, &expected(), &verifiers(), &policy(), NOW).unwrap_err();
    assert_eq!(refused.code(), "unsupported-platform");
    let quote = recorded("nitro-a.bin").unwrap_or_else(|| vec![0x84; 4_682]);
    let renamed = Evidence {
        evidence: quote,
        ..evidence()
    };
    let refused = appraise(&renamed, &expected(), &verifiers(), &policy(), NOW).unwrap_err();
    assert_eq!(refused.code(), "evidence-signature");
}
