//! What a gateway is told at start.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::{DeploymentId, NodeId, Principal, Slot};

/// A storage node this gateway uses.
#[derive(Clone, Debug)]
pub struct NodeEndpoint {
    /// Its place in the deployment, as its certificate says.
    pub slot: u16,
    /// Its identity; a peer that proves another is refused.
    pub id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// `unix:PATH` or `tls:HOST:PORT`.
    pub address: String,
    /// Relative capacity for placement, 1 or more.
    pub weight: u32,
}

/// Certificates of the private CA, PEM files.
#[derive(Clone, Debug)]
pub struct PeerCredentials {
    /// The deployment's CA certificate.
    pub ca: PathBuf,
    /// This gateway's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Certificate for clients, needed when the gateway listens anywhere but on loopback.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// The ledger, and who holds shares of named keys.
#[derive(Clone, Debug)]
pub struct CustodyConfig {
    /// What the ledger began with.
    pub genesis: Arc<ledger::Genesis>,
    /// The validator: `unix:PATH` or `tls:HOST:PORT`.
    pub validator: String,
    /// The socket through which the attestation policy is read, with proofs.
    pub relay: PathBuf,
    /// The custodians, in the order of their slots; none: named keys are not served.
    pub custodians: Vec<CustodianEndpoint>,
    /// The workers.
    pub workers: Vec<WorkerEndpoint>,
}

/// A custodian this gateway reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodianEndpoint {
    /// The key that signs for it.
    pub principal: Principal,
    /// Its share index, and whether it is a standby.
    pub slot: Slot,
    /// `unix:PATH` or `tcp:HOST:PORT`.
    pub address: String,
}

/// A worker this gateway reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerEndpoint {
    /// The key that signs for it.
    pub principal: Principal,
    /// `unix:PATH` or `tcp:HOST:PORT`.
    pub address: String,
}

/// Configuration of [`crate::run`].
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// The gateway's own folder (`DIR/gateway`).
    pub data_dir: PathBuf,
    /// The deployment it serves.
    pub deployment: DeploymentId,
    /// The deployment's first administrator: may make buckets and read `/v1/admin`.
    pub administrator: Principal,
    /// Public half of the recovery key, as `crypto::recovery` encodes it.
    pub recovery_public: Vec<u8>,
    /// `postgres://…` or `sqlite:PATH`; the default is `metadata.sqlite` in the data folder.
    pub database_url: Option<String>,
    /// Where REST is served.
    pub listen: SocketAddr,
    /// Where gRPC is served, if it is.
    pub grpc_listen: Option<SocketAddr>,
    /// Required when `listen` or `grpc_listen` is not loopback.
    pub server_certificate: Option<ServerCertificate>,
    /// Certificates towards the nodes.
    pub peers: PeerCredentials,
    /// The nodes.
    pub nodes: Vec<NodeEndpoint>,
    /// Bytes of puts and gets in flight, together.
    pub budget_bytes: usize,
    /// Bytes that one principal may have in flight; `None` for all of the budget.
    pub principal_budget_bytes: Option<usize>,
    /// A sender or receiver slower than this is dropped (bytes per second, over ten seconds).
    pub min_rate_bytes: u64,
    /// How often nodes are probed.
    pub probe_interval: Duration,
    /// How long the shards of a replaced version stay for readers that have begun.
    pub deletion_grace: Duration,
    /// Uploads for which nothing arrived for this long are undone.
    pub upload_ttl: Duration,
    /// Connections at once, of each listener.
    pub connections_max: usize,
    /// The ledger and the custodians, where the deployment has them.
    pub custody: Option<CustodyConfig>,
}

impl GatewayConfig {
    /// Default of [`Self::budget_bytes`]: 96 MiB.
    pub const BUDGET_BYTES: usize = 96 << 20;
    /// Default of [`Self::min_rate_bytes`].
    pub const MIN_RATE_BYTES: u64 = 16 << 10;
    /// Default of [`Self::probe_interval`].
    pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
    /// Default of [`Self::deletion_grace`].
    pub const DELETION_GRACE: Duration = Duration::from_secs(30);
    /// The least [`Self::deletion_grace`]: transactions that are under way must end within it.
    pub const DELETION_GRACE_MIN: Duration = Duration::from_secs(1);
    /// The least [`Self::upload_ttl`]: an upload's use is noted to ten seconds.
    pub const UPLOAD_TTL_MIN: Duration = Duration::from_secs(30);
    /// Default of [`Self::upload_ttl`].
    pub const UPLOAD_TTL: Duration = Duration::from_secs(24 * 3600);
    /// Default of [`Self::connections_max`].
    pub const CONNECTIONS_MAX: usize = 1_024;
}
