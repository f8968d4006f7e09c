//! Sessions that end, and peers that are not who they should be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use attestation::{Measurement, Role};
use domain::Principal;
use enclave_client::{CallError, ServeBounds, Settings};

use crate::support::{LONG, PRINCIPAL, SECOND, Script, World, confirm, policy, until};

fn quick() -> Settings {
    Settings {
        backoff: (Duration::from_millis(5), Duration::from_millis(40)),
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_peer_that_comes_back_is_asked_again() {
    let world = World::new();
    let pool = world.pool(quick());
    let peer = pool.peers()[0].clone();
    let begun = Instant::now();
    let none = peer.confirm(confirm(1), LONG).await.unwrap_err();
    assert!(matches!(none, CallError::Unreachable(_)), "{none}");
    assert!(!none.may_be_done());
    assert!(
        begun.elapsed() < LONG / 2,
        "waited for a peer that is not there"
    );
    assert!(!peer.connected(Duration::from_millis(50)).await);
    for _ in 0..3 {
        let script = Arc::new(Script::default());
        let serving = world.serve(script.clone(), ServeBounds::default());
        assert!(peer.connected(LONG).await);
        assert_eq!(peer.confirm(confirm(2), LONG).await.unwrap().height, 2);
        // In the middle of a question: it may have been done.
        let asked = tokio::spawn({
            let peer = peer.clone();
            async move { peer.hold_share(Default::default(), LONG).await }
        });
        until("the question", || script.asked.load(Ordering::SeqCst) == 2).await;
        serving.stop().await;
        let lost = asked.await.unwrap().unwrap_err();
        assert!(matches!(lost, CallError::Lost(_)), "{lost}");
        assert!(lost.may_be_done());
    }
}

#[tokio::test]
async fn a_changed_policy_makes_it_appraise_anew() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(quick());
    let peer = &pool.peers()[0];
    assert_eq!(peer.confirm(confirm(1), LONG).await.unwrap().height, 1);
    assert_eq!(peer.state().appraisal.unwrap().policy_version, 1);
    world.policy.send_replace(Arc::new(policy(2)));
    until("a new appraisal", || {
        peer.state().appraisal.unwrap().policy_version == 2 && peer.is_connected()
    })
    .await;
    assert_eq!(peer.confirm(confirm(1), LONG).await.unwrap().height, 1);
    // A measurement that no longer counts is not talked to any more.
    world.policy.send_replace(Arc::new(attestation::Policy {
        version: 3,
        ..attestation::Policy::default()
    }));
    until("the end of the session", || !peer.is_connected()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let refused = peer.confirm(confirm(1), SECOND).await.unwrap_err();
    assert!(matches!(refused, CallError::Unreachable(_)), "{refused}");
    assert!(!peer.is_connected());
}

#[tokio::test]
async fn a_wrong_measurement_role_or_key_is_not_talked_to() {
    let world = World::new();
    for endpoint in [
        world.enclave(Role::Custodian, Measurement([4; 32])),
        world.enclave(Role::Worker, crate::support::WORKER),
    ] {
        let script = Arc::new(Script::default());
        let _serving = world.serve_as(endpoint, script.clone(), ServeBounds::default());
        let pool = world.pool(quick());
        let refused = pool.peers()[0].confirm(confirm(1), LONG).await.unwrap_err();
        assert!(matches!(refused, CallError::Unreachable(_)), "{refused}");
        assert_eq!(script.asked.load(Ordering::SeqCst), 0);
        assert_eq!(script.described.load(Ordering::SeqCst), 0);
    }
    // An honest custodian, but another than the one that was meant: the host has led us astray.
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool_of(Principal([8; 32]), quick());
    let refused = pool.peers()[0].confirm(confirm(1), LONG).await.unwrap_err();
    assert!(refused.to_string().contains("another enclave"), "{refused}");
    assert_eq!(script.asked.load(Ordering::SeqCst), 0);
    let pool = world.pool_of(PRINCIPAL, quick());
    assert!(pool.peers()[0].confirm(confirm(1), LONG).await.is_ok());
}

/// Replacing a session loses no question: the old one is read to its end.
#[tokio::test]
async fn an_old_session_is_replaced_without_losing_an_answer() {
    let world = World::new();
    let script = Arc::new(Script::default());
    let _serving = world.serve(script.clone(), ServeBounds::default());
    let pool = world.pool(Settings {
        replace_after: Duration::from_millis(40),
        ..quick()
    });
    let peer = pool.peers()[0].clone();
    for _ in 0..30 {
        assert_eq!(peer.confirm(confirm(15), LONG).await.unwrap().height, 15);
    }
    assert!(
        script.described.load(Ordering::SeqCst) >= 4,
        "the session was not replaced"
    );
}

/// A peer that accepts and closes at once is not asked for a session in a tight loop.
#[tokio::test]
async fn attempts_to_connect_are_paced() {
    let world = World::new();
    let listener = tokio::net::UnixListener::bind(world.socket()).unwrap();
    let accepted = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counting = tokio::spawn({
        let accepted = accepted.clone();
        async move {
            loop {
                drop(listener.accept().await);
                accepted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let _pool = world.pool(Settings {
        backoff: (Duration::from_millis(100), Duration::from_millis(200)),
        ..Settings::default()
    });
    tokio::time::sleep(SECOND).await;
    let count = accepted.load(Ordering::SeqCst);
    assert!((2..=20).contains(&count), "{count}");
    counting.abort();
}
