//! A deployment with one node in a temporary folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, DeploymentId, ShardTag, TimestampMs};
use node::storage::Storage;
use node::{Node, NodeConfig, NodeLimits};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use transport::{
    Bound, CertificateAuthority, CertificateFiles, ClientOptions, Clock, Credentials, Listen,
    NodeAddress, NodeClient, NodeEndpoint, PeerError, Role, Stored, pki,
};

use crate::memory::Memory;

/// 2026-01-01.
const NOW_MS: u64 = 1_767_225_600_000;
pub const SLOT: u16 = 3;

/// Both ways to reach a node; the suites run over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unix,
    Tls,
}

/// Instantiates tests for both kinds of listener.
macro_rules! over_both {
    ($($name:ident),* $(,)?) => {
        mod unix {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Kind::Unix).await; })*
        }
        mod tls {
            $(#[tokio::test] async fn $name() { super::$name(crate::support::Kind::Tls).await; })*
        }
    };
}
pub(crate) use over_both;

pub struct Deployment {
    pub id: DeploymentId,
    pub dir: tempfile::TempDir,
    pub ca: CertificateAuthority,
    now: Arc<AtomicU64>,
}

impl Deployment {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = DeploymentId([1; 32]);
        let ca = pki::create_ca(&dir.path().join("ca"), id, TimestampMs(NOW_MS)).unwrap();
        Self {
            id,
            dir,
            ca,
            now: Arc::new(AtomicU64::new(NOW_MS)),
        }
    }

    pub fn now(&self) -> TimestampMs {
        TimestampMs(self.now.load(Ordering::SeqCst))
    }

    pub fn advance(&self, by: Duration) {
        self.now
            .fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let now = self.now.clone();
        Clock::new(move || TimestampMs(now.load(Ordering::SeqCst)))
    }

    pub fn node_dir(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    pub fn issue(&self, role: Role, dir: &str) -> CertificateFiles {
        let dir = self.dir.path().join(dir);
        self.ca
            .issue(role, &dir, pki::CERTIFICATE_VALIDITY, self.now())
            .unwrap()
            .files
    }

    pub fn credentials(&self, role: Role) -> Arc<Credentials> {
        let files = self.issue(role, &role.to_string().replace('/', "-"));
        Credentials::load(files, self.id, self.clock()).unwrap()
    }

    /// A small node: little disk, bounds that a test reaches.
    pub fn config(&self, kind: Kind) -> NodeConfig {
        self.issue(Role::Node { slot: SLOT }, "node/identity");
        let listen = match kind {
            Kind::Unix => Listen::Unix(self.dir.path().join("run/node-03.sock")),
            Kind::Tls => Listen::Tls("127.0.0.1:0".parse().unwrap()),
        };
        NodeConfig {
            clock: self.clock(),
            reserve_bytes: 1 << 20,
            segment_bytes: 8 << 20,
            scrub_period: Duration::ZERO,
            limits: NodeLimits {
                wait: Duration::from_millis(300),
                sender_silence: Duration::from_millis(300),
                ..NodeLimits::default()
            },
            ..NodeConfig::new(&self.node_dir(), self.id, listen)
        }
    }
}

/// A node that runs until it is stopped.
pub struct Running {
    pub deployment: Deployment,
    pub bound: Bound,
    pub monitor: Option<std::net::SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Running {
    /// With the shard store.
    pub async fn start(kind: Kind) -> Self {
        let deployment = Deployment::new();
        let config = deployment.config(kind);
        Self::with(deployment, config).await
    }

    pub async fn with(deployment: Deployment, config: NodeConfig) -> Self {
        Self::run(deployment, Node::start(config).await.unwrap())
    }

    /// With a store whose faults the test chooses.
    pub async fn faulty(kind: Kind, tune: impl FnOnce(&mut NodeConfig)) -> (Self, Memory) {
        let deployment = Deployment::new();
        let mut config = deployment.config(kind);
        tune(&mut config);
        let store = Memory::new();
        let credentials = node::server::credentials(&config).unwrap();
        let node = Node::with_store(config, credentials, store.clone())
            .await
            .unwrap();
        (Self::run(deployment, node), store)
    }

    fn run<S: Storage>(deployment: Deployment, node: Node<S>) -> Self {
        let (bound, monitor) = (node.bound(), node.monitor_address());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(node.serve(async move {
            let _ = stopped.await;
        }));
        Self {
            deployment,
            bound,
            monitor,
            stop: Some(stop),
            task: Some(task),
        }
    }

    pub async fn stop(mut self) -> Deployment {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
        self.deployment
    }

    pub fn client(&self, role: Role) -> NodeClient {
        self.client_with(self.deployment.credentials(role))
    }

    pub fn client_with(&self, credentials: Arc<Credentials>) -> NodeClient {
        let address = match &self.bound {
            Bound::Unix(path) => NodeAddress::Unix(path.clone()),
            Bound::Tls(address) => NodeAddress::Tls(address.to_string()),
        };
        let endpoint = NodeEndpoint {
            address,
            slot: SLOT,
            node: None,
        };
        NodeClient::new(endpoint, credentials, ClientOptions::default()).unwrap()
    }

    pub fn gateway(&self) -> NodeClient {
        self.client(Role::Gateway)
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Bytes that are different for every seed and do not compress into anything regular.
pub fn content(seed: u64, length: usize) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let bytes: Vec<u8> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect();
    Bytes::from(bytes)
}

pub async fn put(client: &NodeClient, body: &Bytes) -> Result<Stored, PeerError> {
    put_as(client, body, ShardTag::Chunk, Bytes::new()).await
}

pub async fn put_as(
    client: &NodeClient,
    body: &Bytes,
    tag: ShardTag,
    proof: Bytes,
) -> Result<Stored, PeerError> {
    client
        .put(Cid::of_raw(body), tag, proof, vec![body.clone()], soon())
        .await
}

pub async fn read(client: &NodeClient, body: &Bytes) -> Result<Bytes, PeerError> {
    let read = client.get(Cid::of_raw(body), None, false, soon()).await?;
    Ok(Bytes::from(read.body.concat()))
}
