//! Evidence from a peer, and a sealed store's file as a host made it up.

use std::path::Path;
use std::sync::LazyLock;

use attestation::{
    Evidence, Expected, Measurement, Policy, ReportData, Role, SealingKeySource, SecurityVersions,
    SoftwareStatement, SoftwareVerifier, SourceError, Verifiers, appraise,
};
use crypto::Secret;
use domain::{PlatformType, TimestampMs};
use sealing::{Change, SealedStore, StoreConfig};

use crate::{Target, fixed};

pub const EVIDENCE: Target = Target {
    name: "evidence",
    run: evidence,
    seeds: || {
        let software = signed(Role::Worker);
        let hardware = Evidence {
            platform: PlatformType::Tdx,
            evidence: vec![4; 5_000],
            collateral: vec![0x7b; 20_000],
            ..software.clone()
        };
        [software, signed(Role::Custodian), hardware]
            .iter()
            .map(|evidence| evidence.encode().expect("a bounded record"))
            .collect()
    },
};

pub const SOFTWARE_EVIDENCE: Target = Target {
    name: "software_evidence",
    run: software_evidence,
    seeds: || vec![signed(Role::Worker).evidence],
};

pub const SEALED_STORE: Target = Target {
    name: "sealed_store",
    run: sealed_store,
    seeds: || vec![store_file(0), store_file(3)],
};

const NOW: TimestampMs = TimestampMs(1_700_000_000_000);
const PROGRAM: Measurement = Measurement([0x3e; 32]);
const REPORT_DATA: ReportData = ReportData([0x4d; 64]);

static VERIFIERS: LazyLock<Verifiers> = LazyLock::new(|| {
    let root = fixed::identity().principal();
    let software = SoftwareVerifier::danger_new(fixed::deployment(), root, true);
    Verifiers::new().with(software.expect("a development deployment"))
});

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    Policy::default()
        .allow(Role::Worker, PROGRAM)
        .allow(Role::Custodian, PROGRAM)
        .accept(PlatformType::Software, SecurityVersions::default())
});

fn signed(role: Role) -> Evidence {
    let root = fixed::identity();
    SoftwareStatement {
        root: root.principal(),
        measurement: PROGRAM,
        role,
        report_data: REPORT_DATA,
        debug: false,
        security_version: 1,
        not_before: NOW,
        not_after: TimestampMs(NOW.0 + 60_000),
    }
    .danger_sign(&root, &fixed::deployment())
}

fn judge(evidence: &Evidence) -> bool {
    let expected = Expected {
        role: evidence.role,
        report_data: REPORT_DATA,
    };
    let accepted = appraise(evidence, &expected, &VERIFIERS, &POLICY, NOW);
    if let Ok(appraisal) = &accepted {
        // Nobody but the root can say anything else, and nothing hardware says is believed yet.
        assert_eq!(*evidence, signed(evidence.role));
        assert!(appraisal.valid_until > NOW);
    }
    accepted.is_ok()
}

fn evidence(input: &[u8]) -> bool {
    let Ok(evidence) = Evidence::decode(input) else {
        return false;
    };
    assert_eq!(evidence.encode().expect("it was within bounds"), input);
    judge(&evidence) || evidence.platform != PlatformType::Software
}

fn software_evidence(input: &[u8]) -> bool {
    let evidence = Evidence {
        evidence: input.to_vec(),
        ..signed(Role::Worker)
    };
    judge(&evidence)
}

struct Platform;

impl SealingKeySource for Platform {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn sealing_root(&self, _role: Role) -> Result<Secret<32>, SourceError> {
        Ok(Secret::take(&mut [0x5e; 32]))
    }
}

/// In memory where there is such a folder: what is under test is the reading, not the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a scratch folder")
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig::new(dir, fixed::deployment(), Role::Custodian, b"slot 1")
}

/// A store's file after some batches and, between them, a restart and a compaction.
fn store_file(batches: u8) -> Vec<u8> {
    let dir = scratch();
    let config = config(dir.path());
    for batch in 0..batches {
        let (store, _) = SealedStore::open(&config, &Platform, None).expect("a store");
        let changes = [
            Change::Put {
                key: b"key",
                value: &[batch; 40],
            },
            Change::Delete { key: b"none" },
        ];
        store.apply(&changes).expect("an applied batch");
        store.anchor().expect("an anchor");
        if batch == 1 {
            store.compact().expect("a compaction");
        }
    }
    drop(SealedStore::open(&config, &Platform, None).expect("a store"));
    std::fs::read(dir.path().join("sealed.log")).expect("its file")
}

fn sealed_store(input: &[u8]) -> bool {
    let dir = scratch();
    std::fs::write(dir.path().join("sealed.log"), input).expect("a written file");
    let Ok((store, report)) = SealedStore::open(&config(dir.path()), &Platform, None) else {
        return false;
    };
    // What opens is whole: every record reads, it can be written on, and opens again with that.
    let mut records = 0;
    store
        .for_each(|_, value| {
            records += 1;
            assert!(value.len() <= 40);
        })
        .expect("sound records");
    assert_eq!(records, report.records);
    let put = Change::Put {
        key: b"later",
        value: b"",
    };
    let state = store.apply(&[put]).expect("an applied batch");
    drop(store);
    let again = SealedStore::open(&config(dir.path()), &Platform, Some(state));
    again.expect("what was just written");
    true
}
