//! A session's messages, and what ends it.

use std::sync::Arc;
use std::time::Duration;

use attestation::{Policy, Role};
use attested::SessionError;
use tokio::sync::watch;

use crate::support::{CUSTODIAN, START, Source, World, enclaves, everyone, join, policy, session};

#[tokio::test]
async fn messages_arrive_whole_in_order_both_ways() {
    let world = World::new();
    let (mut worker, mut custodian) = session(&world).await;
    assert_eq!(worker.peer().role, Role::Custodian);
    assert_eq!(custodian.peer().role, Role::Worker);
    let claims = &worker.peer().appraisal.as_ref().unwrap().claims;
    assert_eq!(claims.measurement, CUSTODIAN);
    let long = vec![7; 300_000];
    for message in [b"".as_slice(), b"a", &long, b"z"] {
        let (sent, received) = tokio::join!(worker.send(message), custodian.receive());
        sent.unwrap();
        assert_eq!(received.unwrap().as_deref(), Some(message));
        let (sent, received) = tokio::join!(custodian.send(message), worker.receive());
        sent.unwrap();
        assert_eq!(received.unwrap().as_deref(), Some(message));
    }
    let (_, mut sender, _receiver) = worker.split();
    sender.close().await.unwrap();
    assert_eq!(custodian.receive().await.unwrap(), None);
}

#[tokio::test]
async fn many_messages_may_wait_in_the_pipe() {
    let world = World::new();
    let (worker, mut custodian) = session(&world).await;
    let (_, mut sender, _receiver) = worker.split();
    let sending = tokio::spawn(async move {
        for number in 0..1_000_u32 {
            sender.send(&number.to_be_bytes()).await.unwrap();
        }
        sender
    });
    for number in 0..1_000_u32 {
        let message = custodian.receive().await.unwrap().unwrap();
        assert_eq!(message, number.to_be_bytes());
    }
    sending.await.unwrap();
}

/// A receive that is given up half-way through a message loses nothing of it.
#[tokio::test]
async fn receiving_may_be_cancelled() {
    let world = World::new();
    let (mut worker, mut custodian) = session(&world).await;
    let long = vec![9; 500_000];
    let sent = long.clone();
    let sending = tokio::spawn(async move {
        worker.send(&sent).await.unwrap();
        worker
    });
    let mut cancelled = 0;
    let message = loop {
        tokio::select! {
            biased;
            message = custodian.receive() => break message.unwrap().unwrap(),
            () = tokio::task::yield_now() => cancelled += 1,
        }
    };
    assert!(message == long, "the message is not what was sent");
    assert!(
        cancelled > 0,
        "nothing was cancelled, so nothing was tested"
    );
    sending.await.unwrap();
}

#[tokio::test]
async fn the_message_bound_holds_at_the_bound() {
    let mut world = World::new();
    world.limits.message_bytes_max = 1_000;
    let (mut worker, mut custodian) = session(&world).await;
    worker.send(&[1; 1_000]).await.unwrap();
    assert_eq!(custodian.receive().await.unwrap().unwrap().len(), 1_000);
    let refused = worker.send(&[1; 1_001]).await.unwrap_err();
    assert!(matches!(
        refused,
        SessionError::TooLong {
            bytes: 1_001,
            bytes_max: 1_000
        }
    ));
    // A refused message is not half sent.
    worker.send(b"next").await.unwrap();
    assert_eq!(custodian.receive().await.unwrap().unwrap(), b"next");

    // A peer with a larger bound of its own.
    let mut greedy = World::new();
    greedy.policy = world.policy.clone();
    let (worker, custodian) = (greedy.worker(), world.custodian());
    let (a, b) = join(&worker, Role::Custodian, &custodian, &enclaves()).await;
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    a.send(&[1; 1_001]).await.unwrap();
    let refused = b.receive().await.unwrap_err();
    assert!(matches!(
        refused,
        SessionError::TooLong { bytes: 1_001, .. }
    ));
}

#[tokio::test]
async fn a_changed_policy_ends_a_waiting_session_at_once() {
    let world = World::new();
    let (mut worker, mut custodian) = session(&world).await;
    let waiting = tokio::spawn(async move { custodian.receive().await });
    tokio::task::yield_now().await;
    // The same version again is no change.
    world.policy.send_replace(Arc::new(policy(1)));
    worker.send(b"one").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().unwrap(), b"one");

    let (mut worker, mut custodian) = session(&world).await;
    let waiting = tokio::spawn(async move { custodian.receive().await });
    tokio::task::yield_now().await;
    world.policy.send_replace(Arc::new(policy(2)));
    let ended = waiting.await.unwrap().unwrap_err();
    assert!(
        matches!(
            ended,
            SessionError::PolicyChanged {
                appraised: 1,
                now: 2
            }
        ),
        "{ended}"
    );
    let ended = worker.send(b"late").await.unwrap_err();
    assert!(
        matches!(ended, SessionError::PolicyChanged { .. }),
        "{ended}"
    );
    // Anew, under the new policy.
    let (worker, _custodian) = session(&world).await;
    assert_eq!(worker.peer().appraisal.as_ref().unwrap().policy_version, 2);
}

/// Revoking a program closes its sessions and keeps it out.
#[tokio::test]
async fn a_revoked_program_loses_its_session_and_gets_no_other() {
    let world = World::new();
    let (mut worker, _custodian) = session(&world).await;
    let mut revoked = policy(2);
    revoked.revoked.insert(CUSTODIAN);
    world.policy.send_replace(Arc::new(revoked));
    assert!(worker.receive().await.is_err());
    let (a, b) = join(
        &world.worker(),
        Role::Custodian,
        &world.custodian(),
        &enclaves(),
    )
    .await;
    assert_eq!(a.unwrap_err().code(), "measurement-revoked");
    assert_eq!(b.unwrap_err().code(), "refused-by-peer");
}

#[tokio::test]
async fn a_policy_that_nobody_keeps_up_ends_the_session() {
    let mut world = World::new();
    let (mut worker, _custodian) = session(&world).await;
    world.policy = watch::Sender::new(Arc::new(Policy::default()));
    let ended = worker.receive().await.unwrap_err();
    assert!(matches!(ended, SessionError::PolicyUnknown), "{ended}");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_over_after_an_hour() {
    let mut world = World::new();
    // However large it is set.
    world.limits.session = Duration::from_secs(1_000_000);
    world.limits.idle = Duration::from_secs(1_000_000);
    let (mut worker, mut custodian) = session(&world).await;
    tokio::time::sleep(Duration::from_secs(3_599)).await;
    worker.send(b"still").await.unwrap();
    assert_eq!(custodian.receive().await.unwrap().unwrap(), b"still");
    let waiting = custodian.receive();
    let ended = waiting.await.unwrap_err();
    assert!(matches!(ended, SessionError::Expired { .. }), "{ended}");
    assert!(matches!(
        worker.send(b"x").await.unwrap_err(),
        SessionError::Expired { .. }
    ));
}

/// The ledger's time counts as well: a host that stops the monotonic clock gains nothing.
#[tokio::test]
async fn the_ledgers_time_ends_a_session_too() {
    let world = World::new();
    let (mut worker, _custodian) = session(&world).await;
    world.time.advance(3_599_999);
    worker.send(b"still").await.unwrap();
    world.time.advance(1);
    let ended = worker.send(b"late").await.unwrap_err();
    let SessionError::Expired { valid_until } = ended else {
        panic!("{ended}");
    };
    assert_eq!(valid_until.0, START + 3_600_000);
}

#[tokio::test(start_paused = true)]
async fn a_session_ends_with_its_evidence() {
    let world = World::new();
    let source = Source {
        lifetime_ms: 60_000,
        ..Source::of(CUSTODIAN)
    };
    let custodian = world.with_source(Role::Custodian, source);
    let (a, b) = join(&world.client(), Role::Custodian, &custodian, &everyone()).await;
    let (mut a, mut b) = (a.unwrap(), b.unwrap());
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(matches!(
        a.receive().await.unwrap_err(),
        SessionError::Expired { .. }
    ));
    // The custodian appraised nobody: its side goes on until the hour is over.
    assert!(matches!(
        b.send(b"x").await,
        Ok(()) | Err(SessionError::Io(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn silence_has_its_bounds() {
    let world = World::new();
    let (worker, mut custodian) = session(&world).await;
    let quiet = custodian.receive().await.unwrap_err();
    assert!(
        matches!(quiet, SessionError::TimedOut("request")),
        "{quiet}"
    );
    drop(worker);
    // A peer that connects and then says nothing at all.
    let custodian = world.custodian();
    let (left, right) = tokio::io::duplex(1 << 16);
    let admit = everyone();
    let silent = custodian.accept(right, &admit).await.unwrap_err();
    assert!(
        matches!(silent, SessionError::TimedOut("handshake")),
        "{silent}"
    );
    drop(left);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_holds_a_sender_only_so_long() {
    let world = World::new();
    let (mut worker, _custodian) = session(&world).await;
    let big = vec![1; 900_000];
    let stuck = worker.send(&big).await.unwrap_err();
    assert!(
        matches!(stuck, SessionError::TimedOut("room to send")),
        "{stuck}"
    );
    // What follows would be read as the rest of that message.
    assert!(matches!(
        worker.send(b"x").await.unwrap_err(),
        SessionError::Malformed(_)
    ));
}
