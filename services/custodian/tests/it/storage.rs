//! How much a share takes, what a rolled back store leads to, and an audit log that cannot be written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use attestation::{Role, SealingKeySource, SourceError};
use crypto::Secret;
use crypto::ristretto::{Element, SecretScalar};
use custodian::audit_log::{AuditLog, AuditRecords, Decided};
use custodian::store::{Open, Store, StoreError};
use custody::{AuditedOperation, Decision, Facts, Reason, ShareName};
use domain::{
    CommitteeId, Epoch, Height, KeyId, KeyVersion, PlatformType, ShareIndex, Threshold, TimestampMs,
};
use threshold::{CommitmentList, CustodianRecord, DhPublic, DhShare, Sharing};

use crate::support::{DEPLOYMENT, rng};

/// What a custodian may take per key version.
const BYTES_MAX: u64 = 400;

struct Fixed;

impl SealingKeySource for Fixed {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn sealing_root(&self, _: Role) -> Result<Secret<32>, SourceError> {
        Ok(Secret::take(&mut [9; 32]))
    }
}

fn name(number: u64) -> ShareName {
    ShareName {
        key: KeyId(*blake3::hash(&number.to_be_bytes()).as_bytes()),
        version: KeyVersion::FIRST,
        fencing: 1,
    }
}

fn record(name: &ShareName, scalar: &SecretScalar) -> CustodianRecord {
    let sharing = Sharing {
        deployment: DEPLOYMENT,
        key: name.key,
        version: name.version,
        epoch: Epoch::FIRST,
        committee: CommitteeId([1; 32]),
        threshold: Threshold::new(2, 3).unwrap(),
    };
    let group = Element::from_point(scalar.times_base()).unwrap();
    let public = DhPublic::new(sharing, group, vec![group; 3]).unwrap();
    let seed = Secret::random(&mut rng());
    let mut deal = threshold::pq::deal(&sharing, &seed, &mut rng());
    let list = CommitmentList::new(&public, &deal.commitments).unwrap();
    let scalar = SecretScalar::from_secret(&scalar.to_secret()).unwrap();
    let share = DhShare::new(sharing, ShareIndex::FIRST, scalar).unwrap();
    let pq = deal.shares.remove(0);
    CustodianRecord::new(&list, false, PlatformType::Software, pq, share).unwrap()
}

#[test]
fn a_key_version_takes_at_most_400_bytes() {
    const VERSIONS: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    let scalar = SecretScalar::random(&mut rng());
    let before = store.usage();
    for number in 0..VERSIONS {
        let name = name(number);
        let open = Open::default();
        store
            .hold(&name, &record(&name, &scalar), &[7; 32], &open)
            .unwrap();
        let open = Open {
            held: Some([7; 32]),
            ..open
        };
        store.settle(&name, &open, true).unwrap();
    }
    let usage = store.usage();
    let live = (usage.live_bytes - before.live_bytes) / VERSIONS;
    println!("{live} bytes per key version");
    // At most a quarter of a large file is dead before it is written anew (adapters/sealing), so this holds for the file too.
    assert!(live * 4 / 3 <= BYTES_MAX, "{live}");
    assert!(usage.file_bytes <= usage.live_bytes * 4 / 3 + (1 << 20));
    let found = store.load().unwrap();
    assert_eq!((found.shares, found.open.len()), (VERSIONS, 0));
    drop(store);
    let again = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    for number in [0, VERSIONS / 2, VERSIONS - 1] {
        let bytes = again.share(&name(number)).unwrap().unwrap();
        CustodianRecord::decode(DEPLOYMENT, &bytes).unwrap();
    }
}

#[test]
fn what_is_open_is_found_again_and_settled_either_way() {
    let dir = tempfile::tempdir().unwrap();
    let scalar = SecretScalar::random(&mut rng());
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    let me = store.identity(&mut rng()).unwrap().principal();
    let (won, lost) = (
        name(1),
        ShareName {
            fencing: 2,
            ..name(1)
        },
    );
    let held = |number: u8| Open {
        held: Some([number; 32]),
        ..Open::default()
    };
    for (name, number) in [(won, 1), (lost, 2)] {
        let record = record(&name, &scalar);
        let none = Open::default();
        store.hold(&name, &record, &[number; 32], &none).unwrap();
    }
    drop(store);
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    assert_eq!(store.identity(&mut rng()).unwrap().principal(), me);
    let expected = BTreeMap::from([(won, held(1)), (lost, held(2))]);
    assert_eq!(store.load().unwrap().open, expected);
    store.settle(&won, &held(1), true).unwrap();
    store.settle(&lost, &held(2), false).unwrap();
    drop(store);
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    let found = store.load().unwrap();
    assert_eq!((found.shares, found.open), (1, BTreeMap::new()));
    assert!(store.has_share(&won) && !store.has_share(&lost));
}

#[test]
fn a_store_that_was_put_back_lacks_what_came_after() {
    let dir = tempfile::tempdir().unwrap();
    let scalar = SecretScalar::random(&mut rng());
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    let open = Open::default();
    let (first, second) = (name(1), name(2));
    store
        .hold(&first, &record(&first, &scalar), &[1; 32], &open)
        .unwrap();
    drop(store);
    let file = dir.path().join("sealed.log");
    let old = std::fs::read(&file).unwrap();
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    store
        .hold(&second, &record(&second, &scalar), &[2; 32], &open)
        .unwrap();
    let newest = store.state();
    drop(store);
    std::fs::write(&file, old).unwrap();
    // The file alone does not tell (no anchor yet); what it lacks is refused as `unknown-share`, never answered wrongly.
    let store = Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap();
    assert!(store.has_share(&first) && !store.has_share(&second));
    assert!(store.state().counter < newest.counter);
}

fn decided(decision: Decision) -> Decided {
    Decided {
        facts: Facts::of(AuditedOperation::Decrypt),
        decision,
        time: TimestampMs(1),
        height: Height(1),
    }
}

#[tokio::test]
async fn the_log_goes_on_where_it_was_and_keeps_a_bounded_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut head = custody::AuditHead::EMPTY;
    for round in 0..3_u64 {
        let store = Arc::new(Store::open(dir.path(), DEPLOYMENT, &Fixed).unwrap());
        let found = store.load().unwrap().audit;
        let log = AuditLog::open(store.clone(), DEPLOYMENT, found, 10, 1).unwrap();
        assert_eq!(log.head(), head, "the same end after a start");
        for _ in 0..8 {
            log.allow(decided(Decision::Allow)).await.unwrap();
        }
        // Ten at once without a good signature; the others are counted in the next record.
        for _ in 0..100 {
            log.deny(decided(Decision::Deny(Reason::Malformed)));
        }
        log.allow(decided(Decision::Allow)).await.unwrap();
        assert!(log.suppressed() >= 85, "{}", log.suppressed());
        head = log.head();
        assert!(head.sequence >= (round + 1) * 9);
        // What came at once may be more than the bound; the next one brings it back.
        log.allow(decided(Decision::Allow)).await.unwrap();
        head = log.head();
        let (first, last) = store.load().unwrap().audit.unwrap();
        assert_eq!(last, head.sequence);
        assert!(last - first < 10, "{first} to {last}");
        let newest = store.get(last).unwrap().unwrap();
        assert_eq!(custody::audit::hash(&DEPLOYMENT, &newest), head.hash);
        drop(log);
        // The writer's thread lets the store go a moment later.
        while Arc::strong_count(&store) > 1 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

/// Records in memory, or a disk that fails.
#[derive(Default)]
struct Failing {
    kept: Mutex<BTreeMap<u64, Vec<u8>>>,
    broken: AtomicBool,
}

impl AuditRecords for Failing {
    fn append(&self, records: &[(u64, Vec<u8>)], drop: Range<u64>) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Foreign("a failing disk"));
        }
        let mut kept = self.kept.lock().unwrap();
        kept.extend(records.iter().cloned());
        kept.retain(|sequence, _| !drop.contains(sequence));
        Ok(())
    }

    fn get(&self, sequence: u64) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.kept.lock().unwrap().get(&sequence).cloned())
    }
}

#[tokio::test]
async fn nothing_is_allowed_that_cannot_be_written_down() {
    let records = Arc::new(Failing::default());
    let log = AuditLog::open(records.clone(), DEPLOYMENT, None, 100, 10).unwrap();
    log.allow(decided(Decision::Allow)).await.unwrap();
    let head = log.head();
    records.broken.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = log.allow(decided(Decision::Allow)).await.unwrap_err();
        assert_eq!(refused.reason, Reason::Storage);
    }
    log.deny(decided(Decision::Deny(Reason::Signature)));
    let refused = log.allow(decided(Decision::Allow)).await.unwrap_err();
    assert_eq!((refused.reason, log.head()), (Reason::Storage, head));
    // The disk is there again: the chain goes on, and says that something is missing.
    records.broken.store(false, Ordering::SeqCst);
    log.allow(decided(Decision::Allow)).await.unwrap();
    let newest = records.get(2).unwrap().unwrap();
    let newest = <custody::AuditRecord as ledger::Record>::decode(&newest).unwrap();
    assert_eq!((newest.previous, newest.suppressed), (head.hash, 1));
    assert_eq!(log.head().sequence, 2);
}

#[tokio::test]
async fn a_log_that_was_shortened_is_shown_from_its_first_record_on() {
    let records = Arc::new(Failing::default());
    let log = AuditLog::open(records.clone(), DEPLOYMENT, None, 10, 10).unwrap();
    for _ in 0..25 {
        log.allow(decided(Decision::Allow)).await.unwrap();
    }
    let permit = |after| custody::AuditPermit {
        request: custody::AuditRequest {
            chain: domain::GenesisHash([1; 32]),
            principal: domain::Principal([1; 32]),
            key: None,
            after,
            limit: 4,
            issued: TimestampMs(1),
            expires: TimestampMs(2),
            nonce: [1; 16],
        },
        hash: custody::RequestHash([1; 32]),
        all: true,
        keys: Vec::new(),
    };
    let mut check = custody::LogCheck::new(None, None);
    let (mut after, mut last) = (0, None);
    let whole = loop {
        let page = log.page(&permit(after)).unwrap();
        let before = last.unwrap_or(page.start.before);
        custody::audit::verify_page(&DEPLOYMENT, Some(before), &page.entries, &page.head).unwrap();
        match check.page(&page).unwrap() {
            custody::Next::Page(head) => (after, last) = (head.sequence, Some(head)),
            custody::Next::Done(whole) => break whole,
            custody::Next::Restart => panic!("nothing was dropped meanwhile"),
        }
    };
    assert_eq!((whole.last, whole.entries), (log.head(), 10));
    assert_eq!(whole.start.before.sequence, 15);
    let dropped = log.hash_of(3).unwrap();
    assert_eq!(dropped, None);
    assert_eq!(log.hash_of(25).unwrap(), Some(log.head().hash));
    assert_eq!(log.hash_of(26).unwrap(), None);
}
