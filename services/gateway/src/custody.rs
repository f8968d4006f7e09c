//! The way to custodians and workers, and what is shown them of the ledger.
//!
//! The gateway is a courier here: requests are signed by clients, answers are sealed to them, and what it shows of the ledger
//! proves itself. It holds attested sessions as a client that proves nothing, so that nobody else can pretend to be an enclave
//! to it; what it could do is stay silent.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ::custody::Reason;
use attested::{Endpoint, Local, Trust};
use bytes::Bytes;
use domain::{CommitteeId, DeploymentId, Height, KeyId, KeyVersion, Principal, Slot};
use enclave_client::{CallError, Peer, Pool, Settings};
use enclave_wire::v1;
use ledger::port::{Answer as LedgerAnswer, Freshness, LIST_MAX, Ledger as _};
use ledger::records::{
    Committee, CommitteeEntry, GrantEntry, KeyCreation, KeyGrant, KeyStatus, VersionEntry, grant,
};
use ledger::{Record as _, StateKey, StatePrefix};
use relay::View;
use sealed::signed::Signed;
use transport::LedgerClient;
use wire::problem::{Code, Problem};

use crate::config::CustodyConfig;
use crate::http::Answer;
use crate::http::answer::Failure;

/// How long opening ciphertexts may take.
const DECRYPT_PATIENCE: Duration = Duration::from_secs(10);
/// How long making a key version may take.
const DEAL_PATIENCE: Duration = Duration::from_secs(60);
/// How long a custodian may take to confirm, or to show its log.
const CUSTODIAN_PATIENCE: Duration = Duration::from_secs(5);
/// Keys of one owner whose audit records are asked for at once.
const AUDITED_KEYS_MAX: usize = 56;

/// Key versions whose committee is remembered.
const COMMITTEES_CACHED: u64 = 10_000;

/// Sessions with custodians and workers.
pub struct Custody {
    custodians: Pool,
    slots: Vec<Slot>,
    workers: Pool,
    /// The worker whose turn it is.
    turn: AtomicUsize,
    ledger: LedgerClient,
    deployment: DeploymentId,
    /// Who holds which version. Out of date for a minute at most after a committee was replaced: then custodians refuse.
    committees: moka::sync::Cache<(KeyId, KeyVersion), CommitteeId>,
    /// Keeps the policy up to date that sessions are held to.
    _view: View,
}

impl fmt::Debug for Custody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Custody")
            .field("custodians", &self.custodians)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// Why there are no sessions.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// An address that cannot be read.
    #[error("the address of an enclave: {0}")]
    Address(#[from] enclave_client::AddressError),
    /// TLS refuses its settings.
    #[error(transparent)]
    Session(#[from] attested::SessionError),
}

impl Custody {
    /// Begins to connect to everybody.
    ///
    /// # Errors
    /// [`CustodyError`].
    pub async fn start(config: &CustodyConfig, ledger: LedgerClient) -> Result<Self, CustodyError> {
        let relay = relay::RelayClient::new(&config.relay);
        let genesis = Arc::clone(&config.genesis);
        let view = View::start(relay, Arc::clone(&genesis), relay::Options::default()).await;
        let trust = Trust {
            deployment: genesis.deployment,
            verifiers: relay::verifiers(&genesis),
            policy: view.policy(),
            now: view.clock(),
        };
        let limits = enclave_client::session_limits();
        let endpoint = Arc::new(Endpoint::new(Local::Client, trust, limits)?);
        let address = |text: &str| text.parse::<enclave_client::Address>();
        let custodians = config
            .custodians
            .iter()
            .map(|one| Ok((one.principal, address(&one.address)?)))
            .collect::<Result<Vec<_>, CustodyError>>()?;
        let workers = config
            .workers
            .iter()
            .map(|one| Ok((one.principal, address(&one.address)?)))
            .collect::<Result<Vec<_>, CustodyError>>()?;
        let pool = |role, peers| Pool::start(&endpoint, role, peers, Settings::default());
        Ok(Self {
            custodians: pool(attestation::Role::Custodian, custodians),
            slots: config.custodians.iter().map(|one| one.slot).collect(),
            workers: pool(attestation::Role::Worker, workers),
            turn: AtomicUsize::new(0),
            ledger,
            deployment: genesis.deployment,
            committees: moka::sync::Cache::builder()
                .max_capacity(COMMITTEES_CACHED)
                .time_to_live(Duration::from_secs(60))
                .build(),
            _view: view,
        })
    }

    /// Custodians with their slots.
    pub fn custodians(&self) -> impl Iterator<Item = (Slot, &Arc<Peer>)> {
        self.slots.iter().copied().zip(self.custodians.peers())
    }

    /// Workers.
    pub fn workers(&self) -> &[Arc<Peer>] {
        self.workers.peers()
    }

    /// The workers that are connected, each time another one first; all of them when none is.
    fn next_workers(&self) -> Vec<&Arc<Peer>> {
        let mut workers: Vec<&Arc<Peer>> = self.workers.peers().iter().collect();
        let count = workers.len().max(1);
        workers.rotate_left(self.turn.fetch_add(1, Ordering::Relaxed) % count);
        if workers.iter().any(|worker| worker.is_connected()) {
            workers.retain(|worker| worker.is_connected());
        }
        workers
    }

    /// Has a worker open ciphertexts. One that cannot be reached is passed over; one that may have begun is not, since
    /// custodians answer a request once.
    ///
    /// # Errors
    /// The worker's refusal, or that none answers.
    pub async fn decrypt(&self, question: v1::Decrypt) -> Answer<v1::Opened> {
        let mut last = None;
        for worker in self.next_workers() {
            match worker.decrypt(question.clone(), DECRYPT_PATIENCE).await {
                Ok(opened) => return Ok(opened),
                Err(error @ CallError::Unreachable(_)) => last = Some(error),
                Err(error) => return Err(failure(&error)),
            }
        }
        Err(nobody("worker", last))
    }

    /// Has a worker make the pending version of a key. An attempt that failed half-way is given up by the custodians by
    /// themselves.
    ///
    /// # Errors
    /// The worker's refusal, or that none answers.
    pub async fn deal(&self, question: v1::DealVersion) -> Answer<v1::DealtVersion> {
        let mut last = None;
        for worker in self.next_workers() {
            match worker.deal_version(question.clone(), DEAL_PATIENCE).await {
                Ok(dealt) => return Ok(dealt),
                Err(error @ CallError::Unreachable(_)) => last = Some(error),
                Err(error) => return Err(failure(&error)),
            }
        }
        Err(nobody("worker", last))
    }

    /// Tells all custodians of a height, and what each said.
    pub async fn confirm(
        &self,
        question: &v1::Confirm,
    ) -> Vec<(Slot, Result<v1::Confirmed, CallError>)> {
        let asked = self.custodians().map(|(slot, peer)| async move {
            let answer = peer.confirm(question.clone(), CUSTODIAN_PATIENCE).await;
            (slot, answer)
        });
        futures_util::future::join_all(asked).await
    }

    /// A page of one custodian's audit log.
    ///
    /// # Errors
    /// Not found, the custodian's refusal, or that it does not answer.
    pub async fn audit(&self, place: (u8, bool), question: v1::Audit) -> Answer<v1::AuditPage> {
        let (_, peer) = self
            .custodians()
            .find(|(slot, _)| (slot.index.get(), slot.standby) == place)
            .ok_or_else(|| Failure::not_found("custodian"))?;
        peer.audit(question, CUSTODIAN_PATIENCE)
            .await
            .map_err(|error| failure(&error))
    }

    /// Committees that the ledger admits and whose members are all custodians of this gateway's. Not proved.
    ///
    /// # Errors
    /// That the ledger does not answer.
    pub async fn committees(&self) -> Answer<Vec<CommitteeId>> {
        let listed = self
            .ledger
            .list(StatePrefix::Committees, None, LIST_MAX)
            .await?;
        let ours = |key: &Principal| self.custodians.get(key).is_some();
        let committees = listed.iter().filter_map(|(_, value)| {
            let entry = CommitteeEntry::decode(value).ok()?;
            let committee = Committee::decode(&entry.committee).ok()?;
            let all = committee.members.iter().all(|member| ours(&member.key));
            all.then(|| committee.id(&self.deployment))
        });
        Ok(committees.collect())
    }

    /// What custodians and workers ask to see before they answer `principal` for a key version: creation, status and version of
    /// the key, the committee that holds it, and grants from the principal up to the owner. Of one height, at least `min_height`.
    ///
    /// # Errors
    /// That there is no such key, or the ledger does not answer.
    pub async fn proof_for_release(
        &self,
        key: KeyId,
        version: KeyVersion,
        principal: Principal,
        min_height: Height,
    ) -> Answer<v1::LedgerProof> {
        let keys = vec![
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, version),
            StateKey::Committee(self.committee_of(key, version).await?),
        ];
        self.with_chain(keys, key, principal, min_height).await
    }

    /// Proves `keys`, of which the first is the key's creation, and the grants from `principal` up to the owner.
    async fn with_chain(
        &self,
        mut keys: Vec<StateKey>,
        key: KeyId,
        principal: Principal,
        min_height: Height,
    ) -> Answer<v1::LedgerProof> {
        let fixed = keys.len();
        keys.push(StateKey::KeyGrant(key, principal));
        loop {
            let answer = self.read(&keys, min_height).await?;
            let owner = owner_of(&answer)?;
            // Up the chain, as far as it can be read from what is there.
            let mut holder = principal;
            let mut links = 0;
            while holder != owner && links < grant::CHAIN_LINKS_MAX {
                let Some(granted_by) = granter(&answer, fixed + links) else {
                    break;
                };
                links += 1;
                holder = granted_by;
                if holder != owner && fixed + links == keys.len() && links < grant::CHAIN_LINKS_MAX
                {
                    keys.push(StateKey::KeyGrant(key, holder));
                }
            }
            if keys.len() == answer.values.len() {
                return Ok(proof_of(&keys, answer));
            }
        }
    }

    /// Who holds a version: asked for once, since the proof comes with each request.
    async fn committee_of(&self, key: KeyId, version: KeyVersion) -> Answer<CommitteeId> {
        if let Some(committee) = self.committees.get(&(key, version)) {
            return Ok(committee);
        }
        let answer = self
            .read(&[StateKey::KeyVersion(key, version)], Height(0))
            .await?;
        let entry = answer
            .values
            .first()
            .and_then(|proved| VersionEntry::decode(proved.value.as_ref()?).ok())
            .ok_or_else(|| Failure::not_found("version of the key"))?;
        self.committees.insert((key, version), entry.committee);
        Ok(entry.committee)
    }

    /// What custodians and workers ask to see before a version is made: creation, status, that there is no such version yet, the
    /// committee, and the asker's grants.
    ///
    /// # Errors
    /// That there is no such key or nothing pending, or the ledger does not answer.
    pub async fn proof_for_deal(
        &self,
        key: KeyId,
        principal: Principal,
    ) -> Answer<v1::LedgerProof> {
        let mut keys = vec![StateKey::KeyCreation(key), StateKey::KeyStatus(key)];
        let answer = self.read(&keys, Height(0)).await?;
        owner_of(&answer)?;
        let status = answer.values.get(1).and_then(|proved| {
            let bytes = proved.value.as_ref()?;
            KeyStatus::decode(bytes).ok()
        });
        let pending = status.and_then(|status| status.pending).ok_or_else(|| {
            Failure::new(
                Code::Conflict,
                "no version of this key is pending: begin one first",
            )
        })?;
        keys.push(StateKey::KeyVersion(key, pending.version));
        keys.push(StateKey::Committee(pending.committee));
        self.with_chain(keys, key, principal, Height(0)).await
    }

    /// What a custodian asks to see before it shows its log: who governs, and the creations of the keys in question.
    ///
    /// # Errors
    /// That the ledger does not answer.
    pub async fn proof_for_audit(
        &self,
        principal: Principal,
        key: Option<KeyId>,
    ) -> Answer<v1::LedgerProof> {
        let mut keys = vec![StateKey::Governance];
        match key {
            Some(key) => keys.push(StateKey::KeyCreation(key)),
            None => {
                let names = StatePrefix::KeyNames(principal);
                let own = self.ledger.list(names, None, AUDITED_KEYS_MAX).await?;
                keys.extend(own.iter().filter_map(|(_, id)| {
                    let id = <[u8; 32]>::try_from(id.as_ref()).ok()?;
                    Some(StateKey::KeyCreation(KeyId(id)))
                }));
            }
        }
        let answer = self.read(&keys, Height(0)).await?;
        Ok(proof_of(&keys, answer))
    }

    async fn read(&self, keys: &[StateKey], at_least: Height) -> Answer<LedgerAnswer> {
        let freshness = match at_least {
            Height(0) => Freshness::Local,
            height => Freshness::AtLeast(height),
        };
        let keys: Vec<Bytes> = keys.iter().map(|key| key.encode().into()).collect();
        let answer = self.ledger.read(keys, freshness).await?;
        Ok(answer)
    }
}

/// By the creation, which is the first value.
fn owner_of(answer: &LedgerAnswer) -> Answer<Principal> {
    let creation = answer
        .values
        .first()
        .and_then(|proved| proved.value.as_ref())
        .ok_or_else(|| Failure::not_found("key"))?;
    Signed::<KeyCreation>::decode(creation)
        .map(|creation| creation.owner)
        .map_err(|error| Failure::internal(format!("a key's creation in the ledger: {error}")))
}

/// Who granted the grant at that place, if there is one.
fn granter(answer: &LedgerAnswer, place: usize) -> Option<Principal> {
    let value = answer.values.get(place)?.value.as_ref()?;
    let entry = GrantEntry::decode(value).ok()?;
    let grant = Signed::<KeyGrant>::decode(&entry.grant).ok()?;
    Some(grant.granted_by)
}

fn proof_of(keys: &[StateKey], answer: LedgerAnswer) -> v1::LedgerProof {
    let values = keys.iter().zip(answer.values);
    v1::LedgerProof {
        header: answer.last.header.encode().into(),
        certificate: answer.last.certificate.encode().into(),
        values: values
            .map(|(key, proved)| v1::ProvedValue {
                key: key.encode().into(),
                value: proved.value,
                proof: proved.proof.encode().into(),
            })
            .collect(),
    }
}

/// An enclave's refusal, or its silence, as an answer.
fn failure(error: &CallError) -> Failure {
    let refusal = error.to_refusal();
    let code = match error {
        CallError::Refused(_) if !refusal.retry => Code::CustodyRefused,
        // A reason of custodians' that passes; anything else that may pass is somebody's silence.
        CallError::Refused(_) if refusal.code.parse::<Reason>().is_ok() => Code::Unavailable,
        CallError::TimedOut(_) => Code::Timeout,
        _ => Code::NotEnoughCustodians,
    };
    Failure::from(Problem::new(code, refusal.detail).with("reason", refusal.code))
}

fn nobody(what: &str, last: Option<CallError>) -> Failure {
    tracing::warn!(
        reason = last.map(|error| error.to_string()),
        "no {what} can be reached"
    );
    Failure::from(
        Problem::new(
            Code::NotEnoughCustodians,
            format!("no {what} can be reached: try again, and see `strongroom admin status`"),
        )
        .with("reason", "unreachable"),
    )
}
