//! What everyone may know of a sharing: for each index a commitment to its post-quantum share and the public key of its
//! ristretto255 share. The ledger pins the root; the list itself travels beside it.
//!
//! The list has at most 255 entries of 64 bytes, so its root is one hash over all of it rather than a tree.

use crypto::ristretto::Element;
use domain::ShareIndex;

use crate::bytes::Reader;
use crate::dh::{DhPublic, DhPublicError};
use crate::labels;
use crate::sharing::Sharing;

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 64;

/// What is public about the share of one index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareCommitment {
    /// Hash commitment to the post-quantum share ([`crate::PqShare::commitment`]).
    pub pq: [u8; 32],
    /// Y_i = x_i * G.
    pub dh: Element,
}

impl ShareCommitment {
    /// What a custodian's stored record names the share by.
    #[must_use]
    pub fn hash(&self, sharing: &Sharing, index: ShareIndex) -> [u8; 32] {
        let parts: [&[u8]; 4] = [
            &sharing.binding(),
            &[index.get()],
            &self.pq,
            self.dh.as_bytes(),
        ];
        labels::SHARE.hash(&sharing.deployment, &parts)
    }
}

/// The commitments of every index of a sharing, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitmentList {
    sharing: Sharing,
    entries: Vec<ShareCommitment>,
}

/// Why bytes or parts are no list of commitments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitmentListError {
    /// Not n entries.
    #[error("{given} commitments for {expected} shares")]
    Length {
        /// Entries given.
        given: usize,
        /// n.
        expected: u8,
    },
    /// An entry's public key is no element, or the identity.
    #[error("the public key of share {0} is not a ristretto255 element that may be used")]
    Element(ShareIndex),
    /// The list hashes to another root.
    #[error("these are not the commitments that the ledger pins")]
    Root,
}

impl CommitmentList {
    /// Puts both legs' commitments together; `pq` has one for each index, in order.
    ///
    /// # Errors
    /// [`CommitmentListError::Length`].
    pub fn new(dh: &DhPublic, pq: &[[u8; 32]]) -> Result<Self, CommitmentListError> {
        let sharing = *dh.sharing();
        if pq.len() != usize::from(sharing.threshold.n()) {
            return Err(CommitmentListError::Length {
                given: pq.len(),
                expected: sharing.threshold.n(),
            });
        }
        let entries = pq
            .iter()
            .zip(dh.shares())
            .map(|(pq, dh)| ShareCommitment { pq: *pq, dh: *dh })
            .collect();
        Ok(Self { sharing, entries })
    }

    /// The sharing.
    #[must_use]
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// Every entry, from index 1.
    #[must_use]
    pub fn entries(&self) -> &[ShareCommitment] {
        &self.entries
    }

    /// The entry of an index; `None` when the sharing has no such index.
    #[must_use]
    pub fn entry(&self, index: ShareIndex) -> Option<&ShareCommitment> {
        let position = usize::from(index.get()).checked_sub(1)?;
        self.entries.get(position)
    }

    /// `hash(message("shares-root", binding || entry 1 || ... || entry n))`.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let parts: [&[u8]; 2] = [&self.sharing.binding(), &self.encode()];
        labels::SHARES_ROOT.hash(&self.sharing.deployment, &parts)
    }

    /// `pq commitment (32) || Y_i (32)` for each index in order.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        for entry in &self.entries {
            out.extend_from_slice(&entry.pq);
            out.extend_from_slice(entry.dh.as_bytes());
        }
        out
    }

    /// Reads a list and checks it against the root that the ledger pins for this sharing.
    ///
    /// # Errors
    /// [`CommitmentListError`].
    pub fn decode(
        sharing: Sharing,
        root: &[u8; 32],
        bytes: &[u8],
    ) -> Result<Self, CommitmentListError> {
        let expected = sharing.threshold.n();
        if bytes.len() != usize::from(expected) * ENTRY_BYTES {
            return Err(CommitmentListError::Length {
                given: bytes.len() / ENTRY_BYTES,
                expected,
            });
        }
        // The hash first: everything below then reads what custodians signed for.
        let parts: [&[u8]; 2] = [&sharing.binding(), bytes];
        if labels::SHARES_ROOT.hash(&sharing.deployment, &parts) != *root {
            return Err(CommitmentListError::Root);
        }
        let mut reader = Reader::new(bytes);
        let mut entries = Vec::with_capacity(usize::from(expected));
        for index in sharing.threshold.indices() {
            let entry = (|| {
                let pq = reader.array()?;
                let dh = Element::from_bytes(&reader.array::<32>()?).ok()?;
                Some(ShareCommitment { pq, dh })
            })();
            entries.push(entry.ok_or(CommitmentListError::Element(index))?);
        }
        Ok(Self { sharing, entries })
    }

    /// The share public keys together with the group key that they must be shares of.
    ///
    /// # Errors
    /// [`DhPublicError`] when they are shares of another key, or of none.
    pub fn dh_public(&self, group: Element) -> Result<DhPublic, DhPublicError> {
        let shares = self.entries.iter().map(|entry| entry.dh).collect();
        DhPublic::new(self.sharing, group, shares)
    }
}
