//! The committed vectors of ledger records, proofs and exported keys, version 1: made here without any randomness, read by this
//! implementation and by the Python reader under `testing/reader`, which has the documents alone.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo nextest run -p ledger vectors` writes them anew. Version 1 is fixed: that is right only for
//! cases that are added.

mod history;
mod keys;

use domain::{HeaderHash, Height, MerkleRoot, TimestampMs};
use ledger::header::{
    Certificate, FreshAnswer, Header, LightClient, ValidatorSet, ValidatorSignature,
    sign_freshness, sign_header,
};
use ledger::merkle::list::{self, ListProof};
use ledger::{Chain, Expiry, Genesis, Limits, Record, StateProof, check, transaction_hash};
use serde_json::{Value, json};

use crate::vector_files::{array, committed, golden, hex, pretty, unhex};
use crate::world::{DEPLOYMENT, START, World, anchor, genesis, person, signed_until};
use history::History;

const SET: &str = "ledger/v1";

/// Every optional field of a genesis.
fn promoted() -> Genesis {
    let before = genesis(true);
    Genesis {
        software_root: Some(person(77).principal()),
        validators: ValidatorSet::new((0..4).map(validator).map(|v| v.principal()).collect())
            .unwrap(),
        limits: Limits {
            time_lock_ms: 1,
            ..Limits::DEFAULT
        },
        continues: Some(ledger::genesis::Continues {
            genesis: before.hash(),
            height: Height(70_000),
            state_root: MerkleRoot([8; 32]),
        }),
        ..before
    }
}

fn validator(number: u64) -> crypto::Identity {
    person(2_000 + number)
}

fn genesis_case(genesis: &Genesis) -> Value {
    json!({
        "record": hex(&genesis.encode()),
        "hash": hex(&genesis.hash().0),
        "validators": hex(&genesis.validators.hash(&DEPLOYMENT).0),
        "quorum": genesis.validators.quorum(),
    })
}

fn sibling_list(proof: &ListProof) -> Vec<String> {
    proof.siblings.iter().map(|one| hex(one)).collect()
}

/// Items of a list of every length up to 9, each with its proof.
fn lists() -> Vec<Value> {
    let items: Vec<Vec<u8>> = (0_u8..9).map(|n| vec![n; usize::from(n)]).collect();
    let mut out = Vec::new();
    for len in 0..=items.len() {
        let items = &items[..len];
        let proofs: Vec<Value> = (0..len)
            .map(|index| list::prove(items, index).unwrap())
            .map(|proof| json!(sibling_list(&proof)))
            .collect();
        out.push(json!({
            "items": items.iter().map(|item| hex(item)).collect::<Vec<_>>(),
            "root": hex(&list::root(items).0),
            "proofs": proofs,
        }));
    }
    out
}

fn quorum_header(chain: &Chain, height: u64, genesis: &Genesis) -> Header {
    Header {
        genesis: chain.genesis,
        height: Height(height),
        time: TimestampMs(START.0 + height),
        previous: HeaderHash([1; 32]),
        state_root: MerkleRoot([2; 32]),
        transactions_root: MerkleRoot([3; 32]),
        receipts_root: MerkleRoot([4; 32]),
        next_validators: genesis.validators.hash(&DEPLOYMENT),
    }
}

/// Three of four validators, and certificates that are none.
fn certificates() -> Value {
    let genesis = promoted();
    let chain = Chain::from(&genesis);
    let header = quorum_header(&chain, 300, &genesis);
    let sign = |header: &Header, numbers: &[u64]| -> Vec<ValidatorSignature> {
        let mut signatures: Vec<_> = numbers
            .iter()
            .map(|number| sign_header(&validator(*number), &DEPLOYMENT, header))
            .collect();
        signatures.sort_by_key(|one| one.validator);
        signatures
    };
    let good = sign(&header, &[0, 1, 3]);
    let other = quorum_header(&chain, 301, &genesis);
    let mut foreign = header.clone();
    foreign.genesis.0[0] ^= 1;
    let mut cases = vec![
        ("two of four", header.clone(), sign(&header, &[0, 1])),
        ("a stranger", header.clone(), sign(&header, &[0, 1, 9])),
        ("another header's", header.clone(), sign(&other, &[0, 1, 3])),
        (
            "another ledger",
            foreign.clone(),
            sign(&foreign, &[0, 1, 3]),
        ),
    ];
    let mut reversed = good.clone();
    reversed.reverse();
    cases.push(("in another order", header.clone(), reversed));
    let mut twice = good.clone();
    twice[1] = twice[0];
    cases.push(("one validator's twice", header.clone(), twice));
    let mut altered = good.clone();
    let fresh = sign_freshness(&validator(0), &DEPLOYMENT, &header, [5; 32]).signature;
    for one in &mut altered {
        if one.validator == fresh.validator {
            *one = fresh;
        }
    }
    cases.push(("a word of freshness among them", header.clone(), altered));
    let bytes = |signatures: Vec<ValidatorSignature>| hex(&Certificate { signatures }.encode());
    let mut later = header.encode();
    let at = later.len() - 1;
    later[at] ^= 1;
    let mut refused: Vec<Value> = cases
        .into_iter()
        .map(|(what, header, signatures)| json!({"what": what, "header": hex(&header.encode()), "certificate": bytes(signatures)}))
        .collect();
    refused.push(json!({"what": "an altered header", "header": hex(&later), "certificate": bytes(good.clone())}));
    let mut longer = header.encode();
    longer.push(0);
    refused.push(json!({"what": "a byte too many", "header": hex(&longer), "certificate": bytes(good.clone())}));
    let answers: Vec<FreshAnswer> = {
        let mut answers: Vec<_> = [(0, 300), (1, 301), (2, 302), (3, 299)]
            .into_iter()
            .map(|(number, height)| {
                let header = quorum_header(&chain, height, &genesis);
                sign_freshness(&validator(number), &DEPLOYMENT, &header, [6; 32])
            })
            .collect();
        answers.sort_by_key(|answer| answer.signature.validator);
        answers
    };
    json!({
        "genesis": hex(&genesis.encode()),
        "header": hex(&header.encode()),
        "hash": hex(&header.hash(&DEPLOYMENT).0),
        "certificate": bytes(good),
        "refused": refused,
        "freshness": {
            "nonce": hex(&[6; 32]),
            "answers": answers.iter().map(|answer| hex(&answer.encode())).collect::<Vec<_>>(),
            "height": 300,
        },
    })
}

/// A signed record of whatever body: `{"body": ..., "signature": ...}`.
fn envelope(who: u64, label: &'static str, body: &[u8]) -> Vec<u8> {
    let signature = person(who).sign(crypto::Label::new(label), &DEPLOYMENT, body);
    let len = u16::try_from(body.len()).unwrap();
    let mut out = b"\xa2\x64body".to_vec();
    match u8::try_from(len) {
        Ok(len) => out.extend([0x58, len]),
        Err(_) => {
            out.push(0x59);
            out.extend(len.to_be_bytes());
        }
    }
    out.extend(body);
    out.extend(b"\x69signature\x58\x40");
    out.extend(signature.0);
    out
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// Transactions that are not taken whatever the state says.
fn refused_transactions(chain: &Chain) -> Vec<Value> {
    const LABEL: &str = "ledger-transaction";
    let good = signed_until(&person(2), chain, 0, Expiry::Height(Height(9)), anchor(1));
    let body = ledger::SignedTransaction::decode(&good)
        .unwrap()
        .body()
        .to_vec();
    assert_eq!(envelope(2, LABEL, &body), good);
    assert!(check(chain, &good).is_ok());
    let mut elsewhere = *chain;
    elsewhere.genesis.0[31] ^= 1;
    let mut altered = good.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let edits: [(&str, &[u8], &[u8]); 5] = [
        ("version 2", b"\x61v\x01", b"\x61v\x02"),
        (
            "a number longer than needed",
            b"\x65nonce\x00",
            b"\x65nonce\x18\x00",
        ),
        ("an unknown key", b"\x65nonce\x00", b"\x65nonse\x00"),
        ("an unknown action", b"\x66anchor\xa4", b"\x66anchop\xa4"),
        ("another type", b"\x6btransaction", b"\x6btransactiom"),
    ];
    let mut cases = vec![
        ("an altered signature", altered),
        ("another's signature", envelope(3, LABEL, &body)),
        (
            "another label",
            envelope(2, "ledger-transaction-hash", &body),
        ),
        ("a byte too many", [good.as_slice(), &[0]].concat()),
        ("cut off", good[..good.len() - 1].to_vec()),
        (
            "another ledger's",
            signed_until(
                &person(2),
                &elsewhere,
                0,
                Expiry::Height(Height(9)),
                anchor(1),
            ),
        ),
    ];
    for (what, from, to) in edits {
        cases.push((what, envelope(2, LABEL, &replaced(&body, from, to))));
    }
    cases
        .into_iter()
        .map(|(what, bytes)| json!({"what": what, "transaction": hex(&bytes)}))
        .collect()
}

/// Values, absence, and proofs that show neither.
fn proofs(world: &World) -> Value {
    let root = world.state.root().0;
    let shown = |key: &[u8]| {
        let (value, proof) = world.state.prove(key);
        json!({"key": hex(key), "value": value.as_deref().map(hex), "proof": hex(&proof.encode())})
    };
    let keys: Vec<Vec<u8>> = world
        .state
        .tree()
        .entries()
        .map(|(key, _)| key.to_vec())
        .collect();
    let mut good: Vec<Value> = keys.iter().take(12).map(|key| shown(key)).collect();
    // One kind of absence each: another key's leaf at the end of the path, and nothing there.
    let absent = |with_leaf: bool| {
        (0_u32..)
            .map(|n| n.to_be_bytes())
            .find(|key| world.state.prove(key).1.leaf.is_some() == with_leaf)
            .unwrap()
    };
    good.extend([shown(&absent(true)), shown(&absent(false))]);
    let (key, other) = (&keys[0], &keys[1]);
    let (value, proof) = world.state.prove(key);
    let value = value.unwrap().to_vec();
    let (other_value, other_proof) = world.state.prove(other);
    let mut cut = proof.clone();
    cut.siblings.pop();
    let mut swapped = proof.clone();
    swapped.siblings[0][0] ^= 1;
    let hidden = StateProof {
        leaf: None,
        siblings: proof.siblings.clone(),
    };
    let elsewhere = absent(true);
    let mut changed = value.clone();
    changed[0] ^= 1;
    let case = |what, key: &[u8], value: Option<&[u8]>, proof: &StateProof| json!({"what": what, "key": hex(key), "value": value.map(hex), "proof": hex(&proof.encode())});
    let refused = vec![
        case("another value", key, Some(&changed), &proof),
        case("absence of what is there", key, None, &proof),
        case("absence without the leaf", key, None, &hidden),
        case("another key's proof", key, Some(&value), &other_proof),
        case("another key's leaf as absence", key, None, &other_proof),
        case("another key's value", key, other_value.as_deref(), &proof),
        case("a sibling less", key, Some(&value), &cut),
        case("another sibling", key, Some(&value), &swapped),
        case(
            "a value where there is none",
            &elsewhere,
            Some(&value),
            &world.state.prove(&elsewhere).1,
        ),
    ];
    json!({"root": hex(&root), "good": good, "refused": refused})
}

fn make() -> Value {
    let history = History::play();
    json!({
        "deployment": hex(&DEPLOYMENT.0),
        "genesis": [genesis_case(history.world.state.genesis_record()), genesis_case(&promoted())],
        "blocks": history.blocks,
        "state": history.world.state.tree().entries()
            .map(|(key, value)| json!([hex(key), hex(value)])).collect::<Vec<_>>(),
        "proofs": proofs(&history.world),
        "lists": lists(),
        "certificates": certificates(),
        "refused_transactions": refused_transactions(&history.world.chain),
    })
}

#[test]
fn the_committed_ledger_is_what_is_made_today() {
    golden(SET, "ledger.json", &pretty(&make()));
}

#[test]
fn the_committed_blocks_and_proofs_are_read() {
    let all = committed(SET, "ledger.json");
    let genesis = Genesis::decode(&unhex(&all["genesis"][0]["record"])).unwrap();
    assert_eq!(hex(&genesis.hash().0), all["genesis"][0]["hash"]);
    let chain = Chain::from(&genesis);
    let mut client = LightClient::new(&genesis);
    let mut state = ledger::State::genesis(genesis);
    for block in all["blocks"].as_array().unwrap() {
        let header = Header::decode(&unhex(&block["header"])).unwrap();
        let certificate = Certificate::decode(&unhex(&block["certificate"])).unwrap();
        let transactions: Vec<Vec<u8>> = block["transactions"]
            .as_array()
            .unwrap()
            .iter()
            .map(unhex)
            .collect();
        let context = ledger::BlockContext {
            height: header.height,
            time: header.time,
        };
        let executed = ledger::execute(&state, &chain, context, &transactions).unwrap();
        assert_eq!(
            executed.header(&chain, header.previous, &transactions),
            header
        );
        for (receipt, bytes) in executed
            .receipts
            .iter()
            .zip(block["receipts"].as_array().unwrap())
        {
            assert_eq!(hex(&receipt.encode()), *bytes);
        }
        for (transaction, hash) in transactions.iter().zip(block["hashes"].as_array().unwrap()) {
            let signed = ledger::SignedTransaction::decode(transaction).unwrap();
            assert_eq!(hex(&transaction_hash(&DEPLOYMENT, &signed).0), *hash);
        }
        client
            .advance(&header, &certificate, Some(&executed.next_validators))
            .unwrap();
        state.commit(&executed).unwrap();
    }
    assert_eq!(hex(&state.root().0), all["proofs"]["root"]);
    let root = state.root().0;
    for (name, holds) in [("good", true), ("refused", false)] {
        for case in all["proofs"][name].as_array().unwrap() {
            let value = case["value"].as_str().map(|_| unhex(&case["value"]));
            let shown = StateProof::decode(&unhex(&case["proof"])).is_ok_and(|proof| {
                proof
                    .verify(&root, &unhex(&case["key"]), value.as_deref())
                    .is_ok()
            });
            assert_eq!(shown, holds, "{case}");
        }
    }
    for case in all["refused_transactions"].as_array().unwrap() {
        assert!(
            check(&chain, &unhex(&case["transaction"])).is_err(),
            "{case}"
        );
    }
}

#[test]
fn the_committed_certificates_are_told_apart() {
    let all = &committed(SET, "ledger.json")["certificates"];
    let genesis = Genesis::decode(&unhex(&all["genesis"])).unwrap();
    let take = |case: &Value| {
        let header = Header::decode(&unhex(&case["header"])).map_err(drop)?;
        let certificate = Certificate::decode(&unhex(&case["certificate"])).map_err(drop)?;
        LightClient::new(&genesis)
            .advance(&header, &certificate, None)
            .map_err(drop)
    };
    assert!(take(all).is_ok());
    let refused = all["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 9);
    for case in refused {
        assert!(take(case).is_err(), "{case}");
    }
    let fresh = &all["freshness"];
    let answers: Vec<FreshAnswer> = fresh["answers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bytes| FreshAnswer::decode(&unhex(bytes)).unwrap())
        .collect();
    let height = LightClient::new(&genesis)
        .freshen(&array(&fresh["nonce"]), &answers)
        .unwrap();
    assert_eq!(height.0, fresh["height"].as_u64().unwrap());
}
