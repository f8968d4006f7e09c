//! Domain separation: what a derivation or a signature is for, and in which deployment.

use domain::DeploymentId;

/// What bytes are derived or signed for. The wire form is `strongroom/v1/<name>`.
///
/// A name has only `a-z`, `0-9` and `-`, so the zero byte that ends it in a message cannot be part of one: no label is
/// a prefix of another's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

impl Label {
    /// Signs an X-Wing receiver key ([`crate::identity::ReceiverKey`]).
    pub const RECEIVER: Self = Self::new("receiver");
    /// Signs a bucket record.
    pub const BUCKET: Self = Self::new("bucket");
    /// Derives a bucket's id.
    pub const BUCKET_ID: Self = Self::new("bucket-id");
    /// Signs a bucket key record.
    pub const BUCKET_KEY: Self = Self::new("bucket-key");
    /// Derives the public commitment to a bucket key.
    pub const BUCKET_KEY_COMMITMENT: Self = Self::new("bucket-key-commitment");
    /// Signs an entry.
    pub const ENTRY: Self = Self::new("entry");
    /// Signs a bearer token.
    pub const TOKEN: Self = Self::new("token");
    /// Signs the handshake on a Unix socket.
    pub const SOCKET_HANDSHAKE: Self = Self::new("socket-handshake");
    /// Hashes what attestation evidence binds to a TLS session.
    pub const REPORT_DATA: Self = Self::new("report-data");
    /// Hashes a platform's code-measuring registers.
    pub const MEASUREMENT: Self = Self::new("measurement");
    /// Signs a statement of the software platform.
    pub const SOFTWARE_EVIDENCE: Self = Self::new("software-evidence");
    /// Derives the key of one sealed store from a role's sealing root.
    pub const SEALED_STORE: Self = Self::new("sealed-store");
    /// Derives the key of one writing session of a sealed store.
    pub const SEALED_SESSION: Self = Self::new("sealed-session");
    /// Derives the key that authenticates a sealed store's head.
    pub const SEALED_HEAD: Self = Self::new("sealed-head");
    /// Chains a sealed store's frames.
    pub const SEALED_CHAIN: Self = Self::new("sealed-chain");
    /// Derives a chunk's key from the DEK and the chunk's salt.
    pub const CHUNK: Self = Self::new("chunk");
    /// Derives the public commitment to a DEK.
    pub const DEK_COMMITMENT: Self = Self::new("dek-commitment");
    /// Derives the key of a manifest's HMAC from the DEK.
    pub const MANIFEST_MAC: Self = Self::new("manifest-mac");
    /// Derives the key that seals user metadata from the DEK.
    pub const METADATA: Self = Self::new("metadata");
    /// Derives the key that wraps a DEK from a bucket key.
    pub const DEK_WRAP: Self = Self::new("dek-wrap");
    /// HPKE `info` of a key wrapped to an identity.
    pub const WRAP_IDENTITY: Self = Self::new("wrap-identity");
    /// Derives the key of a passphrase wrap from Argon2id's output.
    pub const WRAP_PASSPHRASE: Self = Self::new("wrap-passphrase");
    /// Derives the Ed25519 seed from an identity's seed.
    pub const IDENTITY_ED25519: Self = Self::new("identity-ed25519");
    /// Derives the X-Wing seed from an identity's seed.
    pub const IDENTITY_X_WING: Self = Self::new("identity-x-wing");
    /// Derives the key that seals local state from an identity's seed.
    pub const IDENTITY_LOCAL: Self = Self::new("identity-local");
    /// Derives the key of an identity file from Argon2id's output.
    pub const IDENTITY_FILE: Self = Self::new("identity-file");
    /// Derives the X-Wing seed from a deployment's recovery secret.
    pub const RECOVERY_X_WING: Self = Self::new("recovery-x-wing");
    /// HPKE `info` of a recovery session's key.
    pub const RECOVERY_SESSION: Self = Self::new("recovery-session");
    /// Derives the key of one recovery record from the session key.
    pub const RECOVERY_RECORD: Self = Self::new("recovery-record");

    /// Derives the second generator of the threshold leg; label only, so that its table is made once.
    pub const TDH2_GENERATOR: Self = Self::new("tdh2-generator");
    /// Hashes what a ciphertext proof is bound to (Shoup and Gennaro's label).
    pub const TDH2_LABEL: Self = Self::new("tdh2-label");
    /// Derives the challenge of a ciphertext proof.
    pub const TDH2_CHALLENGE: Self = Self::new("tdh2-challenge");
    /// Derives the weights with which ciphertext proofs are checked together; never stored.
    pub const TDH2_WEIGHTS: Self = Self::new("tdh2-weights");
    /// Hashes both public keys of a key version.
    pub const KEM_PUBLIC_KEYS: Self = Self::new("kem-public-keys");
    /// Hashes the ML-KEM ciphertext.
    pub const KEM_PQ_CIPHERTEXT: Self = Self::new("kem-pq-ciphertext");
    /// Hashes what a client signs when it asks custodians to open a ciphertext.
    pub const KEM_HASH: Self = Self::new("kem-hash");
    /// Derives the key that both legs of the KEM give together.
    pub const KEM_KEY: Self = Self::new("kem-key");
    /// Hashes an encryption context.
    pub const ENCRYPTION_CONTEXT: Self = Self::new("encryption-context");
    /// Derives the key of an envelope's inline payload from its DEK.
    pub const ENVELOPE_PAYLOAD: Self = Self::new("envelope-payload");
    /// Derives the DEK of one chunk of an envelope's stream from the envelope's DEK.
    pub const ENVELOPE_CHUNK: Self = Self::new("envelope-chunk");

    /// A label of that name.
    ///
    /// # Panics
    /// At compile time, for a name that is empty or has another character than `a-z`, `0-9`, `-`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        let mut rest = name.as_bytes();
        assert!(!rest.is_empty(), "a label has a name");
        while let [byte, tail @ ..] = rest {
            assert!(
                matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'),
                "a label has only a-z, 0-9 and -"
            );
            rest = tail;
        }
        Self(name)
    }

    /// The name after `strongroom/v1/`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// `strongroom/v1/<name> 00`: what a derivation that precedes every deployment is bound to.
    #[must_use]
    pub fn bare(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREFIX.len() + self.0.len() + 1);
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(self.0.as_bytes());
        out.push(0);
        out
    }

    /// `strongroom/v1/<name> 00 <deployment id> <body>`: the bytes that are signed, or an HKDF or HPKE `info`.
    #[must_use]
    pub fn message(self, deployment: &DeploymentId, body: &[u8]) -> Vec<u8> {
        let mut out =
            Vec::with_capacity(PREFIX.len() + self.0.len() + 1 + DeploymentId::LEN + body.len());
        out.extend_from_slice(PREFIX);
        out.extend_from_slice(self.0.as_bytes());
        out.push(0);
        out.extend_from_slice(deployment.as_bytes());
        out.extend_from_slice(body);
        out
    }

    /// BLAKE3 of [`Label::message`] with the concatenation of `parts` as its body. The caller sees to it that no two
    /// lists of parts run into one another: parts of fixed length, at most the last one variable.
    #[must_use]
    pub fn hash(self, deployment: &DeploymentId, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(PREFIX);
        hasher.update(self.0.as_bytes());
        hasher.update(&[0]);
        hasher.update(deployment.as_bytes());
        for part in parts {
            hasher.update(part);
        }
        *hasher.finalize().as_bytes()
    }
}

const PREFIX: &[u8] = b"strongroom/v1/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_label_zero_deployment_body() {
        let message = Label::ENTRY.message(&DeploymentId([0xdd; 32]), b"body");
        let mut expected = b"strongroom/v1/entry\0".to_vec();
        expected.extend([0xdd; 32]);
        expected.extend(b"body");
        assert_eq!(message, expected);
        assert_eq!(Label::ENTRY.bare(), b"strongroom/v1/entry\0");
    }

    #[test]
    fn a_hash_is_blake3_of_the_message() {
        let deployment = DeploymentId([0xdd; 32]);
        let message = Label::ENTRY.message(&deployment, b"body");
        let expected = blake3::hash(&message);
        assert_eq!(
            Label::ENTRY.hash(&deployment, &[b"bo", b"", b"dy"]),
            *expected.as_bytes()
        );
    }

    #[test]
    fn a_longer_name_is_another_domain_whatever_the_deployment() {
        // Without the zero byte, "bucket" in a deployment whose id begins with "-key" would meet "bucket-key".
        let mut id = [0; 32];
        id[..4].copy_from_slice(b"-key");
        let short = Label::BUCKET.message(&DeploymentId(id), b"");
        let long = Label::BUCKET_KEY.message(&DeploymentId([0; 32]), b"");
        assert!(!short.starts_with(&long[..24]) && !long.starts_with(&short[..24]));
    }
}
