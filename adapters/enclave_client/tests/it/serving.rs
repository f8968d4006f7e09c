//! What a server bounds and survives.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attestation::Role;
use attested::Session;
use enclave_client::{CallError, ServeBounds, Settings};
use enclave_wire::v1::{self, Answer, Question, answer::Outcome, question::Ask};
use prost::Message as _;
use tokio::net::UnixStream;

use crate::support::{CUSTODIAN, LONG, SECOND, Script, World, confirm};

async fn session(world: &World) -> Session<UnixStream> {
    let stream = UnixStream::connect(world.socket()).await.unwrap();
    let worker = world.enclave(Role::Worker, crate::support::WORKER);
    worker.connect(stream, Role::Custodian).await.unwrap()
}

fn question(id: u64, ask: Ask) -> Vec<u8> {
    Question { id, ask: Some(ask) }.encode_to_vec()
}

async fn answer(session: &mut Session<UnixStream>) -> Answer {
    let frame = session.receive().await.unwrap().unwrap();
    Answer::decode(&frame[..]).unwrap()
}

#[tokio::test]
async fn beyond_the_bounds_questions_are_refused_as_busy() {
    for bounds in [
        ServeBounds {
            per_session_max: 2,
            ..ServeBounds::default()
        },
        ServeBounds {
            attested_max: 2,
            ..ServeBounds::default()
        },
    ] {
        let world = World::new();
        let script = Arc::new(Script::default());
        let _serving = world.serve(script.clone(), bounds);
        let mut session = session(&world).await;
        for id in 1..=2 {
            let never = Ask::HoldShare(v1::HoldShare::default());
            session.send(&question(id, never)).await.unwrap();
        }
        session
            .send(&question(3, Ask::Confirm(confirm(1))))
            .await
            .unwrap();
        let refused = answer(&mut session).await;
        assert_eq!(refused.id, 3);
        let Some(Outcome::Refusal(refusal)) = refused.outcome else {
            panic!("{refused:?}");
        };
        assert_eq!((refusal.code.as_str(), refusal.retry), ("busy", true));
        assert_eq!(script.asked.load(Ordering::SeqCst), 2);
    }
}

/// Clients at their bound leave attested peers their own.
#[tokio::test]
async fn clients_do_not_take_the_places_of_enclaves() {
    let world = World::new();
    let bounds = ServeBounds {
        clients_max: 1,
        ..ServeBounds::default()
    };
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), bounds);
    let pool = world.pool(Settings::default());
    let peer = pool.peers()[0].clone();
    peer.describe(v1::Describe {}, LONG).await.unwrap();
    let never = tokio::spawn({
        let peer = peer.clone();
        async move { peer.hold_share(v1::HoldShare::default(), LONG).await }
    });
    crate::support::until("the first question", || {
        script.asked.load(Ordering::SeqCst) == 1
    })
    .await;
    let busy = peer.confirm(confirm(1), LONG).await.unwrap_err();
    assert_eq!(busy.code(), "busy");
    let mut session = session(&world).await;
    session
        .send(&question(1, Ask::Confirm(confirm(1))))
        .await
        .unwrap();
    assert!(matches!(
        answer(&mut session).await.outcome,
        Some(Outcome::Confirmed(_))
    ));
    never.abort();
}

#[tokio::test]
async fn a_handler_that_panics_or_takes_too_long_is_answered_for() {
    let world = World::new();
    let bounds = ServeBounds {
        patience: Duration::from_millis(50),
        ..ServeBounds::default()
    };
    let _serving = world.serve(Arc::default(), bounds);
    let pool = world.pool(Settings::default());
    let peer = &pool.peers()[0];
    let panicked = peer.activate(v1::Activate::default(), LONG).await;
    assert_eq!(panicked.unwrap_err().code(), "internal");
    let slow = peer.hold_share(v1::HoldShare::default(), LONG).await;
    assert_eq!(slow.unwrap_err().code(), "busy");
    assert_eq!(peer.confirm(confirm(1), LONG).await.unwrap().height, 1);
}

/// Whoever asks, says that it asks no more and waits, gets every answer.
#[tokio::test]
async fn what_was_asked_before_closing_is_answered() {
    let world = World::new();
    let _serving = world.serve(Arc::default(), ServeBounds::default());
    let (_, mut sender, mut receiver) = session(&world).await.split();
    for id in 1..=20 {
        let ask = Ask::Confirm(confirm(60));
        sender.send(&question(id, ask)).await.unwrap();
    }
    sender.close().await.unwrap();
    let mut ids = Vec::new();
    while let Some(frame) = receiver.receive().await.unwrap() {
        ids.push(Answer::decode(&frame[..]).unwrap().id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=20).collect::<Vec<u64>>());
}

#[tokio::test]
async fn what_is_no_question_ends_the_session() {
    let world = World::new();
    let _serving = world.serve(Arc::default(), ServeBounds::default());
    for bad in [
        vec![0xff; 10],
        Question { id: 1, ask: None }.encode_to_vec(),
    ] {
        let mut session = session(&world).await;
        session.send(&bad).await.unwrap();
        assert!(!matches!(session.receive().await, Ok(Some(_))));
    }
    // And only that one.
    let mut session = session(&world).await;
    session
        .send(&question(1, Ask::Describe(v1::Describe {})))
        .await
        .unwrap();
    assert!(matches!(
        answer(&mut session).await.outcome,
        Some(Outcome::Description(_))
    ));
}

/// Answers to questions that were never asked, and bytes that are no answer, end the session; nobody gets them.
#[tokio::test]
async fn a_peer_that_answers_what_nobody_asked_is_left() {
    for bad in [
        Answer {
            id: 99,
            outcome: Some(Outcome::Held(v1::Held::default())),
        }
        .encode_to_vec(),
        Answer {
            id: 0,
            outcome: Some(Outcome::Held(v1::Held::default())),
        }
        .encode_to_vec(),
        Answer {
            id: 1,
            outcome: None,
        }
        .encode_to_vec(),
        vec![0xff; 9],
    ] {
        let world = World::new();
        let listener = tokio::net::UnixListener::bind(world.socket()).unwrap();
        let endpoint = world.enclave(Role::Custodian, CUSTODIAN);
        let bad_answer = bad.clone();
        let peer = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let admit = attested::Admit::roles(&Role::ALL);
            let mut session = endpoint.accept(stream, &admit).await.unwrap();
            session.receive().await.unwrap().unwrap();
            session.send(&bad_answer).await.unwrap();
            assert!(!matches!(session.receive().await, Ok(Some(_))));
        });
        let pool = world.pool(Settings::default());
        let failed = pool.peers()[0].confirm(confirm(1), SECOND * 10).await;
        assert!(
            matches!(failed, Err(CallError::Unreachable(_))),
            "{failed:?}"
        );
        peer.await.unwrap();
    }
}
