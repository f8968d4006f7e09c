//! The typed client of a storage node.

mod connection;
mod control;
mod error;
mod shard;
mod validator;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, NodeId, ShardTag};
use http::HeaderValue;

use crate::credentials::Credentials;
use crate::identity::Role;
use crate::protocol::WriteState;

use connection::Connections;
pub use error::PeerError;
pub use shard::ShardStream;
pub use validator::{LedgerClient, LedgerStatus, RemoteBlocks};

/// When a call is given up. Every call has one.
pub type Deadline = tokio::time::Instant;

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddress {
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// Mutual TLS: `host:port`.
    Tls(String),
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tls(address) => write!(f, "tls:{address}"),
        }
    }
}

/// Which node to talk to, and where.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeEndpoint {
    /// Where it listens.
    pub address: NodeAddress,
    /// Its place in the deployment; its certificate must say the same.
    pub slot: u16,
    /// Its id, when known; a node with another key is refused.
    pub node: Option<NodeId>,
}

/// Bounds of a client.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// HTTP/2 connections to the node, used in turn; at least 1.
    pub connections: usize,
    /// How long a connection may take to be made, within the call's deadline.
    pub connect_timeout: Duration,
    /// How long to wait after a first failed connection attempt; doubles up to `backoff_max`. Calls fail at once
    /// meanwhile.
    pub backoff_min: Duration,
    /// See `backoff_min`.
    pub backoff_max: Duration,
    /// A connection that is silent for this long is pinged, and dropped when it stays silent as long again.
    pub keep_alive: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connections: 1,
            connect_timeout: Duration::from_secs(3),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            keep_alive: Duration::from_secs(5),
        }
    }
}

/// What a put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// The node held the shard already.
    pub already: bool,
}

/// A shard, or a range of it. Unchecked: whoever reads it checks it against the CID or the proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRead {
    /// Bytes of the whole shard, without proof.
    pub total_bytes: u32,
    /// Why it is on the node.
    pub tag: ShardTag,
    /// The chunk proof, when asked for and held.
    pub proof: Option<Bytes>,
    /// The bytes asked for, in order.
    pub body: Vec<Bytes>,
}

/// What a re-read of a shard found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShardState {
    /// The bytes on the disk hash to the CID.
    Intact,
    /// They do not.
    Corrupt,
    /// The node does not hold it.
    Missing,
}

/// Which shards to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only this kind ([`ShardTag::to_parts`]); absent: all.
    pub kind: Option<u8>,
    /// Only shards written under an epoch below this; absent: all.
    pub epoch_below: Option<u64>,
}

/// One listed shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardSummary {
    /// Its name.
    pub cid: Cid,
    /// Why it is there.
    pub tag: ShardTag,
    /// Its bytes, without proof.
    pub total_bytes: u32,
}

/// A node's account of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStats {
    /// SHA-256 of its public key.
    pub node_id: NodeId,
    /// Bytes that it may use.
    pub total_bytes: u64,
    /// Bytes that it uses, trash included.
    pub used_bytes: u64,
    /// Bytes of shards that it holds, without what its segments waste.
    pub live_bytes: u64,
    /// Bytes free on its disk.
    pub disk_free_bytes: u64,
    /// Shards that it holds.
    pub shard_count: u64,
    /// Deleted shards that it still keeps.
    pub trash_count: u64,
    /// Their bytes.
    pub trash_bytes: u64,
    /// Whether it takes writes.
    pub write_state: WriteState,
    /// Why not; empty when it does.
    pub write_state_detail: String,
    /// Since its start.
    pub uptime: Duration,
    /// Shards found corrupted since the start.
    pub corrupt_count: u64,
    /// Shards found damaged and not replaced or deleted since.
    pub damaged_count: u64,
    /// Version of its program.
    pub version: String,
}

/// A client of one node. Cheap to clone; clones share the connections, which are made when first needed and made again
/// when they break. Dropping a call's future cancels the call.
///
/// All calls are idempotent: shards are named by their content.
#[derive(Clone)]
pub struct NodeClient {
    endpoint: NodeEndpoint,
    connections: Arc<Connections>,
    request_id: Option<HeaderValue>,
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeClient")
            .field("endpoint", self.endpoint())
            .finish_non_exhaustive()
    }
}

impl NodeClient {
    /// A client of `endpoint`; connects when first used.
    ///
    /// # Errors
    /// [`rustls::Error`] when the credentials cannot be used for TLS.
    pub fn new(
        endpoint: NodeEndpoint,
        credentials: Arc<Credentials>,
        options: ClientOptions,
    ) -> Result<Self, rustls::Error> {
        let role = Role::Node {
            slot: endpoint.slot,
        };
        let connections = Arc::new(Connections::new(
            endpoint.address.clone(),
            role,
            endpoint.node,
            credentials,
            options,
        )?);
        Ok(Self {
            endpoint,
            connections,
            request_id: None,
        })
    }

    /// The node it talks to.
    #[must_use]
    pub fn endpoint(&self) -> &NodeEndpoint {
        &self.endpoint
    }

    /// The same client whose calls carry `request_id`, so that the node's log can be matched with the caller's.
    /// Characters that a header cannot carry are an absent id.
    #[must_use]
    pub fn with_request_id(&self, request_id: &str) -> Self {
        Self {
            endpoint: self.endpoint.clone(),
            connections: self.connections.clone(),
            request_id: HeaderValue::from_str(request_id).ok(),
        }
    }

    /// The role that the node must have.
    #[must_use]
    pub fn expected_role(&self) -> Role {
        Role::Node {
            slot: self.endpoint().slot,
        }
    }
}
