use super::*;
use crate::context::ContextHash;
use crate::kem::{KeyRef, PqSeed, PublicKeys, SharedSecrets};
use crate::ristretto::{Element, SecretScalar};
use domain::{BucketId, BucketKeyId, EnvelopeId, VersionId};
use getrandom::{SysRng, rand_core::UnwrapErr};

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
const CONTEXT: WrapContext = WrapContext::BucketKey {
    bucket: BucketId([2; 32]),
    key: BucketKeyId([3; 16]),
};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A named key whose two secrets are whole, in one place: custodians and worker in one.
struct Custody {
    seed: PqSeed,
    x: SecretScalar,
    key: KeyRef,
}

fn custody(byte: u8) -> Custody {
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
    Custody { seed, x, key }
}

impl Custody {
    fn release(&self, wrap: &NamedKeyWrap, context: &WrapContext) -> ReleasedKey {
        let hash = context.context_hash(&DEPLOYMENT);
        let u = Element::from_bytes(&wrap.ciphertext.dh.u).unwrap();
        let dh = Element::from_point(u.point() * self.x.danger_scalar()).unwrap();
        let pq = self.seed.open(&self.key.public.pq).unwrap();
        let shared = SharedSecrets::new(pq.decapsulate(&wrap.ciphertext.pq), &dh);
        ReleasedKey {
            kem_hash: wrap.kem_hash(&DEPLOYMENT, context),
            key: self.key.derive_key(&wrap.ciphertext, &hash, &shared),
        }
    }
}

fn wrapped(to: &Custody, context: &WrapContext, key: &Secret<32>) -> NamedKeyWrap {
    let encapsulator = Encapsulator::new(to.key.clone());
    match encapsulator
        .wrap(&mut rng(), &DEPLOYMENT, context, key)
        .unwrap()
    {
        Wrap::NamedKey(wrap) => *wrap,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_released_key_opens_its_wrap_among_others() {
    let (custody, other) = (custody(5), custody(6));
    let key = Secret::random(&mut rng());
    let wrap = wrapped(&custody, &CONTEXT, &key);
    let released = custody.release(&wrap, &CONTEXT);
    let stored = Wrap::NamedKey(Box::new(wrap.clone()));
    let (kind, data) = stored.to_parts();
    assert_eq!((kind, data.len()), (3, NAMED_KEY_WRAP_BYTES));
    assert_eq!(Wrap::from_parts(kind, &data), Ok(stored.clone()));
    let list = [
        Wrap::Other {
            kind: 99,
            data: vec![],
        },
        Wrap::NamedKey(Box::new(wrapped(&other, &CONTEXT, &key))),
        stored,
    ];
    let opened = released.unwrap_key(&DEPLOYMENT, &CONTEXT, &list).unwrap();
    assert!(opened.ct_eq(&key));
    assert!(matches!(
        released.unwrap_key(&DEPLOYMENT, &CONTEXT, &list[..2]),
        Err(UnwrapError::NotForMe(_))
    ));
}

#[test]
fn a_wrap_is_bound_to_what_it_wraps_and_where() {
    let custody = custody(5);
    let key = Secret::random(&mut rng());
    let contexts = [
        CONTEXT,
        WrapContext::BucketKey {
            bucket: BucketId([2; 32]),
            key: BucketKeyId([4; 16]),
        },
        WrapContext::BucketKey {
            bucket: BucketId([9; 32]),
            key: BucketKeyId([3; 16]),
        },
        WrapContext::Dek {
            bucket: BucketId([2; 32]),
            version: VersionId([3; 16]),
        },
        WrapContext::Envelope {
            context: ContextHash([2; 32]),
            envelope: EnvelopeId([3; 16]),
        },
        WrapContext::Envelope {
            context: ContextHash([2; 32]),
            envelope: EnvelopeId([4; 16]),
        },
    ];
    for made_for in contexts {
        let wrap = wrapped(&custody, &made_for, &key);
        let list = [Wrap::NamedKey(Box::new(wrap.clone()))];
        for used_for in contexts {
            // Even a custodian set that releases K for whatever context it is told.
            let released = custody.release(&wrap, &used_for);
            let opened = released.unwrap_key(&DEPLOYMENT, &used_for, &list);
            assert_eq!(
                opened.is_ok(),
                used_for == made_for,
                "{made_for:?} {used_for:?}"
            );
        }
    }
}

#[test]
fn every_byte_of_a_wrap_counts() {
    let custody = custody(5);
    let key = Secret::random(&mut rng());
    let wrap = wrapped(&custody, &CONTEXT, &key);
    let bytes = wrap.to_bytes();
    let released = custody.release(&wrap, &CONTEXT);
    // Key id and version only say whom to ask: they are bound through the key that is asked.
    for at in KeyId::LEN + 4..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let Some(altered) = NamedKeyWrap::from_bytes(&altered) else {
            continue;
        };
        let list = [Wrap::NamedKey(Box::new(altered))];
        assert!(
            released.unwrap_key(&DEPLOYMENT, &CONTEXT, &list).is_err(),
            "byte {at}"
        );
    }
    for len in 0..bytes.len() {
        assert!(
            NamedKeyWrap::from_bytes(&bytes[..len]).is_none(),
            "{len} bytes"
        );
    }
    assert!(NamedKeyWrap::from_bytes(&[bytes.clone(), vec![0]].concat()).is_none());
    let mut no_version = bytes.clone();
    no_version[32..36].fill(0);
    assert!(NamedKeyWrap::from_bytes(&no_version).is_none());
    let mut scheme = bytes;
    scheme[36] = 2;
    assert!(NamedKeyWrap::from_bytes(&scheme).is_none());
}

#[test]
fn custodians_are_shown_bucket_and_key_in_keys_that_no_user_can_set() {
    let context = CONTEXT.encryption_context().unwrap();
    assert_eq!(
        context.get("strongroom:bucket"),
        Some("02".repeat(32).as_str())
    );
    assert_eq!(
        context.get("strongroom:bucket-key"),
        Some("03".repeat(16).as_str())
    );
    assert_eq!(context.iter().count(), 2);
    assert_eq!(CONTEXT.context_hash(&DEPLOYMENT), context.hash(&DEPLOYMENT));
}
