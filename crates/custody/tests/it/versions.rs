//! Who takes part in making a version, which shares are kept, and when one is shown.

use crypto::Secret;
use crypto::kem::PqSeed;
use crypto::ristretto::{Element, SecretScalar};
use custody::proof::Shown;
use custody::version::{DhOutcome, Fate, Part, check_show, fate, hold};
use custody::{Reason, ShareName, VerifiedCreation};
use domain::{KeyVersion, PlatformType, ShareIndex, TimestampMs};
use ledger::StateKey;
use ledger::records::{KeyStatus, VersionEntry, VersionStatement};
use threshold::{DhPublic, DhShare, PqShare};

use crate::fixture::{Fixture, INDEX, Made, OWNER, OwnedProof, TestView, make};
use crate::world::{CUSTODIAN, DEPLOYMENT, STANDBY, WORKER, World, begin};

fn pending() -> (Fixture, ShareName) {
    let mut fixture = Fixture::new();
    let action = begin(&mut fixture.world.people, fixture.key, 2, 1);
    fixture.world.run(OWNER, action).unwrap();
    let name = ShareName {
        key: fixture.key,
        version: KeyVersion::new(2).unwrap(),
        fencing: 2,
    };
    (fixture, name)
}

fn proof(world: &mut World, name: &ShareName) -> OwnedProof {
    let committee = world.committee_id();
    let keys = [
        StateKey::KeyCreation(name.key),
        StateKey::KeyStatus(name.key),
        StateKey::KeyVersion(name.key, name.version),
        StateKey::Committee(committee),
    ];
    OwnedProof::of(world, &keys)
}

fn part(fixture: &mut Fixture, who: u64, name: &ShareName) -> Result<Part, Reason> {
    let owned = proof(&mut fixture.world, name);
    let (borrowed, view) = (owned.borrow(), TestView::new());
    let shown = Shown::open(&view, &DEPLOYMENT, &borrowed).unwrap();
    let creation: VerifiedCreation = shown.creation(&name.key).unwrap();
    let me = fixture.principal(who);
    Part::find(&DEPLOYMENT, &me, &shown, &creation, name).map_err(|denial| denial.reason)
}

#[test]
fn a_part_is_what_the_ledger_shows() {
    let (mut fixture, name) = pending();
    for index in 1..=5 {
        let found = part(&mut fixture, CUSTODIAN + u64::from(index), &name).unwrap();
        assert_eq!(found.index, ShareIndex::new(index).unwrap());
        assert_eq!(found.roster.len(), 5);
        assert_eq!(found.sharing.version, name.version);
    }
    let standby = part(&mut fixture, STANDBY + 1, &name);
    assert_eq!(standby.unwrap_err(), Reason::NotAMember);
    assert_eq!(
        part(&mut fixture, 77, &name).unwrap_err(),
        Reason::NotAMember
    );
    let other = ShareName { fencing: 1, ..name };
    let me = CUSTODIAN + 1;
    assert_eq!(
        part(&mut fixture, me, &other).unwrap_err(),
        Reason::KeyState
    );
    let active = ShareName {
        version: KeyVersion::FIRST,
        fencing: 1,
        ..name
    };
    assert_eq!(
        part(&mut fixture, me, &active).unwrap_err(),
        Reason::KeyState
    );
}

#[test]
fn a_share_is_shown_until_the_version_is_active() {
    let (mut fixture, name) = pending();
    let check = |fixture: &mut Fixture, name: &ShareName| {
        let owned = proof(&mut fixture.world, name);
        let (borrowed, view) = (owned.borrow(), TestView::new());
        let shown = Shown::open(&view, &DEPLOYMENT, &borrowed).unwrap();
        check_show(&shown, name).map_err(|denial| denial.reason)
    };
    assert_eq!(check(&mut fixture, &name), Ok(()));
    for fencing in [1, 3] {
        let other = ShareName { fencing, ..name };
        assert_eq!(check(&mut fixture, &other), Err(Reason::KeyState));
    }
    let made = make(&mut fixture.world, name.key, 2, 2);
    let action = made.activation(&mut fixture.world);
    fixture.world.run(WORKER, action).unwrap();
    assert_eq!(check(&mut fixture, &name), Err(Reason::KeyState));
}

#[test]
fn only_what_is_certain_is_erased() {
    let (mut fixture, name) = pending();
    let state = |fixture: &Fixture, name: &ShareName| {
        let status: KeyStatus = fixture
            .world
            .record(&StateKey::KeyStatus(name.key))
            .unwrap();
        let entry: Option<VersionEntry> = fixture
            .world
            .record(&StateKey::KeyVersion(name.key, name.version));
        fate(&status, entry.as_ref(), name, fixture.world.newest.time)
    };
    assert_eq!(state(&fixture, &name), Fate::Open);
    let later = ShareName { fencing: 3, ..name };
    assert_eq!(state(&fixture, &later), Fate::Open, "not given out yet");
    let earlier = ShareName { fencing: 1, ..name };
    assert_eq!(state(&fixture, &earlier), Fate::Lost);
    // From its deadline on the ledger activates it no more, though it is still named as pending.
    let (mut late, of_late) = pending();
    let status: KeyStatus = late.world.record(&StateKey::KeyStatus(name.key)).unwrap();
    let deadline = status.pending.unwrap().deadline;
    late.world.time = TimestampMs(deadline.0 - 2_000);
    late.world.block(&[]);
    assert_eq!(state(&late, &of_late), Fate::Open);
    let made = make(&mut late.world, of_late.key, 2, 2);
    let action = made.activation(&mut late.world);
    assert_eq!(late.world.run(WORKER, action).unwrap_err(), "attempt-over");
    assert_eq!(state(&late, &of_late), Fate::Lost);
    let made = make(&mut fixture.world, name.key, 2, 2);
    let action = made.activation(&mut fixture.world);
    fixture.world.run(WORKER, action).unwrap();
    assert_eq!(state(&fixture, &name), Fate::Active);
    assert_eq!(state(&fixture, &earlier), Fate::Lost);
    // The next version does not decide about this one.
    let action = begin(&mut fixture.world.people, name.key, 3, 2);
    fixture.world.run(OWNER, action).unwrap();
    assert_eq!(state(&fixture, &name), Fate::Active);
}

fn outcome(made: &Made) -> DhOutcome {
    let sharing = *made.commitments.sharing();
    let scalar = SecretScalar::from_secret(&made.scalar.to_secret()).unwrap();
    let group = made.public.dh;
    DhOutcome {
        attempt: 1,
        share: DhShare::new(sharing, ShareIndex::new(INDEX).unwrap(), scalar).unwrap(),
        public: DhPublic::new(sharing, group, vec![group; 5]).unwrap(),
    }
}

fn pq_share(made: &Made, of: u8) -> PqShare {
    let share = made.pq[usize::from(of) - 1].to_secret();
    PqShare::from_secret(ShareIndex::new(INDEX).unwrap(), &share).unwrap()
}

#[test]
fn a_share_is_kept_only_when_everything_fits() {
    let (mut fixture, name) = pending();
    let made = make(&mut fixture.world, name.key, 2, 2);
    let other = make(&mut fixture.world, name.key, 2, 2);
    let try_hold = |name: &ShareName, outcome, statement: &VersionStatement, list: &[u8], share| {
        let platform = PlatformType::Software;
        hold(&DEPLOYMENT, name, outcome, platform, statement, list, share)
            .map(|record| record.slot().index.get())
            .map_err(|denial| denial.reason)
    };
    let list = made.commitments.encode();
    let good = try_hold(
        &name,
        outcome(&made),
        &made.statement,
        &list,
        pq_share(&made, INDEX),
    );
    assert_eq!(good, Ok(INDEX));
    let refused = Err(Reason::Statement);
    let share = || pq_share(&made, INDEX);
    let changes: [&dyn Fn(&mut VersionStatement); 7] = [
        &|statement| statement.key.0[0] ^= 1,
        &|statement| statement.version = KeyVersion::FIRST,
        &|statement| statement.fencing += 1,
        &|statement| statement.epoch = domain::Epoch::new(2).unwrap(),
        &|statement| statement.committee.0[0] ^= 1,
        &|statement| statement.dh = other.statement.dh,
        &|statement| statement.commitments.0[0] ^= 1,
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut statement = made.statement.clone();
        change(&mut statement);
        let held = try_hold(&name, outcome(&made), &statement, &list, share());
        assert_eq!(held, refused, "{number}");
    }
    // Another index's share; another dealing's; the outcome of another attempt; keys that are none.
    assert_eq!(
        try_hold(
            &name,
            outcome(&made),
            &made.statement,
            &list,
            pq_share(&made, 1)
        ),
        refused
    );
    assert_eq!(
        try_hold(
            &name,
            outcome(&made),
            &made.statement,
            &list,
            pq_share(&other, INDEX)
        ),
        refused
    );
    assert_eq!(
        try_hold(&name, outcome(&other), &made.statement, &list, share()),
        refused
    );
    let mut no_key = made.statement.clone();
    no_key.pq = [0xff; 1_184];
    assert_eq!(
        try_hold(&name, outcome(&made), &no_key, &list, share()),
        refused
    );
    // A dealer that puts other public keys of shares under its own root.
    let group = Element::from_point(SecretScalar::from_wide(&[3; 64]).times_base()).unwrap();
    let sharing = *made.commitments.sharing();
    let lied = DhPublic::new(sharing, group, vec![group; 5]).unwrap();
    let pq: Vec<[u8; 32]> = made
        .commitments
        .entries()
        .iter()
        .map(|one| one.pq)
        .collect();
    let lied = threshold::CommitmentList::new(&lied, &pq).unwrap();
    let mut statement = made.statement.clone();
    statement.commitments = domain::MerkleRoot(lied.root());
    assert_eq!(
        try_hold(&name, outcome(&made), &statement, &lied.encode(), share()),
        refused
    );
    let seed = PqSeed::from_secret(Secret::from_slice(made.seed.expose()).unwrap());
    assert_eq!(seed.public().as_bytes(), &made.statement.pq);
}
