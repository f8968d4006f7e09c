//! A deployment in a temporary folder with a clock that the test moves, and servers that answer as told.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::{DeploymentId, TimestampMs};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use transport::body::Buffers;
use transport::protocol::REFUSAL;
use transport::server::{ServerLimits, serve};
use transport::{
    Bound, CertificateAuthority, CertificateFiles, ClientOptions, Clock, Credentials, Listen,
    Listener, NodeAddress, NodeClient, NodeEndpoint, Peer, Refusal, Role, pki,
};

/// 2026-01-01.
pub const NOW_MS: u64 = 1_767_225_600_000;
pub const NODE: Role = Role::Node { slot: 3 };

/// One deployment: its CA, its clock, and folders for its processes.
pub struct Deployment {
    pub id: DeploymentId,
    pub dir: tempfile::TempDir,
    pub ca: CertificateAuthority,
    pub now: Arc<AtomicU64>,
}

impl Deployment {
    pub fn new(id: u8) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = DeploymentId([id; 32]);
        let ca = pki::create_ca(&dir.path().join("ca"), id, TimestampMs(NOW_MS)).unwrap();
        Self {
            id,
            dir,
            ca,
            now: Arc::new(AtomicU64::new(NOW_MS)),
        }
    }

    pub fn clock(&self) -> Clock {
        let now = self.now.clone();
        Clock::new(move || TimestampMs(now.load(Ordering::SeqCst)))
    }

    pub fn advance(&self, by: Duration) {
        self.now
            .fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn time(&self) -> TimestampMs {
        TimestampMs(self.now.load(Ordering::SeqCst))
    }

    pub fn process_dir(&self, role: Role) -> PathBuf {
        self.dir.path().join(role.to_string().replace('/', "-"))
    }

    /// Certificate files of a process, valid for 30 days from now.
    pub fn issue(&self, role: Role) -> CertificateFiles {
        let dir = self.process_dir(role);
        self.ca
            .issue(role, &dir, pki::CERTIFICATE_VALIDITY, self.time())
            .unwrap()
            .files
    }

    pub fn credentials(&self, role: Role) -> Arc<Credentials> {
        Credentials::load(self.issue(role), self.id, self.clock()).unwrap()
    }

    /// The other kind of address of each kind of listener.
    pub fn listen(&self, kind: Kind) -> Listen {
        match kind {
            Kind::Unix => Listen::Unix(self.dir.path().join("run").join("node-03.sock")),
            Kind::Tls => Listen::Tls("127.0.0.1:0".parse().unwrap()),
        }
    }
}

/// Both ways to connect; every suite runs over both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unix,
    Tls,
}

/// A server that is stopped when dropped.
pub struct Server {
    pub bound: Bound,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<()>>,
}

impl Server {
    pub async fn start<S, F>(
        listen: &Listen,
        credentials: Arc<Credentials>,
        limits: ServerLimits,
        service: S,
    ) -> Self
    where
        S: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Buffers>> + Send + 'static,
    {
        let clock = credentials.clock().clone();
        let listener = Listener::bind(listen, credentials).await.unwrap();
        let bound = listener.bound();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let task = tokio::spawn(serve(listener, clock, limits, service, shutdown));
        Self {
            bound,
            stop: Some(stop),
            task: Some(task),
        }
    }

    /// One that holds no shards: an answer of `NotFound` proves that the request got through.
    pub async fn empty(listen: &Listen, credentials: Arc<Credentials>) -> Self {
        Self::start(listen, credentials, limits(), |_, _| async { not_found() }).await
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.task.take().unwrap().await.unwrap();
    }

    pub fn address(&self) -> NodeAddress {
        match &self.bound {
            Bound::Unix(path) => NodeAddress::Unix(path.clone()),
            Bound::Tls(address) => NodeAddress::Tls(address.to_string()),
        }
    }
}

pub fn limits() -> ServerLimits {
    ServerLimits {
        handshake_timeout: Duration::from_millis(500),
        drain: Duration::from_secs(1),
        ..ServerLimits::default()
    }
}

pub fn not_found() -> Response<Buffers> {
    let mut response = Response::new(Buffers::default());
    *response.status_mut() = Refusal::NotFound.status();
    response
        .headers_mut()
        .insert(REFUSAL, HeaderValue::from_static(Refusal::NotFound.code()));
    response
}

pub fn body(parts: &[&'static [u8]]) -> Buffers {
    Buffers::new(parts.iter().map(|part| Bytes::from_static(part)))
}

pub fn client(address: NodeAddress, credentials: Arc<Credentials>) -> NodeClient {
    let endpoint = NodeEndpoint {
        address,
        slot: 3,
        node: None,
    };
    let options = ClientOptions {
        backoff_min: Duration::from_millis(10),
        backoff_max: Duration::from_millis(50),
        ..ClientOptions::default()
    };
    NodeClient::new(endpoint, credentials, options).unwrap()
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
