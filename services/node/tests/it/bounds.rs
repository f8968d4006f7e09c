//! What senders cannot make a node do: hold more than its bounds, or wait for ever.

use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::Cid;
use domain::limits::SHARD_BYTES_MAX;
use http::{Method, StatusCode};
use transport::protocol::{PROOF_BYTES_MAX, PROOF_LENGTH, TAG};
use transport::{PeerError, Refusal, Role};

use crate::memory::Fault;
use crate::support::{Kind, Running, content, over_both, put, read};
use crate::wire_level::{Connection, refusal_of, text};

over_both!(
    slow_senders_are_dropped,
    heads_that_lie_are_refused,
    writes_beyond_the_room_wait_and_are_told
);

async fn slow_senders_are_dropped(kind: Kind) {
    let (running, _) = Running::faulty(kind, |config| {
        config.limits.sender_bytes_per_second = 1 << 20;
    })
    .await;
    let connection = Connection::open(&running, Role::Gateway).await;
    let body = content(1, 100_000);
    let path = format!("/shards/{}", Cid::of_raw(&body));
    let head = [
        ("content-length", "100000"),
        (PROOF_LENGTH, "0"),
        (TAG, "0:0"),
    ];

    // One that says something and then nothing.
    let started = Instant::now();
    let (mut sender, response) = connection.stream(Method::PUT, &path, &head);
    sender.send(body.slice(..10)).await;
    let response = response.await;
    assert_eq!(refusal_of(&response), Some(Refusal::TooSlow));
    assert!(started.elapsed() < Duration::from_secs(5));
    drop(sender);

    // One that is never silent and never done: a byte every 50 ms would take over an hour.
    let started = Instant::now();
    let (mut sender, response) = connection.stream(Method::PUT, &path, &head);
    let trickle = tokio::spawn(async move {
        for at in 0..1_000 {
            if !sender.send(body.slice(at..=at)).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    // Meanwhile others are served.
    let gateway = running.gateway();
    let other = content(2, 50_000);
    put(&gateway, &other).await.unwrap();
    assert_eq!(read(&gateway, &other).await.unwrap(), other);
    assert_eq!(refusal_of(&response.await), Some(Refusal::TooSlow));
    assert!(started.elapsed() < Duration::from_secs(5));
    trickle.abort();
}

async fn heads_that_lie_are_refused(kind: Kind) {
    let (running, _) = Running::faulty(kind, |_| {}).await;
    let connection = Connection::open(&running, Role::Gateway).await;
    let path = format!("/shards/{}", Cid::of_raw(b"shard"));
    let beyond = (SHARD_BYTES_MAX + 1).to_string();
    let long_proof = (PROOF_BYTES_MAX + 1).to_string();
    let with_long_proof = (PROOF_BYTES_MAX + 6).to_string();
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Refusal);
    let cases: [Case<'_>; 9] = [
        (
            "no length",
            &[(PROOF_LENGTH, "0"), (TAG, "0:0")],
            Refusal::Malformed,
        ),
        (
            "no proof length",
            &[("content-length", "5"), (TAG, "0:0")],
            Refusal::Malformed,
        ),
        (
            "no tag",
            &[("content-length", "5"), (PROOF_LENGTH, "0")],
            Refusal::Malformed,
        ),
        (
            "a tag of no kind",
            &[("content-length", "5"), (PROOF_LENGTH, "0"), (TAG, "7:0")],
            Refusal::Malformed,
        ),
        (
            "more proof than body",
            &[("content-length", "5"), (PROOF_LENGTH, "6"), (TAG, "0:0")],
            Refusal::Malformed,
        ),
        (
            "a negative proof",
            &[("content-length", "5"), (PROOF_LENGTH, "-1"), (TAG, "0:0")],
            Refusal::Malformed,
        ),
        (
            "a shard beyond the bound",
            &[
                ("content-length", &beyond),
                (PROOF_LENGTH, "0"),
                (TAG, "0:0"),
            ],
            Refusal::TooLarge,
        ),
        (
            "a proof beyond the bound",
            &[
                ("content-length", &with_long_proof),
                (PROOF_LENGTH, &long_proof),
                (TAG, "0:0"),
            ],
            Refusal::TooLarge,
        ),
        (
            "a length beyond numbers",
            &[
                ("content-length", "99999999999999999999"),
                (PROOF_LENGTH, "0"),
                (TAG, "0:0"),
            ],
            Refusal::Malformed,
        ),
    ];
    for (what, head, expected) in cases {
        let (sender, response) = connection.stream(Method::PUT, &path, head);
        // Nothing of the body is sent: the head alone decides. (A length that HTTP/2 itself rejects ends the stream.)
        match response.try_await().await {
            Ok(response) => assert_eq!(refusal_of(&response), Some(expected), "{what}"),
            Err(_) => assert_eq!(what, "a length beyond numbers"),
        }
        drop(sender);
    }
    for (method, path, expected) in [
        (Method::GET, "/shards/", Refusal::Malformed),
        (Method::GET, "/shards/../../etc/passwd", Refusal::Malformed),
        (
            Method::GET,
            "/shards/QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",
            Refusal::Malformed,
        ),
        (Method::DELETE, path.as_str(), Refusal::Malformed),
        (Method::POST, path.as_str(), Refusal::Malformed),
    ] {
        let response = connection.send(method, path, &[], Bytes::new()).await;
        assert_eq!(refusal_of(&response), Some(expected), "{path}");
    }
    for range in [
        "bytes=9-2",
        "bytes=-5",
        "bytes=0-1,4-5",
        "lines=1-2",
        "bytes=0-99999999999",
    ] {
        let response = connection
            .send(Method::GET, &path, &[("range", range)], Bytes::new())
            .await;
        assert_eq!(refusal_of(&response), Some(Refusal::BadRange), "{range}");
    }
    let nothing = connection.get("/admin").await;
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    // After all that the connection still serves.
    let body = content(1, 1_000);
    let path = format!("/shards/{}", Cid::of_raw(&body));
    let head = [
        (PROOF_LENGTH, "0"),
        (TAG, "0:0"),
        ("content-length", "1000"),
    ];
    let response = connection.send(Method::PUT, &path, &head, body).await;
    assert_eq!(response.status(), StatusCode::CREATED);
}

async fn writes_beyond_the_room_wait_and_are_told(kind: Kind) {
    let (running, store) = Running::faulty(kind, |config| {
        // As small as it gets: one shard of the largest size, or ten of these.
        config.limits.write_bytes = 0;
    })
    .await;
    let gateway = running.gateway();
    let kept = content(1, 1_000);
    put(&gateway, &kept).await.unwrap();
    store.set(Fault::HangingWrites);
    let hanging: Vec<_> = (0..10)
        .map(|n| {
            let gateway = gateway.clone();
            tokio::spawn(async move { put(&gateway, &content(100 + n, 420_000)).await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = put(&gateway, &content(2, 420_000)).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::Busy,
                ..
            })
        ),
        "{outcome:?}"
    );
    // Reads have room of their own.
    assert_eq!(read(&gateway, &kept).await.unwrap(), kept);
    // Callers that go away give their room back.
    for task in hanging {
        task.abort();
    }
    store.set(Fault::None);
    tokio::time::sleep(Duration::from_millis(200)).await;
    put(&gateway, &content(2, 420_000)).await.unwrap();
}

#[tokio::test]
async fn answers_that_nobody_takes_do_not_pile_up() {
    let (running, _) = Running::faulty(Kind::Unix, |config| {
        config.limits.read_bytes = 0;
    })
    .await;
    let gateway = running.gateway();
    let large = content(1, 4 << 20);
    put(&gateway, &large).await.unwrap();
    let cid = Cid::of_raw(&large);
    // The first answer takes nearly all the room and is not read.
    let stalled = gateway
        .get_stream(cid, None, false, crate::support::soon())
        .await
        .unwrap();
    let outcome = gateway.get(cid, None, false, crate::support::soon()).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::Busy,
                ..
            })
        ),
        "{outcome:?}"
    );
    drop(stalled);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(read(&gateway, &large).await.unwrap(), large);
}

#[tokio::test]
async fn bodies_of_another_length_than_announced_are_not_stored() {
    let (running, _) = Running::faulty(Kind::Unix, |_| {}).await;
    let body = Bytes::from_static(b"shard");
    let path = format!("/shards/{}", Cid::of_raw(&body));
    for announced in ["4", "6"] {
        let connection = Connection::open(&running, Role::Gateway).await;
        let head = [
            ("content-length", announced),
            (PROOF_LENGTH, "0"),
            (TAG, "0:0"),
        ];
        let (mut sender, response) = connection.stream(Method::PUT, &path, &head);
        sender.send(body.clone()).await;
        drop(sender);
        if let Ok(response) = response.try_await().await {
            assert!(
                !response.status().is_success(),
                "{announced}: {}",
                text(response).await
            );
        }
    }
    assert_eq!(
        read(&running.gateway(), &body).await,
        Err(PeerError::NotFound)
    );
}
