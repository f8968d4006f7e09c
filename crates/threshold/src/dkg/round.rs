//! FROST's key generation behind plain types, and the pads that hide shares on their way.

use std::collections::BTreeMap;

use crypto::ristretto::{Element, SecretScalar};
use curve25519_dalek::ristretto::RistrettoPoint;
use domain::ShareIndex;
use frost_ristretto255::keys::dkg::{part1, part2, part3, round1, round2};
use frost_ristretto255::keys::{SecretShare, SigningShare, VerifiableSecretSharingCommitment};
use frost_ristretto255::rand_core as old_rand_core;
use frost_ristretto255::{Ciphersuite as _, Identifier, Ristretto255Sha512, Signature};
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use super::message::{BINDING_BYTES, Setting};
use crate::bytes::Reader;
use crate::dh::{DhPublic, DhShare};
use crate::dleq::{Proof, Statement};
use crate::labels;

/// What a party keeps between its commit and its deal.
pub(super) struct Opening {
    package: round1::SecretPackage,
    ephemeral: SecretScalar,
}

/// What a party keeps between its deal and its share.
pub(super) struct Dealt {
    package: round2::SecretPackage,
    ephemeral: SecretScalar,
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opening(redacted)")
    }
}

impl std::fmt::Debug for Dealt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dealt(redacted)")
    }
}

/// A commit that holds.
#[derive(Clone, Debug)]
pub(super) struct CommitBody {
    package: round1::Package,
    pub(super) ephemeral: Element,
}

/// FROST refused what had been checked before: a bug of ours, and nobody's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused;

/// Draws a polynomial and an ephemeral key; gives what is kept and the commit's payload.
pub(super) fn commit(
    setting: &Setting,
    me: ShareIndex,
    rng: &mut dyn CryptoRng,
) -> Result<(Opening, Vec<u8>), Refused> {
    let threshold = setting.sharing().threshold;
    let (package, public) = part1(
        identifier(me)?,
        u16::from(threshold.n()),
        u16::from(threshold.t()),
        OldRng(rng),
    )
    .map_err(|_| Refused)?;
    let ephemeral = SecretScalar::random(rng);
    let mut payload = public.commitment().serialize_whole().map_err(|_| Refused)?;
    payload.extend(
        public
            .proof_of_knowledge()
            .serialize()
            .map_err(|_| Refused)?,
    );
    payload.extend_from_slice(ephemeral.times_base().compress().as_bytes());
    Ok((Opening { package, ephemeral }, payload))
}

impl CommitBody {
    /// `None` when a point is not canonical or the identity, or when the proof of possession does not hold.
    pub(super) fn read(setting: &Setting, sender: ShareIndex, payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let coefficients: Option<Vec<[u8; 32]>> =
            (0..setting.t()).map(|_| reader.array()).collect();
        let coefficients = coefficients?;
        let proof: [u8; 64] = reader.array()?;
        let ephemeral = Element::from_bytes(&reader.array::<32>()?).ok()?;
        reader.end()?;
        let commitment = VerifiableSecretSharingCommitment::deserialize(&coefficients).ok()?;
        if !is_possessed(sender, coefficients.first()?, &proof) {
            return None;
        }
        let proof = Signature::deserialize(&proof).ok()?;
        Some(Self {
            package: round1::Package::new(commitment, proof),
            ephemeral,
        })
    }

    /// Whether `share` is this polynomial's value at `index` (Feldman).
    pub(super) fn fits(&self, index: ShareIndex, share: &[u8; 32]) -> bool {
        let (Ok(identifier), Ok(share)) = (identifier(index), SigningShare::deserialize(share))
        else {
            return false;
        };
        let commitment = self.package.commitment().clone();
        SecretShare::new(identifier, share, commitment)
            .verify()
            .is_ok()
    }
}

/// FROST's proof of possession (figure 1, round 1, step 5): `R = z * G - c * phi_0`, `c = HDKG(index, phi_0, R)`. FROST
/// checks it again in its second part; it is checked here as it comes in, so that its maker can be named at once.
fn is_possessed(sender: ShareIndex, constant: &[u8; 32], proof: &[u8; 64]) -> bool {
    (|| {
        let mut reader = Reader::new(proof);
        let commitment: [u8; 32] = reader.array()?;
        let response = crypto::ristretto::scalar_from_bytes(&reader.array()?)?;
        Element::from_bytes(&commitment).ok()?;
        let constant = Element::from_bytes(constant).ok()?;
        let mut preimage = identifier(sender).ok()?.serialize();
        preimage.extend_from_slice(constant.as_bytes());
        preimage.extend_from_slice(&commitment);
        let challenge = Ristretto255Sha512::HDKG(&preimage)?;
        let expected = RistrettoPoint::vartime_double_scalar_mul_basepoint(
            &-challenge,
            constant.point(),
            &response,
        );
        (expected.compress().as_bytes() == &commitment).then_some(())
    })()
    .is_some()
}

/// Computes every other party's share and hides it. All commits must be there, the party's own included.
pub(super) fn deal(
    setting: &Setting,
    me: ShareIndex,
    opening: Opening,
    commits: &BTreeMap<ShareIndex, CommitBody>,
) -> Result<(Dealt, Vec<[u8; 32]>), Refused> {
    let others = others(me, commits)?;
    let own = Element::from_point(opening.ephemeral.times_base()).map_err(|_| Refused)?;
    let (package, shares) = part2(opening.package, &others).map_err(|_| Refused)?;
    let mut hidden = Vec::with_capacity(shares.len());
    for (to, commit) in commits.iter().filter(|(to, _)| **to != me) {
        let share = shares.get(&identifier(*to)?).ok_or(Refused)?;
        let mut bytes = Zeroizing::new(share.signing_share().serialize());
        let shared = shared(&opening.ephemeral, &commit.ephemeral)?;
        let pad = Pad {
            from: me,
            to: *to,
            from_ephemeral: &own,
            to_ephemeral: &commit.ephemeral,
        };
        let pad = pad.derive(setting, &shared);
        let mut out = [0; 32];
        for (slot, (byte, mask)) in out.iter_mut().zip(bytes.iter().zip(pad.iter())) {
            *slot = byte ^ mask;
        }
        bytes.zeroize();
        hidden.push(out);
    }
    let dealt = Dealt {
        package,
        ephemeral: opening.ephemeral,
    };
    Ok((dealt, hidden))
}

impl Dealt {
    /// The share that `from` hid for this party.
    pub(super) fn open(
        &self,
        setting: &Setting,
        (from, me): (ShareIndex, ShareIndex),
        (their_commit, own_commit): (&CommitBody, &CommitBody),
        hidden: &[u8; 32],
    ) -> Result<Zeroizing<[u8; 32]>, Refused> {
        let shared = shared(&self.ephemeral, &their_commit.ephemeral)?;
        let pad = Pad {
            from,
            to: me,
            from_ephemeral: &their_commit.ephemeral,
            to_ephemeral: &own_commit.ephemeral,
        };
        Ok(pad.open(setting, &shared, hidden))
    }

    /// The element that opens the pad of `from`'s share, with a proof that it does. It opens no other attempt's.
    pub(super) fn show(
        &self,
        setting: &Setting,
        (from, me): (ShareIndex, ShareIndex),
        (their_commit, own_commit): (&CommitBody, &CommitBody),
        rng: &mut dyn CryptoRng,
    ) -> Result<(Element, Proof), Refused> {
        let shared = shared(&self.ephemeral, &their_commit.ephemeral)?;
        let context = complaint_context(setting, from, me);
        let statement = Statement {
            label: labels::DKG_COMPLAINT,
            deployment: &setting.sharing().deployment,
            context: &context,
            base: &their_commit.ephemeral,
            public: &own_commit.ephemeral,
            power: &shared,
        };
        let proof = Proof::make(&statement, &self.ephemeral, rng);
        Ok((shared, proof))
    }

    /// Sums the shares, which have all been found to fit, and derives everyone's public key.
    pub(super) fn finish(
        &self,
        setting: &Setting,
        me: ShareIndex,
        commits: &BTreeMap<ShareIndex, CommitBody>,
        shares: &BTreeMap<ShareIndex, Zeroizing<[u8; 32]>>,
    ) -> Result<(DhShare, DhPublic), Refused> {
        let packages: Result<BTreeMap<Identifier, round2::Package>, Refused> = shares
            .iter()
            .map(|(from, share)| {
                let share = SigningShare::deserialize(share.as_slice()).map_err(|_| Refused)?;
                Ok((identifier(*from)?, round2::Package::new(share)))
            })
            .collect();
        let (key, public) =
            part3(&self.package, &others(me, commits)?, &packages?).map_err(|_| Refused)?;
        let element = |bytes: Vec<u8>| Element::from_bytes(&bytes).map_err(|_| Refused);
        let group = public.verifying_key().serialize().map_err(|_| Refused)?;
        let shares: Result<Vec<Element>, Refused> = setting
            .indices()
            .map(|index| {
                let share = public.verifying_shares().get(&identifier(index)?);
                element(share.ok_or(Refused)?.serialize().map_err(|_| Refused)?)
            })
            .collect();
        let public =
            DhPublic::new(*setting.sharing(), element(group)?, shares?).map_err(|_| Refused)?;
        let mut secret = Zeroizing::new(key.signing_share().serialize());
        let bytes = crypto::Secret::from_slice(&secret).ok_or(Refused)?;
        secret.zeroize();
        let secret = SecretScalar::from_secret(&bytes).ok_or(Refused)?;
        let share = DhShare::new(*setting.sharing(), me, secret).map_err(|_| Refused)?;
        Ok((share, public))
    }
}

/// One share on its way.
pub(super) struct Pad<'a> {
    pub(super) from: ShareIndex,
    pub(super) to: ShareIndex,
    pub(super) from_ephemeral: &'a Element,
    pub(super) to_ephemeral: &'a Element,
}

impl Pad<'_> {
    fn derive(&self, setting: &Setting, shared: &Element) -> Zeroizing<[u8; 32]> {
        let parts: [&[u8]; 5] = [
            setting.binding(),
            &[self.from.get(), self.to.get()],
            self.from_ephemeral.as_bytes(),
            self.to_ephemeral.as_bytes(),
            shared.as_bytes(),
        ];
        let deployment = &setting.sharing().deployment;
        Zeroizing::new(labels::DKG_SHARE.hash(deployment, &parts))
    }

    /// Takes the pad off.
    pub(super) fn open(
        &self,
        setting: &Setting,
        shared: &Element,
        hidden: &[u8; 32],
    ) -> Zeroizing<[u8; 32]> {
        let mut share = self.derive(setting, shared);
        for (byte, mask) in share.iter_mut().zip(hidden) {
            *byte ^= mask;
        }
        share
    }

    /// Whether `shared` is the element behind this pad.
    pub(super) fn is_shown(&self, setting: &Setting, shared: &Element, proof: &Proof) -> bool {
        let context = complaint_context(setting, self.from, self.to);
        proof.holds(&Statement {
            label: labels::DKG_COMPLAINT,
            deployment: &setting.sharing().deployment,
            context: &context,
            base: self.from_ephemeral,
            public: self.to_ephemeral,
            power: shared,
        })
    }
}

fn complaint_context(
    setting: &Setting,
    from: ShareIndex,
    to: ShareIndex,
) -> [u8; BINDING_BYTES + 2] {
    let mut out = [0; BINDING_BYTES + 2];
    let bytes = setting.binding().iter().copied();
    for (slot, byte) in out.iter_mut().zip(bytes.chain([from.get(), to.get()])) {
        *slot = byte;
    }
    out
}

fn shared(own: &SecretScalar, theirs: &Element) -> Result<Element, Refused> {
    Element::from_point(theirs.point() * own.danger_scalar()).map_err(|_| Refused)
}

fn others(
    me: ShareIndex,
    commits: &BTreeMap<ShareIndex, CommitBody>,
) -> Result<BTreeMap<Identifier, round1::Package>, Refused> {
    commits
        .iter()
        .filter(|(index, _)| **index != me)
        .map(|(index, commit)| Ok((identifier(*index)?, commit.package.clone())))
        .collect()
}

fn identifier(index: ShareIndex) -> Result<Identifier, Refused> {
    Identifier::try_from(u16::from(index.get())).map_err(|_| Refused)
}

/// FROST's generation of `rand_core` over ours.
struct OldRng<'a>(&'a mut dyn CryptoRng);

impl old_rand_core::RngCore for OldRng<'_> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), old_rand_core::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

impl old_rand_core::CryptoRng for OldRng<'_> {}
