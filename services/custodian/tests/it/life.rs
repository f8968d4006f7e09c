//! A key's life over real processes' parts: made, held, shown, activated, opened, written down, and all of it again after a start.

use crypto::kem::{PqSeed, SharedSecrets};
use custody::audit::verify_page;
use custody::{
    AuditEntry, AuditHead, AuditStart, Decision, LogCheck, LogError, Next, Page, Reason,
    SealedPartials,
};
use domain::{KeyVersion, RecordHash, ShareIndex, TimestampMs};
use enclave_wire::v1::{self, answer::Outcome, question::Ask};
use ledger::records::{AnchorHead, AnchorKind};
use ledger::transaction::{RevokeKey, SignedRecord};
use ledger::{Action, Record as _, StateKey};
use threshold::PqShare;
use threshold::partial::{self, combine, verify_batch};

use crate::support::{
    DEPLOYMENT, Dealing, Deployment, FRIEND, Line, OWNER, Request, WORKERS, ask, audit_page, deal,
    generate, make_key, person, refused, request,
};

/// Opens a request with the custodians on `lines` as worker and recipient together; the keys must be those that were encapsulated.
async fn open(deployment: &Deployment, dealing: &Dealing, made: &Request, lines: &mut [Line]) {
    let hash = made.request.hash(&DEPLOYMENT);
    let sharing = *dealing.commitments.sharing();
    let dh = dealing.commitments.dh_public(dealing.public.dh).unwrap();
    let count = made.ciphertexts.len();
    let mut partials: Vec<Vec<threshold::Partial>> = Vec::new();
    let mut shares = Vec::new();
    for line in lines {
        let outcome = ask(line, Ask::Decrypt(made.decrypt.clone())).await;
        let Outcome::Release(release) = outcome else {
            panic!("not released: {outcome:?}")
        };
        let signature = release.signature.as_ref().unwrap();
        let index = ShareIndex::new(u8::try_from(signature.index).unwrap()).unwrap();
        let sealed = SealedPartials {
            sealed: release.sealed_partials.to_vec(),
            signature: signature.signature.as_ref().try_into().unwrap(),
        };
        let custodian = deployment.custodian_key(index.get());
        assert_eq!(signature.principal.as_ref(), custodian.as_bytes());
        let opened = made
            .recipient
            .open_partials(&custodian, &sharing, index, &hash, count, &sealed);
        partials.push(opened.unwrap());
        let secret = crypto::Secret::from_slice(&release.pq_share).unwrap();
        shares.push(PqShare::from_secret(index, &secret).unwrap());
    }
    let derive = |seed: &crypto::Secret<64>| {
        PqSeed::from_secret(crypto::Secret::from_slice(seed.expose()).unwrap()).public()
    };
    let rebuilt =
        threshold::pq::rebuild(&dealing.commitments, &shares, derive, &dealing.public.pq).unwrap();
    assert!(rebuilt.culprits.is_empty());
    let secret = PqSeed::from_secret(rebuilt.seed)
        .open(&dealing.public.pq)
        .unwrap();
    let context = crypto::context::EncryptionContext::from_user([("case", "7")]).unwrap();
    let encapsulator = dealing.encapsulator();
    for (at, ciphertext) in made.ciphertexts.iter().enumerate() {
        let u = crypto::ristretto::Element::from_bytes(&ciphertext.dh.u).unwrap();
        let asked = partial::Request {
            public: &dh,
            u: &u,
            request_hash: &hash.0,
        };
        let of_this = partials
            .iter()
            .map(|all| (asked, all[at].clone()))
            .collect();
        let verified: Vec<_> = verify_batch(of_this)
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let shared = SharedSecrets {
            pq: secret.decapsulate(&ciphertext.pq),
            dh: combine(&verified).unwrap(),
        };
        let key = encapsulator
            .key()
            .derive_key(ciphertext, &context.hash(&DEPLOYMENT), &shared);
        assert!(key.ct_eq(&made.keys[at]), "ciphertext {at}");
    }
}

async fn three(deployment: &Deployment) -> Vec<Line> {
    let mut lines = Vec::new();
    for number in 1..=3 {
        lines.push(deployment.as_worker(number).await);
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_made_opened_and_revoked_and_survives_a_restart() {
    let mut deployment = Deployment::new().await;
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let dealing = make_key(&mut deployment, &mut lines, "payroll").await;
    let key = dealing.statement.key;

    // Any two of three, one ciphertext or many.
    let made = request(&deployment, &dealing, OWNER, 1, 0).await;
    open(&deployment, &dealing, &made, &mut lines[..2]).await;
    let made = request(&deployment, &dealing, OWNER, 64, 0).await;
    open(&deployment, &dealing, &made, &mut lines[1..]).await;
    // Each request once.
    let again = ask(&mut lines[1], Ask::Decrypt(made.decrypt.clone())).await;
    assert_eq!(refused(again), Reason::Replayed.code());

    // A grant, and its end: confirmed heights act at once.
    let grant = ledger::records::KeyGrant {
        key,
        grantee: person(FRIEND).principal(),
        operations: ledger::records::Operations::DECRYPT,
        granted_by: person(OWNER).principal(),
        parent: None,
        serial: 1,
        expires: None,
    };
    let stranger = request(&deployment, &dealing, FRIEND, 1, 0).await;
    let refusal = ask(&mut lines[0], Ask::Decrypt(stranger.decrypt)).await;
    assert_eq!(refused(refusal), Reason::NotGranted.code());
    let record = sealed::signed::Signed::sign(&person(OWNER), &DEPLOYMENT, grant).encode();
    let action = Action::GrantKey(SignedRecord { record });
    deployment.run(OWNER, action).await;
    let made = request(&deployment, &dealing, FRIEND, 1, 0).await;
    open(&deployment, &dealing, &made, &mut lines[..2]).await;
    let before = request(&deployment, &dealing, FRIEND, 1, 0).await;
    let revoke = Action::RevokeKey(RevokeKey {
        key,
        grantee: person(FRIEND).principal(),
        serial: 1,
    });
    deployment.run(OWNER, revoke).await;
    let (proof, header) = deployment.proof(&[StateKey::KeyStatus(key)]).await;
    let mut client = deployment.as_client(1).await;
    let confirm = Ask::Confirm(v1::Confirm {
        header: proof.header,
        certificate: proof.certificate,
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        nonce: vec![9; 32].into(),
    });
    let Outcome::Confirmed(confirmed) = ask(&mut client, confirm).await else {
        panic!("not confirmed")
    };
    assert!(confirmed.height >= header.height.0);
    // The next one waits a moment: nobody makes all proofs too old by confirming every block.
    tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    let (proof, _) = deployment.proof(&[StateKey::KeyStatus(key)]).await;
    let confirm = Ask::Confirm(v1::Confirm {
        header: proof.header,
        certificate: proof.certificate,
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        nonce: vec![9; 32].into(),
    });
    let begun = std::time::Instant::now();
    let Outcome::Confirmed(higher) = ask(&mut client, confirm).await else {
        panic!("not confirmed")
    };
    assert!(higher.height > confirmed.height);
    assert!(begun.elapsed() >= std::time::Duration::from_millis(400));
    let late = ask(&mut lines[0], Ask::Decrypt(before.decrypt)).await;
    assert_eq!(refused(late), Reason::ProofStale.code());
    let after = request(&deployment, &dealing, FRIEND, 1, 0).await;
    let refusal = ask(&mut lines[0], Ask::Decrypt(after.decrypt)).await;
    assert_eq!(refused(refusal), Reason::NotGranted.code());

    // What a client may not ask.
    let made = request(&deployment, &dealing, OWNER, 1, 0).await;
    let refusal = ask(&mut client, Ask::Decrypt(made.decrypt)).await;
    assert_eq!(refused(refusal), Reason::PeerRole.code());
    let refusal = ask(&mut client, dealing.hold(0)).await;
    assert_eq!(refused(refusal), Reason::PeerRole.code());
    let show = |proof| {
        Ask::ShowShare(v1::ShowShare {
            statement: dealing.statement.encode().into(),
            proof: Some(proof),
        })
    };
    let refusal = ask(&mut client, show(deployment.pending_proof(key).await)).await;
    assert_eq!(refused(refusal), Reason::PeerRole.code());
    // An active version's share is shown to nobody.
    let refusal = ask(&mut lines[0], show(deployment.pending_proof(key).await)).await;
    assert_eq!(refused(refusal), Reason::KeyState.code());

    let Outcome::Description(about) = ask(&mut client, Ask::Describe(v1::Describe {})).await else {
        panic!("not described")
    };
    assert_eq!(
        about.principal.as_ref(),
        deployment.custodian_key(1).as_bytes()
    );
    assert!(about.fresh && about.counters["allowed"] >= 3);

    // Signed a little ahead of the ledger and answered; then the process starts again: only its audit log remembers.
    let ahead = request(&deployment, &dealing, OWNER, 1, 9_000).await;
    open(&deployment, &dealing, &ahead, &mut lines[..2]).await;
    drop(client);
    drop(lines);
    for one in running {
        one.stop().await;
    }
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let mut late = ahead.decrypt.clone();
    late.proof = request(&deployment, &dealing, OWNER, 1, 0)
        .await
        .decrypt
        .proof;
    let again = ask(&mut lines[0], Ask::Decrypt(late)).await;
    assert_eq!(refused(again), Reason::Replayed.code());
    let made = request(&deployment, &dealing, OWNER, 2, 0).await;
    open(&deployment, &dealing, &made, &mut lines[..2]).await;

    // The owner reads what was decided about the key; a stranger sees hashes of it.
    let names = [StateKey::KeyCreation(key)];
    let mut client = deployment.as_client(1).await;
    let (asked, page) = audit_page(&deployment, &mut client, OWNER, &names, 0).await;
    let records = records_of(&page_of(page, &deployment, &asked));
    let shown: Vec<_> = records.iter().flatten().collect();
    assert!(
        shown
            .iter()
            .any(|one| one.decision == Decision::Allow && one.count == 1)
    );
    let codes: Vec<&str> = shown.iter().map(|one| one.decision.code()).collect();
    for code in [
        "not-granted",
        "proof-stale",
        "peer-role",
        "key-state",
        "replayed",
    ] {
        assert!(codes.contains(&code), "{code} is not in {codes:?}");
    }
    let (asked, page) = audit_page(&deployment, &mut client, 9, &names, 0).await;
    let records = records_of(&page_of(page, &deployment, &asked));
    assert!(records.len() > shown.len() / 2 && records.iter().all(Option::is_none));
    for one in running {
        one.stop().await;
    }
}

/// What was allowed and written down, and is overtaken by a confirmation before it leaves, stays here: the log has both.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_was_decided_does_not_leave_after_a_confirmation() {
    let mut deployment = Deployment::new().await;
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let dealing = make_key(&mut deployment, &mut lines, "payroll").await;
    let key = dealing.statement.key;
    let mut client = deployment.as_client(1).await;
    let mut overtaken = false;
    for attempt in 0..30_u64 {
        let made = request(&deployment, &dealing, OWNER, 64, 0).await;
        // Anything that makes a block.
        deployment.create_key(&format!("other-{attempt}")).await;
        let (proof, header) = deployment.proof(&[StateKey::KeyStatus(key)]).await;
        let confirm = Ask::Confirm(v1::Confirm {
            header: proof.header,
            certificate: proof.certificate,
            key: bytes::Bytes::copy_from_slice(key.as_bytes()),
            nonce: vec![9; 32].into(),
        });
        let hash = RecordHash(made.request.hash(&DEPLOYMENT).0);
        let told = async {
            tokio::time::sleep(std::time::Duration::from_millis(2 + attempt % 12)).await;
            let Outcome::Confirmed(confirmed) = ask(&mut client, confirm).await else {
                panic!("not confirmed")
            };
            assert!(confirmed.height >= header.height.0);
        };
        let released = ask(&mut lines[0], Ask::Decrypt(made.decrypt));
        let ((), outcome) = tokio::join!(told, released);
        let stale = match outcome {
            // It left before.
            Outcome::Release(_) => false,
            outcome => refused(outcome) == Reason::ProofStale.code(),
        };
        let names = [StateKey::KeyCreation(key)];
        let (asked, page) = audit_page(&deployment, &mut client, OWNER, &names, 0).await;
        let records = records_of(&page_of(page, &deployment, &asked));
        let about = records.iter().flatten();
        let first = about
            .filter(|one| one.request == Some(hash))
            .map(|one| one.decision)
            .next();
        if stale && first == Some(Decision::Allow) {
            overtaken = true;
            break;
        }
        // Confirmed heights raise the floor once a second.
        tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
    }
    assert!(
        overtaken,
        "no confirmation came in between in thirty attempts"
    );
    for one in running {
        one.stop().await;
    }
}

/// A page of custodian 1, as it signed it.
fn page_of(outcome: Outcome, deployment: &Deployment, asked: &custody::AuditRequest) -> Page {
    let Outcome::Audit(page) = outcome else {
        panic!("no page: {outcome:?}")
    };
    let hash = |bytes: &bytes::Bytes| RecordHash(bytes.as_ref().try_into().unwrap());
    let entries = page.entries.iter().map(|entry| AuditEntry {
        sequence: entry.sequence,
        hash: hash(&entry.hash),
        record: entry.record.as_ref().map(|record| record.to_vec()),
    });
    let signed = Page {
        start: AuditStart {
            before: AuditHead {
                sequence: page.start,
                hash: hash(&page.start_hash),
            },
            time: TimestampMs(page.start_time_ms),
        },
        head: AuditHead {
            sequence: page.head,
            hash: hash(&page.head_hash),
        },
        entries: entries.collect(),
    };
    let signature = page.signature.as_ref().try_into().unwrap();
    let custodian = deployment.custodian_key(1);
    let (chain, request) = (deployment.genesis.hash(), asked.hash(&DEPLOYMENT));
    signed
        .verify(&custodian, &DEPLOYMENT, &chain, &request, &signature)
        .unwrap();
    signed
}

/// The records of a page, its chain checked.
fn records_of(page: &Page) -> Vec<Option<custody::AuditRecord>> {
    verify_page(
        &DEPLOYMENT,
        Some(page.start.before),
        &page.entries,
        &page.head,
    )
    .unwrap()
}

/// A store that was put back is older than what the ledger has of it: nothing is served from it, and what it shows of its log does not pass.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_rolled_back_serves_nothing_and_says_so() {
    let mut deployment = Deployment::new().await;
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let dealing = make_key(&mut deployment, &mut lines, "payroll").await;
    let made = request(&deployment, &dealing, OWNER, 1, 0).await;
    open(&deployment, &dealing, &made, &mut lines[..2]).await;
    let names = [StateKey::KeyCreation(dealing.statement.key)];
    let anchored = async |deployment: &Deployment| {
        let key = StateKey::AnchorHead(deployment.custodian_key(1), AnchorKind::Audit);
        let value = deployment.proof(&[key]).await.0.values[0].value.clone();
        value.map_or(AuditHead::EMPTY, |bytes| {
            let head = AnchorHead::decode(&bytes).unwrap();
            AuditHead {
                sequence: head.total,
                hash: RecordHash(head.root.0),
            }
        })
    };
    // An orderly stop puts the log's end on the ledger.
    drop(lines);
    for one in running {
        one.stop().await;
    }
    let before = anchored(&deployment).await;
    assert!(before.sequence >= 2);
    let file = deployment.settings(1).data.join("store/sealed.log");
    let old = std::fs::read(&file).unwrap();

    // Started again: it continues its log, and serves.
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let made = request(&deployment, &dealing, OWNER, 1, 0).await;
    open(&deployment, &dealing, &made, &mut lines[..2]).await;
    let mut client = deployment.as_client(1).await;
    let (asked, page) = audit_page(&deployment, &mut client, OWNER, &names, 0).await;
    let page = page_of(page, &deployment, &asked);
    let mut check = LogCheck::new(None, Some(before));
    let Ok(Next::Done(whole)) = check.page(&page) else {
        panic!("not whole")
    };
    assert_eq!(whole.anchored, Some(before.sequence));
    drop((lines, client));
    for one in running {
        one.stop().await;
    }
    let after = anchored(&deployment).await;
    assert!(after.sequence > before.sequence);

    // The old file is put back under it.
    std::fs::write(&file, old).unwrap();
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let made = request(&deployment, &dealing, OWNER, 1, 0).await;
    let refusal = ask(&mut lines[0], Ask::Decrypt(made.decrypt.clone())).await;
    assert_eq!(refused(refusal), Reason::Rollback.code());
    let refusal = ask(&mut lines[0], dealing.hold(0)).await;
    assert_eq!(refused(refusal), Reason::Rollback.code());
    // The others go on.
    open(&deployment, &dealing, &made, &mut lines[1..]).await;
    // Its log is shown, and found short; nothing was added to it.
    let mut client = deployment.as_client(1).await;
    for who in [9, OWNER] {
        let (asked, page) = audit_page(&deployment, &mut client, who, &names, 0).await;
        assert_eq!(page_of(page, &deployment, &asked).head, before);
    }
    let (asked, page) = audit_page(&deployment, &mut client, OWNER, &names, 0).await;
    let page = page_of(page, &deployment, &asked);
    assert_eq!(
        page.head, before,
        "whoever was shown it is not written down"
    );
    let short = LogCheck::new(None, Some(after)).page(&page);
    let (end, anchored_at) = (before.sequence, after.sequence);
    assert_eq!(
        short,
        Err(LogError::BehindLedger {
            end,
            anchored: anchored_at
        })
    );
    drop((lines, client));
    for one in running {
        one.stop().await;
    }
    assert_eq!(
        anchored(&deployment).await,
        after,
        "it anchors nothing more"
    );
}

/// Asking is written down once a minute for each who is shown what others did, and never for those who are shown nothing.
#[tokio::test(flavor = "multi_thread")]
async fn asking_for_pages_does_not_fill_the_log() {
    let mut deployment = Deployment::new().await;
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let dealing = make_key(&mut deployment, &mut lines, "payroll").await;
    let names = [StateKey::KeyCreation(dealing.statement.key)];
    let mut client = deployment.as_client(1).await;
    let mut heads = Vec::new();
    for who in [9, 9, 9, OWNER, OWNER, OWNER, OWNER] {
        let (asked, page) = audit_page(&deployment, &mut client, who, &names, 0).await;
        let page = page_of(page, &deployment, &asked);
        let records = records_of(&page);
        assert_eq!(records.iter().any(Option::is_some), who == OWNER);
        heads.push(page.head.sequence);
    }
    // A page shows the log before its own record. A minute of the ledger may end in between, once.
    assert_eq!(heads[0], heads[3], "strangers leave no trace");
    assert!(heads[6] - heads[3] <= 2 && heads[6] > heads[3], "{heads:?}");
    // Refused ones leave none either.
    let (_, page) = audit_page(&deployment, &mut client, OWNER, &[], 0).await;
    assert!(matches!(page, Outcome::Audit(_)));
    let bad = Ask::Audit(v1::Audit {
        request: vec![1, 2, 3].into(),
        proof: None,
    });
    assert_eq!(refused(ask(&mut client, bad).await), "malformed");
    let (asked, page) = audit_page(&deployment, &mut client, OWNER, &names, 0).await;
    let page = page_of(page, &deployment, &asked);
    let malformed = records_of(&page);
    assert!(
        malformed
            .iter()
            .flatten()
            .all(|one| one.decision == Decision::Allow)
    );
    for one in running {
        one.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_held_once_shown_while_pending_and_dropped_when_lost() {
    let mut deployment = Deployment::new().await;
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let key = deployment.create_key("payroll").await;
    // Nobody but its owner has it made.
    for (request, reason) in [
        (bytes::Bytes::new(), Reason::Malformed),
        (
            deployment.deal_request(FRIEND, key, 1).await,
            Reason::NotGranted,
        ),
        (
            deployment.deal_request(OWNER, key, 2).await,
            Reason::Malformed,
        ),
    ] {
        let begin = Ask::Ceremony(v1::Ceremony {
            key: bytes::Bytes::copy_from_slice(key.as_bytes()),
            version: 1,
            fencing: 1,
            messages: Vec::new(),
            proof: Some(deployment.pending_proof(key).await),
            request,
        });
        assert_eq!(refused(ask(&mut lines[0], begin).await), reason.code());
    }
    // Nothing was made yet.
    let (attempt, dh) = generate(&deployment, &mut lines, key, 1).await;
    let dealing = deal(&dh, attempt, 1);
    let show = |dealing: &Dealing, proof| {
        Ask::ShowShare(v1::ShowShare {
            statement: dealing.statement.encode().into(),
            proof: Some(proof),
        })
    };
    let early = ask(
        &mut lines[0],
        show(&dealing, deployment.pending_proof(key).await),
    );
    assert_eq!(refused(early.await), Reason::UnknownShare.code());
    // The share of another custodian, and one of another attempt of the generation.
    assert_eq!(
        refused(ask(&mut lines[0], dealing.hold(1)).await),
        Reason::Statement.code()
    );
    let mut other_attempt = deal(&dh, attempt + 1, 1);
    assert_eq!(
        refused(ask(&mut lines[0], other_attempt.hold(0)).await),
        Reason::UnknownShare.code()
    );
    other_attempt.attempt = attempt;

    // A restart between the key generation and the share: what was made is still there.
    drop(lines);
    for one in running {
        one.stop().await;
    }
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(deployment.start(number).await);
    }
    let mut lines = three(&deployment).await;
    let begin_again = Ask::Ceremony(v1::Ceremony {
        key: bytes::Bytes::copy_from_slice(key.as_bytes()),
        version: 1,
        fencing: 1,
        messages: Vec::new(),
        proof: Some(deployment.pending_proof(key).await),
        request: deployment.deal_request(OWNER, key, 1).await,
    });
    let refusal = ask(&mut lines[0], begin_again).await;
    assert_eq!(refused(refusal), Reason::KeyState.code());

    let held = dealing.acknowledged(ask(&mut lines[0], dealing.hold(0)).await);
    let custodian = deployment.custodian_key(1);
    dealing
        .statement
        .verify_acknowledgement(&custodian, &DEPLOYMENT, &held)
        .unwrap();
    // The same again is the same; another dealing of the same attempt is not.
    let again = dealing.acknowledged(ask(&mut lines[0], dealing.hold(0)).await);
    assert_eq!(again, held);
    assert_eq!(
        refused(ask(&mut lines[0], other_attempt.hold(0)).await),
        Reason::Statement.code()
    );
    // Shown while it is pending, to a worker that checks all shares.
    let outcome = ask(
        &mut lines[0],
        show(&dealing, deployment.pending_proof(key).await),
    );
    let Outcome::Shown(shown) = outcome.await else {
        panic!("not shown")
    };
    let share = crypto::Secret::from_slice(&shown.pq_share).unwrap();
    let share = PqShare::from_secret(ShareIndex::FIRST, &share).unwrap();
    assert!(share.opens(&dealing.commitments));

    // The owner gives the attempt up and another one begins: the share is of no use, and goes.
    let abandon = Action::AbandonVersion(ledger::transaction::AbandonVersion { key, fencing: 1 });
    deployment.run(OWNER, abandon).await;
    let refusal = ask(
        &mut lines[0],
        show(&dealing, deployment.pending_proof(key).await),
    );
    assert_eq!(refused(refusal.await), Reason::KeyState.code());
    let begin = Action::BeginVersion(ledger::transaction::BeginVersion {
        key,
        version: KeyVersion::FIRST,
        fencing: 1,
        committee: deployment.committee_id(),
    });
    deployment.run(OWNER, begin).await;
    assert_eq!(running[0].custodian().settle_some(None).await, Ok(None));
    assert_eq!(
        refused(ask(&mut lines[0], dealing.hold(0)).await),
        Reason::UnknownShare.code()
    );
    // The second attempt works as if the first had never been.
    let (attempt, dh) = generate(&deployment, &mut lines, key, 2).await;
    let second = deal(&dh, attempt, 2);
    let mut acknowledgements = Vec::new();
    for (at, line) in lines.iter_mut().enumerate() {
        acknowledgements.push(second.acknowledged(ask(line, second.hold(at)).await));
    }
    let activate = second.activation(acknowledgements);
    deployment.run(WORKERS[0], activate).await;
    let made = request(&deployment, &second, OWNER, 3, 0).await;
    open(&deployment, &second, &made, &mut lines[1..]).await;
    for one in running {
        one.stop().await;
    }
}
