//! Making keys, interrupted and cheated at every step.

use std::time::{Duration, Instant};

use bytes::Bytes;
use custody::Reason;
use enclave_client::CallError;
use enclave_wire::v1;
use ledger::Record as _;
use ledger::records::VersionStatement;

use crate::custodian::{Fault, Step};
use crate::rig::{FRIEND, LONG, OWNER, Options, Rig};

fn refusal<T: std::fmt::Debug>(result: Result<T, CallError>) -> enclave_client::Refusal {
    match result {
        Err(CallError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_takes_what_was_dealt_and_it_opens() {
    let mut rig = Rig::start().await;
    let (key, question) = rig.begin("payroll");
    let begun = Instant::now();
    let dealt = rig.pool.peers()[0]
        .deal_version(question.clone(), LONG)
        .await
        .unwrap();
    println!("dealt in {:?}", begun.elapsed());
    assert_eq!(dealt.acknowledgements.len(), 5);
    assert_eq!(dealt.activation_worker[..], rig.workers[1].principal().0);
    // Whoever lost the answer gets it again.
    let again = rig.pool.peers()[0]
        .deal_version(question, LONG)
        .await
        .unwrap();
    assert_eq!(again, dealt);
    rig.activate(&dealt).unwrap();
    rig.decrypt(key, 3).await.unwrap();
    // Through the other worker, too.
    let opening = rig.ask(key, 1);
    let opened = rig.pool.peers()[1]
        .decrypt(opening.ask.clone(), LONG)
        .await
        .unwrap();
    opening.check(&opened);
    // It is active now: nothing is pending any more.
    let late = rig.question(key, 1, 1);
    let refused = refusal(rig.pool.peers()[1].deal_version(late, LONG).await);
    assert_eq!(refused.code, "key-state");
}

#[tokio::test(flavor = "multi_thread")]
async fn standbys_hold_their_copies_before_anything_counts() {
    let mut rig = Rig::with(Options {
        standbys: true,
        ..Options::default()
    })
    .await;
    let (_, question) = rig.begin("payroll");
    let dealt = rig.pool.peers()[0]
        .deal_version(question, LONG)
        .await
        .unwrap();
    assert_eq!(dealt.acknowledgements.len(), 10);
    rig.activate(&dealt).unwrap();
    let (_, question) = rig.begin("another");
    rig.custodians[5].set(Fault::FailAt(Step::Hold));
    let refused = refusal(rig.pool.peers()[0].deal_version(question, LONG).await);
    assert!(
        refused.detail.contains("custodian 3 (standby)"),
        "{}",
        refused.detail
    );
}

/// Two keys through one worker and one key through two workers at once: everything fits, or is refused cleanly.
#[tokio::test(flavor = "multi_thread")]
async fn two_dealings_at_once() {
    let mut rig = Rig::start().await;
    let (first, one) = rig.begin("first");
    let (second, _) = rig.begin("second");
    let two = rig.question(second, 1, 1);
    let peer = rig.pool.peers()[0].clone();
    let (a, b, same) = tokio::join!(
        peer.deal_version(one.clone(), LONG),
        peer.deal_version(two, LONG),
        peer.deal_version(one, LONG),
    );
    // Whichever came second is refused while the first is under way, or gets the same answer after it.
    let good: Vec<_> = [&a, &same]
        .into_iter()
        .filter_map(|one| one.as_ref().ok())
        .collect();
    assert!(!good.is_empty(), "{a:?} {same:?}");
    assert!(good.iter().all(|one| *one == good[0]));
    for refused in [&a, &same].into_iter().filter_map(|one| one.as_ref().err()) {
        assert_eq!(refused.code(), "busy");
    }
    let good = good[0].clone();
    rig.activate(&good).unwrap();
    rig.activate(&b.unwrap()).unwrap();
    rig.decrypt(first, 1).await.unwrap();
    rig.decrypt(second, 1).await.unwrap();

    let (third, question) = rig.begin("third");
    let (left, right) = (rig.pool.peers()[0].clone(), rig.pool.peers()[1].clone());
    let (left, right) = tokio::join!(
        left.deal_version(question.clone(), LONG),
        right.deal_version(question, LONG),
    );
    let good: Vec<_> = [left, right].into_iter().filter_map(Result::ok).collect();
    assert!(
        good.len() <= 1,
        "custodians hold shares of two statements of one attempt"
    );
    if let Some(good) = good.first() {
        rig.activate(good).unwrap();
        rig.decrypt(third, 1).await.unwrap();
    }
}

/// Whatever step a custodian fails at, nothing is made, it is named, and the next attempt works.
#[tokio::test(flavor = "multi_thread")]
async fn a_dealing_interrupted_at_every_step() {
    let mut rig = Rig::start().await;
    let steps = [
        Step::Ceremony(1),
        Step::Ceremony(2),
        Step::Ceremony(3),
        Step::Ceremony(4),
        Step::Hold,
        Step::Show,
    ];
    for (at, step) in steps.into_iter().enumerate() {
        let (key, question) = rig.begin(&format!("key-{at}"));
        rig.custodians[1].set(Fault::FailAt(step));
        let refused = refusal(
            rig.pool.peers()[0]
                .deal_version(question.clone(), LONG)
                .await,
        );
        assert!(
            refused.detail.contains("custodian 2"),
            "{step:?}: {}",
            refused.detail
        );
        // The same attempt again: works or is refused, and never gives another key than custodians hold.
        rig.custodians[1].set(Fault::None);
        let again = rig.pool.peers()[0].deal_version(question, LONG).await;
        match again {
            Ok(dealt) => rig.activate(&dealt).unwrap(),
            Err(error) => {
                let CallError::Refused(refused) = error else {
                    panic!("{step:?}: {error}");
                };
                assert!(
                    refused.detail.contains("custodian"),
                    "{step:?}: {}",
                    refused.detail
                );
                // Another attempt, after the first one's time is over.
                rig.abandon(key, 1);
                let question = rig.begin_version(key, 1, 1);
                let dealt = rig.pool.peers()[0]
                    .deal_version(question, LONG)
                    .await
                    .unwrap();
                rig.activate(&dealt).unwrap();
            }
        }
        rig.decrypt(key, 1).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn custodians_that_lie_while_a_key_is_made_are_named() {
    let mut rig = Rig::start().await;
    for (at, fault) in [
        Fault::AnotherKeyMade,
        Fault::BadAcknowledgement,
        Fault::BadShown,
    ]
    .into_iter()
    .enumerate()
    {
        let (_, question) = rig.begin(&format!("key-{at}"));
        rig.custodians[4].set(fault);
        let refused = refusal(rig.pool.peers()[0].deal_version(question, LONG).await);
        let named = refused.detail.contains("custodian 5") || refused.detail.contains("most: 5");
        assert!(named, "{fault:?}: {}", refused.detail);
        rig.custodians[4].set(Fault::None);
    }
}

/// One that is not there is noticed at once; one that hangs, in bounded time.
#[tokio::test(flavor = "multi_thread")]
async fn all_custodians_are_needed_to_make_a_key() {
    let options = Options::default();
    let settings = worker::Settings {
        step: Duration::from_millis(500),
        ..options.settings
    };
    let mut rig = Rig::with(Options {
        settings,
        ..options
    })
    .await;
    let (_, question) = rig.begin("first");
    rig.custodians[0].set(Fault::Hang);
    let refused = refusal(rig.pool.peers()[0].deal_version(question, LONG).await);
    assert_eq!(refused.code, "custodians");
    assert!(
        refused.detail.contains("custodian 1: no answer"),
        "{}",
        refused.detail
    );
    rig.custodians[0].set(Fault::Refuse(Reason::Busy));
    let (_, question) = rig.begin("second");
    let refused = refusal(rig.pool.peers()[0].deal_version(question, LONG).await);
    assert_eq!((refused.code.as_str(), refused.retry), ("busy", true));
    rig.custodians[0].set(Fault::None);
    rig.stop_custodian(3).await;
    let (_, question) = rig.begin("third");
    let refused = refusal(rig.pool.peers()[0].deal_version(question, LONG).await);
    assert!(refused.detail.contains("custodian 4"), "{}", refused.detail);
}

/// Only what the ledger has pending is made.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_pending_is_not_made() {
    let mut rig = Rig::start().await;
    let (key, good) = rig.begin("payroll");
    type Change = fn(&mut v1::DealVersion);
    let changes: [(&str, Change); 6] = [
        ("key-state", |ask| ask.fencing = 2),
        ("key-state", |ask| ask.version = 2),
        ("malformed", |ask| ask.version = 0),
        ("malformed", |ask| ask.key = vec![1; 31].into()),
        ("proof", |ask| ask.key = vec![1; 32].into()),
        ("proof", |ask| ask.proof = None),
    ];
    for (at, (expected, change)) in changes.into_iter().enumerate() {
        let mut ask = good.clone();
        change(&mut ask);
        let refused = refusal(rig.pool.peers()[0].deal_version(ask, LONG).await);
        assert_eq!(refused.code, expected, "{at}");
    }
    // Nobody but its owner, or whom that lets rotate it, has it made: not with no request, another's, or another attempt's.
    let owner = good.request.clone();
    let mut forged = owner.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    for (request, expected) in [
        (Bytes::new(), "malformed"),
        (forged.into(), "signature"),
        (rig.deal_request(FRIEND, key, 1, 1), "not-granted"),
        (rig.deal_request(OWNER, key, 1, 2), "malformed"),
        (rig.deal_request(OWNER, key, 2, 1), "malformed"),
    ] {
        let mut ask = good.clone();
        ask.request = request;
        let refused = refusal(rig.pool.peers()[0].deal_version(ask, LONG).await);
        assert_eq!(refused.code, expected);
    }
    let dealt = rig.pool.peers()[0]
        .deal_version(good.clone(), LONG)
        .await
        .unwrap();
    rig.activate(&dealt).unwrap();
    // An old proof still shows it pending; custodians show no share of a version that is active.
    let refused = rig.pool.peers()[1].deal_version(good, LONG).await;
    assert!(refused.is_err());
    rig.decrypt(key, 1).await.unwrap();
}

/// Checking is for another worker than the dealer, for a worker's question, and for what custodians hold.
#[tokio::test(flavor = "multi_thread")]
async fn only_another_worker_checks_and_only_what_is_held() {
    let mut rig = Rig::start().await;
    let (_, question) = rig.begin("payroll");
    let dealt = rig.pool.peers()[0]
        .deal_version(question.clone(), LONG)
        .await
        .unwrap();
    let ask = v1::Activate {
        statement: dealt.statement.clone(),
        commitments: dealt.commitments.clone(),
        proof: question.proof.clone(),
    };
    let refused = refusal(rig.pool.peers()[1].activate(ask.clone(), LONG).await);
    assert_eq!(refused.code, "peer-role", "a client may not ask for it");
    let workers = rig.workers_as_worker();
    let refused = refusal(workers.peers()[0].activate(ask.clone(), LONG).await);
    assert_eq!(
        refused.code, "statement",
        "the dealer does not check itself"
    );
    // The other one does, again and again.
    let activated = workers.peers()[1]
        .activate(ask.clone(), LONG)
        .await
        .unwrap();
    assert_eq!(activated.signature, dealt.activation_signature);
    // Another public key, other commitments.
    let mut statement = VersionStatement::decode(&dealt.statement).unwrap();
    statement.fencing = 9;
    let mut changed = ask.clone();
    changed.statement = statement.encode().into();
    assert_eq!(
        refusal(workers.peers()[1].activate(changed, LONG).await).code,
        "key-state"
    );
    let mut changed = ask.clone();
    let mut commitments = changed.commitments.to_vec();
    commitments[3] ^= 1;
    changed.commitments = commitments.into();
    assert_eq!(
        refusal(workers.peers()[1].activate(changed, LONG).await).code,
        "statement"
    );
    let mut statement = VersionStatement::decode(&dealt.statement).unwrap();
    statement.pq = *crypto::kem::PqSeed::random(&mut crate::rig::rng())
        .public()
        .as_bytes();
    let mut changed = ask;
    changed.statement = statement.encode().into();
    let refused = refusal(workers.peers()[1].activate(changed, LONG).await);
    assert!(
        ["cheated", "unknown-share"].contains(&refused.code.as_str()),
        "{refused}"
    );
}
