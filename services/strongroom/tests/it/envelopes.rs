//! `encrypt` and `decrypt` where nothing answers: passphrases, identities, exported keys, and what is refused.

use std::path::Path;

use crypto::kem::{PqSeed, SharedSecrets};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{ReleasedKey, Wrap};
use crypto::{Identity, Secret};
use domain::{
    DeploymentId, Epoch, HeaderHash, Height, KeyId, KeyVersion, MerkleRoot, PlatformType,
    ShareIndex, Slot, Threshold, TimestampMs,
};
use ledger::header::{ValidatorSet, sign_header};
use ledger::port::{Answer, FinalHeader, ProvedValue};
use ledger::records::{
    Committee, CommitteeEntry, ContextPolicy, KeyCreation, Member, VersionEntry, VersionStatement,
};
use ledger::{Certificate, ExportedKey, Genesis, Governance, Header, Limits, Record as _, State};
use sealed::Envelope;
use sealed::armor::{self, ArmorKind};
use sealed::envelope::Body;
use sealed::signed::Signed;

use crate::{Place, Ran};

const DEPLOYMENT: DeploymentId = DeploymentId([0x5e; 32]);

/// Where nobody listens: whoever asks the platform anyway fails.
const NOWHERE: &str = "http://127.0.0.1:9";

fn here(place: &Place, args: &[&str]) -> Ran {
    let deployment = DEPLOYMENT.to_string();
    let mut command = place.command(args);
    command
        .env("STRONGROOM_ENDPOINT", NOWHERE)
        .env("STRONGROOM_DEPLOYMENT", deployment);
    Ran::of(args, &command.output().unwrap())
}

fn write(place: &Place, name: &str, bytes: &[u8]) {
    std::fs::write(place.path().join(name), bytes).unwrap();
}

fn read(place: &Place, name: &str) -> Vec<u8> {
    std::fs::read(place.path().join(name)).unwrap()
}

/// Bytes that differ everywhere.
fn content(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new_keyed(&[7; 32])
        .finalize_xof()
        .fill(&mut out);
    out
}

/// Public keys with both secrets at hand, as no deployment ever has them.
struct WholeKey {
    genesis: Genesis,
    exported: ExportedKey,
    seed: PqSeed,
    x: SecretScalar,
}

fn person() -> Identity {
    Identity::from_seed(Secret::take(&mut [9; 32]))
}

fn whole_key() -> WholeKey {
    let who = person();
    let genesis = Genesis {
        deployment: DEPLOYMENT,
        development: true,
        software_root: None,
        governance: Governance::new(1, vec![who.principal()]).unwrap(),
        validators: ValidatorSet::new(vec![who.principal()]).unwrap(),
        limits: Limits::DEFAULT,
        time: TimestampMs(1_700_000_000_000),
        continues: None,
    };
    let slot = Slot {
        index: ShareIndex::new(1).unwrap(),
        standby: false,
    };
    let committee = Committee {
        threshold: Threshold::new(1, 1).unwrap(),
        members: vec![Member {
            slot,
            key: who.principal(),
            platform: PlatformType::Software,
        }],
        random: [1; 16],
    };
    let creation = KeyCreation {
        owner: who.principal(),
        name: "payroll".parse().unwrap(),
        random: [2; 32],
        scheme: 1,
        threshold: committee.threshold,
        committee: committee.id(&DEPLOYMENT),
        context: ContextPolicy::ANY,
        created: genesis.time,
    };
    let seed = PqSeed::from_secret(Secret::take(&mut [3; 64]));
    let x = SecretScalar::from_wide(&[4; 64]);
    let statement = VersionStatement {
        key: creation.key_id(&DEPLOYMENT),
        version: KeyVersion::FIRST,
        fencing: 1,
        epoch: Epoch::FIRST,
        committee: creation.committee,
        pq: *seed.public().as_bytes(),
        dh: x.times_base().compress().to_bytes(),
        commitments: MerkleRoot([5; 32]),
        dealer: who.principal(),
    };
    let entry = VersionEntry {
        statement: statement.encode(),
        commitments: vec![6; 64],
        acknowledgements: vec![statement.acknowledge(&who, &DEPLOYMENT, slot)],
        activation: statement.activate(&who, &DEPLOYMENT),
        epoch: statement.epoch,
        committee: statement.committee,
        height: Height(1),
        retires: None,
        destroyed: false,
    };
    let committee = CommitteeEntry {
        committee: committee.encode(),
        height: Height(1),
        from: genesis.time,
    };
    let keys = ExportedKey::state_keys(&statement);
    let creation = Signed::sign(&who, &DEPLOYMENT, creation).encode();
    let values = [creation, entry.encode(), committee.encode()];
    let entries = keys.iter().zip(values);
    let entries = entries.map(|(key, value)| (key.encode().into(), value.into()));
    let state = State::from_entries(genesis.clone(), Height(1), entries.collect());
    let header = Header {
        genesis: genesis.hash(),
        height: Height(1),
        time: genesis.time,
        previous: HeaderHash([0; 32]),
        state_root: state.root(),
        transactions_root: MerkleRoot([0; 32]),
        receipts_root: MerkleRoot([0; 32]),
        next_validators: genesis.validators.hash(&DEPLOYMENT),
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
                signatures: vec![sign_header(&who, &DEPLOYMENT, &header)],
            },
            header,
        },
    };
    WholeKey {
        exported: ExportedKey::from_answer(&DEPLOYMENT, &statement.key, &answer).unwrap(),
        genesis,
        seed,
        x,
    }
}

impl WholeKey {
    /// Opens an envelope as t custodians and a worker would together.
    fn open(&self, envelope: &Envelope) -> Vec<u8> {
        let public = self.exported.verify(ledger::Pin::Key(&self.exported.key));
        let key = public.unwrap().version.key;
        let wrap = envelope.wraps().iter().find_map(|wrap| match wrap {
            Wrap::NamedKey(wrap) => Some(wrap),
            _ => None,
        });
        let wrap = wrap.unwrap();
        let context = envelope.context().hash(&DEPLOYMENT);
        let u = wrap
            .ciphertext
            .parts(&DEPLOYMENT, context)
            .verify(&key.target());
        let dh = Element::from_point(u.unwrap().point() * self.x.danger_scalar()).unwrap();
        let pq = self.seed.open(&key.public.pq).unwrap();
        let shared = SharedSecrets::new(pq.decapsulate(&wrap.ciphertext.pq), &dh);
        let released = ReleasedKey {
            kem_hash: wrap.kem_hash(&DEPLOYMENT, &envelope.wrap_context()),
            key: key.derive_key(&wrap.ciphertext, &context, &shared),
        };
        let dek = envelope.unwrap_dek(&released).unwrap();
        envelope.open(&dek).unwrap().to_vec()
    }

    fn pin(&self, place: &Place) {
        let folder = place.path().join("config/genesis");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(
            folder.join(format!("{DEPLOYMENT}.cbor")),
            self.genesis.encode(),
        )
        .unwrap();
    }

    fn export(&self, place: &Place, name: &str) {
        let text = armor::encode(ArmorKind::PublicKey, &self.exported.encode());
        write(place, name, text.as_bytes());
    }
}

#[test]
fn a_passphrase_opens_files_of_every_size_binary_and_armored() {
    let place = Place::new();
    write(&place, "secret", b"battery staple\n");
    for (len, armored) in [
        (0, false),
        (1, true),
        (65_520, false),
        (65_521, true),
        (3_000_001, false),
    ] {
        let plain = content(len);
        write(&place, "plain", &plain);
        let mut args = vec![
            "encrypt",
            "--force",
            "--passphrase=secret",
            "--context",
            "a=b",
            "plain",
        ];
        if armored {
            args.push("--armor");
        }
        here(&place, &args).status(0);
        let sealed = read(&place, "plain.sealed");
        assert_eq!(
            sealed.starts_with(b"-----BEGIN STRONGROOM ENVELOPE-----\n"),
            armored
        );
        std::fs::remove_file(place.path().join("plain")).unwrap();
        let report = here(
            &place,
            &["decrypt", "--json", "--passphrase=secret", "plain.sealed"],
        );
        let report = report.status(0).json();
        assert_eq!(report["size_bytes"], len);
        assert_eq!(report["context"]["a"], "b");
        assert!(read(&place, "plain") == plain, "{len}");
    }
}

#[test]
fn what_was_altered_or_cut_off_leaves_no_file() {
    let place = Place::new();
    write(&place, "secret", b"battery staple\n");
    write(&place, "wrong", b"staple battery\n");
    write(&place, "plain", &content(2_500_000));
    here(&place, &["encrypt", "--passphrase=secret", "plain"]).status(0);
    let sealed = read(&place, "plain.sealed");
    let open = |bytes: &[u8], passphrase: &str| {
        write(&place, "x.sealed", bytes);
        let ran = here(&place, &["decrypt", passphrase, "x.sealed"]);
        assert!(!place.path().join("x").exists());
        assert!(!ran.stdout.contains('\u{0}'));
        ran
    };
    open(&sealed, "--passphrase=wrong").status(4);
    for at in [200, 1_500_000, sealed.len() - 1] {
        let mut altered = sealed.clone();
        altered[at] ^= 1;
        let ran = open(&altered, "--passphrase=secret");
        assert!([4, 5].contains(&ran.status), "{at}: {ran:?}");
    }
    open(&sealed[..sealed.len() - 1], "--passphrase=secret").status(5);
    let longer = [&sealed[..], b"x"].concat();
    open(&longer, "--passphrase=secret").status(5);
    open(b"nothing of the kind", "--passphrase=secret").status(2);
    // A file that is there stays as it is.
    write(&place, "plain", b"newer");
    here(&place, &["decrypt", "--passphrase=secret", "plain.sealed"]).status(7);
    assert_eq!(read(&place, "plain"), b"newer");
}

#[test]
fn people_encrypt_to_each_other_by_their_receiver_keys() {
    let (alice, bob) = (Place::new(), Place::new());
    for place in [&alice, &bob] {
        let kit = "identity";
        place.run(&["init"]).status(0);
        assert!(place.path().join("config").join(kit).exists());
    }
    here(&bob, &["identity", "receiver-key", "bob.receiver"]).status(0);
    write(&alice, "bob.receiver", &read(&bob, "bob.receiver"));
    write(&alice, "note", b"for bob and me");
    here(
        &alice,
        &[
            "encrypt",
            "--recipient",
            "bob.receiver",
            "--recipient",
            "me",
            "note",
        ],
    )
    .status(0);
    for place in [&alice, &bob] {
        write(place, "note.sealed", &read(&alice, "note.sealed"));
        here(place, &["decrypt", "--force", "note.sealed"]).status(0);
        assert_eq!(read(place, "note"), b"for bob and me");
    }
    let carol = Place::new();
    carol.run(&["init"]).status(0);
    write(&carol, "note.sealed", &read(&alice, "note.sealed"));
    here(&carol, &["decrypt", "note.sealed"])
        .status(4)
        .says("for others");
    // A receiver key is of one deployment.
    let mut elsewhere =
        alice.command(&["encrypt", "--recipient", "bob.receiver", "-o", "x", "note"]);
    elsewhere.env("STRONGROOM_DEPLOYMENT", "11".repeat(32));
    let refused = Ran::of(&[], &elsewhere.output().unwrap());
    refused.status(5).says("not signed by its principal");
}

#[test]
fn an_exported_key_encrypts_where_nothing_answers() {
    let (place, whole) = (Place::new(), whole_key());
    whole.pin(&place);
    whole.export(&place, "payroll.pub");
    write(&place, "plain", b"salaries");
    let args = [
        "encrypt",
        "--public-key",
        "payroll.pub",
        "--context",
        "month=2026-11",
        "plain",
    ];
    here(&place, &args).status(0).says("payroll");
    let sealed = read(&place, "plain.sealed");
    let envelope = Envelope::from_file(&sealed).unwrap();
    assert_eq!(whole.open(&envelope), b"salaries");
    assert_eq!(envelope.context().get("month"), Some("2026-11"));
    assert!(matches!(envelope.body(), Body::Inline(_)));
    // Opening it does ask.
    place.run(&["init"]).status(0);
    let asked = here(&place, &["decrypt", "--force", "plain.sealed"]);
    asked.status(6).says("cannot reach the gateway");
}

#[test]
fn exported_keys_that_nothing_shows_are_not_encrypted_to() {
    let (place, whole) = (Place::new(), whole_key());
    whole.export(&place, "payroll.pub");
    write(&place, "plain", b"salaries");
    let id = whole.exported.key.to_string();
    let other = KeyId([1; 32]).to_string();
    let encrypt = |args: &[&str]| {
        let _ = std::fs::remove_file(place.path().join("plain.sealed"));
        let all = [&["encrypt", "plain", "--public-key", "payroll.pub"], args].concat();
        let ran = here(&place, &all);
        assert_eq!(place.path().join("plain.sealed").exists(), ran.status == 0);
        ran
    };
    // Neither genesis nor id.
    encrypt(&[]).status(5).says("--expect");
    encrypt(&["--expect", &other])
        .status(5)
        .says("not expected");
    encrypt(&["--expect", &id]).status(0);
    // The genesis of somebody who runs another ledger for the same deployment.
    whole.pin(&place);
    let mut another = whole_key();
    another.genesis.time = TimestampMs(1);
    another.pin(&place);
    encrypt(&[]).status(5).says("is of ledger");
    whole.pin(&place);
    encrypt(&[]).status(0);
    // Its public keys replaced.
    let mut forged = whole_key();
    let mut entry = VersionEntry::decode(&forged.exported.version).unwrap();
    let mut statement = VersionStatement::decode(&entry.statement).unwrap();
    statement.dh = SecretScalar::from_wide(&[8; 64])
        .times_base()
        .compress()
        .to_bytes();
    entry.statement = statement.encode();
    forged.exported.version = entry.encode();
    forged.export(&place, "payroll.pub");
    encrypt(&[]).status(5).says("not what the ledger holds");
}

#[test]
fn holders_and_outputs_are_said() {
    let place = Place::new();
    write(&place, "plain", b"x");
    write(&place, "secret", b"battery staple\n");
    here(&place, &["encrypt", "plain"])
        .status(2)
        .says("nobody could open it");
    here(
        &place,
        &[
            "encrypt",
            "--passphrase=secret",
            "-o",
            "x",
            "plain",
            "secret",
        ],
    )
    .status(2)
    .says("-o is for one file");
    here(
        &place,
        &[
            "encrypt",
            "--passphrase=secret",
            "--context",
            "novalue",
            "plain",
        ],
    )
    .status(2);
    here(&place, &["encrypt", "--passphrase=secret", "missing"]).status(3);
    let both = here(
        &place,
        &[
            "encrypt",
            "--json",
            "--passphrase=secret",
            "plain",
            "secret",
        ],
    );
    assert_eq!(both.status(0).stdout.lines().count(), 2);
    here(&place, &["encrypt", "--passphrase=secret", "plain"])
        .status(7)
        .says("--force");
    here(
        &place,
        &[
            "decrypt",
            "--passphrase=secret",
            "--context",
            "a=b",
            "plain.sealed",
            "-o",
            "y",
        ],
    )
    .status(4)
    .says("encryption context");
    // Names of keys are read before anything is asked.
    here(&place, &["key", "show", "a/b"])
        .status(2)
        .says("names no key");
    assert!(!Path::new(&place.path().join("y")).exists());
}
