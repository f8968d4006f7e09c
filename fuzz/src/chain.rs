//! The ledger: what senders, validators and disks may have made up.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crypto::Secret;
use crypto::kem::PqSeed;
use crypto::ristretto::SecretScalar;
use domain::{
    CommitteeId, Epoch, Height, KeyId, KeyVersion, MerkleRoot, PlatformType, ShareIndex, Slot,
    Threshold, TimestampMs,
};
use ledger::header::{ValidatorSet, sign_header};
use ledger::port::{Answer, FinalHeader, Ledger as _, ProvedValue};
use ledger::records::{
    AnchorKind, Committee, CommitteeEntry, ContextPolicy, GrantEntry, KeyCreation, KeyStatus,
    Member, VersionEntry, VersionStatement,
};
use ledger::transaction::{Anchor, Decision};
use ledger::{
    Action, Certificate, Chain, Expiry, ExportedKey, Genesis, Governance, Header, Limits, Pin,
    Receipt, Record, SignedTransaction, State, StateProof, Transaction, check,
};
use sealed::signed::Signed;
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

pub const EXPORTED_KEY: Target = Target {
    name: "exported_key",
    run: exported_key,
    seeds: || vec![EXPORTED.encode()],
};

pub(crate) fn genesis() -> Genesis {
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

pub(crate) fn one<T: Record>(input: &[u8]) -> bool {
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

/// A key version with the least around it that verifies: one custodian, one validator, three values.
static EXPORTED: LazyLock<ExportedKey> = LazyLock::new(|| {
    let (who, deployment) = (fixed::identity(), fixed::deployment());
    let slot = Slot {
        index: ShareIndex::new(1).expect("an index"),
        standby: false,
    };
    let committee = Committee {
        threshold: Threshold::new(1, 1).expect("1 of 1"),
        members: vec![Member {
            slot,
            key: who.principal(),
            platform: PlatformType::Software,
        }],
        random: [7; 16],
    };
    let creation = KeyCreation {
        owner: who.principal(),
        name: "fuzz".parse().expect("a name"),
        random: [8; 32],
        scheme: 1,
        threshold: committee.threshold,
        committee: committee.id(&deployment),
        context: ContextPolicy::ANY,
        created: TimestampMs(1),
    };
    let dh = SecretScalar::from_wide(&[0xdc; 64]).times_base();
    let statement = VersionStatement {
        key: creation.key_id(&deployment),
        version: KeyVersion::FIRST,
        fencing: 1,
        epoch: Epoch::FIRST,
        committee: creation.committee,
        pq: *PqSeed::from_secret(Secret::take(&mut [0x9a; 64]))
            .public()
            .as_bytes(),
        dh: dh.compress().to_bytes(),
        commitments: MerkleRoot([3; 32]),
        dealer: who.principal(),
    };
    let entry = VersionEntry {
        statement: statement.encode(),
        commitments: vec![5; 64],
        acknowledgements: vec![statement.acknowledge(&who, &deployment, slot)],
        activation: statement.activate(&who, &deployment),
        epoch: statement.epoch,
        committee: statement.committee,
        height: Height(1),
        retires: None,
        destroyed: false,
    };
    let committee = CommitteeEntry {
        committee: committee.encode(),
        height: Height(1),
        from: TimestampMs(1),
    };
    let creation = Signed::sign(&who, &deployment, creation).encode();
    let keys = ExportedKey::state_keys(&statement);
    let values = [creation, entry.encode(), committee.encode()];
    let entries = keys.iter().zip(values);
    let entries = entries.map(|(key, value)| (key.encode().into(), value.into()));
    let state = State::from_entries(genesis(), Height(1), entries.collect());
    let header = Header {
        state_root: state.root(),
        ..block().header
    };
    let values = keys.iter().map(|key| {
        let (value, proof) = state.prove(&key.encode());
        let value = value.map(|value| value.to_vec().into());
        ProvedValue { value, proof }
    });
    let answer = Answer {
        values: values.collect(),
        last: FinalHeader {
            certificate: Certificate {
                signatures: vec![sign_header(&who, &deployment, &header)],
            },
            header,
        },
    };
    let exported = ExportedKey::from_answer(&deployment, &statement.key, &answer);
    exported.expect("three values")
});

fn exported_key(input: &[u8]) -> bool {
    let Ok(key) = ExportedKey::decode(input) else {
        return false;
    };
    assert_eq!(key.encode(), input, "one encoding for one key");
    let known = || EXPORTED.verify(Pin::Key(&EXPORTED.key)).expect("its own");
    if let Ok(public) = key.verify(Pin::Genesis(&genesis())) {
        assert_eq!(public, known(), "a key that nobody signed");
    }
    // The header around it is not pinned here, the public keys are.
    if let Ok(public) = key.verify(Pin::Key(&EXPORTED.key)) {
        let known = known().version.key;
        assert_eq!(public.version.key, known, "keys that nobody signed");
    }
    true
}
