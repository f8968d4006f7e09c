//! What is put is there, across restarts and compactions, and nobody else can read it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use attestation::Role;
use domain::DeploymentId;
use proptest::prelude::*;
use sealing::{
    Change, KEY_BYTES_MAX, OpenError, ReadError, SealedStore, StoreConfig, VALUE_BYTES_MAX,
    WriteError,
};

use crate::support::{Platform, config, delete, file, get, open, put, try_open};

#[test]
fn records_survive_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = try_open(dir.path(), None).unwrap();
    assert!(report.created);
    put(&store, b"a", b"one");
    put(&store, b"b", b"");
    put(&store, b"a", b"two");
    delete(&store, b"b");
    delete(&store, b"never there");
    let state = put(&store, b"c", &[7; VALUE_BYTES_MAX]);
    assert_eq!(state.counter, 6);
    drop(store);
    for _ in 0..3 {
        let (store, report) = try_open(dir.path(), Some(state)).unwrap();
        assert!(!report.created);
        assert_eq!((report.records, report.dropped_bytes), (2, 0));
        assert_eq!(store.state(), state);
        assert_eq!(get(&store, b"a").unwrap(), b"two");
        assert_eq!(get(&store, b"b"), None);
        assert_eq!(get(&store, b"c").unwrap(), [7; VALUE_BYTES_MAX]);
        assert!(store.contains(b"a") && !store.contains(b"b"));
    }
}

#[test]
fn files_are_their_owners_alone_and_hold_no_plaintext() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("store");
    let store = open(&folder);
    put(&store, b"planted-key", b"planted-value");
    store.compact().unwrap();
    put(&store, b"planted-key", b"planted-value");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        assert!(
            !bytes.windows(7).any(|window| window == b"planted"),
            "{}",
            path.display()
        );
    }
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.clone()), 0o700);
    assert_eq!(mode(file(&folder)), 0o600);
}

#[test]
fn the_same_record_never_gives_the_same_bytes() {
    let mut seen = Vec::new();
    for _ in 0..2 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        for _ in 0..2 {
            let before = std::fs::read(file(dir.path())).unwrap().len();
            put(&store, b"key", &[0; 64]);
            let bytes = std::fs::read(file(dir.path())).unwrap();
            seen.push(
                bytes[before..]
                    .iter()
                    .rev()
                    .take(64)
                    .copied()
                    .collect::<Vec<u8>>(),
            );
        }
    }
    for (i, a) in seen.iter().enumerate() {
        assert!(seen.iter().skip(i + 1).all(|b| a != b));
    }
}

#[test]
fn batches_are_bounded_at_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let long = [1; KEY_BYTES_MAX];
    put(&store, &long, b"x");
    assert_eq!(get(&store, &long).unwrap(), b"x");
    let refused =
        |changes: &[Change<'_>]| matches!(store.apply(changes), Err(WriteError::Bounds(_)));
    assert!(refused(&[]));
    assert!(refused(&[Change::Put {
        key: b"",
        value: b""
    }]));
    assert!(refused(&[Change::Put {
        key: &[1; KEY_BYTES_MAX + 1],
        value: b""
    }]));
    assert!(refused(&[Change::Put {
        key: b"k",
        value: &vec![0; VALUE_BYTES_MAX + 1]
    }]));
    let one = Change::Put {
        key: b"k",
        value: b"v",
    };
    assert!(refused(&vec![one; 4_097]));
    let before = store.state();
    assert!(refused(&[one, Change::Delete { key: b"" }]));
    assert_eq!(store.state(), before);
    assert_eq!(get(&store, b"k"), None);
    store.apply(&vec![one; 4_096]).unwrap();
    assert_eq!(store.state().counter, before.counter + 4_096);
}

#[test]
fn a_store_opens_for_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    put(&open(dir.path()), b"a", b"one");
    let same = config(dir.path());
    let with = |config: &StoreConfig, platform: u8| {
        SealedStore::open(config, &Platform(platform), None).map(|_| ())
    };
    let foreign = |result| matches!(result, Err(OpenError::Foreign { .. }));
    assert!(foreign(with(&same, 7)));
    let other = StoreConfig {
        deployment: DeploymentId([2; 32]),
        ..same.clone()
    };
    assert!(foreign(with(&other, 1)));
    let other = StoreConfig {
        role: Role::Worker,
        ..same.clone()
    };
    assert!(foreign(with(&other, 1)));
    let other = StoreConfig {
        owner: b"slot 2".to_vec(),
        ..same.clone()
    };
    assert!(foreign(with(&other, 1)));
    let other = StoreConfig {
        owner: vec![0; 65],
        ..same.clone()
    };
    assert!(matches!(with(&other, 1), Err(OpenError::Config(_))));
    assert!(with(&same, 1).is_ok());
}

#[test]
fn two_processes_never_share_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert!(matches!(
        try_open(dir.path(), None),
        Err(OpenError::Locked(_))
    ));
    drop(store);
    open(dir.path());
}

#[test]
fn a_later_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let mut bytes = std::fs::read(file(dir.path())).unwrap();
    bytes[11] = 2;
    std::fs::write(file(dir.path()), bytes).unwrap();
    assert!(matches!(
        try_open(dir.path(), None),
        Err(OpenError::Version { version: 2, .. })
    ));
}

/// A record altered behind the running store's back is refused when it is read.
#[test]
fn a_record_altered_while_open_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"one");
    let mut bytes = std::fs::read(file(dir.path())).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(file(dir.path()), bytes).unwrap();
    assert!(matches!(store.get(b"a"), Err(ReadError::Damaged { .. })));
    assert!(matches!(
        store.for_each(|_, _| {}),
        Err(ReadError::Damaged { .. })
    ));
    assert!(matches!(store.compact(), Err(WriteError::Read(_))));
}

#[test]
fn compaction_frees_what_is_dead_and_changes_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for round in 0..40_u8 {
        for key in 0..100_u8 {
            put_quick(&store, key, round);
        }
    }
    let anchored = store.anchor().unwrap();
    delete(&store, &[5]);
    let (state, before) = (store.state(), store.usage());
    assert_eq!(before.records, 99);
    assert!(store.compact_if_due().unwrap());
    assert!(!store.compact_if_due().unwrap());
    let after = store.usage();
    assert_eq!(after.records, 99);
    assert!(
        after.file_bytes < before.file_bytes / 10,
        "{before:?} {after:?}"
    );
    assert_eq!(store.state(), state);
    store.check(&anchored).unwrap();
    let later = put(&store, b"later", b"x");
    drop(store);
    let (store, report) = try_open(dir.path(), Some(later)).unwrap();
    assert_eq!(report.records, 100);
    store.check(&anchored).unwrap();
    let mut seen = BTreeMap::new();
    store
        .for_each(|key, value| assert!(seen.insert(key.to_vec(), value.to_vec()).is_none()))
        .unwrap();
    assert_eq!(seen.len(), 100);
    assert_eq!(seen[&vec![7]], vec![39; 500]);
}

fn put_quick(store: &SealedStore, key: u8, round: u8) {
    // A batch of several saves syncs.
    store
        .apply(&[Change::Put {
            key: &[key],
            value: &vec![round; 500],
        }])
        .unwrap();
}

#[derive(Clone, Debug)]
enum Act {
    Batch(Vec<(u8, Option<Vec<u8>>)>),
    Anchor,
    Compact,
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let change = (
        0..8_u8,
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
    );
    prop_oneof![
        6 => proptest::collection::vec(change, 1..6).prop_map(Act::Batch),
        1 => Just(Act::Anchor),
        1 => Just(Act::Compact),
        2 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Any sequence of changes, anchors, compactions and restarts leaves what a map would hold, and every anchor stays
    /// in the past.
    #[test]
    fn it_behaves_as_a_map(acts in proptest::collection::vec(act(), 1..40)) {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let mut store = open(dir.path());
        let mut model: BTreeMap<u8, Vec<u8>> = BTreeMap::new();
        let mut anchors = Vec::new();
        let mut counter = 0;
        for act in acts {
            match act {
                Act::Batch(changes) => {
                    let keys: Vec<[u8; 1]> = changes.iter().map(|(key, _)| [*key]).collect();
                    let batch: Vec<Change<'_>> = changes.iter().zip(&keys).map(|((_, value), key)| match value {
                        Some(value) => Change::Put { key, value },
                        None => Change::Delete { key },
                    }).collect();
                    counter += u64::try_from(batch.len()).unwrap();
                    prop_assert_eq!(store.apply(&batch).unwrap().counter, counter);
                    for (key, value) in changes {
                        match value {
                            Some(value) => { model.insert(key, value); }
                            None => { model.remove(&key); }
                        }
                    }
                }
                Act::Anchor => {
                    counter += 1;
                    anchors.push(store.anchor().unwrap());
                }
                Act::Compact => store.compact().unwrap(),
                Act::Reopen => {
                    let state = store.state();
                    drop(store);
                    let (opened, report) = try_open(dir.path(), Some(state)).unwrap();
                    prop_assert_eq!(report.dropped_bytes, 0);
                    store = opened;
                    prop_assert_eq!(store.state(), state);
                }
            }
            for key in 0..8 {
                prop_assert_eq!(get(&store, &[key]), model.get(&key).cloned());
            }
            for anchor in &anchors {
                prop_assert!(store.check(anchor).is_ok());
            }
            prop_assert_eq!(store.usage().records, model.len());
        }
    }
}
