//! The handshake of the Unix socket, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use transport::handshake::{HandshakeError, MESSAGE_BYTES_MAX, accept, connect};
use transport::{Credentials, IdentityError, Peer, Role};

use crate::support::{Deployment, NODE};

type Outcome = Result<Peer, HandshakeError>;

async fn meet(client: &Credentials, server: &Credentials, expected: Role) -> (Outcome, Outcome) {
    let (mut near, mut far) = duplex(8 << 10);
    let connecting = async {
        let outcome = connect(&mut near, client, expected).await;
        drop(near);
        outcome
    };
    let accepting = async {
        let outcome = accept(&mut far, server).await;
        drop(far);
        outcome
    };
    tokio::join!(connecting, accepting)
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let deployment = Deployment::new(1);
    let gateway = deployment.credentials(Role::Gateway);
    let node = deployment.credentials(NODE);
    let (client, server) = meet(&gateway, &node, NODE).await;
    assert_eq!(client.unwrap(), node.own());
    assert_eq!(server.unwrap(), gateway.own());
}

#[tokio::test]
async fn a_gateway_of_another_deployment_is_refused() {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(2));
    let (client, server) = meet(
        &theirs.credentials(Role::Gateway),
        &ours.credentials(NODE),
        NODE,
    )
    .await;
    // The client sees it first: the node's certificate is of a CA that it does not know.
    assert!(
        matches!(
            client,
            Err(HandshakeError::Identity(IdentityError::Chain(_)))
        ),
        "{client:?}"
    );
    assert!(matches!(server, Err(HandshakeError::Io(_))), "{server:?}");
}

#[tokio::test]
async fn a_certificate_of_an_impostor_ca_with_our_deployment_id_is_refused_by_the_node() {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(1));
    let node = ours.credentials(NODE);
    // An attacker that skips its own checks: it answers the node's challenge with its own valid key.
    let outcome = attack(&node, Deployment::credentials(&theirs, Role::Gateway)).await;
    assert!(
        matches!(
            outcome,
            Err(HandshakeError::Identity(IdentityError::Chain(_)))
        ),
        "{outcome:?}"
    );
}

/// Connects with a certificate, and a signature that is not its key's (a client cannot sign with our API unless it
/// trusts the server, so the bytes of the signature do not matter: the chain is checked first).
async fn attack(node: &Arc<Credentials>, attacker: Arc<Credentials>) -> Outcome {
    let (mut near, mut far) = duplex(8 << 10);
    let hello = first_message(&attacker).await;
    let sending = async {
        near.write_all(&hello).await.unwrap();
        let _ = read_message(&mut near).await;
        near.write_all(&message(&[7; 64])).await.unwrap();
        let _ = read_message(&mut near).await;
    };
    let (outcome, ()) = tokio::join!(accept(&mut far, node), sending);
    outcome
}

#[tokio::test]
async fn a_valid_certificate_without_its_key_is_refused() {
    let deployment = Deployment::new(1);
    let node = deployment.credentials(NODE);
    let outcome = attack(&node, deployment.credentials(Role::Gateway)).await;
    assert!(
        matches!(
            outcome,
            Err(HandshakeError::Identity(IdentityError::Signature))
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_node_in_the_place_of_another_is_refused() {
    let deployment = Deployment::new(1);
    let gateway = deployment.credentials(Role::Gateway);
    let other = deployment.credentials(Role::Node { slot: 4 });
    let (client, _) = meet(&gateway, &other, NODE).await;
    assert!(
        matches!(
            client,
            Err(HandshakeError::Identity(IdentityError::WrongRole { .. }))
        ),
        "{client:?}"
    );
}

#[tokio::test]
async fn a_gateway_in_the_place_of_a_node_is_refused() {
    let deployment = Deployment::new(1);
    let gateway = deployment.credentials(Role::Gateway);
    let (client, _) = meet(&gateway, &gateway, NODE).await;
    // A gateway's certificate is not for serving at all.
    assert!(
        matches!(
            client,
            Err(HandshakeError::Identity(IdentityError::Chain(_)))
        ),
        "{client:?}"
    );
}

#[tokio::test]
async fn ended_certificates_are_refused_on_either_side() {
    let deployment = Deployment::new(1);
    let gateway = deployment.credentials(Role::Gateway);
    deployment.advance(Duration::from_secs(20 * 86_400));
    let node = deployment.credentials(NODE);
    deployment.advance(Duration::from_secs(11 * 86_400));
    // The gateway's has ended now, the node's has not.
    let (client, server) = meet(&gateway, &node, NODE).await;
    assert!(matches!(client, Err(HandshakeError::Refused)), "{client:?}");
    assert!(
        matches!(
            server,
            Err(HandshakeError::Identity(IdentityError::Chain(_)))
        ),
        "{server:?}"
    );

    deployment.advance(Duration::from_secs(30 * 86_400));
    let gateway = deployment.credentials(Role::Gateway);
    let (client, _) = meet(&gateway, &node, NODE).await;
    assert!(
        matches!(
            client,
            Err(HandshakeError::Identity(IdentityError::Chain(_)))
        ),
        "{client:?}"
    );
}

#[tokio::test]
async fn a_recorded_handshake_cannot_be_replayed() {
    let deployment = Deployment::new(1);
    let gateway = deployment.credentials(Role::Gateway);
    let node = deployment.credentials(NODE);

    // A relay between the two writes down what the client says.
    let (mut near, mut near_relay) = duplex(8 << 10);
    let (mut far_relay, mut far) = duplex(8 << 10);
    let relay = async {
        let hello = read_message(&mut near_relay).await.unwrap();
        far_relay.write_all(&message(&hello)).await.unwrap();
        let answer = read_message(&mut far_relay).await.unwrap();
        near_relay.write_all(&message(&answer)).await.unwrap();
        let proof = read_message(&mut near_relay).await.unwrap();
        far_relay.write_all(&message(&proof)).await.unwrap();
        let verdict = read_message(&mut far_relay).await.unwrap();
        near_relay.write_all(&message(&verdict)).await.unwrap();
        (hello, answer, proof)
    };
    let (client, server, (hello, answer, proof)) = tokio::join!(
        connect(&mut near, &gateway, NODE),
        accept(&mut far, &node),
        relay
    );
    client.unwrap();
    server.unwrap();

    // Said again to the node, the same words mean nothing: its nonce is another.
    let (mut near, mut far) = duplex(8 << 10);
    let replay = async {
        near.write_all(&message(&hello)).await.unwrap();
        read_message(&mut near).await.unwrap();
        near.write_all(&message(&proof)).await.unwrap();
        read_message(&mut near).await.unwrap()
    };
    let (outcome, verdict) = tokio::join!(accept(&mut far, &node), replay);
    assert!(
        matches!(
            outcome,
            Err(HandshakeError::Identity(IdentityError::Signature))
        ),
        "{outcome:?}"
    );
    assert_eq!(verdict, [1]);

    // Nor does the node's old answer convince a client.
    let (mut near, mut far) = duplex(8 << 10);
    let replay = async {
        read_message(&mut far).await.unwrap();
        far.write_all(&message(&answer)).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(connect(&mut near, &gateway, NODE), replay);
    assert!(
        matches!(
            outcome,
            Err(HandshakeError::Identity(IdentityError::Signature))
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_not_a_handshake_is_refused_and_bounded() {
    let deployment = Deployment::new(1);
    let node = deployment.credentials(NODE);
    let beyond = u16::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes();
    let mut other_version = message(&[0; 200]);
    other_version[2] = 2;
    let mut no_certificate = vec![1];
    no_certificate.extend([0; 32]);
    let cases: [(&str, Vec<u8>, bool); 6] = [
        (
            "an HTTP/2 preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            true,
        ),
        ("a length beyond the bound", beyond.to_vec(), true),
        ("an empty message", message(&[]), true),
        ("another version", other_version, true),
        ("no nonce", message(&[1, 2, 3]), true),
        ("a message that ends early", vec![0, 90, 1, 2], false),
    ];
    for (what, bytes, malformed) in cases {
        let (mut near, mut far) = duplex(8 << 10);
        near.write_all(&bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let outcome = accept(&mut far, &node).await;
        match outcome {
            Err(HandshakeError::Malformed(_)) => assert!(malformed, "{what}"),
            Err(HandshakeError::Io(_)) => assert!(!malformed, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
    // A hello with something that is no certificate is only refused at its end, and refused all the same.
    no_certificate.extend([0x30; 400]);
    let (mut near, mut far) = duplex(8 << 10);
    let sending = async {
        near.write_all(&message(&no_certificate)).await.unwrap();
        read_message(&mut near).await.unwrap();
        near.write_all(&message(&[0; 64])).await.unwrap();
        read_message(&mut near).await.unwrap()
    };
    let (outcome, verdict) = tokio::join!(accept(&mut far, &node), sending);
    assert!(
        matches!(
            outcome,
            Err(HandshakeError::Identity(IdentityError::Malformed(_)))
        ),
        "{outcome:?}"
    );
    assert_eq!(verdict, [1]);
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = u16::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    message.extend_from_slice(body);
    message
}

async fn read_message(stream: &mut DuplexStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut body = vec![0; usize::from(length)];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// The hello of a client, as bytes.
async fn first_message(credentials: &Credentials) -> Vec<u8> {
    let (mut near, mut far) = duplex(8 << 10);
    let hello = async {
        let hello = read_message(&mut far).await.unwrap();
        drop(far);
        hello
    };
    let (_, hello) = tokio::join!(connect(&mut near, credentials, NODE), hello);
    message(&hello)
}
