//! What a node is told at its start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::DeploymentId;
use transport::server::ServerLimits;
use transport::{CertificateFiles, Clock, Listen};

/// How a node runs. [`NodeConfig::new`] gives what `strongroom up` uses.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The node's own folder: `identity/` (certificates), and `data/`, `metadata/` and `temp/` of the
    /// shard store.
    pub data_dir: PathBuf,
    /// The deployment it belongs to; it obeys no other.
    pub deployment: DeploymentId,
    /// Where gateways and other nodes reach it.
    pub listen: Listen,
    /// Where `/health` and `/metrics` are readable without a certificate; loopback addresses only.
    pub metrics_listen: Option<SocketAddr>,
    /// Its certificate, key and CA.
    pub certificates: CertificateFiles,
    /// Where it gets the time from.
    pub clock: Clock,
    /// Bytes that its segments may take; absent: what the disk has.
    pub capacity_bytes: Option<u64>,
    /// Bytes of the disk that stay free.
    pub reserve_bytes: u64,
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// How long a deleted shard can be restored.
    pub trash_retention: Duration,
    /// Every shard is re-read once in this time; zero: never.
    pub scrub_period: Duration,
    /// How often the store tidies up (trash, space).
    pub maintenance_period: Duration,
    /// How often the certificate files are looked at.
    pub certificate_period: Duration,
    /// Bounds of what requests can make it hold.
    pub limits: NodeLimits,
}

/// Bounds of what requests can make a node hold.
#[derive(Debug, Clone)]
pub struct NodeLimits {
    /// Connections and streams.
    pub server: ServerLimits,
    /// Bytes of shards being written, at once; at least one shard of the largest size fits.
    pub write_bytes: usize,
    /// Bytes of shards being sent, at once; at least one shard of the largest size fits.
    pub read_bytes: usize,
    /// Reads from the disk at once.
    pub reads: usize,
    /// How long a request waits for room under these bounds before it is told to try again.
    pub wait: Duration,
    /// How long a sender may stay silent in the middle of a body.
    pub sender_silence: Duration,
    /// Bytes per second below which a sender is dropped (after `sender_silence` once more as a start).
    pub sender_bytes_per_second: u32,
    /// How long a control call may take.
    pub control: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            server: ServerLimits::default(),
            write_bytes: 32 << 20,
            read_bytes: 32 << 20,
            reads: 8,
            wait: Duration::from_secs(5),
            sender_silence: Duration::from_secs(5),
            sender_bytes_per_second: 64 << 10,
            control: Duration::from_secs(30),
        }
    }
}

impl NodeConfig {
    /// The defaults, with certificates in `data_dir/identity`.
    #[must_use]
    pub fn new(data_dir: &Path, deployment: DeploymentId, listen: Listen) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            deployment,
            listen,
            metrics_listen: None,
            certificates: CertificateFiles::in_dir(&data_dir.join("identity")),
            clock: Clock::system(),
            capacity_bytes: None,
            reserve_bytes: 256 << 20,
            segment_bytes: 64 << 20,
            trash_retention: Duration::from_secs(7 * 86_400),
            scrub_period: Duration::from_secs(14 * 86_400),
            maintenance_period: Duration::from_secs(10),
            certificate_period: Duration::from_secs(60),
            limits: NodeLimits::default(),
        }
    }
}
