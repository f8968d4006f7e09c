//! A whole deployment for named keys in one process, for tests and measurements: a ledger with one validator, its relay, five
//! custodians, two workers and a client, every part the real one, over the sockets that they use in production.
//!
//! What it leaves out: the gateway, and processes of their own (`testing/e2e` has those).

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use attestation::Role;
use attested::{Endpoint, Local, Trust};
use bytes::Bytes;
use clap::Parser as _;
use crypto::identity::Signature;
use crypto::{Identity, Secret};
use custodian::Running;
use custodian::config::{Bounds, Config, Platform};
use custody::DealRequest;
use domain::{
    CommitteeId, DeploymentId, KeyId, KeyVersion, PlatformType, Principal, ShareIndex, Slot,
    Threshold, TimestampMs,
};
use enclave::{Hardened, harden, software};
use enclave_client::{Address, Pool, Settings, session_limits};
use enclave_wire::v1;
use ledger::header::ValidatorSet;
use ledger::port::{Freshness, Ledger as _};
use ledger::records::{
    Acknowledgement, Activation, Committee, ContextPolicy, Enrolment, KeyCreation, Measurement,
    Member,
};
use ledger::transaction::{
    ActivateVersion, AdmitCommittee, Change, CreateKey, Decision, Govern, MeasurementOf,
};
use ledger::{
    Action, Expiry, Genesis, Governance, Header, Limits, Outcome, Record as _, SignedTransaction,
    StateKey, Transaction,
};
use rand_core::CryptoRng;
use relay::{Options, RelayClient, View};
use sealed::signed::Signed;
use solo::{Solo, SoloConfig};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use worker::program::Args;

mod opening;

pub use opening::{Opening, WrongPartials};

/// The deployment.
pub const DEPLOYMENT: DeploymentId = DeploymentId([0xdd; 32]);
/// Custodians that a key needs, and that there are.
pub const T: u8 = 3;
/// Custodians.
pub const N: u8 = 5;
/// Who owns the keys.
pub const OWNER: u8 = 1;
/// Longer than anything takes on a busy machine.
pub const LONG: Duration = Duration::from_secs(60);

const VALIDATOR: u8 = 10;
const GOVERNOR: u8 = 11;

/// The system's randomness.
#[must_use]
pub fn rng() -> impl CryptoRng {
    rand_core::UnwrapErr(getrandom::SysRng)
}

/// A principal by number.
#[must_use]
pub fn person(byte: u8) -> Identity {
    Identity::from_seed(Secret::take(&mut [byte; 32]))
}

/// The machine's time.
#[must_use]
pub fn now() -> TimestampMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    TimestampMs(u64::try_from(since.as_millis()).unwrap())
}

/// Everything that runs.
pub struct Deployment {
    /// The ledger.
    pub ledger: Arc<Solo>,
    /// What it began with.
    pub genesis: Genesis,
    /// The custodians' committee.
    pub committee: Committee,
    /// The custodians, from index 1; `None`: stopped.
    pub custodians: Vec<Option<Running>>,
    /// A client's sessions with the workers.
    pub workers: Pool,
    /// A client's sessions with the custodians.
    pub asked: Pool,
    hardened: Hardened,
    nonces: BTreeMap<u8, u64>,
    decisions: u64,
    tasks: Vec<JoinHandle<()>>,
    dir: tempfile::TempDir,
}

impl Deployment {
    /// Starts all of it and waits until everybody is connected. Needs a runtime of several threads.
    pub async fn start() -> Self {
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
        let (ledger, serving) = start_ledger(dir.path(), &genesis);
        let hardened = harden().unwrap();
        let client = client_endpoint(dir.path(), &genesis).await;
        let no_one = || Pool::start(&client, Role::Worker, [], Settings::default());
        let mut deployment = Self {
            ledger,
            genesis,
            committee: Committee {
                threshold: Threshold::new(T, N).unwrap(),
                members: Vec::new(),
                random: [7; 16],
            },
            custodians: Vec::new(),
            workers: no_one(),
            asked: no_one(),
            hardened,
            nonces: BTreeMap::new(),
            decisions: 0,
            tasks: vec![serving],
            dir,
        };
        let workers = deployment.admit().await;
        for index in 1..=N {
            let running = deployment.start_custodian(index).await;
            deployment.custodians.push(Some(running));
        }
        deployment.start_workers(&workers);
        deployment.connect(&workers).await;
        deployment
    }

    /// Describes every enclave and has governance admit them; the workers' keys.
    async fn admit(&mut self) -> Vec<Principal> {
        let mut measured = None;
        for number in 1..=N {
            let about = custodian::describe(&self.custodian_config(number), Some(&self.hardened));
            let about: serde_json::Value = serde_json::from_str(&about.unwrap()).unwrap();
            measured = Some(about["measurement"].as_str().unwrap().to_owned());
            self.committee.members.push(Member {
                slot: slot(number),
                key: about["principal"].as_str().unwrap().parse().unwrap(),
                platform: PlatformType::Software,
            });
        }
        let measured: attestation::Measurement = measured.unwrap().parse().unwrap();
        let measured = Measurement::new(measured.0.to_vec()).unwrap();
        for role in [
            ledger::records::Role::Custodian,
            ledger::records::Role::Worker,
        ] {
            self.govern(Change::AllowMeasurement(MeasurementOf {
                role,
                platform: PlatformType::Software,
                measurement: measured.clone(),
            }))
            .await;
        }
        let committee = self.committee.encode();
        self.govern(Change::AdmitCommittee(AdmitCommittee { committee }))
            .await;
        let mut workers = Vec::new();
        for number in 0..2 {
            let args = self.worker_args(number, &[]);
            let about = worker::program::describe(&args, &self.hardened).unwrap();
            let about: serde_json::Value = serde_json::from_str(&about).unwrap();
            let key: Principal = about["principal"].as_str().unwrap().parse().unwrap();
            self.govern(Change::Enrol(Enrolment {
                role: ledger::records::Role::Worker,
                key,
                platform: PlatformType::Software,
                measurement: measured.clone(),
                expires: None,
            }))
            .await;
            workers.push(key);
        }
        workers
    }

    fn start_workers(&mut self, workers: &[Principal]) {
        for number in 0..2 {
            let other = 1 - number;
            let args = self.worker_args(number, &[(workers[other], other)]);
            // The second proof of the same hardening: workers are processes of their own elsewhere.
            let hardened = harden().unwrap();
            self.tasks.push(tokio::spawn(async move {
                worker::program::start(&args, &hardened, std::future::pending())
                    .await
                    .unwrap();
            }));
        }
    }

    async fn connect(&mut self, workers: &[Principal]) {
        let client = client_endpoint(self.dir.path(), &self.genesis).await;
        let at = |number: usize| Address::Unix(self.worker_dir(number).join("worker.sock"));
        let workers = workers
            .iter()
            .copied()
            .enumerate()
            .map(|(number, key)| (key, at(number)));
        self.workers = Pool::start(&client, Role::Worker, workers, Settings::default());
        let custodians = self.committee.members.iter().map(|member| {
            (
                member.key,
                self.custodian_config(member.slot.index.get()).listen,
            )
        });
        self.asked = Pool::start(&client, Role::Custodian, custodians, Settings::default());
        for peer in self.workers.peers().iter().chain(self.asked.peers()) {
            assert!(peer.connected(LONG).await, "{:?}", peer.state().reason);
        }
    }

    /// Starts the custodian of an index, in its folder.
    pub async fn start_custodian(&self, index: u8) -> Running {
        let config = self.custodian_config(index);
        custodian::start(&config, Bounds::default(), Some(&self.hardened))
            .await
            .unwrap()
    }

    /// Stops the custodian of an index.
    pub async fn stop_custodian(&mut self, index: u8) {
        let running = self.custodians[usize::from(index) - 1].take().unwrap();
        running.stop().await;
    }

    fn custodian_config(&self, index: u8) -> Config {
        let data = self
            .dir
            .path()
            .join("data/custodians")
            .join(index.to_string());
        std::fs::create_dir_all(&data).unwrap();
        Config {
            genesis: self.dir.path().join("genesis.cbor"),
            relay: self.dir.path().join("relay.sock"),
            listen: Address::Unix(data.join("custodian.sock")),
            platform: Platform::DangerSoftware(self.dir.path().join("config")),
            data,
        }
    }

    fn worker_dir(&self, number: usize) -> PathBuf {
        let dir = self
            .dir
            .path()
            .join("data/workers")
            .join(number.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The flags that a worker's process would have.
    fn worker_args(&self, number: usize, others: &[(Principal, usize)]) -> Args {
        let dir = self.worker_dir(number);
        let root = self.dir.path();
        let mut flags = vec!["strongroom-worker".to_owned()];
        let mut flag = |name: &str, value: String| flags.extend([name.to_owned(), value]);
        flag("--data", dir.display().to_string());
        flag("--genesis", root.join("genesis.cbor").display().to_string());
        flag("--relay", root.join("relay.sock").display().to_string());
        flag(
            "--listen",
            format!("unix:{}", dir.join("worker.sock").display()),
        );
        flag(
            "--platform",
            format!("software:{}", root.join("config").display()),
        );
        for member in &self.committee.members {
            let at = self.custodian_config(member.slot.index.get()).listen;
            flag("--custodian", format!("{}={at}", member.key));
        }
        for (key, other) in others {
            let at = self.worker_dir(*other).join("worker.sock");
            flag("--worker", format!("{key}=unix:{}", at.display()));
        }
        Args::try_parse_from(flags).unwrap()
    }

    /// The committee's id.
    #[must_use]
    pub fn committee_id(&self) -> CommitteeId {
        self.committee.id(&DEPLOYMENT)
    }

    /// One transaction of a person, which must be applied.
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
        assert_eq!(receipt.outcome, Outcome::Applied);
    }

    async fn govern(&mut self, change: Change) {
        self.decisions += 1;
        let decision = Decision {
            chain: self.genesis.hash(),
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

    /// Values with their proofs, and the header they are of.
    pub async fn proof(&self, keys: &[StateKey]) -> (v1::LedgerProof, Header) {
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

    /// A key with its first version pending.
    pub async fn begin(&mut self, name: &str) -> KeyId {
        let owner = person(OWNER);
        let content = KeyCreation {
            owner: owner.principal(),
            name: name.parse().unwrap(),
            random: *blake3::hash(name.as_bytes()).as_bytes(),
            scheme: 1,
            threshold: self.committee.threshold,
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

    /// What a worker is asked to make a pending first version.
    pub async fn question(&self, key: KeyId, fencing: u64) -> v1::DealVersion {
        let keys = [
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, KeyVersion::FIRST),
            StateKey::Committee(self.committee_id()),
        ];
        let (proof, header) = self.proof(&keys).await;
        let request = DealRequest {
            chain: self.genesis.hash(),
            principal: person(OWNER).principal(),
            key,
            version: KeyVersion::FIRST,
            fencing,
            issued: header.time,
            expires: TimestampMs(header.time.0 + 60_000),
            nonce: [1; 16],
        };
        v1::DealVersion {
            key: key.0.to_vec().into(),
            version: 1,
            fencing,
            proof: Some(proof),
            request: Signed::sign(&person(OWNER), &DEPLOYMENT, request)
                .encode()
                .into(),
        }
    }

    /// Puts a dealt version on the ledger.
    pub async fn activate(&mut self, dealt: &v1::DealtVersion) {
        let signature = |bytes: &Bytes| Signature(bytes[..].try_into().unwrap());
        let acknowledgement = |said: &v1::Acknowledgement| Acknowledgement {
            slot: Slot {
                index: ShareIndex::new(u8::try_from(said.index).unwrap()).unwrap(),
                standby: said.standby,
            },
            signature: signature(&said.signature),
        };
        let action = Action::ActivateVersion(ActivateVersion {
            statement: dealt.statement.to_vec(),
            commitments: dealt.commitments.to_vec(),
            acknowledgements: dealt.acknowledgements.iter().map(acknowledgement).collect(),
            activation: Activation {
                worker: Principal(dealt.activation_worker[..].try_into().unwrap()),
                signature: signature(&dealt.activation_signature),
            },
        });
        self.run(OWNER, action).await;
    }

    /// A key with its first version active.
    pub async fn key(&mut self, name: &str) -> KeyId {
        let key = self.begin(name).await;
        let question = self.question(key, 1).await;
        let dealt = self.workers.peers()[0]
            .deal_version(question, LONG)
            .await
            .unwrap();
        self.activate(&dealt).await;
        key
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn slot(index: u8) -> Slot {
    Slot {
        index: ShareIndex::new(index).unwrap(),
        standby: false,
    }
}

fn start_ledger(dir: &Path, genesis: &Genesis) -> (Arc<Solo>, JoinHandle<()>) {
    let solo = dir.join("solo");
    Solo::create(&solo, genesis).unwrap();
    let (ledger, _) = Solo::open(SoloConfig {
        reserve_bytes: 0,
        empty_block_every: Duration::from_millis(500),
        ..SoloConfig::new(&solo, Arc::new(person(VALIDATOR)), Arc::new(now))
    })
    .unwrap();
    let ledger = Arc::new(ledger);
    let listener = UnixListener::bind(dir.join("relay.sock")).unwrap();
    let serving = tokio::spawn(relay::serve(
        listener,
        ledger.clone(),
        relay::Limits::default(),
        std::future::pending(),
    ));
    (ledger, serving)
}

async fn client_endpoint(dir: &Path, genesis: &Genesis) -> Arc<Endpoint> {
    let relay = RelayClient::new(dir.join("relay.sock"));
    let view = View::start(relay, Arc::new(genesis.clone()), Options::default()).await;
    let trust = Trust {
        deployment: DEPLOYMENT,
        verifiers: relay::verifiers(genesis),
        policy: view.policy(),
        now: view.clock(),
    };
    Arc::new(Endpoint::new(Local::Client, trust, session_limits()).unwrap())
}
