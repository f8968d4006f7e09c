//! A node that lies, stalls or talks nonsense: the client says so, with the right kind of error.

use bytes::Bytes;
use domain::{Cid, ShardTag};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use transport::body::Buffers;
use transport::protocol::{PROOF_LENGTH, REFUSAL, TAG, TOTAL_BYTES};
use transport::{NodeClient, PeerError, Refusal, Role};

use crate::support::{Deployment, Kind, NODE, Server, body, client, limits, soon};

struct Lying {
    _deployment: Deployment,
    _server: Server,
    client: NodeClient,
}

async fn lying(
    answer: impl Fn(Request<Incoming>) -> Response<Buffers> + Clone + Send + Sync + 'static,
) -> Lying {
    let deployment = Deployment::new(1);
    let listen = deployment.listen(Kind::Unix);
    let server = Server::start(
        &listen,
        deployment.credentials(NODE),
        limits(),
        move |_, request| {
            let response = answer(request);
            async move { response }
        },
    )
    .await;
    let client = client(server.address(), deployment.credentials(Role::Gateway));
    Lying {
        _deployment: deployment,
        _server: server,
        client,
    }
}

fn found(total: &str, proof: &str, status: StatusCode, content: Buffers) -> Response<Buffers> {
    let mut response = Response::new(content);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [(TOTAL_BYTES, total), (PROOF_LENGTH, proof), (TAG, "0:0")] {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    response
}

#[tokio::test]
async fn an_honest_answer_is_read_however_it_is_cut() {
    let cuts: [&[&'static [u8]]; 4] = [
        &[b"prf", b"shard"],
        &[b"p", b"r", b"fshard"],
        &[b"prfshard"],
        &[b"pr", b"fs", b"hard"],
    ];
    for cut in cuts {
        let parts: Vec<&'static [u8]> = cut.to_vec();
        let lying = lying(move |_| found("5", "3", StatusCode::OK, body(&parts))).await;
        let read = lying
            .client
            .get(Cid::of_raw(b"shard"), None, true, soon())
            .await
            .unwrap();
        assert_eq!(read.proof.as_deref(), Some(&b"prf"[..]), "{cut:?}");
        assert_eq!(read.body.concat(), b"shard", "{cut:?}");
        assert_eq!((read.total_bytes, read.tag), (5, ShardTag::Chunk));
    }
}

#[tokio::test]
async fn answers_that_do_not_fit_are_misbehaviour() {
    const OK: StatusCode = StatusCode::OK;
    type Make = fn() -> Response<Buffers>;
    let whole: [(&str, Make); 8] = [
        ("no headers", || Response::new(body(&[b"shard"]))),
        ("more than the total", || {
            found("4", "0", OK, body(&[b"shard"]))
        }),
        ("less than the total", || {
            found("6", "0", OK, body(&[b"shard"]))
        }),
        ("a proof nobody asked for", || {
            found("3", "2", OK, body(&[b"shard"]))
        }),
        ("a negative total", || {
            found("-5", "0", OK, body(&[b"shard"]))
        }),
        ("a total beyond every shard", || {
            found("4294967295", "0", OK, body(&[b"shard"]))
        }),
        ("another success", || {
            found("5", "0", StatusCode::ACCEPTED, body(&[b"shard"]))
        }),
        ("a part when the whole was asked", || {
            found("5", "0", StatusCode::PARTIAL_CONTENT, body(&[b"shard"]))
        }),
    ];
    for (what, make) in whole {
        let lying = lying(move |_| make()).await;
        let outcome = lying
            .client
            .get(Cid::of_raw(b"shard"), None, false, soon())
            .await;
        assert!(
            matches!(outcome, Err(PeerError::Misbehaved { .. })),
            "{what}: {outcome:?}"
        );
    }
    let part: [(&str, Make); 3] = [
        ("the whole when a part was asked", || {
            found("5", "0", OK, body(&[b"shard"]))
        }),
        ("a part of another length", || {
            found("9", "0", StatusCode::PARTIAL_CONTENT, body(&[b"sha"]))
        }),
        ("a part beyond the end", || {
            found("3", "0", StatusCode::PARTIAL_CONTENT, body(&[b"shar"]))
        }),
    ];
    for (what, make) in part {
        let lying = lying(move |_| make()).await;
        let outcome = lying
            .client
            .get(Cid::of_raw(b"shard"), Some(1..5), false, soon())
            .await;
        assert!(
            matches!(outcome, Err(PeerError::Misbehaved { .. })),
            "{what}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (reason, expected) in [
        (Refusal::NotFound, None),
        (Refusal::Full, None),
        (Refusal::ReadOnly, Some(Refusal::ReadOnly)),
        (Refusal::Poisoned, Some(Refusal::Poisoned)),
        (Refusal::CidMismatch, Some(Refusal::CidMismatch)),
        (Refusal::Corrupt, Some(Refusal::Corrupt)),
    ] {
        let lying = lying(move |_| {
            let mut response = Response::new(body(&[b"because"]));
            *response.status_mut() = reason.status();
            response
                .headers_mut()
                .insert(REFUSAL, HeaderValue::from_static(reason.code()));
            response
        })
        .await;
        let outcome = lying
            .client
            .put(
                Cid::of_raw(b"x"),
                ShardTag::Chunk,
                Bytes::new(),
                vec![Bytes::from_static(b"x")],
                soon(),
            )
            .await
            .unwrap_err();
        match (reason, outcome) {
            (Refusal::NotFound, PeerError::NotFound) => {}
            (Refusal::Full, PeerError::Full { detail }) => assert_eq!(detail, "because"),
            (_, PeerError::Refused { reason, detail }) => {
                assert_eq!(Some(reason), expected);
                assert_eq!(detail, "because");
            }
            (_, other) => panic!("{reason}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_refusal_without_a_reason_is_misbehaviour_and_a_long_one_is_not_read() {
    let silent = lying(|_| {
        let mut response = Response::new(Buffers::default());
        *response.status_mut() = StatusCode::FORBIDDEN;
        response
    })
    .await;
    let outcome = silent
        .client
        .get(Cid::of_raw(b"x"), None, false, soon())
        .await;
    assert!(
        matches!(outcome, Err(PeerError::Misbehaved { .. })),
        "{outcome:?}"
    );

    let endless = lying(|_| {
        let mut response = Response::new(Buffers::new(vec![Bytes::from(vec![b'a'; 1 << 20]); 8]));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response
            .headers_mut()
            .insert(REFUSAL, HeaderValue::from_static(Refusal::Busy.code()));
        response
    })
    .await;
    let outcome = endless
        .client
        .get(Cid::of_raw(b"x"), None, false, soon())
        .await
        .unwrap_err();
    assert_eq!(
        outcome,
        PeerError::Refused {
            reason: Refusal::Busy,
            detail: String::new()
        }
    );
}

#[tokio::test]
async fn control_answers_that_are_no_grpc_are_errors() {
    for status in [
        StatusCode::OK,
        StatusCode::NOT_FOUND,
        StatusCode::INTERNAL_SERVER_ERROR,
    ] {
        let lying = lying(move |_| {
            let mut response = Response::new(body(&[b"<html>"]));
            *response.status_mut() = status;
            response
        })
        .await;
        let outcome = lying.client.has(vec![Cid::of_raw(b"x")], soon()).await;
        assert!(
            matches!(
                outcome,
                Err(PeerError::Misbehaved { .. } | PeerError::Unavailable { .. })
            ),
            "{status}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn calls_that_are_dropped_leave_the_connection_to_the_others() {
    let slow = lying(|request| {
        if request
            .uri()
            .path()
            .ends_with(&Cid::of_raw(b"slow").to_string())
        {
            found(
                "4194304",
                "0",
                StatusCode::OK,
                Buffers::new([Bytes::from(vec![0; 4 << 20])]),
            )
        } else {
            found("5", "0", StatusCode::OK, body(&[b"shard"]))
        }
    })
    .await;
    let get = || {
        slow.client
            .get_stream(Cid::of_raw(b"slow"), None, false, soon())
    };
    // A call that runs all the while: it breaks when the connection is given up.
    let mut running = get().await.unwrap();
    // More of these than the connection's window holds, and than the library's default allows of late frames.
    for _ in 0..1_500 {
        let stream = get().await.unwrap();
        assert_eq!(stream.remaining(), 4 << 20);
        drop(stream);
    }
    let mut received = 0;
    while let Some(bytes) = running.next().await.unwrap() {
        received += bytes.len();
    }
    assert_eq!(received, 4 << 20);
    let read = slow
        .client
        .get(Cid::of_raw(b"shard"), None, false, soon())
        .await
        .unwrap();
    assert_eq!(read.body.concat(), b"shard");
}
