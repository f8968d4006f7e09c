//! Audit logs: chained, with what an asker may not read left out.

use custody::audit::{AuditEntry, PageError, verify_page};
use custody::log_check::RESTARTS_MAX;
use custody::reason::Reason;
use custody::{
    AuditHead, AuditRecord, AuditStart, AuditedOperation, Decision, LogCheck, LogError, Next, Page,
    RequestHash, Whole,
};
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

/// The entries after `after`, as a custodian that keeps those after `kept` shows them.
fn page(length: u64, kept: u64, after: u64) -> Page {
    let (entries, head) = log(length);
    let before = match kept {
        0 => AuditHead::EMPTY,
        kept => {
            let entry = &entries[usize::try_from(kept - 1).unwrap()];
            AuditHead {
                sequence: entry.sequence,
                hash: entry.hash,
            }
        }
    };
    let shown = entries
        .into_iter()
        .filter(|entry| entry.sequence > after.max(kept));
    Page {
        start: AuditStart {
            before,
            time: TimestampMs(kept + 1),
        },
        head,
        entries: shown.take(4).collect(),
    }
}

#[test]
fn a_page_answers_one_request_and_nothing_of_it_is_hidden() {
    let whole = page(9, 2, 0);
    let custodian = person(5);
    let (chain, request) = (GenesisHash([1; 32]), RequestHash([2; 32]));
    let signature = whole.sign(&custodian, &DEPLOYMENT, &chain, &request);
    let who = custodian.principal();
    let verify = |page: &Page, chain: &GenesisHash, request: &RequestHash| {
        page.verify(&who, &DEPLOYMENT, chain, request, &signature)
            .is_ok()
    };
    assert!(verify(&whole, &chain, &request));
    assert!(!verify(&whole, &GenesisHash([3; 32]), &request));
    assert!(!verify(&whole, &chain, &RequestHash([3; 32])));
    let changes: [&dyn Fn(&mut Page); 8] = [
        // What an entry says, hidden as if the asker might not read it.
        &|page| {
            page.entries
                .iter_mut()
                .for_each(|entry| entry.record = None)
        },
        &|page| drop(page.entries.pop()),
        &|page| drop(page.entries.remove(0)),
        &|page| page.entries[1].hash.0[0] ^= 1,
        &|page| page.head.sequence -= 1,
        &|page| page.head.hash.0[0] ^= 1,
        &|page| page.start.before = AuditHead::EMPTY,
        &|page| page.start.time.0 += 1,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut changed = whole.clone();
        change(&mut changed);
        assert!(!verify(&changed, &chain, &request), "change {at}");
    }
}

fn entry(length: u64, sequence: u64) -> AuditHead {
    let (entries, _) = log(length);
    let entry = &entries[usize::try_from(sequence - 1).unwrap()];
    AuditHead {
        sequence,
        hash: entry.hash,
    }
}

/// Another entry of that number than the log's.
fn other(sequence: u64) -> AuditHead {
    AuditHead {
        sequence,
        hash: RecordHash([0xee; 32]),
    }
}

/// Reads a log of nine entries to its end.
fn read(
    kept: u64,
    seen: Option<AuditHead>,
    anchored: Option<AuditHead>,
) -> Result<Whole, LogError> {
    let mut check = LogCheck::new(seen, anchored);
    let mut after = 0;
    loop {
        // It goes on while it is read, which does not matter.
        match check.page(&page(9 + after, kept, after))? {
            Next::Page(last) => after = last.sequence,
            Next::Done(whole) => return Ok(whole),
            Next::Restart => panic!("nothing was dropped"),
        }
    }
}

#[test]
fn a_whole_log_is_found_whole_also_after_its_beginning_was_dropped() {
    let whole = read(0, Some(entry(9, 5)), Some(entry(9, 7))).unwrap();
    assert_eq!((whole.entries, whole.last.sequence), (9, 9));
    assert_eq!((whole.seen, whole.anchored), (Some(5), Some(7)));
    assert_eq!(whole.start.before, AuditHead::EMPTY);
    // From the first one that is kept; what was seen may be exactly before it, or no longer there.
    let whole = read(6, Some(entry(9, 6)), Some(entry(9, 3))).unwrap();
    assert_eq!((whole.entries, whole.start.before), (3, entry(9, 6)));
    assert_eq!((whole.seen, whole.anchored), (Some(6), None));
    assert_eq!(whole.start.time, TimestampMs(7));
    // The very end, and nothing known.
    assert!(read(0, Some(entry(9, 9)), Some(entry(9, 9))).is_ok());
    let whole = read(0, None, Some(AuditHead::EMPTY)).unwrap();
    assert_eq!((whole.seen, whole.anchored), (None, None));
}

#[test]
fn a_log_that_was_shortened_or_exchanged_is_named() {
    let check = |expected, kept, seen, anchored| {
        assert_eq!(read(kept, seen, anchored), Err(expected));
    };
    let behind = LogError::BehindLedger {
        end: 9,
        anchored: 10,
    };
    check(behind, 0, None, Some(other(10)));
    check(
        LogError::Shorter { end: 9, seen: 12 },
        0,
        Some(other(12)),
        None,
    );
    check(LogError::NotAnchored(7), 0, None, Some(other(7)));
    check(LogError::NotAnchored(6), 6, None, Some(other(6)));
    check(LogError::NotSeen(9), 0, Some(other(9)), None);
    // Nothing more, a shorter log in the middle, another end than the one that was signed.
    let first = page(9, 0, 0);
    let begun = || {
        let mut check = LogCheck::new(None, None);
        assert_eq!(check.page(&first), Ok(Next::Page(entry(9, 4))));
        check
    };
    let mut empty = page(9, 0, 4);
    empty.entries.clear();
    assert_eq!(begun().page(&empty), Err(LogError::Nothing(4)));
    let shorter = begun().page(&page(6, 0, 4));
    assert_eq!(shorter, Err(LogError::Shorter { end: 6, seen: 9 }));
    let mut exchanged = page(8, 0, 4);
    exchanged.head = entry(9, 9);
    let mut forged = begun();
    assert_eq!(forged.page(&exchanged), Ok(Next::Page(entry(9, 8))));
    let mut last = page(9, 0, 8);
    last.entries[0].hash = RecordHash([1; 32]);
    assert_eq!(forged.page(&last), Err(LogError::End(9)));
}

#[test]
fn a_log_whose_beginning_goes_while_it_is_read_is_begun_anew_a_few_times() {
    let mut check = LogCheck::new(None, None);
    for _ in 0..RESTARTS_MAX {
        assert_eq!(check.page(&page(9, 0, 0)), Ok(Next::Page(entry(9, 4))));
        assert_eq!(check.page(&page(9, 6, 4)), Ok(Next::Restart));
    }
    check.page(&page(9, 0, 0)).unwrap();
    assert_eq!(check.page(&page(9, 6, 4)), Err(LogError::Dropping));
}
