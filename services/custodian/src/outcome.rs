//! What is stored of a key generation until a share is held: `committee (32) || t || n || index || x_i (32) || group (32) || Y_1 to
//! Y_n (32 each)`, under the key version, fencing number and attempt.

use crypto::Secret;
use crypto::ristretto::{Element, SecretScalar};
use custody::ShareName;
use custody::version::DhOutcome;
use domain::{CommitteeId, DeploymentId, Epoch, ShareIndex, Threshold};
use threshold::dkg::Outcome;
use threshold::{DhPublic, DhShare, Sharing};
use zeroize::Zeroizing;

pub(crate) fn encode(outcome: &Outcome) -> Zeroizing<Vec<u8>> {
    let sharing = outcome.share.sharing();
    let mut out = Zeroizing::new(Vec::with_capacity(99 + 32 * outcome.public.shares().len()));
    out.extend_from_slice(sharing.committee.as_bytes());
    out.push(sharing.threshold.t());
    out.push(sharing.threshold.n());
    out.push(outcome.share.index().get());
    out.extend_from_slice(outcome.share.danger_secret().to_secret().expose());
    out.extend_from_slice(outcome.public.group().as_bytes());
    for share in outcome.public.shares() {
        out.extend_from_slice(share.as_bytes());
    }
    out
}

/// `None` for bytes that are no outcome, or one that contradicts itself.
pub(crate) fn decode(
    deployment: &DeploymentId,
    name: &ShareName,
    attempt: u8,
    bytes: &[u8],
) -> Option<DhOutcome> {
    let (committee, rest) = bytes.split_first_chunk::<32>()?;
    let ([t, n, index], rest) = rest.split_first_chunk::<3>()?;
    let (secret, rest) = rest.split_at_checked(32)?;
    let (group, rest) = rest.split_at_checked(32)?;
    let sharing = Sharing {
        deployment: *deployment,
        key: name.key,
        version: name.version,
        epoch: Epoch::FIRST,
        committee: CommitteeId(*committee),
        threshold: Threshold::new(*t, *n).ok()?,
    };
    let secret = SecretScalar::from_secret(&Secret::from_slice(secret)?)?;
    let share = DhShare::new(sharing, ShareIndex::new(*index).ok()?, secret).ok()?;
    let shares: Option<Vec<Element>> = rest
        .chunks(32)
        .map(|bytes| Element::from_bytes(bytes).ok())
        .collect();
    let group = Element::from_bytes(group).ok()?;
    let public = DhPublic::new(sharing, group, shares?).ok()?;
    (public.share(share.index()) == Some(share.public())).then_some(DhOutcome {
        attempt,
        share,
        public,
    })
}
