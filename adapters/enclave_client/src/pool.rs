//! All peers of one role.

use std::sync::Arc;

use attestation::Role;
use attested::Endpoint;
use domain::Principal;

use crate::Settings;
use crate::address::Address;
use crate::peer::Peer;

/// Peers of one role, in the order they were given. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool {
    peers: Arc<[Arc<Peer>]>,
}

impl Pool {
    /// Begins to connect to every peer. To be called within a runtime; sessions end when the last clone of the pool and of
    /// its peers is dropped. `endpoint` says what this side proves of itself: see [`crate::session_limits`] for its bounds.
    #[must_use]
    pub fn start(
        endpoint: &Arc<Endpoint>,
        role: Role,
        peers: impl IntoIterator<Item = (Principal, Address)>,
        settings: Settings,
    ) -> Self {
        let start = |(principal, address)| {
            Arc::new(Peer::start(
                endpoint.clone(),
                role,
                principal,
                address,
                settings,
            ))
        };
        Self {
            peers: peers.into_iter().map(start).collect(),
        }
    }

    /// The peer that signs with this key.
    #[must_use]
    pub fn get(&self, principal: &Principal) -> Option<&Arc<Peer>> {
        self.peers
            .iter()
            .find(|peer| peer.principal() == *principal)
    }

    /// All of them.
    #[must_use]
    pub fn peers(&self) -> &[Arc<Peer>] {
        &self.peers
    }
}
