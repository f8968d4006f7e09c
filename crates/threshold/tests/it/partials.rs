//! Partial decryption end to end with the KEM, and everything a custodian or a relay may do to it.

use crypto::kem::SharedSecrets;
use crypto::ristretto::{Element, SecretScalar};
use curve25519_dalek::scalar::Scalar;
use domain::ShareIndex;
use threshold::dh::DhPublicError;
use threshold::partial::{
    BadPartial, CombineError, PARTIAL_BYTES, PartialError, Request, VerifiedCiphertext, combine,
    verify, verify_batch,
};
use threshold::{DhPublic, DhShare, Partial, VerifiedPartial};

use crate::support::{Key, Seeded, context, element, index, scalar, sharing};

const REQUEST: [u8; 32] = [0x7e; 32];

fn partials(key: &Key, ciphertext: &VerifiedCiphertext, rng: &mut Seeded) -> Vec<Partial> {
    key.shares
        .iter()
        .map(|share| Partial::make(share, ciphertext, &REQUEST, rng).unwrap())
        .collect()
}

fn request<'a>(key: &'a Key, ciphertext: &'a VerifiedCiphertext) -> Request<'a> {
    Request {
        public: &key.public,
        u: ciphertext.u(),
        request_hash: &REQUEST,
    }
}

#[test]
fn t_partials_and_the_other_leg_give_the_key_of_the_ciphertext() {
    for (t, n) in [(1, 1), (2, 3), (3, 5), (5, 5)] {
        let key = Key::new(1, t, n);
        let rng = &mut Seeded::new(2);
        let (ciphertext, expected, parts) = key.encapsulate(rng);
        let verified = VerifiedCiphertext::verify(&parts, &key.key.target()).unwrap();
        let checked: Vec<VerifiedPartial> = partials(&key, &verified, rng)
            .into_iter()
            .rev()
            .map(|partial| {
                let sent = Partial::from_bytes(&partial.to_bytes()).unwrap();
                verify(&request(&key, &verified), sent).unwrap()
            })
            .collect();
        for first in 0..=usize::from(n - t) {
            let chosen = &checked[first..first + usize::from(t)];
            let dh = combine(chosen).unwrap();
            let pq = key
                .seed
                .open(&key.key.public.pq)
                .unwrap()
                .decapsulate(&ciphertext.pq);
            let shared = SharedSecrets { pq, dh };
            let derived = key.key.derive_key(&ciphertext, &context(), &shared);
            assert!(derived.ct_eq(&expected), "{t} of {n} from {first}");
        }
    }
}

#[test]
fn fewer_than_t_do_not_combine_even_when_one_comes_twice() {
    let key = Key::new(3, 3, 5);
    let rng = &mut Seeded::new(3);
    let ciphertext = key.verified(rng);
    let checked: Vec<VerifiedPartial> = partials(&key, &ciphertext, rng)
        .into_iter()
        .map(|partial| verify(&request(&key, &ciphertext), partial).unwrap())
        .collect();
    let few = [checked[0].clone(), checked[1].clone(), checked[0].clone()];
    let error = combine(&few).unwrap_err();
    assert_eq!(
        error,
        CombineError::TooFew {
            given: 2,
            needed: 3
        }
    );
    assert!(combine(&[]).is_err());
}

#[test]
fn every_altered_byte_of_a_partial_is_noticed_and_its_index_named() {
    let key = Key::new(4, 2, 3);
    let rng = &mut Seeded::new(4);
    let ciphertext = key.verified(rng);
    let partial = partials(&key, &ciphertext, rng).remove(1);
    let bytes = partial.to_bytes();
    for at in 0..PARTIAL_BYTES {
        let mut bad = bytes;
        bad[at] ^= 0x01;
        if let Ok(partial) = Partial::from_bytes(&bad) {
            let named = partial.index();
            let refused = verify(&request(&key, &ciphertext), partial);
            assert_eq!(refused, Err(BadPartial(named)), "byte {at}");
        }
    }
    for len in [0, 1, PARTIAL_BYTES - 1] {
        assert!(Partial::from_bytes(&bytes[..len]).is_err());
    }
    assert!(Partial::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    assert_eq!(format!("{partial:?}"), "Partial(of 2, redacted)");
}

#[test]
fn non_canonical_and_identity_elements_are_no_partials() {
    let key = Key::new(5, 2, 3);
    let rng = &mut Seeded::new(5);
    let ciphertext = key.verified(rng);
    let bytes = partials(&key, &ciphertext, rng)[0].to_bytes();
    let order = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde,
        0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    for (at, part) in [(1, [0; 32]), (1, [0xff; 32]), (97, order), (97, [0xff; 32])] {
        let mut bad = bytes;
        bad[at..at + 32].copy_from_slice(&part);
        assert!(Partial::from_bytes(&bad).is_err(), "{at}");
    }
    let mut zero = bytes;
    zero[0] = 0;
    assert!(Partial::from_bytes(&zero).is_err());
}

/// A proof is worth something only for the sharing, index, request and ciphertext that it was made for.
#[test]
fn a_partial_does_not_verify_for_anything_else() {
    let key = Key::new(6, 2, 3);
    let rng = &mut Seeded::new(6);
    let (first, second) = (key.verified(rng), key.verified(rng));
    let partial = partials(&key, &first, rng).remove(0);
    assert!(verify(&request(&key, &first), partial.clone()).is_ok());
    assert!(verify(&request(&key, &second), partial.clone()).is_err());
    let other_hash = Request {
        request_hash: &[0x7f; 32],
        ..request(&key, &first)
    };
    assert!(verify(&other_hash, partial.clone()).is_err());

    // The same shares under another name: every part of the sharing is in the proof.
    for change in 0..5 {
        let mut other = key.sharing;
        match change {
            0 => other.deployment.0[0] ^= 1,
            1 => other.key.0[0] ^= 1,
            2 => other.version = other.version.next().unwrap(),
            3 => other.epoch = other.epoch.next().unwrap(),
            _ => other.committee.0[31] ^= 1,
        }
        let public =
            DhPublic::new(other, *key.public.group(), key.public.shares().to_vec()).unwrap();
        let request = Request {
            public: &public,
            ..request(&key, &first)
        };
        assert!(
            verify(&request, partial.clone()).is_err(),
            "change {change}"
        );
    }
}

#[test]
fn another_custodians_partial_under_ones_own_index_is_refused() {
    let key = Key::new(7, 2, 3);
    let rng = &mut Seeded::new(7);
    let ciphertext = key.verified(rng);
    let mut bytes = partials(&key, &ciphertext, rng)[0].to_bytes();
    for number in [2, 3, 4, 255] {
        bytes[0] = number;
        let stolen = Partial::from_bytes(&bytes).unwrap();
        let refused = verify(&request(&key, &ciphertext), stolen);
        assert_eq!(refused, Err(BadPartial(index(number))));
    }
}

/// A custodian that multiplies with another share proves something true about another key: useless.
#[test]
fn a_proof_with_another_share_is_refused() {
    let key = Key::new(8, 2, 3);
    let rng = &mut Seeded::new(8);
    let ciphertext = key.verified(rng);
    let wrong = SecretScalar::take(&mut scalar(rng));
    let wrong = DhShare::new(key.sharing, index(1), wrong).unwrap();
    let partial = Partial::make(&wrong, &ciphertext, &REQUEST, rng).unwrap();
    let refused = verify(&request(&key, &ciphertext), partial);
    assert_eq!(refused, Err(BadPartial(index(1))));
}

#[test]
fn a_ciphertext_of_another_key_version_or_with_a_broken_proof_gets_no_partial() {
    let key = Key::new(9, 2, 3);
    let rng = &mut Seeded::new(9);
    let (_, _, parts) = key.encapsulate(rng);
    let target = key.key.target();

    let mut other_version = target;
    other_version.version = other_version.version.next().unwrap();
    assert!(VerifiedCiphertext::verify(&parts, &other_version).is_err());
    for part in 0..5 {
        let mut bad = parts;
        let bytes = match part {
            0 => &mut bad.dh.u,
            1 => &mut bad.dh.u_bar,
            2 => &mut bad.dh.w,
            3 => &mut bad.dh.w_bar,
            _ => &mut bad.dh.f,
        };
        *bytes = parts.dh.u;
        if bad != parts {
            assert!(VerifiedCiphertext::verify(&bad, &target).is_err(), "{part}");
        }
    }

    // Rightly verified, for a key of the same custodians in another version: their shares of this one stay out of it.
    let mut newer = key.key.clone();
    newer.version = newer.version.next().unwrap();
    let (ciphertext, _) =
        crypto::kem::Encapsulator::new(newer.clone()).encapsulate(rng, &context());
    let parts = ciphertext.parts(&newer.deployment, context());
    let verified = VerifiedCiphertext::verify(&parts, &newer.target()).unwrap();
    let refused = Partial::make(&key.shares[0], &verified, &REQUEST, rng);
    assert_eq!(refused, Err(PartialError::AnotherKey));
}

#[test]
fn ciphertexts_are_verified_in_batches() {
    let key = Key::new(10, 2, 3);
    let rng = &mut Seeded::new(10);
    let mut parts: Vec<_> = (0..5).map(|_| key.encapsulate(rng).2).collect();
    parts[3].dh.f[0] ^= 1;
    let answers = VerifiedCiphertext::verify_batch(rng, &parts, &key.key.target());
    let good: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good, [true, true, true, false, true]);
}

#[test]
fn partials_of_different_ciphertexts_or_epochs_are_not_combined() {
    let key = Key::new(11, 2, 3);
    let rng = &mut Seeded::new(11);
    let (first, second) = (key.verified(rng), key.verified(rng));
    let one = verify(
        &request(&key, &first),
        partials(&key, &first, rng).remove(0),
    )
    .unwrap();
    let two = verify(
        &request(&key, &second),
        partials(&key, &second, rng).remove(1),
    )
    .unwrap();
    let mixed = combine(&[one.clone(), two]).unwrap_err();
    assert_eq!(mixed, CombineError::Mixed(index(2)));

    // The next epoch of the same key: other shares of the same secret.
    let mut later = key.sharing;
    later.epoch = later.epoch.next().unwrap();
    let (own, fresh) = (key.x, scalar(rng));
    let shares: Vec<DhShare> = later
        .threshold
        .indices()
        .map(|index| {
            let mut value = own + fresh * Scalar::from(index.get());
            DhShare::new(later, index, SecretScalar::take(&mut value)).unwrap()
        })
        .collect();
    let publics = shares.iter().map(|share| *share.public()).collect();
    let public = DhPublic::new(later, *key.public.group(), publics).unwrap();
    let partial = Partial::make(&shares[1], &first, &REQUEST, rng).unwrap();
    let request = Request {
        public: &public,
        ..request(&key, &first)
    };
    let two = verify(&request, partial).unwrap();
    assert_eq!(
        combine(&[one, two]).unwrap_err(),
        CombineError::Mixed(index(2))
    );
}

#[test]
fn a_batch_gives_the_answers_of_single_checks() {
    let keys = [Key::new(12, 3, 5), Key::new(13, 2, 3)];
    let rng = &mut Seeded::new(12);
    let ciphertexts: Vec<Vec<VerifiedCiphertext>> = keys
        .iter()
        .map(|key| (0..8).map(|_| key.verified(rng)).collect())
        .collect();
    let mut questions = Vec::new();
    for (key, ciphertexts) in keys.iter().zip(&ciphertexts) {
        for ciphertext in ciphertexts {
            for partial in partials(key, ciphertext, rng) {
                questions.push((request(key, ciphertext), partial));
            }
        }
    }
    let answers = verify_batch(questions.clone());
    assert!(answers.iter().all(Result::is_ok) && answers.len() == questions.len());
    assert!(verify_batch(Vec::new()).is_empty());

    // Three wrong ones: another partial's bytes, an index that does not exist, a commitment that is no element.
    let (swapped, index_at_end, garbled) = (0, 7, 20);
    let other = questions[1].1.to_bytes();
    let mut bytes = other;
    bytes[0] = 1;
    questions[swapped].1 = Partial::from_bytes(&bytes).unwrap();
    let mut bytes = questions[index_at_end].1.to_bytes();
    bytes[0] = 200;
    questions[index_at_end].1 = Partial::from_bytes(&bytes).unwrap();
    let mut bytes = questions[garbled].1.to_bytes();
    bytes[33..65].fill(0xff);
    questions[garbled].1 = Partial::from_bytes(&bytes).unwrap();
    let answers = verify_batch(questions.clone());
    for (number, (answer, (request, partial))) in answers.into_iter().zip(questions).enumerate() {
        let single = verify(&request, partial);
        assert_eq!(
            single.is_err(),
            [swapped, index_at_end, garbled].contains(&number)
        );
        assert_eq!(answer, single);
    }
}

/// Two wrong responses whose errors cancel out in a plain sum: the weights are there for this.
#[test]
fn errors_that_would_cancel_do_not() {
    let key = Key::new(14, 2, 3);
    let rng = &mut Seeded::new(14);
    let ciphertext = key.verified(rng);
    let made = partials(&key, &ciphertext, rng);
    let shift = scalar(rng);
    let shifted = |partial: &Partial, by: Scalar| {
        let mut bytes = partial.to_bytes();
        let response: [u8; 32] = bytes[97..].try_into().unwrap();
        let response = crypto::ristretto::scalar_from_bytes(&response).unwrap() + by;
        bytes[97..].copy_from_slice(response.as_bytes());
        Partial::from_bytes(&bytes).unwrap()
    };
    let questions = vec![
        (request(&key, &ciphertext), shifted(&made[0], shift)),
        (request(&key, &ciphertext), shifted(&made[1], -shift)),
    ];
    assert!(verify_batch(questions).iter().all(Result::is_err));
}

/// A generator that always says the same must not give the share away: two responses under one nonce would.
#[test]
fn a_stuck_generator_repeats_no_nonce() {
    let key = Key::new(15, 2, 3);
    let (first, second) = {
        let rng = &mut Seeded::new(15);
        (key.verified(rng), key.verified(rng))
    };
    let made = [&first, &second].map(|ciphertext| {
        Partial::make(&key.shares[0], ciphertext, &REQUEST, &mut Seeded::new(0)).unwrap()
    });
    let commitment = |partial: &Partial| partial.to_bytes()[33..65].to_vec();
    assert_ne!(commitment(&made[0]), commitment(&made[1]));
    let other = Partial::make(&key.shares[0], &first, &[1; 32], &mut Seeded::new(0)).unwrap();
    assert_ne!(commitment(&made[0]), commitment(&other));
    // And with a working one, the same request is answered with different proofs.
    let rng = &mut Seeded::new(16);
    let [one, two] =
        [(); 2].map(|()| Partial::make(&key.shares[0], &first, &REQUEST, rng).unwrap());
    assert_ne!(one, two);
}

#[test]
fn share_keys_of_another_key_or_of_a_higher_degree_are_no_public_keys_of_a_sharing() {
    let key = Key::new(17, 3, 5);
    let rng = &mut Seeded::new(17);
    let publics = key.public.shares().to_vec();
    let group = *key.public.group();
    let check = |group: Element, publics: Vec<Element>| DhPublic::new(key.sharing, group, publics);
    assert!(check(group, publics.clone()).is_ok());
    for wrong in 0..5 {
        let mut publics = publics.clone();
        publics[wrong] = element(&scalar(rng));
        assert_eq!(check(group, publics), Err(DhPublicError::Degree), "{wrong}");
    }
    let other = element(&scalar(rng));
    assert_eq!(check(other, publics.clone()), Err(DhPublicError::Degree));
    let mut swapped = publics.clone();
    swapped.swap(0, 1);
    assert_eq!(check(group, swapped), Err(DhPublicError::Degree));
    let short = DhPublicError::Length {
        given: 4,
        expected: 5,
    };
    assert_eq!(check(group, publics[..4].to_vec()), Err(short));

    // The same elements claimed as shares of 2 of 5, and shares of 4 of 5 claimed as 3 of 5.
    let lower = DhPublic::new(sharing(2, 5), group, publics.clone());
    assert_eq!(lower, Err(DhPublicError::Degree));
    assert!(DhPublic::new(sharing(4, 5), group, publics).is_ok());
    let higher = Key::new(18, 4, 5);
    let publics = higher.public.shares().to_vec();
    let claimed = check(*higher.public.group(), publics);
    assert_eq!(claimed, Err(DhPublicError::Degree));
}

#[test]
fn a_zero_share_and_an_index_beyond_n_are_refused() {
    let zero = SecretScalar::take(&mut Scalar::ZERO.clone());
    assert!(DhShare::new(sharing(2, 3), ShareIndex::FIRST, zero).is_err());
    let one = SecretScalar::take(&mut Scalar::ONE.clone());
    assert!(DhShare::new(sharing(2, 3), index(4), one).is_err());
}
