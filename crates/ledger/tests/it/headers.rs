//! What a light client believes: a quorum's signatures over a header that continues what it knows.

use domain::{GenesisHash, HeaderHash, Height, MerkleRoot, Principal, TimestampMs};
use ledger::header::{
    Certificate, FreshAnswer, Header, HeaderError, LightClient, ValidatorSet, sign_freshness,
    sign_header,
};
use ledger::{Chain, Genesis, Record};

use crate::world::{DEPLOYMENT, People, START, genesis};

/// A ledger of `n` validators, persons 2,000 and up.
struct Validators {
    people: People,
    genesis: Genesis,
    n: u64,
}

impl Validators {
    fn new(n: u64) -> Self {
        let mut people = People::default();
        let keys = (0..n).map(|v| people.principal(2_000 + v)).collect();
        let genesis = Genesis {
            validators: ValidatorSet::new(keys).unwrap(),
            ..genesis(true)
        };
        Self { people, genesis, n }
    }

    fn header(&self, height: u64, previous: HeaderHash) -> Header {
        Header {
            genesis: Chain::from(&self.genesis).genesis,
            height: Height(height),
            time: TimestampMs(START.0 + height),
            previous,
            state_root: MerkleRoot([1; 32]),
            transactions_root: MerkleRoot([2; 32]),
            receipts_root: MerkleRoot([3; 32]),
            next_validators: self.genesis.validators.hash(&DEPLOYMENT),
        }
    }

    /// Signed by the first `count` validators.
    fn certificate(&mut self, header: &Header, count: u64) -> Certificate {
        let mut signatures: Vec<_> = (0..count)
            .map(|v| sign_header(self.people.get(2_000 + v), &DEPLOYMENT, header))
            .collect();
        signatures.sort_by_key(|s| s.validator);
        Certificate { signatures }
    }

    fn fresh(&mut self, heights: &[u64], nonce: [u8; 32]) -> Vec<FreshAnswer> {
        let mut answers: Vec<_> = heights
            .iter()
            .enumerate()
            .map(|(v, height)| {
                let header = self.header(*height, HeaderHash([0; 32]));
                let validator = self.people.get(2_000 + u64::try_from(v).unwrap());
                sign_freshness(validator, &DEPLOYMENT, &header, nonce)
            })
            .collect();
        answers.sort_by_key(|a| a.signature.validator);
        answers
    }
}

const NONE: HeaderHash = HeaderHash([0; 32]);

#[test]
fn more_than_two_thirds_make_a_header_final() {
    for (n, quorum) in [(1, 1), (2, 2), (3, 3), (4, 3), (7, 5), (10, 7), (100, 67)] {
        let mut ledger = Validators::new(n);
        let header = ledger.header(1, NONE);
        assert_eq!(
            ledger.genesis.validators.quorum(),
            usize::try_from(quorum).unwrap()
        );
        for count in [0, quorum - 1, quorum, n] {
            let certificate = ledger.certificate(&header, count);
            let mut client = LightClient::new(&ledger.genesis);
            let result = client.advance(&header, &certificate, None);
            assert_eq!(result.is_ok(), count >= quorum, "{count} of {n}");
        }
        assert_eq!(ledger.n, n);
    }
}

#[test]
fn no_field_of_a_header_can_be_changed_after_signing() {
    let mut ledger = Validators::new(4);
    let header = ledger.header(5, HeaderHash([9; 32]));
    let certificate = ledger.certificate(&header, 3);
    let client = LightClient::new(&ledger.genesis);
    let refuse = |bad: Header| {
        let mut client = client.clone();
        assert!(client.advance(&bad, &certificate, None).is_err(), "{bad:?}");
        assert_eq!(client.newest(), None);
    };
    refuse(Header {
        genesis: GenesisHash([1; 32]),
        ..header.clone()
    });
    refuse(Header {
        height: Height(6),
        ..header.clone()
    });
    refuse(Header {
        time: TimestampMs(1),
        ..header.clone()
    });
    refuse(Header {
        previous: HeaderHash([8; 32]),
        ..header.clone()
    });
    refuse(Header {
        state_root: MerkleRoot([8; 32]),
        ..header.clone()
    });
    refuse(Header {
        transactions_root: MerkleRoot([8; 32]),
        ..header.clone()
    });
    refuse(Header {
        receipts_root: MerkleRoot([8; 32]),
        ..header.clone()
    });
    refuse(Header {
        next_validators: MerkleRoot([8; 32]),
        ..header.clone()
    });
    // Every bit of the encoding: unreadable, or refused.
    let bytes = header.encode();
    for bit in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(bad) = Header::decode(&bad) {
            refuse(bad);
        }
    }
    let mut client = client.clone();
    client.advance(&header, &certificate, None).unwrap();
    assert_eq!(client.newest(), Some(&header));
}

#[test]
fn signatures_of_others_and_repeated_ones_do_not_count() {
    let mut ledger = Validators::new(4);
    let header = ledger.header(1, NONE);
    let good = ledger.certificate(&header, 3);
    let refuse = |certificate: Certificate, expected: HeaderError| {
        let mut client = LightClient::new(&ledger.genesis);
        assert_eq!(client.advance(&header, &certificate, None), Err(expected));
    };
    let mut twice = good.clone();
    twice.signatures[1] = twice.signatures[0];
    refuse(twice, HeaderError::Order);
    let mut turned = good.clone();
    turned.signatures.reverse();
    refuse(turned, HeaderError::Order);
    let mut people = People::default();
    let mallory = people.get(66);
    let mut strange = good.clone();
    strange.signatures[0] = sign_header(mallory, &DEPLOYMENT, &header);
    strange.signatures.sort_by_key(|s| s.validator);
    refuse(strange, HeaderError::NoValidator(mallory.principal()));
    let mut forged = good.clone();
    forged.signatures[2].signature.0[0] ^= 1;
    refuse(
        forged.clone(),
        HeaderError::Signature(forged.signatures[2].validator),
    );
    // A fresh answer is signed for another purpose.
    let mut other = good;
    let answers = ledger.fresh(&[1, 1, 1], [0; 32]);
    other.signatures = answers.iter().map(|a| a.signature).collect();
    let first = other.signatures[0].validator;
    let mut client = LightClient::new(&ledger.genesis);
    assert_eq!(
        client.advance(&header, &other, None),
        Err(HeaderError::Signature(first))
    );
}

#[test]
fn a_client_only_goes_forward() {
    let mut ledger = Validators::new(1);
    let mut client = LightClient::new(&ledger.genesis);
    let first = ledger.header(1, NONE);
    let second = ledger.header(2, first.hash(&DEPLOYMENT));
    let unlinked = ledger.header(2, HeaderHash([7; 32]));
    let fifth = ledger.header(5, HeaderHash([5; 32]));
    let mut take = |client: &mut LightClient, header: &Header| {
        let certificate = ledger.certificate(header, 1);
        client.advance(header, &certificate, None)
    };
    take(&mut client, &first).unwrap();
    take(&mut client, &first).unwrap();
    assert_eq!(take(&mut client, &unlinked), Err(HeaderError::NotLinked));
    take(&mut client, &second).unwrap();
    assert_eq!(
        take(&mut client, &unlinked),
        Err(HeaderError::Equivocation(Height(2)))
    );
    take(&mut client, &fifth).unwrap();
    assert_eq!(
        take(&mut client, &second),
        Err(HeaderError::NotNewer {
            known: Height(5),
            got: Height(2)
        })
    );
    let mut back = ledger.header(6, fifth.hash(&DEPLOYMENT));
    back.time = TimestampMs(START.0);
    let certificate = ledger.certificate(&back, 1);
    assert_eq!(
        client.advance(&back, &certificate, None),
        Err(HeaderError::Time)
    );
}

#[test]
fn freshness_is_a_quorums_word_to_ones_own_nonce() {
    let mut ledger = Validators::new(4);
    let nonce = [3; 32];
    let mut client = LightClient::new(&ledger.genesis);
    let few = ledger.fresh(&[9, 9], nonce);
    assert_eq!(
        client.freshen(&nonce, &few),
        Err(HeaderError::TooFewSignatures { got: 2, needed: 3 })
    );
    let replayed = ledger.fresh(&[9, 9, 9], [4; 32]);
    assert_eq!(client.freshen(&nonce, &replayed), Err(HeaderError::Nonce));
    for tamper in 0..3 {
        let mut bad = ledger.fresh(&[9, 9, 9], nonce);
        match tamper {
            0 => bad[0].height = Height(99),
            1 => bad[0].header = HeaderHash([1; 32]),
            _ => bad[0].signature.signature.0[0] ^= 1,
        }
        assert!(matches!(
            client.freshen(&nonce, &bad),
            Err(HeaderError::Signature(_))
        ));
    }
    let mut doubled = ledger.fresh(&[9, 9, 9], nonce);
    doubled[1] = doubled[0].clone();
    assert_eq!(client.freshen(&nonce, &doubled), Err(HeaderError::Order));
    let mut strange = ledger.fresh(&[9, 9, 9], nonce);
    strange[0].signature.validator = Principal([0; 32]);
    assert!(client.freshen(&nonce, &strange).is_err());
    assert_eq!(client.fresh_height(), Height(0), "nothing of that counted");
    // One liar more cannot raise what three have reached; a slow one does not lower it.
    let answers = ledger.fresh(&[8, 9, 1_000_000, 7], nonce);
    assert_eq!(client.freshen(&nonce, &answers), Ok(Height(8)));
    let stale = ledger.header(7, NONE);
    assert_eq!(
        client.expect_fresh(&stale),
        Err(HeaderError::Stale {
            needed: Height(8),
            got: Height(7)
        })
    );
    let lower = ledger.fresh(&[2, 2, 2], nonce);
    assert_eq!(
        client.freshen(&nonce, &lower),
        Ok(Height(8)),
        "it never goes back"
    );
}

#[test]
fn headers_of_the_recent_past_are_admitted_down_to_what_is_known_to_be_final() {
    let mut ledger = Validators::new(1);
    let mut client = LightClient::new(&ledger.genesis);
    let nonce = [1; 32];
    let answers = ledger.fresh(&[4], nonce);
    client.freshen(&nonce, &answers).unwrap();
    for (height, good) in [(9, true), (5, true), (4, true), (3, false), (10, true)] {
        let header = ledger.header(height, HeaderHash([5; 32]));
        let certificate = ledger.certificate(&header, 1);
        // Of two adjacent heights the second must continue the first.
        let header = match client.newest() {
            Some(known) if known.height.0 + 1 == height => {
                ledger.header(height, known.hash(&DEPLOYMENT))
            }
            _ => header,
        };
        let certificate = if height == 10 {
            ledger.certificate(&header, 1)
        } else {
            certificate
        };
        assert_eq!(
            client.admit(&header, &certificate, None).is_ok(),
            good,
            "{height}"
        );
        let empty = Certificate {
            signatures: Vec::new(),
        };
        let newest = client.newest().map(|h| h.height);
        if newest != Some(Height(height)) {
            assert!(client.admit(&header, &empty, None).is_err());
        }
    }
    assert_eq!(client.newest().map(|h| h.height), Some(Height(10)));
}

#[test]
fn the_next_validators_take_over_where_the_header_says() {
    let mut ledger = Validators::new(1);
    let mut people = People::default();
    let next = ValidatorSet::new(vec![people.principal(77)]).unwrap();
    let mut client = LightClient::new(&ledger.genesis);
    let mut header = ledger.header(1, NONE);
    header.next_validators = next.hash(&DEPLOYMENT);
    let certificate = ledger.certificate(&header, 1);
    let refused = Err(HeaderError::NextValidators(Height(1)));
    assert_eq!(client.advance(&header, &certificate, None), refused);
    let wrong = ledger.genesis.validators.clone();
    assert_eq!(client.advance(&header, &certificate, Some(&wrong)), refused);
    assert_eq!(client.newest(), None);
    client.advance(&header, &certificate, Some(&next)).unwrap();
    let mut second = ledger.header(2, header.hash(&DEPLOYMENT));
    second.next_validators = next.hash(&DEPLOYMENT);
    let old = ledger.certificate(&second, 1);
    assert!(matches!(
        client.advance(&second, &old, None),
        Err(HeaderError::NoValidator(_))
    ));
    let new = Certificate {
        signatures: vec![sign_header(people.get(77), &DEPLOYMENT, &second)],
    };
    client.advance(&second, &new, None).unwrap();
}
