//! What a crash tears is dropped; what rots is refused.

use std::fs;
use std::path::{Path, PathBuf};

use domain::Height;
use solo::{OpenError, RecoveryReport, Solo, SoloConfig};

use crate::support::{Rig, config};

fn logs(dir: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("log-")
        })
        .collect();
    logs.sort();
    logs
}

/// Where each record of a log file begins, and where the last one ends.
fn borders(bytes: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut out = vec![0];
    while bytes.get(at..at + 4) == Some(b"SRLB") {
        let len = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at += 24 + usize::try_from(len).unwrap();
        out.push(at);
    }
    out
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.path().join(entry.file_name())).unwrap();
    }
    to
}

/// Opens; the report, with the ledger closed again.
fn open(dir: &Path) -> Result<RecoveryReport, OpenError> {
    Solo::open(config(dir)).map(|(_, report)| report)
}

#[test]
fn a_log_that_ends_anywhere_opens_with_the_whole_blocks_before() {
    let mut rig = Rig::new();
    rig.fill(rig.config(), 0, 5);
    let [log] = logs(rig.dir.path()).try_into().unwrap();
    let bytes = fs::read(&log).unwrap();
    let borders = borders(&bytes);
    let end = *borders.last().unwrap();
    // Every byte of the last record, and the borders of the others.
    let last = borders[borders.len() - 2];
    let cuts = (last..=end).step_by(7).chain(borders.iter().copied());
    for cut in cuts {
        for zeros in [0, 5_000] {
            let copy = copy(rig.dir.path());
            let name = log.file_name().unwrap();
            let mut torn = bytes[..cut].to_vec();
            torn.resize(cut + zeros, 0);
            fs::write(copy.path().join(name), torn).unwrap();
            let whole = borders.iter().filter(|border| **border <= cut).count() - 1;
            let report = open(copy.path()).unwrap();
            let whole_blocks = u64::try_from(whole).unwrap();
            assert_eq!(report.replayed_blocks, whole_blocks, "cut at {cut}");
            assert_eq!(report.torn, !borders.contains(&cut), "cut at {cut}");
            // And it goes on: another start finds no damage.
            let again = open(copy.path()).unwrap();
            assert!(!again.torn && again.height.0 > whole_blocks);
        }
    }
}

#[test]
fn a_changed_bit_in_the_middle_is_refused_and_in_the_last_block_is_a_torn_tail() {
    let mut rig = Rig::new();
    rig.fill(rig.config(), 0, 5);
    let [log] = logs(rig.dir.path()).try_into().unwrap();
    let bytes = fs::read(&log).unwrap();
    let borders = borders(&bytes);
    let last = borders[borders.len() - 2];
    let end = *borders.last().unwrap();
    for at in (0..end).step_by(61) {
        let copy = copy(rig.dir.path());
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        fs::write(copy.path().join(log.file_name().unwrap()), bad).unwrap();
        match open(copy.path()) {
            Err(OpenError::Corrupt { offset, .. }) => {
                assert!(at < last, "byte {at}");
                let start = borders.iter().rfind(|border| **border <= at).unwrap();
                assert_eq!(offset, u64::try_from(*start).unwrap(), "byte {at}");
            }
            Ok(report) => assert!(at >= last && report.torn, "byte {at}: {report:?}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
}

#[test]
fn blocks_moved_taken_out_or_from_elsewhere_are_refused() {
    let mut rig = Rig::new();
    rig.fill(rig.config(), 0, 5);
    let [log] = logs(rig.dir.path()).try_into().unwrap();
    let bytes = fs::read(&log).unwrap();
    let borders = borders(&bytes);
    let end = *borders.last().unwrap();
    // The third taken out: what follows is not where it says.
    let without = [&bytes[..borders[2]], &bytes[borders[3]..end]].concat();
    fs::write(&log, without).unwrap();
    let report = open(rig.dir.path());
    // Nothing behind the hole is a good record any more, so it reads as torn; the blocks before are all there is. What was cut out is
    // missed by whoever has seen a later header.
    assert_eq!(report.unwrap().replayed_blocks, 2);
    // A whole log of another ledger with the same validator.
    let other = Rig::new();
    let copy = copy(other.dir.path());
    let mut genesis = crate::world::genesis(true);
    genesis.limits.key_versions = 5;
    let foreign = tempfile::tempdir().unwrap();
    Solo::create(foreign.path(), &genesis).unwrap();
    fs::write(foreign.path().join(log.file_name().unwrap()), &bytes).unwrap();
    let report = open(foreign.path()).unwrap();
    assert_eq!(report.replayed_blocks, 0);
    drop(copy);
}

#[test]
fn a_damaged_snapshot_falls_back_to_the_one_before() {
    let mut rig = Rig::new();
    let small = |rig: &Rig| SoloConfig {
        snapshot_transactions: 4,
        ..rig.config()
    };
    for round in 0..4 {
        let config = small(&rig);
        rig.fill(config, round * 5, 5);
    }
    let mut snapshots: Vec<_> = fs::read_dir(rig.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("snapshot-")
        })
        .collect();
    snapshots.sort();
    assert_eq!(snapshots.len(), 2, "two are kept");
    let height = open(rig.dir.path()).unwrap().height;
    let bytes = fs::read(&snapshots[1]).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        let copy = copy(rig.dir.path());
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        fs::write(copy.path().join(snapshots[1].file_name().unwrap()), bad).unwrap();
        let report = open(copy.path()).unwrap();
        assert_eq!(report.damaged_snapshots, 1, "byte {at}");
        assert!(report.height >= height && report.snapshot < height);
    }
    // Both gone: the log no longer reaches back, unless it was kept.
    let copy_dir = copy(rig.dir.path());
    for snapshot in &snapshots {
        fs::remove_file(copy_dir.path().join(snapshot.file_name().unwrap())).unwrap();
    }
    let report = open(copy_dir.path()).unwrap();
    assert_eq!(report.snapshot, Height(0));
    assert!(report.height >= height);
    fs::remove_file(&logs(copy_dir.path())[0]).unwrap();
    assert!(matches!(open(copy_dir.path()), Err(OpenError::NoBase(_))));
    // The snapshot without the log that was begun with it.
    for log in logs(rig.dir.path()) {
        fs::remove_file(log).unwrap();
    }
    assert!(matches!(open(rig.dir.path()), Err(OpenError::Gap { .. })));
}

#[test]
fn old_logs_are_removed_beyond_what_is_kept() {
    let mut rig = Rig::new();
    let config = SoloConfig {
        snapshot_transactions: 4,
        keep_log_bytes: 0,
        ..rig.config()
    };
    for round in 0..5 {
        rig.fill(config.clone(), round * 5, 5);
    }
    let report = open(rig.dir.path()).unwrap();
    assert!(report.snapshot.0 > 0);
    let first = logs(rig.dir.path())[0].clone();
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    assert_ne!(name, "log-0000000000000001");
    let (solo, _) = Solo::open(config).unwrap();
    let missing = rig
        .runtime
        .block_on(ledger::port::Ledger::finality(&solo, Some(Height(1))));
    assert_eq!(missing, Err(ledger::port::ReadError::Pruned(Height(1))));
}
