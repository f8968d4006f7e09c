//! The committed vectors of sharings, version 1: made here from fixed randomness, read by the Python reader under
//! `testing/reader`, which computes every value again from `docs/threshold.md`.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo nextest run -p threshold vectors` writes them anew. Version 1 is fixed: that is right
//! only for values that are added.

use crypto::Secret;
use crypto::ristretto::SecretScalar;
use domain::{PlatformType, ShareIndex};
use serde_json::{Value, json};
use threshold::dkg::{Ceremony, Effect};
use threshold::partial::{Request, combine, verify};
use threshold::{CustodianRecord, DhShare, Partial, PqShare, shamir};

use crate::dkg::{identity, plan};
use crate::shamir::Scripted;
use crate::support::{Key, Seeded, derive, index, sharing};
use crate::vector_files::{committed, golden, hex, pretty};

const SET: &str = "threshold/v1";

fn number(index: ShareIndex) -> u8 {
    index.get()
}

fn shamir_vector() -> Value {
    let coefficients = [
        [0x3c_u8; 64],
        std::array::from_fn(|i| u8::try_from(i).unwrap()),
    ];
    let secret: [u8; 64] = std::array::from_fn(|i| u8::try_from(255 - 3 * i).unwrap());
    let shares = shamir::split(
        &Secret::take(&mut secret.clone()),
        sharing(3, 5).threshold,
        &mut Scripted::new(coefficients.concat()),
    );
    let shares: Vec<Value> = shares
        .iter()
        .map(|share| json!({"index": number(share.index), "value": hex(share.value.expose())}))
        .collect();
    json!({
        "secret": hex(&secret),
        "coefficients": coefficients.map(|coefficient| hex(&coefficient)),
        "shares": shares,
    })
}

fn sharing_vector(key: &Key) -> Value {
    let sharing = &key.sharing;
    json!({
        "deployment": sharing.deployment.to_string(),
        "key": sharing.key.to_string(),
        "version": sharing.version.get(),
        "epoch": sharing.epoch.get(),
        "committee": sharing.committee.to_string(),
        "t": sharing.threshold.t(),
        "n": sharing.threshold.n(),
        "binding": hex(&sharing.binding()),
    })
}

fn commitments_vector(key: &Key) -> Value {
    let shares: Vec<Value> = key
        .deal
        .shares
        .iter()
        .zip(&key.shares)
        .map(|(pq, dh)| {
            let entry = key.list.entry(pq.index()).unwrap();
            let scalar = dh.danger_secret().to_secret();
            json!({
                "index": number(pq.index()),
                "pq": hex(pq.value().expose()),
                "opening": hex(pq.opening().expose()),
                "dh": hex(scalar.expose()),
                "pq_commitment": hex(&pq.commitment(&key.sharing)),
                "dh_public": hex(dh.public().as_bytes()),
                "share_hash": hex(&entry.hash(&key.sharing, pq.index())),
            })
        })
        .collect();
    json!({
        "seed": hex(key.seed.danger_bytes().expose()),
        "group": hex(key.public.group().as_bytes()),
        "pq_public_blake3": blake3::hash(derive(key.seed.danger_bytes()).as_bytes()).to_string(),
        "shares": shares,
        "list": hex(&key.list.encode()),
        "root": hex(&key.list.root()),
    })
}

fn partials_vector(key: &Key) -> Value {
    let rng = &mut Seeded::new(77);
    let ciphertext = key.verified(rng);
    let request_hash = [0x7e; 32];
    let request = Request {
        public: &key.public,
        u: ciphertext.u(),
        request_hash: &request_hash,
    };
    let mut verified = Vec::new();
    let mut made = Vec::new();
    for share in &key.shares {
        let fresh = [number(share.index()); 32];
        let rng = &mut Scripted::new(fresh.to_vec());
        let partial = Partial::make(share, &ciphertext, &request_hash, rng).unwrap();
        made.push(json!({"fresh": hex(&fresh), "partial": hex(&partial.to_bytes())}));
        verified.push(verify(&request, partial).unwrap());
    }
    json!({
        "u": hex(ciphertext.u().as_bytes()),
        "request_hash": hex(&request_hash),
        "partials": made,
        "ss_dh": hex(combine(&verified).unwrap().expose()),
    })
}

fn record_vector(key: &Key) -> Value {
    let (pq, dh) = (&key.deal.shares[1], &key.shares[1]);
    let scalar = SecretScalar::from_secret(&dh.danger_secret().to_secret()).unwrap();
    let record = CustodianRecord::new(
        &key.list,
        true,
        PlatformType::SevSnp,
        PqShare::from_secret(pq.index(), &pq.to_secret()).unwrap(),
        DhShare::new(key.sharing, dh.index(), scalar).unwrap(),
    );
    json!(hex(&record.unwrap().encode()))
}

/// Every message of a ceremony of three honest parties, in the order of rounds and indices, and what came of it.
fn ceremony_vector() -> Value {
    let mut rng = Seeded::new(1234);
    let mut parties = Vec::new();
    let mut queue = Vec::new();
    for me in sharing(2, 3).threshold.indices() {
        let begun = Ceremony::start(plan(2, 3, 1), me, &identity(me), &mut rng);
        let (party, effects) = begun.unwrap();
        parties.push((me, party));
        queue.extend(effects.into_iter().map(|effect| (me, effect)));
    }
    let (mut messages, mut outcomes) = (Vec::new(), Vec::new());
    while !queue.is_empty() {
        for (from, effect) in std::mem::take(&mut queue) {
            match effect {
                Effect::Broadcast(bytes) => {
                    for (to, party) in parties.iter_mut().filter(|(to, _)| *to != from) {
                        let effects = party.receive(&bytes, &identity(*to), &mut rng);
                        queue.extend(effects.into_iter().map(|effect| (*to, effect)));
                    }
                    messages.push(json!(hex(&bytes)));
                }
                Effect::Store(outcome) => {
                    let at = usize::from(number(from)) - 1;
                    let effects = parties[at].1.stored(1, &identity(from), &mut rng);
                    queue.extend(effects.into_iter().map(|effect| (from, effect)));
                    outcomes.push(outcome);
                }
                Effect::Finished { .. } => {}
                Effect::Send { .. } | Effect::Aborted(_) => panic!("all are honest"),
            }
        }
    }
    assert!(parties.iter().all(|(_, party)| party.is_finished()));
    outcomes.sort_by_key(|outcome| outcome.share.index());
    let shares: Vec<String> = outcomes
        .iter()
        .map(|outcome| hex(outcome.share.danger_secret().to_secret().expose()))
        .collect();
    let roster: Vec<String> = sharing(2, 3)
        .threshold
        .indices()
        .map(|index| hex(identity(index).principal().as_bytes()))
        .collect();
    json!({
        "t": 2,
        "n": 3,
        "attempt": 1,
        "roster": roster,
        "messages": messages,
        "group": hex(outcomes[0].public.group().as_bytes()),
        "shares": shares,
    })
}

#[test]
fn threshold_vectors_are_what_this_implementation_makes() {
    let key = Key::new(42, 3, 5);
    let made = json!({
        "sharing": sharing_vector(&key),
        "shamir": shamir_vector(),
        "commitments": commitments_vector(&key),
        "partials": partials_vector(&key),
        "record": record_vector(&key),
        "ceremony": ceremony_vector(),
    });
    golden(SET, "threshold.json", &pretty(&made));
    // A stored record of this version stays readable.
    let stored = committed(SET, "threshold.json");
    let bytes = crate::vector_files::unhex(&stored["record"]);
    let read = CustodianRecord::decode(key.sharing.deployment, &bytes).unwrap();
    assert_eq!((read.slot().index, read.slot().standby), (index(2), true));
}
