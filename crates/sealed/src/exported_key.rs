//! The public keys of a named key as a file, for encrypting without a network.
//!
//! It carries what custodians signed about one version. Who reads it must know who the custodians are and how many of them
//! it takes: from the key's creation record, from an earlier verified export, or by reading them out over the telephone.

use crypto::identity::Signature;
use crypto::kem::statement::{SIGNATURES_MAX, SignedVersion, VersionError, VersionStatement};
use crypto::kem::{KeyRef, PublicKeys};
use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, Principal, Threshold};
use serde::{Deserialize, Serialize};

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};

/// A key version with its custodians' signatures, and the deployment that they are bound to. Says nothing until verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedKey {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The signed statement.
    pub version: SignedVersion,
}

impl ExportedKey {
    /// Checks that at least t of the key's custodians signed; gives what can be encapsulated to.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn verify(
        &self,
        custodians: &[Principal],
        threshold: Threshold,
    ) -> Result<KeyRef, VersionError> {
        self.version.verify(&self.deployment, custodians, threshold)
    }

    /// Deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let statement = &self.version.statement;
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            deployment: self.deployment,
            key: statement.key,
            version: statement.version,
            epoch: statement.epoch,
            committee: statement.committee,
            t: statement.threshold.t(),
            n: statement.threshold.n(),
            pq: statement.public.pq.as_bytes().to_vec(),
            dh: *statement.public.dh.as_bytes(),
            commitments: statement.commitments,
            signatures: self
                .version
                .signatures
                .iter()
                .map(|(custodian, signature)| WireSignature {
                    custodian: *custodian,
                    signature: *signature,
                })
                .collect(),
        })
    }

    /// Reads strictly; checks the keys' encodings and no signature.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        if wire.signatures.len() > SIGNATURES_MAX {
            return Err(invalid::<Wire>("more signatures than custodians"));
        }
        let public = PublicKeys::from_bytes(&wire.pq, &wire.dh)
            .map_err(|_| invalid::<Wire>("public keys that are none"))?;
        let threshold = Threshold::new(wire.t, wire.n)
            .map_err(|_| invalid::<Wire>("a threshold from 1 to n, n at most 255"))?;
        let signatures = wire.signatures.into_iter();
        Ok(Self {
            deployment: wire.deployment,
            version: SignedVersion {
                statement: VersionStatement {
                    key: wire.key,
                    version: wire.version,
                    epoch: wire.epoch,
                    committee: wire.committee,
                    threshold,
                    public,
                    commitments: wire.commitments,
                },
                signatures: signatures
                    .map(|entry| (entry.custodian, entry.signature))
                    .collect(),
            },
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    deployment: DeploymentId,
    key: KeyId,
    version: KeyVersion,
    epoch: Epoch,
    committee: CommitteeId,
    t: u8,
    n: u8,
    #[serde(with = "serde_bytes")]
    pq: Vec<u8>,
    #[serde(with = "serde_bytes")]
    dh: [u8; 32],
    #[serde(with = "serde_bytes")]
    commitments: [u8; 32],
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    custodian: Principal,
    signature: Signature,
}

impl Typed for Wire {
    const TYPE: &'static str = "exported-key";
    /// 510 signatures of some 130 bytes, and the keys.
    const BYTES_MAX: usize = 81_920;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::kem::PqSeed;
    use crypto::ristretto::{Element, SecretScalar};
    use crypto::{Identity, Secret};

    const DEPLOYMENT: DeploymentId = DeploymentId([3; 32]);

    fn custodian(byte: u8) -> Identity {
        Identity::from_seed(Secret::take(&mut [byte; 32]))
    }

    fn exported(by: &[u8]) -> ExportedKey {
        let dh = SecretScalar::from_wide(&[5; 64]).times_base();
        let statement = VersionStatement {
            key: KeyId([1; 32]),
            version: KeyVersion::new(7).unwrap(),
            epoch: Epoch::FIRST,
            committee: CommitteeId([2; 32]),
            threshold: Threshold::new(2, 3).unwrap(),
            public: PublicKeys {
                pq: PqSeed::from_secret(Secret::take(&mut [4; 64])).public(),
                dh: Element::from_point(dh).unwrap(),
            },
            commitments: [6; 32],
        };
        let sign = |byte: &u8| {
            let who = custodian(*byte);
            (who.principal(), statement.sign(&DEPLOYMENT, &who))
        };
        let mut signatures: Vec<_> = by.iter().map(sign).collect();
        signatures.sort_by_key(|(who, _)| *who);
        ExportedKey {
            deployment: DEPLOYMENT,
            version: SignedVersion {
                statement,
                signatures,
            },
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_byte_counts() {
        let key = exported(&[1, 2, 3]);
        let custodians = [1, 2, 3].map(|byte| custodian(byte).principal());
        let threshold = Threshold::new(2, 3).unwrap();
        let bytes = key.encode();
        let read = ExportedKey::decode(&bytes).unwrap();
        assert_eq!(read, key);
        let verified = read.verify(&custodians, threshold).unwrap();
        assert_eq!(verified.version.get(), 7);
        assert_eq!(verified.deployment, DEPLOYMENT);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            let refused = match ExportedKey::decode(&altered) {
                Ok(read) => read.verify(&custodians, threshold).is_err(),
                Err(_) => true,
            };
            assert!(refused, "byte {at}");
        }
        for len in 0..bytes.len() {
            assert!(ExportedKey::decode(&bytes[..len]).is_err());
        }
    }

    #[test]
    fn the_most_signatures_fit_and_no_more() {
        let mut key = exported(&[1]);
        let entry = key.version.signatures[0];
        key.version.signatures = vec![entry; SIGNATURES_MAX];
        assert_eq!(ExportedKey::decode(&key.encode()).unwrap(), key);
        key.version.signatures.push(entry);
        assert!(matches!(
            ExportedKey::decode(&key.encode()),
            Err(RecordError::Invalid { .. })
        ));
    }
}
