//! Questions and their answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attestation::Role;
use enclave_client::{CallError, Refusal, ServeBounds, Settings};
use enclave_wire::v1;
use tokio::task::JoinSet;

use crate::support::{LONG, PRINCIPAL, SECOND, Script, World, confirm, until};

#[tokio::test]
async fn answers_come_in_any_order_to_whoever_asked() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings::default());
    let peer = pool.get(&PRINCIPAL).unwrap().clone();
    let mut calls = JoinSet::new();
    for ms in (1..=40).rev() {
        let peer = peer.clone();
        calls.spawn(async move { (ms, peer.confirm(confirm(ms), LONG).await.unwrap().height) });
    }
    while let Some(done) = calls.join_next().await {
        let (asked, answered) = done.unwrap();
        assert_eq!(u64::try_from(asked).unwrap(), answered);
    }
    assert!(script.most.load(Ordering::SeqCst) > 20, "asked one by one");
    assert!(
        script
            .roles
            .lock()
            .unwrap()
            .iter()
            .all(|role| *role == Role::Client)
    );
    let state = peer.state();
    assert!(state.connected && peer.is_connected());
    assert_eq!(state.description.unwrap().height, 7);
    assert_eq!(state.appraisal.unwrap().role, Role::Custodian);
    assert!(pool.get(&domain::Principal([8; 32])).is_none());
}

#[tokio::test]
async fn a_refusal_is_given_on_and_another_kind_of_answer_is_none() {
    let world = World::new();
    let _serving = world.serve(Arc::default(), ServeBounds::default());
    let pool = world.pool(Settings::default());
    let peer = &pool.peers()[0];
    let refused = peer.audit(v1::Audit::default(), LONG).await.unwrap_err();
    assert_eq!(
        refused,
        CallError::Refused(Refusal::new("not-granted", "no", false))
    );
    let wrong = peer.ceremony(v1::Ceremony::default(), LONG).await;
    assert!(matches!(wrong, Err(CallError::Protocol(_))), "{wrong:?}");
    assert!(wrong.unwrap_err().may_be_done());
    let mut shown = peer
        .show_share(v1::ShowShare::default(), LONG)
        .await
        .unwrap();
    let share = enclave_wire::secrets::take::<96>(&mut shown.pq_share).unwrap();
    assert_eq!(share.expose(), &[5; 96]);
}

/// Giving up one question leaves the others, and its answer that comes later disturbs nobody.
#[tokio::test]
async fn a_deadline_ends_one_question_only() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings::default());
    let peer = pool.peers()[0].clone();
    peer.describe(v1::Describe {}, LONG).await.unwrap();
    let short = Duration::from_millis(20);
    let (slow, never, good) = tokio::join!(
        peer.confirm(confirm(200), short),
        peer.hold_share(v1::HoldShare::default(), short),
        peer.confirm(confirm(400), LONG),
    );
    assert_eq!(slow, Err(CallError::TimedOut(short)));
    assert_eq!(never.unwrap_err(), CallError::TimedOut(short));
    assert_eq!(good.unwrap().height, 400);
    assert_eq!(peer.confirm(confirm(1), LONG).await.unwrap().height, 1);
    assert!(peer.is_connected());
}

#[tokio::test]
async fn questions_at_a_time_are_bounded_and_more_wait() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings {
        in_flight_max: 3,
        ..Settings::default()
    });
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let peer = pool.peers()[0].clone();
        calls.spawn(async move { peer.confirm(confirm(20), LONG).await });
    }
    for done in calls.join_all().await {
        assert_eq!(done.unwrap().height, 20);
    }
    assert_eq!(script.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_question_that_is_too_long_is_not_sent_and_spoils_nothing() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings::default());
    let peer = &pool.peers()[0];
    let long = peer
        .confirm(confirm(enclave_wire::MESSAGE_BYTES_MAX), LONG)
        .await;
    assert!(matches!(long, Err(CallError::TooLong { .. })), "{long:?}");
    assert_eq!(script.asked.load(Ordering::SeqCst), 0);
    assert_eq!(peer.confirm(confirm(1), LONG).await.unwrap().height, 1);
}

#[tokio::test]
async fn a_quiet_session_is_asked_after() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings {
        ask_after: Duration::from_millis(30),
        ..Settings::default()
    });
    let peer = &pool.peers()[0];
    peer.describe(v1::Describe {}, LONG).await.unwrap();
    let before = script.described.load(Ordering::SeqCst);
    until("a question of its own", || {
        script.described.load(Ordering::SeqCst) > before + 2
    })
    .await;
    assert!(peer.state().age.unwrap() < LONG);
}

/// The session is up, and nobody is at home: callers learn it from the pool's own question, not each by its deadline.
#[tokio::test]
async fn a_peer_that_no_longer_answers_is_given_up() {
    let world = World::new();
    let listener = tokio::net::UnixListener::bind(world.socket()).unwrap();
    let endpoint = world.enclave(Role::Custodian, crate::support::CUSTODIAN);
    let hung = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        let admit = attested::Admit::roles(&Role::ALL);
        let mut session = endpoint.accept(stream, &admit).await.unwrap();
        session.receive().await.unwrap().unwrap();
        let description = v1::Description {
            principal: PRINCIPAL.0.to_vec().into(),
            ..v1::Description::default()
        };
        let answer = v1::Answer {
            id: 1,
            outcome: Some(v1::answer::Outcome::Description(description)),
        };
        let frame = prost::Message::encode_to_vec(&answer);
        session.send(&frame).await.unwrap();
        while let Ok(Some(_)) = session.receive().await {}
    });
    let pool = world.pool(Settings {
        ask_after: Duration::from_millis(50),
        patience: SECOND,
        ..Settings::default()
    });
    let lost = pool.peers()[0].confirm(confirm(1), LONG).await.unwrap_err();
    assert!(matches!(lost, CallError::Lost(_)), "{lost}");
    assert!(lost.to_string().contains("no longer answers"), "{lost}");
    hung.await.unwrap();
}
