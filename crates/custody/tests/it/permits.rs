//! What ends a permit between the decision and the answer.

use crypto::context::EncryptionContext;
use custody::Reason;
use domain::TimestampMs;
use ledger::Action;
use ledger::transaction::Retire;

use crate::fixture::{FRIEND, Fixture, OWNER, grant_action};
use crate::world::{grant, person};

fn none() -> EncryptionContext {
    EncryptionContext::default()
}

/// The ledger's time goes on, and the custodian hears of it.
fn at(fixture: &mut Fixture, time_ms: u64) {
    fixture.world.time = TimestampMs(time_ms - 1_000);
    fixture.world.block(&[]);
    fixture.view.take(&mut fixture.world);
}

#[test]
fn a_permit_ends_with_what_it_rests_on() {
    let mut fixture = Fixture::new();
    let mut terms = grant(&mut fixture.world.people, OWNER, fixture.key, FRIEND, 1);
    let now = fixture.world.newest.time;
    terms.expires = Some(TimestampMs(now.0 + 30_000));
    let action = grant_action(&person(OWNER), terms);
    fixture.world.run(OWNER, action).unwrap();
    let again = |fixture: &Fixture, permit: &custody::Permit| {
        let answer = permit.check_again(&fixture.view);
        answer.err().map(|denial| denial.reason)
    };
    let brought = fixture.bring(FRIEND, 1, &none());
    let of_friend = fixture.ask(&brought).outcome.unwrap();
    let brought = fixture.bring(OWNER, 1, &none());
    let of_owner = fixture.ask(&brought).outcome.unwrap();
    assert_eq!(again(&fixture, &of_friend), None);
    fixture.view.fresh(false);
    assert_eq!(again(&fixture, &of_friend), Some(Reason::LedgerStale));
    fixture.view.fresh(true);
    // Confirmed up to the very header of its proofs, and one beyond.
    let height = fixture.world.newest.height;
    fixture.view.require(height);
    assert_eq!(again(&fixture, &of_friend), None);
    at(&mut fixture, now.0 + 30_000);
    assert_eq!(again(&fixture, &of_friend), Some(Reason::NotGranted));
    assert_eq!(again(&fixture, &of_owner), None, "the owner needs no grant");
    at(&mut fixture, now.0 + 63_000);
    assert_eq!(again(&fixture, &of_owner), Some(Reason::Expired));
    fixture.view.require(fixture.world.newest.height);
    assert_eq!(again(&fixture, &of_owner), Some(Reason::ProofStale));
}

#[test]
fn a_permit_ends_with_its_version() {
    let mut fixture = Fixture::new();
    let deadline = TimestampMs(fixture.world.newest.time.0 + 20_000);
    let retire = Action::Retire(Retire {
        key: fixture.key,
        version: None,
        deadline: Some(deadline),
    });
    fixture.world.run(OWNER, retire).unwrap();
    let brought = fixture.bring(OWNER, 1, &none());
    let permit = fixture.ask(&brought).outcome.unwrap();
    assert!(permit.check_again(&fixture.view).is_ok());
    at(&mut fixture, deadline.0);
    let ended = permit.check_again(&fixture.view).unwrap_err();
    assert_eq!(ended.reason, Reason::KeyState);
}
