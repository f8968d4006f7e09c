use super::*;
use crate::context::EncryptionContext;
use curve25519_dalek::scalar::Scalar;
use getrandom::{SysRng, rand_core::UnwrapErr};

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

struct Owner {
    seed: PqSeed,
    x: SecretScalar,
    key: KeyRef,
}

fn owner(byte: u8) -> Owner {
    let seed = PqSeed::from_secret(Secret::take(&mut [byte; 64]));
    let x = SecretScalar::from_wide(&[byte; 64]);
    let public = PublicKeys {
        pq: seed.public(),
        dh: Element::from_point(x.times_base()).unwrap(),
    };
    let key = KeyRef {
        deployment: DEPLOYMENT,
        key: KeyId([byte; 32]),
        version: KeyVersion::FIRST,
        public,
    };
    Owner { seed, x, key }
}

impl Owner {
    /// Both legs with whole keys, as no machine of a deployment has them.
    fn open(&self, key: &KeyRef, ciphertext: &KemCiphertext, context: &ContextHash) -> Secret<32> {
        let pq = self.seed.open(&self.key.public.pq).unwrap();
        let u = Element::from_bytes(&ciphertext.dh.u).unwrap();
        let dh = Element::from_point(u.point() * self.x.danger_scalar()).unwrap();
        let shared = SharedSecrets::new(pq.decapsulate(&ciphertext.pq), &dh);
        key.derive_key(ciphertext, context, &shared)
    }
}

fn context(value: &str) -> ContextHash {
    let context = EncryptionContext::from_user([("purpose", value)]).unwrap();
    context.hash(&DEPLOYMENT)
}

#[test]
fn what_was_encapsulated_is_opened_by_both_legs() {
    let owner = owner(3);
    for encapsulator in
        [Encapsulator::new, Encapsulator::precomputed].map(|make| make(owner.key.clone()))
    {
        let (ciphertext, key) = encapsulator.encapsulate(&mut rng(), &context("a"));
        let parts = ciphertext.parts(&DEPLOYMENT, context("a"));
        let u = parts.verify(encapsulator.target()).unwrap();
        assert_eq!(u.as_bytes(), &ciphertext.dh.u);
        assert!(
            owner
                .open(&owner.key, &ciphertext, &context("a"))
                .ct_eq(&key)
        );
        let (again, other) = encapsulator.encapsulate(&mut rng(), &context("a"));
        assert!(again != ciphertext && !other.ct_eq(&key));
    }
}

#[test]
fn the_key_follows_every_input() {
    let owner = owner(3);
    let encapsulator = Encapsulator::new(owner.key.clone());
    let (ciphertext, key) = encapsulator.encapsulate(&mut rng(), &context("a"));
    let differs = |key_ref: &KeyRef, ciphertext: &KemCiphertext, context: &ContextHash, what| {
        assert!(
            !owner.open(key_ref, ciphertext, context).ct_eq(&key),
            "{what}"
        );
    };
    differs(&owner.key, &ciphertext, &context("b"), "context");
    type Change<'a> = (&'a str, &'a dyn Fn(&mut KeyRef));
    let changes: [Change; 5] = [
        ("deployment", &|key| key.deployment = DeploymentId([9; 32])),
        ("key id", &|key| key.key = KeyId([9; 32])),
        ("version", &|key| key.version = KeyVersion::new(2).unwrap()),
        ("ML-KEM key", &|key| {
            key.public.pq = self::owner(4).key.public.pq
        }),
        ("ristretto255 key", &|key| {
            key.public.dh = self::owner(4).key.public.dh
        }),
    ];
    for (what, change) in changes {
        let mut altered = owner.key.clone();
        change(&mut altered);
        differs(&altered, &ciphertext, &context("a"), what);
        // And the proof follows them too.
        let parts = ciphertext.parts(&DEPLOYMENT, context("a"));
        assert_eq!(
            parts.verify(&altered.target()),
            Err(CiphertextError::Proof),
            "{what}"
        );
    }
    // Another ML-KEM ciphertext under the same proof; another proof under the same ML-KEM ciphertext.
    let (other, _) = encapsulator.encapsulate(&mut rng(), &context("a"));
    let mixed = KemCiphertext {
        pq: other.pq.clone(),
        dh: ciphertext.dh,
    };
    differs(&owner.key, &mixed, &context("a"), "ML-KEM ciphertext");
    let refused = mixed
        .parts(&DEPLOYMENT, context("a"))
        .verify(encapsulator.target());
    assert_eq!(refused, Err(CiphertextError::Proof));
    let mut u_bar = ciphertext.clone();
    u_bar.dh.u_bar = other.dh.u_bar;
    differs(&owner.key, &u_bar, &context("a"), "u_bar");
    // One leg alone gives nothing.
    for leg in 0..2 {
        let pq = owner
            .seed
            .open(&owner.key.public.pq)
            .unwrap()
            .decapsulate(&ciphertext.pq);
        let u = Element::from_bytes(&ciphertext.dh.u).unwrap();
        let dh = Element::from_point(u.point() * owner.x.danger_scalar()).unwrap();
        let shared = if leg == 0 {
            SharedSecrets::new(pq, &u)
        } else {
            SharedSecrets::new(Secret::random(&mut rng()), &dh)
        };
        assert!(
            !owner
                .key
                .derive_key(&ciphertext, &context("a"), &shared)
                .ct_eq(&key)
        );
    }
}

#[test]
fn the_request_hash_follows_every_part() {
    let encapsulator = Encapsulator::new(owner(3).key);
    let (ciphertext, _) = encapsulator.encapsulate(&mut rng(), &context("a"));
    let hash = ciphertext.kem_hash(&DEPLOYMENT, context("a"));
    let parts = ciphertext.parts(&DEPLOYMENT, context("a"));
    assert_eq!(parts.kem_hash(&DEPLOYMENT), hash);
    assert_ne!(parts.kem_hash(&DeploymentId([2; 32])), hash);
    let changes: [&dyn Fn(&mut CiphertextParts); 7] = [
        &|parts| parts.dh.u[0] ^= 1,
        &|parts| parts.dh.u_bar[31] ^= 1,
        &|parts| parts.dh.w[9] ^= 1,
        &|parts| parts.dh.w_bar[9] ^= 1,
        &|parts| parts.dh.f[31] ^= 1,
        &|parts| parts.pq.0[0] ^= 1,
        &|parts| parts.context = context("b"),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut altered = parts;
        change(&mut altered);
        assert_ne!(altered.kem_hash(&DEPLOYMENT), hash, "{number}");
    }
}

#[test]
fn ciphertexts_have_one_encoding_and_a_scheme() {
    let (ciphertext, _) = Encapsulator::new(owner(3).key).encapsulate(&mut rng(), &context("a"));
    let bytes = ciphertext.to_bytes();
    assert_eq!(bytes.len(), CIPHERTEXT_BYTES);
    assert_eq!(KemCiphertext::from_bytes(&bytes), Ok(ciphertext));
    let mut later = bytes.clone();
    later[0] = 2;
    assert_eq!(
        KemCiphertext::from_bytes(&later),
        Err(KemCiphertextError::Scheme(2))
    );
    for len in 0..bytes.len() {
        let refused = Err(KemCiphertextError::Length(len));
        assert_eq!(KemCiphertext::from_bytes(&bytes[..len]), refused);
    }
    let longer = [bytes, vec![0]].concat();
    assert!(KemCiphertext::from_bytes(&longer).is_err());
}

#[test]
fn nothing_secret_is_printed() {
    let owner = owner(3);
    let shown = format!(
        "{:?} {:?} {:?}",
        owner.seed,
        owner.x,
        owner.seed.open(&owner.key.public.pq).unwrap()
    );
    assert_eq!(
        shown,
        "PqSeed(Secret<64>(redacted)) SecretScalar(redacted) PqSecret(redacted)"
    );
    assert_ne!(*owner.x.danger_scalar(), Scalar::ZERO);
}
