//! Submitting, reading, subscribing, and doing it all again after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::{Height, TimestampMs};
use ledger::port::{Blocks as _, Freshness, Ledger as _, ReadError, SubmitError};
use ledger::records::{Account, AnchorHead, AnchorKind};
use ledger::transaction::Change;
use ledger::{LightClient, Outcome, Record as _, Rejection, StateKey, ValidatorSet};
use solo::{OpenError, Solo, SoloConfig};

use crate::support::{Rig, clock};
use crate::world::{START, decision, genesis, signed};

fn key(key: &StateKey) -> bytes::Bytes {
    key.encode().into()
}

#[test]
fn what_was_acknowledged_is_read_with_a_proof_and_survives_restarts() {
    let mut rig = Rig::new();
    let who = rig.people.principal(1);
    let keys = [
        key(&StateKey::Account(who)),
        key(&StateKey::AnchorHead(who, AnchorKind::Audit)),
        key(&StateKey::AnchorHead(who, AnchorKind::Batch)),
    ];
    let mut client = LightClient::new(&genesis(true));
    for round in 0..4_u64 {
        let config = SoloConfig {
            snapshot_transactions: 5,
            ..rig.config()
        };
        let (solo, report) = Solo::open(config).unwrap();
        assert!(!report.torn && report.damaged_snapshots == 0, "{report:?}");
        for nonce in round * 4..(round + 1) * 4 {
            let bytes = rig.nth(1, nonce);
            let receipt = rig.submit(&solo, bytes).unwrap();
            assert_eq!(receipt.outcome, Outcome::Applied);
            let at = Freshness::AtLeast(receipt.height);
            let answer = rig.runtime.block_on(solo.read(keys.to_vec(), at)).unwrap();
            answer.verify(&mut client, &keys).unwrap();
            let account = Account::decode(answer.values[0].value.as_deref().unwrap()).unwrap();
            let head = AnchorHead::decode(answer.values[1].value.as_deref().unwrap()).unwrap();
            assert_eq!((account.nonce, head.sequence), (nonce + 1, nonce + 1));
            assert_eq!(answer.values[2].value, None);
            // A proof for one key shows nothing of another.
            let mut turned = answer.clone();
            turned.values.swap(0, 1);
            assert!(turned.verify(&mut client, &keys).is_err());
        }
        let fresh = rig.runtime.block_on(solo.freshness([9; 32])).unwrap();
        assert_eq!(
            client.freshen(&[9; 32], &fresh).unwrap(),
            solo.status().height
        );
    }
}

#[test]
fn a_transaction_sent_again_is_applied_once_and_answered_alike() {
    let mut rig = Rig::new();
    let (solo, _) = Solo::open(rig.config()).unwrap();
    let bytes = rig.nth(1, 0);
    let first = rig.submit(&solo, bytes.clone()).unwrap();
    assert_eq!(rig.submit(&solo, bytes.clone()).unwrap(), first);
    // Twice at once.
    let second = rig.nth(1, 1);
    let both = async { tokio::join!(solo.submit(second.clone()), solo.submit(second.clone())) };
    let (one, two) = rig.runtime.block_on(both);
    assert_eq!(one.unwrap(), two.unwrap());
    drop(solo);
    let (solo, _) = Solo::open(rig.config()).unwrap();
    let again = rig.submit(&solo, second).unwrap();
    assert_eq!(again.outcome, Outcome::Applied);
    // Not the sender's last: its nonce was used.
    let old = rig.submit(&solo, bytes);
    assert!(matches!(
        old,
        Err(SubmitError::Rejected(Rejection::NonceUsed {
            got: 0,
            next: 2
        }))
    ));
    let receipt = rig.runtime.block_on(solo.receipt(again.transaction));
    assert_eq!(receipt.unwrap(), Some(again));
}

#[test]
fn transactions_that_overtake_each_other_are_put_in_order() {
    let mut rig = Rig::new();
    let (solo, _) = Solo::open(rig.config()).unwrap();
    let mut sent: Vec<_> = (0..20).map(|nonce| rig.nth(1, nonce)).collect();
    sent.reverse();
    // The writer is held up by a first block, so that all of these come together; whoever comes too early for
    // another reason is told so and tries again.
    let all = async {
        let tasks: Vec<_> = sent
            .iter()
            .map(|bytes| solo.submit(bytes.clone()))
            .collect();
        let mut results = Vec::new();
        for task in tasks {
            results.push(task);
        }
        let mut joined = tokio::task::JoinSet::new();
        for bytes in sent.clone() {
            let solo = solo.clone();
            joined.spawn(async move {
                loop {
                    match solo.submit(bytes.clone()).await {
                        Err(SubmitError::Rejected(Rejection::NonceTooHigh { .. })) => {}
                        other => return other,
                    }
                }
            });
        }
        drop(results);
        joined.join_all().await
    };
    for result in rig.runtime.block_on(all) {
        let receipt = result.unwrap();
        assert_eq!(receipt.outcome, Outcome::Applied);
    }
    let bytes = rig.nth(1, 20);
    assert!(rig.submit(&solo, bytes).is_ok());
}

#[test]
fn rejections_have_their_code_and_leave_no_block() {
    let mut rig = Rig::new();
    let (solo, _) = Solo::open(rig.config()).unwrap();
    let bytes = rig.nth(1, 0);
    rig.submit(&solo, bytes).unwrap();
    let height = solo.status().height;
    let gap = rig.nth(1, 5);
    let mut forged = rig.nth(2, 0).to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let validators = ValidatorSet::new(vec![rig.people.principal(9)]).unwrap();
    let change = Change::SetValidators(validators);
    let action = decision(&mut rig.people, &rig.chain, 1, change);
    let unsupported = signed(rig.people.get(3), &rig.chain, 0, action);
    for (bytes, code) in [
        (gap, "nonce-too-high"),
        (forged.into(), "bad-signature"),
        (vec![0; 200_000].into(), "too-large"),
        (vec![0; 20].into(), "malformed"),
        (unsupported.into(), "unsupported"),
    ] {
        match rig.submit(&solo, bytes) {
            Err(SubmitError::Rejected(rejection)) => assert_eq!(rejection.code(), code),
            other => panic!("{code}: {other:?}"),
        }
    }
    assert_eq!(solo.status().height, height);
}

#[test]
fn too_many_at_once_are_told_to_come_back() {
    let mut rig = Rig::new();
    let config = SoloConfig {
        waiting_max: 3,
        ..rig.config()
    };
    let (solo, _) = Solo::open(config).unwrap();
    let sent: Vec<_> = (1..30).map(|who| rig.nth(who, 0)).collect();
    let results = rig.runtime.block_on(async {
        let mut joined = tokio::task::JoinSet::new();
        for bytes in sent.clone() {
            let solo = solo.clone();
            joined.spawn(async move { solo.submit(bytes).await });
        }
        joined.join_all().await
    });
    let busy = results
        .iter()
        .filter(|result| matches!(result, Err(SubmitError::Busy)))
        .count();
    let applied = results.iter().filter(|result| result.is_ok()).count();
    assert!(
        busy > 0 && applied >= 3 && busy + applied == 29,
        "{busy} busy"
    );
    assert_eq!(solo.status().waiting, 0);
    // By bytes too: not even one fits.
    drop(solo);
    let config = SoloConfig {
        waiting_bytes_max: 100,
        ..rig.config()
    };
    let (solo, _) = Solo::open(config).unwrap();
    let bytes = rig.nth(50, 0);
    assert_eq!(rig.submit(&solo, bytes), Err(SubmitError::Busy));
}

#[test]
fn empty_blocks_carry_the_time_and_time_never_runs_back() {
    let rig = Rig::new();
    let at = Arc::new(AtomicU64::new(START.0 + 1_000));
    let config = SoloConfig {
        empty_block_every: Duration::from_millis(20),
        now: clock(&at),
        ..rig.config()
    };
    let (solo, _) = Solo::open(config).unwrap();
    let next = |solo: &Solo| {
        let height = Height(solo.status().height.0 + 1);
        let read = solo.read(Vec::new(), Freshness::AtLeast(height));
        rig.runtime.block_on(read).unwrap().last.header
    };
    assert_eq!(next(&solo).time, TimestampMs(START.0 + 1_000));
    at.store(START.0 + 5_000, Ordering::SeqCst);
    let (_, later) = (next(&solo), next(&solo));
    assert_eq!(later.time, TimestampMs(START.0 + 5_000));
    at.store(START.0, Ordering::SeqCst);
    let (_, back) = (next(&solo), next(&solo));
    assert_eq!(back.time, TimestampMs(START.0 + 5_000));
}

#[test]
fn subscribers_see_every_block_once_from_any_height() {
    let mut rig = Rig::new();
    let config = SoloConfig {
        recent_blocks_max: 4,
        snapshot_transactions: 7,
        ..rig.config()
    };
    rig.fill(config.clone(), 0, 30);
    let (solo, _) = Solo::open(config).unwrap();
    let height = solo.status().height.0;
    let mut from_start = rig.runtime.block_on(solo.subscribe(Height(0))).unwrap();
    let mut previous = None;
    let mut seen = 0;
    for wanted in 1..=height {
        let block = rig.runtime.block_on(from_start.next()).unwrap();
        assert_eq!(block.last.header.height, Height(wanted));
        if let Some(previous) = previous {
            assert_eq!(block.last.header.previous, previous);
        }
        previous = Some(block.last.header.hash(&rig.chain.deployment));
        seen += block.transactions.len();
        let same = rig.runtime.block_on(solo.finality(Some(Height(wanted))));
        assert_eq!(same.unwrap(), block.last);
    }
    assert_eq!(seen, 30);
    let bytes = rig.nth(1, 30);
    let receipt = rig.submit(&solo, bytes).unwrap();
    loop {
        let block = rig.runtime.block_on(from_start.next()).unwrap();
        if !block.transactions.is_empty() {
            assert_eq!(block.receipts, [receipt]);
            break;
        }
    }
    let beyond = Height(height + 100);
    assert!(matches!(
        rig.runtime.block_on(solo.finality(Some(beyond))),
        Err(ReadError::NotReached { .. })
    ));
}

#[test]
fn reads_wait_for_their_height_and_are_bounded() {
    let rig = Rig::new();
    let config = SoloConfig {
        read_wait: Duration::from_millis(30),
        ..rig.config()
    };
    let (solo, _) = Solo::open(config).unwrap();
    let beyond = Freshness::AtLeast(Height(1_000));
    assert!(matches!(
        rig.runtime.block_on(solo.read(Vec::new(), beyond)),
        Err(ReadError::NotReached { .. })
    ));
    let many = vec![bytes::Bytes::from_static(b"x"); 65];
    assert!(matches!(
        rig.runtime.block_on(solo.read(many, Freshness::Local)),
        Err(ReadError::Malformed(_))
    ));
}

#[test]
fn a_folder_is_made_once_and_only_its_validator_opens_it() {
    let rig = Rig::new();
    assert!(matches!(
        Solo::create(rig.dir.path(), &genesis(false)),
        Err(OpenError::Exists(_))
    ));
    let other = SoloConfig {
        validator: Arc::new(crate::world::person(5)),
        ..rig.config()
    };
    assert!(matches!(Solo::open(other), Err(OpenError::Genesis(_))));
    let empty = tempfile::tempdir().unwrap();
    let nowhere = SoloConfig {
        dir: empty.path().to_owned(),
        ..rig.config()
    };
    assert!(matches!(Solo::open(nowhere), Err(OpenError::Missing(_))));
    let (solo, _) = Solo::open(rig.config()).unwrap();
    let status = solo.status();
    assert_eq!(status.engine, "solo: the operator is the ledger");
    assert!(status.development);
}
