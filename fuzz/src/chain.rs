//! The ledger: what senders, validators and disks may have made up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::{CommitteeId, Epoch, Height, KeyId, KeyVersion, MerkleRoot, TimestampMs};
use ledger::header::ValidatorSet;
use ledger::port::Ledger as _;
use ledger::records::{AnchorKind, GrantEntry, KeyStatus, VersionEntry, VersionStatement};
use ledger::transaction::{Anchor, Decision};
use ledger::{
    Action, Certificate, Chain, Expiry, Genesis, Governance, Header, Limits, Receipt, Record,
    SignedTransaction, StateProof, Transaction, check,
};
use solo::{Solo, SoloConfig};

use crate::{Target, fixed};

pub const LEDGER_TRANSACTION: Target = Target {
    name: "ledger_transaction",
    run: transaction,
    seeds: || vec![anchor().encode()],
};

pub const LEDGER_RECORD: Target = Target {
    name: "ledger_record",
    run: record,
    seeds: || {
        let block = block();
        vec![
            genesis().encode(),
            block.header.encode(),
            block.certificate.encode(),
            version_entry().encode(),
        ]
    },
};

pub const STATE_PROOF: Target = Target {
    name: "state_proof",
    run: proof,
    seeds: || {
        let leaf = Some(([1; 32], [2; 32]));
        [(None, 0), (leaf, 3), (leaf, 256)]
            .map(|(leaf, siblings)| {
                let siblings = vec![[7; 32]; siblings];
                StateProof { leaf, siblings }.encode()
            })
            .to_vec()
    },
};

pub const SOLO_BLOCK: Target = Target {
    name: "solo_block",
    run: solo::decode_anything,
    seeds: || vec![block().payload],
};

fn genesis() -> Genesis {
    let key = fixed::identity().principal();
    Genesis {
        deployment: fixed::deployment(),
        development: true,
        software_root: Some(key),
        governance: Governance::new(1, vec![key]).expect("one key"),
        validators: ValidatorSet::new(vec![key]).expect("one key"),
        limits: Limits::DEFAULT,
        time: TimestampMs(1_700_000_000_000),
        continues: None,
    }
}

/// A version whose commitments are made up: records are read before anybody checks what they say.
fn version_entry() -> VersionEntry {
    let worker = fixed::identity();
    let statement = VersionStatement {
        key: KeyId([1; 32]),
        version: KeyVersion::FIRST,
        fencing: 1,
        epoch: Epoch::FIRST,
        committee: CommitteeId([2; 32]),
        pq: [3; 1_184],
        dh: [4; 32],
        commitments: MerkleRoot([5; 32]),
        dealer: worker.principal(),
    };
    VersionEntry {
        statement: statement.encode(),
        commitments: vec![6; 5 * 64],
        acknowledgements: Vec::new(),
        activation: statement.activate(&worker, &fixed::deployment()),
        epoch: Epoch::FIRST,
        committee: CommitteeId([2; 32]),
        height: Height(7),
        retires: None,
        destroyed: false,
    }
}

fn anchor() -> SignedTransaction {
    let sender = fixed::identity();
    let content = Transaction {
        chain: genesis().hash(),
        sender: sender.principal(),
        nonce: 0,
        expires: Expiry::Time(TimestampMs(u64::MAX)),
        action: Action::Anchor(Anchor {
            kind: AnchorKind::Batch,
            sequence: 1,
            root: MerkleRoot([3; 32]),
            count: 5,
        }),
    };
    SignedTransaction::sign(&sender, &fixed::deployment(), content)
}

fn transaction(input: &[u8]) -> bool {
    if let Ok(decoded) = SignedTransaction::decode(input) {
        assert_eq!(decoded.encode(), input, "one encoding only");
    }
    let checked = check(&Chain::from(&genesis()), input);
    if let Ok(checked) = &checked {
        // Whoever changed a signed one has not signed it again.
        assert_eq!(checked.transaction().body(), anchor().body());
    }
    checked.is_ok()
}

fn one<T: Record>(input: &[u8]) -> bool {
    let Ok(record) = T::decode(input) else {
        return false;
    };
    assert_eq!(record.encode(), input, "one encoding only");
    true
}

fn record(input: &[u8]) -> bool {
    one::<Genesis>(input)
        | one::<Header>(input)
        | one::<Certificate>(input)
        | one::<Receipt>(input)
        | one::<Decision>(input)
        | one::<KeyStatus>(input)
        | one::<VersionStatement>(input)
        | one::<VersionEntry>(input)
        | one::<GrantEntry>(input)
}

fn proof(input: &[u8]) -> bool {
    let Ok(proof) = StateProof::decode(input) else {
        return false;
    };
    assert_eq!(proof.encode(), input, "one encoding only");
    let root = [9; 32];
    assert!(proof.verify(&root, b"key", Some(b"value")).is_err());
    assert!(proof.verify(&root, b"key", None).is_err());
    true
}

struct First {
    payload: Vec<u8>,
    header: Header,
    certificate: Certificate,
}

/// The first block of a ledger, as it lies in the log.
fn block() -> First {
    let dir = tempfile::tempdir().expect("a scratch folder");
    Solo::create(dir.path(), &genesis()).expect("a new ledger");
    let config = SoloConfig {
        reserve_bytes: 0,
        empty_block_every: Duration::from_secs(3_600),
        ..SoloConfig::new(
            dir.path(),
            Arc::new(fixed::identity()),
            Arc::new(|| TimestampMs(1_700_000_000_000)),
        )
    };
    let (solo, _) = Solo::open(config).expect("an open ledger");
    while solo.status().height.0 == 0 {
        std::thread::yield_now();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    let last = runtime.block_on(solo.finality(None)).expect("a header");
    solo.close();
    First {
        payload: payload(&dir.path().join("log-0000000000000001")),
        header: last.header,
        certificate: last.certificate,
    }
}

/// The payload of the first record of a log file: behind 24 bytes, as long as bytes 4 to 8 say.
fn payload(log: &Path) -> Vec<u8> {
    let bytes = std::fs::read(log).expect("a log");
    let len: [u8; 4] = bytes[4..8].try_into().expect("four bytes");
    let end = 24 + usize::try_from(u32::from_be_bytes(len)).expect("a length");
    bytes[24..end].to_vec()
}
