//! Opening ciphertexts, with custodians that are down, slow or lying.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use custody::Reason;
use enclave_client::CallError;
use enclave_wire::v1;
use worker::Settings;

use crate::custodian::Fault;
use crate::ledger_world::person;
use crate::rig::{LONG, OWNER, Options, Rig};

/// The code of a refusal.
fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

fn released(rig: &Rig) -> usize {
    rig.custodians
        .iter()
        .map(|custodian| custodian.released.load(Ordering::SeqCst))
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_in_comes_out() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    for count in [1, 2, 64] {
        let opened = rig.decrypt(key, count).await.unwrap();
        assert_eq!(opened.partials.len(), 3);
        assert!(opened.failures.is_empty());
    }
    assert_eq!(
        released(&rig),
        9,
        "no more custodians are asked than needed"
    );
    let counters = rig.workers[0].describe().counters;
    assert_eq!((counters["decrypted"], counters["ciphertexts"]), (3, 67));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_five_may_be_down_and_three_may_not() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    rig.stop_custodian(1).await;
    rig.stop_custodian(4).await;
    for _ in 0..5 {
        let opened = rig.decrypt(key, 1).await.unwrap();
        let indices: Vec<u32> = opened
            .partials
            .iter()
            .map(|one| one.signature.as_ref().unwrap().index)
            .collect();
        assert_eq!(indices, [1, 3, 4]);
    }
    rig.stop_custodian(0).await;
    let opening = rig.ask(key, 1);
    let begun = Instant::now();
    let refused = rig.pool.peers()[0]
        .decrypt(opening.ask, LONG)
        .await
        .unwrap_err();
    let CallError::Refused(refusal) = refused else {
        panic!("{refused}");
    };
    assert_eq!((refusal.code.as_str(), refusal.retry), ("custodians", true));
    assert!(refusal.detail.contains("custodian 2"), "{}", refusal.detail);
    assert!(
        begun.elapsed() < LONG / 2,
        "waited for custodians that are not there"
    );
}

/// Whoever gives anything but its own share, signed for this request, is named, and the others do it without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_custodian_that_cheats_is_named_and_replaced() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    rig.key("another").await;
    for fault in [
        Fault::Garbage,
        Fault::AnotherKeysShare,
        Fault::ShiftedShare,
        Fault::BadSignature,
        Fault::ShortShare,
    ] {
        rig.custodians[2].set(fault);
        let mut named = 0;
        for _ in 0..4 {
            // The others are asked last.
            let mut opening = rig.ask(key, 2);
            opening.ask.avoid = vec![1, 2, 4, 5];
            let peer = &rig.pool.peers()[0];
            let opened = peer.decrypt(opening.ask.clone(), LONG).await.unwrap();
            opening.check(&opened);
            for failure in opened.failures {
                assert_eq!(failure.index, 3, "{fault:?}");
                assert_eq!(failure.refusal.unwrap().code, "cheated", "{fault:?}");
                named += 1;
            }
        }
        assert_eq!(named, 4, "{fault:?}");
    }
    // With three that cheat there are too few.
    for at in 0..3 {
        rig.custodians[at].set(Fault::Garbage);
    }
    let opening = rig.ask(key, 1);
    let refused = rig.pool.peers()[0].decrypt(opening.ask, LONG).await;
    let Err(CallError::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, "custodians");
    assert!(refusal.detail.contains("cheated"), "{}", refusal.detail);
}

/// Partials are sealed to the client: it finds the bad ones, and asks for others.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_names_who_gave_wrong_partials_and_gets_others() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    rig.custodians[3].set(Fault::BadPartials);
    let mut opening = rig.ask(key, 2);
    opening.ask.avoid = vec![1, 2, 3, 5];
    let peer = rig.pool.peers()[0].clone();
    let opened = peer.decrypt(opening.ask.clone(), LONG).await.unwrap();
    assert_eq!(opening.try_check(&opened).unwrap_err().get(), 4);
    for _ in 0..10 {
        let mut opening = rig.ask(key, 2);
        opening.ask.avoid = vec![4];
        let opened = peer.decrypt(opening.ask.clone(), LONG).await.unwrap();
        opening.check(&opened);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_more_is_asked_when_one_is_slow_and_one_for_each_failure() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    // One hangs for ever: everybody else is asked in its place after a moment.
    rig.custodians[0].set(Fault::Hang);
    for _ in 0..6 {
        let begun = Instant::now();
        rig.decrypt(key, 1).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    assert!(rig.workers[0].describe().counters["hedged"] > 0);
    // One hangs and one refuses.
    rig.custodians[1].set(Fault::Refuse(Reason::Busy));
    for _ in 0..6 {
        rig.decrypt(key, 1).await.unwrap();
    }
    // One is late, within bounds: that is no failure.
    rig.custodians[0].set(Fault::None);
    rig.custodians[1].set(Fault::None);
    for custodian in &rig.custodians {
        custodian.set(Fault::Late(Duration::from_millis(100)));
    }
    let opened = rig.decrypt(key, 1).await.unwrap();
    assert!(opened.failures.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn custodians_own_reason_is_what_the_client_hears() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    // Signed by somebody with no grant.
    let mut opening = rig.ask(key, 1);
    let stranger = person(77);
    opening.request.principal = stranger.principal();
    opening.sign(&stranger);
    let grant = ledger::StateKey::KeyGrant(key, stranger.principal());
    let shown = rig.prove(&[grant]);
    opening
        .ask
        .proof
        .as_mut()
        .unwrap()
        .values
        .extend(shown.values);
    let refused = rig.pool.peers()[0].decrypt(opening.ask, LONG).await;
    assert_eq!(code(refused), "not-granted");
    // A request is answered once.
    let opening = rig.ask(key, 1);
    let first = rig.pool.peers()[0]
        .decrypt(opening.ask.clone(), LONG)
        .await
        .unwrap();
    opening.check(&first);
    let before = released(&rig);
    let again = rig.pool.peers()[1].decrypt(opening.ask, LONG).await;
    assert_eq!(code(again), "replayed");
    assert!(
        released(&rig) <= before + 2,
        "fewer than t releases for a replay"
    );
}

/// What a worker sees for itself never reaches a custodian.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_wrong_in_itself_costs_no_custodian_anything() {
    let mut rig = Rig::start().await;
    let key = rig.key("payroll").await;
    let before = released(&rig);
    let owner = person(OWNER);
    type Change = fn(&mut v1::Decrypt);
    let changes: [(&str, Change); 8] = [
        ("malformed", |ask| ask.request = b"nonsense".to_vec().into()),
        ("malformed", |ask| drop(ask.ciphertexts.pop())),
        ("malformed", |ask| {
            ask.ciphertexts[0].pq = vec![0; 1_087].into()
        }),
        ("malformed", |ask| {
            ask.ciphertexts[0].context = vec![0; 8_193].into()
        }),
        ("kem-hash", |ask| {
            let other = ask.ciphertexts[1].pq.clone();
            ask.ciphertexts[0].pq = other;
        }),
        ("proof", |ask| ask.proof = None),
        ("proof", |ask| ask.proof.as_mut().unwrap().values.clear()),
        ("proof", |ask| {
            let value = &mut ask.proof.as_mut().unwrap().values[2];
            let mut bytes = value.value.take().unwrap().to_vec();
            bytes[100] ^= 1;
            value.value = Some(bytes.into());
        }),
    ];
    for (at, (expected, change)) in changes.into_iter().enumerate() {
        let mut opening = rig.ask(key, 2);
        change(&mut opening.ask);
        let refused = rig.pool.peers()[0].decrypt(opening.ask, LONG).await;
        assert_eq!(code(refused), expected, "{at}");
    }
    let mut opening = rig.ask(key, 1);
    opening.request.chain = domain::GenesisHash([1; 32]);
    opening.sign(&owner);
    assert_eq!(
        code(rig.pool.peers()[0].decrypt(opening.ask, LONG).await),
        "other-ledger"
    );
    let mut opening = rig.ask(key, 1);
    opening.request.expires = opening.request.issued;
    opening.sign(&owner);
    assert_eq!(
        code(rig.pool.peers()[0].decrypt(opening.ask, LONG).await),
        "expired"
    );
    let mut opening = rig.ask(key, 1);
    // The signature stands last.
    let mut request = opening.ask.request.to_vec();
    *request.last_mut().unwrap() ^= 1;
    opening.ask.request = request.into();
    assert_eq!(
        code(rig.pool.peers()[0].decrypt(opening.ask, LONG).await),
        "signature"
    );
    let mut opening = rig.ask(key, 1);
    opening.request.recipient_pq = [0xff; 1_216];
    opening.sign(&owner);
    assert_eq!(
        code(rig.pool.peers()[0].decrypt(opening.ask, LONG).await),
        "malformed"
    );
    *rig.view.fresh.lock().unwrap() = false;
    let opening = rig.ask(key, 1);
    assert_eq!(
        code(rig.pool.peers()[0].decrypt(opening.ask, LONG).await),
        "ledger-stale"
    );
    assert_eq!(released(&rig), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_a_time_are_bounded() {
    let mut rig = Rig::with(Options {
        settings: Settings {
            decrypts_max: 2,
            ..Options::default().settings
        },
        ..Options::default()
    })
    .await;
    let key = rig.key("payroll").await;
    for custodian in &rig.custodians {
        custodian.set(Fault::Late(Duration::from_millis(500)));
    }
    let peer = rig.pool.peers()[0].clone();
    let asks: Vec<_> = (0..4).map(|_| rig.ask(key, 1).ask).collect();
    let answers = asks.into_iter().map(|ask| {
        let peer = peer.clone();
        async move { peer.decrypt(ask, LONG).await }
    });
    let answers = futures_util::future::join_all(answers).await;
    let busy = answers
        .iter()
        .filter(|answer| answer.as_ref().is_err_and(|error| error.code() == "busy"));
    assert_eq!(busy.count(), 2);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 2);
    // Places come back.
    for custodian in &rig.custodians {
        custodian.set(Fault::None);
    }
    rig.decrypt(key, 1).await.unwrap();
}

/// A custodian whose code the policy does not allow is not talked to at all.
#[tokio::test(flavor = "multi_thread")]
async fn other_code_is_not_asked() {
    let mut rig = Rig::with(Options {
        other_code: Some(2),
        ..Options::default()
    })
    .await;
    let (_, question) = rig.begin("payroll");
    let refused = rig.pool.peers()[0].deal_version(question, LONG).await;
    let Err(CallError::Refused(refusal)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, "custodians");
    assert!(refusal.detail.contains("custodian 3"), "{}", refusal.detail);
}
