//! The data encryption key of one object version, and what is derived from it.

use aws_lc_rs::hmac;
use domain::{BucketId, DeploymentId, EnvelopeId, VersionId};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::context::ContextHash;
use crate::kdf::hkdf;
use crate::label::Label;
use crate::sealed_box;
use crate::secret::Secret;

/// 256 random bits for one object version, in one deployment.
///
/// Derived from it, all by HKDF-SHA-256 with `info` = label, deployment id, body: a key per chunk (salt: the chunk's),
/// the commitment in the manifest, the key of the manifest's HMAC, and a key per sealed metadata.
#[derive(Debug)]
pub struct Dek {
    key: Secret<32>,
    deployment: DeploymentId,
}

/// Says which DEK a manifest is for without showing anything of it: HKDF-SHA-256 under its own label. Binding, because
/// finding two DEKs with one commitment is finding a SHA-256 collision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DekCommitment(pub [u8; 32]);

/// The HMAC-SHA-256 of a content manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestMac(pub [u8; 32]);

impl Dek {
    /// Draws a DEK.
    #[must_use]
    pub fn random(rng: &mut dyn CryptoRng, deployment: DeploymentId) -> Self {
        Self::new(Secret::random(rng), deployment)
    }

    /// From a key that was unwrapped or kept in sealed local state.
    #[must_use]
    pub fn new(key: Secret<32>, deployment: DeploymentId) -> Self {
        Self { key, deployment }
    }

    /// The key itself, for wrapping and for sealed local state.
    #[must_use]
    pub fn danger_key(&self) -> &Secret<32> {
        &self.key
    }

    /// The deployment that every derivation is bound to.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// What the manifest carries to tell a wrong DEK from damaged data.
    #[must_use]
    pub fn commitment(&self) -> DekCommitment {
        let derived: Secret<32> = self.derive(&[], Label::DEK_COMMITMENT, &[]);
        DekCommitment(*derived.expose())
    }

    /// HMAC-SHA-256 of an encoded manifest (without its `mac`) under a key derived for nothing else.
    #[must_use]
    pub fn manifest_mac(&self, manifest: &[u8]) -> ManifestMac {
        let tag = hmac::sign(&self.mac_key(), manifest);
        ManifestMac(tag.as_ref().try_into().expect("HMAC-SHA-256 has 32 bytes"))
    }

    /// Checks [`Dek::manifest_mac`] in constant time.
    #[must_use]
    pub fn manifest_mac_matches(&self, manifest: &[u8], mac: &ManifestMac) -> bool {
        hmac::verify(&self.mac_key(), manifest, &mac.0).is_ok()
    }

    /// Seals user metadata for one version of one object: `salt (16) || ciphertext || tag (16)`.
    #[must_use]
    pub fn seal_metadata(
        &self,
        rng: &mut dyn CryptoRng,
        bucket: &BucketId,
        version: &VersionId,
        plaintext: &[u8],
    ) -> Vec<u8> {
        sealed_box::seal(
            rng,
            &self.key,
            &self.metadata_info(bucket, version),
            &[],
            plaintext,
        )
    }

    /// Opens what [`Dek::seal_metadata`] made; `None` when it is another version's, under another DEK, or altered.
    #[must_use]
    pub fn open_metadata(
        &self,
        bucket: &BucketId,
        version: &VersionId,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        sealed_box::open(&self.key, &self.metadata_info(bucket, version), &[], sealed)
    }

    /// Seals the payload of an envelope: `salt (16) || ciphertext || tag (16)`.
    #[must_use]
    pub fn seal_payload(
        &self,
        rng: &mut dyn CryptoRng,
        envelope: &EnvelopeId,
        context: &ContextHash,
        plaintext: &[u8],
    ) -> Vec<u8> {
        let info = self.payload_info(envelope, context);
        sealed_box::seal(rng, &self.key, &info, &[], plaintext)
    }

    /// Opens what [`Dek::seal_payload`] made; `None` when it is another envelope's, under another context or DEK, or
    /// altered.
    #[must_use]
    pub fn open_payload(
        &self,
        envelope: &EnvelopeId,
        context: &ContextHash,
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let info = self.payload_info(envelope, context);
        sealed_box::open(&self.key, &info, &[], sealed)
    }

    /// The DEK of one chunk of an envelope's stream: bound to the chunk's place and to whether it is the last, so that
    /// chunks cannot be exchanged, repeated, left out or cut off.
    #[must_use]
    pub fn envelope_chunk(
        &self,
        envelope: &EnvelopeId,
        context: &ContextHash,
        index: u64,
        last: bool,
    ) -> Self {
        let body = [
            envelope.as_bytes().as_slice(),
            &context.0,
            &index.to_be_bytes(),
            &[u8::from(last)],
        ]
        .concat();
        Self {
            key: self.derive(&[], Label::ENVELOPE_CHUNK, &body),
            deployment: self.deployment,
        }
    }

    fn payload_info(&self, envelope: &EnvelopeId, context: &ContextHash) -> Vec<u8> {
        let body = [envelope.as_bytes().as_slice(), &context.0].concat();
        Label::ENVELOPE_PAYLOAD.message(&self.deployment, &body)
    }

    pub(crate) fn derive<const N: usize>(
        &self,
        salt: &[u8],
        label: Label,
        body: &[u8],
    ) -> Secret<N> {
        hkdf(
            self.key.expose(),
            salt,
            &label.message(&self.deployment, body),
        )
    }

    fn mac_key(&self) -> hmac::Key {
        let key: Secret<32> = self.derive(&[], Label::MANIFEST_MAC, &[]);
        hmac::Key::new(hmac::HMAC_SHA256, key.expose())
    }

    fn metadata_info(&self, bucket: &BucketId, version: &VersionId) -> Vec<u8> {
        let mut body = Vec::with_capacity(BucketId::LEN + VersionId::LEN);
        body.extend_from_slice(bucket.as_bytes());
        body.extend_from_slice(version.as_bytes());
        Label::METADATA.message(&self.deployment, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dek(key: u8, deployment: u8) -> Dek {
        Dek::new(Secret::take(&mut [key; 32]), DeploymentId([deployment; 32]))
    }

    #[test]
    fn commitment_and_mac_follow_key_and_deployment() {
        let base = dek(1, 1);
        assert_eq!(base.commitment(), dek(1, 1).commitment());
        let mac = base.manifest_mac(b"manifest");
        assert!(base.manifest_mac_matches(b"manifest", &mac));
        assert!(!base.manifest_mac_matches(b"manifesT", &mac));
        for other in [dek(2, 1), dek(1, 2)] {
            assert_ne!(other.commitment(), base.commitment());
            assert!(!other.manifest_mac_matches(b"manifest", &mac));
        }
    }

    #[test]
    fn payloads_and_chunk_keys_are_bound_to_envelope_context_and_dek() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let (id, context) = (EnvelopeId([1; 16]), ContextHash([2; 32]));
        let sealed = dek(1, 1).seal_payload(&mut rng, &id, &context, b"text");
        let open = |dek: Dek, id, context| dek.open_payload(&id, &context, &sealed);
        assert_eq!(open(dek(1, 1), id, context).unwrap().as_slice(), b"text");
        assert!(open(dek(2, 1), id, context).is_none());
        assert!(open(dek(1, 2), id, context).is_none());
        assert!(open(dek(1, 1), EnvelopeId([9; 16]), context).is_none());
        assert!(open(dek(1, 1), id, ContextHash([9; 32])).is_none());
        let base = dek(1, 1).envelope_chunk(&id, &context, 5, false);
        let same = dek(1, 1).envelope_chunk(&id, &context, 5, false);
        assert!(base.danger_key().ct_eq(same.danger_key()));
        for other in [
            dek(2, 1).envelope_chunk(&id, &context, 5, false),
            dek(1, 2).envelope_chunk(&id, &context, 5, false),
            dek(1, 1).envelope_chunk(&EnvelopeId([9; 16]), &context, 5, false),
            dek(1, 1).envelope_chunk(&id, &ContextHash([9; 32]), 5, false),
            dek(1, 1).envelope_chunk(&id, &context, 6, false),
            dek(1, 1).envelope_chunk(&id, &context, 5, true),
        ] {
            assert!(!base.danger_key().ct_eq(other.danger_key()));
        }
    }

    #[test]
    fn metadata_is_bound_to_bucket_version_and_dek() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let (bucket, version) = (BucketId([1; 32]), VersionId([2; 16]));
        let sealed = dek(1, 1).seal_metadata(&mut rng, &bucket, &version, b"text/plain");
        let open = |dek: Dek, bucket, version| dek.open_metadata(&bucket, &version, &sealed);
        assert_eq!(
            open(dek(1, 1), bucket, version).unwrap().as_slice(),
            b"text/plain"
        );
        assert!(open(dek(2, 1), bucket, version).is_none());
        assert!(open(dek(1, 2), bucket, version).is_none());
        assert!(open(dek(1, 1), BucketId([3; 32]), version).is_none());
        assert!(open(dek(1, 1), bucket, VersionId([3; 16])).is_none());
    }
}
