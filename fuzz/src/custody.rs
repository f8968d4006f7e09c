//! Custodians and workers: what a host may put in front of them, and what they may have made up for whoever asks.

use std::sync::{LazyLock, Mutex, PoisonError};

use attestation::Role;
use crypto::context::EncryptionContext;
use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::{Element, SecretScalar};
use crypto::{Identity, Secret};
use custody::audit::{self, verify_page};
use custody::request::request_hash;
use custody::{
    Ask, AuditEntry, AuditHead, AuditRecord, AuditRequest, AuditedOperation, CiphertextBytes,
    Decision, DecryptRequest, Denial, Judge, KemHashes, LedgerName, LedgerProof, LedgerView,
    Operation, ProvedValue, Reason, Recipient, RequestHash, SealedPartials, SealedSecrets,
    ShareName, Shares,
};
use domain::{
    CommitteeId, Epoch, Height, KeyVersion, MerkleRoot, PlatformType, Principal, RecordHash,
    ShareIndex, Slot, Threshold, TimestampMs,
};
use enclave_wire::v1;
use ledger::header::sign_header;
use ledger::records::{ContextPolicy, KeyCreation, KeyStatus, VersionEntry, VersionStatement};
use ledger::{Certificate, Header, HeaderError, LightClient, Record as _, State, StateKey};
use prost::Message;
use sealed::signed::Signed;
use threshold::partial::VerifiedCiphertext;
use threshold::{CommitmentList, CustodianRecord, DhPublic, DhShare, PqShare, Sharing};

use crate::chain::{genesis, one};
use crate::{Target, fixed};

pub const CUSTODY_RECORD: Target = Target {
    name: "custody_record",
    run: record,
    seeds: || {
        let page = page();
        let mut seeds = vec![FIXTURE.decrypt.encode(), FIXTURE.audit.encode()];
        seeds.extend(
            page.entries
                .iter()
                .filter_map(|entry| entry.record.as_ref().map(|one| one.to_vec())),
        );
        seeds
    },
};

pub const CUSTODY_QUESTION: Target = Target {
    name: "custody_question",
    run: question,
    seeds: || {
        let asks = [
            v1::question::Ask::Decrypt(decrypt_ask()),
            v1::question::Ask::Audit(v1::Audit {
                request: FIXTURE.audit.encode().into(),
                proof: Some(ledger_proof()),
            }),
            v1::question::Ask::Confirm(v1::Confirm {
                header: FIXTURE.header.encode().into(),
                certificate: FIXTURE.certificate.encode().into(),
                ..v1::Confirm::default()
            }),
        ];
        let question = |ask| v1::Question {
            id: 7,
            ask: Some(ask),
        };
        asks.map(|ask| question(ask).encode_to_vec()).to_vec()
    },
};

pub const CUSTODY_ANSWER: Target = Target {
    name: "custody_answer",
    run: answer,
    seeds: || {
        let opened = v1::Opened {
            partials: vec![v1::SealedPartials {
                sealed: FIXTURE.partials.sealed.clone().into(),
                signature: Some(v1::CustodianSignature {
                    index: 1,
                    principal: fixed::identity().principal().0.to_vec().into(),
                    signature: FIXTURE.partials.signature.0.to_vec().into(),
                }),
            }],
            sealed_secrets: FIXTURE.secrets.sealed.clone().into(),
            worker: fixed::identity().principal().0.to_vec().into(),
            signature: FIXTURE.secrets.signature.0.to_vec().into(),
            failures: Vec::new(),
        };
        let outcome = Some(v1::answer::Outcome::Opened(opened));
        vec![v1::Answer { id: 7, outcome }.encode_to_vec()]
    },
};

pub const AUDIT_PAGE: Target = Target {
    name: "audit_page",
    run: audit_page,
    seeds: || vec![page().encode_to_vec()],
};

/// A ledger with one key of a committee of one, that custodian's share, and what a good asker brings.
struct Fixture {
    header: Header,
    certificate: Certificate,
    values: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    share: (ShareName, Vec<u8>),
    sharing: Sharing,
    parts: [Vec<u8>; 3],
    recipient: Recipient,
    decrypt: Signed<DecryptRequest>,
    audit: Signed<AuditRequest>,
    partials: SealedPartials,
    secrets: SealedSecrets,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(fixture);

const NOW: TimestampMs = TimestampMs(1_700_000_100_000);

fn index() -> ShareIndex {
    ShareIndex::new(1).expect("an index")
}

fn who() -> Identity {
    fixed::identity()
}

/// The key's records with real public keys, and its custodian's record.
fn key_records() -> (VersionStatement, Vec<(StateKey, Vec<u8>)>, CustodianRecord) {
    let (who, deployment, mut rng) = (who(), fixed::deployment(), fixed::rng());
    let creation = KeyCreation {
        owner: who.principal(),
        name: "fuzz".parse().expect("a name"),
        random: [8; 32],
        scheme: 1,
        threshold: Threshold::new(1, 1).expect("1 of 1"),
        committee: CommitteeId([0xcc; 32]),
        context: ContextPolicy::ANY,
        created: TimestampMs(1),
    };
    let scalar = SecretScalar::from_wide(&[0xdc; 64]);
    let group = Element::from_point(scalar.times_base()).expect("not the identity");
    let mut statement = VersionStatement {
        key: creation.key_id(&deployment),
        version: KeyVersion::FIRST,
        fencing: 1,
        epoch: Epoch::FIRST,
        committee: creation.committee,
        pq: *seed().public().as_bytes(),
        dh: *group.as_bytes(),
        commitments: MerkleRoot([0; 32]),
        dealer: who.principal(),
    };
    let sharing = statement.sharing(&deployment, creation.threshold);
    let public = DhPublic::new(sharing, group, vec![group]).expect("one share");
    let deal = threshold::pq::deal(&sharing, &Secret::take(&mut [0x9a; 64]), &mut rng);
    let commitments = CommitmentList::new(&public, &deal.commitments).expect("one share");
    statement.commitments = MerkleRoot(commitments.root());
    let slot = Slot {
        index: index(),
        standby: false,
    };
    let pq = PqShare::from_secret(index(), &deal.shares[0].to_secret()).expect("its own bytes");
    let dh = DhShare::new(sharing, index(), scalar).expect("its index");
    let record = CustodianRecord::new(&commitments, false, PlatformType::Software, pq, dh);
    let entry = VersionEntry {
        statement: statement.encode(),
        commitments: commitments.encode(),
        acknowledgements: vec![statement.acknowledge(&who, &deployment, slot)],
        activation: statement.activate(&who, &deployment),
        epoch: statement.epoch,
        committee: statement.committee,
        height: Height(1),
        retires: None,
        destroyed: false,
    };
    let status = KeyStatus {
        owner: who.principal(),
        current: Some(statement.version),
        pending: None,
        fencing: 1,
        min_decrypt: statement.version,
        delete_protected: false,
        suspended: false,
        retires: None,
        height: Height(1),
    };
    let key = statement.key;
    let creation = Signed::sign(&who, &deployment, creation).encode();
    let entries = vec![
        (StateKey::KeyCreation(key), creation),
        (StateKey::KeyStatus(key), status.encode()),
        (StateKey::KeyVersion(key, statement.version), entry.encode()),
    ];
    (statement, entries, record.expect("the committed share"))
}

fn seed() -> PqSeed {
    PqSeed::from_secret(Secret::take(&mut [0x9a; 64]))
}

fn fixture() -> Fixture {
    let (who, deployment, mut rng) = (who(), fixed::deployment(), fixed::rng());
    let (statement, entries, record) = key_records();
    let encoded = entries
        .iter()
        .map(|(key, value)| (key.encode(), value.clone()));
    let encoded: Vec<(Vec<u8>, Vec<u8>)> = encoded.collect();
    let state = encoded.iter().cloned();
    let state = state.map(|(key, value)| (key.into(), value.into()));
    let state = State::from_entries(genesis(), Height(1), state.collect());
    let header = Header {
        genesis: genesis().hash(),
        height: Height(1),
        time: NOW,
        previous: domain::HeaderHash([1; 32]),
        state_root: state.root(),
        transactions_root: MerkleRoot([2; 32]),
        receipts_root: MerkleRoot([3; 32]),
        next_validators: genesis().validators.hash(&deployment),
    };
    let certificate = Certificate {
        signatures: vec![sign_header(&who, &deployment, &header)],
    };
    let values = encoded.into_iter().map(|(key, value)| {
        let proof = state.prove(&key).1.encode();
        (key, value, proof)
    });

    let key = KeyRef {
        deployment,
        key: statement.key,
        version: statement.version,
        public: PublicKeys::from_bytes(&statement.pq, &statement.dh).expect("real keys"),
    };
    let context = EncryptionContext::from_user([("purpose", "fuzz")]).expect("a context");
    let hash = context.hash(&deployment);
    let target = key.target();
    let (ciphertext, _) = Encapsulator::new(key).encapsulate(&mut rng, &hash);
    let parts = ciphertext.parts(&deployment, hash);
    let recipient = Recipient::generate(&mut rng);
    let request = DecryptRequest {
        chain: genesis().hash(),
        principal: who.principal(),
        operation: Operation::Decrypt,
        key: statement.key,
        version: statement.version,
        kem_hashes: KemHashes::new(vec![parts.kem_hash(&deployment)]).expect("one"),
        recipient_dh: recipient.dh(),
        recipient_pq: recipient.pq(),
        min_height: Height(1),
        issued: NOW,
        expires: TimestampMs(NOW.0 + 60_000),
        nonce: [5; 16],
        job: None,
    };
    let hash = request.hash(&deployment);
    let verified =
        VerifiedCiphertext::verify_batch(&mut rng, std::slice::from_ref(&parts), &target);
    let verified = verified
        .into_iter()
        .next()
        .expect("one")
        .expect("its own proof");
    let sharing = *record.sharing();
    let partial = threshold::Partial::make(record.dh(), &verified, &hash.0, &mut rng);
    let partial = [partial.expect("its own key")];
    let asked = (&request, &hash);
    let partials = SealedPartials::seal(&mut rng, &who, &sharing, index(), asked, &partial);
    let secret = [Secret::take(&mut [0x55; 32])];
    let secrets = SealedSecrets::seal(&mut rng, &who, &deployment, asked, &secret);
    let audit = AuditRequest {
        chain: request.chain,
        principal: who.principal(),
        key: Some(statement.key),
        after: 0,
        limit: 256,
        issued: NOW,
        expires: TimestampMs(NOW.0 + 60_000),
        nonce: [6; 16],
    };
    Fixture {
        header,
        certificate,
        values: values.collect(),
        share: (ShareName::from(&statement), record.encode().to_vec()),
        sharing,
        parts: [
            parts.dh.to_bytes().to_vec(),
            parts.pq.0.to_vec(),
            context.encode(),
        ],
        recipient,
        decrypt: Signed::sign(&who, &deployment, request),
        audit: Signed::sign(&who, &deployment, audit),
        partials: partials.expect("a real recipient"),
        secrets: secrets.expect("a real recipient"),
    }
}

fn ledger_proof() -> v1::LedgerProof {
    let value = |(key, value, proof): &(Vec<u8>, Vec<u8>, Vec<u8>)| v1::ProvedValue {
        key: key.clone().into(),
        value: Some(value.clone().into()),
        proof: proof.clone().into(),
    };
    v1::LedgerProof {
        header: FIXTURE.header.encode().into(),
        certificate: FIXTURE.certificate.encode().into(),
        values: FIXTURE.values.iter().map(value).collect(),
    }
}

fn decrypt_ask() -> v1::Decrypt {
    let [dh, pq_hash, context] = FIXTURE.parts.clone().map(Into::into);
    v1::Decrypt {
        request: FIXTURE.decrypt.encode().into(),
        ciphertexts: vec![v1::Ciphertext {
            dh,
            pq_hash,
            pq: Vec::new().into(),
            context,
        }],
        proof: Some(ledger_proof()),
        avoid: Vec::new(),
    }
}

/// A chain of records, one of them hidden, under a head.
fn page() -> v1::AuditPage {
    let deployment = fixed::deployment();
    let mut previous = AuditHead::EMPTY;
    let mut entries = Vec::new();
    for sequence in 1..=3 {
        let record = AuditRecord {
            sequence,
            previous: previous.hash,
            time: NOW,
            height: Height(1),
            principal: Some(who().principal()),
            verified: true,
            key: Some(FIXTURE.decrypt.key),
            version: Some(KeyVersion::FIRST),
            operation: AuditedOperation::Decrypt,
            count: 1,
            decision: match sequence {
                2 => Decision::Deny(Reason::Busy),
                _ => Decision::Allow,
            },
            request: Some(RecordHash([9; 32])),
            suppressed: 0,
        };
        let hash = record.hash(&deployment);
        previous = AuditHead { sequence, hash };
        entries.push(v1::AuditEntry {
            sequence,
            hash: hash.0.to_vec().into(),
            record: (sequence != 2).then(|| record.encode().into()),
        });
    }
    v1::AuditPage {
        entries,
        head: previous.sequence,
        head_hash: previous.hash.0.to_vec().into(),
        principal: who().principal().0.to_vec().into(),
        ..v1::AuditPage::default()
    }
}

/// A message that says the same after it was encoded again.
pub(crate) fn message<T: Message + Default + PartialEq>(input: &[u8]) -> Option<T> {
    let message = T::decode(input).ok()?;
    let again = T::decode(message.encode_to_vec().as_slice());
    assert!(
        again.is_ok_and(|again| again == message),
        "read otherwise again"
    );
    Some(message)
}

fn signed<T: sealed::signed::Content>(input: &[u8]) -> Option<Signed<T>> {
    let signed = Signed::<T>::decode(input).ok()?;
    assert_eq!(signed.encode(), input, "one encoding only");
    Some(signed)
}

fn record(input: &[u8]) -> bool {
    signed::<DecryptRequest>(input).is_some()
        | signed::<AuditRequest>(input).is_some()
        | one::<AuditRecord>(input)
}

/// A view that knows what the genesis says, the fixture's header and what it is shown.
struct View(Mutex<LightClient>);

impl View {
    fn new() -> Self {
        let mut light = LightClient::new(&genesis());
        let taken = light.advance(&FIXTURE.header, &FIXTURE.certificate, None);
        taken.expect("its own header");
        Self(Mutex::new(light))
    }

    fn light(&self) -> std::sync::MutexGuard<'_, LightClient> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LedgerView for View {
    fn newest(&self) -> Option<Header> {
        self.light().newest().cloned()
    }

    fn time(&self) -> TimestampMs {
        NOW
    }

    fn started(&self) -> Option<TimestampMs> {
        Some(NOW)
    }

    fn floor(&self) -> Height {
        self.light().fresh_height()
    }

    fn is_fresh(&self) -> bool {
        true
    }

    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        self.light().admit(header, certificate, None)
    }

    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError> {
        self.admit(header, certificate)?;
        self.light().require(header.height);
        Ok(self.floor())
    }
}

struct OneShare;

impl Shares for OneShare {
    fn share(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial> {
        let (held, bytes) = &FIXTURE.share;
        let read = || CustodianRecord::decode(fixed::deployment(), bytes).expect("its own record");
        Ok((held == name).then(read))
    }
}

fn borrowed(proof: &v1::LedgerProof) -> LedgerProof<'_> {
    LedgerProof {
        header: &proof.header,
        certificate: &proof.certificate,
        values: proof
            .values
            .iter()
            .map(|value| ProvedValue {
                key: &value.key,
                value: value.value.as_deref(),
                proof: &value.proof,
            })
            .collect(),
    }
}

/// What a custodian makes of a question: permits what was signed, and nothing else.
fn question(input: &[u8]) -> bool {
    let Some(question) = message::<v1::Question>(input) else {
        return false;
    };
    let (view, deployment) = (View::new(), fixed::deployment());
    let judge = Judge::new(LedgerName::from(&genesis()), who().principal());
    match question.ask {
        Some(v1::question::Ask::Decrypt(ask)) => {
            let ciphertexts: Vec<CiphertextBytes<'_>> = ask
                .ciphertexts
                .iter()
                .map(|one| CiphertextBytes {
                    dh: &one.dh,
                    pq_hash: &one.pq_hash,
                    context: &one.context,
                })
                .collect();
            let proof = ask.proof.unwrap_or_default();
            let ask = Ask {
                peer: Role::Worker,
                request: &ask.request,
                ciphertexts: &ciphertexts,
                proof: &borrowed(&proof),
            };
            let verdict = judge.decrypt(&view, &OneShare, &ask, &mut fixed::rng());
            let known = request_hash(&deployment, &FIXTURE.decrypt);
            assert!(!verdict.facts.verified || verdict.facts.request == Some(known));
            let Ok(permit) = verdict.outcome else {
                return false;
            };
            assert_eq!(*permit.hash(), known, "nobody signed that");
            assert_eq!(ciphertexts.len(), 1);
            let [dh, pq_hash, context] = &FIXTURE.parts;
            let given = ciphertexts
                .first()
                .map(|one| (one.dh, one.pq_hash, one.context));
            let expected = (dh.as_slice(), pq_hash.as_slice(), context.as_slice());
            assert_eq!(given, Some(expected), "another ciphertext");
            // Each request once.
            let again = judge.decrypt(&view, &OneShare, &ask, &mut fixed::rng());
            assert_eq!(
                again.outcome.err().map(|denial| denial.reason),
                Some(Reason::Replayed)
            );
            true
        }
        Some(v1::question::Ask::Audit(ask)) => {
            let proof = ask.proof.unwrap_or_default();
            let verdict = judge.audit(&view, &ask.request, &borrowed(&proof));
            let known = request_hash(&deployment, &FIXTURE.audit);
            verdict.outcome.is_ok_and(|permit| {
                assert_eq!(permit.hash, known, "nobody signed that");
                assert!(!permit.all, "no governance was shown");
                true
            })
        }
        Some(v1::question::Ask::Confirm(ask)) => {
            let read = custody::proof::read_header(&ask.header, &ask.certificate);
            read.is_ok_and(|(header, certificate)| {
                let confirmed = view.confirm(&header, &certificate).is_ok();
                assert!(!confirmed || header == FIXTURE.header, "nobody signed that");
                confirmed
            })
        }
        _ => false,
    }
}

fn principal(bytes: &[u8]) -> Option<Principal> {
    bytes.try_into().ok().map(Principal)
}

fn signature(bytes: &[u8]) -> Option<crypto::identity::Signature> {
    bytes.try_into().ok().map(crypto::identity::Signature)
}

/// What whoever asked makes of an answer: takes what custodian and worker sealed for it, and nothing else.
fn answer(input: &[u8]) -> bool {
    let Some(answer) = message::<v1::Answer>(input) else {
        return false;
    };
    let Some(v1::answer::Outcome::Opened(opened)) = answer.outcome else {
        return false;
    };
    let deployment = fixed::deployment();
    let request: RequestHash = request_hash(&deployment, &FIXTURE.decrypt);
    let mut good = false;
    for partials in &opened.partials {
        let Some(by) = &partials.signature else {
            continue;
        };
        let index = u8::try_from(by.index)
            .ok()
            .and_then(|index| ShareIndex::new(index).ok());
        let parts = (principal(&by.principal), signature(&by.signature), index);
        let (Some(custodian), Some(signature), Some(index)) = parts else {
            continue;
        };
        let sealed = SealedPartials {
            sealed: partials.sealed.to_vec(),
            signature,
        };
        // Which key is the custodian's comes from the ledger, never from the answer.
        if custodian != who().principal() {
            continue;
        }
        let read = FIXTURE.recipient.open_partials(
            &custodian,
            &FIXTURE.sharing,
            index,
            &request,
            1,
            &sealed,
        );
        if let Ok(read) = read {
            assert_eq!(read.len(), 1);
            assert_eq!(sealed, FIXTURE.partials, "nobody signed that");
            good = true;
        }
    }
    let worker = (principal(&opened.worker), signature(&opened.signature));
    if let (Some(worker), Some(signature)) = worker
        && worker == who().principal()
    {
        let sealed = SealedSecrets {
            sealed: opened.sealed_secrets.to_vec(),
            signature,
        };
        let read = FIXTURE
            .recipient
            .open_secrets(&worker, &deployment, &request, 1, &sealed);
        assert!(
            read.is_err() || sealed == FIXTURE.secrets,
            "nobody signed that"
        );
        good &= read.is_ok();
    }
    good
}

/// A page as its reader checks it: whatever is taken is one chain up to the head.
fn audit_page(input: &[u8]) -> bool {
    let Some(page) = message::<v1::AuditPage>(input) else {
        return false;
    };
    let deployment = fixed::deployment();
    let hash = |bytes: &[u8]| bytes.try_into().ok().map(RecordHash);
    let entries: Option<Vec<AuditEntry>> = page
        .entries
        .iter()
        .map(|entry| {
            Some(AuditEntry {
                sequence: entry.sequence,
                hash: hash(&entry.hash)?,
                record: entry.record.as_ref().map(|record| record.to_vec()),
            })
        })
        .collect();
    let (Some(entries), Some(head)) = (entries, hash(&page.head_hash)) else {
        return false;
    };
    let head = AuditHead {
        sequence: page.head,
        hash: head,
    };
    let Ok(records) = verify_page(&deployment, None, &entries, &head) else {
        return false;
    };
    assert_eq!(records.len(), entries.len());
    for pair in entries.windows(2) {
        assert_eq!(pair[0].sequence.checked_add(1), Some(pair[1].sequence));
    }
    for (at, (entry, record)) in entries.iter().zip(&records).enumerate() {
        assert!(entry.sequence <= head.sequence);
        assert_eq!(entry.record.is_some(), record.is_some());
        if let (Some(bytes), Some(record)) = (&entry.record, record) {
            assert_eq!(audit::hash(&deployment, bytes), entry.hash);
            let before = at.checked_sub(1).and_then(|at| entries.get(at));
            assert!(before.is_none_or(|before| before.hash == record.previous));
        }
    }
    true
}
