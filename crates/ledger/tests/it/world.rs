//! A small deployment to test with: who is who, transactions of every kind, blocks one after the other. Used by the tests of
//! engines too.

use std::collections::BTreeMap;

use crypto::ristretto::Element;
use crypto::{Identity, Secret};
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use domain::{
    BucketName, CommitteeId, DeploymentId, Epoch, HeaderHash, Height, KeyId, KeyVersion,
    MerkleRoot, PlatformType, Principal, Profile, ShareIndex, Slot, Threshold, TimestampMs,
};
use ledger::execute::{BlockContext, Executed, execute};
use ledger::header::{Certificate, Header, ValidatorSet, sign_header};
use ledger::records::{
    Acknowledgement, Committee, ContextPolicy, Enrolment, KeyCreation, KeyGrant, Measurement,
    Member, Operations, Role, VersionStatement,
};
use ledger::transaction::{
    ActivateVersion, AdmitCommittee, Anchor, BeginVersion, Change, CreateKey, Decision, Govern,
    MeasurementOf, SignedRecord,
};
use ledger::{
    Action, Chain, Expiry, Genesis, Governance, Limits, Outcome, Record as _, SignedTransaction,
    State, StateKey, Transaction,
};
use sealed::signed::Signed;
use threshold::{CommitmentList, DhPublic};

pub const DEPLOYMENT: DeploymentId = DeploymentId([0xdd; 32]);
pub const START: TimestampMs = TimestampMs(1_800_000_000_000);
pub const PRIMARIES: u8 = 5;

/// A principal by number.
pub fn person(number: u64) -> Identity {
    let seed = blake3::derive_key("strongroom test person", &number.to_be_bytes());
    let mut seed = seed;
    Identity::from_seed(Secret::take(&mut seed))
}

pub const VALIDATOR: u64 = 1_000;
pub const GOVERNOR: u64 = 1_001;
pub const WORKER: u64 = 1_010;
pub const CUSTODIAN: u64 = 1_020;
pub const STANDBY: u64 = 1_030;

/// Identities that are made once: deriving one is slow.
#[derive(Default)]
pub struct People(BTreeMap<u64, Identity>);

impl People {
    pub fn get(&mut self, number: u64) -> &Identity {
        self.0.entry(number).or_insert_with(|| person(number))
    }

    pub fn principal(&mut self, number: u64) -> Principal {
        self.get(number).principal()
    }
}

pub fn genesis(development: bool) -> Genesis {
    Genesis {
        deployment: DEPLOYMENT,
        development,
        software_root: None,
        governance: Governance::new(
            2,
            (0..3).map(|n| person(GOVERNOR + n).principal()).collect(),
        )
        .unwrap(),
        validators: ValidatorSet::new(vec![person(VALIDATOR).principal()]).unwrap(),
        limits: Limits::DEFAULT,
        time: START,
        continues: None,
    }
}

pub fn threshold() -> Threshold {
    Threshold::new(3, PRIMARIES).unwrap()
}

pub fn slot(index: u8, standby: bool) -> Slot {
    Slot {
        index: ShareIndex::new(index).unwrap(),
        standby,
    }
}

pub fn committee(people: &mut People) -> Committee {
    let mut members = Vec::new();
    for index in 1..=PRIMARIES {
        for (standby, base) in [(false, CUSTODIAN), (true, STANDBY)] {
            members.push(Member {
                slot: slot(index, standby),
                key: people.principal(base + u64::from(index)),
                platform: PlatformType::Software,
            });
        }
    }
    Committee {
        threshold: threshold(),
        members,
        random: [7; 16],
    }
}

pub fn measurement() -> Measurement {
    Measurement::new(vec![0xaa; 32]).unwrap()
}

/// Signs an action as a person.
pub fn signed(who: &Identity, chain: &Chain, nonce: u64, action: Action) -> Vec<u8> {
    signed_until(
        who,
        chain,
        nonce,
        Expiry::Time(TimestampMs(u64::MAX)),
        action,
    )
}

pub fn signed_until(
    who: &Identity,
    chain: &Chain,
    nonce: u64,
    expires: Expiry,
    action: Action,
) -> Vec<u8> {
    let transaction = Transaction {
        chain: chain.genesis,
        sender: who.principal(),
        nonce,
        expires,
        action,
    };
    SignedTransaction::sign(who, &chain.deployment, transaction).encode()
}

pub fn decision(people: &mut People, chain: &Chain, sequence: u64, change: Change) -> Action {
    let decision = Decision {
        chain: chain.genesis,
        sequence,
        expires: TimestampMs(u64::MAX),
        change,
    };
    let mut signatures: Vec<_> = [GOVERNOR, GOVERNOR + 1]
        .into_iter()
        .map(|number| decision.sign(people.get(number), &chain.deployment))
        .collect();
    signatures.sort_by_key(|signature| signature.key);
    Action::Govern(Govern {
        decision: decision.encode(),
        signatures,
    })
}

/// What makes a new deployment usable: measurements allowed, a committee admitted, two workers enrolled.
pub fn setup_changes(people: &mut People) -> Vec<Change> {
    let mut changes = vec![
        Change::AllowMeasurement(MeasurementOf {
            role: Role::Worker,
            platform: PlatformType::Software,
            measurement: measurement(),
        }),
        Change::AdmitCommittee(AdmitCommittee {
            committee: committee(people).encode(),
        }),
    ];
    for worker in [WORKER, WORKER + 1] {
        changes.push(Change::Enrol(Enrolment {
            role: Role::Worker,
            key: people.principal(worker),
            platform: PlatformType::Software,
            measurement: measurement(),
            expires: None,
        }));
    }
    changes
}

pub fn creation(people: &mut People, owner: u64, name: &str) -> (KeyId, Signed<KeyCreation>) {
    let committee = committee(people).id(&DEPLOYMENT);
    let owner = people.get(owner);
    let content = KeyCreation {
        owner: owner.principal(),
        name: name.parse().unwrap(),
        random: *blake3::hash(name.as_bytes()).as_bytes(),
        scheme: 1,
        threshold: threshold(),
        committee,
        context: ContextPolicy::ANY,
        created: START,
    };
    let id = content.key_id(&DEPLOYMENT);
    (id, Signed::sign(owner, &DEPLOYMENT, content))
}

pub fn create(people: &mut People, owner: u64, name: &str) -> (KeyId, Action) {
    let (key, creation) = creation(people, owner, name);
    (
        key,
        Action::CreateKey(CreateKey {
            creation: creation.encode(),
        }),
    )
}

pub fn statement(people: &mut People, key: KeyId, version: u32, fencing: u64) -> VersionStatement {
    let mut statement = VersionStatement {
        key,
        version: KeyVersion::new(version).unwrap(),
        fencing,
        epoch: Epoch::FIRST,
        committee: committee(people).id(&DEPLOYMENT),
        pq: [3; 1_184],
        dh: [4; 32],
        commitments: MerkleRoot([5; 32]),
        dealer: people.principal(WORKER),
    };
    statement.commitments = MerkleRoot(commitments(&statement).root());
    statement
}

/// Commitments as a dealer gives them: shares of the constant polynomial, which have the key itself as public keys.
pub fn commitments(statement: &VersionStatement) -> CommitmentList {
    let base = Element::from_point(RISTRETTO_BASEPOINT_POINT).unwrap();
    let sharing = statement.sharing(&DEPLOYMENT, threshold());
    let public = DhPublic::new(sharing, base, vec![base; usize::from(PRIMARIES)]).unwrap();
    let pq: Vec<[u8; 32]> = (1..=PRIMARIES).map(|index| [index; 32]).collect();
    CommitmentList::new(&public, &pq).unwrap()
}

pub fn acknowledgements(people: &mut People, statement: &VersionStatement) -> Vec<Acknowledgement> {
    let mut out = Vec::new();
    for index in 1..=PRIMARIES {
        for (standby, base) in [(false, CUSTODIAN), (true, STANDBY)] {
            let custodian = people.get(base + u64::from(index));
            out.push(statement.acknowledge(custodian, &DEPLOYMENT, slot(index, standby)));
        }
    }
    out
}

pub fn activation(people: &mut People, statement: &VersionStatement) -> ActivateVersion {
    ActivateVersion {
        statement: statement.encode(),
        commitments: commitments(statement).encode(),
        acknowledgements: acknowledgements(people, statement),
        activation: statement.activate(people.get(WORKER + 1), &DEPLOYMENT),
    }
}

pub fn begin(people: &mut People, key: KeyId, version: u32, fencing: u64) -> Action {
    Action::BeginVersion(BeginVersion {
        key,
        version: KeyVersion::new(version).unwrap(),
        fencing,
        committee: committee(people).id(&DEPLOYMENT),
    })
}

/// An owner's grant.
pub fn grant(people: &mut People, owner: u64, key: KeyId, grantee: u64, serial: u64) -> KeyGrant {
    KeyGrant {
        key,
        grantee: people.principal(grantee),
        operations: Operations::DECRYPT,
        granted_by: people.principal(owner),
        parent: None,
        serial,
        expires: None,
    }
}

pub fn sign_grant(granter: &Identity, grant: KeyGrant) -> Signed<KeyGrant> {
    Signed::sign(granter, &DEPLOYMENT, grant)
}

pub fn grant_action(granter: &Identity, grant: KeyGrant) -> Action {
    Action::GrantKey(SignedRecord {
        record: sign_grant(granter, grant).encode(),
    })
}

pub fn anchor(sequence: u64) -> Action {
    Action::Anchor(Anchor {
        kind: ledger::records::AnchorKind::Audit,
        sequence,
        root: MerkleRoot(*blake3::hash(&sequence.to_be_bytes()).as_bytes()),
        count: 10,
    })
}

/// A bucket record of a person.
pub fn bucket(people: &mut People, owner: u64, version: u64) -> sealed::BucketRecord {
    let random = [9; 32];
    let owner = people.get(owner);
    let bucket = sealed::Bucket {
        id: sealed::bucket::bucket_id(&DEPLOYMENT, &owner.principal(), &random),
        owner: owner.principal(),
        random,
        name: "photos".parse::<BucketName>().unwrap(),
        profile: "10+4".parse::<Profile>().unwrap(),
        geometry: sealed::Geometry::LARGEST,
        writers: sealed::WriterSet::new(version, vec![owner.principal()]).unwrap(),
        readers: sealed::bucket::Readers::default(),
        key: None,
        key_generation: 0,
        created: START,
    };
    bucket.sign(owner, &DEPLOYMENT)
}

/// A ledger in memory: blocks one after the other.
pub struct World {
    pub people: People,
    pub chain: Chain,
    pub state: State,
    pub time: TimestampMs,
    pub newest: Header,
    nonces: BTreeMap<u64, u64>,
    decisions: u64,
}

impl World {
    /// At height 0.
    pub fn empty(development: bool) -> Self {
        let genesis = genesis(development);
        let chain = Chain::from(&genesis);
        let state = State::genesis(genesis);
        let newest = Header {
            genesis: chain.genesis,
            height: Height(0),
            time: START,
            previous: HeaderHash([0; 32]),
            state_root: state.root(),
            transactions_root: ledger::merkle::list::root::<Vec<u8>>(&[]),
            receipts_root: ledger::merkle::list::root::<Vec<u8>>(&[]),
            next_validators: state.genesis_record().validators.hash(&DEPLOYMENT),
        };
        Self {
            people: People::default(),
            chain,
            state,
            time: START,
            newest,
            nonces: BTreeMap::new(),
            decisions: 0,
        }
    }

    /// With committee and workers.
    pub fn ready() -> Self {
        let mut world = Self::empty(true);
        for change in setup_changes(&mut world.people) {
            world.govern(change).unwrap();
        }
        world
    }

    /// Executes and commits one block.
    pub fn block(&mut self, transactions: &[Vec<u8>]) -> Executed {
        self.time = TimestampMs(self.time.0 + 1_000);
        let context = BlockContext {
            height: Height(self.state.height().0 + 1),
            time: self.time,
        };
        let executed = execute(&self.state, &self.chain, context, transactions).unwrap();
        assert_eq!(executed.receipts.len(), transactions.len());
        self.newest = executed.header(&self.chain, self.newest.hash(&DEPLOYMENT), transactions);
        assert!(self.state.commit(&executed).unwrap());
        assert_eq!(self.state.root(), executed.root());
        executed
    }

    /// The validator's certificate over the newest header.
    pub fn certificate(&mut self) -> Certificate {
        Certificate {
            signatures: vec![sign_header(
                self.people.get(VALIDATOR),
                &DEPLOYMENT,
                &self.newest,
            )],
        }
    }

    /// The next transaction of a person.
    pub fn next(&mut self, who: u64, action: Action) -> Vec<u8> {
        let nonce = self.nonces.get(&who).copied().unwrap_or(0);
        signed(self.people.get(who), &self.chain, nonce, action)
    }

    /// One transaction in a block of its own; the code when it is rejected.
    pub fn run(&mut self, who: u64, action: Action) -> Result<(), String> {
        let bytes = self.next(who, action);
        let executed = self.block(&[bytes]);
        match &executed.receipts[0].outcome {
            Outcome::Applied => {
                *self.nonces.entry(who).or_default() += 1;
                Ok(())
            }
            Outcome::Rejected(code) => Err(code.clone()),
        }
    }

    /// A decision that two of three governors sign.
    pub fn govern(&mut self, change: Change) -> Result<(), String> {
        let action = decision(&mut self.people, &self.chain, self.decisions + 1, change);
        self.run(GOVERNOR, action)?;
        self.decisions += 1;
        Ok(())
    }

    /// A key with its first version active.
    pub fn active_key(&mut self, owner: u64, name: &str) -> KeyId {
        let (key, action) = create(&mut self.people, owner, name);
        self.run(owner, action).unwrap();
        self.activate(key, 1, 1).unwrap();
        key
    }

    pub fn activate(&mut self, key: KeyId, version: u32, fencing: u64) -> Result<(), String> {
        let statement = statement(&mut self.people, key, version, fencing);
        let activation = activation(&mut self.people, &statement);
        self.run(WORKER, Action::ActivateVersion(activation))
    }

    pub fn committee_id(&mut self) -> CommitteeId {
        committee(&mut self.people).id(&DEPLOYMENT)
    }

    pub fn record<T: ledger::Record>(&self, key: &StateKey) -> Option<T> {
        self.state.record(key).unwrap()
    }
}
