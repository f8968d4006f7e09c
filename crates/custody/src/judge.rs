//! Whether a custodian releases its part of an opening. Each custodian decides alone, from what the asker brings and what its own
//! store and its own view of the ledger say; anything that is unclear is a no.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use attestation::Role;
use crypto::context::EncryptionContext;
use crypto::kem::{CiphertextParts, DhCiphertext, PqCiphertextHash};
use crypto::{Identity, Secret};
use domain::{Height, KeyId, KeyVersion, Principal, ShareIndex, TimestampMs};
use ledger::records::{KeyState, KeyStatus, Operations, VersionStatement};
use rand_core::CryptoRng;
use sealed::signed::{Content, Signed};
use threshold::partial::VerifiedCiphertext;
use threshold::pq::PQ_SHARE_BYTES;
use threshold::{CustodianRecord, Partial};

use crate::answer::SealedPartials;
use crate::audit::AuditedOperation;
use crate::cache::Cache;
use crate::proof::{LedgerName, LedgerProof, Shown, VerifiedCreation, VerifiedVersion};
use crate::reason::{Denial, Reason};
use crate::replay::{AUDITS_MAX, AUDITS_OF_ONE_MAX, ReplayWindow};
use crate::request::{
    AHEAD_MS_MAX, AUDIT_PAGE_MAX, AuditRequest, DecryptRequest, LIFETIME_MS_MAX, RequestHash,
    request_hash,
};
use crate::view::LedgerView;

/// Verified records that are remembered, of each kind: at most twice as many.
const CACHED: usize = 2_048;

/// What names a custodian's share: one sharing of one attempt at a key version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareName {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Which attempt at the version.
    pub fencing: u64,
}

impl From<&VersionStatement> for ShareName {
    fn from(statement: &VersionStatement) -> Self {
        Self {
            key: statement.key,
            version: statement.version,
            fencing: statement.fencing,
        }
    }
}

/// A custodian's shares, as it finds them in its store.
pub trait Shares {
    /// The share of that name; `None` when there is none.
    ///
    /// # Errors
    /// [`Reason::Storage`] when it cannot be read.
    fn share(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial>;
}

/// A ciphertext as a custodian is sent it.
#[derive(Clone, Copy, Debug)]
pub struct CiphertextBytes<'a> {
    /// u, u-bar, w, w-bar, f: 160 bytes.
    pub dh: &'a [u8],
    /// Hash of the ML-KEM ciphertext.
    pub pq_hash: &'a [u8],
    /// [`EncryptionContext::encode`].
    pub context: &'a [u8],
}

/// A question, as it came.
#[derive(Clone, Debug)]
pub struct Ask<'a> {
    /// What the peer that brings it has proved to be.
    pub peer: Role,
    /// A signed [`DecryptRequest`].
    pub request: &'a [u8],
    /// The ciphertexts, in the request's order.
    pub ciphertexts: &'a [CiphertextBytes<'a>],
    /// Creation, status and version of the key, and the asker's grants.
    pub proof: &'a LedgerProof<'a>,
}

/// What can be said of a question, whatever was decided: for the audit log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What was asked for.
    pub operation: AuditedOperation,
    /// Who asked, as the request says.
    pub principal: Option<Principal>,
    /// Whether the request has that principal's signature.
    pub verified: bool,
    /// The key.
    pub key: Option<KeyId>,
    /// The version.
    pub version: Option<KeyVersion>,
    /// How many ciphertexts.
    pub count: u32,
    /// The request.
    pub request: Option<RequestHash>,
}

impl Facts {
    /// Nothing yet but what is asked for.
    #[must_use]
    pub fn of(operation: AuditedOperation) -> Self {
        Self {
            operation,
            principal: None,
            verified: false,
            key: None,
            version: None,
            count: 0,
            request: None,
        }
    }
}

/// A decision, and what it was about.
#[derive(Debug)]
pub struct Verdict<T> {
    /// What it was about.
    pub facts: Facts,
    /// What may be done, or why nothing is.
    pub outcome: Result<T, Denial>,
}

/// A custodian's judgement.
#[derive(Debug)]
pub struct Judge {
    name: LedgerName,
    me: Principal,
    creations: Cache<VerifiedCreation>,
    versions: Cache<VerifiedVersion>,
    replay: Mutex<ReplayWindow>,
    /// Its own, so that whoever reads logs does not keep anybody from decrypting.
    audits: Mutex<ReplayWindow>,
}

/// A request that is to be answered. Everything was checked, and the request is remembered as answered.
#[derive(Debug)]
pub struct Permit {
    request: DecryptRequest,
    hash: RequestHash,
    share: ShareName,
    record: CustodianRecord,
    ciphertexts: Vec<VerifiedCiphertext>,
    /// The height of the proofs that it was judged by.
    height: Height,
    /// The ledger's time at which a grant that it rests on ends.
    granted_until: Option<TimestampMs>,
    creation: Arc<VerifiedCreation>,
    status: KeyStatus,
    version: Arc<VerifiedVersion>,
}

/// A custodian's answer.
#[derive(Debug)]
pub struct Release {
    /// Which share.
    pub index: ShareIndex,
    /// The threshold leg's part, for the recipient alone.
    pub partials: SealedPartials,
    /// The post-quantum leg's share with its opening, for the worker alone.
    pub pq_share: Secret<PQ_SHARE_BYTES>,
}

/// A page of the audit log that is to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPermit {
    /// The request.
    pub request: AuditRequest,
    /// Its hash.
    pub hash: RequestHash,
    /// Whether every entry is shown in full: to governance.
    pub all: bool,
    /// Keys whose entries are: the asker's.
    pub keys: Vec<KeyId>,
}

impl AuditPermit {
    /// Whether entries about others' requests may be shown: the asker owns keys that it has shown, or governs.
    #[must_use]
    pub fn is_entitled(&self) -> bool {
        self.all || !self.keys.is_empty()
    }

    /// Whether an entry about `key`, asked for by `principal` (whose signature was good), is shown in full.
    #[must_use]
    pub fn shows(&self, key: Option<KeyId>, principal: Option<Principal>) -> bool {
        if self.request.key.is_some_and(|wanted| key != Some(wanted)) {
            return false;
        }
        self.all
            || key.is_some_and(|key| self.keys.contains(&key))
            || principal == Some(self.request.principal)
    }
}

impl Judge {
    /// Judges as the custodian `me`, for one ledger.
    #[must_use]
    pub fn new(name: LedgerName, me: Principal) -> Self {
        Self {
            name,
            me,
            creations: Cache::new(CACHED),
            versions: Cache::new(CACHED),
            replay: Mutex::default(),
            audits: Mutex::new(ReplayWindow::bounded(AUDITS_MAX, AUDITS_OF_ONE_MAX)),
        }
    }

    /// With another memory of what was answered.
    #[must_use]
    pub fn with_window(self, window: ReplayWindow) -> Self {
        Self {
            replay: Mutex::new(window),
            ..self
        }
    }

    /// Remembers a request that was answered before this process began, as its audit log says.
    pub fn remember(&self, request: RequestHash, principal: Principal, answered: TimestampMs) {
        let expires = TimestampMs(answered.0.saturating_add(LIFETIME_MS_MAX + AHEAD_MS_MAX));
        // Full or known: then it is refused anyway.
        let _ = self
            .replay()
            .take(request, principal, expires, TimestampMs(0));
    }

    /// Decides about a request to decrypt. The order of the checks is that of `docs/custody.md`; the first that fails is the reason.
    pub fn decrypt(
        &self,
        view: &dyn LedgerView,
        shares: &dyn Shares,
        ask: &Ask<'_>,
        rng: &mut dyn CryptoRng,
    ) -> Verdict<Permit> {
        let mut facts = Facts::of(AuditedOperation::Decrypt);
        let outcome = self.judge(view, shares, ask, rng, &mut facts);
        Verdict { facts, outcome }
    }

    fn judge(
        &self,
        view: &dyn LedgerView,
        shares: &dyn Shares,
        ask: &Ask<'_>,
        rng: &mut dyn CryptoRng,
        facts: &mut Facts,
    ) -> Result<Permit, Denial> {
        // Read first, so that a refusal says what was refused.
        let request = Signed::<DecryptRequest>::decode(ask.request)
            .map_err(|error| Denial::new(Reason::Malformed, error))?;
        let hash = request_hash(&self.name.deployment, &request);
        facts.principal = Some(request.principal);
        facts.key = Some(request.key);
        facts.version = Some(request.version);
        facts.count = u32::try_from(request.kem_hashes.as_slice().len()).unwrap_or(u32::MAX);
        facts.request = Some(hash);
        expect_worker(ask.peer)?;
        if request.job.is_some() {
            return Err(Denial::new(Reason::Malformed, "no jobs are answered yet"));
        }
        let parts = self.parts(ask)?;
        self.check_signature(&request)?;
        facts.verified = true;
        self.check_chain(request.chain)?;
        let shown = self.open(view, ask.proof)?;
        let now = view.time();
        check_window(request.issued, request.expires, now, view.started())?;
        if shown.header().height < request.min_height {
            return Err(Denial::new(
                Reason::ProofStale,
                format_args!("the request asks for height {}", request.min_height),
            ));
        }
        if self.replay().contains(&hash) {
            return Err(Reason::Replayed.into());
        }

        let creation = self.creation(&shown, &request.key)?;
        let granted_until =
            shown.check_chain(&creation, &request.principal, Operations::DECRYPT, now)?;
        let status = shown.status(&request.key)?;
        let version = self.version(&shown, &creation, request.version)?;
        check_state(&creation, &status, &version, now)?;
        let record = self.record(shares, &version)?;

        let hashes = request.kem_hashes.as_slice();
        let same = parts
            .iter()
            .map(|(parts, _)| parts.kem_hash(&self.name.deployment))
            .eq(hashes.iter().copied());
        if !same {
            return Err(Reason::KemHash.into());
        }
        for (_, context) in &parts {
            let policy = &creation.creation.context;
            if let Some(name) = policy.missing(|name| context.get(name).is_some()) {
                let name = name.as_str();
                return Err(Denial::new(Reason::ContextPolicy, format_args!("{name:?}")));
            }
        }
        let parts: Vec<CiphertextParts> = parts.into_iter().map(|(parts, _)| parts).collect();
        let ciphertexts = VerifiedCiphertext::verify_batch(rng, &parts, &version.target)
            .into_iter()
            .enumerate()
            .map(|(at, answer)| {
                answer.map_err(|error| {
                    Denial::new(
                        Reason::CiphertextProof,
                        format_args!("ciphertext {at}: {error}"),
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.replay()
            .take(hash, request.principal, request.expires, now)?;
        Ok(Permit {
            request: (*request).clone(),
            hash,
            share: ShareName::from(&version.statement),
            record,
            ciphertexts,
            height: shown.header().height,
            granted_until,
            creation,
            status,
            version,
        })
    }

    /// Decides about a request for a page of the audit log, and whose entries are shown in it.
    pub fn audit(
        &self,
        view: &dyn LedgerView,
        request: &[u8],
        proof: &LedgerProof<'_>,
    ) -> Verdict<AuditPermit> {
        let mut facts = Facts::of(AuditedOperation::Audit);
        let outcome = self.judge_audit(view, request, proof, &mut facts);
        Verdict { facts, outcome }
    }

    fn judge_audit(
        &self,
        view: &dyn LedgerView,
        request: &[u8],
        proof: &LedgerProof<'_>,
        facts: &mut Facts,
    ) -> Result<AuditPermit, Denial> {
        let request = Signed::<AuditRequest>::decode(request)
            .map_err(|error| Denial::new(Reason::Malformed, error))?;
        let hash = request_hash(&self.name.deployment, &request);
        facts.principal = Some(request.principal);
        facts.key = request.key;
        facts.count = request.limit;
        facts.request = Some(hash);
        if request.limit == 0 || request.limit > AUDIT_PAGE_MAX {
            return Err(Denial::new(
                Reason::Malformed,
                "a page has 1 to 256 entries",
            ));
        }
        self.check_signature(&request)?;
        facts.verified = true;
        self.check_chain(request.chain)?;
        let shown = self.open(view, proof)?;
        let now = view.time();
        check_window(request.issued, request.expires, now, view.started())?;
        let all =
            shown.has(&ledger::StateKey::Governance) && shown.governs(&request.principal, now)?;
        let mut keys = Vec::new();
        for value in &proof.values {
            let Some(key) = created_key(value.key) else {
                continue;
            };
            let creation = self.creation(&shown, &key)?;
            if creation.creation.owner == request.principal {
                keys.push(key);
            }
        }
        let permit = AuditPermit {
            request: (*request).clone(),
            hash,
            all,
            keys,
        };
        // Who is shown nothing of others has nothing to gain from asking twice.
        if permit.is_entitled() {
            let mut audits = self.audits.lock().unwrap_or_else(PoisonError::into_inner);
            audits.take(hash, request.principal, request.expires, now)?;
        }
        Ok(permit)
    }

    /// Opens what an asker shows of the ledger, at a height that counts now.
    ///
    /// # Errors
    /// [`Reason::LedgerStale`], [`Reason::ProofStale`], [`Reason::Proof`].
    pub fn open<'a>(
        &self,
        view: &dyn LedgerView,
        proof: &'a LedgerProof<'a>,
    ) -> Result<Shown<'a>, Denial> {
        if !view.is_fresh() {
            return Err(Reason::LedgerStale.into());
        }
        Shown::open(view, &self.name.deployment, proof)
    }

    /// The key's creation, read once.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn creation(
        &self,
        shown: &Shown<'_>,
        key: &KeyId,
    ) -> Result<Arc<VerifiedCreation>, Denial> {
        let bytes = shown.creation_bytes(key)?;
        let deployment = &self.name.deployment;
        let creation = self
            .creations
            .get_or(bytes, || VerifiedCreation::read(deployment, key, bytes))?;
        // A creation that was read for its own key, and is shown under another one.
        if creation.key != *key {
            return Err(Denial::new(Reason::Proof, "the creation of another key"));
        }
        Ok(creation)
    }

    /// The version's entry, read once; own signature in it included.
    fn version(
        &self,
        shown: &Shown<'_>,
        creation: &VerifiedCreation,
        version: KeyVersion,
    ) -> Result<Arc<VerifiedVersion>, Denial> {
        let Some(bytes) = shown.version_bytes(&creation.key, version)? else {
            return Err(Denial::new(
                Reason::KeyState,
                "the version was never activated",
            ));
        };
        let deployment = &self.name.deployment;
        let read = self.versions.get_or(bytes, || {
            let read = VerifiedVersion::read(deployment, creation, version, bytes)?;
            // Whatever the ledger says: no share is used for public keys that this custodian has not signed for.
            let own = read.entry.acknowledgements.iter().any(|acknowledgement| {
                read.statement
                    .verify_acknowledgement(&self.me, deployment, acknowledgement)
                    .is_ok()
            });
            if own {
                Ok(read)
            } else {
                Err(Denial::from(Reason::NotAMember))
            }
        })?;
        if (read.statement.key, read.statement.version) != (creation.key, version) {
            return Err(Reason::VersionMismatch.into());
        }
        Ok(read)
    }

    /// The own share that the entry is about.
    fn record(
        &self,
        shares: &dyn Shares,
        version: &VerifiedVersion,
    ) -> Result<CustodianRecord, Denial> {
        let record = shares
            .share(&ShareName::from(&version.statement))?
            .ok_or(Reason::UnknownShare)?;
        let sharing = record.sharing();
        if (sharing.epoch, sharing.committee) != (version.entry.epoch, version.entry.committee) {
            return Err(Denial::new(
                Reason::Epoch,
                format_args!(
                    "own {}, the ledger's {}",
                    sharing.epoch, version.entry.epoch
                ),
            ));
        }
        if record.slot().standby {
            return Err(Denial::new(Reason::NotAMember, "a standby"));
        }
        let index = record.slot().index;
        let listed = version.commitments.entry(index);
        let hash = listed.map(|entry| entry.hash(version.commitments.sharing(), index));
        if sharing != version.commitments.sharing() || hash != Some(*record.share_hash()) {
            return Err(Reason::UnknownShare.into());
        }
        Ok(record)
    }

    /// Ciphertexts and their contexts, one for each hash that was signed.
    fn parts(&self, ask: &Ask<'_>) -> Result<Vec<(CiphertextParts, EncryptionContext)>, Denial> {
        if ask.ciphertexts.len() > crate::request::CIPHERTEXTS_MAX {
            return Err(Denial::new(Reason::Malformed, "too many ciphertexts"));
        }
        let malformed = |what: &str| Denial::new(Reason::Malformed, what);
        ask.ciphertexts
            .iter()
            .map(|ciphertext| {
                let context = EncryptionContext::decode(ciphertext.context)
                    .map_err(|error| Denial::new(Reason::Malformed, error))?;
                let dh = ciphertext.dh.try_into();
                let pq = ciphertext.pq_hash.try_into();
                let parts = CiphertextParts {
                    dh: DhCiphertext::from_bytes(
                        dh.map_err(|_| malformed("a ciphertext's length"))?,
                    ),
                    pq: PqCiphertextHash(pq.map_err(|_| malformed("a hash's length"))?),
                    context: context.hash(&self.name.deployment),
                };
                Ok((parts, context))
            })
            .collect()
    }

    fn check_signature<T: Content>(&self, request: &Signed<T>) -> Result<(), Denial> {
        request
            .verify_signature(&self.name.deployment)
            .map_err(|_| Reason::Signature.into())
    }

    fn check_chain(&self, chain: domain::GenesisHash) -> Result<(), Denial> {
        if chain == self.name.genesis {
            Ok(())
        } else {
            Err(Reason::OtherLedger.into())
        }
    }

    fn replay(&self) -> MutexGuard<'_, ReplayWindow> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// The request's hash.
    #[must_use]
    pub fn hash(&self) -> &RequestHash {
        &self.hash
    }

    /// The share that answers: the ledger has shown it to be of the active version.
    #[must_use]
    pub fn share(&self) -> &ShareName {
        &self.share
    }

    /// Whether the decision still stands: to be asked right before the answer leaves. While it was computed and written down, a height may
    /// have been confirmed above the proofs that it rests on, or a time have passed that ends it.
    ///
    /// # Errors
    /// [`Reason::LedgerStale`], [`Reason::ProofStale`], [`Reason::Expired`], [`Reason::NotGranted`], [`Reason::KeyState`].
    pub fn check_again(&self, view: &dyn LedgerView) -> Result<(), Denial> {
        if !view.is_fresh() {
            return Err(Reason::LedgerStale.into());
        }
        let floor = view.floor();
        if self.height < floor {
            return Err(Denial::new(
                Reason::ProofStale,
                format_args!("meanwhile height {floor} was confirmed"),
            ));
        }
        let now = view.time();
        if now >= self.request.expires {
            return Err(Denial::new(Reason::Expired, "meanwhile"));
        }
        if self.granted_until.is_some_and(|until| now >= until) {
            return Err(Denial::new(
                Reason::NotGranted,
                "the grant has expired meanwhile",
            ));
        }
        check_state(&self.creation, &self.status, &self.version, now)
    }

    /// Computes the answer.
    ///
    /// # Errors
    /// [`Reason::Malformed`] when the request's X25519 key cannot be sealed to.
    pub fn release(
        &self,
        custodian: &Identity,
        rng: &mut dyn CryptoRng,
    ) -> Result<Release, Denial> {
        let partials = self
            .ciphertexts
            .iter()
            .map(|ciphertext| {
                Partial::make(self.record.dh(), ciphertext, &self.hash.0, rng)
                    .map_err(|error| Denial::new(Reason::CiphertextProof, error))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let index = self.record.slot().index;
        let request = (&self.request, &self.hash);
        let sharing = self.record.sharing();
        let partials = SealedPartials::seal(rng, custodian, sharing, index, request, &partials)
            .map_err(|error| Denial::new(Reason::Malformed, error))?;
        Ok(Release {
            index,
            partials,
            pq_share: self.record.pq().to_secret(),
        })
    }
}

/// Questions about shares are a worker's.
///
/// # Errors
/// [`Reason::PeerRole`].
pub fn expect_worker(peer: Role) -> Result<(), Denial> {
    match peer {
        Role::Worker => Ok(()),
        Role::Client | Role::Custodian => Err(Reason::PeerRole.into()),
    }
}

/// Whether a request may be answered at `now`.
pub(crate) fn check_window(
    issued: TimestampMs,
    expires: TimestampMs,
    now: TimestampMs,
    started: Option<TimestampMs>,
) -> Result<(), Denial> {
    let lifetime = expires.0.checked_sub(issued.0);
    if lifetime.is_none_or(|lifetime| lifetime > LIFETIME_MS_MAX) || now >= expires {
        return Err(Denial::new(
            Reason::Expired,
            format_args!("it is {} by the ledger", now.0),
        ));
    }
    if issued.0 > now.0.saturating_add(AHEAD_MS_MAX) {
        return Err(Denial::new(
            Reason::TooEarly,
            format_args!("it is {} by the ledger", now.0),
        ));
    }
    if started.is_none_or(|started| issued < started) {
        return Err(Reason::Replayed.into());
    }
    Ok(())
}

fn check_state(
    creation: &VerifiedCreation,
    status: &KeyStatus,
    version: &VerifiedVersion,
    now: TimestampMs,
) -> Result<(), Denial> {
    if status.owner != creation.creation.owner {
        return Err(Denial::new(Reason::Proof, "the status names another owner"));
    }
    if status.suspended {
        return Err(Reason::Suspended.into());
    }
    if version.statement.version < status.min_decrypt {
        return Err(Denial::new(
            Reason::BelowMinimum,
            format_args!("the least is {}", status.min_decrypt),
        ));
    }
    for state in [status.state(now), version.entry.state(now)] {
        if !state.decrypts() {
            let state = match state {
                KeyState::Pending => "pending",
                KeyState::Active | KeyState::Retiring { .. } => "open",
                KeyState::Retired => "retired",
                KeyState::Destroyed => "destroyed",
            };
            return Err(Denial::new(Reason::KeyState, state));
        }
    }
    Ok(())
}

/// The key whose creation a state key names.
fn created_key(state_key: &[u8]) -> Option<KeyId> {
    let id = KeyId(state_key.get(1..)?.try_into().ok()?);
    (ledger::StateKey::KeyCreation(id).encode() == state_key).then_some(id)
}
