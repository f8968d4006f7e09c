use super::*;
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::traits::Identity as _;
use getrandom::{SysRng, rand_core::UnwrapErr};
use proptest::prelude::*;

const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);
const LABEL: ProofLabel = ProofLabel([2; 32]);

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn public() -> Element {
    Element::from_point(RISTRETTO_BASEPOINT_TABLE * &Scalar::from(77_u8)).unwrap()
}

fn sealed(label: &ProofLabel) -> DhCiphertext {
    let (r, s) = (
        SecretScalar::random(&mut rng()),
        SecretScalar::random(&mut rng()),
    );
    seal(&DEPLOYMENT, label, &DhPublic::point(&public()), &r, &s).0
}

#[test]
fn it_is_the_paper_s_ciphertext_and_opens_with_the_secret_key() {
    for public in [DhPublic::point(&public()), DhPublic::table(&public())] {
        let (r, s) = (
            SecretScalar::random(&mut rng()),
            SecretScalar::random(&mut rng()),
        );
        let (ciphertext, shared) = seal(&DEPLOYMENT, &LABEL, &public, &r, &s);
        let r = r.danger_scalar();
        assert_eq!(
            ciphertext.u,
            (RISTRETTO_BASEPOINT_POINT * r).compress().to_bytes()
        );
        assert_eq!(
            ciphertext.u_bar,
            (second_generator() * r).compress().to_bytes()
        );
        let u = ciphertext.verify(&DEPLOYMENT, &LABEL).unwrap();
        let opened = u.point() * Scalar::from(77_u8);
        assert_eq!(shared.expose(), opened.compress().as_bytes());
        // Both equations of the paper, one by one.
        let e = ciphertext.challenge(&DEPLOYMENT, &LABEL);
        let f = scalar_from_bytes(&ciphertext.f).unwrap();
        let point = |bytes: &[u8; 32]| *Element::from_bytes(bytes).unwrap().point();
        assert_eq!(
            RISTRETTO_BASEPOINT_POINT * f,
            point(&ciphertext.w) + point(&ciphertext.u) * e
        );
        assert_eq!(
            second_generator() * f,
            point(&ciphertext.w_bar) + point(&ciphertext.u_bar) * e
        );
    }
}

#[test]
fn the_second_generator_is_neither_identity_nor_the_first() {
    assert!(!second_generator().is_identity());
    assert_ne!(*second_generator(), RISTRETTO_BASEPOINT_POINT);
    assert_eq!(*second_generator(), hash_to_point(Label::TDH2_GENERATOR));
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = sealed(&LABEL);
    assert!(good.verify(&DEPLOYMENT, &LABEL).is_ok());
    let bytes = good.to_bytes();
    assert_eq!(DhCiphertext::from_bytes(&bytes), good);
    for bit in 0..bytes.len() * 8 {
        let mut altered = bytes;
        altered[bit / 8] ^= 1 << (bit % 8);
        let altered = DhCiphertext::from_bytes(&altered);
        assert!(altered.verify(&DEPLOYMENT, &LABEL).is_err(), "bit {bit}");
    }
    let refused = Err(CiphertextError::Proof);
    assert_eq!(good.verify(&DEPLOYMENT, &ProofLabel([3; 32])), refused);
    assert_eq!(good.verify(&DeploymentId([9; 32]), &LABEL), refused);
}

#[test]
fn identities_and_other_encodings_are_refused_by_name() {
    let good = sealed(&LABEL);
    let with = |part: Part, bytes: [u8; 32]| {
        let mut altered = good;
        match part {
            Part::U => altered.u = bytes,
            Part::UBar => altered.u_bar = bytes,
            Part::W => altered.w = bytes,
            Part::WBar => altered.w_bar = bytes,
        }
        altered.verify(&DEPLOYMENT, &LABEL).unwrap_err()
    };
    for part in [Part::U, Part::UBar, Part::W, Part::WBar] {
        let source = ElementError::Identity;
        assert_eq!(
            with(part, [0; 32]),
            CiphertextError::Element { part, source }
        );
        let source = ElementError::NotCanonical;
        assert_eq!(
            with(part, [0xff; 32]),
            CiphertextError::Element { part, source }
        );
        // Another element in its place.
        let other = RistrettoPoint::random_for_test(&mut rng());
        assert_eq!(with(part, other), CiphertextError::Proof);
    }
    // f plus the group's order: the same scalar, another encoding.
    let mut longer = good;
    let order: [u8; 32] = (-Scalar::ONE).to_bytes();
    let mut carry = 1_u16;
    for (byte, add) in longer.f.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert_eq!(
        longer.verify(&DEPLOYMENT, &LABEL),
        Err(CiphertextError::Scalar)
    );
}

trait RandomForTest {
    fn random_for_test(rng: &mut dyn CryptoRng) -> [u8; 32];
}

impl RandomForTest for RistrettoPoint {
    fn random_for_test(rng: &mut dyn CryptoRng) -> [u8; 32] {
        SecretScalar::random(rng).times_base().compress().to_bytes()
    }
}

/// Two logarithms, each proved well for itself: what the second generator is there to prevent.
#[test]
fn u_and_u_bar_of_different_logarithms_are_refused() {
    let (r, other, s) = (
        SecretScalar::random(&mut rng()),
        SecretScalar::random(&mut rng()),
        SecretScalar::random(&mut rng()),
    );
    let compress = |point: RistrettoPoint| point.compress().to_bytes();
    let mut forged = DhCiphertext {
        u: compress(r.times_base()),
        u_bar: compress(second_generator() * other.danger_scalar()),
        w: compress(s.times_base()),
        w_bar: compress(second_generator() * s.danger_scalar()),
        f: [0; 32],
    };
    let e = forged.challenge(&DEPLOYMENT, &LABEL);
    for exponent in [r.danger_scalar(), other.danger_scalar()] {
        forged.f = (s.danger_scalar() + e * exponent).to_bytes();
        assert_eq!(
            forged.verify(&DEPLOYMENT, &LABEL),
            Err(CiphertextError::Proof)
        );
        let answers = verify_batch(&mut rng(), &DEPLOYMENT, &[(forged, LABEL)]);
        assert_eq!(answers, [Err(CiphertextError::Proof)]);
    }
}

/// Two errors that would cancel out in a sum without weights.
#[test]
fn errors_in_one_batch_do_not_cancel_out() {
    let (mut a, mut b) = (sealed(&LABEL), sealed(&ProofLabel([3; 32])));
    let shift = |f: &mut [u8; 32], by: Scalar| {
        *f = (scalar_from_bytes(f).unwrap() + by).to_bytes();
    };
    shift(&mut a.f, Scalar::ONE);
    shift(&mut b.f, -Scalar::ONE);
    let batch = [(a, LABEL), (b, ProofLabel([3; 32]))];
    let refused = Err(CiphertextError::Proof);
    assert_eq!(
        verify_batch(&mut rng(), &DEPLOYMENT, &batch),
        [refused, refused]
    );
}

#[test]
fn batches_of_any_size_name_exactly_the_bad_ones() {
    for size in [0, 1, 2, 63, 64, 65, 130] {
        let label = |i: usize| ProofLabel([u8::try_from(i % 7).unwrap(); 32]);
        let mut batch: Vec<_> = (0..size).map(|i| (sealed(&label(i)), label(i))).collect();
        let all = verify_batch(&mut rng(), &DEPLOYMENT, &batch);
        let expected: Vec<_> = batch
            .iter()
            .map(|(one, _)| Element::from_bytes(&one.u))
            .collect();
        assert_eq!(all.len(), size);
        assert!(
            all.iter()
                .zip(expected)
                .all(|(got, want)| got.unwrap() == want.unwrap())
        );
        for bad in [0, size / 2, size.saturating_sub(1)] {
            let Some((one, label)) = batch.get_mut(bad) else {
                continue;
            };
            match bad % 3 {
                0 => one.f[0] ^= 1,
                1 => one.u = [0; 32],
                _ => label.0[5] ^= 1,
            }
        }
        let answers = verify_batch(&mut rng(), &DEPLOYMENT, &batch);
        for ((one, label), answer) in batch.iter().zip(answers) {
            assert_eq!(answer, one.verify(&DEPLOYMENT, label));
        }
    }
}

proptest! {
    #[test]
    fn garbage_is_an_error(bytes in prop::collection::vec(any::<u8>(), DH_CIPHERTEXT_BYTES)) {
        let bytes: [u8; DH_CIPHERTEXT_BYTES] = bytes.try_into().unwrap();
        let ciphertext = DhCiphertext::from_bytes(&bytes);
        prop_assert_eq!(ciphertext.to_bytes(), bytes);
        prop_assert!(ciphertext.verify(&DEPLOYMENT, &LABEL).is_err());
    }
}

#[test]
fn a_ciphertext_of_zero_randomness_is_refused() {
    let zero = SecretScalar::from_wide(&[0; 64]);
    let s = SecretScalar::random(&mut rng());
    let (ciphertext, _) = seal(&DEPLOYMENT, &LABEL, &DhPublic::point(&public()), &zero, &s);
    assert_eq!(
        ciphertext.u,
        RistrettoPoint::identity().compress().to_bytes()
    );
    assert!(ciphertext.verify(&DEPLOYMENT, &LABEL).is_err());
}
