//! A host that puts back old files, shortens them, alters them, or runs two copies.

use std::fs;
use std::path::Path;

use sealing::{Change, OpenError, RollbackError, StoreState};

use crate::support::{delete, file, get, open, put, try_open};

/// Where frames begin.
const FRAMES_FROM: usize = 12_288;

fn opened(dir: &Path, ledger: Option<StoreState>) -> &'static str {
    match try_open(dir, ledger) {
        Ok(_) => "opened",
        Err(OpenError::Rollback(RollbackError::Behind { .. })) => "behind",
        Err(OpenError::Rollback(RollbackError::Forked { .. })) => "forked",
        Err(OpenError::Rollback(RollbackError::Missing { .. })) => "missing",
        Err(OpenError::Damaged { .. }) => "damaged",
        Err(OpenError::Foreign { .. }) => "foreign",
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_older_file_put_back_is_found_out_by_the_ledgers_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"share", b"epoch 1");
    let early = store.anchor().unwrap();
    let old = fs::read(file(dir.path())).unwrap();
    put(&store, b"share", b"epoch 2");
    let late = store.anchor().unwrap();
    drop(store);
    let new = fs::read(file(dir.path())).unwrap();

    fs::write(file(dir.path()), &old).unwrap();
    assert_eq!(opened(dir.path(), Some(late)), "behind");
    // What cannot be noticed without the ledger's state, and is said so in the documentation.
    assert_eq!(opened(dir.path(), Some(early)), "opened");
    assert_eq!(opened(dir.path(), None), "opened");
    // Opened without it, found out as soon as it is known.
    let store = open(dir.path());
    assert!(matches!(
        store.check(&late),
        Err(RollbackError::Behind { .. })
    ));
    assert!(store.check(&early).is_ok());
    drop(store);

    fs::write(file(dir.path()), &new).unwrap();
    assert_eq!(opened(dir.path(), Some(late)), "opened");
    assert_eq!(opened(dir.path(), Some(early)), "opened");
    fs::remove_file(file(dir.path())).unwrap();
    assert_eq!(opened(dir.path(), Some(late)), "missing");
}

/// Two copies of one store go on separately. Only one's history is on the ledger.
#[test]
fn a_fork_is_found_out_however_far_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"common");
    drop(store);
    let common = fs::read(file(dir.path())).unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"ours");
    let ours = store.anchor().unwrap();
    drop(store);

    fs::write(file(dir.path()), &common).unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"theirs");
    let theirs = store.anchor().unwrap();
    assert_eq!(ours.counter, theirs.counter);
    assert_ne!(ours.root, theirs.root);
    drop(store);
    assert_eq!(opened(dir.path(), Some(ours)), "forked");
    let store = open(dir.path());
    for _ in 0..10 {
        put(&store, b"a", b"more");
    }
    store.compact().unwrap();
    drop(store);
    assert_eq!(opened(dir.path(), Some(ours)), "forked");
    assert_eq!(opened(dir.path(), Some(theirs)), "opened");
}

/// The same bytes written twice from the same past are different frames: a fork shows even when both did the same.
#[test]
fn two_copies_that_do_the_same_are_still_two() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let common = fs::read(file(dir.path())).unwrap();
    let mut states = Vec::new();
    for _ in 0..2 {
        fs::write(file(dir.path()), &common).unwrap();
        let store = open(dir.path());
        states.push(put(&store, b"a", b"same"));
    }
    assert_ne!(states[0], states[1]);
}

/// Cut off at every byte, without any help from the ledger: acknowledged changes that are gone are noticed, because the
/// head says how many there were.
#[test]
fn a_shortened_file_is_refused_at_every_length() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"one");
    store
        .apply(&[
            Change::Put {
                key: b"b",
                value: b"two",
            },
            Change::Delete { key: b"a" },
        ])
        .unwrap();
    drop(store);
    let whole = fs::read(file(dir.path())).unwrap();
    for len in 0..whole.len() {
        fs::write(file(dir.path()), &whole[..len]).unwrap();
        // The newest head ends here; from there on the file knows how much is missing.
        let expect = if len < 4_096 + 80 {
            "foreign"
        } else {
            "damaged"
        };
        assert_eq!(opened(dir.path(), None), expect, "{len} bytes");
    }
    fs::write(file(dir.path()), &whole).unwrap();
    assert_eq!(opened(dir.path(), None), "opened");
}

/// Every bit of every frame counts.
#[test]
fn an_altered_frame_is_refused_whichever_bit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"one");
    drop(store);
    // A second session, so that its first frame is altered too.
    let store = open(dir.path());
    put(&store, b"b", b"two");
    delete(&store, b"a");
    drop(store);
    let whole = fs::read(file(dir.path())).unwrap();
    for byte in FRAMES_FROM..whole.len() {
        let mut altered = whole.clone();
        altered[byte] ^= 1 << (byte % 8);
        fs::write(file(dir.path()), &altered).unwrap();
        assert_eq!(opened(dir.path(), None), "damaged", "byte {byte}");
    }
}

/// Frames of the same store, taken out, doubled or exchanged.
#[test]
fn frames_cannot_be_moved_about() {
    let dir = tempfile::tempdir().unwrap();
    let mut ends = Vec::new();
    let store = open(dir.path());
    for value in [b"one", b"two", b"six"] {
        put(&store, b"a", value);
        ends.push(fs::metadata(file(dir.path())).unwrap().len());
    }
    drop(store);
    let whole = fs::read(file(dir.path())).unwrap();
    let at: Vec<usize> = ends
        .iter()
        .map(|end| usize::try_from(*end).unwrap())
        .collect();
    let (head, second, third) = (&whole[..at[0]], &whole[at[0]..at[1]], &whole[at[1]..]);
    for moved in [
        [head, third].concat(),
        [head, third, second].concat(),
        [head, second, second, third].concat(),
        [head, second, second].concat(),
        [head, second].concat(),
    ] {
        fs::write(file(dir.path()), moved).unwrap();
        assert_eq!(opened(dir.path(), None), "damaged");
    }
    // What stands behind the last acknowledged change is an unfinished write, and dropped.
    fs::write(file(dir.path()), [&whole, second].concat()).unwrap();
    let (store, report) = try_open(dir.path(), None).unwrap();
    assert_eq!(report.dropped_bytes, u64::try_from(second.len()).unwrap());
    assert_eq!(get(&store, b"a").unwrap(), b"six");
    put(&store, b"a", b"ten");
    drop(store);
    assert_eq!(get(&open(dir.path()), b"a").unwrap(), b"ten");
}

/// An old head put back beside a shortened log is still authentic: only the ledger knows. Said here so that nobody
/// believes more.
#[test]
fn an_old_head_with_its_old_log_is_what_only_the_ledger_notices() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"one");
    let old = fs::read(file(dir.path())).unwrap();
    put(&store, b"a", b"two");
    let anchored = store.anchor().unwrap();
    drop(store);
    fs::write(file(dir.path()), old).unwrap();
    assert_eq!(opened(dir.path(), None), "opened");
    assert_eq!(opened(dir.path(), Some(anchored)), "behind");
}

/// One torn head is survived: the other is there.
#[test]
fn one_damaged_head_is_survived_and_two_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, b"a", b"one");
    put(&store, b"a", b"two");
    drop(store);
    let whole = fs::read(file(dir.path())).unwrap();
    for place in [4_096, 8_192] {
        let mut torn = whole.clone();
        torn[place + 3] ^= 0xff;
        fs::write(file(dir.path()), torn).unwrap();
        assert_eq!(get(&open(dir.path()), b"a").unwrap(), b"two");
    }
    let mut torn = whole;
    torn[4_096] ^= 1;
    torn[8_192] ^= 1;
    fs::write(file(dir.path()), torn).unwrap();
    assert_eq!(opened(dir.path(), None), "foreign");
}

#[test]
fn only_anchored_states_of_its_own_past_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let unmarked = put(&store, b"a", b"one");
    assert!(store.check(&unmarked).is_ok(), "it is the present state");
    let anchored = store.anchor().unwrap();
    put(&store, b"a", b"two");
    assert!(store.check(&anchored).is_ok());
    assert!(matches!(
        store.check(&unmarked),
        Err(RollbackError::Forked { .. })
    ));
    let altered = StoreState {
        root: [0; 32],
        ..anchored
    };
    assert!(matches!(
        store.check(&altered),
        Err(RollbackError::Forked { .. })
    ));
    // The last 1,024 are remembered.
    for _ in 0..1_023 {
        store.anchor().unwrap();
    }
    assert!(store.check(&anchored).is_ok());
    store.compact().unwrap();
    assert!(store.check(&anchored).is_ok());
    store.anchor().unwrap();
    assert!(matches!(
        store.check(&anchored),
        Err(RollbackError::Forked { .. })
    ));
}
