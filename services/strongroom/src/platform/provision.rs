//! What the ledger must hold before named keys can be made: measurements allowed, a committee admitted, workers enrolled. Each is a
//! decision that the operator's identity signs; the ledger in turn is held to its proofs from the pinned genesis.

use std::sync::Arc;

use crypto::Identity;
use domain::{CommitteeId, DeploymentId, PlatformType, ShareIndex, Slot, Threshold, TimestampMs};
use ledger::port::{Freshness, Ledger as _, ReadError, SubmitError};
use ledger::records::{
    Account, Committee, CommitteeEntry, Enrolment, EnrolmentEntry, GovernanceEntry, Measurement,
    MeasurementEntry, Member, Role,
};
use ledger::transaction::{AdmitCommittee, Change, Decision, Govern, MeasurementOf};
use ledger::{
    Action, Expiry, Genesis, LightClient, Record, SignedTransaction, StateKey, StatePrefix,
    Transaction,
};
use transport::LedgerClient;

use super::deployment::no_randomness;
use super::enclaves::{Description, Enclaves, THRESHOLD};
use crate::failure::{Exit, Failure, Outcome};

/// How long a decision and its transaction may take to be applied.
const LIFETIME_MS: u64 = 300_000;
/// Committees that are looked through.
const COMMITTEES_MAX: usize = 1_000;
/// Measurements that are looked through.
const MEASUREMENTS_MAX: usize = 1_000;

/// What is still to be decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Each with a sentence for people.
    pub changes: Vec<(String, Change)>,
    /// What governance decided against, and is left so.
    pub refused: Vec<String>,
    /// Measurements that are allowed although no program here has them, each with a sentence for people.
    pub others: Vec<(String, MeasurementOf)>,
    /// Whether governance has decided nothing yet: a deployment's first start.
    pub first: bool,
    /// The committee of these custodians, when it is admitted already.
    pub committee: Option<CommitteeId>,
}

/// Reads the ledger with proofs.
struct Reader<'a> {
    ledger: &'a LedgerClient,
    light: LightClient,
    now: TimestampMs,
}

impl Reader<'_> {
    async fn records<T: Record>(&mut self, keys: &[StateKey]) -> Outcome<Vec<Option<T>>> {
        let keys: Vec<bytes::Bytes> = keys.iter().map(|key| key.encode().into()).collect();
        let answer = self.ledger.read(keys.clone(), Freshness::Local).await;
        let answer = answer.map_err(read_failure)?;
        let wrong = |error: String| {
            Failure::new(
                Exit::Integrity,
                "ledger_answer",
                format!("the ledger's answer does not hold: {error}"),
            )
        };
        answer
            .verify(&mut self.light, &keys)
            .map_err(|error| wrong(error.to_string()))?;
        self.now = answer.last.header.time;
        answer
            .values
            .into_iter()
            .map(|proved| proved.value.map(|value| T::decode(&value)).transpose())
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(error.to_string()))
    }

    async fn record<T: Record>(&mut self, key: StateKey) -> Outcome<Option<T>> {
        let mut found = self.records(&[key]).await?;
        Ok(found.pop().flatten())
    }
}

fn read_failure(error: ReadError) -> Failure {
    Failure::new(Exit::Unavailable, "ledger", error.to_string())
        .advise("see the validator's log; `strongroom up` must be running")
}

fn reader<'a>(ledger: &'a LedgerClient, genesis: &Genesis) -> Reader<'a> {
    Reader {
        ledger,
        light: LightClient::new(genesis),
        now: genesis.time,
    }
}

/// What these enclaves need that the ledger does not hold yet.
///
/// # Errors
/// When the ledger does not answer, or its answer does not hold.
async fn plan(ledger: &LedgerClient, genesis: &Genesis, enclaves: &Enclaves) -> Outcome<Plan> {
    let mut reader = reader(ledger, genesis);
    let governance = governance(&mut reader).await?;
    let mut plan = Plan {
        // The genesis is decision 0.
        first: governance.sequence <= 1,
        ..Plan::default()
    };
    let mut here = Vec::new();
    for (role, descriptions) in roles(enclaves) {
        let mut wanted: Vec<MeasurementOf> = Vec::new();
        for description in descriptions {
            let of = measurement_of(role, description)?;
            if !wanted.contains(&of) {
                wanted.push(of);
            }
        }
        here.extend(wanted.iter().cloned());
        for of in wanted {
            let key = StateKey::Measurement(of.role, of.platform, of.measurement.clone());
            let words = in_words(&of);
            match reader.record::<MeasurementEntry>(key).await? {
                None => {
                    let change = Change::AllowMeasurement(of);
                    plan.changes.push((format!("allow {words}"), change));
                }
                Some(entry) if entry.denied => {
                    plan.refused
                        .push(format!("{words} is denied by governance"));
                }
                Some(_) => {}
            }
        }
    }
    plan.others = others(&mut reader, &here).await?;
    let members = members(enclaves)?;
    let threshold = threshold()?;
    plan.committee = admitted(&mut reader, &genesis.deployment, threshold, &members).await?;
    if plan.committee.is_none() {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(no_randomness)?;
        let committee = Committee {
            threshold,
            members,
            random,
        };
        let change = Change::AdmitCommittee(AdmitCommittee {
            committee: committee.encode(),
        });
        let words = format!(
            "admit a committee of {} custodians, any {} of whom open",
            threshold.n(),
            threshold.t()
        );
        plan.changes.push((words, change));
        plan.committee = Some(committee.id(&genesis.deployment));
    }
    for worker in &enclaves.workers {
        let of = measurement_of(Role::Worker, worker)?;
        let enrolment = Enrolment {
            role: Role::Worker,
            key: worker.principal,
            platform: of.platform,
            measurement: of.measurement,
            expires: None,
        };
        let key = StateKey::Enrolment(Role::Worker, worker.principal);
        let words = format!("worker {}", worker.principal);
        match reader.record::<EnrolmentEntry>(key).await? {
            Some(entry) if entry.withdrawn => {
                plan.refused
                    .push(format!("{words} was withdrawn by governance"));
            }
            Some(entry) if entry.enrolment == enrolment => {}
            _ => plan
                .changes
                .push((format!("enrol {words}"), Change::Enrol(enrolment))),
        }
    }
    Ok(plan)
}

fn in_words(of: &MeasurementOf) -> String {
    let hex = data_encoding::HEXLOWER.encode(of.measurement.as_bytes());
    format!("measurement {hex} as a {}", name(of.role))
}

async fn governance(reader: &mut Reader<'_>) -> Outcome<GovernanceEntry> {
    let governance = reader.record::<GovernanceEntry>(StateKey::Governance);
    governance.await?.ok_or_else(|| {
        Failure::new(
            Exit::Integrity,
            "ledger_answer",
            "the ledger has no governance",
        )
    })
}

/// Measurements that the ledger allows beside those that are `here`.
async fn others(
    reader: &mut Reader<'_>,
    here: &[MeasurementOf],
) -> Outcome<Vec<(String, MeasurementOf)>> {
    let listed = reader
        .ledger
        .list(StatePrefix::Measurements, None, MEASUREMENTS_MAX);
    let mut others = Vec::new();
    for (key, _) in listed.await.map_err(read_failure)? {
        let Some((role, platform, measurement)) = StateKey::parse_measurement(&key) else {
            continue;
        };
        let of = MeasurementOf {
            role,
            platform,
            measurement,
        };
        if here.contains(&of) {
            continue;
        }
        // The listing is nobody's word; the entry is proved.
        let key = StateKey::Measurement(of.role, of.platform, of.measurement.clone());
        if let Some(entry) = reader.record::<MeasurementEntry>(key).await?
            && !entry.denied
        {
            others.push((in_words(&of), of));
        }
    }
    Ok(others)
}

fn roles(enclaves: &Enclaves) -> [(Role, &[Description]); 2] {
    [
        (Role::Custodian, &enclaves.custodians),
        (Role::Worker, &enclaves.workers),
    ]
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Custodian => "custodian",
        Role::Worker => "worker",
        Role::Gateway => "gateway",
    }
}

fn platform(description: &Description) -> Outcome<PlatformType> {
    description
        .platform_type()
        .ok_or_else(|| Failure::usage(format!("there is no platform `{}`", description.platform)))
}

fn measurement_of(role: Role, description: &Description) -> Outcome<MeasurementOf> {
    Ok(MeasurementOf {
        role,
        platform: platform(description)?,
        measurement: Measurement::new(description.measurement.0.to_vec())
            .map_err(|error| Failure::usage(error.to_string()))?,
    })
}

fn threshold() -> Outcome<Threshold> {
    Threshold::new(THRESHOLD, super::enclaves::CUSTODIANS)
        .map_err(|error| Failure::usage(error.to_string()))
}

fn members(enclaves: &Enclaves) -> Outcome<Vec<Member>> {
    (1..)
        .zip(&enclaves.custodians)
        .map(|(index, custodian)| {
            Ok(Member {
                slot: Slot {
                    index: ShareIndex::new(index)
                        .map_err(|error| Failure::usage(error.to_string()))?,
                    standby: false,
                },
                key: custodian.principal,
                platform: platform(custodian)?,
            })
        })
        .collect()
}

/// The committee of exactly these members, if governance has admitted one.
async fn admitted(
    reader: &mut Reader<'_>,
    deployment: &DeploymentId,
    threshold: Threshold,
    members: &[Member],
) -> Outcome<Option<CommitteeId>> {
    let prefix = StatePrefix::Committees;
    let listed = reader.ledger.list(prefix, None, COMMITTEES_MAX).await;
    for (_, value) in listed.map_err(read_failure)? {
        let committee = CommitteeEntry::decode(&value)
            .and_then(|entry| Committee::decode(&entry.committee))
            .ok()
            .filter(|committee| committee.threshold == threshold && committee.members == members);
        let Some(id) = committee.map(|committee| committee.id(deployment)) else {
            continue;
        };
        // The listing is nobody's word; the entry is proved.
        let key = StateKey::Committee(id);
        if reader.record::<CommitteeEntry>(key).await?.is_some() {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Signs the decisions as the deployment's one governor, and brings them in order.
///
/// # Errors
/// Refused when this identity does not govern, and whatever the ledger says.
async fn carry_out(
    ledger: &LedgerClient,
    genesis: &Genesis,
    identity: &Identity,
    plan: &Plan,
) -> Outcome {
    let mut reader = reader(ledger, genesis);
    let governance = governance(&mut reader).await?;
    let me = identity.principal();
    let present = governance.at(reader.now);
    if present.k() != 1 || !present.keys().contains(&me) {
        return Err(Failure::new(
            Exit::Refused,
            "not_governor",
            format!(
                "{me} alone does not govern this ledger: {} of {} other keys decide",
                present.k(),
                present.keys().len()
            ),
        ));
    }
    let account = reader.record::<Account>(StateKey::Account(me)).await?;
    let first = account.map_or(0, |account| account.nonce);
    let numbers = (first..).zip(governance.sequence..);
    for ((nonce, sequence), (words, change)) in numbers.zip(&plan.changes) {
        // By the validator's clock, which may be another than this machine's.
        let expires = TimestampMs(reader.now.0.saturating_add(LIFETIME_MS));
        let decision = Decision {
            chain: genesis.hash(),
            sequence,
            expires,
            change: change.clone(),
        };
        let govern = Govern {
            decision: decision.encode(),
            signatures: vec![decision.sign(identity, &genesis.deployment)],
        };
        let transaction = Transaction {
            chain: genesis.hash(),
            sender: me,
            nonce,
            expires: Expiry::Time(expires),
            action: Action::Govern(govern),
        };
        let signed = SignedTransaction::sign(identity, &genesis.deployment, transaction);
        let submitted = ledger.submit(signed.encode().into()).await;
        submitted.map_err(|error: SubmitError| {
            Failure::new(
                Exit::Refused,
                "ledger_refused",
                format!("the ledger did not {words}: {error}"),
            )
        })?;
        tracing::info!(decision = %words, "governance decided");
    }
    Ok(())
}

/// Everything that provisioning needs of a running deployment.
#[derive(Clone, Debug)]
pub struct Provisioning {
    /// The way to the ledger.
    pub ledger: LedgerClient,
    /// What it began with.
    pub genesis: Arc<Genesis>,
    /// The enclaves.
    pub enclaves: Enclaves,
}

impl Provisioning {
    /// What is missing.
    ///
    /// # Errors
    /// As [`plan`].
    pub async fn plan(&self) -> Outcome<Plan> {
        plan(&self.ledger, &self.genesis, &self.enclaves).await
    }

    /// Brings the changes of a plan in order, signed by `identity`.
    ///
    /// # Errors
    /// As [`carry_out`].
    pub async fn carry_out(&self, identity: &Identity, plan: &Plan) -> Outcome {
        carry_out(&self.ledger, &self.genesis, identity, plan).await
    }
}
