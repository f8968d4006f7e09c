//! A deployment on sockets: a ledger in memory, five custodians, two workers, a client.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attestation::{
    Evidence, EvidenceSource, Measurement, Policy, ReportData, Role, SecurityVersions,
    SoftwareStatement, SoftwareVerifier, SourceError, Verifiers,
};
use attested::{Admit, Endpoint, Local, Trust};
use bytes::Bytes;
use crypto::context::EncryptionContext;
use crypto::identity::Signature;
use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PublicKeys, SharedSecrets};
use crypto::ristretto::Element;
use crypto::{Identity, Secret};
use custody::{
    DealRequest, DecryptRequest, KemHashes, LedgerName, LedgerView, Operation, Recipient,
    SealedPartials, SealedSecrets,
};
use domain::{
    CommitteeId, Height, KeyId, KeyVersion, PlatformType, Principal, ShareIndex, TimestampMs,
};
use enclave_client::{Address, CallError, Pool, ServeBounds, Settings as PoolSettings, serve};
use enclave_wire::v1;
use getrandom::SysRng;
use ledger::records::{
    Acknowledgement, Activation, Committee, ContextPolicy, KeyCreation, Member, VersionEntry,
    VersionStatement,
};
use ledger::transaction::{
    AbandonVersion, ActivateVersion, AdmitCommittee, BeginVersion, Change, CreateKey,
};
use ledger::{Action, Certificate, Header, HeaderError, LightClient, Record as _, StateKey};
use rand_core::UnwrapErr;
use sealed::signed::Signed;
use threshold::partial::{Request, combine};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use worker::{About, Parts, Settings, Worker};

use crate::custodian::Custodian;
use crate::ledger_world::{
    self as lw, CUSTODIAN, DEPLOYMENT, STANDBY, START, WORKER, World, person,
};

pub const OWNER: u64 = 1;
/// Somebody else.
pub const FRIEND: u64 = 2;
pub const LONG: Duration = Duration::from_secs(30);
const CODE_CUSTODIAN: Measurement = Measurement([2; 32]);
const CODE_WORKER: Measurement = Measurement([3; 32]);

pub fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn root() -> Identity {
    Identity::from_seed(Secret::take(&mut [7; 32]))
}

struct Source(Measurement);

impl EvidenceSource for Source {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn measurement(&self) -> Measurement {
        self.0
    }

    fn evidence(
        &self,
        role: Role,
        data: &ReportData,
        now: TimestampMs,
    ) -> Result<Evidence, SourceError> {
        let statement = SoftwareStatement {
            root: root().principal(),
            measurement: self.0,
            role,
            report_data: *data,
            debug: false,
            security_version: 1,
            not_before: now,
            not_after: TimestampMs(now.0 + 3_600_000),
        };
        Ok(statement.danger_sign(&root(), &DEPLOYMENT))
    }
}

/// The view of the ledger that all processes of a test share.
pub struct TestView {
    light: Mutex<LightClient>,
    pub fresh: Mutex<bool>,
}

impl LedgerView for TestView {
    fn newest(&self) -> Option<Header> {
        self.light.lock().unwrap().newest().cloned()
    }

    fn time(&self) -> TimestampMs {
        self.newest().map_or(START, |header| header.time)
    }

    fn started(&self) -> Option<TimestampMs> {
        Some(START)
    }

    fn floor(&self) -> Height {
        self.light.lock().unwrap().fresh_height()
    }

    fn is_fresh(&self) -> bool {
        *self.fresh.lock().unwrap()
    }

    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        self.light.lock().unwrap().admit(header, certificate, None)
    }

    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError> {
        self.admit(header, certificate)?;
        Ok(header.height)
    }
}

/// Everything.
pub struct Rig {
    pub world: World,
    pub view: Arc<TestView>,
    pub custodians: Vec<Arc<Custodian>>,
    pub workers: Vec<Arc<Worker>>,
    /// A client's pool of workers.
    pub pool: Pool,
    /// The workers' own pools.
    pools: Vec<Pool>,
    committee: Committee,
    policy: watch::Sender<Arc<Policy>>,
    serving: Vec<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

/// How a rig differs from the usual one.
#[derive(Clone)]
pub struct Options {
    pub standbys: bool,
    pub settings: Settings,
    /// A custodian with other code than the policy allows.
    pub other_code: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            standbys: false,
            settings: Settings {
                release: Duration::from_secs(20),
                decrypt: Duration::from_secs(25),
                step: Duration::from_secs(20),
                deal: Duration::from_secs(60),
                ..Settings::default()
            },
            other_code: None,
        }
    }
}

impl Rig {
    pub async fn start() -> Self {
        Self::with(Options::default()).await
    }

    pub async fn with(options: Options) -> Self {
        let mut world = World::ready();
        let slots: Vec<(bool, u64)> = if options.standbys {
            vec![(false, CUSTODIAN), (true, STANDBY)]
        } else {
            vec![(false, CUSTODIAN)]
        };
        let mut members = Vec::new();
        for index in 1..=lw::PRIMARIES {
            for (standby, base) in &slots {
                members.push(Member {
                    slot: lw::slot(index, *standby),
                    key: person(base + u64::from(index)).principal(),
                    platform: PlatformType::Software,
                });
            }
        }
        let committee = Committee {
            threshold: lw::threshold(),
            members,
            random: [9; 16],
        };
        let change = AdmitCommittee {
            committee: committee.encode(),
        };
        world.govern(Change::AdmitCommittee(change)).unwrap();
        let view = Arc::new(TestView {
            light: Mutex::new(LightClient::new(world.state.genesis_record())),
            fresh: Mutex::new(true),
        });
        let policy = Policy {
            version: 1,
            ..Policy::default()
        }
        .allow(Role::Custodian, CODE_CUSTODIAN)
        .allow(Role::Worker, CODE_WORKER)
        .accept(PlatformType::Software, SecurityVersions::default());
        let mut rig = Self {
            world,
            view,
            custodians: Vec::new(),
            workers: Vec::new(),
            pool: Pool::start(
                &endpoint(Local::Client, &watch::Sender::new(Arc::default())),
                Role::Worker,
                [],
                PoolSettings::default(),
            ),
            pools: Vec::new(),
            committee,
            policy: watch::Sender::new(Arc::new(policy)),
            serving: Vec::new(),
            dir: tempfile::tempdir().unwrap(),
        };
        rig.start_custodians(&options);
        rig.start_workers(&options);
        rig.admit_newest();
        let workers: Vec<_> = (0..2).map(|n| rig.worker_address(n)).collect();
        let client = endpoint(Local::Client, &rig.policy);
        rig.pool = Pool::start(&client, Role::Worker, workers, pool_settings());
        // Everything is up before a test begins, but for what it took away.
        let missing = usize::from(options.other_code.is_some());
        let pools = rig.pools.iter().chain([&rig.pool]);
        for pool in pools.filter(|pool| pool.peers().len() < 3 || missing == 0) {
            for peer in pool.peers() {
                assert!(peer.connected(LONG).await);
            }
        }
        rig
    }

    fn start_custodians(&mut self, options: &Options) {
        let name = LedgerName::from(self.world.state.genesis_record());
        for (at, member) in self.committee.members.clone().into_iter().enumerate() {
            let base = if member.slot.standby {
                STANDBY
            } else {
                CUSTODIAN
            };
            let me = person(base + u64::from(member.slot.index.get()));
            let custodian = Arc::new(Custodian::new(me, member.slot, name, self.view.clone()));
            self.custodians.push(custodian.clone());
            let code = if options.other_code == Some(at) {
                Measurement([66; 32])
            } else {
                CODE_CUSTODIAN
            };
            self.serve_custodian(at, custodian, code);
        }
    }

    fn serve_custodian(&mut self, at: usize, custodian: Arc<Custodian>, code: Measurement) {
        let local = Local::Enclave {
            role: Role::Custodian,
            source: Arc::new(Source(code)),
        };
        let path = self.socket("custodian", at);
        let admit = Admit::roles(&[Role::Worker, Role::Client]);
        let work = serve(
            UnixListener::bind(path).unwrap(),
            endpoint(local, &self.policy),
            admit,
            custodian,
            ServeBounds::default(),
            std::future::pending(),
        );
        self.serving.push(tokio::spawn(work));
    }

    fn start_workers(&mut self, options: &Options) {
        let custodians: Vec<(Principal, Address)> = self
            .committee
            .members
            .iter()
            .enumerate()
            .map(|(at, member)| (member.key, Address::Unix(self.socket("custodian", at))))
            .collect();
        for number in 0..2 {
            let local = Local::Enclave {
                role: Role::Worker,
                source: Arc::new(Source(CODE_WORKER)),
            };
            let endpoint = endpoint(local, &self.policy);
            let others = [self.worker_address(1 - number)];
            let custodians = Pool::start(
                &endpoint,
                Role::Custodian,
                custodians.clone(),
                pool_settings(),
            );
            let workers = Pool::start(&endpoint, Role::Worker, others, pool_settings());
            self.pools.extend([custodians.clone(), workers.clone()]);
            let worker = Worker::new(Parts {
                identity: person(WORKER + u64::try_from(number).unwrap()),
                ledger: LedgerName::from(self.world.state.genesis_record()),
                view: self.view.clone(),
                custodians,
                workers,
                about: About {
                    platform: PlatformType::Software,
                    measurement: CODE_WORKER,
                    version: "test".to_owned(),
                },
                settings: options.settings,
            });
            let worker = Arc::new(worker.unwrap());
            self.workers.push(worker.clone());
            let listener = UnixListener::bind(self.socket("worker", number)).unwrap();
            let admit = Admit::roles(&[Role::Worker, Role::Client]);
            let work = serve(
                listener,
                endpoint,
                admit,
                worker,
                ServeBounds::default(),
                std::future::pending(),
            );
            self.serving.push(tokio::spawn(work));
        }
    }

    fn socket(&self, kind: &str, number: usize) -> PathBuf {
        self.dir.path().join(format!("{kind}-{number}.sock"))
    }

    fn worker_address(&self, number: usize) -> (Principal, Address) {
        let principal = person(WORKER + u64::try_from(number).unwrap()).principal();
        (principal, Address::Unix(self.socket("worker", number)))
    }

    /// Takes a custodian off the network.
    pub async fn stop_custodian(&self, at: usize) {
        self.serving[at].abort();
        while !self.serving[at].is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Every process learns the newest header.
    pub fn admit_newest(&mut self) {
        let certificate = self.world.certificate();
        self.view.admit(&self.world.newest, &certificate).unwrap();
    }

    pub fn prove(&mut self, keys: &[StateKey]) -> v1::LedgerProof {
        let values = keys.iter().map(|key| {
            let key = key.encode();
            let (value, proof) = self.world.state.prove(&key);
            v1::ProvedValue {
                key: key.into(),
                value: value.map(|bytes| bytes.to_vec().into()),
                proof: proof.encode().into(),
            }
        });
        let values = values.collect();
        v1::LedgerProof {
            header: self.world.newest.encode().into(),
            certificate: self.world.certificate().encode().into(),
            values,
        }
    }

    pub fn committee_id(&self) -> CommitteeId {
        self.committee.id(&DEPLOYMENT)
    }

    /// Creates a key and begins its first version; returns the question to a worker.
    pub fn begin(&mut self, name: &str) -> (KeyId, v1::DealVersion) {
        let committee = self.committee_id();
        let owner = self.world.people.get(OWNER);
        let creation = KeyCreation {
            owner: owner.principal(),
            name: name.parse().unwrap(),
            random: *blake3::hash(name.as_bytes()).as_bytes(),
            scheme: 1,
            threshold: lw::threshold(),
            committee,
            context: ContextPolicy::ANY,
            created: START,
        };
        let key = creation.key_id(&DEPLOYMENT);
        let creation = Signed::sign(owner, &DEPLOYMENT, creation).encode();
        self.world
            .run(OWNER, Action::CreateKey(CreateKey { creation }))
            .unwrap();
        self.admit_newest();
        (key, self.question(key, 1, 1))
    }

    /// Begins another version, or another attempt.
    pub fn begin_version(&mut self, key: KeyId, version: u32, fencing: u64) -> v1::DealVersion {
        let committee = self.committee_id();
        let begin = BeginVersion {
            key,
            version: KeyVersion::new(version).unwrap(),
            fencing,
            committee,
        };
        self.world.run(OWNER, Action::BeginVersion(begin)).unwrap();
        self.admit_newest();
        self.question(key, version, fencing + 1)
    }

    pub fn question(&mut self, key: KeyId, version: u32, fencing: u64) -> v1::DealVersion {
        let number = KeyVersion::new(version).unwrap();
        let keys = [
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, number),
            StateKey::Committee(self.committee_id()),
            StateKey::KeyGrant(key, self.world.people.principal(FRIEND)),
        ];
        v1::DealVersion {
            key: key.0.to_vec().into(),
            version,
            fencing,
            proof: Some(self.prove(&keys)),
            request: self.deal_request(OWNER, key, version, fencing),
        }
    }

    /// Asks in somebody's name for an attempt at a version.
    pub fn deal_request(&mut self, who: u64, key: KeyId, version: u32, fencing: u64) -> Bytes {
        let now = self.world.newest.time;
        let request = DealRequest {
            chain: self.world.chain.genesis,
            principal: self.world.people.principal(who),
            key,
            version: KeyVersion::new(version).unwrap(),
            fencing,
            issued: now,
            expires: TimestampMs(now.0 + 60_000),
            nonce: [1; 16],
        };
        let signed = Signed::sign(self.world.people.get(who), &DEPLOYMENT, request);
        signed.encode().into()
    }

    /// Gives an attempt up.
    pub fn abandon(&mut self, key: KeyId, fencing: u64) {
        let abandon = AbandonVersion { key, fencing };
        self.world
            .run(OWNER, Action::AbandonVersion(abandon))
            .unwrap();
    }

    /// The workers, as a worker asks them.
    pub fn workers_as_worker(&self) -> Pool {
        let local = Local::Enclave {
            role: Role::Worker,
            source: Arc::new(Source(CODE_WORKER)),
        };
        let workers = (0..2).map(|n| self.worker_address(n));
        Pool::start(
            &endpoint(local, &self.policy),
            Role::Worker,
            workers,
            pool_settings(),
        )
    }

    /// Puts a dealt version on the ledger, which checks all of it.
    pub fn activate(&mut self, dealt: &v1::DealtVersion) -> Result<(), String> {
        let signature = |bytes: &Bytes| Signature(bytes[..].try_into().unwrap());
        let action = Action::ActivateVersion(ActivateVersion {
            statement: dealt.statement.to_vec(),
            commitments: dealt.commitments.to_vec(),
            acknowledgements: dealt
                .acknowledgements
                .iter()
                .map(|said| Acknowledgement {
                    slot: lw::slot(u8::try_from(said.index).unwrap(), said.standby),
                    signature: signature(&said.signature),
                })
                .collect(),
            activation: Activation {
                worker: Principal(dealt.activation_worker[..].try_into().unwrap()),
                signature: signature(&dealt.activation_signature),
            },
        });
        let result = self.world.run(OWNER, action);
        self.admit_newest();
        result
    }

    /// A key with an active version.
    pub async fn key(&mut self, name: &str) -> KeyId {
        let (key, question) = self.begin(name);
        let dealt = self.pool.peers()[0]
            .deal_version(question, LONG)
            .await
            .unwrap();
        self.activate(&dealt).unwrap();
        key
    }

    fn key_ref(&self, key: KeyId) -> (KeyRef, VersionStatement, VersionEntry) {
        let at = StateKey::KeyVersion(key, KeyVersion::FIRST);
        let entry: VersionEntry = self.world.record(&at).unwrap();
        let statement = VersionStatement::decode(&entry.statement).unwrap();
        let key_ref = KeyRef {
            deployment: DEPLOYMENT,
            key,
            version: statement.version,
            public: PublicKeys::from_bytes(&statement.pq, &statement.dh).unwrap(),
        };
        (key_ref, statement, entry)
    }

    /// A request for `count` fresh ciphertexts, and what they must open to.
    pub fn ask(&mut self, key: KeyId, count: usize) -> Opening {
        let (key_ref, statement, entry) = self.key_ref(key);
        let encapsulator = Encapsulator::new(key_ref.clone());
        let context = EncryptionContext::from_user([("purpose", "test")]).unwrap();
        let hash = context.hash(&DEPLOYMENT);
        let made: Vec<(KemCiphertext, Secret<32>)> = (0..count)
            .map(|_| encapsulator.encapsulate(&mut rng(), &hash))
            .collect();
        let recipient = Recipient::generate(&mut rng());
        let now = self.view.time();
        let owner = self.world.people.get(OWNER);
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let hashes = made.iter().map(|(one, _)| one.kem_hash(&DEPLOYMENT, hash));
        let request = DecryptRequest {
            chain: self.world.chain.genesis,
            principal: owner.principal(),
            operation: Operation::Decrypt,
            key,
            version: KeyVersion::FIRST,
            kem_hashes: KemHashes::new(hashes.collect()).unwrap(),
            recipient_dh: recipient.dh(),
            recipient_pq: recipient.pq(),
            min_height: Height(0),
            issued: now,
            expires: TimestampMs(now.0 + 30_000),
            nonce,
            job: None,
        };
        let signed = Signed::sign(owner, &DEPLOYMENT, request.clone());
        let keys = [
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, KeyVersion::FIRST),
            StateKey::Committee(self.committee_id()),
        ];
        let ciphertext = |one: &KemCiphertext| v1::Ciphertext {
            dh: one.dh.to_bytes().to_vec().into(),
            pq_hash: one.parts(&DEPLOYMENT, hash).pq.0.to_vec().into(),
            pq: one.pq.as_bytes().to_vec().into(),
            context: context.encode().into(),
        };
        let ask = v1::Decrypt {
            request: signed.encode().into(),
            ciphertexts: made.iter().map(|(one, _)| ciphertext(one)).collect(),
            proof: Some(self.prove(&keys)),
            avoid: Vec::new(),
        };
        Opening {
            ask,
            request,
            recipient,
            made,
            key_ref,
            statement,
            entry,
            committee: self.committee.clone(),
        }
    }

    /// Asks a worker and opens its answer as a client does.
    pub async fn decrypt(&mut self, key: KeyId, count: usize) -> Result<v1::Opened, CallError> {
        let opening = self.ask(key, count);
        let opened = self.pool.peers()[0]
            .decrypt(opening.ask.clone(), LONG)
            .await?;
        opening.check(&opened);
        Ok(opened)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for task in &self.serving {
            task.abort();
        }
    }
}

/// What a client keeps of its request.
pub struct Opening {
    pub ask: v1::Decrypt,
    pub request: DecryptRequest,
    recipient: Recipient,
    made: Vec<(KemCiphertext, Secret<32>)>,
    key_ref: KeyRef,
    statement: VersionStatement,
    entry: VersionEntry,
    committee: Committee,
}

impl Opening {
    /// Signs the request again after it was changed.
    pub fn sign(&mut self, who: &Identity) {
        self.ask.request = Signed::sign(who, &DEPLOYMENT, self.request.clone())
            .encode()
            .into();
    }

    /// All that a client checks: signatures, proofs, and that the keys come out which were put in.
    pub fn check(&self, opened: &v1::Opened) {
        assert!(self.try_check(opened).unwrap() >= usize::from(lw::threshold().t()));
    }

    /// How many custodians' partials were used; the index of one whose partials cannot be opened.
    pub fn try_check(&self, opened: &v1::Opened) -> Result<usize, ShareIndex> {
        let hash = self.request.hash(&DEPLOYMENT);
        let list = self
            .statement
            .commitment_list(&DEPLOYMENT, lw::threshold(), &self.entry.commitments)
            .unwrap();
        let public = list.dh_public(self.key_ref.public.dh).unwrap();
        let count = self.made.len();
        let mut by_ciphertext: Vec<Vec<threshold::Partial>> =
            (0..count).map(|_| Vec::new()).collect();
        for sealed in &opened.partials {
            let signed = sealed.signature.as_ref().unwrap();
            let index = ShareIndex::new(u8::try_from(signed.index).unwrap()).unwrap();
            let member = self.committee.member(lw::slot(index.get(), false)).unwrap();
            assert_eq!(signed.principal[..], member.key.0);
            let answer = SealedPartials {
                sealed: sealed.sealed.to_vec(),
                signature: Signature(signed.signature[..].try_into().unwrap()),
            };
            let partials = self
                .recipient
                .open_partials(&member.key, list.sharing(), index, &hash, count, &answer)
                .map_err(|_| index)?;
            for (one, all) in partials.into_iter().zip(&mut by_ciphertext) {
                all.push(one);
            }
        }
        let worker = Principal(opened.worker[..].try_into().unwrap());
        let secrets = SealedSecrets {
            sealed: opened.sealed_secrets.to_vec(),
            signature: Signature(opened.signature[..].try_into().unwrap()),
        };
        let secrets = self
            .recipient
            .open_secrets(&worker, &DEPLOYMENT, &hash, count, &secrets)
            .unwrap();
        let context = EncryptionContext::from_user([("purpose", "test")]).unwrap();
        let context = context.hash(&DEPLOYMENT);
        for (((ciphertext, expected), partials), pq) in
            self.made.iter().zip(by_ciphertext).zip(secrets)
        {
            let u = Element::from_bytes(&ciphertext.dh.u).unwrap();
            let verified = partials
                .into_iter()
                .map(|partial| {
                    let request = Request {
                        public: &public,
                        u: &u,
                        request_hash: &hash.0,
                    };
                    threshold::partial::verify(&request, partial).map_err(|bad| bad.0)
                })
                .collect::<Result<Vec<_>, _>>()?;
            let dh = combine(&verified).unwrap();
            let shared = SharedSecrets { pq, dh };
            let derived = self.key_ref.derive_key(ciphertext, &context, &shared);
            assert!(
                derived.ct_eq(expected),
                "another key comes out than was put in"
            );
        }
        Ok(opened.partials.len())
    }
}

fn pool_settings() -> PoolSettings {
    PoolSettings {
        backoff: (Duration::from_millis(10), Duration::from_millis(50)),
        ..PoolSettings::default()
    }
}

fn endpoint(local: Local, policy: &watch::Sender<Arc<Policy>>) -> Arc<Endpoint> {
    let software = SoftwareVerifier::danger_new(DEPLOYMENT, root().principal(), true);
    let trust = Trust {
        deployment: DEPLOYMENT,
        verifiers: Verifiers::new().with(software.unwrap()),
        policy: policy.subscribe(),
        now: Arc::new(|| START),
    };
    Arc::new(Endpoint::new(local, trust, enclave_client::session_limits()).unwrap())
}
