//! Answers as custodians, workers and gateways would like them to be taken.

use ::ledger::records::{
    Activation, Committee, ContextPolicy, Enrolment, KeyCreation, Measurement, Member,
    VersionEntry, VersionStatement,
};
use crypto::Identity;
use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::SecretScalar;
use crypto::wrap::{UnwrapWith as _, WrapTo as _};
use curve25519_dalek::scalar::Scalar;
use domain::{
    DeploymentId, EnvelopeId, Epoch, GenesisHash, Height, MerkleRoot, PlatformType, Principal,
    Threshold,
};
use threshold::{DhShare, Partial};
use wire::rest::custody::CustodianRefusal;

use super::*;

const DEPLOYMENT: DeploymentId = DeploymentId([0xd0; 32]);
const N: u8 = 5;
const T: u8 = 3;

fn custodian(index: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [index; 32]))
}

fn worker() -> Identity {
    Identity::from_seed(Secret::take(&mut [0xee; 32]))
}

fn index(number: u8) -> ShareIndex {
    ShareIndex::new(number).unwrap()
}

/// A key version with all of its shares at hand.
struct Whole {
    checked: Checked,
    seed: PqSeed,
    shares: Vec<DhShare>,
}

impl Whole {
    /// Two keys of different seeds share nothing.
    fn new(seed: u8) -> Self {
        let committee = Committee {
            threshold: Threshold::new(T, N).unwrap(),
            members: (1..=N)
                .map(|number| Member {
                    slot: Slot {
                        index: index(number),
                        standby: false,
                    },
                    key: custodian(number).principal(),
                    platform: PlatformType::Software,
                })
                .collect(),
            random: [1; 16],
        };
        let owner = custodian(0x99);
        let creation = KeyCreation {
            owner: owner.principal(),
            name: "payroll".parse().unwrap(),
            random: [seed; 32],
            scheme: crypto::kem::SCHEME,
            threshold: committee.threshold,
            committee: committee.id(&DEPLOYMENT),
            context: ContextPolicy::ANY,
            created: TimestampMs(1),
        };
        let pq_seed = PqSeed::from_secret(Secret::take(&mut [seed; 64]));
        let polynomial: Vec<Scalar> = (1..=T)
            .map(|at| *SecretScalar::from_wide(&[seed.wrapping_add(at); 64]).danger_scalar())
            .collect();
        let mut statement = VersionStatement {
            key: creation.key_id(&DEPLOYMENT),
            version: KeyVersion::FIRST,
            fencing: 1,
            epoch: Epoch::FIRST,
            committee: creation.committee,
            pq: *pq_seed.public().as_bytes(),
            dh: [0; 32],
            commitments: MerkleRoot([0; 32]),
            dealer: worker().principal(),
        };
        let sharing = statement.sharing(&DEPLOYMENT, committee.threshold);
        let shares: Vec<DhShare> = sharing
            .threshold
            .indices()
            .map(|index| {
                let at = Scalar::from(index.get());
                let sum = |sum, coefficient: &Scalar| sum * at + coefficient;
                let mut value = polynomial.iter().rev().fold(Scalar::ZERO, sum);
                DhShare::new(sharing, index, SecretScalar::take(&mut value)).unwrap()
            })
            .collect();
        let mut x = polynomial[0];
        let group = Element::from_point(SecretScalar::take(&mut x).times_base()).unwrap();
        statement.dh = *group.as_bytes();
        let publics = shares.iter().map(|share| *share.public()).collect();
        let public = DhPublic::new(sharing, group, publics).unwrap();
        let entry = VersionEntry {
            statement: Vec::new(),
            commitments: Vec::new(),
            acknowledgements: Vec::new(),
            activation: Activation {
                worker: worker().principal(),
                signature: Signature([0; 64]),
            },
            epoch: Epoch::FIRST,
            committee: statement.committee,
            height: Height(1),
            retires: None,
            destroyed: false,
        };
        let key = KeyRef {
            deployment: DEPLOYMENT,
            key: statement.key,
            version: KeyVersion::FIRST,
            public: PublicKeys {
                pq: pq_seed.public(),
                dh: group,
            },
        };
        let version = VerifiedVersion {
            creation: Signed::sign(&owner, &DEPLOYMENT, creation),
            committee,
            statement,
            entry,
            key,
        };
        Self {
            checked: Checked {
                version,
                sharing,
                public,
            },
            seed: pq_seed,
            shares,
        }
    }

    fn encapsulate(&self, at: usize) -> (Item, Secret<32>) {
        let context = EncryptionContext::from_user([("n", at.to_string())]).unwrap();
        let hash = context.hash(&DEPLOYMENT);
        let made = Encapsulator::new(self.checked.version.key.clone());
        let (ciphertext, key) = made.encapsulate(&mut random::rng(), &hash);
        let parts = ciphertext.parts(&DEPLOYMENT, hash);
        let u = parts.verify(&self.checked.version.key.target()).unwrap();
        let item = Item {
            at,
            ciphertext,
            context,
            u,
        };
        (item, key)
    }

    fn request(&self, items: &[Item], recipient: &Recipient) -> DecryptRequest {
        let hashes = items.iter().map(|item| {
            let context = item.context.hash(&DEPLOYMENT);
            item.ciphertext.kem_hash(&DEPLOYMENT, context)
        });
        DecryptRequest {
            chain: GenesisHash([1; 32]),
            principal: Principal([2; 32]),
            operation: Operation::Decrypt,
            key: self.checked.version.key.key,
            version: KeyVersion::FIRST,
            kem_hashes: KemHashes::new(hashes.collect()).unwrap(),
            recipient_dh: recipient.dh(),
            recipient_pq: recipient.pq(),
            min_height: Height(1),
            issued: TimestampMs(1),
            expires: TimestampMs(2),
            nonce: [3; 16],
            job: None,
        }
    }

    /// Partials with `share`, sealed and signed as the custodian of `number`.
    fn partials(
        &self,
        items: &[Item],
        asked: &Asked,
        share: &DhShare,
        number: u8,
        signer: &Identity,
    ) -> SealedPartialsInfo {
        let target = self.checked.version.key.target();
        let partials: Vec<Partial> = items
            .iter()
            .map(|item| {
                let context = item.context.hash(&DEPLOYMENT);
                let parts = item.ciphertext.parts(&DEPLOYMENT, context);
                let verified = VerifiedCiphertext::verify(&parts, &target).unwrap();
                Partial::make(share, &verified, &asked.hash.0, &mut random::rng()).unwrap()
            })
            .collect();
        let sealed = SealedPartials::seal(
            &mut random::rng(),
            signer,
            &self.checked.sharing,
            index(number),
            (&asked.request, &asked.hash),
            &partials,
        )
        .unwrap();
        SealedPartialsInfo {
            sealed: Base64Url(sealed.sealed),
            index: number,
            custodian: signer.principal(),
            signature: Base64Url(sealed.signature.0.to_vec()),
        }
    }

    fn honest(&self, items: &[Item], asked: &Asked, number: u8) -> SealedPartialsInfo {
        let share = &self.shares[usize::from(number) - 1];
        self.partials(items, asked, share, number, &custodian(number))
    }

    fn secrets(&self, items: &[Item], asked: &Asked) -> SealedSecrets {
        let pair = self.seed.open(&self.checked.version.key.public.pq).unwrap();
        let secrets: Vec<Secret<32>> = items
            .iter()
            .map(|item| pair.decapsulate(&item.ciphertext.pq))
            .collect();
        seal_secrets(asked, &secrets)
    }
}

fn seal_secrets(asked: &Asked, secrets: &[Secret<32>]) -> SealedSecrets {
    let request = (&asked.request, &asked.hash);
    SealedSecrets::seal(&mut random::rng(), &worker(), &DEPLOYMENT, request, secrets).unwrap()
}

struct Asked {
    recipient: Recipient,
    request: DecryptRequest,
    hash: RequestHash,
}

fn ask(whole: &Whole, items: &[Item]) -> Asked {
    let recipient = Recipient::generate(&mut random::rng());
    let request = whole.request(items, &recipient);
    let hash = request.hash(&DEPLOYMENT);
    Asked {
        recipient,
        request,
        hash,
    }
}

fn answer(partials: Vec<SealedPartialsInfo>, secrets: SealedSecrets) -> DecryptAnswer {
    DecryptAnswer {
        partials,
        sealed_secrets: Base64Url(secrets.sealed),
        worker: worker().principal(),
        signature: Base64Url(secrets.signature.0.to_vec()),
        failures: Vec::new(),
    }
}

/// A batch of two, asked for.
fn batch() -> (Whole, Vec<Item>, Vec<Secret<32>>, Asked) {
    let whole = Whole::new(4);
    let (items, keys): (Vec<Item>, Vec<Secret<32>>) =
        (0..2).map(|at| whole.encapsulate(at)).unzip();
    let asked = ask(&whole, &items);
    (whole, items, keys, asked)
}

impl Asked {
    fn combine(
        &self,
        whole: &Whole,
        items: &[Item],
        answer: &DecryptAnswer,
    ) -> Result<Vec<Secret<32>>> {
        whole
            .checked
            .combine(&self.recipient, &self.hash, items, answer)
    }
}

/// The findings of a batch that did not open.
#[track_caller]
fn findings(outcome: Result<Vec<Secret<32>>>) -> String {
    match outcome {
        Err(Error::Custodians { findings, .. }) => findings.join("\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn t_right_answers_open_whoever_they_are_from() {
    let (whole, items, keys, asked) = batch();
    for from in [[1, 2, 3], [5, 3, 1], [2, 4, 5]] {
        let partials = from.map(|number| whole.honest(&items, &asked, number));
        let answer = answer(partials.to_vec(), whole.secrets(&items, &asked));
        let opened = asked.combine(&whole, &items, &answer).unwrap();
        assert_eq!(opened.len(), keys.len());
        for (opened, key) in opened.iter().zip(&keys) {
            assert!(opened.ct_eq(key));
        }
    }
}

#[test]
fn a_custodian_that_lies_is_named_and_the_others_are_enough() {
    let (whole, items, keys, asked) = batch();
    let stranger = custodian(0x55);
    let good = |number| whole.honest(&items, &asked, number);
    // A share of another index, another key's share under this key's name, somebody else's signature, another request's answer, the
    // place of another custodian, bytes that open to nothing.
    let wrong_share = whole.partials(&items, &asked, &whole.shares[0], 2, &custodian(2));
    let forged_signature = whole.partials(&items, &asked, &whole.shares[1], 2, &stranger);
    let mut another_request = ask(&whole, &items);
    another_request.recipient = Recipient::generate(&mut random::rng());
    let replayed = whole.honest(&items, &another_request, 2);
    let mut as_another = good(3);
    as_another.index = 2;
    let mut garbage = good(2);
    garbage.sealed.0[40] ^= 1;
    let mut unsigned = good(2);
    unsigned.signature.0.pop();
    let mut short = whole.honest(&items[..1], &asked, 2);
    short.index = 2;
    let lies = [
        ("another index's share", wrong_share),
        ("a stranger's signature", forged_signature),
        ("another request's answer", replayed),
        ("another custodian's answer", as_another),
        ("altered", garbage),
        ("unsigned", unsigned),
        ("too few", short),
    ];
    for (what, lie) in lies {
        let secrets = || whole.secrets(&items, &asked);
        let outcome = asked.combine(
            &whole,
            &items,
            &answer(vec![good(1), lie.clone(), good(4)], secrets()),
        );
        let said = findings(outcome);
        assert!(said.contains("custodian 2"), "{what}: {said}");
        assert!(said.contains("2 of the 3"), "{what}: {said}");
        let enough = answer(vec![good(1), lie, good(4), good(5)], secrets());
        let opened = asked.combine(&whole, &items, &enough).unwrap();
        assert!(
            opened.iter().zip(&keys).all(|(one, key)| one.ct_eq(key)),
            "{what}"
        );
    }
}

#[test]
fn a_share_of_another_key_does_not_open_this_one() {
    let (whole, items, _, asked) = batch();
    let other = Whole::new(77);
    // The custodian answers with the share it holds of another key: its proof is about that one.
    let (other_items, _): (Vec<Item>, Vec<Secret<32>>) =
        (0..2).map(|at| other.encapsulate(at)).unzip();
    let partials: Vec<Partial> = other_items
        .iter()
        .map(|item| {
            let context = item.context.hash(&DEPLOYMENT);
            let parts = item.ciphertext.parts(&DEPLOYMENT, context);
            let target = other.checked.version.key.target();
            let verified = VerifiedCiphertext::verify(&parts, &target).unwrap();
            Partial::make(
                &other.shares[1],
                &verified,
                &asked.hash.0,
                &mut random::rng(),
            )
            .unwrap()
        })
        .collect();
    let sealed = SealedPartials::seal(
        &mut random::rng(),
        &custodian(2),
        &whole.checked.sharing,
        index(2),
        (&asked.request, &asked.hash),
        &partials,
    )
    .unwrap();
    let lie = SealedPartialsInfo {
        sealed: Base64Url(sealed.sealed),
        index: 2,
        custodian: custodian(2).principal(),
        signature: Base64Url(sealed.signature.0.to_vec()),
    };
    let good = |number| whole.honest(&items, &asked, number);
    let given = answer(vec![good(1), lie, good(3)], whole.secrets(&items, &asked));
    let said = findings(asked.combine(&whole, &items, &given));
    assert!(
        said.contains("partial decryption of custodian 2 is wrong"),
        "{said}"
    );
}

#[test]
fn one_custodian_twice_is_one_custodian() {
    let (whole, items, _, asked) = batch();
    let good = |number| whole.honest(&items, &asked, number);
    let given = answer(
        vec![good(1), good(1), good(2)],
        whole.secrets(&items, &asked),
    );
    assert!(findings(asked.combine(&whole, &items, &given)).contains("2 of the 3"));
}

#[test]
fn a_worker_that_lies_opens_nothing() {
    let (whole, items, keys, asked) = batch();
    let partials: Vec<_> = [1, 2, 3]
        .map(|number| whole.honest(&items, &asked, number))
        .to_vec();
    let named = |secrets: SealedSecrets| {
        let said = findings(asked.combine(&whole, &items, &answer(partials.clone(), secrets)));
        assert!(said.contains(&worker().principal().to_string()), "{said}");
    };
    named(whole.secrets(&items[..1], &asked));
    named(whole.secrets(&items, &ask(&whole, &items)));
    let mut altered = whole.secrets(&items, &asked);
    altered.sealed[1_130] ^= 1;
    named(altered);
    // Secrets that it made up: signed and sealed as they should be. What comes out opens nothing.
    let made_up = seal_secrets(
        &asked,
        &[Secret::take(&mut [1; 32]), Secret::take(&mut [2; 32])],
    );
    let opened = asked
        .combine(&whole, &items, &answer(partials, made_up))
        .unwrap();
    assert!(opened.iter().zip(&keys).all(|(one, key)| !one.ct_eq(key)));
}

#[test]
fn a_released_key_opens_its_own_wrap_and_no_other() {
    let whole = Whole::new(4);
    let holder = Encapsulator::new(whole.checked.version.key.clone());
    let shown = EncryptionContext::from_user([("a", "b")]).unwrap();
    let context = |id| WrapContext::Envelope {
        context: shown.hash(&DEPLOYMENT),
        envelope: EnvelopeId([id; 16]),
    };
    let secret = Secret::take(&mut [9; 32]);
    let mut rng = random::rng();
    let wraps: Vec<_> = [1, 2]
        .map(|id| {
            holder
                .wrap(&mut rng, &DEPLOYMENT, &context(id), &secret)
                .unwrap()
        })
        .to_vec();
    let crypto::wrap::Wrap::NamedKey(named) = &wraps[0] else {
        panic!("a wrap to a named key");
    };
    let hash = shown.hash(&DEPLOYMENT);
    let parts = named.ciphertext.parts(&DEPLOYMENT, hash);
    let item = Item {
        at: 0,
        ciphertext: named.ciphertext.clone(),
        context: shown.clone(),
        u: parts.verify(&whole.checked.version.key.target()).unwrap(),
    };
    let items = vec![item];
    let asked = ask(&whole, &items);
    let partials = [1, 2, 3].map(|number| whole.honest(&items, &asked, number));
    let given = answer(partials.to_vec(), whole.secrets(&items, &asked));
    let key = asked.combine(&whole, &items, &given).unwrap().remove(0);
    let released = ReleasedKey {
        kem_hash: named.kem_hash(&DEPLOYMENT, &context(1)),
        key,
    };
    let opened = released.unwrap_key(&DEPLOYMENT, &context(1), &wraps[..1]);
    assert!(opened.unwrap().ct_eq(&secret));
    assert!(
        released
            .unwrap_key(&DEPLOYMENT, &context(2), &wraps[1..])
            .is_err()
    );
}

#[test]
fn who_refused_is_said_with_the_reason() {
    let (whole, items, _, asked) = batch();
    let partials = [1, 2].map(|number| whole.honest(&items, &asked, number));
    let mut given = answer(partials.to_vec(), whole.secrets(&items, &asked));
    given.failures.push(CustodianRefusal {
        index: 4,
        code: "ledger-stale".to_owned(),
        detail: "nobody answers".to_owned(),
        retry: true,
    });
    let said = findings(asked.combine(&whole, &items, &given));
    assert!(
        said.contains("custodian 4: nobody answers (ledger-stale)"),
        "{said}"
    );
}

#[test]
fn only_a_worker_that_the_ledger_enrols_now_is_believed() {
    let (now, who) = (TimestampMs(1_000), worker().principal());
    let entry = |role, key, expires, withdrawn| EnrolmentEntry {
        enrolment: Enrolment {
            role,
            key,
            platform: PlatformType::Software,
            measurement: Measurement::new(vec![1; 32]).unwrap(),
            expires,
        },
        height: Height(1),
        withdrawn,
    };
    let other = custodian(1).principal();
    let later = Some(TimestampMs(1_001));
    assert!(is_enrolled(
        Some(&entry(Role::Worker, who, later, false)),
        &who,
        now
    ));
    for entry in [
        None,
        Some(entry(Role::Worker, other, None, false)),
        Some(entry(Role::Gateway, who, None, false)),
        Some(entry(Role::Worker, who, Some(now), false)),
        Some(entry(Role::Worker, who, None, true)),
    ] {
        assert!(!is_enrolled(entry.as_ref(), &who, now), "{entry:?}");
    }
}
