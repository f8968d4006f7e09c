//! The software platform: where its keys lie, who may read them, what its evidence says.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use attestation::{
    EvidenceSource as _, Expected, Measurement, Policy, ReportData, Role, SealingKeySource as _,
    SecurityVersions, SoftwareVerifier, Verifiers, appraise,
};
use domain::{DeploymentId, PlatformType, TimestampMs};
use enclave::software::danger_create;
use enclave::{Hardened, PlatformError, SoftwarePlatform, harden, measure_file, measure_self};

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
const NOW: TimestampMs = TimestampMs(1_800_000_000_000);
const PROGRAM: Measurement = Measurement([2; 32]);

struct Folders {
    _dir: tempfile::TempDir,
    config: std::path::PathBuf,
    data: std::path::PathBuf,
}

fn folders() -> Folders {
    let dir = tempfile::tempdir().unwrap();
    let (config, data) = (dir.path().join("config"), dir.path().join("data"));
    fs::create_dir(&data).unwrap();
    Folders {
        _dir: dir,
        config,
        data,
    }
}

fn open(folders: &Folders, hardened: Option<&Hardened>) -> Result<SoftwarePlatform, PlatformError> {
    SoftwarePlatform::danger_open(
        &folders.config,
        &folders.data,
        DEPLOYMENT,
        PROGRAM,
        3,
        hardened,
    )
}

fn appraised(platform: &SoftwarePlatform) -> String {
    let report_data = ReportData([5; 64]);
    let evidence = platform.evidence(Role::Worker, &report_data, NOW).unwrap();
    let software = SoftwareVerifier::danger_new(DEPLOYMENT, platform.root(), true).unwrap();
    let policy = Policy::default().allow(Role::Worker, PROGRAM).accept(
        PlatformType::Software,
        SecurityVersions {
            code: 3,
            ..SecurityVersions::default()
        },
    );
    let expected = Expected {
        role: Role::Worker,
        report_data,
    };
    let verifiers = Verifiers::new().with(software);
    match appraise(&evidence, &expected, &verifiers, &policy, NOW) {
        Ok(appraisal) => format!("until {}", appraisal.valid_until.0 - NOW.0),
        Err(error) => error.code().to_owned(),
    }
}

/// A process that has not closed itself says so in its evidence, and is refused as a debug enclave.
#[test]
fn evidence_counts_from_a_hardened_process_only() {
    let folders = folders();
    let root = danger_create(&folders.config, &folders.data).unwrap();
    let open_process = open(&folders, None).unwrap();
    assert_eq!(open_process.root(), root);
    assert_eq!(appraised(&open_process), "debug-enclave");
    let hardened = harden().unwrap();
    assert_eq!(
        appraised(&open(&folders, Some(&hardened)).unwrap()),
        "until 600000"
    );
}

#[test]
fn sealing_roots_are_stable_and_one_per_role() {
    let folders = folders();
    danger_create(&folders.config, &folders.data).unwrap();
    let root = |role| open(&folders, None).unwrap().sealing_root(role);
    let custodian = root(Role::Custodian).unwrap();
    assert!(custodian.ct_eq(&root(Role::Custodian).unwrap()));
    assert!(!custodian.ct_eq(&root(Role::Worker).unwrap()));
    let none = root(Role::Client).unwrap_err();
    assert!(
        none.to_string()
            .contains("software platform cannot give a sealing key"),
        "{none}"
    );
    // Another deployment's are others.
    let other = self::folders();
    danger_create(&other.config, &other.data).unwrap();
    let other = open(&other, None)
        .unwrap()
        .sealing_root(Role::Custodian)
        .unwrap();
    assert!(!custodian.ct_eq(&other));
}

fn keys(config: &Path) -> Vec<std::path::PathBuf> {
    let folder = config.join("danger-software-platform");
    let mut keys: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    keys.retain(|path| path.extension().is_some_and(|extension| extension == "key"));
    keys.sort();
    keys
}

#[test]
fn keys_are_their_owners_alone_and_never_overwritten() {
    let folders = folders();
    danger_create(&folders.config, &folders.data).unwrap();
    let keys = keys(&folders.config);
    assert_eq!(keys.len(), 3);
    let folder = folders.config.join("danger-software-platform");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let before: Vec<_> = keys.iter().map(|path| fs::read(path).unwrap()).collect();
    for (path, bytes) in keys.iter().zip(&before) {
        assert_eq!((mode(path), bytes.len()), (0o600, 32));
    }
    let again = danger_create(&folders.config, &folders.data);
    assert!(matches!(again, Err(PlatformError::Exists(_))));
    let after: Vec<_> = keys.iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(before, after);
    let notice = fs::read_to_string(folder.join("README")).unwrap();
    assert!(notice.contains("protect nothing"));
}

#[test]
fn keys_that_others_could_read_or_replace_are_refused() {
    let folders = folders();
    danger_create(&folders.config, &folders.data).unwrap();
    let key = keys(&folders.config).remove(0);
    let set =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        set(&key, mode);
        assert!(
            matches!(open(&folders, None), Err(PlatformError::Permissions { .. })),
            "{mode:o}"
        );
    }
    set(&key, 0o600);
    let folder = folders.config.join("danger-software-platform");
    set(&folder, 0o755);
    assert!(matches!(
        open(&folders, None),
        Err(PlatformError::Permissions { .. })
    ));
    set(&folder, 0o700);
    assert!(open(&folders, None).is_ok());
    let elsewhere = folders.data.join("key");
    fs::rename(&key, &elsewhere).unwrap();
    symlink(&elsewhere, &key).unwrap();
    assert!(matches!(
        open(&folders, None),
        Err(PlatformError::Permissions { .. })
    ));
    fs::remove_file(&key).unwrap();
    for bytes in [&[1; 31][..], &[1; 33], &[]] {
        fs::write(&key, bytes).unwrap();
        set(&key, 0o600);
        assert!(matches!(
            open(&folders, None),
            Err(PlatformError::Malformed(_))
        ));
    }
}

/// Not even through a link: whoever copies the data folder must not get the keys with it.
#[test]
fn keys_never_lie_in_the_data_folder() {
    let folders = folders();
    let inside = folders.data.join("deep/config");
    let refused = |config: &Path| {
        matches!(
            danger_create(config, &folders.data),
            Err(PlatformError::InDataFolder { .. })
        )
    };
    assert!(refused(&inside));
    assert!(refused(&folders.data));
    let link = folders.config.with_file_name("link");
    symlink(&folders.data, &link).unwrap();
    assert!(refused(&link.join("config")));
    assert!(refused(&folders.data.join("../data/config")));
    assert!(!inside.exists());
    assert!(matches!(
        open(&folders, None),
        Err(PlatformError::Missing(_))
    ));
    // A name that only begins alike is another folder.
    danger_create(&folders.data.with_file_name("data-config"), &folders.data).unwrap();
}

#[test]
fn a_program_is_measured_by_its_bytes() {
    let own = std::env::current_exe().unwrap();
    assert_eq!(measure_self().unwrap(), measure_file(&own).unwrap());
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("program");
    fs::write(&program, b"program").unwrap();
    let before = measure_file(&program).unwrap();
    assert_eq!(
        before,
        Measurement::of_program(blake3::hash(b"program").as_bytes())
    );
    fs::write(&program, b"Program").unwrap();
    assert_ne!(measure_file(&program).unwrap(), before);
    assert!(measure_file(&dir.path().join("none")).is_err());
}
