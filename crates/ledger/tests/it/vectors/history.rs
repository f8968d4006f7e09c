//! A small ledger's life in which every kind of transaction and of decision occurs.

use std::collections::BTreeMap;

use domain::{Epoch, Height, MerkleRoot, Permissions, PlatformType, TimestampMs};
use ledger::header::{Certificate, ValidatorSet, sign_header};
use ledger::records::committee::ShareRootStatement;
use ledger::records::{
    Acknowledgement, ContextName, ContextPolicy, KeyGrant, Minimum, Operations, Role, ShareRoot,
};
use ledger::transaction::{
    AbandonVersion, Change, CreateKey, GrantBucket, MeasurementOf, RecordShareRoot,
    RegisterDataset, Retire, RevokeKey, RoleKey, SetDeleteProtection, SetMinimum, SignedRecord,
    VersionOf,
};
use ledger::{Action, Expiry, Governance, Outcome, Record as _, transaction_hash};
use sealed::signed::Signed;
use serde_json::{Value, json};

use super::validator;
use crate::exported::{activation, statement};
use crate::vector_files::hex;
use crate::world::{
    CUSTODIAN, DEPLOYMENT, GOVERNOR, START, WORKER, World, anchor, begin, bucket, creation,
    decision, grant, grant_action, measurement, setup_changes, sign_grant, signed_until, slot,
};

pub const OWNER: u64 = 1;
const STRANGER: u64 = 2;
const DELEGATE: u64 = 5;
const READER: u64 = 6;

/// A ledger that remembers its blocks.
pub struct History {
    pub world: World,
    pub blocks: Vec<Value>,
    nonces: BTreeMap<u64, u64>,
    decisions: u64,
}

impl History {
    fn transaction(&mut self, who: u64, action: Action) -> Vec<u8> {
        let nonce = self.nonces.entry(who).or_default();
        let expires = if who.is_multiple_of(2) {
            Expiry::Height(Height(1_000))
        } else {
            Expiry::Time(TimestampMs(START.0 + 1_000_000))
        };
        let person = self.world.people.get(who);
        let bytes = signed_until(person, &self.world.chain, *nonce, expires, action);
        *nonce += 1;
        bytes
    }

    fn decide(&mut self, change: Change) -> (u64, Action) {
        self.decisions += 1;
        let action = decision(
            &mut self.world.people,
            &self.world.chain,
            self.decisions,
            change,
        );
        (GOVERNOR, action)
    }

    /// One block; all of it is applied.
    fn block(&mut self, actions: Vec<(u64, Action)>) {
        let transactions: Vec<Vec<u8>> = actions
            .into_iter()
            .map(|(who, action)| self.transaction(who, action))
            .collect();
        let rejected = self.commit(&transactions);
        assert_eq!(rejected, 0);
    }

    /// One block of whatever; how many of it were rejected.
    fn commit(&mut self, transactions: &[Vec<u8>]) -> usize {
        let executed = self.world.block(transactions);
        let hashes: Vec<String> = transactions
            .iter()
            .map(|bytes| ledger::SignedTransaction::decode(bytes).unwrap())
            .map(|signed| hex(&transaction_hash(&DEPLOYMENT, &signed).0))
            .collect();
        self.blocks.push(json!({
            "header": hex(&self.world.newest.encode()),
            "hash": hex(&self.world.newest.hash(&DEPLOYMENT).0),
            "certificate": hex(&self.world.certificate().encode()),
            "transactions": transactions.iter().map(|bytes| hex(bytes)).collect::<Vec<_>>(),
            "hashes": hashes,
            "receipts": executed.receipts.iter().map(|one| hex(&one.encode())).collect::<Vec<_>>(),
        }));
        let rejected = |outcome: &Outcome| matches!(outcome, Outcome::Rejected(_));
        executed
            .receipts
            .iter()
            .filter(|receipt| rejected(&receipt.outcome))
            .count()
    }

    fn share_root(&mut self) -> Action {
        let statement = ShareRootStatement {
            committee: self.world.committee_id(),
            epoch: Epoch::FIRST,
            root: MerkleRoot([0x11; 32]),
            count: 1,
        };
        let root = ShareRoot::from(statement);
        let signatures = (1..=4)
            .map(|index| Acknowledgement {
                slot: slot(index, false),
                signature: root.sign(
                    self.world.people.get(CUSTODIAN + u64::from(index)),
                    &DEPLOYMENT,
                ),
            })
            .collect();
        Action::RecordShareRoot(RecordShareRoot {
            statement,
            signatures,
        })
    }

    fn activate(&mut self, key: domain::KeyId, version: u32, fencing: u64) -> (u64, Action) {
        let statement = statement(&mut self.world, key, version, fencing);
        (
            WORKER,
            Action::ActivateVersion(activation(&mut self.world, &statement)),
        )
    }

    /// Everything from the first decision to other validators.
    pub fn play() -> Self {
        let mut it = Self {
            world: World::empty(true),
            blocks: Vec::new(),
            nonces: BTreeMap::new(),
            decisions: 0,
        };
        let setup = setup_changes(&mut it.world.people);
        let setup = setup.into_iter().map(|change| it.decide(change)).collect();
        it.block(setup);
        it.block(Vec::new());

        // A key whose contexts need names, beside transactions that are rejected.
        let (_, plain) = creation(&mut it.world.people, OWNER, "payroll");
        let names = ["month", "purpose"].map(|name| ContextName::new(name).unwrap());
        let content = ledger::records::KeyCreation {
            context: ContextPolicy::requiring(names.to_vec()).unwrap(),
            ..(*plain).clone()
        };
        let key = content.key_id(&DEPLOYMENT);
        let signed = Signed::sign(it.world.people.get(OWNER), &DEPLOYMENT, content);
        let create = Action::CreateKey(CreateKey {
            creation: signed.encode(),
        });
        let good = it.transaction(OWNER, create);
        let late = it.transaction(STRANGER, anchor(7));
        it.nonces.insert(STRANGER, 0);
        assert_eq!(it.commit(&[good, late]), 1);
        let first = it.activate(key, 1, 1);
        it.block(vec![first, (STRANGER, anchor(1))]);

        it.grants(key);
        it.buckets();
        it.versions(key);
        it.policy(key);
        it
    }

    fn grants(&mut self, key: domain::KeyId) {
        let people = &mut self.world.people;
        let may_pass_on = KeyGrant {
            operations: Operations::DECRYPT
                .and(Operations::GRANT)
                .and(Operations::ROTATE),
            expires: Some(TimestampMs(START.0 + 900_000)),
            ..grant(people, OWNER, key, DELEGATE, 1)
        };
        let owners = sign_grant(people.get(OWNER), may_pass_on.clone());
        let passed_on = KeyGrant {
            parent: Some(domain::RecordHash(owners.hash())),
            ..grant(people, DELEGATE, key, READER, 3)
        };
        let first = grant_action(people.get(OWNER), may_pass_on);
        let second = grant_action(people.get(DELEGATE), passed_on);
        let strangers = grant(people, OWNER, key, STRANGER, 1);
        let third = grant_action(people.get(OWNER), strangers);
        let revoke = Action::RevokeKey(RevokeKey {
            key,
            grantee: people.principal(STRANGER),
            serial: 1,
        });
        self.block(vec![(OWNER, first), (OWNER, third)]);
        self.block(vec![(READER, second), (STRANGER, revoke)]);
    }

    fn buckets(&mut self) {
        let record = bucket(&mut self.world.people, OWNER, 1);
        let id = record.id;
        let register = Action::RegisterBucket(SignedRecord {
            record: record.encode(),
        });
        let random = [0x21; 32];
        let owner = self.world.people.principal(DELEGATE);
        let dataset = Action::RegisterDataset(RegisterDataset {
            dataset: ledger::records::dataset::dataset_id(&DEPLOYMENT, &owner, &random),
            random,
            version: 1,
            root: domain::Cid::of_raw(b"root"),
            merkle: MerkleRoot([0x22; 32]),
            size_bytes: 1 << 33,
        });
        let allow = Action::GrantBucket(GrantBucket {
            bucket: id,
            grantee: self.world.people.principal(READER),
            permissions: Permissions::WRITER,
            expires: Some(TimestampMs(START.0 + 800_000)),
        });
        let shares = self.share_root();
        self.block(vec![(OWNER, register), (DELEGATE, dataset)]);
        self.block(vec![(OWNER, allow), (STRANGER, shares)]);
    }

    fn versions(&mut self, key: domain::KeyId) {
        let version = |number| VersionOf {
            key,
            version: domain::KeyVersion::new(number).unwrap(),
        };
        let second = begin(&mut self.world.people, key, 2, 1);
        let abandon = Action::AbandonVersion(AbandonVersion { key, fencing: 2 });
        let again = begin(&mut self.world.people, key, 2, 2);
        self.block(vec![(OWNER, second), (DELEGATE, abandon), (OWNER, again)]);
        let activate = self.activate(key, 2, 3);
        self.block(vec![activate, (OWNER, Action::SetMinDecrypt(version(2)))]);
        let retire = Action::Retire(Retire {
            key,
            version: Some(version(1).version),
            deadline: Some(TimestampMs(self.world.time.0 + 1_000)),
        });
        let protect = Action::SetDeleteProtection(SetDeleteProtection {
            key,
            protected: true,
        });
        self.block(vec![(OWNER, retire)]);
        let destroy = Action::DestroyVersion(version(1));
        self.block(vec![(OWNER, destroy), (OWNER, protect)]);
        let third = begin(&mut self.world.people, key, 3, 3);
        self.block(vec![(DELEGATE, third)]);
    }

    fn policy(&mut self, key: domain::KeyId) {
        let of = MeasurementOf {
            role: Role::Custodian,
            platform: PlatformType::SevSnp,
            measurement: measurement(),
        };
        let minimum = SetMinimum {
            platform: PlatformType::Tdx,
            minimum: Minimum {
                tcb: 17,
                revocation_list: 400,
            },
        };
        let worker = RoleKey {
            role: Role::Worker,
            key: self.world.people.principal(WORKER),
        };
        let keys = (0..2).map(|n| self.world.people.principal(GOVERNOR + n));
        let governance = Governance::new(2, keys.collect()).unwrap();
        let set = ValidatorSet::new((0..4).map(|n| validator(n).principal()).collect()).unwrap();
        let changes = [
            Change::AllowMeasurement(of.clone()),
            Change::DenyMeasurement(of),
            Change::SetMinimum(minimum),
            Change::Withdraw(worker),
            Change::SuspendKey(key),
            Change::ResumeKey(key),
            Change::SuspendKey(key),
            Change::SetGovernance(governance),
            Change::SetValidators(set),
        ];
        let block = changes.map(|change| self.decide(change)).to_vec();
        self.block(block);
        // The next header is the new validators'; three of the four sign it.
        self.block(Vec::new());
        let mut signatures: Vec<_> = [0, 2, 3]
            .map(|n| sign_header(&validator(n), &DEPLOYMENT, &self.world.newest))
            .to_vec();
        signatures.sort_by_key(|one| one.validator);
        let last = self.blocks.last_mut().unwrap();
        last["certificate"] = json!(hex(&Certificate { signatures }.encode()));
    }
}
