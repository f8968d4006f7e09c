//! Named keys through real custodians, workers, relay and ledger.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crypto::identity::Signature;
use custody::{ConfirmQuestion, Confirmation};
use custody_testing::{Deployment, LONG, OWNER, T, person};
use domain::{Height, Principal};
use enclave_client::CallError;
use enclave_wire::v1;
use ledger::records::{KeyGrant, Operations};
use ledger::transaction::{RevokeKey, SignedRecord};
use ledger::{Action, StateKey};
use sealed::signed::Signed;

const FRIEND: u8 = 2;

fn code<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Refused(refusal)) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// Create, open singly and in a batch, through either worker; with two custodians gone, and not with three; and again when they are back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_key_lives_as_long_as_three_of_five() {
    let mut deployment = Deployment::start().await;
    let key = deployment.key("payroll").await;
    let workers = deployment.workers.clone();
    for count in [1, 64] {
        for worker in workers.peers() {
            let opening = deployment.opening(OWNER, key, count).await;
            let opened = worker.decrypt(opening.ask.clone(), LONG).await.unwrap();
            assert_eq!(opening.open(&opened), Ok(usize::from(T)));
        }
    }
    deployment.stop_custodian(2).await;
    deployment.stop_custodian(5).await;
    for _ in 0..5 {
        let opening = deployment.opening(OWNER, key, 2).await;
        let opened = workers.peers()[0]
            .decrypt(opening.ask.clone(), LONG)
            .await
            .unwrap();
        assert_eq!(opening.open(&opened), Ok(usize::from(T)));
    }
    deployment.stop_custodian(1).await;
    let opening = deployment.opening(OWNER, key, 1).await;
    let refused = workers.peers()[0].decrypt(opening.ask, LONG).await;
    assert_eq!(code(refused), "custodians");
    // One that was stopped comes back with what it holds on its disk.
    deployment.custodians[1] = Some(deployment.start_custodian(2).await);
    let begun = Instant::now();
    loop {
        // Requests from before its start are not answered by it: the ledger's time has to go on first.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let opening = deployment.opening(OWNER, key, 1).await;
        match workers.peers()[0].decrypt(opening.ask.clone(), LONG).await {
            Ok(opened) => {
                assert_eq!(opening.open(&opened), Ok(usize::from(T)));
                break;
            }
            Err(error) => assert!(begun.elapsed() < LONG, "{error}"),
        }
    }
}

/// A grant opens, and no more once three custodians have confirmed its revocation.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_was_granted_opens_until_it_is_revoked() {
    let mut deployment = Deployment::start().await;
    let key = deployment.key("payroll").await;
    let worker = deployment.workers.peers()[0].clone();
    let opening = deployment.opening(FRIEND, key, 1).await;
    assert_eq!(code(worker.decrypt(opening.ask, LONG).await), "not-granted");
    let grant = KeyGrant {
        key,
        grantee: person(FRIEND).principal(),
        operations: Operations::DECRYPT,
        granted_by: person(OWNER).principal(),
        parent: None,
        serial: 1,
        expires: None,
    };
    let record = Signed::sign(&person(OWNER), &custody_testing::DEPLOYMENT, grant).encode();
    deployment
        .run(OWNER, Action::GrantKey(SignedRecord { record }))
        .await;
    let opening = deployment.opening(FRIEND, key, 3).await;
    let opened = worker.decrypt(opening.ask.clone(), LONG).await.unwrap();
    assert_eq!(opening.open(&opened), Ok(usize::from(T)));
    // A request with proofs from before the revocation, to be sent after it.
    let old = deployment.opening(FRIEND, key, 1).await;
    let revoke = RevokeKey {
        key,
        grantee: person(FRIEND).principal(),
        serial: 1,
    };
    deployment.run(OWNER, Action::RevokeKey(revoke)).await;
    let (proof, header) = deployment.proof(&[StateKey::KeyStatus(key)]).await;
    let asked = ConfirmQuestion {
        chain: deployment.genesis.hash(),
        key,
        nonce: [7; 32],
    };
    let mut answers = Vec::new();
    for custodian in deployment.asked.peers() {
        let confirm = v1::Confirm {
            header: proof.header.clone(),
            certificate: proof.certificate.clone(),
            key: key.as_bytes().to_vec().into(),
            nonce: asked.nonce.to_vec().into(),
        };
        let confirmed = custodian.confirm(confirm, LONG).await.unwrap();
        answers.push(Confirmation {
            custodian: Principal(confirmed.principal[..].try_into().unwrap()),
            height: Height(confirmed.height),
            signature: Signature(confirmed.signature[..].try_into().unwrap()),
        });
    }
    let confirmed = |asked: &ConfirmQuestion| {
        let committee = &deployment.committee;
        let deployment = &custody_testing::DEPLOYMENT;
        asked.confirmed(deployment, committee, header.height, &answers)
    };
    assert_eq!(confirmed(&asked).len(), usize::from(custody_testing::N));
    // The same answers to another question, or about another key, say nothing.
    let mut another = asked;
    another.nonce[0] ^= 1;
    assert!(confirmed(&another).is_empty());
    another = asked;
    another.key.0[0] ^= 1;
    assert!(confirmed(&another).is_empty());
    let refused = worker.decrypt(old.ask, LONG).await;
    assert_eq!(code(refused), "proof-stale");
    let opening = deployment.opening(FRIEND, key, 1).await;
    assert_eq!(code(worker.decrypt(opening.ask, LONG).await), "not-granted");
    let opening = deployment.opening(OWNER, key, 1).await;
    let opened = worker.decrypt(opening.ask.clone(), LONG).await.unwrap();
    assert_eq!(opening.open(&opened), Ok(usize::from(T)));
}

/// The messages of an attempt that was given up are lost with the worker that carried them: the custodians ask each other for
/// them, and the same attempt comes to its end, or says that it cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_worker_that_disappears_in_the_middle_spoils_nothing() {
    let mut deployment = Deployment::start().await;
    let key = deployment.begin("payroll").await;
    let question = deployment.question(key, 1).await;
    let workers = deployment.workers.clone();
    // The first round goes to every custodian from a worker that never comes back.
    deployment.stop_custodian(5).await;
    let refused = workers.peers()[0]
        .deal_version(question.clone(), LONG)
        .await;
    assert!(code(refused).len() > 3);
    deployment.custodians[4] = Some(deployment.start_custodian(5).await);
    let question = deployment.question(key, 1).await;
    let dealt = workers.peers()[1]
        .deal_version(question, LONG)
        .await
        .unwrap();
    deployment.activate(&dealt).await;
    let opening = deployment.opening(OWNER, key, 1).await;
    let opened = workers.peers()[0]
        .decrypt(opening.ask.clone(), LONG)
        .await
        .unwrap();
    assert_eq!(opening.open(&opened), Ok(usize::from(T)));
}
