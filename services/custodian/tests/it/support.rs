//! A deployment of three custodians, two to open, and what stands around them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::{EvidenceSource as _, Role};
use attested::{Endpoint, Local, Session, Trust};
use bytes::Bytes;
use crypto::context::EncryptionContext;
use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys};
use crypto::{Identity, Secret};
use custodian::config::{Bounds, Config, Platform};
use custodian::{Running, describe, start};
use custody::{AuditRequest, DealRequest, DecryptRequest, KemHashes, Operation, Recipient};
use domain::{
    CommitteeId, DeploymentId, Epoch, Height, KeyId, KeyVersion, MerkleRoot, PlatformType,
    Principal, ShareIndex, Slot, Threshold, TimestampMs,
};
use enclave::{Hardened, SoftwarePlatform, harden, measure_self, software};
use enclave_client::{Address, session_limits};
use enclave_wire::v1::{self, answer::Outcome, question::Ask};
use ledger::header::ValidatorSet;
use ledger::port::{Freshness, Ledger as _};
use ledger::records::{
    Activation, Committee, ContextPolicy, Enrolment, KeyCreation, Measurement, Member,
    VersionStatement,
};
use ledger::transaction::{
    ActivateVersion, AdmitCommittee, Change, CreateKey, Decision, Govern, MeasurementOf,
};
use ledger::{
    Action, Chain, Expiry, Genesis, Governance, Limits, Outcome as Applied, Record as _,
    SignedTransaction, StateKey, Transaction,
};
use relay::{Options, RelayClient, View};
use sealed::signed::Signed;
use solo::{Solo, SoloConfig};
use threshold::{CommitmentList, DhPublic};
use tokio::net::{UnixListener, UnixStream};

pub const DEPLOYMENT: DeploymentId = DeploymentId([0xdd; 32]);
pub const N: u8 = 3;
pub const T: u8 = 2;

pub fn rng() -> impl rand_core::CryptoRng {
    getrandom::rand_core::UnwrapErr(getrandom::SysRng)
}

pub fn person(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

pub const OWNER: u8 = 1;
pub const FRIEND: u8 = 2;
const VALIDATOR: u8 = 10;
const GOVERNOR: u8 = 11;
/// Two workers' signing keys.
pub const WORKERS: [u8; 2] = [20, 21];

fn threshold() -> Threshold {
    Threshold::new(T, N).unwrap()
}

/// Everything but the custodians.
pub struct Deployment {
    pub dir: tempfile::TempDir,
    pub genesis: Genesis,
    pub ledger: Arc<Solo>,
    pub committee: Committee,
    pub hardened: Hardened,
    worker: Endpoint,
    client: Endpoint,
    nonces: BTreeMap<u8, u64>,
    decisions: u64,
}

pub type Line = Session<UnixStream>;

impl Deployment {
    /// A ledger, a relay, three custodians described and admitted, two workers enrolled.
    pub async fn new() -> Self {
        let hardened = harden().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let (config, data) = (dir.path().join("config"), dir.path().join("data"));
        std::fs::create_dir_all(&data).unwrap();
        let root = software::danger_create(&config, &data).unwrap();
        let genesis = Genesis {
            deployment: DEPLOYMENT,
            development: true,
            software_root: Some(root),
            governance: Governance::new(1, vec![person(GOVERNOR).principal()]).unwrap(),
            validators: ValidatorSet::new(vec![person(VALIDATOR).principal()]).unwrap(),
            limits: Limits::DEFAULT,
            time: now(),
            continues: None,
        };
        std::fs::write(dir.path().join("genesis.cbor"), genesis.encode()).unwrap();
        let solo = dir.path().join("solo");
        Solo::create(&solo, &genesis).unwrap();
        let (ledger, _) = Solo::open(SoloConfig {
            reserve_bytes: 0,
            empty_block_every: Duration::from_millis(300),
            ..SoloConfig::new(&solo, Arc::new(person(VALIDATOR)), Arc::new(now))
        })
        .unwrap();
        let ledger = Arc::new(ledger);
        let listener = UnixListener::bind(dir.path().join("relay.sock")).unwrap();
        let limits = relay::Limits::default();
        tokio::spawn(relay::serve(
            listener,
            ledger.clone(),
            limits,
            std::future::pending(),
        ));
        let platform = SoftwarePlatform::danger_open(
            &config,
            &data,
            DEPLOYMENT,
            measure_self().unwrap(),
            0,
            Some(&hardened),
        )
        .unwrap();
        let mut members = Vec::new();
        for number in 1..=N {
            let about = describe(&settings(dir.path(), number), Some(&hardened)).unwrap();
            let about: serde_json::Value = serde_json::from_str(&about).unwrap();
            assert_eq!(about["role"], "custodian");
            members.push(Member {
                slot: Slot {
                    index: ShareIndex::new(number).unwrap(),
                    standby: false,
                },
                key: about["principal"].as_str().unwrap().parse().unwrap(),
                platform: PlatformType::Software,
            });
        }
        let committee = Committee {
            threshold: threshold(),
            members,
            random: [7; 16],
        };
        let measured = Measurement::new(platform.measurement().0.to_vec()).unwrap();
        let client = RelayClient::new(dir.path().join("relay.sock"));
        let mut deployment = Self {
            worker: endpoint(&client, &genesis, Some(platform)).await,
            client: endpoint(&client, &genesis, None).await,
            dir,
            genesis,
            ledger,
            committee,
            hardened,
            nonces: BTreeMap::new(),
            decisions: 0,
        };
        for role in [
            ledger::records::Role::Custodian,
            ledger::records::Role::Worker,
        ] {
            let of = MeasurementOf {
                role,
                platform: PlatformType::Software,
                measurement: measured.clone(),
            };
            deployment.govern(Change::AllowMeasurement(of)).await;
        }
        let admit = AdmitCommittee {
            committee: deployment.committee.encode(),
        };
        deployment.govern(Change::AdmitCommittee(admit)).await;
        for worker in WORKERS {
            let enrol = Enrolment {
                role: ledger::records::Role::Worker,
                key: person(worker).principal(),
                platform: PlatformType::Software,
                measurement: measured.clone(),
                expires: None,
            };
            deployment.govern(Change::Enrol(enrol)).await;
        }
        // The views of both endpoints learn the policy at their next tick.
        let again = Self::fresh_endpoints(&deployment).await;
        (deployment.worker, deployment.client) = again;
        deployment
    }

    async fn fresh_endpoints(deployment: &Self) -> (Endpoint, Endpoint) {
        let platform = SoftwarePlatform::danger_open(
            &deployment.dir.path().join("config"),
            &deployment.dir.path().join("data"),
            DEPLOYMENT,
            measure_self().unwrap(),
            0,
            Some(&deployment.hardened),
        )
        .unwrap();
        let relay = RelayClient::new(deployment.dir.path().join("relay.sock"));
        (
            endpoint(&relay, &deployment.genesis, Some(platform)).await,
            endpoint(&relay, &deployment.genesis, None).await,
        )
    }

    pub fn committee_id(&self) -> CommitteeId {
        self.committee.id(&DEPLOYMENT)
    }

    pub fn custodian_key(&self, index: u8) -> Principal {
        self.committee.members[usize::from(index) - 1].key
    }

    pub async fn run(&mut self, who: u8, action: Action) {
        let nonce = self.nonces.entry(who).or_default();
        let transaction = Transaction {
            chain: self.genesis.hash(),
            sender: person(who).principal(),
            nonce: *nonce,
            expires: Expiry::Time(TimestampMs(u64::MAX)),
            action,
        };
        *nonce += 1;
        let bytes = SignedTransaction::sign(&person(who), &DEPLOYMENT, transaction).encode();
        let receipt = self.ledger.submit(bytes.into()).await.unwrap();
        assert_eq!(receipt.outcome, Applied::Applied);
    }

    async fn govern(&mut self, change: Change) {
        self.decisions += 1;
        let decision = Decision {
            chain: Chain::from(&self.genesis).genesis,
            sequence: self.decisions,
            expires: TimestampMs(u64::MAX),
            change,
        };
        let signatures = vec![decision.sign(&person(GOVERNOR), &DEPLOYMENT)];
        let action = Action::Govern(Govern {
            decision: decision.encode(),
            signatures,
        });
        self.run(GOVERNOR, action).await;
    }

    pub async fn start(&self, number: u8) -> Running {
        let config = settings(self.dir.path(), number);
        start(&config, Bounds::default(), Some(&self.hardened))
            .await
            .unwrap()
    }

    pub fn settings(&self, number: u8) -> Config {
        settings(self.dir.path(), number)
    }

    async fn connect(&self, endpoint: &Endpoint, number: u8) -> Line {
        let Address::Unix(path) = self.settings(number).listen else {
            unreachable!()
        };
        let stream = UnixStream::connect(path).await.unwrap();
        endpoint.connect(stream, Role::Custodian).await.unwrap()
    }

    pub async fn as_worker(&self, number: u8) -> Line {
        self.connect(&self.worker, number).await
    }

    pub async fn as_client(&self, number: u8) -> Line {
        self.connect(&self.client, number).await
    }

    pub async fn proof(&self, keys: &[StateKey]) -> (v1::LedgerProof, ledger::Header) {
        let names: Vec<Bytes> = keys.iter().map(|key| key.encode().into()).collect();
        let answer = self
            .ledger
            .read(names.clone(), Freshness::Local)
            .await
            .unwrap();
        let values = names.into_iter().zip(answer.values);
        let proof = v1::LedgerProof {
            header: answer.last.header.encode().into(),
            certificate: answer.last.certificate.encode().into(),
            values: values
                .map(|(key, proved)| v1::ProvedValue {
                    key,
                    value: proved.value,
                    proof: proved.proof.encode().into(),
                })
                .collect(),
        };
        (proof, answer.last.header)
    }

    /// A key with version 1 pending.
    pub async fn create_key(&mut self, name: &str) -> KeyId {
        let owner = person(OWNER);
        let content = KeyCreation {
            owner: owner.principal(),
            name: name.parse().unwrap(),
            random: *blake3::hash(name.as_bytes()).as_bytes(),
            scheme: 1,
            threshold: threshold(),
            committee: self.committee_id(),
            context: ContextPolicy::ANY,
            created: now(),
        };
        let key = content.key_id(&DEPLOYMENT);
        let creation = Signed::sign(&owner, &DEPLOYMENT, content).encode();
        self.run(OWNER, Action::CreateKey(CreateKey { creation }))
            .await;
        key
    }

    /// Asks in somebody's name for an attempt at the first version.
    pub async fn deal_request(&self, who: u8, key: KeyId, fencing: u64) -> Bytes {
        let (_, header) = self.proof(&[StateKey::KeyStatus(key)]).await;
        let request = DealRequest {
            chain: self.genesis.hash(),
            principal: person(who).principal(),
            key,
            version: KeyVersion::FIRST,
            fencing,
            issued: header.time,
            expires: TimestampMs(header.time.0 + 60_000),
            nonce: [1; 16],
        };
        let signed = Signed::sign(&person(who), &DEPLOYMENT, request);
        signed.encode().into()
    }

    pub async fn pending_proof(&self, key: KeyId) -> v1::LedgerProof {
        let keys = [
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, KeyVersion::FIRST),
            StateKey::Committee(self.committee_id()),
            StateKey::KeyGrant(key, person(FRIEND).principal()),
        ];
        self.proof(&keys).await.0
    }
}

fn settings(dir: &Path, number: u8) -> Config {
    let data: PathBuf = dir.join("data").join(number.to_string());
    std::fs::create_dir_all(&data).unwrap();
    Config {
        genesis: dir.join("genesis.cbor"),
        relay: dir.join("relay.sock"),
        listen: Address::Unix(data.join("custodian.sock")),
        platform: Platform::DangerSoftware(dir.join("config")),
        data,
    }
}

async fn endpoint(
    relay: &RelayClient,
    genesis: &Genesis,
    platform: Option<SoftwarePlatform>,
) -> Endpoint {
    let view = View::start(relay.clone(), Arc::new(genesis.clone()), Options::default()).await;
    let trust = Trust {
        deployment: DEPLOYMENT,
        verifiers: relay::verifiers(genesis),
        policy: view.policy(),
        now: view.clock(),
    };
    let local = match platform {
        Some(platform) => Local::Enclave {
            role: Role::Worker,
            source: Arc::new(platform),
        },
        None => Local::Client,
    };
    Endpoint::new(local, trust, session_limits()).unwrap()
}

pub fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    TimestampMs(u64::try_from(since.as_millis()).unwrap())
}

pub async fn ask(line: &mut Line, ask: Ask) -> Outcome {
    let question = v1::Question {
        id: 7,
        ask: Some(ask),
    };
    line.send(&enclave_wire_bytes(&question)).await.unwrap();
    let answer = line.receive().await.unwrap().expect("an answer");
    let answer = <v1::Answer as prost::Message>::decode(answer.as_slice()).unwrap();
    assert_eq!(answer.id, 7);
    answer.outcome.unwrap()
}

fn enclave_wire_bytes(question: &v1::Question) -> Vec<u8> {
    prost::Message::encode_to_vec(question)
}

/// The code of a refusal.
pub fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refusal(refusal) => refusal.code,
        other => panic!("not refused: {other:?}"),
    }
}

/// Carries the messages of a key generation until every custodian says that the key exists.
pub async fn generate(
    deployment: &Deployment,
    lines: &mut [Line],
    key: KeyId,
    fencing: u64,
) -> (u32, DhPublic) {
    let n = lines.len();
    let mut waiting: Vec<Vec<Bytes>> = vec![Vec::new(); n];
    let mut finished: Vec<Option<v1::DhKey>> = vec![None; n];
    for _ in 0..200 {
        for at in 0..n {
            let step = Ask::Ceremony(v1::Ceremony {
                key: Bytes::copy_from_slice(key.as_bytes()),
                version: 1,
                fencing,
                messages: std::mem::take(&mut waiting[at]),
                proof: Some(deployment.pending_proof(key).await),
                request: deployment.deal_request(OWNER, key, fencing).await,
            });
            let Outcome::Ceremony(step) = ask(&mut lines[at], step).await else {
                panic!("no step")
            };
            assert_eq!(step.failed, None);
            for message in step.messages {
                for (to, queue) in waiting.iter_mut().enumerate() {
                    let addressed = message.to == 0 || message.to == u32::try_from(to + 1).unwrap();
                    if addressed && to != at {
                        queue.push(message.message.clone());
                    }
                }
            }
            if step.finished.is_some() {
                finished[at] = step.finished;
            }
        }
        if finished.iter().all(Option::is_some) {
            break;
        }
    }
    let made: Vec<v1::DhKey> = finished.into_iter().map(Option::unwrap).collect();
    assert!(
        made.windows(2).all(|two| two[0] == two[1]),
        "one key for all"
    );
    let element = |bytes: &Bytes| crypto::ristretto::Element::from_bytes(bytes).unwrap();
    let sharing = threshold::Sharing {
        deployment: DEPLOYMENT,
        key,
        version: KeyVersion::FIRST,
        epoch: Epoch::FIRST,
        committee: deployment.committee_id(),
        threshold: threshold(),
    };
    let shares = made[0].shares.iter().map(element).collect();
    let public = DhPublic::new(sharing, element(&made[0].group), shares).unwrap();
    (made[0].attempt, public)
}

/// Deals the post-quantum leg: the statement, the commitments, a share for each custodian, the attempt.
pub struct Dealing {
    pub statement: VersionStatement,
    pub commitments: CommitmentList,
    pub public: PublicKeys,
    pub shares: Vec<Secret<96>>,
    pub attempt: u32,
}

pub fn deal(dh: &DhPublic, attempt: u32, fencing: u64) -> Dealing {
    let sharing = *dh.sharing();
    let seed = Secret::random(&mut rng());
    let deal = threshold::pq::deal(&sharing, &seed, &mut rng());
    let commitments = CommitmentList::new(dh, &deal.commitments).unwrap();
    let pq = PqSeed::from_secret(seed).public();
    let statement = VersionStatement {
        key: sharing.key,
        version: sharing.version,
        fencing,
        epoch: sharing.epoch,
        committee: sharing.committee,
        pq: *pq.as_bytes(),
        dh: *dh.group().as_bytes(),
        commitments: MerkleRoot(commitments.root()),
        dealer: person(WORKERS[0]).principal(),
    };
    Dealing {
        statement,
        commitments,
        public: PublicKeys {
            pq,
            dh: *dh.group(),
        },
        shares: deal
            .shares
            .iter()
            .map(threshold::PqShare::to_secret)
            .collect(),
        attempt,
    }
}

impl Dealing {
    pub fn hold(&self, at: usize) -> Ask {
        Ask::HoldShare(v1::HoldShare {
            statement: self.statement.encode().into(),
            commitments: self.commitments.encode().into(),
            attempt: self.attempt,
            pq_share: Bytes::copy_from_slice(self.shares[at].expose()),
        })
    }

    pub fn acknowledged(&self, outcome: Outcome) -> ledger::records::Acknowledgement {
        let Outcome::Held(held) = outcome else {
            panic!("not held: {outcome:?}")
        };
        let held = held.acknowledgement.unwrap();
        ledger::records::Acknowledgement {
            slot: Slot {
                index: ShareIndex::new(u8::try_from(held.index).unwrap()).unwrap(),
                standby: held.standby,
            },
            signature: held.signature.as_ref().try_into().unwrap(),
        }
    }

    pub fn activation(&self, acknowledgements: Vec<ledger::records::Acknowledgement>) -> Action {
        let activation: Activation = self.statement.activate(&person(WORKERS[1]), &DEPLOYMENT);
        Action::ActivateVersion(ActivateVersion {
            statement: self.statement.encode(),
            commitments: self.commitments.encode(),
            acknowledgements,
            activation,
        })
    }

    pub fn encapsulator(&self) -> Encapsulator {
        Encapsulator::new(KeyRef {
            deployment: DEPLOYMENT,
            key: self.statement.key,
            version: self.statement.version,
            public: self.public.clone(),
        })
    }
}

/// A key from creation to activation.
pub async fn make_key(deployment: &mut Deployment, lines: &mut [Line], name: &str) -> Dealing {
    let key = deployment.create_key(name).await;
    let (attempt, dh) = generate(deployment, lines, key, 1).await;
    let dealing = deal(&dh, attempt, 1);
    let mut acknowledgements = Vec::new();
    for (at, line) in lines.iter_mut().enumerate() {
        let outcome = ask(line, dealing.hold(at)).await;
        acknowledgements.push(dealing.acknowledged(outcome));
    }
    let activate = dealing.activation(acknowledgements);
    deployment.run(WORKERS[0], activate).await;
    dealing
}

/// A request of somebody for some ciphertexts, ready to be sent to any custodian.
pub struct Request {
    pub request: DecryptRequest,
    pub recipient: Recipient,
    pub decrypt: v1::Decrypt,
    pub keys: Vec<crypto::Secret<32>>,
    pub ciphertexts: Vec<crypto::kem::KemCiphertext>,
}

pub async fn request(
    deployment: &Deployment,
    dealing: &Dealing,
    who: u8,
    count: usize,
    ahead_ms: u64,
) -> Request {
    let key = dealing.statement.key;
    let names = [
        StateKey::KeyCreation(key),
        StateKey::KeyStatus(key),
        StateKey::KeyVersion(key, KeyVersion::FIRST),
        StateKey::KeyGrant(key, person(who).principal()),
    ];
    let (proof, header) = deployment.proof(&names).await;
    let context = EncryptionContext::from_user([("case", "7")]).unwrap();
    let hash = context.hash(&DEPLOYMENT);
    let encapsulator = dealing.encapsulator();
    let (ciphertexts, keys): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| encapsulator.encapsulate(&mut rng(), &hash))
        .unzip();
    let parts: Vec<_> = ciphertexts
        .iter()
        .map(|one| one.parts(&DEPLOYMENT, hash))
        .collect();
    let recipient = Recipient::generate(&mut rng());
    let mut nonce = [0; 16];
    rand_core::Rng::fill_bytes(&mut rng(), &mut nonce);
    let issued = TimestampMs(header.time.0 + ahead_ms);
    let content = DecryptRequest {
        chain: deployment.genesis.hash(),
        principal: person(who).principal(),
        operation: Operation::Decrypt,
        key,
        version: KeyVersion::FIRST,
        kem_hashes: KemHashes::new(parts.iter().map(|one| one.kem_hash(&DEPLOYMENT)).collect())
            .unwrap(),
        recipient_dh: recipient.dh(),
        recipient_pq: recipient.pq(),
        min_height: Height(0),
        issued,
        expires: TimestampMs(issued.0 + 60_000),
        nonce,
        job: None,
    };
    let decrypt = v1::Decrypt {
        request: Signed::sign(&person(who), &DEPLOYMENT, content.clone())
            .encode()
            .into(),
        ciphertexts: parts
            .iter()
            .map(|one| v1::Ciphertext {
                dh: one.dh.to_bytes().to_vec().into(),
                pq_hash: one.pq.0.to_vec().into(),
                pq: Bytes::new(),
                context: context.encode().into(),
            })
            .collect(),
        proof: Some(proof),
        avoid: Vec::new(),
    };
    Request {
        request: content,
        recipient,
        decrypt,
        keys,
        ciphertexts,
    }
}

pub async fn audit_page(
    deployment: &Deployment,
    line: &mut Line,
    who: u8,
    names: &[StateKey],
    after: u64,
) -> (AuditRequest, Outcome) {
    let (proof, header) = deployment.proof(names).await;
    let mut nonce = [0; 16];
    rand_core::Rng::fill_bytes(&mut rng(), &mut nonce);
    let content = AuditRequest {
        chain: deployment.genesis.hash(),
        principal: person(who).principal(),
        key: None,
        after,
        limit: 256,
        issued: header.time,
        expires: TimestampMs(header.time.0 + 60_000),
        nonce,
    };
    let question = Ask::Audit(v1::Audit {
        request: Signed::sign(&person(who), &DEPLOYMENT, content.clone())
            .encode()
            .into(),
        proof: Some(proof),
    });
    let outcome = ask(line, question).await;
    (content, outcome)
}
