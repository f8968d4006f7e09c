//! A gateway over sixteen real nodes in this process, each behind a relay that can be told to hang.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use client::{ByteRange, Client, ClientConfig, DeploymentPin, PutOptions};
use crypto::recovery::RecoverySecret;
use crypto::{Identity, Secret};
use domain::{DeploymentId, Profile, TimestampMs};
use gateway::{Gateway, GatewayConfig, NodeEndpoint, PeerCredentials};
use node::{Node, NodeConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::Instant;
use transport::{Clock, Credentials, Listen, Role, pki};

const NODES: u16 = 16;
const DEPLOYMENT: DeploymentId = DeploymentId([5; 32]);

struct Platform {
    dir: tempfile::TempDir,
    client: Client,
    endpoint: String,
    hanging: BTreeMap<u16, watch::Sender<bool>>,
}

/// Passes bytes on, or keeps them while it hangs.
async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut hangs: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0
            || hangs.wait_for(|hangs| !hangs).await.is_err()
            || to.write_all(&buffer[..n]).await.is_err()
        {
            return;
        }
    }
}

fn relay_all(listener: UnixListener, to: PathBuf, hangs: watch::Receiver<bool>) {
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let Ok(far) = UnixStream::connect(&to).await else {
                continue;
            };
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            tokio::spawn(relay(near_read, far_write, hangs.clone()));
            tokio::spawn(relay(far_read, near_write, hangs.clone()));
        }
    });
}

impl Platform {
    async fn start(scrub_period: Duration, probe_interval: Duration) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("gw-")
            .tempdir_in("/tmp")
            .unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = TimestampMs(u64::try_from(now.as_millis()).unwrap());
        let ca = pki::create_ca(&dir.path().join("ca"), DEPLOYMENT, now).unwrap();
        let issue = |role: Role, at: &Path| {
            ca.issue(role, at, pki::CERTIFICATE_VALIDITY, now)
                .unwrap()
                .files
        };
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        std::fs::set_permissions(&run, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .unwrap();
        let mut nodes = Vec::new();
        let mut hanging = BTreeMap::new();
        for slot in 0..NODES {
            let data = dir.path().join(format!("node-{slot:02}"));
            let files = issue(Role::Node { slot }, &data.join("identity"));
            let id = Credentials::load(files, DEPLOYMENT, Clock::system())
                .unwrap()
                .own()
                .node_id();
            let socket = run.join(format!("{slot:02}.node"));
            let near = run.join(format!("{slot:02}.sock"));
            let config = NodeConfig {
                reserve_bytes: 1 << 20,
                segment_bytes: 8 << 20,
                scrub_period,
                ..NodeConfig::new(&data, DEPLOYMENT, Listen::Unix(socket.clone()))
            };
            let node = Node::start(config).await.unwrap();
            tokio::spawn(node.serve(std::future::pending()));
            let (hang, hangs) = watch::channel(false);
            relay_all(UnixListener::bind(&near).unwrap(), socket, hangs);
            hanging.insert(slot, hang);
            nodes.push(NodeEndpoint {
                slot,
                id,
                zone: format!("z{slot}"),
                address: format!("unix:{}", near.display()),
                weight: 1,
            });
        }
        let identity = Arc::new(Identity::from_seed(Secret::take(&mut [9; 32])));
        let recovery = RecoverySecret::from_seed(&Secret::take(&mut [8; 32]));
        let data_dir = dir.path().join("gateway");
        let files = issue(Role::Gateway, &data_dir.join("identity"));
        let gateway = Gateway::start(GatewayConfig {
            data_dir,
            deployment: DEPLOYMENT,
            administrator: identity.principal(),
            recovery_public: recovery.public().to_bytes().to_vec(),
            database_url: None,
            listen: "127.0.0.1:0".parse().unwrap(),
            grpc_listen: None,
            server_certificate: None,
            peers: PeerCredentials {
                ca: files.ca,
                certificate: files.certificate,
                key: files.key,
            },
            nodes,
            budget_bytes: GatewayConfig::BUDGET_BYTES,
            principal_budget_bytes: None,
            min_rate_bytes: GatewayConfig::MIN_RATE_BYTES,
            probe_interval,
            deletion_grace: Duration::from_secs(1),
            upload_ttl: GatewayConfig::UPLOAD_TTL,
            custody: None,
            connections_max: 64,
        })
        .await
        .unwrap();
        let endpoint = format!("http://{}", gateway.address());
        tokio::spawn(gateway.serve(std::future::pending()));
        let pin = DeploymentPin::Id(DEPLOYMENT);
        let config = ClientConfig::new(&endpoint, identity, pin, dir.path().join("state"));
        let client = Client::connect(config).await.unwrap();
        let platform = Self {
            dir,
            client,
            endpoint,
            hanging,
        };
        platform
            .client
            .make_bucket(&"files".parse().unwrap(), Profile::DATACENTRE, None)
            .await
            .unwrap();
        platform
    }

    fn hang(&self, slot: u16, hangs: bool) {
        self.hanging[&slot].send_replace(hangs);
    }

    async fn put(&self, key: &str, content: &[u8], wait_placed: bool) -> client::Stored {
        let options = PutOptions {
            wait_placed,
            ..PutOptions::default()
        };
        self.client
            .put_bytes(
                &"files".parse().unwrap(),
                &key.parse().unwrap(),
                content,
                &options,
            )
            .await
            .unwrap()
    }

    async fn get(&self, key: &str) -> Vec<u8> {
        let (bucket, key) = ("files".parse().unwrap(), key.parse().unwrap());
        self.client
            .get_bytes(&bucket, &key, ByteRange::All)
            .await
            .unwrap()
            .1
    }

    async fn metric(&self, name: &str) -> i64 {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("{name} is not among the metrics"))
    }

    async fn until(&self, name: &str, holds: impl Fn(i64) -> bool) {
        let begun = Instant::now();
        loop {
            let value = self.metric(name).await;
            if holds(value) {
                return;
            }
            assert!(
                begun.elapsed() < Duration::from_secs(40),
                "{name} is {value}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn noise(len: usize, seed: u8) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hangs_is_replaced_and_objects_are_fully_placed_without_it() {
    // It is found out by those who wait for it, not by the probe.
    let platform = Platform::start(Duration::ZERO, Duration::from_secs(600)).await;
    platform.put("before", &noise(300_000, 1), true).await;
    platform.hang(3, true);
    for seed in 0..4 {
        let content = noise(5_000_000, seed);
        let begun = Instant::now();
        let stored = platform.put(&format!("large {seed}"), &content, true).await;
        assert!(stored.answer.fully_placed, "{:?}", stored.answer);
        assert!(
            begun.elapsed() < Duration::from_secs(15),
            "{:?}",
            begun.elapsed()
        );
        assert!(platform.get(&format!("large {seed}")).await == content);
    }
    assert!(platform.metric("strongroom_substituted_shards_total").await > 0);
    let stat = platform
        .client
        .stat(&"files".parse().unwrap(), &"large 0".parse().unwrap())
        .await
        .unwrap();
    assert!(
        stat.nodes.iter().all(|node| node.slot != 3),
        "{:?}",
        stat.nodes
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_records_are_completed_when_their_nodes_are_back() {
    let pending = "strongroom_pending_recovery_records";
    let platform = Platform::start(Duration::ZERO, Duration::from_secs(4)).await;
    platform.put("before", &noise(300_000, 1), true).await;
    platform.until(pending, |records| records == 0).await;
    for slot in [3, 9] {
        platform.hang(slot, true);
    }
    // Two or more records each, on five of sixteen nodes.
    for seed in 0..8 {
        platform
            .put(&format!("{seed}"), &noise(300_000, seed), false)
            .await;
    }
    platform.until(pending, |records| records > 0).await;
    for slot in [3, 9] {
        platform.hang(slot, false);
    }
    platform.until(pending, |records| records == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_nodes_scrub_finds_is_rebuilt_without_a_read() {
    let platform = Platform::start(Duration::from_millis(100), Duration::from_millis(200)).await;
    let content = noise(4_000_000, 1);
    platform.put("it", &content, true).await;
    // A bit in the middle of what each of four nodes holds.
    let mut flipped = 0;
    for slot in 0..NODES {
        let data = platform.dir.path().join(format!("node-{slot:02}/data"));
        for entry in std::fs::read_dir(data).unwrap() {
            let path = entry.unwrap().path();
            let Ok(mut bytes) = std::fs::read(&path) else {
                continue;
            };
            if flipped < 4
                && let Some(at) = bytes.get(200_000).copied()
                && at != 0
            {
                bytes[200_000] ^= 1;
                // In place, for the node has it open.
                use std::os::unix::fs::FileExt as _;
                let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(&bytes[200_000..=200_000], 200_000)
                    .unwrap();
                flipped += 1;
                break;
            }
        }
    }
    assert_eq!(flipped, 4);
    // Rebuilding the first reads the others and finds them damaged as well.
    platform
        .until("strongroom_scrub_findings_total", |found| found >= 1)
        .await;
    platform
        .until("strongroom_repair_total", |shards| shards >= 4)
        .await;
    platform
        .until("strongroom_pending_shards", |shards| shards == 0)
        .await;
    assert!(platform.get("it").await == content);
}
