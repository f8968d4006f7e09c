//! Whole connections, over the Unix socket and over TLS alike.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, NodeId, ShardTag};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{sleep, timeout};
use transport::{
    ClientOptions, Credentials, Listen, Listener, NodeAddress, NodeClient, NodeEndpoint, PeerError,
    Role,
};

use crate::support::{Deployment, Kind, NODE, Server, client, limits, mode, not_found, soon};

const DAY: Duration = Duration::from_secs(86_400);

async fn ask(client: &NodeClient) -> Result<(), PeerError> {
    client
        .get(Cid::of_raw(b"x"), None, false, soon())
        .await
        .map(|_| ())
}

/// The server holds nothing: this answer proves that it was asked.
fn assert_reached(outcome: Result<(), PeerError>) {
    assert_eq!(outcome, Err(PeerError::NotFound));
}

macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod unix {
            $(#[tokio::test] async fn $name() { super::$name(super::Kind::Unix).await; })*
        }
        mod tls {
            $(#[tokio::test] async fn $name() { super::$name(super::Kind::Tls).await; })*
        }
    };
}

over_both!(
    a_gateway_of_the_deployment_is_served,
    strangers_are_refused,
    a_node_with_another_key_than_expected_is_refused,
    a_renewed_certificate_is_used_without_a_restart,
    a_connection_ends_with_its_peers_certificate,
    a_restarted_server_is_found_again,
    what_is_not_our_protocol_is_dropped,
    silent_connections_do_not_keep_others_out,
    a_server_that_does_not_answer_times_out,
    a_shutdown_lets_running_requests_finish,
    the_server_knows_who_asks,
);

async fn a_gateway_of_the_deployment_is_served(kind: Kind) {
    let deployment = Deployment::new(1);
    let server = Server::empty(&deployment.listen(kind), deployment.credentials(NODE)).await;
    assert_reached(
        ask(&client(
            server.address(),
            deployment.credentials(Role::Gateway),
        ))
        .await,
    );
    // Another node may connect too; what it may do is the service's decision.
    let node = deployment.credentials(Role::Node { slot: 5 });
    assert_reached(ask(&client(server.address(), node)).await);
}

async fn strangers_are_refused(kind: Kind) {
    let (ours, theirs) = (Deployment::new(1), Deployment::new(2));
    let impostor = Deployment::new(1);
    let server = Server::empty(&ours.listen(kind), ours.credentials(NODE)).await;
    for (who, credentials) in [
        ("another deployment", theirs.credentials(Role::Gateway)),
        (
            "another CA with our deployment id",
            impostor.credentials(Role::Gateway),
        ),
    ] {
        let outcome = ask(&client(server.address(), credentials)).await;
        assert!(
            matches!(outcome, Err(PeerError::Misbehaved { .. })),
            "{who}: {outcome:?}"
        );
    }

    // A gateway must not take the place of a node, nor one node that of another.
    for role in [Role::Gateway, Role::Node { slot: 4 }] {
        let other = Deployment::new(3);
        let server = Server::empty(&other.listen(kind), other.credentials(role)).await;
        let outcome = ask(&client(server.address(), other.credentials(Role::Gateway))).await;
        assert!(
            matches!(outcome, Err(PeerError::Misbehaved { .. })),
            "{role}: {outcome:?}"
        );
    }

    // A client whose certificate has ended is told nothing; the client's own checks do not stop it here.
    let late = Deployment::new(4);
    let gateway = late.credentials(Role::Gateway);
    late.advance(20 * DAY);
    let server = Server::empty(&late.listen(kind), late.credentials(NODE)).await;
    late.advance(11 * DAY);
    let outcome = ask(&client(server.address(), gateway)).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused { .. } | PeerError::Unavailable { .. })
        ),
        "{outcome:?}"
    );
}

async fn a_node_with_another_key_than_expected_is_refused(kind: Kind) {
    let deployment = Deployment::new(1);
    let node = deployment.credentials(NODE);
    let gateway = deployment.credentials(Role::Gateway);
    let server = Server::empty(&deployment.listen(kind), node.clone()).await;
    for (expected, right) in [(node.own().node_id(), true), (NodeId([0; 32]), false)] {
        let endpoint = NodeEndpoint {
            address: server.address(),
            slot: 3,
            node: Some(expected),
        };
        let client = NodeClient::new(endpoint, gateway.clone(), ClientOptions::default()).unwrap();
        let outcome = ask(&client).await;
        if right {
            assert_reached(outcome);
        } else {
            assert!(
                matches!(outcome, Err(PeerError::Misbehaved { .. })),
                "{outcome:?}"
            );
        }
    }
}

async fn a_renewed_certificate_is_used_without_a_restart(kind: Kind) {
    let deployment = Deployment::new(1);
    let (node, gateway) = (
        deployment.credentials(NODE),
        deployment.credentials(Role::Gateway),
    );
    let server = Server::empty(&deployment.listen(kind), node.clone()).await;
    deployment.advance(29 * DAY);
    assert_reached(ask(&client(server.address(), gateway.clone())).await);
    for role in [NODE, Role::Gateway] {
        let dir = deployment.process_dir(role);
        deployment
            .ca
            .renew_if_due(&dir, 30 * DAY, deployment.time())
            .unwrap();
    }
    assert!(node.reload().unwrap());
    assert!(gateway.reload().unwrap());
    // Past the end of the first certificates.
    deployment.advance(5 * DAY);
    assert_reached(ask(&client(server.address(), gateway)).await);
}

async fn a_connection_ends_with_its_peers_certificate(kind: Kind) {
    let deployment = Deployment::new(1);
    let dir = deployment.process_dir(Role::Gateway);
    // The server sleeps in real time for as long as the certificate says: short enough for a test.
    let short = Duration::from_secs(1);
    let files = deployment
        .ca
        .issue(Role::Gateway, &dir, short, deployment.time())
        .unwrap()
        .files;
    let gateway = Credentials::load(files, deployment.id, deployment.clock()).unwrap();
    let server = Server::empty(&deployment.listen(kind), deployment.credentials(NODE)).await;
    let client = client(server.address(), gateway);
    assert_reached(ask(&client).await);
    deployment.advance(2 * short);
    sleep(Duration::from_millis(1_300)).await;
    let outcome = ask(&client).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused { .. } | PeerError::Unavailable { .. })
        ),
        "{outcome:?}"
    );
}

async fn a_restarted_server_is_found_again(kind: Kind) {
    let deployment = Deployment::new(1);
    let node = deployment.credentials(NODE);
    let server = Server::empty(&deployment.listen(kind), node.clone()).await;
    let client = client(server.address(), deployment.credentials(Role::Gateway));
    assert_reached(ask(&client).await);
    let same = match client.endpoint().address.clone() {
        NodeAddress::Unix(path) => Listen::Unix(path),
        NodeAddress::Tls(address) => Listen::Tls(address.parse().unwrap()),
    };
    server.stop().await;
    let outcome = ask(&client).await;
    assert!(
        matches!(outcome, Err(PeerError::Unavailable { .. })),
        "{outcome:?}"
    );
    let _server = Server::empty(&same, node).await;
    sleep(Duration::from_millis(100)).await;
    assert_reached(ask(&client).await);
}

async fn what_is_not_our_protocol_is_dropped(kind: Kind) {
    let deployment = Deployment::new(1);
    let server = Server::empty(&deployment.listen(kind), deployment.credentials(NODE)).await;
    for words in [
        &b"GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        &[0xff; 4_096],
    ] {
        let answer = match server.address() {
            NodeAddress::Unix(path) => say(UnixStream::connect(path).await.unwrap(), words).await,
            NodeAddress::Tls(address) => {
                say(TcpStream::connect(address).await.unwrap(), words).await
            }
        };
        // At most a TLS alert; never an HTTP answer.
        assert!(answer.len() < 16, "{answer:?}");
    }
    assert_reached(
        ask(&client(
            server.address(),
            deployment.credentials(Role::Gateway),
        ))
        .await,
    );
}

async fn say<S>(mut stream: S, words: &[u8]) -> Vec<u8>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    // The server may hang up before it has read everything.
    let _ = stream.write_all(words).await;
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer))
        .await
        .expect("it hangs up");
    answer
}

async fn silent_connections_do_not_keep_others_out(kind: Kind) {
    let deployment = Deployment::new(1);
    let limits = transport::server::ServerLimits {
        handshakes: 4,
        ..limits()
    };
    let server = Server::start(
        &deployment.listen(kind),
        deployment.credentials(NODE),
        limits,
        |_, _| async { not_found() },
    )
    .await;
    let mut silent: Vec<Box<dyn std::any::Any>> = Vec::new();
    for _ in 0..8 {
        match server.address() {
            NodeAddress::Unix(path) => {
                silent.push(Box::new(UnixStream::connect(path).await.unwrap()))
            }
            NodeAddress::Tls(address) => {
                silent.push(Box::new(TcpStream::connect(address).await.unwrap()))
            }
        }
    }
    // Two rounds of handshake timeouts at most, then it is our turn.
    let client = client(server.address(), deployment.credentials(Role::Gateway));
    assert_reached(ask(&client).await);
    drop(silent);
}

async fn a_server_that_does_not_answer_times_out(kind: Kind) {
    let deployment = Deployment::new(1);
    let server = Server::start(
        &deployment.listen(kind),
        deployment.credentials(NODE),
        limits(),
        |_, _| std::future::pending(),
    )
    .await;
    let client = client(server.address(), deployment.credentials(Role::Gateway));
    let deadline = tokio::time::Instant::now() + Duration::from_millis(200);
    let outcome = client.get(Cid::of_raw(b"x"), None, false, deadline).await;
    assert_eq!(outcome.unwrap_err(), PeerError::Timeout);
    let deadline = tokio::time::Instant::now() + Duration::from_millis(200);
    assert_eq!(
        client.stats(deadline).await.unwrap_err(),
        PeerError::Timeout
    );
}

async fn a_shutdown_lets_running_requests_finish(kind: Kind) {
    let deployment = Deployment::new(1);
    let (entered, mut inside) = tokio::sync::mpsc::channel(1);
    let server = Server::start(
        &deployment.listen(kind),
        deployment.credentials(NODE),
        limits(),
        move |_, _| {
            let entered = entered.clone();
            async move {
                let _ = entered.send(()).await;
                sleep(Duration::from_millis(300)).await;
                not_found()
            }
        },
    )
    .await;
    let client = client(server.address(), deployment.credentials(Role::Gateway));
    let running = {
        let client = client.clone();
        tokio::spawn(async move { ask(&client).await })
    };
    inside.recv().await.unwrap();
    server.stop().await;
    assert_reached(running.await.unwrap());
}

async fn the_server_knows_who_asks(kind: Kind) {
    let deployment = Deployment::new(1);
    let (seen, mut peers) = tokio::sync::mpsc::channel(4);
    let server = Server::start(
        &deployment.listen(kind),
        deployment.credentials(NODE),
        limits(),
        move |peer: Arc<transport::Peer>, request| {
            let seen = seen.clone();
            async move {
                let id = request.headers().get("x-request-id").cloned();
                let _ = seen.send((peer.role, peer.node_id(), id)).await;
                not_found()
            }
        },
    )
    .await;
    for role in [Role::Gateway, Role::Node { slot: 9 }] {
        let credentials = deployment.credentials(role);
        let client = client(server.address(), credentials.clone()).with_request_id("req-1");
        assert_reached(
            client
                .put(
                    Cid::of_raw(b"x"),
                    ShardTag::Chunk,
                    Bytes::new(),
                    vec![Bytes::from_static(b"x")],
                    soon(),
                )
                .await
                .map(|_| ()),
        );
        let (seen_role, id, request_id) = peers.recv().await.unwrap();
        assert_eq!((seen_role, id), (role, credentials.own().node_id()));
        assert_eq!(request_id.unwrap(), "req-1");
    }
}

#[tokio::test]
async fn a_socket_needs_a_folder_that_others_cannot_enter() {
    use std::os::unix::fs::PermissionsExt as _;
    let deployment = Deployment::new(1);
    let folder = deployment.dir.path().join("open");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let listen = Listen::Unix(folder.join("node.sock"));
    let refused = Listener::bind(&listen, deployment.credentials(NODE)).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("0700")));

    // One that is not there is made as it should be.
    let made = deployment.dir.path().join("made");
    let listener = Listener::bind(
        &Listen::Unix(made.join("node.sock")),
        deployment.credentials(NODE),
    )
    .await
    .unwrap();
    assert_eq!(mode(&made), 0o700);
    drop(listener);
    assert!(!made.join("node.sock").exists());
}

#[tokio::test]
async fn a_socket_is_taken_over_from_the_dead_and_not_from_the_living() {
    let deployment = Deployment::new(1);
    let listen = deployment.listen(Kind::Unix);
    let Listen::Unix(path) = &listen else {
        unreachable!()
    };
    let server = Server::empty(&listen, deployment.credentials(NODE)).await;
    let second = Listener::bind(&listen, deployment.credentials(NODE)).await;
    assert!(second.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse));
    server.stop().await;

    // What a killed process leaves behind.
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    assert!(path.exists());
    let server = Server::empty(&listen, deployment.credentials(NODE)).await;
    server.stop().await;

    std::fs::write(path, "precious").unwrap();
    let file = Listener::bind(&listen, deployment.credentials(NODE)).await;
    assert!(file.is_err());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[tokio::test]
async fn socket_paths_may_be_longer_than_the_kernel_takes() {
    let deployment = Deployment::new(1);
    let deep = deployment
        .dir
        .path()
        .join("d".repeat(120))
        .join("node-03.sock");
    let server = Server::empty(&Listen::Unix(deep), deployment.credentials(NODE)).await;
    assert_reached(
        ask(&client(
            server.address(),
            deployment.credentials(Role::Gateway),
        ))
        .await,
    );
}
