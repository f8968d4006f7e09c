//! Shamir's sharing: secrecy by enumeration, shares that look random, and two other implementations.

use std::cell::RefCell;

use crypto::Secret;
use domain::{ShareIndex, Threshold};
use frost_ristretto255::rand_core as old_rand_core;
use proptest::prelude::*;
use threshold::shamir::{CombineError, Share, combine, split};

use crate::support::{Seeded, index};

fn secret<const N: usize>(mut bytes: [u8; N]) -> Secret<N> {
    Secret::take(&mut bytes)
}

fn threshold(t: u8, n: u8) -> Threshold {
    Threshold::new(t, n).unwrap()
}

/// Gives the coefficients that a test has chosen.
pub struct Scripted(Vec<u8>);

impl Scripted {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl rand_core::TryRng for Scripted {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        unreachable!("shares are drawn as bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        unreachable!("shares are drawn as bytes")
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&std::mem::replace(&mut self.0, rest));
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Scripted {}

/// Shares every polynomial of degree t - 1 over `field` at once, one in each byte; gives the secret of each byte and the
/// shares at all 255 points.
fn every_polynomial<const N: usize>(t: u8, field: &[u8]) -> (Vec<u8>, Vec<Share<N>>) {
    assert_eq!(field.len().pow(u32::from(t)), N);
    let coefficient = |power: u32| {
        let step = field.len().pow(power);
        (0..N).map(move |i| field[i / step % field.len()])
    };
    let secrets: Vec<u8> = coefficient(0).collect();
    let script: Vec<u8> = (1..u32::from(t)).flat_map(coefficient).collect();
    let shares = split(
        &secret::<N>(secrets.clone().try_into().unwrap()),
        threshold(t, 255),
        &mut Scripted(script),
    );
    (secrets, shares)
}

/// GF(16) is a subfield of GF(256): the elements that x -> x^16 leaves alone, found here by their closure.
fn subfield() -> Vec<u8> {
    fn mul(left: u8, right: u8) -> u8 {
        let (mut left, mut product) = (left, 0);
        for bit in 0..8 {
            if right >> bit & 1 == 1 {
                product ^= left;
            }
            left = (left << 1) ^ if left & 0x80 == 0 { 0 } else { 0x1b };
        }
        product
    }
    let field: Vec<u8> = (0..=255)
        .filter(|x| (0..4).fold(*x, |power, _| mul(power, power)) == *x)
        .collect();
    assert_eq!(field.len(), 16);
    field
}

/// Secrecy as it is defined: whatever t - 1 shares somebody sees, each secret is behind exactly as many polynomials.
fn check_secrecy(field: &[u8], secrets: &[u8], seen: &[&[u8]]) {
    let position: Vec<usize> = (0..=255)
        .map(|x| field.iter().position(|y| *y == x).unwrap_or(usize::MAX))
        .collect();
    let size = field.len();
    let mut counts = vec![0_u32; size.pow(u32::try_from(seen.len()).unwrap() + 1)];
    for (i, secret) in secrets.iter().enumerate() {
        let cell = seen
            .iter()
            .fold(position[usize::from(*secret)], |cell, share| {
                cell * size + position[usize::from(share[i])]
            });
        counts[cell] += 1;
    }
    assert!(counts.iter().all(|count| *count == 1));
}

#[test]
fn one_share_of_two_says_nothing_about_a_byte() {
    let field: Vec<u8> = (0..=255).collect();
    let (secrets, shares) = every_polynomial::<65_536>(2, &field);
    for share in &shares {
        check_secrecy(&field, &secrets, &[share.value.expose()]);
    }
}

#[test]
fn two_shares_of_three_say_nothing_in_a_field_of_sixteen() {
    let field = subfield();
    let (secrets, shares) = every_polynomial::<4_096>(3, &field);
    let points: Vec<&[u8]> = subfield_points(&field, &shares);
    for (i, first) in points.iter().enumerate() {
        for second in &points[i + 1..] {
            check_secrecy(&field, &secrets, &[first, second]);
        }
    }
}

#[test]
fn three_shares_of_four_say_nothing_in_a_field_of_sixteen() {
    let field = subfield();
    let (secrets, shares) = every_polynomial::<65_536>(4, &field);
    let points: Vec<&[u8]> = subfield_points(&field, &shares);
    for (i, first) in points.iter().enumerate() {
        for (j, second) in points.iter().enumerate().skip(i + 1) {
            for third in &points[j + 1..] {
                check_secrecy(&field, &secrets, &[first, second, third]);
            }
        }
    }
}

/// The shares at the subfield's points other than zero, which lie in the subfield again.
fn subfield_points<'a, const N: usize>(field: &[u8], shares: &'a [Share<N>]) -> Vec<&'a [u8]> {
    let points: Vec<&[u8]> = shares
        .iter()
        .filter(|share| field.contains(&share.index.get()))
        .map(|share| share.value.expose().as_slice())
        .collect();
    assert_eq!(points.len(), 15);
    points
}

/// 255 degrees of freedom: mean 255, standard deviation 22.6. The seed is fixed, so the outcome is too.
fn check_uniform(name: &str, samples: impl Iterator<Item = u8>) {
    let (mut counts, mut total) = ([0_u32; 256], 0_u32);
    for sample in samples {
        counts[usize::from(sample)] += 1;
        total += 1;
    }
    let expected = f64::from(total) / 256.0;
    let statistic: f64 = counts
        .iter()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    assert!((160.0..360.0).contains(&statistic), "{name}: {statistic}");
}

#[test]
fn shares_of_extreme_secrets_pass_a_chi_square_test() {
    let rng = &mut Seeded::new(20);
    for byte in [0x00, 0x01, 0xff] {
        let deals: Vec<Vec<Share<64>>> = (0..1_000)
            .map(|_| split(&secret([byte; 64]), threshold(3, 5), rng))
            .collect();
        for i in 0..5 {
            let bytes = |i: usize| {
                let values = deals.iter().map(move |deal| deal[i].value.expose());
                values.flatten().copied()
            };
            check_uniform(&format!("share {i} of {byte}"), bytes(i));
            for j in 0..i {
                let sums = bytes(i).zip(bytes(j)).map(|(left, right)| left ^ right);
                check_uniform(&format!("shares {i} and {j} of {byte}"), sums);
            }
        }
    }
}

#[test]
fn any_t_shares_give_the_secret_back_and_fewer_do_not_combine() {
    let rng = &mut Seeded::new(1);
    let threshold = threshold(3, 5);
    let shares = split(&secret([0x5a; 64]), threshold, rng);
    for a in 0..5 {
        for b in 0..5 {
            for c in 0..5 {
                let chosen = [&shares[a], &shares[b], &shares[c]];
                let combined = combine(&chosen, threshold);
                if a != b && b != c && a != c {
                    assert_eq!(combined.unwrap().expose(), &[0x5a; 64]);
                } else {
                    assert!(matches!(combined, Err(CombineError::Index(_))));
                }
            }
        }
    }
    let error = combine(&[&shares[4], &shares[0]], threshold).unwrap_err();
    assert_eq!(
        error,
        CombineError::TooFew {
            given: 2,
            needed: 3
        }
    );
}

#[test]
fn a_wrong_share_among_more_than_t_is_noticed() {
    let threshold = threshold(3, 5);
    for wrong in 0..5 {
        let mut shares = split(&secret([7; 64]), threshold, &mut Seeded::new(2));
        let mut bytes = *shares[wrong].value.expose();
        bytes[63] ^= 1;
        shares[wrong].value = secret(bytes);
        let all: Vec<&Share<64>> = shares.iter().collect();
        let error = combine(&all, threshold).unwrap_err();
        assert!(
            matches!(error, CombineError::Inconsistent(_)),
            "{wrong}: {error}"
        );
    }
}

#[test]
fn an_index_that_the_sharing_does_not_have_is_refused() {
    let shares = split(&secret([7; 8]), threshold(2, 9), &mut Seeded::new(3));
    let error = combine(&[&shares[0], &shares[8]], threshold(2, 8)).unwrap_err();
    assert_eq!(error, CombineError::Index(index(9)));
}

#[test]
fn one_of_n_and_n_of_n_work_up_to_255() {
    let rng = &mut Seeded::new(4);
    for (t, n) in [(1, 1), (1, 255), (255, 255), (2, 2)] {
        let shares = split(&secret([0xee; 3]), threshold(t, n), rng);
        assert_eq!(shares.len(), usize::from(n));
        let all: Vec<&Share<3>> = shares.iter().collect();
        assert_eq!(combine(&all, threshold(t, n)).unwrap().expose(), &[0xee; 3]);
    }
}

proptest! {
    #[test]
    fn what_is_split_is_combined(
        bytes in any::<[u8; 32]>(),
        (t, n) in (1_u8..=12).prop_flat_map(|n| (1..=n, Just(n))),
        seed in any::<u64>(),
    ) {
        let rng = &mut Seeded::new(seed);
        let mut shares = split(&secret(bytes), threshold(t, n), rng);
        while shares.len() > usize::from(t) {
            let gone = rng.below(shares.len());
            shares.remove(gone);
        }
        let left: Vec<&Share<32>> = shares.iter().collect();
        let combined = combine(&left, threshold(t, n)).unwrap();
        prop_assert_eq!(combined.expose(), &bytes);
    }
}

/// The generation of `rand_core` that the other crates are on.
struct OldRng(Seeded);

impl old_rand_core::RngCore for OldRng {
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

impl old_rand_core::CryptoRng for OldRng {}

/// As most programs write shares: the index, then the values.
fn to_bytes(share: &Share<64>) -> Vec<u8> {
    let mut out = vec![share.index.get()];
    out.extend_from_slice(share.value.expose());
    out
}

fn from_bytes(bytes: &[u8]) -> Share<64> {
    Share {
        index: ShareIndex::new(bytes[0]).unwrap(),
        value: Secret::from_slice(&bytes[1..]).unwrap(),
    }
}

/// Splits with one and combines with the other, both ways, for several thresholds and choices of shares.
fn check_against(
    their_split: impl Fn(u8, u8, &[u8; 64], u64) -> Vec<Vec<u8>>,
    their_combine: impl Fn(Vec<Vec<u8>>) -> Vec<u8>,
) {
    let rng = &mut Seeded::new(5);
    for (round, (t, n)) in [(2, 2), (2, 3), (3, 5), (5, 9), (10, 14), (128, 255)]
        .into_iter()
        .enumerate()
    {
        let mut bytes = [0; 64];
        rng.fill_bytes(&mut bytes);
        let skipped = rng.below(usize::from(n - t) + 1);
        let chosen = skipped..skipped + usize::from(t);

        let ours = split(&secret(bytes), threshold(t, n), rng);
        let given: Vec<Vec<u8>> = ours[chosen.clone()].iter().map(to_bytes).collect();
        assert_eq!(their_combine(given), bytes, "{t} of {n}, ours to theirs");

        let theirs = their_split(t, n, &bytes, u64::try_from(round).unwrap());
        let given: Vec<Share<64>> = theirs[chosen]
            .iter()
            .map(|share| from_bytes(share))
            .collect();
        let given: Vec<&Share<64>> = given.iter().collect();
        let combined = combine(&given, threshold(t, n)).unwrap();
        assert_eq!(combined.expose(), &bytes, "{t} of {n}, theirs to ours");
    }
}

#[test]
fn shares_are_those_of_the_crate_vsss_rs() {
    use vsss_rs::Gf256;
    check_against(
        |t, n, secret, seed| {
            let rng = OldRng(Seeded::new(seed));
            Gf256::split_array(usize::from(t), usize::from(n), secret, rng).unwrap()
        },
        |shares| Gf256::combine_array(shares).unwrap(),
    );
}

thread_local! {
    static SEED: RefCell<u64> = const { RefCell::new(0) };
}

#[allow(clippy::all, reason = "written by the crate's macros")]
mod generated {
    use super::{OldRng, SEED, Seeded};

    #[gf256::gf::gf(polynomial = 0x11b, generator = 0x3, barret)]
    pub type aes_field;

    #[gf256::shamir::shamir(gf = aes_field, u = u8, rng = OldRng(Seeded::new(SEED.with(|seed| *seed.borrow()))))]
    pub mod shamir {}
}

#[test]
fn shares_are_those_of_the_crate_gf256() {
    check_against(
        |t, n, secret, seed| {
            SEED.with(|slot| *slot.borrow_mut() = seed);
            generated::shamir::generate(secret, usize::from(n), usize::from(t))
        },
        |shares| generated::shamir::reconstruct(&shares),
    );
}
