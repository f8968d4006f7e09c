//! What custodians store and send each other.

use std::sync::LazyLock;

use crypto::ristretto::{Element, SecretScalar};
use crypto::{Identity, Secret};
use domain::{CommitteeId, Epoch, KeyId, KeyVersion, PlatformType, ShareIndex, Threshold};
use threshold::dkg::{Ceremony, Effect, MESSAGE_BYTES_MAX, Patience, Plan};
use threshold::partial::{Request, verify};
use threshold::{
    CommitmentList, CustodianRecord, DhPublic, DhShare, Partial, PqShare, Sharing, pq,
};

use crate::{Target, fixed};

pub const PARTIAL: Target = Target {
    name: "partial",
    run: partial,
    seeds: || {
        // Canonical parts that prove nothing: what the decoder must take and the check must refuse.
        let element = *KEY.public.group().as_bytes();
        let bytes = [&[1][..], &element, &element, &element, &[1], &[0; 31]].concat();
        vec![bytes]
    },
};

pub const CUSTODIAN_RECORD: Target = Target {
    name: "custodian_record",
    run: custodian_record,
    seeds: || vec![KEY.record.encode().to_vec()],
};

pub const SHARE_COMMITMENTS: Target = Target {
    name: "share_commitments",
    run: share_commitments,
    seeds: || vec![KEY.list.encode()],
};

pub const DKG_MESSAGE: Target = Target {
    name: "dkg_message",
    run: dkg_message,
    seeds: || others_messages().to_vec(),
};

struct Key {
    public: DhPublic,
    list: CommitmentList,
    record: CustodianRecord,
}

fn sharing() -> Sharing {
    Sharing {
        deployment: fixed::deployment(),
        key: KeyId([0x4e; 32]),
        version: KeyVersion::FIRST,
        epoch: Epoch::FIRST,
        committee: CommitteeId([0xc0; 32]),
        threshold: Threshold::new(2, 2).expect("2 of 2"),
    }
}

/// x_i = 5 + 2 i: the line through 5 with slope 2.
static KEY: LazyLock<Key> = LazyLock::new(|| {
    let scalar = |number: u8| {
        let mut wide = [0; 64];
        wide[0] = number;
        SecretScalar::from_wide(&wide)
    };
    let share = |number: u8| {
        let index = ShareIndex::new(number).expect("not zero");
        DhShare::new(sharing(), index, scalar(5 + 2 * number)).expect("a share")
    };
    let group = Element::from_point(scalar(5).times_base()).expect("not the identity");
    let publics = vec![*share(1).public(), *share(2).public()];
    let public = DhPublic::new(sharing(), group, publics).expect("one line");
    let deal = pq::deal(&sharing(), &Secret::take(&mut [7; 64]), &mut fixed::rng());
    let list = CommitmentList::new(&public, &deal.commitments).expect("two of them");
    let first = &deal.shares[0];
    let copy = PqShare::from_secret(first.index(), &first.to_secret()).expect("96 bytes");
    let platform = PlatformType::Software;
    let record = CustodianRecord::new(&list, false, platform, copy, share(1)).expect("its shares");
    Key {
        public,
        list,
        record,
    }
});

fn partial(input: &[u8]) -> bool {
    let Ok(partial) = Partial::from_bytes(input) else {
        return false;
    };
    assert_eq!(partial.to_bytes(), input, "one encoding for one partial");
    let request = Request {
        public: &KEY.public,
        u: KEY.public.group(),
        request_hash: &[0; 32],
    };
    let index = partial.index();
    let refused = verify(&request, partial).expect_err("nobody proved that");
    assert_eq!(refused.0, index);
    true
}

fn custodian_record(input: &[u8]) -> bool {
    let Ok(record) = CustodianRecord::decode(fixed::deployment(), input) else {
        return false;
    };
    assert_eq!(
        record.encode().as_slice(),
        input,
        "one encoding for one record"
    );
    assert_eq!(record.pq().index(), record.slot().index);
    true
}

fn share_commitments(input: &[u8]) -> bool {
    let Ok(list) = CommitmentList::decode(sharing(), &KEY.list.root(), input) else {
        return false;
    };
    assert_eq!(list, KEY.list, "another list under the same root");
    true
}

fn party(number: u8) -> (ShareIndex, Identity) {
    let index = ShareIndex::new(number).expect("not zero");
    (index, Identity::from_seed(Secret::take(&mut [number; 32])))
}

fn begin(number: u8) -> (Ceremony, Vec<Effect>) {
    let roster = [1, 2].map(|number| party(number).1.principal());
    let patience = Patience {
        ask_after: 1,
        give_up_after: 3,
    };
    let plan = Plan::new(sharing(), roster.to_vec(), patience, 2).expect("two parties");
    let (index, identity) = party(number);
    Ceremony::start(plan, index, &identity, &mut fixed::rng()).expect("a party")
}

/// Everything that party 2 says to party 1: a commit, a deal, a ready; a question and an accusation.
fn others_messages() -> Vec<Vec<u8>> {
    let (mut ours, our_effects) = begin(1);
    let (mut theirs, their_effects) = begin(2);
    let mut said = Vec::new();
    let mut queue: Vec<(u8, Effect)> = our_effects.into_iter().map(|effect| (1, effect)).collect();
    queue.extend(their_effects.into_iter().map(|effect| (2, effect)));
    while !queue.is_empty() {
        for (from, effect) in std::mem::take(&mut queue) {
            let (to, effects) = match effect {
                Effect::Broadcast(bytes) => {
                    let to = 3 - from;
                    let machine = if to == 1 { &mut ours } else { &mut theirs };
                    let effects = machine.receive(&bytes, &party(to).1, &mut fixed::rng());
                    if from == 2 {
                        said.push(bytes);
                    }
                    (to, effects)
                }
                Effect::Store(outcome) => {
                    let machine = if from == 1 { &mut ours } else { &mut theirs };
                    let rng = &mut fixed::rng();
                    (from, machine.stored(outcome.attempt, &party(from).1, rng))
                }
                _ => continue,
            };
            queue.extend(effects.into_iter().map(|effect| (to, effect)));
        }
    }
    let (mut alone, _) = begin(2);
    for _ in 0..3 {
        for effect in alone.tick(&party(2).1, &mut fixed::rng()) {
            if let Effect::Broadcast(bytes) = effect {
                said.push(bytes);
            }
        }
    }
    said
}

/// True when the message had an effect on a party at any point of its ceremony.
fn dkg_message(input: &[u8]) -> bool {
    static OTHERS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(others_messages);
    let (_, identity) = party(1);
    let rng = &mut fixed::rng();
    let (mut machine, _) = begin(1);
    let mut had_effect = false;
    for number in 0..4 {
        let before = format!("{machine:?}");
        for effect in machine.receive(input, &identity, rng) {
            if let Effect::Broadcast(bytes) | Effect::Send { message: bytes, .. } = effect {
                assert!(
                    bytes.len() <= MESSAGE_BYTES_MAX,
                    "an answer that nobody would read"
                );
            }
        }
        had_effect |= format!("{machine:?}") != before;
        let Some(next) = OTHERS.get(number) else {
            break;
        };
        let _ = machine.receive(next, &identity, rng);
        let _ = machine.stored(1, &identity, rng);
    }
    assert!(input.len() <= MESSAGE_BYTES_MAX || !had_effect);
    had_effect
}
