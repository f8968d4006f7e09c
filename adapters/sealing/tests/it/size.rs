//! What a record takes on the disk, and a million of them.

use std::time::Instant;

use sealing::{Change, SealedStore};

use crate::support::{get, open, try_open};

/// Key id, version and epoch: 44 bytes. A custodian's record with both shares, openings, committee and slot: about 220.
fn record(number: u64) -> ([u8; 44], [u8; 220]) {
    let mut key = [0; 44];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let mut value = [7; 220];
    value[..8].copy_from_slice(&number.to_be_bytes());
    (key, value)
}

fn fill(store: &SealedStore, records: std::ops::Range<u64>) {
    let numbers: Vec<u64> = records.collect();
    for chunk in numbers.chunks(1_000) {
        let records: Vec<_> = chunk.iter().map(|number| record(*number)).collect();
        let changes: Vec<_> = records
            .iter()
            .map(|(key, value)| Change::Put { key, value })
            .collect();
        store.apply(&changes).unwrap();
    }
}

#[test]
fn a_key_versions_record_takes_less_than_400_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..2_000);
    let each = store.usage().file_bytes / 2_000;
    println!("{each} bytes of file for each record of 264 bytes");
    assert!(each <= 300, "{each}");
    let on_disk = std::fs::metadata(dir.path().join("sealed.log"))
        .unwrap()
        .len();
    assert_eq!(on_disk, store.usage().file_bytes);
}

/// Also with what a refresh replaces and no compaction has removed yet.
#[test]
fn replaced_records_do_not_add_up() {
    const RECORDS: u64 = 16_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fill(&store, 0..RECORDS);
    let (mut most, mut compactions) = (0, 0);
    for _refresh in 0..3 {
        for from in (0..RECORDS).step_by(500) {
            fill(&store, from..from + 500);
            compactions += u32::from(store.compact_if_due().unwrap());
            most = most.max(store.usage().file_bytes / RECORDS);
        }
    }
    println!("at most {most} bytes for each record, with {compactions} compactions");
    assert!(most <= 400, "{most}");
    assert!(compactions > 3);
}

/// The full million in `make soak`; here as many as are quick.
#[test]
fn a_million_records_open_and_read() {
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some();
    let records: u64 = if soak { 1_000_000 } else { 50_000 };
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let begun = Instant::now();
    fill(&store, 0..records);
    println!("{records} records written in {:?}", begun.elapsed());
    let state = store.state();
    drop(store);
    let begun = Instant::now();
    let (store, report) = try_open(dir.path(), Some(state)).unwrap();
    println!("opened in {:?}", begun.elapsed());
    assert_eq!(report.records, usize::try_from(records).unwrap());
    let begun = Instant::now();
    for number in (0..records).step_by(101) {
        let (key, value) = record(number);
        assert_eq!(get(&store, &key).unwrap(), value);
    }
    println!(
        "{} records read in {:?}",
        records.div_ceil(101),
        begun.elapsed()
    );
    let begun = Instant::now();
    store.compact().unwrap();
    println!("compacted in {:?}", begun.elapsed());
    assert_eq!(store.usage().records, report.records);
    assert_eq!(store.state(), state);
}
