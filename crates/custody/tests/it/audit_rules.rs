//! Who reads which entries of an audit log.

use custody::replay::AUDITS_OF_ONE_MAX;
use custody::{AuditPermit, AuditRequest, Reason, ReplayWindow};
use domain::{KeyId, TimestampMs};
use ledger::StateKey;
use sealed::signed::Signed;

use crate::fixture::{FRIEND, Fixture, OWNER, OwnedProof};
use crate::world::{DEPLOYMENT, GOVERNOR, person};

fn ask(fixture: &mut Fixture, who: u64, keys: &[StateKey]) -> (AuditRequest, OwnedProof) {
    fixture.nonce += 1;
    let now = fixture.world.newest.time;
    let request = AuditRequest {
        chain: fixture.world.chain.genesis,
        principal: fixture.principal(who),
        key: None,
        after: 0,
        limit: 10,
        issued: now,
        expires: TimestampMs(now.0 + 60_000),
        nonce: [fixture.nonce; 16],
    };
    (request, OwnedProof::of(&mut fixture.world, keys))
}

fn judge(
    fixture: &Fixture,
    who: u64,
    request: AuditRequest,
    proof: &OwnedProof,
) -> Result<AuditPermit, Reason> {
    let mut request = request;
    let bytes = if person(who).principal() == request.principal {
        Signed::sign(&person(who), &DEPLOYMENT, request).encode()
    } else {
        // Signed by somebody else under the same hash of nothing: the envelope of their own request.
        request.principal = person(who).principal();
        let mut bytes = Signed::sign(&person(who), &DEPLOYMENT, request).encode();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    };
    let proof = proof.borrow();
    fixture
        .judge
        .audit(&fixture.view, &bytes, &proof)
        .outcome
        .map_err(|denial| denial.reason)
}

#[test]
fn owners_see_their_keys_governors_everything_and_everyone_themselves() {
    let mut fixture = Fixture::new();
    let creation = StateKey::KeyCreation(fixture.key);
    let (key, other) = (Some(fixture.key), Some(KeyId([7; 32])));
    let (owner, friend) = (fixture.principal(OWNER), fixture.principal(FRIEND));

    let (request, proof) = ask(&mut fixture, OWNER, std::slice::from_ref(&creation));
    let permit = judge(&fixture, OWNER, request, &proof).unwrap();
    assert!(permit.shows(key, Some(friend)) && permit.shows(key, None));
    assert!(!permit.shows(other, Some(friend)) && !permit.shows(None, None));
    assert!(
        permit.shows(other, Some(owner)),
        "what one asked for oneself"
    );

    // Somebody who shows the same creation and is not its owner.
    let (request, proof) = ask(&mut fixture, FRIEND, std::slice::from_ref(&creation));
    let permit = judge(&fixture, FRIEND, request, &proof).unwrap();
    assert!(!permit.shows(key, Some(owner)) && permit.shows(key, Some(friend)));

    // Who shows nothing sees only what they asked for.
    let (request, proof) = ask(&mut fixture, OWNER, &[]);
    let permit = judge(&fixture, OWNER, request, &proof).unwrap();
    assert!(!permit.shows(key, Some(friend)));

    let (request, proof) = ask(&mut fixture, GOVERNOR, &[StateKey::Governance]);
    let permit = judge(&fixture, GOVERNOR, request, &proof).unwrap();
    assert!(permit.shows(None, None) && permit.shows(other, Some(friend)));
    let (mut request, proof) = ask(&mut fixture, GOVERNOR, &[StateKey::Governance]);
    request.key = key;
    let permit = judge(&fixture, GOVERNOR, request, &proof).unwrap();
    assert!(permit.shows(key, None) && !permit.shows(other, None));

    let (request, proof) = ask(&mut fixture, FRIEND, &[StateKey::Governance]);
    let permit = judge(&fixture, FRIEND, request, &proof).unwrap();
    assert!(!permit.all);
}

#[test]
fn refused_pages() {
    let mut fixture = Fixture::new();
    let run = |fixture: &mut Fixture, who, change: &dyn Fn(&mut AuditRequest)| {
        let (mut request, proof) = ask(fixture, OWNER, &[]);
        change(&mut request);
        judge(fixture, who, request, &proof).map(|_| ())
    };
    assert_eq!(run(&mut fixture, OWNER, &|_| {}), Ok(()));
    assert_eq!(run(&mut fixture, FRIEND, &|_| {}), Err(Reason::Signature));
    for limit in [0, 257] {
        let refused = run(&mut fixture, OWNER, &|request| request.limit = limit);
        assert_eq!(refused, Err(Reason::Malformed));
    }
    assert_eq!(
        run(&mut fixture, OWNER, &|request| request.chain.0[0] ^= 1),
        Err(Reason::OtherLedger)
    );
    assert_eq!(
        run(&mut fixture, OWNER, &|request| request.expires.0 += 1),
        Err(Reason::Expired)
    );
    let creation = StateKey::KeyCreation(fixture.key);
    let (request, proof) = ask(&mut fixture, OWNER, &[creation]);
    assert!(judge(&fixture, OWNER, request.clone(), &proof).is_ok());
    assert_eq!(
        judge(&fixture, OWNER, request, &proof),
        Err(Reason::Replayed)
    );
    fixture.view.fresh(false);
    assert_eq!(run(&mut fixture, OWNER, &|_| {}), Err(Reason::LedgerStale));
}

#[test]
fn reading_logs_takes_nothing_from_decrypting_and_strangers_are_not_remembered() {
    let mut fixture = Fixture::new();
    let creation = StateKey::KeyCreation(fixture.key);
    let name = custody::LedgerName::from(&crate::world::genesis(true));
    let me = fixture.custodian().principal();
    // No room for any request to decrypt: audits have their own.
    fixture.judge = custody::Judge::new(name, me).with_window(ReplayWindow::bounded(0, 0));
    let (request, proof) = ask(&mut fixture, OWNER, std::slice::from_ref(&creation));
    assert!(judge(&fixture, OWNER, request, &proof).is_ok());
    // And the other way round: full of audits, it decrypts.
    fixture.judge = custody::Judge::new(name, me);
    let mut full = false;
    for number in 0..=u32::try_from(AUDITS_OF_ONE_MAX).unwrap() {
        let (mut request, proof) = ask(&mut fixture, OWNER, std::slice::from_ref(&creation));
        request.nonce[..4].copy_from_slice(&number.to_be_bytes());
        full = judge(&fixture, OWNER, request, &proof) == Err(Reason::Busy);
        if full {
            assert_eq!(number, u32::try_from(AUDITS_OF_ONE_MAX).unwrap());
        }
        fixture.nonce = 0;
    }
    assert!(full);
    let brought = fixture.bring(OWNER, 1, &crypto::context::EncryptionContext::default());
    assert_eq!(fixture.reason(&brought), None);
    // A stranger is shown nothing of others, so asking twice gains nothing and takes no room.
    let (request, proof) = ask(&mut fixture, FRIEND, &[creation]);
    for _ in 0..2 {
        let permit = judge(&fixture, FRIEND, request.clone(), &proof).unwrap();
        assert!(!permit.is_entitled());
    }
}
