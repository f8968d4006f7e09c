//! Which sharing of which key something is about.

use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, Threshold};

use crate::bytes::Reader;

/// One sharing of one key version. Every hash, proof and message of this crate is bound to all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sharing {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The named key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// Which sharing of that version.
    pub epoch: Epoch,
    /// Who holds it.
    pub committee: CommitteeId,
    /// How many of them open.
    pub threshold: Threshold,
}

impl Sharing {
    /// Bytes of [`Sharing::binding`].
    pub const BINDING_BYTES: usize = 32 + 4 + 8 + 32 + 1 + 1;

    /// `key id (32) || u32 version || u64 epoch || committee id (32) || t || n`; the deployment is in the label.
    #[must_use]
    pub fn binding(&self) -> [u8; Self::BINDING_BYTES] {
        let mut out = [0; Self::BINDING_BYTES];
        let parts: [&[u8]; 6] = [
            self.key.as_bytes(),
            &self.version.get().to_be_bytes(),
            &self.epoch.get().to_be_bytes(),
            self.committee.as_bytes(),
            &[self.threshold.t()],
            &[self.threshold.n()],
        ];
        for (slot, byte) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *slot = *byte;
        }
        out
    }

    /// Reads what [`Sharing::binding`] gives; `None` for numbers out of range.
    pub(crate) fn read(reader: &mut Reader<'_>, deployment: DeploymentId) -> Option<Self> {
        Some(Self {
            deployment,
            key: KeyId(reader.array()?),
            version: KeyVersion::new(u32::from_be_bytes(reader.array()?)).ok()?,
            epoch: Epoch::new(u64::from_be_bytes(reader.array()?)).ok()?,
            committee: CommitteeId(reader.array()?),
            threshold: Threshold::new(reader.byte()?, reader.byte()?).ok()?,
        })
    }
}
