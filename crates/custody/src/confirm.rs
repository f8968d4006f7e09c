//! A custodian's word that it releases nothing any more on proofs from before a height.
//!
//! Whoever changes something about a key asks its custodians, and counts only what they have signed over a nonce drawn for this very
//! question: what a courier makes up, keeps from earlier or takes from other keys' custodians says nothing.

use std::collections::BTreeSet;

use crypto::Identity;
use crypto::identity::{Signature, SignatureError, verify};
use domain::{DeploymentId, GenesisHash, Height, KeyId, Principal, ShareIndex};
use ledger::records::Committee;

use crate::labels;

/// Bytes of the nonce.
pub const NONCE_BYTES: usize = 32;

/// What an answer is bound to: the ledger, the key, and a nonce drawn for this one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmQuestion {
    /// The ledger.
    pub chain: GenesisHash,
    /// The key whose custodians are asked.
    pub key: KeyId,
    /// Random, never used again.
    pub nonce: [u8; NONCE_BYTES],
}

/// A custodian's answer, as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Who is said to have answered.
    pub custodian: Principal,
    /// Below this height it releases nothing.
    pub height: Height,
    /// Its signature.
    pub signature: Signature,
}

impl ConfirmQuestion {
    /// Says as a custodian that it releases nothing on proofs from before `height` from now on.
    #[must_use]
    pub fn sign(
        &self,
        custodian: &Identity,
        deployment: &DeploymentId,
        height: Height,
    ) -> Confirmation {
        let principal = custodian.principal();
        let body = self.body(&principal, height);
        Confirmation {
            custodian: principal,
            height,
            signature: custodian.sign(labels::CONFIRMATION, deployment, &body),
        }
    }

    /// Checks that an answer is that custodian's to this question.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        deployment: &DeploymentId,
        answer: &Confirmation,
    ) -> Result<(), SignatureError> {
        let body = self.body(&answer.custodian, answer.height);
        verify(
            &answer.custodian,
            labels::CONFIRMATION,
            deployment,
            &body,
            &answer.signature,
        )
    }

    /// The places of a committee that have confirmed `height` or a higher one. Whatever is not signed by a serving member, for this
    /// question, does not count; nobody counts twice.
    #[must_use]
    pub fn confirmed(
        &self,
        deployment: &DeploymentId,
        committee: &Committee,
        height: Height,
        answers: &[Confirmation],
    ) -> BTreeSet<ShareIndex> {
        let counts = |answer: &Confirmation| {
            let member = committee
                .primaries()
                .find(|member| member.key == answer.custodian)?;
            let holds = answer.height >= height && self.verify(deployment, answer).is_ok();
            holds.then_some(member.slot.index)
        };
        answers.iter().filter_map(counts).collect()
    }

    /// `genesis hash (32) || custodian (32) || key (32) || nonce (32) || u64 height`.
    fn body(&self, custodian: &Principal, height: Height) -> Vec<u8> {
        [
            self.chain.as_bytes().as_slice(),
            custodian.as_bytes(),
            self.key.as_bytes(),
            &self.nonce,
            &height.0.to_be_bytes(),
        ]
        .concat()
    }
}
