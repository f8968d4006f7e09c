//! The post-quantum leg: an ML-KEM seed (d || z, FIPS 203, 7.1) dealt by Shamir's sharing, rebuilt for one operation.
//!
//! Commitments are hashes with a random opening: `share * G` would let a later quantum computer read the share. A dealer
//! that commits to shares of no single polynomial, or of another key, is found by [`check_activation`] before anyone
//! encrypts; a custodian that hands out another share than it was dealt is found by its opening, each time.
//! Whoever rebuilds learns the seed. That is the stated price of this leg (`docs/cryptography.md`).

use std::collections::BTreeSet;

use crypto::Secret;
use domain::ShareIndex;
use rand_core::CryptoRng;

use crate::commitments::CommitmentList;
use crate::labels;
use crate::shamir::{self, CombineError, Share};
use crate::sharing::Sharing;

/// Bytes of the seed and of each share of it.
pub const SEED_BYTES: usize = 64;
/// Bytes of an opening.
pub const OPENING_BYTES: usize = 32;
/// Bytes of [`PqShare::to_secret`].
pub const PQ_SHARE_BYTES: usize = SEED_BYTES + OPENING_BYTES;

/// One share with what opens its commitment.
#[derive(Debug)]
pub struct PqShare {
    share: Share<SEED_BYTES>,
    opening: Secret<OPENING_BYTES>,
}

impl PqShare {
    /// From its parts.
    #[must_use]
    pub fn new(
        index: ShareIndex,
        value: Secret<SEED_BYTES>,
        opening: Secret<OPENING_BYTES>,
    ) -> Self {
        let share = Share { index, value };
        Self { share, opening }
    }

    /// Reads `value (64) || opening (32)`.
    #[must_use]
    pub fn from_secret(index: ShareIndex, bytes: &Secret<PQ_SHARE_BYTES>) -> Option<Self> {
        let (value, opening) = bytes.expose().split_at_checked(SEED_BYTES)?;
        let value = Secret::from_slice(value)?;
        Some(Self::new(index, value, Secret::from_slice(opening)?))
    }

    /// `value (64) || opening (32)`.
    #[must_use]
    pub fn to_secret(&self) -> Secret<PQ_SHARE_BYTES> {
        let mut out = [0; PQ_SHARE_BYTES];
        let bytes = self.value().expose().iter().chain(self.opening.expose());
        for (slot, byte) in out.iter_mut().zip(bytes) {
            *slot = *byte;
        }
        Secret::take(&mut out)
    }

    /// Whose share.
    #[must_use]
    pub fn index(&self) -> ShareIndex {
        self.share.index
    }

    /// The share.
    #[must_use]
    pub fn value(&self) -> &Secret<SEED_BYTES> {
        &self.share.value
    }

    /// What opens the commitment.
    #[must_use]
    pub fn opening(&self) -> &Secret<OPENING_BYTES> {
        &self.opening
    }

    /// `hash(message("pq-share", binding || index || value || opening))`. Hides the share because the opening is random,
    /// binds it because the hash is collision-resistant.
    #[must_use]
    pub fn commitment(&self, sharing: &Sharing) -> [u8; 32] {
        let parts: [&[u8]; 4] = [
            &sharing.binding(),
            &[self.index().get()],
            self.value().expose(),
            self.opening.expose(),
        ];
        labels::PQ_SHARE.hash(&sharing.deployment, &parts)
    }

    /// Whether this is the share that the list commits to.
    #[must_use]
    pub fn opens(&self, list: &CommitmentList) -> bool {
        list.entry(self.index())
            .is_some_and(|entry| entry.pq == self.commitment(list.sharing()))
    }
}

/// A dealt seed.
#[derive(Debug)]
pub struct PqDeal {
    /// The share of each index, in order.
    pub shares: Vec<PqShare>,
    /// Its commitment, in the same order.
    pub commitments: Vec<[u8; 32]>,
}

/// Shares a seed. The caller forgets the seed and, once delivered, the shares.
#[must_use]
pub fn deal<R: CryptoRng + ?Sized>(
    sharing: &Sharing,
    seed: &Secret<SEED_BYTES>,
    rng: &mut R,
) -> PqDeal {
    let shares: Vec<PqShare> = shamir::split(seed, sharing.threshold, rng)
        .into_iter()
        .map(|share| PqShare::new(share.index, share.value, Secret::random(rng)))
        .collect();
    let commitments = shares
        .iter()
        .map(|share| share.commitment(sharing))
        .collect();
    PqDeal {
        shares,
        commitments,
    }
}

/// A rebuilt seed, and who gave something else than their share.
#[derive(Debug)]
pub struct Rebuilt {
    /// d || z.
    pub seed: Secret<SEED_BYTES>,
    /// Indices whose share did not open its commitment; the seed was rebuilt without them.
    pub culprits: Vec<ShareIndex>,
}

/// Why a seed was not rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RebuildError {
    /// Fewer than t of the shares given are what was dealt.
    #[error(
        "{good} of the shares are right and {needed} are needed; wrong ones came from {culprits:?}"
    )]
    TooFew {
        /// Shares that open their commitment.
        good: usize,
        /// t.
        needed: u8,
        /// Who gave something else.
        culprits: Vec<ShareIndex>,
    },
    /// The shares are the committed ones but do not belong together, or give another public key: what was dealt was wrong.
    /// After a passed activation check this does not happen.
    #[error("the committed shares do not give the key version's public key: its dealer cheated")]
    Dealer(DealerFault),
}

/// How a dealer cheated: its commitments open, and yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DealerFault {
    /// No polynomial of degree t - 1 goes through all shares; this index does not fit the first t.
    #[error(
        "the shares lie on no polynomial of degree t - 1: share {0} does not fit the first ones"
    )]
    Polynomial(ShareIndex),
    /// The seed's public key is not the expected one. (ML-KEM rejects implicitly, so nothing later would tell.)
    #[error("the seed's public key is not the key version's")]
    PublicKey,
}

/// Rebuilds the seed from at least t shares that open their commitments, and compares its public key.
///
/// `derive` gives the ML-KEM public key of a seed, `expected` is the key version's. An index given twice counts once.
/// Shares that open no commitment are left out and their indices returned.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild<P: PartialEq>(
    list: &CommitmentList,
    shares: &[PqShare],
    derive: impl FnOnce(&Secret<SEED_BYTES>) -> P,
    expected: &P,
) -> Result<Rebuilt, RebuildError> {
    let opened = Opened::new(list, shares);
    let culprits = opened.culprits.iter().copied().collect();
    let threshold = list.sharing().threshold;
    match shamir::combine(&opened.good, threshold) {
        Ok(seed) if derive(&seed) == *expected => Ok(Rebuilt { seed, culprits }),
        Ok(_) => Err(RebuildError::Dealer(DealerFault::PublicKey)),
        Err(CombineError::Inconsistent(index)) => {
            Err(RebuildError::Dealer(DealerFault::Polynomial(index)))
        }
        // Indices are distinct and of this sharing, or they would not have opened a commitment.
        Err(CombineError::TooFew { .. } | CombineError::Index(_)) => Err(RebuildError::TooFew {
            good: opened.good.len(),
            needed: threshold.t(),
            culprits,
        }),
    }
}

/// Why a sharing must not become active.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ActivationError {
    /// These custodians gave no share.
    #[error("no share from {0:?}")]
    Missing(Vec<ShareIndex>),
    /// These custodians gave something else than what was committed to for them.
    #[error("shares that do not open their commitment, from {0:?}")]
    Custodians(Vec<ShareIndex>),
    /// Every share opens its commitment: who made the commitments cheated.
    #[error("the dealer cheated")]
    Dealer(#[source] DealerFault),
}

/// Checks a whole sharing before it is used: all n shares are there, open their commitments, lie on one polynomial of
/// degree at most t - 1, and give the expected public key. So every t of them will rebuild it.
///
/// # Errors
/// [`ActivationError`]: names the custodians whose opening is wrong and blames the dealer only when every one is right.
pub fn check_activation<P: PartialEq>(
    list: &CommitmentList,
    shares: &[PqShare],
    derive: impl FnOnce(&Secret<SEED_BYTES>) -> P,
    expected: &P,
) -> Result<(), ActivationError> {
    let opened = Opened::new(list, shares);
    if !opened.culprits.is_empty() {
        let culprits = opened.culprits.into_iter().collect();
        return Err(ActivationError::Custodians(culprits));
    }
    let present: BTreeSet<ShareIndex> = opened.good.iter().map(|share| share.index).collect();
    let threshold = list.sharing().threshold;
    let missing: Vec<ShareIndex> = threshold
        .indices()
        .filter(|index| !present.contains(index))
        .collect();
    if !missing.is_empty() {
        return Err(ActivationError::Missing(missing));
    }
    match shamir::combine(&opened.good, threshold) {
        Ok(seed) if derive(&seed) == *expected => Ok(()),
        Ok(_) => Err(ActivationError::Dealer(DealerFault::PublicKey)),
        Err(CombineError::Inconsistent(index)) => {
            Err(ActivationError::Dealer(DealerFault::Polynomial(index)))
        }
        // All n distinct indices are present and n >= t.
        Err(CombineError::TooFew { .. } | CombineError::Index(_)) => {
            Err(ActivationError::Missing(Vec::new()))
        }
    }
}

/// Shares sorted into those that open their commitment, each index once, and those who gave anything else.
struct Opened<'a> {
    good: Vec<&'a Share<SEED_BYTES>>,
    culprits: BTreeSet<ShareIndex>,
}

impl<'a> Opened<'a> {
    fn new(list: &CommitmentList, shares: &'a [PqShare]) -> Self {
        let mut good: Vec<&Share<SEED_BYTES>> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut culprits = BTreeSet::new();
        for share in shares {
            if !share.opens(list) {
                culprits.insert(share.index());
            } else if seen.insert(share.index()) {
                good.push(&share.share);
            }
        }
        Self { good, culprits }
    }
}
