//! What is sealed to a recipient, and signed.

use crypto::Secret;
use crypto::context::EncryptionContext;
use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::{Element, SecretScalar};
use custody::{AnswerError, DecryptRequest, Recipient, RequestHash, SealedPartials, SealedSecrets};
use domain::{CommitteeId, Epoch, KeyId, KeyVersion, ShareIndex, Threshold};
use threshold::partial::VerifiedCiphertext;
use threshold::{DhShare, Partial, Sharing};

use crate::requests::{DEPLOYMENT, person, request};

fn rng() -> impl rand_core::CryptoRng {
    getrandom::rand_core::UnwrapErr(getrandom::SysRng)
}

fn sharing(version: u32) -> Sharing {
    Sharing {
        deployment: DEPLOYMENT,
        key: KeyId([2; 32]),
        version: KeyVersion::new(version).unwrap(),
        epoch: Epoch::FIRST,
        committee: CommitteeId([3; 32]),
        threshold: Threshold::new(2, 3).unwrap(),
    }
}

fn index(number: u8) -> ShareIndex {
    ShareIndex::new(number).unwrap()
}

fn partials(request: &RequestHash, count: usize) -> Vec<Partial> {
    let sharing = sharing(1);
    let key = KeyRef {
        deployment: DEPLOYMENT,
        key: sharing.key,
        version: sharing.version,
        public: PublicKeys {
            pq: PqSeed::from_secret(Secret::take(&mut [4; 64])).public(),
            dh: Element::from_point(SecretScalar::from_wide(&[5; 64]).times_base()).unwrap(),
        },
    };
    let share = DhShare::new(sharing, index(2), SecretScalar::from_wide(&[6; 64])).unwrap();
    let context = EncryptionContext::default().hash(&DEPLOYMENT);
    let encapsulator = Encapsulator::new(key);
    (0..count)
        .map(|_| {
            let (ciphertext, _) = encapsulator.encapsulate(&mut rng(), &context);
            let parts = ciphertext.parts(&DEPLOYMENT, context);
            let verified = VerifiedCiphertext::verify(&parts, encapsulator.target()).unwrap();
            Partial::make(&share, &verified, &request.0, &mut rng()).unwrap()
        })
        .collect()
}

#[test]
fn partials_are_the_recipients_alone_and_of_one_request() {
    let (custodian, recipient) = (person(1), Recipient::generate(&mut rng()));
    let mut asked = request(person(2).principal(), 2);
    asked.recipient_dh = recipient.dh();
    let hash = asked.hash(&DEPLOYMENT);
    let made = partials(&hash, 2);
    let seal = |asked: &DecryptRequest| {
        SealedPartials::seal(
            &mut rng(),
            &custodian,
            &sharing(1),
            index(2),
            (asked, &hash),
            &made,
        )
    };
    let good = seal(&asked).unwrap();
    let who = custodian.principal();
    let open = |recipient: &Recipient, version, at, hash: &RequestHash, count, answer: &_| {
        recipient.open_partials(&who, &sharing(version), index(at), hash, count, answer)
    };
    assert_eq!(open(&recipient, 1, 2, &hash, 2, &good), Ok(made.clone()));
    let unsigned = Err(AnswerError::Signature(who));
    assert_eq!(open(&recipient, 2, 2, &hash, 2, &good), unsigned);
    assert_eq!(open(&recipient, 1, 1, &hash, 2, &good), unsigned);
    assert_eq!(
        open(&recipient, 1, 2, &RequestHash([0; 32]), 2, &good),
        unsigned
    );
    for at in 0..good.sealed.len() {
        let mut altered = good.clone();
        altered.sealed[at] ^= 1;
        assert_eq!(open(&recipient, 1, 2, &hash, 2, &altered), unsigned);
    }
    let other = Recipient::generate(&mut rng());
    assert_eq!(open(&other, 1, 2, &hash, 2, &good), Err(AnswerError::Open));
    assert_eq!(
        open(&recipient, 1, 2, &hash, 3, &good),
        Err(AnswerError::Parts)
    );
    // A custodian that answers for another index.
    let mut wrong = good.clone();
    let body_of_another = SealedPartials::seal(
        &mut rng(),
        &custodian,
        &sharing(1),
        index(1),
        (&asked, &hash),
        &made,
    );
    wrong.clone_from(&body_of_another.unwrap());
    assert_eq!(
        open(&recipient, 1, 1, &hash, 2, &wrong),
        Err(AnswerError::Parts)
    );
    asked.recipient_dh = [0; 32];
    assert_eq!(seal(&asked), Err(AnswerError::RecipientDh));
}

#[test]
fn secrets_are_the_recipients_alone_and_of_one_request() {
    let (worker, recipient) = (person(1), Recipient::generate(&mut rng()));
    let mut asked = request(person(2).principal(), 2);
    asked.recipient_pq = recipient.pq();
    let hash = asked.hash(&DEPLOYMENT);
    let secrets = [1, 2].map(|byte| Secret::take(&mut [byte; 32]));
    let seal = |asked: &DecryptRequest| {
        SealedSecrets::seal(&mut rng(), &worker, &DEPLOYMENT, (asked, &hash), &secrets)
    };
    let good = seal(&asked).unwrap();
    let who = worker.principal();
    let open = |recipient: &Recipient, hash: &RequestHash, count, answer: &_| {
        let opened = recipient.open_secrets(&who, &DEPLOYMENT, hash, count, answer);
        opened.map(|secrets| secrets.iter().map(|one| *one.expose()).collect::<Vec<_>>())
    };
    assert_eq!(
        open(&recipient, &hash, 2, &good),
        Ok(vec![[1; 32], [2; 32]])
    );
    let unsigned = Err(AnswerError::Signature(who));
    assert_eq!(open(&recipient, &RequestHash([0; 32]), 2, &good), unsigned);
    let mut altered = good.clone();
    altered.sealed[7] ^= 1;
    assert_eq!(open(&recipient, &hash, 2, &altered), unsigned);
    assert_eq!(open(&recipient, &hash, 1, &good), Err(AnswerError::Parts));
    let other = Recipient::generate(&mut rng());
    assert_eq!(open(&other, &hash, 2, &good), Err(AnswerError::Open));
    asked.recipient_pq = [0xff; 1_216];
    assert_eq!(seal(&asked), Err(AnswerError::RecipientPq));
}
