//! How the platform's processes reach each other: a private CA and the certificates it issues, mutual TLS 1.3 between
//! machines, a Unix socket with a signed handshake on one machine, the HTTP/2 settings of both, [`NodeClient`] and [`LedgerClient`].
//!
//! A peer is known by its certificate alone: its role, its deployment and its key. There are no host names, no system
//! roots and no passwords here. What a role may do is decided by the service that answers, not by this crate; what
//! bytes mean is decided by whoever reads them (a node is trusted for nothing).

pub mod body;
pub mod client;
pub mod clock;
pub mod credentials;
pub mod handshake;
pub mod identity;
pub mod listener;
pub mod pki;
pub mod protocol;
pub mod server;
pub mod stream;
pub mod tls;
pub mod unix;

pub use client::{
    ClientOptions, Deadline, LedgerClient, LedgerStatus, ListFilter, NodeAddress, NodeClient,
    NodeEndpoint, NodeStats, PeerError, RemoteBlocks, ShardRead, ShardState, ShardStream,
    ShardSummary, Stored,
};
pub use clock::Clock;
pub use credentials::{Credentials, CredentialsError};
pub use identity::{IdentityError, Peer, Role};
pub use listener::{Bound, Listen, Listener};
pub use pki::{CertificateAuthority, CertificateFiles, PkiError};
pub use protocol::{Refusal, WriteState};
