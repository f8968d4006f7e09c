//! Starting, stopping, renewing, monitoring, and a disk that changes what it was given.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{Cid, ShardTag};
use node::{Node, NodeError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use transport::{PeerError, Refusal, Role, ShardState};

use crate::memory::Fault;
use crate::support::{
    Deployment, Kind, Running, SLOT, content, over_both, put, put_as, read, soon,
};

over_both!(
    a_restarted_node_holds_what_it_held,
    a_renewed_certificate_is_taken_without_a_restart,
    a_shard_that_the_disk_changed_is_found,
);

async fn a_restarted_node_holds_what_it_held(kind: Kind) {
    let node = Running::start(kind).await;
    let (body, proof) = (content(1, 419_431), content(2, 2_048));
    let small = ShardTag::Small { epoch: 4 };
    put_as(&node.gateway(), &body, small, proof.clone())
        .await
        .unwrap();
    let deployment = node.stop().await;
    let config = deployment.config(kind);
    let node = Running::with(deployment, config).await;
    let found = node
        .gateway()
        .get(Cid::of_raw(&body), None, true, soon())
        .await
        .unwrap();
    assert_eq!(
        (found.tag, found.proof, found.body.concat()),
        (small, Some(proof), body.to_vec())
    );
}

async fn a_renewed_certificate_is_taken_without_a_restart(kind: Kind) {
    let deployment = Deployment::new();
    let mut config = deployment.config(kind);
    config.certificate_period = Duration::from_millis(20);
    let node = Running::with(deployment, config).await;
    let month = Duration::from_secs(30 * 86_400);
    for _ in 0..3 {
        node.deployment.advance(month - Duration::from_secs(86_400));
        let dir = node.deployment.node_dir().join("identity");
        node.deployment
            .ca
            .renew_if_due(&dir, month, node.deployment.now())
            .unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        // Beyond the end of what the node had before.
        node.deployment.advance(Duration::from_secs(2 * 86_400));
        node.gateway().stats(soon()).await.unwrap();
    }
}

async fn a_shard_that_the_disk_changed_is_found(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let (hit, missed) = (content(1, 419_431), content(2, 419_431));
    put(&gateway, &hit).await.unwrap();
    put(&gateway, &missed).await.unwrap();
    flip_a_bit_of(&node.deployment.node_dir(), &hit[200_000..200_064]);

    // Whatever a plain read gives (the store checks no bytes there), it is not taken for the shard.
    if let Ok(bytes) = read(&gateway, &hit).await {
        assert_ne!(Cid::of_raw(&bytes), Cid::of_raw(&hit));
    }
    assert_eq!(
        gateway.verify(Cid::of_raw(&hit), soon()).await,
        Ok(ShardState::Corrupt)
    );
    assert_eq!(
        gateway.verify(Cid::of_raw(&missed), soon()).await,
        Ok(ShardState::Intact)
    );
    assert_eq!(gateway.stats(soon()).await.unwrap().corrupt_count, 1);
    // From now on the node admits it, and takes a repaired copy.
    let outcome = read(&gateway, &hit).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::Corrupt,
                ..
            } | PeerError::NotFound)
        ),
        "{outcome:?}"
    );
    put(&gateway, &hit).await.unwrap();
    assert_eq!(read(&gateway, &hit).await.unwrap(), hit);
}

/// Finds `needle` in the files under `dir` and flips one of its bits.
fn flip_a_bit_of(dir: &Path, needle: &[u8]) {
    for path in files(dir) {
        let bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes
            .windows(needle.len())
            .position(|window| window == needle)
        {
            let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
            file.write_all_at(&[bytes[at] ^ 0x10], u64::try_from(at).unwrap())
                .unwrap();
            return;
        }
    }
    panic!("the bytes are in no file under {}", dir.display());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[tokio::test]
async fn a_node_does_not_start_as_someone_else() {
    let deployment = Deployment::new();
    let mut config = deployment.config(Kind::Unix);
    config.certificates = deployment.issue(Role::Gateway, "gateway");
    let outcome = Node::start(config).await;
    assert!(matches!(outcome, Err(NodeError::NotANode(Role::Gateway))));

    let config = deployment.config(Kind::Unix);
    deployment.advance(Duration::from_secs(31 * 86_400));
    assert!(matches!(
        Node::start(config).await,
        Err(NodeError::Credentials(_))
    ));

    let mut config = deployment.config(Kind::Unix);
    config.metrics_listen = Some("0.0.0.0:0".parse().unwrap());
    assert!(matches!(
        Node::start(config).await,
        Err(NodeError::Config(_))
    ));
}

#[tokio::test]
async fn two_nodes_do_not_share_a_folder() {
    let node = Running::start(Kind::Unix).await;
    let second = node.deployment.config(Kind::Tls);
    assert!(matches!(
        Node::start(second).await,
        Err(NodeError::Store(_))
    ));
}

#[tokio::test]
async fn a_shutdown_waits_for_what_is_being_written() {
    let (running, store) = Running::faulty(Kind::Unix, |_| {}).await;
    let gateway = running.gateway();
    store.set(Fault::SlowWrites);
    let body = content(1, 100_000);
    let writing = {
        let (gateway, body) = (gateway.clone(), body.clone());
        tokio::spawn(async move { put(&gateway, &body).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop().await;
    writing.await.unwrap().unwrap();
    assert!(store.holds(&Cid::of_raw(&body)));
}

#[tokio::test]
async fn monitors_read_on_loopback_without_a_certificate() {
    let deployment = Deployment::new();
    let mut config = deployment.config(Kind::Tls);
    config.metrics_listen = Some("127.0.0.1:0".parse().unwrap());
    let node = Running::with(deployment, config).await;
    put(&node.gateway(), &content(1, 1_000)).await.unwrap();
    read(&node.gateway(), &content(1, 1_000)).await.unwrap();
    let address = node.monitor.unwrap();

    let metrics = http1(address, "GET /metrics HTTP/1.1\r\nhost: node\r\n\r\n").await;
    assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
    for line in [
        "strongroom_node_shard_count 1",
        "strongroom_node_writable 1",
        "strongroom_node_requests_total{operation=\"put\",status=\"ok\"} 1",
        "strongroom_node_requests_total{operation=\"get\",status=\"ok\"} 1",
        "strongroom_node_request_latency_seconds_count{operation=\"get\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }
    let health = http1(address, "GET /health HTTP/1.1\r\nhost: node\r\n\r\n").await;
    assert!(health.contains("\"status\":\"ok\""), "{health}");

    // Monitoring is all there is.
    let shard = format!(
        "GET /shards/{} HTTP/1.1\r\nhost: node\r\n\r\n",
        Cid::of_raw(b"x")
    );
    for request in [
        shard.as_str(),
        "PUT /metrics HTTP/1.1\r\nhost: node\r\ncontent-length: 0\r\n\r\n",
    ] {
        let answer = http1(address, request).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
}

async fn http1(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_node_says_which_slot_it_has() {
    let node = Running::start(Kind::Unix).await;
    assert_eq!(node.gateway().expected_role(), Role::Node { slot: SLOT });
    let mut endpoint = node.gateway().endpoint().clone();
    endpoint.slot = SLOT + 1;
    let credentials = node.deployment.credentials(Role::Gateway);
    let client =
        transport::NodeClient::new(endpoint, credentials, transport::ClientOptions::default())
            .unwrap();
    let outcome = client.stats(soon()).await;
    assert!(
        matches!(outcome, Err(PeerError::Misbehaved { .. })),
        "{outcome:?}"
    );
}
