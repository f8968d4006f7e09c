//! Every reason for which a custodian refuses a request, each reached by the attack that it is there for.

use attestation::Role;
use crypto::context::EncryptionContext;
use crypto::kem::{KemHash, PqCiphertextHash};
use custody::request::{AHEAD_MS_MAX, CIPHERTEXTS_MAX};
use custody::{KemHashes, Reason, ReplayWindow};
use domain::{Epoch, Height, KeyVersion, RecordHash, TimestampMs};
use ledger::records::{
    ContextName, ContextPolicy, GrantEntry, KeyGrant, KeyStatus, Operations, VersionEntry,
};
use ledger::transaction::{Change, Retire, RevokeKey, VersionOf};
use ledger::{Action, Record as _, StateKey};
use threshold::partial::{Request, combine, verify_batch};
use threshold::{CustodianRecord, DhPublic};

use crate::fixture::{
    FRIEND, Fixture, INDEX, OWNER, OneShare, OwnedProof, context, create_key, grant_action, make,
    rng,
};
use crate::world::{
    DEPLOYMENT, WORKER, World, begin, grant, person, slot, threshold as committee_threshold,
};

fn none() -> EncryptionContext {
    EncryptionContext::default()
}

/// Checks that one change to a good request, and nothing else, leads to a refusal for that reason.
fn check(reason: Reason, change: impl FnOnce(&mut Fixture, &mut crate::fixture::Brought)) {
    let mut fixture = Fixture::new();
    let mut brought = fixture.bring(OWNER, 2, &none());
    change(&mut fixture, &mut brought);
    let verdict = fixture.ask(&brought);
    let denial = verdict.outcome.expect_err("this must not be permitted");
    assert_eq!(denial.reason, reason, "{denial}");
}

#[test]
fn the_owner_is_answered_and_the_recipient_combines() {
    let mut fixture = Fixture::new();
    let (ciphertext, _) = fixture.encrypt(&none());
    let brought = fixture.bring_these(OWNER, std::slice::from_ref(&ciphertext), &none());
    let verdict = fixture.ask(&brought);
    assert!(verdict.facts.verified);
    assert_eq!(verdict.facts.count, 1);
    assert_eq!(verdict.facts.principal, Some(brought.request.principal));
    let permit = verdict.outcome.unwrap();
    let custodian = fixture.custodian();
    let release = permit.release(&custodian, &mut rng()).unwrap();
    let hash = brought.request.hash(&DEPLOYMENT);
    assert_eq!((*permit.hash(), verdict.facts.request), (hash, Some(hash)));
    let sharing = *fixture.commitments.sharing();
    let partials = brought
        .recipient
        .open_partials(
            &custodian.principal(),
            &sharing,
            release.index,
            &hash,
            1,
            &release.partials,
        )
        .unwrap();
    // All shares lie on a constant polynomial here, so the partial of one custodian is everybody's power, and the key comes out.
    let group = fixture.encapsulator.key().public.dh;
    let public = DhPublic::new(sharing, group, vec![group; 5]).unwrap();
    let u = crypto::ristretto::Element::from_bytes(&ciphertext.dh.u).unwrap();
    let request = Request {
        public: &public,
        u: &u,
        request_hash: &hash.0,
    };
    let verified = verify_batch(partials.into_iter().map(|one| (request, one)).collect());
    assert!(verified.iter().all(Result::is_ok));
    let one: Vec<_> = verified.into_iter().flatten().collect();
    assert!(combine(&one).is_err(), "one custodian is not three");
    // The worker's part: the share opens its commitment.
    let share = threshold::PqShare::from_secret(release.index, &release.pq_share).unwrap();
    assert!(share.opens(&fixture.commitments));
}

#[test]
fn a_full_batch_is_answered() {
    let mut fixture = Fixture::new();
    let brought = fixture.bring(OWNER, CIPHERTEXTS_MAX, &context(&[("a", "b")]));
    assert!(fixture.ask(&brought).outcome.is_ok());
}

#[test]
fn malformed() {
    check(Reason::Malformed, |_, brought| {
        brought.raw = Some(Vec::new())
    });
    check(Reason::Malformed, |_, brought| {
        brought.raw = Some(vec![0; 100_000])
    });
    check(Reason::Malformed, |_, brought| {
        brought.request.job = Some(RecordHash([1; 32]));
    });
    check(Reason::Malformed, |_, brought| brought.parts[0].0.push(0));
    check(Reason::Malformed, |_, brought| {
        brought.parts[0].1.truncate(31)
    });
    check(Reason::Malformed, |_, brought| {
        brought.parts[1].2 = vec![0, 0, 0, 9]
    });
    // The same context in another order of its entries.
    check(Reason::Malformed, |_, brought| {
        let (a, b) = (
            context(&[("a", "1")]).encode(),
            context(&[("b", "2")]).encode(),
        );
        brought.parts[1].2 = [b, a].concat();
    });
    check(Reason::Malformed, |_, brought| {
        brought.parts = vec![brought.parts[0].clone(); CIPHERTEXTS_MAX + 1];
    });
}

#[test]
fn a_recipient_key_that_gives_everything_away_gets_nothing() {
    let mut fixture = Fixture::new();
    let mut brought = fixture.bring(OWNER, 1, &none());
    brought.request.recipient_dh = [0; 32];
    let permit = fixture.ask(&brought).outcome.unwrap();
    let refused = permit
        .release(&fixture.custodian(), &mut rng())
        .unwrap_err();
    assert_eq!(refused.reason, Reason::Malformed);
}

#[test]
fn only_workers_bring_requests() {
    check(Reason::PeerRole, |_, brought| brought.peer = Role::Client);
    check(Reason::PeerRole, |_, brought| {
        brought.peer = Role::Custodian
    });
}

#[test]
fn signature() {
    // Somebody signs in the owner's name.
    check(Reason::Signature, |_, brought| brought.signer = FRIEND);
    // The owner's signature under another request: every field that a worker might like to change.
    let retarget: [&dyn Fn(&mut custody::DecryptRequest); 7] = [
        &|request| request.recipient_dh[0] ^= 1,
        &|request| request.recipient_pq[0] ^= 1,
        &|request| request.nonce[0] ^= 1,
        &|request| request.expires.0 -= 1,
        &|request| request.min_height.0 -= 1,
        &|request| request.version = KeyVersion::new(2).unwrap(),
        &|request| request.key.0[0] ^= 1,
    ];
    for change in retarget {
        check(Reason::Signature, |fixture, brought| {
            let good = fixture_signed(&brought.request);
            let body = brought.request.encode();
            change(&mut brought.request);
            let changed = brought.request.encode();
            assert_eq!(body.len(), changed.len());
            let at = good
                .windows(body.len())
                .position(|window| window == body)
                .unwrap();
            let mut raw = good;
            raw[at..at + body.len()].copy_from_slice(&changed);
            brought.raw = Some(raw);
            let _ = fixture;
        });
    }
}

fn fixture_signed(request: &custody::DecryptRequest) -> Vec<u8> {
    sealed::signed::Signed::sign(&person(OWNER), &DEPLOYMENT, request.clone()).encode()
}

#[test]
fn other_ledger() {
    check(Reason::OtherLedger, |_, brought| {
        brought.request.chain.0[0] ^= 1
    });
    // The proofs are of another ledger.
    check(Reason::OtherLedger, |_, brought| {
        let mut header = ledger::Header::decode(&brought.proof.header).unwrap();
        header.genesis.0[0] ^= 1;
        brought.proof.header = header.encode();
    });
}

#[test]
fn expired() {
    // An hour behind.
    check(Reason::Expired, |_, brought| {
        brought.request.issued.0 -= 3_600_000;
        brought.request.expires.0 -= 3_600_000;
    });
    // Exactly at its end.
    check(Reason::Expired, |fixture, brought| {
        brought.request.expires = fixture.world.newest.time;
        brought.request.issued.0 -= 1_000;
    });
    // Longer than a minute; ending before it begins.
    check(Reason::Expired, |_, brought| brought.request.expires.0 += 1);
    check(Reason::Expired, |_, brought| {
        brought.request.expires.0 = brought.request.issued.0 - 1
    });
    // A good one, a minute of the ledger's time later.
    check(Reason::Expired, |fixture, brought| {
        fixture.world.time.0 += 60_000;
        fixture.world.block(&[]);
        brought.proof = fixture.proof(&[OWNER]);
    });
}

#[test]
fn too_early() {
    // An hour ahead.
    check(Reason::TooEarly, |_, brought| {
        brought.request.issued.0 += 3_600_000;
        brought.request.expires.0 += 3_600_000;
    });
    check(Reason::TooEarly, |_, brought| {
        brought.request.issued.0 += AHEAD_MS_MAX + 1;
        brought.request.expires.0 += AHEAD_MS_MAX + 1;
    });
    let mut fixture = Fixture::new();
    let mut brought = fixture.bring(OWNER, 1, &none());
    brought.request.issued.0 += AHEAD_MS_MAX;
    brought.request.expires.0 += AHEAD_MS_MAX;
    assert_eq!(
        fixture.reason(&brought),
        None,
        "a little ahead is a slow ledger"
    );
}

#[test]
fn replayed() {
    let mut fixture = Fixture::new();
    let brought = fixture.bring(OWNER, 1, &none());
    assert_eq!(fixture.reason(&brought), None);
    assert_eq!(fixture.reason(&brought), Some(Reason::Replayed));
    // Not by other proofs either.
    fixture.world.block(&[]);
    let mut again = brought;
    again.proof = fixture.proof(&[OWNER]);
    assert_eq!(fixture.reason(&again), Some(Reason::Replayed));
    // What was refused may be asked again with what was missing.
    let mut refused = fixture.bring(OWNER, 1, &none());
    let good = refused.proof.clone();
    refused.proof.leave_out(&StateKey::KeyStatus(fixture.key));
    assert_eq!(fixture.reason(&refused), Some(Reason::Proof));
    refused.proof = good;
    assert_eq!(fixture.reason(&refused), None);
    // Signed before this process began: whether it was answered is not known.
    check(Reason::Replayed, |fixture, brought| {
        fixture
            .view
            .start_at(TimestampMs(brought.request.issued.0 + 1));
    });
    // Answered before, as the audit log says.
    check(Reason::Replayed, |fixture, brought| {
        let hash = brought.request.hash(&DEPLOYMENT);
        let principal = brought.request.principal;
        fixture
            .judge
            .remember(hash, principal, fixture.world.newest.time);
    });
}

#[test]
fn ledger_stale() {
    check(Reason::LedgerStale, |fixture, _| fixture.view.fresh(false));
}

#[test]
fn proof_stale() {
    // Below what a quorum has said is final.
    check(Reason::ProofStale, |fixture, _| {
        fixture.world.block(&[]);
        fixture.view.require(fixture.world.newest.height);
    });
    // Below what the asker itself asks for.
    check(Reason::ProofStale, |_, brought| {
        brought.request.min_height.0 += 1
    });
}

#[test]
fn proofs_that_show_nothing() {
    // Nobody's certificate; another header under a good one.
    check(Reason::Proof, |fixture, brought| {
        fixture.world.block(&[]);
        brought.proof = fixture.proof(&[OWNER]);
        let empty = ledger::Certificate {
            signatures: Vec::new(),
        };
        brought.proof.certificate = empty.encode();
    });
    check(Reason::Proof, |_, brought| {
        let mut header = ledger::Header::decode(&brought.proof.header).unwrap();
        header.height = Height(header.height.0 + 1);
        header.state_root.0[0] ^= 1;
        brought.proof.header = header.encode();
    });
    check(Reason::Proof, |_, brought| {
        brought.proof.header.truncate(10)
    });
    check(Reason::Proof, |_, brought| {
        brought.proof.certificate.clear()
    });
    check(Reason::Proof, |_, brought| {
        let one = brought.proof.values[0].clone();
        brought.proof.values.extend(vec![one; 64]);
    });
    // Each value left out, or changed after it was proved.
    for number in 0..3 {
        let key = move |fixture: &Fixture| match number {
            0 => StateKey::KeyCreation(fixture.key),
            1 => StateKey::KeyStatus(fixture.key),
            _ => StateKey::KeyVersion(fixture.key, fixture.version),
        };
        check(Reason::Proof, |fixture, brought| {
            brought.proof.leave_out(&key(fixture))
        });
        check(Reason::Proof, |fixture, brought| {
            let value = brought.proof.value(&key(fixture)).as_mut().unwrap();
            *value.last_mut().unwrap() ^= 1;
        });
        check(Reason::Proof, |fixture, brought| {
            *brought.proof.value(&key(fixture)) = None
        });
    }
    // The status as it was before, under the newest header.
    check(Reason::Proof, |fixture, brought| {
        let status = StateKey::KeyStatus(fixture.key);
        let mut old: KeyStatus = fixture.world.record(&status).unwrap();
        old.min_decrypt = KeyVersion::new(9).unwrap();
        *brought.proof.value(&status) = Some(old.encode());
    });
}

#[test]
fn a_creation_proves_itself_whatever_the_ledger_says() {
    // A ledger that signs for another owner of this key: the id is the hash of what the owner signed.
    let mut fixture = Fixture::new();
    let brought = fixture.bring(OWNER, 1, &none());
    let mut elsewhere = World::ready();
    let other = create_key(
        &mut elsewhere,
        ContextPolicy::requiring(vec![name("x")]).unwrap(),
    );
    let made = make(&mut elsewhere, other, 1, 1);
    let action = made.activation(&mut elsewhere);
    elsewhere.run(WORKER, action).unwrap();
    // That record under this key's name: the proof's value is right for its place, and the record is of another key.
    let bytes = elsewhere
        .state
        .get(&StateKey::KeyCreation(other).encode())
        .unwrap();
    let refused = custody::VerifiedCreation::read(&DEPLOYMENT, &fixture.key, bytes).unwrap_err();
    assert_eq!(refused.reason, Reason::Proof);
    assert_eq!(fixture.reason(&brought), None);
}

fn name(text: &str) -> ContextName {
    ContextName::new(text).unwrap()
}

#[test]
fn not_granted() {
    // No grant, and the ledger shows that there is none.
    check(Reason::NotGranted, |fixture, brought| {
        *brought = fixture.bring(FRIEND, 1, &none());
    });
    // With a grant; revoked one block ago; the proof from before is taken until the floor has passed it.
    let mut fixture = Fixture::new();
    let content = grant(&mut fixture.world.people, OWNER, fixture.key, FRIEND, 1);
    let action = grant_action(&person(OWNER), content);
    fixture.world.run(OWNER, action).unwrap();
    let granted = fixture.bring(FRIEND, 1, &none());
    assert_eq!(fixture.reason(&granted), None);
    let before = fixture.bring(FRIEND, 1, &none());
    let revoke = Action::RevokeKey(RevokeKey {
        key: fixture.key,
        grantee: fixture.principal(FRIEND),
        serial: 1,
    });
    fixture.world.run(OWNER, revoke).unwrap();
    let after = fixture.bring(FRIEND, 1, &none());
    assert_eq!(fixture.reason(&after), Some(Reason::NotGranted));
    fixture.view.require(fixture.world.newest.height);
    assert_eq!(fixture.reason(&before), Some(Reason::ProofStale));
}

#[test]
fn grants_that_do_not_reach() {
    let run = |change: &dyn Fn(&mut KeyGrant)| {
        let mut fixture = Fixture::new();
        let mut content = grant(&mut fixture.world.people, OWNER, fixture.key, FRIEND, 1);
        change(&mut content);
        let action = grant_action(&person(OWNER), content);
        fixture.world.run(OWNER, action).unwrap();
        let brought = fixture.bring(FRIEND, 1, &none());
        fixture.world.time.0 += 20_000;
        fixture.world.block(&[]);
        let mut brought = brought;
        brought.proof = fixture.proof(&[FRIEND]);
        fixture.reason(&brought)
    };
    assert_eq!(run(&|_| {}), None);
    let rotate = run(&|grant| grant.operations = Operations::ROTATE);
    assert_eq!(rotate, Some(Reason::NotGranted));
    // Expired by the ledger's time, which has gone on since.
    let now = Fixture::new().world.newest.time;
    let expired = run(&|grant| grant.expires = Some(TimestampMs(now.0 + 10_000)));
    assert_eq!(expired, Some(Reason::NotGranted));
    // The entry is shown for one grantee and asked for by another.
    check(Reason::Proof, |fixture, brought| {
        *brought = fixture.bring(FRIEND, 1, &none());
        brought.proof = fixture.proof(&[OWNER]);
    });
    // An entry that a lying ledger made without the owner: included, proved, and not signed.
    let mut fixture = Fixture::new();
    let mut content = grant(&mut fixture.world.people, OWNER, fixture.key, FRIEND, 1);
    content.granted_by = fixture.principal(FRIEND);
    let own = sealed::signed::Signed::sign(&person(FRIEND), &DEPLOYMENT, content);
    let entry = GrantEntry {
        grant: own.encode(),
        height: Height(1),
        revoked: None,
    };
    let key = StateKey::KeyGrant(fixture.key, fixture.principal(FRIEND));
    let mut brought = fixture.bring(FRIEND, 1, &none());
    lie(&mut fixture, &mut brought.proof, &[(key, entry.encode())]);
    assert_eq!(fixture.reason(&brought), Some(Reason::NotGranted));
}

/// Makes the ledger itself lie: a certified header over a state with these values.
fn lie(fixture: &mut Fixture, proof: &mut OwnedProof, values: &[(StateKey, Vec<u8>)]) {
    let keys: Vec<Vec<u8>> = proof.values.iter().map(|(key, ..)| key.clone()).collect();
    let written: Vec<(std::sync::Arc<[u8]>, Option<std::sync::Arc<[u8]>>)> = values
        .iter()
        .map(|(key, value)| (key.encode().into(), Some(value.clone().into())))
        .collect();
    let tree = fixture
        .world
        .state
        .tree()
        .updated(written.iter().map(|(key, value)| (key, value.as_ref())));
    let mut header = fixture.world.newest.clone();
    header.height = Height(header.height.0 + 2);
    header.state_root = domain::MerkleRoot(tree.root());
    fixture.world.newest = header;
    proof.header = fixture.world.newest.encode();
    proof.certificate = fixture.world.certificate().encode();
    proof.values = keys
        .into_iter()
        .map(|key| {
            let (value, way) = tree.prove(&key);
            (key, value.map(|value| value.to_vec()), way.encode())
        })
        .collect();
}

#[test]
fn key_state() {
    // Never activated.
    check(Reason::KeyState, |fixture, brought| {
        fixture.version = KeyVersion::new(2).unwrap();
        brought.request.version = fixture.version;
        brought.proof = fixture.proof(&[OWNER]);
    });
    // Retired, the key or the version; and before the deadline not yet.
    for whole in [true, false] {
        let mut fixture = Fixture::new();
        if !whole {
            let action = begin(&mut fixture.world.people, fixture.key, 2, 1);
            fixture.world.run(OWNER, action).unwrap();
            let made = make(&mut fixture.world, fixture.key, 2, 2);
            let action = made.activation(&mut fixture.world);
            fixture.world.run(WORKER, action).unwrap();
        }
        let deadline = TimestampMs(fixture.world.time.0 + 30_000);
        let retire = Action::Retire(Retire {
            key: fixture.key,
            version: (!whole).then_some(fixture.version),
            deadline: Some(deadline),
        });
        fixture.world.run(OWNER, retire).unwrap();
        let before = fixture.bring(OWNER, 1, &none());
        assert_eq!(fixture.reason(&before), None, "retiring still opens");
        let mut after = fixture.bring(OWNER, 1, &none());
        fixture.world.time = TimestampMs(deadline.0 - 1_000);
        fixture.world.block(&[]);
        after.proof = fixture.proof(&[OWNER]);
        assert_eq!(fixture.reason(&after), Some(Reason::KeyState), "{whole}");
    }
}

#[test]
fn destroyed_versions_stay_closed() {
    let mut fixture = Fixture::new();
    let action = begin(&mut fixture.world.people, fixture.key, 2, 1);
    fixture.world.run(OWNER, action).unwrap();
    let made = make(&mut fixture.world, fixture.key, 2, 2);
    let action = made.activation(&mut fixture.world);
    fixture.world.run(WORKER, action).unwrap();
    let deadline = TimestampMs(fixture.world.time.0 + 2_000);
    let retire = Action::Retire(Retire {
        key: fixture.key,
        version: Some(fixture.version),
        deadline: Some(deadline),
    });
    fixture.world.run(OWNER, retire).unwrap();
    fixture.world.time = deadline;
    let destroy = Action::DestroyVersion(VersionOf {
        key: fixture.key,
        version: fixture.version,
    });
    fixture.world.run(OWNER, destroy).unwrap();
    let brought = fixture.bring(OWNER, 1, &none());
    let denial = fixture.ask(&brought).outcome.unwrap_err();
    assert_eq!(
        (denial.reason, denial.detail.as_str()),
        (Reason::KeyState, "destroyed")
    );
}

#[test]
fn suspended() {
    check(Reason::Suspended, |fixture, brought| {
        let key = fixture.key;
        fixture.world.govern(Change::SuspendKey(key)).unwrap();
        *brought = fixture.bring(OWNER, 1, &none());
    });
}

#[test]
fn below_minimum() {
    check(Reason::BelowMinimum, |fixture, brought| {
        let action = begin(&mut fixture.world.people, fixture.key, 2, 1);
        fixture.world.run(OWNER, action).unwrap();
        let made = make(&mut fixture.world, fixture.key, 2, 2);
        let action = made.activation(&mut fixture.world);
        fixture.world.run(WORKER, action).unwrap();
        let minimum = Action::SetMinDecrypt(VersionOf {
            key: fixture.key,
            version: KeyVersion::new(2).unwrap(),
        });
        fixture.world.run(OWNER, minimum).unwrap();
        *brought = fixture.bring(OWNER, 1, &none());
    });
}

/// The entry of the version, changed by a ledger that lies.
fn lie_about_the_version(
    change: impl FnOnce(&mut Fixture, &mut VersionEntry),
) -> impl FnOnce(&mut Fixture, &mut crate::fixture::Brought) {
    |fixture, brought| {
        let key = StateKey::KeyVersion(fixture.key, fixture.version);
        let mut entry: VersionEntry = fixture.world.record(&key).unwrap();
        change(fixture, &mut entry);
        lie(fixture, &mut brought.proof, &[(key, entry.encode())]);
    }
}

#[test]
fn version_mismatch() {
    check(
        Reason::VersionMismatch,
        lie_about_the_version(|fixture, entry| {
            let mut other = fixture.statement.clone();
            other.version = KeyVersion::new(2).unwrap();
            entry.statement = other.encode();
        }),
    );
}

#[test]
fn epochs_and_committees() {
    // The ledger has gone on, and this store was left behind or rolled back.
    check(
        Reason::Epoch,
        lie_about_the_version(|_, entry| entry.epoch = Epoch::new(2).unwrap()),
    );
    check(
        Reason::Epoch,
        lie_about_the_version(|_, entry| entry.committee.0[0] ^= 1),
    );
}

#[test]
fn a_store_that_lost_its_share() {
    // Rolled back to before the share, or another machine's store.
    check(Reason::UnknownShare, |fixture, _| {
        fixture.shares = OneShare(None)
    });
    // The share of another attempt, put in its place.
    check(Reason::UnknownShare, |fixture, _| {
        let key = fixture.key;
        let other = make(&mut fixture.world, key, 1, 1);
        let (name, _) = fixture.shares.0.take().unwrap();
        let record = other.record(INDEX, false).encode().to_vec();
        fixture.shares = OneShare(Some((name, record)));
    });
}

#[test]
fn a_standby_does_not_serve() {
    check(Reason::NotAMember, |fixture, _| {
        let (name, bytes) = fixture.shares.0.take().unwrap();
        let mut bytes = bytes;
        // The flag behind the index: the record is the same otherwise.
        let at = 1 + threshold::Sharing::BINDING_BYTES + 1;
        assert_eq!((bytes[at - 1], bytes[at]), (INDEX, 0));
        bytes[at] = 1;
        let record = CustodianRecord::decode(DEPLOYMENT, &bytes).unwrap();
        assert_eq!(record.slot(), slot(INDEX, true));
        fixture.shares = OneShare(Some((name, bytes)));
    });
}

#[test]
fn no_share_serves_public_keys_that_its_custodian_did_not_sign() {
    // A ledger that exchanges the post-quantum key, with everybody's old signatures.
    check(
        Reason::NotAMember,
        lie_about_the_version(|fixture, entry| {
            let key = fixture.key;
            let other = make(&mut fixture.world, key, 1, 1);
            let mut statement = fixture.statement.clone();
            statement.pq = other.statement.pq;
            entry.statement = statement.encode();
        }),
    );
}

#[test]
fn kem_hash() {
    // One ciphertext under the other's hash; one more or less than signed; the context exchanged.
    check(Reason::KemHash, |_, brought| brought.parts.swap(0, 1));
    check(Reason::KemHash, |_, brought| brought.parts.truncate(1));
    check(Reason::KemHash, |_, brought| {
        let more = brought.parts[0].clone();
        brought.parts.push(more);
    });
    check(Reason::KemHash, |_, brought| {
        brought.parts[1].2 = context(&[("case", "other")]).encode();
    });
    // Somebody else's ciphertext, good in itself, under a valid request.
    check(Reason::KemHash, |fixture, brought| {
        let other = fixture.bring(FRIEND, 1, &none());
        brought.parts[0] = other.parts[0].clone();
    });
    // Every bit of what is sent is covered.
    let mut fixture = Fixture::new();
    let brought = fixture.bring(OWNER, 1, &none());
    for byte in 0..brought.parts[0].0.len() {
        let mut altered = fixture.bring(OWNER, 1, &none());
        altered.parts[0].0[byte] ^= 1;
        assert_eq!(
            fixture.reason(&altered),
            Some(Reason::KemHash),
            "byte {byte}"
        );
    }
}

/// The hash of what is sent, signed for as it is.
fn sign_for_what_is_sent(brought: &mut crate::fixture::Brought) {
    let hashes: Vec<KemHash> = brought
        .parts
        .iter()
        .map(|(dh, pq, context)| {
            crypto::kem::CiphertextParts {
                dh: crypto::kem::DhCiphertext::from_bytes(dh.as_slice().try_into().unwrap()),
                pq: PqCiphertextHash(pq.as_slice().try_into().unwrap()),
                context: EncryptionContext::decode(context)
                    .unwrap()
                    .hash(&DEPLOYMENT),
            }
            .kem_hash(&DEPLOYMENT)
        })
        .collect();
    brought.request.kem_hashes = KemHashes::new(hashes).unwrap();
}

#[test]
fn ciphertext_proof() {
    // The asker itself signs for a ciphertext that it did not make: an element of its choice, another context, no canonical encoding,
    // the identity.
    let changes: [&dyn Fn(&mut (Vec<u8>, Vec<u8>, Vec<u8>)); 6] = [
        &|part| part.2 = context(&[("case", "other")]).encode(),
        &|part| part.1[0] ^= 1,
        &|part| part.0[128] ^= 1,
        &|part| part.0[..32].fill(0),
        &|part| part.0[..32].fill(0xff),
        &|part| part.0[159] |= 0x80,
    ];
    for change in changes {
        check(Reason::CiphertextProof, |_, brought| {
            change(&mut brought.parts[1]);
            sign_for_what_is_sent(brought);
        });
    }
    // A ciphertext of another key, asked for under this one.
    check(Reason::CiphertextProof, |fixture, brought| {
        let other = Fixture::new();
        let (ciphertext, _) = other.encrypt(&none());
        *brought = fixture.bring_these(OWNER, &[ciphertext], &none());
    });
}

#[test]
fn context_policy() {
    let policy = || ContextPolicy::requiring(vec![name("case"), name("team")]).unwrap();
    let mut fixture = Fixture::with_policy(policy());
    let good = fixture.bring(
        OWNER,
        2,
        &context(&[("case", "1"), ("team", ""), ("x", "y")]),
    );
    assert_eq!(fixture.reason(&good), None);
    for entries in [
        vec![],
        vec![("case", "1")],
        vec![("Case", "1"), ("team", "2")],
    ] {
        let brought = fixture.bring(OWNER, 1, &context(&entries));
        assert_eq!(
            fixture.reason(&brought),
            Some(Reason::ContextPolicy),
            "{entries:?}"
        );
    }
}

#[test]
fn busy() {
    check(Reason::Busy, |fixture, _| {
        let me = person(crate::world::CUSTODIAN + u64::from(INDEX)).principal();
        let name = custody::LedgerName::from(&crate::world::genesis(true));
        let full = custody::Judge::new(name, me).with_window(ReplayWindow::bounded(0, 0));
        fixture.judge = full;
    });
}

#[test]
fn chains_of_grants_are_followed_to_the_owner() {
    const THIRD: u64 = 3;
    let mut fixture = Fixture::new();
    let mut first = grant(&mut fixture.world.people, OWNER, fixture.key, FRIEND, 1);
    first.operations = Operations::DECRYPT.and(Operations::GRANT);
    let parent = crate::world::sign_grant(&person(OWNER), first.clone()).hash();
    let action = grant_action(&person(OWNER), first);
    fixture.world.run(OWNER, action).unwrap();
    let mut second = grant(&mut fixture.world.people, FRIEND, fixture.key, THIRD, 1);
    second.parent = Some(RecordHash(parent));
    let action = grant_action(&person(FRIEND), second);
    fixture.world.run(FRIEND, action).unwrap();
    let mut brought = fixture.bring(THIRD, 1, &none());
    assert_eq!(
        fixture.reason(&brought),
        Some(Reason::Proof),
        "half of the chain is shown"
    );
    brought.proof = fixture.proof(&[THIRD, FRIEND]);
    assert_eq!(fixture.reason(&brought), None);
    let revoke = Action::RevokeKey(RevokeKey {
        key: fixture.key,
        grantee: fixture.principal(FRIEND),
        serial: 1,
    });
    fixture.world.run(OWNER, revoke).unwrap();
    let mut after = fixture.bring(THIRD, 1, &none());
    after.proof = fixture.proof(&[THIRD, FRIEND]);
    assert_eq!(fixture.reason(&after), Some(Reason::NotGranted));
    assert_eq!(committee_threshold().t(), 3);
}
