//! The post-quantum leg: rebuilding with liars among the custodians, and dealers that cheat.

use crypto::Secret;
use crypto::kem::PqSeed;
use threshold::pq::{
    ActivationError, DealerFault, PQ_SHARE_BYTES, RebuildError, check_activation, deal, rebuild,
};
use threshold::{CommitmentList, PqShare};

use crate::support::{Key, Seeded, derive, index, sharing};

fn copy(share: &PqShare) -> PqShare {
    PqShare::from_secret(share.index(), &share.to_secret()).unwrap()
}

/// The share with one bit of its 96 bytes turned.
fn altered(share: &PqShare, at: usize) -> PqShare {
    let mut bytes = *share.to_secret().expose();
    bytes[at] ^= 0x10;
    PqShare::from_secret(share.index(), &Secret::take(&mut bytes)).unwrap()
}

#[test]
fn any_t_shares_rebuild_the_seed() {
    let key = Key::new(1, 3, 5);
    let expected = key.seed.public();
    for skipped in 0..5 {
        for other in 0..skipped {
            let chosen: Vec<PqShare> = (0..5)
                .filter(|i| *i != skipped && *i != other)
                .map(|i| copy(&key.deal.shares[i]))
                .collect();
            let rebuilt = rebuild(&key.list, &chosen, derive, &expected).unwrap();
            assert!(rebuilt.seed.ct_eq(key.seed.danger_bytes()) && rebuilt.culprits.is_empty());
        }
    }
}

#[test]
fn whoever_gives_another_share_is_named_and_left_out() {
    let key = Key::new(2, 3, 5);
    let expected = key.seed.public();
    for at in [0, 63, 64, 95] {
        let shares = [
            altered(&key.deal.shares[0], at),
            copy(&key.deal.shares[1]),
            copy(&key.deal.shares[4]),
            copy(&key.deal.shares[2]),
        ];
        let rebuilt = rebuild(&key.list, &shares, derive, &expected).unwrap();
        assert!(rebuilt.seed.ct_eq(key.seed.danger_bytes()));
        assert_eq!(rebuilt.culprits, [index(1)]);

        let error = rebuild(&key.list, &shares[..3], derive, &expected).unwrap_err();
        let culprits = vec![index(1)];
        assert_eq!(
            error,
            RebuildError::TooFew {
                good: 2,
                needed: 3,
                culprits
            }
        );
    }
}

#[test]
fn another_share_under_ones_own_index_is_found() {
    let key = Key::new(3, 2, 3);
    let stolen = PqShare::from_secret(index(1), &key.deal.shares[1].to_secret()).unwrap();
    let shares = [stolen, copy(&key.deal.shares[1]), copy(&key.deal.shares[2])];
    let rebuilt = rebuild(&key.list, &shares, derive, &key.seed.public()).unwrap();
    assert_eq!(rebuilt.culprits, [index(1)]);
    // An index beyond n opens nothing.
    let beyond = PqShare::from_secret(index(4), &key.deal.shares[1].to_secret()).unwrap();
    assert!(!beyond.opens(&key.list));
}

#[test]
fn the_same_share_twice_counts_once() {
    let key = Key::new(4, 2, 3);
    let shares = [copy(&key.deal.shares[1]), copy(&key.deal.shares[1])];
    let error = rebuild(&key.list, &shares, derive, &key.seed.public()).unwrap_err();
    let culprits = vec![];
    assert_eq!(
        error,
        RebuildError::TooFew {
            good: 1,
            needed: 2,
            culprits
        }
    );
}

#[test]
fn a_commitment_is_bound_to_everything_around_it() {
    let key = Key::new(5, 2, 3);
    let share = &key.deal.shares[0];
    let original = share.commitment(&key.sharing);
    let mut others = vec![sharing(3, 3), sharing(2, 4)];
    for change in 0..5 {
        let mut other = key.sharing;
        match change {
            0 => other.deployment.0[0] ^= 1,
            1 => other.key.0[0] ^= 1,
            2 => other.version = other.version.next().unwrap(),
            3 => other.epoch = other.epoch.next().unwrap(),
            _ => other.committee.0[31] ^= 1,
        }
        others.push(other);
    }
    for other in others {
        assert_ne!(share.commitment(&other), original, "{other:?}");
    }
}

#[test]
fn a_right_deal_passes_the_activation_check() {
    for (t, n) in [(2, 3), (3, 5), (5, 5), (1, 4)] {
        let key = Key::new(6, t, n);
        assert_eq!(
            check_activation(&key.list, &key.deal.shares, derive, &key.seed.public()),
            Ok(())
        );
    }
}

#[test]
fn the_activation_check_names_missing_and_lying_custodians() {
    let key = Key::new(7, 3, 5);
    let expected = key.seed.public();
    let mut shares: Vec<PqShare> = key.deal.shares.iter().map(copy).collect();
    shares[1] = altered(&shares[1], 5);
    shares[3] = altered(&shares[3], 80);
    let error = check_activation(&key.list, &shares, derive, &expected).unwrap_err();
    assert_eq!(error, ActivationError::Custodians(vec![index(2), index(4)]));

    let some = [copy(&shares[0]), copy(&shares[2]), copy(&shares[4])];
    let error = check_activation(&key.list, &some, derive, &expected).unwrap_err();
    assert_eq!(error, ActivationError::Missing(vec![index(2), index(4)]));
}

/// A dealer that hands one custodian a share off the polynomial and commits to it: that custodian is honest, and t others
/// would rebuild, so only the whole check finds it.
#[test]
fn a_dealer_whose_shares_lie_on_no_polynomial_is_blamed_and_not_the_custodian() {
    let key = Key::new(8, 3, 5);
    for wrong in 0..5 {
        let mut shares: Vec<PqShare> = key.deal.shares.iter().map(copy).collect();
        shares[wrong] = altered(&shares[wrong], 17);
        let commitments: Vec<[u8; 32]> = shares
            .iter()
            .map(|share| share.commitment(&key.sharing))
            .collect();
        let list = CommitmentList::new(&key.public, &commitments).unwrap();
        let error = check_activation(&list, &shares, derive, &key.seed.public()).unwrap_err();
        assert!(
            matches!(error, ActivationError::Dealer(DealerFault::Polynomial(_))),
            "{error:?}"
        );
    }
}

/// A polynomial of degree t needs t + 1 shares: a dealer could make a key that no t custodians open.
#[test]
fn a_dealer_that_uses_a_higher_degree_is_blamed() {
    let key = Key::new(9, 3, 5);
    let rng = &mut Seeded::new(9);
    let higher = deal(&sharing(4, 5), key.seed.danger_bytes(), rng);
    let commitments: Vec<[u8; 32]> = higher
        .shares
        .iter()
        .map(|share| share.commitment(&key.sharing))
        .collect();
    let list = CommitmentList::new(&key.public, &commitments).unwrap();
    let error = check_activation(&list, &higher.shares, derive, &key.seed.public()).unwrap_err();
    assert!(matches!(
        error,
        ActivationError::Dealer(DealerFault::Polynomial(_))
    ));
}

#[test]
fn a_dealer_that_shares_another_seed_is_blamed() {
    let key = Key::new(10, 3, 5);
    let rng = &mut Seeded::new(999);
    let other = deal(&key.sharing, PqSeed::random(rng).danger_bytes(), rng);
    let list = CommitmentList::new(&key.public, &other.commitments).unwrap();
    let expected = key.seed.public();
    let error = check_activation(&list, &other.shares, derive, &expected).unwrap_err();
    assert_eq!(error, ActivationError::Dealer(DealerFault::PublicKey));
    let error = rebuild(&list, &other.shares, derive, &expected).unwrap_err();
    assert_eq!(error, RebuildError::Dealer(DealerFault::PublicKey));
}

#[test]
fn a_share_is_96_bytes_and_shows_nothing() {
    let key = Key::new(11, 2, 3);
    let share = &key.deal.shares[2];
    assert_eq!(share.to_secret().expose().len(), PQ_SHARE_BYTES);
    let shown = format!("{share:?} {:?}", key.deal);
    assert!(
        shown.contains("redacted") && !shown.contains(&format!("{:?}", share.value().expose()))
    );
}
