//! A ledger with a real key on it, a custodian's share of it, and everything that a good request brings along.

use std::sync::Mutex;

use attestation::Role;
use crypto::context::EncryptionContext;
use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::{Element, SecretScalar};
use crypto::{Identity, Secret};
use custody::{
    Ask, CiphertextBytes, DecryptRequest, Denial, Judge, KemHashes, LedgerName, LedgerProof,
    LedgerView, Operation, Permit, ProvedValue, Reason, Recipient, ShareName, Shares, Verdict,
};
use domain::{
    Epoch, Height, KeyId, KeyVersion, MerkleRoot, PlatformType, Principal, ShareIndex, TimestampMs,
};
use ledger::records::{ContextPolicy, KeyCreation, VersionStatement};
use ledger::transaction::{ActivateVersion, CreateKey};
use ledger::{Action, Certificate, Header, HeaderError, LightClient, Record as _, StateKey};
use sealed::signed::Signed;
use threshold::{CommitmentList, CustodianRecord, DhPublic, DhShare, PqShare};

use crate::world::{
    self, CUSTODIAN, DEPLOYMENT, START, WORKER, World, acknowledgements, genesis, person, threshold,
};

pub const OWNER: u64 = 1;
pub const FRIEND: u64 = 2;
/// The custodian that judges.
pub const INDEX: u8 = 2;

pub fn rng() -> impl rand_core::CryptoRng {
    getrandom::rand_core::UnwrapErr(getrandom::SysRng)
}

/// A custodian's view, moved by tests.
pub struct TestView(Mutex<Known>);

struct Known {
    light: LightClient,
    fresh: bool,
    started: Option<TimestampMs>,
}

impl TestView {
    pub fn new() -> Self {
        Self(Mutex::new(Known {
            light: LightClient::new(&genesis(true)),
            fresh: true,
            started: Some(START),
        }))
    }

    pub fn fresh(&self, fresh: bool) {
        self.0.lock().unwrap().fresh = fresh;
    }

    pub fn start_at(&self, time: TimestampMs) {
        self.0.lock().unwrap().started = Some(time);
    }

    pub fn require(&self, height: Height) {
        self.0.lock().unwrap().light.require(height);
    }

    pub fn take(&self, world: &mut World) {
        let certificate = world.certificate();
        self.admit(&world.newest, &certificate).unwrap();
    }
}

impl LedgerView for TestView {
    fn newest(&self) -> Option<Header> {
        self.0.lock().unwrap().light.newest().cloned()
    }

    fn time(&self) -> TimestampMs {
        self.newest().map_or(TimestampMs(0), |header| header.time)
    }

    fn started(&self) -> Option<TimestampMs> {
        self.0.lock().unwrap().started
    }

    fn floor(&self) -> Height {
        self.0.lock().unwrap().light.fresh_height()
    }

    fn is_fresh(&self) -> bool {
        self.0.lock().unwrap().fresh
    }

    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        self.0
            .lock()
            .unwrap()
            .light
            .admit(header, certificate, None)
    }

    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError> {
        self.admit(header, certificate)?;
        self.require(header.height);
        Ok(self.floor())
    }
}

/// One custodian's store: at most one share.
pub struct OneShare(pub Option<(ShareName, Vec<u8>)>);

impl Shares for OneShare {
    fn share(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial> {
        Ok(self
            .0
            .as_ref()
            .filter(|(held, _)| held == name)
            .map(|(_, bytes)| CustodianRecord::decode(DEPLOYMENT, bytes).unwrap()))
    }
}

/// A proof that owns its bytes.
#[derive(Clone)]
pub struct OwnedProof {
    pub header: Vec<u8>,
    pub certificate: Vec<u8>,
    pub values: Vec<(Vec<u8>, Option<Vec<u8>>, Vec<u8>)>,
}

impl OwnedProof {
    pub fn of(world: &mut World, keys: &[StateKey]) -> Self {
        let values = keys
            .iter()
            .map(|key| {
                let key = key.encode();
                let (value, proof) = world.state.prove(&key);
                (key, value.map(|value| value.to_vec()), proof.encode())
            })
            .collect();
        Self {
            header: world.newest.encode(),
            certificate: world.certificate().encode(),
            values,
        }
    }

    pub fn borrow(&self) -> LedgerProof<'_> {
        LedgerProof {
            header: &self.header,
            certificate: &self.certificate,
            values: self
                .values
                .iter()
                .map(|(key, value, proof)| ProvedValue {
                    key,
                    value: value.as_deref(),
                    proof,
                })
                .collect(),
        }
    }

    /// The value of a key, to falsify.
    pub fn value(&mut self, key: &StateKey) -> &mut Option<Vec<u8>> {
        let key = key.encode();
        let found = self.values.iter_mut().find(|(name, ..)| *name == key);
        &mut found.unwrap().1
    }

    pub fn leave_out(&mut self, key: &StateKey) {
        let key = key.encode();
        self.values.retain(|(name, ..)| *name != key);
    }
}

/// What an asker brings, each part open to falsification before it is sent.
pub struct Brought {
    pub signer: u64,
    pub request: DecryptRequest,
    pub proof: OwnedProof,
    pub parts: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    pub peer: Role,
    pub recipient: Recipient,
    /// Sent in place of the signed request.
    pub raw: Option<Vec<u8>>,
}

pub struct Fixture {
    pub world: World,
    pub key: KeyId,
    pub version: KeyVersion,
    pub statement: VersionStatement,
    pub commitments: CommitmentList,
    pub encapsulator: Encapsulator,
    pub shares: OneShare,
    pub view: TestView,
    pub judge: Judge,
    pub nonce: u8,
}

pub struct Made {
    pub statement: VersionStatement,
    pub commitments: CommitmentList,
    pub public: PublicKeys,
    pub pq: Vec<PqShare>,
    pub seed: Secret<64>,
    /// The scalar of every share: shares of the constant polynomial.
    pub scalar: SecretScalar,
}

/// Real keys for a version: the threshold leg as shares of a constant polynomial, the other dealt as a worker does.
pub fn make(world: &mut World, key: KeyId, version: u32, fencing: u64) -> Made {
    let mut statement = VersionStatement {
        key,
        version: KeyVersion::new(version).unwrap(),
        fencing,
        epoch: Epoch::FIRST,
        committee: world.committee_id(),
        pq: [0; 1_184],
        dh: [0; 32],
        commitments: MerkleRoot([0; 32]),
        dealer: world.people.principal(WORKER),
    };
    let sharing = statement.sharing(&DEPLOYMENT, threshold());
    let scalar = SecretScalar::random(&mut rng());
    let group = Element::from_point(scalar.times_base()).unwrap();
    let public = DhPublic::new(sharing, group, vec![group; usize::from(threshold().n())]).unwrap();
    let seed = Secret::random(&mut rng());
    let deal = threshold::pq::deal(&sharing, &seed, &mut rng());
    let commitments = CommitmentList::new(&public, &deal.commitments).unwrap();
    let pq = PqSeed::from_secret(Secret::from_slice(seed.expose()).unwrap()).public();
    statement.pq = *pq.as_bytes();
    statement.dh = *group.as_bytes();
    statement.commitments = MerkleRoot(commitments.root());
    Made {
        statement,
        commitments,
        public: PublicKeys { pq, dh: group },
        pq: deal.shares,
        seed,
        scalar,
    }
}

impl Made {
    /// The share of an index, as its custodian stores it.
    pub fn record(&self, index: u8, standby: bool) -> CustodianRecord {
        let at = ShareIndex::new(index).unwrap();
        let own = &self.pq[usize::from(index) - 1];
        let pq = PqShare::from_secret(at, &own.to_secret()).unwrap();
        let scalar = SecretScalar::from_secret(&self.scalar.to_secret()).unwrap();
        let dh = DhShare::new(*self.commitments.sharing(), at, scalar).unwrap();
        CustodianRecord::new(&self.commitments, standby, PlatformType::Software, pq, dh).unwrap()
    }

    pub fn activation(&self, world: &mut World) -> Action {
        Action::ActivateVersion(ActivateVersion {
            statement: self.statement.encode(),
            commitments: self.commitments.encode(),
            acknowledgements: acknowledgements(&mut world.people, &self.statement),
            activation: self
                .statement
                .activate(world.people.get(WORKER + 1), &DEPLOYMENT),
        })
    }
}

pub fn create_key(world: &mut World, context: ContextPolicy) -> KeyId {
    let committee = world.committee_id();
    let owner = world.people.get(OWNER);
    let content = KeyCreation {
        owner: owner.principal(),
        name: "payroll".parse().unwrap(),
        random: [9; 32],
        scheme: 1,
        threshold: threshold(),
        committee,
        context,
        created: START,
    };
    let key = content.key_id(&DEPLOYMENT);
    let creation = Signed::sign(owner, &DEPLOYMENT, content).encode();
    world
        .run(OWNER, Action::CreateKey(CreateKey { creation }))
        .unwrap();
    key
}

impl Fixture {
    pub fn new() -> Self {
        Self::with_policy(ContextPolicy::ANY)
    }

    pub fn with_policy(context: ContextPolicy) -> Self {
        let mut world = World::ready();
        let key = create_key(&mut world, context);
        let made = make(&mut world, key, 1, 1);
        let action = made.activation(&mut world);
        world.run(WORKER, action).unwrap();
        let view = TestView::new();
        view.take(&mut world);
        let record = made.record(INDEX, false);
        let name = ShareName::from(&made.statement);
        let me = world.people.principal(CUSTODIAN + u64::from(INDEX));
        let encapsulator = Encapsulator::new(KeyRef {
            deployment: DEPLOYMENT,
            key,
            version: made.statement.version,
            public: made.public.clone(),
        });
        Self {
            judge: Judge::new(LedgerName::from(&genesis(true)), me),
            shares: OneShare(Some((name, record.encode().to_vec()))),
            version: made.statement.version,
            statement: made.statement,
            commitments: made.commitments,
            world,
            key,
            encapsulator,
            view,
            nonce: 0,
        }
    }

    pub fn principal(&mut self, who: u64) -> Principal {
        self.world.people.principal(who)
    }

    pub fn custodian(&self) -> Identity {
        person(CUSTODIAN + u64::from(INDEX))
    }

    pub fn encrypt(&self, context: &EncryptionContext) -> (KemCiphertext, Secret<32>) {
        self.encapsulator
            .encapsulate(&mut rng(), &context.hash(&DEPLOYMENT))
    }

    /// What shows the ledger to custodians, for one asker.
    pub fn proof(&mut self, who: &[u64]) -> OwnedProof {
        let mut keys = vec![
            StateKey::KeyCreation(self.key),
            StateKey::KeyStatus(self.key),
            StateKey::KeyVersion(self.key, self.version),
        ];
        for who in who {
            keys.push(StateKey::KeyGrant(self.key, self.principal(*who)));
        }
        OwnedProof::of(&mut self.world, &keys)
    }

    /// A good request for `count` ciphertexts with that context.
    pub fn bring(&mut self, who: u64, count: usize, context: &EncryptionContext) -> Brought {
        let ciphertexts: Vec<KemCiphertext> = (0..count).map(|_| self.encrypt(context).0).collect();
        self.bring_these(who, &ciphertexts, context)
    }

    pub fn bring_these(
        &mut self,
        who: u64,
        ciphertexts: &[KemCiphertext],
        context: &EncryptionContext,
    ) -> Brought {
        self.nonce += 1;
        let recipient = Recipient::generate(&mut rng());
        let hash = context.hash(&DEPLOYMENT);
        let parts: Vec<_> = ciphertexts
            .iter()
            .map(|one| one.parts(&DEPLOYMENT, hash))
            .collect();
        let hashes = parts.iter().map(|one| one.kem_hash(&DEPLOYMENT)).collect();
        let now = self.world.newest.time;
        let request = DecryptRequest {
            chain: self.world.chain.genesis,
            principal: self.principal(who),
            operation: Operation::Decrypt,
            key: self.key,
            version: self.version,
            kem_hashes: KemHashes::new(hashes).unwrap(),
            recipient_dh: recipient.dh(),
            recipient_pq: recipient.pq(),
            min_height: self.world.newest.height,
            issued: now,
            expires: TimestampMs(now.0 + 60_000),
            nonce: [self.nonce; 16],
            job: None,
        };
        Brought {
            signer: who,
            request,
            proof: self.proof(&[who]),
            parts: parts
                .iter()
                .map(|one| {
                    (
                        one.dh.to_bytes().to_vec(),
                        one.pq.0.to_vec(),
                        context.encode(),
                    )
                })
                .collect(),
            peer: Role::Worker,
            recipient,
            raw: None,
        }
    }

    pub fn ask(&self, brought: &Brought) -> Verdict<Permit> {
        let signer = person(brought.signer);
        let bytes = brought.raw.clone().unwrap_or_else(|| {
            let body = ledger::Record::encode(&brought.request);
            if signer.principal() == brought.request.principal {
                return Signed::sign(&signer, &DEPLOYMENT, brought.request.clone()).encode();
            }
            forged(&signer, &brought.request, &body)
        });
        let ciphertexts: Vec<CiphertextBytes<'_>> = brought
            .parts
            .iter()
            .map(|(dh, pq_hash, context)| CiphertextBytes {
                dh,
                pq_hash,
                context,
            })
            .collect();
        let proof = brought.proof.borrow();
        let ask = Ask {
            peer: brought.peer,
            request: &bytes,
            ciphertexts: &ciphertexts,
            proof: &proof,
        };
        self.judge
            .decrypt(&self.view, &self.shares, &ask, &mut rng())
    }

    /// The reason of a refusal; nothing for a permit.
    pub fn reason(&self, brought: &Brought) -> Option<Reason> {
        self.ask(brought).outcome.err().map(|denial| denial.reason)
    }
}

/// A request in somebody's name with another one's signature: the good envelope with the signature exchanged.
fn forged(signer: &Identity, request: &DecryptRequest, body: &[u8]) -> Vec<u8> {
    let mut own = request.clone();
    own.principal = signer.principal();
    let signed = Signed::sign(signer, &DEPLOYMENT, own);
    let envelope = signed.encode();
    let at = envelope
        .windows(signed.body().len())
        .position(|window| window == signed.body())
        .unwrap();
    let mut out = envelope;
    out[at..at + body.len()].copy_from_slice(body);
    out
}

pub fn context(entries: &[(&str, &str)]) -> EncryptionContext {
    EncryptionContext::from_user(entries.iter().copied()).unwrap()
}

pub use world::grant_action;
