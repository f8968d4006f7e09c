//! Audit logs: chained, with what an asker may not read left out.

use custody::audit::{AuditEntry, PageError, verify_page};
use custody::reason::Reason;
use custody::{AuditHead, AuditRecord, AuditedOperation, Decision, RequestHash};
use domain::{GenesisHash, Height, KeyId, KeyVersion, RecordHash, TimestampMs};
use ledger::Record as _;

use crate::requests::{DEPLOYMENT, person};

fn log(length: u64) -> (Vec<AuditEntry>, AuditHead) {
    let mut head = AuditHead::EMPTY;
    let mut entries = Vec::new();
    for sequence in 1..=length {
        let denied = sequence % 3 == 0;
        let record = AuditRecord {
            sequence,
            previous: head.hash,
            time: TimestampMs(sequence),
            height: Height(sequence),
            principal: (!denied).then(|| person(1).principal()),
            verified: !denied,
            key: Some(KeyId([1; 32])),
            version: Some(KeyVersion::FIRST),
            operation: AuditedOperation::Decrypt,
            count: 64,
            decision: if denied {
                Decision::Deny(Reason::CiphertextProof)
            } else {
                Decision::Allow
            },
            request: Some(RecordHash([9; 32])),
            suppressed: 0,
        };
        let hash = record.hash(&DEPLOYMENT);
        head = AuditHead { sequence, hash };
        entries.push(AuditEntry {
            sequence,
            hash,
            record: (sequence % 2 == 0).then(|| record.encode()),
        });
    }
    (entries, head)
}

#[test]
fn a_page_is_a_piece_of_one_chain() {
    let (entries, head) = log(9);
    let records = verify_page(&DEPLOYMENT, Some(AuditHead::EMPTY), &entries, &head).unwrap();
    let shown = records.iter().flatten().map(|record| record.sequence);
    assert_eq!(shown.collect::<Vec<_>>(), [2, 4, 6, 8]);
    // The second page, from what the first one ended with.
    let before = AuditHead {
        sequence: 4,
        hash: entries[3].hash,
    };
    assert!(verify_page(&DEPLOYMENT, Some(before), &entries[4..], &head).is_ok());
    let check = |change: &dyn Fn(&mut Vec<AuditEntry>)| {
        let mut changed = entries.clone();
        change(&mut changed);
        verify_page(&DEPLOYMENT, Some(AuditHead::EMPTY), &changed, &head).unwrap_err()
    };
    let left_out = check(&|page| {
        page.remove(4);
    });
    assert_eq!(left_out, PageError::Gap { after: 4, got: 6 });
    assert_eq!(check(&|page| page[4].hash.0[0] ^= 1), PageError::Link(6));
    assert_eq!(check(&|page| page[3].hash.0[0] ^= 1), PageError::Hash(4));
    assert_eq!(check(&|page| page[8].hash.0[0] ^= 1), PageError::Head(9));
    assert_eq!(
        check(&|page| {
            let (record, hash) = (page[1].record.clone(), page[1].hash);
            (page[3].record, page[3].hash) = (record, hash);
        }),
        PageError::Link(4)
    );
    let before = AuditHead {
        sequence: 0,
        hash: RecordHash([1; 32]),
    };
    let mut first = entries.clone();
    first[0].record = None;
    assert!(verify_page(&DEPLOYMENT, Some(before), &first, &head).is_ok());
    let shorter = AuditHead {
        sequence: 8,
        hash: entries[7].hash,
    };
    let beyond = verify_page(&DEPLOYMENT, None, &entries, &shorter);
    assert_eq!(beyond, Err(PageError::Head(9)));
}

#[test]
fn decisions_read_back_and_nothing_else_does() {
    for decision in std::iter::once(Decision::Allow).chain(Reason::ALL.map(Decision::Deny)) {
        let code = String::from(decision);
        assert_eq!(Decision::try_from(code), Ok(decision));
    }
    assert!(Decision::try_from("Allow".to_owned()).is_err());
}

#[test]
fn a_head_answers_one_request() {
    let (_, head) = log(2);
    let custodian = person(5);
    let (chain, request) = (GenesisHash([1; 32]), RequestHash([2; 32]));
    let signature = head.sign(&custodian, &DEPLOYMENT, &chain, &request);
    let who = custodian.principal();
    let verify = |head: &AuditHead, chain: &GenesisHash, request: &RequestHash| {
        head.verify(&who, &DEPLOYMENT, chain, request, &signature)
    };
    assert!(verify(&head, &chain, &request).is_ok());
    assert!(verify(&AuditHead::EMPTY, &chain, &request).is_err());
    assert!(verify(&head, &GenesisHash([3; 32]), &request).is_err());
    assert!(verify(&head, &chain, &RequestHash([3; 32])).is_err());
}
