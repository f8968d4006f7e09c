//! What a custodian stores of one sharing, before its store seals it.
//!
//! ```text
//! 01                                    version of this layout
//! key id (32)  u32 version  u64 epoch   which sharing
//! committee id (32)  t  n
//! index  standby (00 or 01)  platform
//! share (64)  opening (32)              post-quantum leg
//! x_i (32)                              threshold leg
//! share hash (32)                       what the ledger's root commits to for this index
//! ```
//! 242 bytes. Epoch, committee, slot and platform stand in every record from the first day.

use crypto::Secret;
use crypto::ristretto::SecretScalar;
use domain::{DeploymentId, PlatformType, ShareIndex, Slot};
use zeroize::Zeroizing;

use crate::bytes::Reader;
use crate::commitments::{CommitmentList, ShareCommitment};
use crate::dh::DhShare;
use crate::pq::{OPENING_BYTES, PqShare, SEED_BYTES};
use crate::sharing::Sharing;

/// Bytes of an encoded record.
pub const RECORD_BYTES: usize =
    1 + Sharing::BINDING_BYTES + 1 + 1 + 1 + SEED_BYTES + OPENING_BYTES + 32 + 32;

const VERSION: u8 = 1;

/// One custodian's shares of both legs, with what they belong to.
#[derive(Debug)]
pub struct CustodianRecord {
    slot: Slot,
    platform: PlatformType,
    pq: PqShare,
    dh: DhShare,
    share_hash: [u8; 32],
}

/// Why bytes or shares are no custodian's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A later layout.
    #[error("custodian records of version {0} are not known here: use a newer strongroom")]
    UnsupportedVersion(u8),
    /// Another length, or a field out of its range.
    #[error("not a custodian record of {RECORD_BYTES} bytes")]
    Malformed,
    /// The fields are well-formed but do not belong together: the shares hash to something else than the record says, or
    /// are of another index.
    #[error("the shares in the record are not those that it names")]
    Inconsistent,
}

impl CustodianRecord {
    /// Puts a custodian's shares together after checking them against what the ledger pins.
    ///
    /// # Errors
    /// [`RecordError::Inconsistent`] when the post-quantum share does not open its commitment, or the other is not the one
    /// behind the listed public key: the custodian must not acknowledge such shares.
    pub fn new(
        list: &CommitmentList,
        standby: bool,
        platform: PlatformType,
        pq: PqShare,
        dh: DhShare,
    ) -> Result<Self, RecordError> {
        let index = dh.index();
        let entry = list.entry(index).ok_or(RecordError::Inconsistent)?;
        let record = Self {
            slot: Slot { index, standby },
            platform,
            pq,
            dh,
            share_hash: entry.hash(list.sharing(), index),
        };
        if record.dh.sharing() != list.sharing() || !record.is_consistent() {
            return Err(RecordError::Inconsistent);
        }
        Ok(record)
    }

    /// Which sharing.
    #[must_use]
    pub fn sharing(&self) -> &Sharing {
        self.dh.sharing()
    }

    /// Which index, and whether this copy serves or waits.
    #[must_use]
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// What protects the store that this lies in.
    #[must_use]
    pub fn platform(&self) -> PlatformType {
        self.platform
    }

    /// The share of the post-quantum leg.
    #[must_use]
    pub fn pq(&self) -> &PqShare {
        &self.pq
    }

    /// The share of the threshold leg.
    #[must_use]
    pub fn dh(&self) -> &DhShare {
        &self.dh
    }

    /// [`ShareCommitment::hash`] of this index: compared with the ledger's list to see that the store was not rolled back.
    #[must_use]
    pub fn share_hash(&self) -> &[u8; 32] {
        &self.share_hash
    }

    /// The layout above, wiped when dropped.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(RECORD_BYTES));
        out.push(VERSION);
        out.extend_from_slice(&self.sharing().binding());
        out.push(self.slot.index.get());
        out.push(u8::from(self.slot.standby));
        out.push(self.platform.code());
        out.extend_from_slice(self.pq.value().expose());
        out.extend_from_slice(self.pq.opening().expose());
        out.extend_from_slice(self.dh.danger_secret().to_secret().expose());
        out.extend_from_slice(&self.share_hash);
        out
    }

    /// Reads a record of this deployment and recomputes the share hash from the shares themselves.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(deployment: DeploymentId, bytes: &[u8]) -> Result<Self, RecordError> {
        match bytes.first() {
            Some(&VERSION) if bytes.len() == RECORD_BYTES => {}
            Some(&version) if version > VERSION => {
                return Err(RecordError::UnsupportedVersion(version));
            }
            _ => return Err(RecordError::Malformed),
        }
        let record = Self::read(deployment, bytes).ok_or(RecordError::Malformed)?;
        if record.is_consistent() {
            return Ok(record);
        }
        Err(RecordError::Inconsistent)
    }

    fn read(deployment: DeploymentId, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.byte()?;
        let sharing = Sharing::read(&mut reader, deployment)?;
        let index = ShareIndex::new(reader.byte()?).ok()?;
        let standby = match reader.byte()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let platform = PlatformType::try_from(reader.byte()?).ok()?;
        let value = Secret::from_slice(reader.slice(SEED_BYTES)?)?;
        let opening = Secret::from_slice(reader.slice(OPENING_BYTES)?)?;
        let secret = SecretScalar::from_secret(&Secret::from_slice(reader.slice(32)?)?)?;
        let share_hash = reader.array()?;
        reader.end()?;
        Some(Self {
            slot: Slot { index, standby },
            platform,
            pq: PqShare::new(index, value, opening),
            dh: DhShare::new(sharing, index, secret).ok()?,
            share_hash,
        })
    }

    fn is_consistent(&self) -> bool {
        let own = ShareCommitment {
            pq: self.pq.commitment(self.sharing()),
            dh: *self.dh.public(),
        };
        self.pq.index() == self.slot.index
            && own.hash(self.sharing(), self.slot.index) == self.share_hash
    }
}
