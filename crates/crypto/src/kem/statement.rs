//! What custodians sign about a key version: its public keys and the root of the commitments to its shares.
//!
//! Whoever encrypts to a key trusts its public keys with everything they encrypt, so they take them only with the
//! signatures of at least t of the custodians that the key's creation record names. Each custodian signs after it has
//! checked its own share against the commitments; so at least one honest one did.

use domain::limits::SHARDS_MAX;
use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, Principal, Threshold};

use crate::identity::{self, Identity, Signature};
use crate::kem::{KeyRef, PublicKeys};
use crate::label::Label;

/// Signatures on one statement, at most: one for each share index, and as many standbys.
pub const SIGNATURES_MAX: usize = 2 * SHARDS_MAX;
/// Bytes of an encoded [`VersionStatement`].
pub const STATEMENT_BYTES: usize = 32 + 4 + 8 + 32 + 2 + 1_184 + 32 + 32;

/// A key version as its custodians sign it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatement {
    /// The named key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// The sharing that the commitments are about.
    pub epoch: Epoch,
    /// Who holds the shares.
    pub committee: CommitteeId,
    /// How many of them it takes.
    pub threshold: Threshold,
    /// Both public keys.
    pub public: PublicKeys,
    /// Root of the commitments to both legs' shares.
    pub commitments: [u8; 32],
}

/// Why public keys are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VersionError {
    /// The statement is about another threshold than the key was created with.
    #[error("the statement is about {got}, the key was created {expected}")]
    Threshold {
        /// What the creation record says.
        expected: Threshold,
        /// What the statement says.
        got: Threshold,
    },
    /// Somebody signed who is none of the key's custodians.
    #[error("{0} is not a custodian of this key")]
    Stranger(Principal),
    /// A custodian whose signature does not hold.
    #[error("the signature of custodian {0} does not hold")]
    Signature(Principal),
    /// A custodian that stands twice, or signatures out of order.
    #[error("signatures are not in ascending order of their custodians")]
    Order,
    /// Fewer custodians than the threshold.
    #[error("{got} custodians signed, {needed} have to")]
    TooFew {
        /// The threshold.
        needed: u8,
        /// Good signatures.
        got: usize,
    },
}

impl VersionStatement {
    /// `key id || u32 version || u64 epoch || committee id || t || n || ML-KEM key || ristretto255 key || commitment root`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [
            self.key.as_bytes().as_slice(),
            &self.version.get().to_be_bytes(),
            &self.epoch.get().to_be_bytes(),
            self.committee.as_bytes(),
            &[self.threshold.t(), self.threshold.n()],
            self.public.pq.as_bytes(),
            self.public.dh.as_bytes(),
            &self.commitments,
        ]
        .concat()
    }

    /// Signs as a custodian.
    #[must_use]
    pub fn sign(&self, deployment: &DeploymentId, custodian: &Identity) -> Signature {
        custodian.sign(Label::KEY_VERSION, deployment, &self.encode())
    }

    /// The key version that the statement is about.
    #[must_use]
    pub fn key_ref(&self, deployment: &DeploymentId) -> KeyRef {
        KeyRef {
            deployment: *deployment,
            key: self.key,
            version: self.version,
            public: self.public.clone(),
        }
    }
}

/// A statement with signatures; says nothing until verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedVersion {
    /// The statement.
    pub statement: VersionStatement,
    /// Who signed, ascending by principal.
    pub signatures: Vec<(Principal, Signature)>,
}

impl SignedVersion {
    /// Checks that at least t of `custodians` signed, and nobody else; gives what can be encapsulated to. `custodians` and
    /// `threshold` come from the key's creation record (or from whoever handed over the exported key), never from the
    /// statement.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn verify(
        &self,
        deployment: &DeploymentId,
        custodians: &[Principal],
        threshold: Threshold,
    ) -> Result<KeyRef, VersionError> {
        if self.statement.threshold != threshold {
            return Err(VersionError::Threshold {
                expected: threshold,
                got: self.statement.threshold,
            });
        }
        let body = self.statement.encode();
        let mut last = None;
        for (custodian, signature) in &self.signatures {
            if last >= Some(custodian) {
                return Err(VersionError::Order);
            }
            last = Some(custodian);
            if !custodians.contains(custodian) {
                return Err(VersionError::Stranger(*custodian));
            }
            identity::verify(custodian, Label::KEY_VERSION, deployment, &body, signature)
                .map_err(|_| VersionError::Signature(*custodian))?;
        }
        let got = self.signatures.len();
        if got < usize::from(threshold.t()) {
            return Err(VersionError::TooFew {
                needed: threshold.t(),
                got,
            });
        }
        Ok(self.statement.key_ref(deployment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kem::PqSeed;
    use crate::ristretto::{Element, SecretScalar};
    use crate::secret::Secret;

    const DEPLOYMENT: DeploymentId = DeploymentId([3; 32]);

    fn custodian(byte: u8) -> Identity {
        Identity::from_seed(Secret::take(&mut [byte; 32]))
    }

    fn statement() -> VersionStatement {
        let dh = SecretScalar::from_wide(&[5; 64]).times_base();
        VersionStatement {
            key: KeyId([1; 32]),
            version: KeyVersion::FIRST,
            epoch: Epoch::FIRST,
            committee: CommitteeId([2; 32]),
            threshold: Threshold::new(2, 3).unwrap(),
            public: PublicKeys {
                pq: PqSeed::from_secret(Secret::take(&mut [4; 64])).public(),
                dh: Element::from_point(dh).unwrap(),
            },
            commitments: [6; 32],
        }
    }

    fn signed(statement: VersionStatement, by: &[u8]) -> SignedVersion {
        let mut signatures: Vec<_> = by
            .iter()
            .map(|byte| custodian(*byte))
            .map(|who| (who.principal(), statement.sign(&DEPLOYMENT, &who)))
            .collect();
        signatures.sort_by_key(|(who, _)| *who);
        SignedVersion {
            statement,
            signatures,
        }
    }

    #[test]
    fn at_least_t_custodians_and_nobody_else() {
        let custodians: Vec<Principal> = [1, 2, 3].map(|byte| custodian(byte).principal()).to_vec();
        let threshold = Threshold::new(2, 3).unwrap();
        let verify = |version: &SignedVersion| version.verify(&DEPLOYMENT, &custodians, threshold);
        let good = signed(statement(), &[1, 3]);
        assert_eq!(verify(&good), Ok(statement().key_ref(&DEPLOYMENT)));
        assert!(verify(&signed(statement(), &[1, 2, 3])).is_ok());
        assert_eq!(
            verify(&signed(statement(), &[2])),
            Err(VersionError::TooFew { needed: 2, got: 1 })
        );
        let stranger = custodian(9).principal();
        assert_eq!(
            verify(&signed(statement(), &[1, 2, 9])),
            Err(VersionError::Stranger(stranger))
        );
        let mut twice = signed(statement(), &[1]);
        twice.signatures.push(twice.signatures[0]);
        assert_eq!(verify(&twice), Err(VersionError::Order));
        let mut backwards = good.clone();
        backwards.signatures.reverse();
        assert_eq!(verify(&backwards), Err(VersionError::Order));
        // Whoever holds one custodian cannot say that one is enough.
        let mut alone = statement();
        alone.threshold = Threshold::new(1, 3).unwrap();
        assert!(matches!(
            verify(&signed(alone, &[1])),
            Err(VersionError::Threshold { .. })
        ));
        assert!(matches!(
            good.verify(&DeploymentId([4; 32]), &custodians, threshold),
            Err(VersionError::Signature(_))
        ));
    }

    #[test]
    fn every_byte_of_the_statement_is_signed() {
        assert_eq!(statement().encode().len(), STATEMENT_BYTES);
        let custodians: Vec<Principal> = [1, 2, 3].map(|byte| custodian(byte).principal()).to_vec();
        let other_pq = PqSeed::from_secret(Secret::take(&mut [5; 64])).public();
        let other_dh = Element::from_point(SecretScalar::from_wide(&[6; 64]).times_base()).unwrap();
        let changes: [&dyn Fn(&mut VersionStatement); 8] = [
            &|s| s.key = KeyId([9; 32]),
            &|s| s.version = KeyVersion::new(2).unwrap(),
            &|s| s.epoch = Epoch::new(2).unwrap(),
            &|s| s.committee = CommitteeId([9; 32]),
            &|s| s.threshold = Threshold::new(2, 4).unwrap(),
            &|s| s.public.pq = other_pq.clone(),
            &|s| s.public.dh = other_dh,
            &|s| s.commitments = [9; 32],
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut version = signed(statement(), &[1, 2, 3]);
            change(&mut version.statement);
            let threshold = version.statement.threshold;
            let refused = version.verify(&DEPLOYMENT, &custodians, threshold);
            assert!(
                matches!(refused, Err(VersionError::Signature(_))),
                "{number}"
            );
        }
    }
}
