//! What a custodian answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attestation::Role;
use bytes::Bytes;
use crypto::{Identity, Secret};
use custody::judge::expect_worker;
use custody::proof::{read_header, refused_header};
use custody::request::{AHEAD_MS_MAX, LIFETIME_MS_MAX};
use custody::version::{Fate, Part, check_deal, check_show, fate};
use custody::{
    Ask, AuditedOperation, Decision, Denial, Facts, Judge, LedgerName, Rations, Reason,
    RequestHash, ShareName,
};
use domain::{DeploymentId, Height, PlatformType, Principal};
use enclave_client::{Answering, Asker, Refusal};
use enclave_wire::proof::borrow;
use enclave_wire::v1::{self, answer::Outcome, question};
use enclave_wire::{CEREMONY_BYTES_MAX, CEREMONY_MESSAGES_MAX, secrets};
use ledger::records::{KeyStatus, VersionEntry, VersionStatement};
use ledger::{Certificate, Header, Record as _, StateKey};
use rand_core::CryptoRng;
use relay::View;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::anchoring::Anchoring;
use crate::audit_log::{AuditLog, Decided};
use crate::ceremonies::{Ceremonies, KeepOutcome, TICK};
use crate::config::Bounds;
use crate::convert;
use crate::counters::Counters;
use crate::store::{Store, StoreError};
use crate::versions::Versions;

/// How often open attempts are compared with the ledger, and how many at a time.
const SETTLE_EVERY: Duration = Duration::from_secs(30);
const SETTLE_MAX: usize = 16;
/// Between two confirmed heights that raise the floor.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Requests that are looked up in the audit log at the start, at most.
const REMEMBERED_MAX: usize = custody::replay::REMEMBERED_MAX;

/// What it is, for whoever asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What protects it.
    pub platform: PlatformType,
    /// Which code it runs.
    pub measurement: Vec<u8>,
}

/// A custodian.
pub struct Custodian {
    inner: Arc<Inner>,
    bounds: Bounds,
}

pub(crate) struct Inner {
    pub(crate) name: LedgerName,
    pub(crate) me: Identity,
    pub(crate) principal: Principal,
    about: About,
    pub(crate) view: View,
    judge: Judge,
    versions: Versions,
    ceremonies: Ceremonies,
    pub(crate) audit: AuditLog,
    pub(crate) anchoring: Anchoring,
    pub(crate) counters: Counters,
    rations: Mutex<Rations>,
    computing: Semaphore,
    confirming: Confirming,
}

/// Raises the floor at most once in [`CONFIRM_EVERY`], to the highest height that was asked for: whoever confirms every block as it
/// comes would otherwise make everybody's proofs too old before they arrive.
#[derive(Default)]
struct Confirming {
    highest: Mutex<Option<(Header, Certificate)>>,
    raised: tokio::sync::Mutex<Option<Instant>>,
}

/// The system's randomness; the process ends when there is none.
pub(crate) fn rng() -> impl CryptoRng {
    getrandom::rand_core::UnwrapErr(getrandom::SysRng)
}

impl Custodian {
    /// Continues from what the store holds. Blocks while the disk works.
    ///
    /// # Errors
    /// [`StoreError`], also when memory cannot be locked.
    pub fn new(
        store: Arc<Store>,
        me: Identity,
        view: View,
        about: About,
        bounds: Bounds,
    ) -> Result<Self, CustodianError> {
        let name = LedgerName::from(view.genesis().as_ref());
        let found = store.load()?;
        let audit = AuditLog::open(
            store.clone(),
            name.deployment,
            found.audit,
            bounds.audit_records_max,
            bounds.denials_per_second,
        )?;
        let judge = Judge::new(name, me.principal());
        audit.recent(
            LIFETIME_MS_MAX + AHEAD_MS_MAX,
            REMEMBERED_MAX,
            |request, principal, time| judge.remember(RequestHash(request.0), principal, time),
        )?;
        tracing::info!(
            principal = %me.principal(), shares = found.shares, open = found.open.len(),
            audit = audit.head().sequence, "the sealed store is open"
        );
        let versions = Versions::new(
            store,
            name.deployment,
            about.platform,
            found.open,
            (bounds.pending_max, bounds.pending_of_one_max),
            crate::versions::pool(bounds.hot_shares)?,
        );
        Ok(Self {
            inner: Arc::new(Inner {
                name,
                principal: me.principal(),
                me,
                about,
                view,
                judge,
                versions,
                ceremonies: Ceremonies::new(bounds.ceremonies_max),
                audit,
                anchoring: Anchoring::new(),
                counters: Counters::default(),
                rations: Mutex::default(),
                computing: Semaphore::new(bounds.computing_max.max(1)),
                confirming: Confirming::default(),
            }),
            bounds,
        })
    }

    /// Who it is.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.inner.principal
    }

    /// Ticks of key generations, the end of attempts that the ledger has decided, and anchors of the audit log, for as long as it is polled.
    pub async fn keep_up(&self) {
        let ticks = async {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                if self.inner.ceremonies.is_empty() {
                    continue;
                }
                let inner = self.inner.clone();
                let ticked = tokio::task::spawn_blocking(move || {
                    let now = inner.view.time();
                    inner
                        .ceremonies
                        .tick(now, &inner.me, &inner.versions, &mut rng());
                });
                if ticked.await.is_err() {
                    tracing::error!("a tick of key generations panicked");
                }
            }
        };
        let settling = async {
            loop {
                tokio::time::sleep(SETTLE_EVERY).await;
                // All of them, a few at a time: as many may become active meanwhile as the ledger takes.
                let mut after = None;
                loop {
                    match self.settle_some(after).await {
                        Ok(None) => break,
                        Ok(next) => after = next,
                        Err(error) => {
                            tracing::debug!(%error, "an attempt's fate was not learned");
                            break;
                        }
                    }
                }
            }
        };
        let anchored = self.inner.keep_anchored(&self.bounds);
        tokio::join!(ticks, settling, anchored);
    }

    /// Compares the own log with what the ledger holds of it. Until that was possible, and when the own log lacks it, nothing about shares
    /// is answered.
    pub async fn compare_with_anchor(&self) {
        self.inner.compare_with_anchor().await;
    }

    /// Puts the log's end on the ledger, if that takes it within seconds: before an orderly stop.
    pub async fn anchor_at_stop(&self) {
        self.inner.anchor_at_stop().await;
    }

    /// Compares some open attempts with the ledger, after `after`; returns where to go on, `None` at the end.
    ///
    /// # Errors
    /// [`relay::ViewError`] when the ledger does not answer.
    pub async fn settle_some(
        &self,
        after: Option<ShareName>,
    ) -> Result<Option<ShareName>, relay::ViewError> {
        let names = self.inner.versions.open_after(after, SETTLE_MAX);
        for name in &names {
            let (fate, owner) = self.inner.read_fate(name).await?;
            if let Some(owner) = owner {
                self.inner.versions.belongs(*name, owner);
            }
            let (inner, name) = (self.inner.clone(), *name);
            let settle = move || inner.versions.settle(&name, fate);
            let settled = tokio::task::spawn_blocking(settle).await;
            if let Ok(Err(denial)) = settled {
                tracing::warn!(%denial, "an attempt was not ended");
            }
            if fate == Fate::Lost {
                self.inner.ceremonies.forget(&name);
            }
        }
        Ok((names.len() == SETTLE_MAX)
            .then(|| names.last().copied())
            .flatten())
    }
}

/// Why a custodian does not begin.
#[derive(Debug, thiserror::Error)]
pub enum CustodianError {
    /// The sealed store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No locked memory.
    #[error(transparent)]
    Lock(#[from] enclave::LockError),
}

impl KeepOutcome for Versions {
    fn keep(&self, name: &ShareName, outcome: &threshold::dkg::Outcome) -> Result<(), Denial> {
        self.keep(name, outcome)
    }
}

impl Inner {
    /// What became of an attempt, and whose key it is.
    async fn read_fate(
        &self,
        name: &ShareName,
    ) -> Result<(Fate, Option<Principal>), relay::ViewError> {
        let keys = [
            StateKey::KeyStatus(name.key),
            StateKey::KeyVersion(name.key, name.version),
        ];
        let proved = self.view.read(&keys, Height(0)).await?;
        let value = |at: usize| proved.values.get(at).and_then(Option::as_deref);
        let status = value(0).and_then(|bytes| KeyStatus::decode(bytes).ok());
        let entry = value(1).map(VersionEntry::decode);
        let (now, owner) = (
            proved.header.time,
            status.as_ref().map(|status| status.owner),
        );
        let fate = match (status, entry) {
            (Some(status), None) => fate(&status, None, name, now),
            (Some(status), Some(Ok(entry))) => fate(&status, Some(&entry), name, now),
            _ => Fate::Open,
        };
        Ok((fate, owner))
    }

    fn deployment(&self) -> &DeploymentId {
        &self.name.deployment
    }

    fn decided(&self, facts: Facts, decision: Decision) -> Decided {
        Decided {
            facts,
            decision,
            time: self.view.time(),
            height: self.height(),
        }
    }

    fn height(&self) -> Height {
        self.view.newest().map_or(Height(0), |header| header.height)
    }

    /// Writes a refusal down and passes it on.
    fn deny(&self, facts: Facts, denial: Denial) -> Denial {
        self.counters.add("denied", 1);
        self.counters.add(denial.reason.code(), 1);
        self.audit
            .deny(self.decided(facts, Decision::Deny(denial.reason)));
        denial
    }

    /// Writes down that something is allowed; if that fails, nothing is.
    async fn allow(&self, facts: Facts) -> Result<(), Denial> {
        let decided = self.decided(facts, Decision::Allow);
        if let Err(denial) = self.audit.allow(decided).await {
            self.counters.add("denied", 1);
            self.counters.add(denial.reason.code(), 1);
            return Err(denial);
        }
        self.counters.add("allowed", 1);
        Ok(())
    }

    fn describe(&self) -> v1::Description {
        let newest = self.view.newest();
        let mut counters = self.counters.all();
        counters.insert("audit-suppressed".to_owned(), self.audit.suppressed());
        counters.insert("audit-records".to_owned(), self.audit.head().sequence);
        v1::Description {
            principal: Bytes::copy_from_slice(self.principal.as_bytes()),
            role: Role::Custodian.name().to_owned(),
            platform: self.about.platform.name().to_owned(),
            measurement: self.about.measurement.clone().into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            height: newest.as_ref().map_or(0, |header| header.height.0),
            time_ms: newest.map_or(0, |header| header.time.0),
            fresh: self.view.is_fresh(),
            counters,
        }
    }

    async fn decrypt(
        self: &Arc<Self>,
        role: Role,
        decrypt: v1::Decrypt,
    ) -> Result<Outcome, Denial> {
        let inner = self.clone();
        let verdict = self
            .compute(move || {
                let proof = borrow(decrypt.proof.as_ref());
                let ciphertexts = convert::ciphertexts(&decrypt.ciphertexts);
                let ask = Ask {
                    peer: role,
                    request: &decrypt.request,
                    ciphertexts: &ciphertexts,
                    proof: &proof,
                };
                let verdict = inner
                    .judge
                    .decrypt(&inner.view, &inner.versions, &ask, &mut rng());
                let count = u64::from(verdict.facts.count);
                let outcome = verdict.outcome.and_then(|permit| {
                    let released = permit.release(&inner.me, &mut rng())?;
                    // What the proof has shown of this attempt is remembered at leisure: the answer does not depend on it.
                    if let Err(denial) = inner.versions.seen_active(permit.share()) {
                        tracing::warn!(%denial, "an attempt was not ended");
                    }
                    Ok((permit, released, count))
                });
                (verdict.facts, outcome)
            })
            .await;
        let (facts, outcome) = verdict?;
        match outcome {
            Ok((permit, released, count)) => {
                self.allow(facts.clone()).await?;
                // A height that was confirmed while this was computed and written down counts for it: whoever was told so must not see it
                // leave afterwards. The log then has both, the permission and that it was not used.
                if let Err(denial) = permit.check_again(&self.view) {
                    return Err(self.deny(facts, denial));
                }
                self.counters.add("ciphertexts", count);
                let release = convert::release(released, &self.principal);
                Ok(Outcome::Release(release))
            }
            Err(denial) => Err(self.deny(facts, denial)),
        }
    }

    async fn ceremony(
        self: &Arc<Self>,
        role: Role,
        ceremony: v1::Ceremony,
    ) -> Result<Outcome, Denial> {
        expect_worker(role)?;
        let bytes: usize = ceremony.messages.iter().map(Bytes::len).sum();
        if ceremony.messages.len() > CEREMONY_MESSAGES_MAX || bytes > CEREMONY_BYTES_MAX {
            return Err(Denial::new(Reason::Malformed, "too many messages"));
        }
        let name = convert::name(&ceremony.key, ceremony.version, ceremony.fencing)?;
        let inner = self.clone();
        let step = self
            .compute(move || {
                let inner = inner.as_ref();
                if !inner.ceremonies.has(&name) {
                    let proof = borrow(ceremony.proof.as_ref());
                    let shown = inner.judge.open(&inner.view, &proof)?;
                    let creation = inner.judge.creation(&shown, &name.key)?;
                    let part = Part::find(
                        inner.deployment(),
                        &inner.principal,
                        &shown,
                        &creation,
                        &name,
                    )?;
                    let now = inner.view.time();
                    check_deal(
                        &inner.name,
                        &shown,
                        &creation,
                        &name,
                        &ceremony.request,
                        now,
                    )?;
                    inner.versions.may_begin(&name, &creation.creation.owner)?;
                    inner
                        .ceremonies
                        .begin(name, part, &inner.me, &inner.versions, &mut rng())?;
                    inner.counters.add("ceremonies", 1);
                }
                let messages = ceremony.messages.iter().map(Bytes::as_ref);
                inner
                    .ceremonies
                    .step(&name, messages, &inner.me, &inner.versions, &mut rng())
                    .ok_or_else(|| Denial::from(Reason::Busy))
            })
            .await??;
        Ok(Outcome::Ceremony(convert::step(step)))
    }

    async fn hold_share(
        self: &Arc<Self>,
        role: Role,
        mut hold: v1::HoldShare,
    ) -> Result<Outcome, Denial> {
        let mut facts = Facts::of(AuditedOperation::HoldShare);
        let share: Option<Secret<{ threshold::pq::PQ_SHARE_BYTES }>> =
            secrets::take(&mut hold.pq_share);
        let checked = expect_worker(role).and_then(|()| {
            let statement = read_statement(&hold.statement, &mut facts)?;
            let malformed = |what: &str| Denial::new(Reason::Malformed, what);
            let share = share.ok_or_else(|| malformed("a share's length"))?;
            let attempt = u8::try_from(hold.attempt).map_err(|_| malformed("an attempt"))?;
            Ok((statement, share, attempt))
        });
        let held = match checked {
            Ok((statement, share, attempt)) => {
                let inner = self.clone();
                self.compute(move || {
                    let inner = inner.as_ref();
                    let name = ShareName::from(&statement);
                    let held = inner.versions.hold(
                        &inner.me,
                        &statement,
                        &hold.statement,
                        &hold.commitments,
                        attempt,
                        &share,
                    )?;
                    // Both legs are stored: others find the place free at once, not when nobody has come by for minutes.
                    inner.ceremonies.forget(&name);
                    Ok(held)
                })
                .await?
            }
            Err(denial) => Err(denial),
        };
        match held {
            Ok(held) => {
                self.allow(facts).await?;
                Ok(Outcome::Held(v1::Held {
                    acknowledgement: Some(convert::acknowledgement(&held)),
                }))
            }
            Err(denial) => Err(self.deny(facts, denial)),
        }
    }

    async fn show_share(
        self: &Arc<Self>,
        role: Role,
        show: v1::ShowShare,
    ) -> Result<Outcome, Denial> {
        let mut facts = Facts::of(AuditedOperation::ShowShare);
        let statement =
            expect_worker(role).and_then(|()| read_statement(&show.statement, &mut facts));
        let shown = match statement {
            Ok(statement) => {
                let inner = self.clone();
                self.compute(move || {
                    let name = ShareName::from(&statement);
                    let proof = borrow(show.proof.as_ref());
                    let shown = inner.judge.open(&inner.view, &proof)?;
                    check_show(&shown, &name)?;
                    let record = inner.versions.pending_share(&name, &show.statement)?;
                    Ok(record.pq().to_secret())
                })
                .await?
            }
            Err(denial) => Err(denial),
        };
        match shown {
            Ok(share) => {
                self.allow(facts).await?;
                Ok(Outcome::Shown(v1::Shown {
                    pq_share: secrets::put(&share),
                }))
            }
            Err(denial) => Err(self.deny(facts, denial)),
        }
    }

    async fn confirm(&self, confirm: &v1::Confirm) -> Result<Outcome, Denial> {
        let question = convert::confirm_question(self.name.genesis, confirm)?;
        let (header, certificate) = read_header(&confirm.header, &confirm.certificate)?;
        let confirmed = |height: Height| {
            let signed = question.sign(&self.me, self.deployment(), height);
            Ok(Outcome::Confirmed(convert::confirmed(&signed)))
        };
        let wanted = header.height;
        if wanted <= self.view.floor() {
            // Says nothing new, if it is certified at all.
            let floor = self.view.confirm(&header, &certificate);
            return confirmed(floor.map_err(refused_header)?);
        }
        self.view
            .admit(&header, &certificate)
            .map_err(refused_header)?;
        {
            let mut highest = lock(&self.confirming.highest);
            if highest
                .as_ref()
                .is_none_or(|(known, _)| known.height < wanted)
            {
                *highest = Some((header, certificate));
            }
        }
        let mut raised = self.confirming.raised.lock().await;
        if wanted <= self.view.floor() {
            return confirmed(self.view.floor());
        }
        if let Some(last) = *raised {
            tokio::time::sleep_until(last + CONFIRM_EVERY).await;
        }
        let highest = lock(&self.confirming.highest).take();
        if let Some((header, certificate)) = highest {
            self.view
                .confirm(&header, &certificate)
                .map_err(refused_header)?;
            *raised = Some(Instant::now());
        }
        confirmed(self.view.floor())
    }

    async fn audit(self: &Arc<Self>, audit: v1::Audit) -> Result<Outcome, Denial> {
        let inner = self.clone();
        let (facts, page) = self
            .compute(move || {
                let proof = borrow(audit.proof.as_ref());
                let verdict = inner.judge.audit(&inner.view, &audit.request, &proof);
                let page = verdict.outcome.and_then(|permit| {
                    let (asker, entitled) = (permit.request.principal, permit.is_entitled());
                    lock(&inner.rations).take(&asker, entitled, inner.view.time())?;
                    Ok((inner.audit.page(&permit)?, permit))
                });
                (verdict.facts, page)
            })
            .await?;
        let (page, permit) = match page {
            Ok(page) => page,
            // Shows nothing, so it leaves no trace but a number: noise shall not push out what matters.
            Err(denial) => {
                self.counters.add("audit-denied", 1);
                return Err(denial);
            }
        };
        // Written down is that somebody saw what others did, once a minute for each who does.
        let shows = permit.is_entitled() && page.entries.iter().any(|one| one.record.is_some());
        let asker = permit.request.principal;
        // A log that was put back is shown and not continued.
        let shows = shows && self.anchoring.expect().is_ok();
        if shows && lock(&self.rations).is_due(&asker) {
            self.allow(facts).await?;
            lock(&self.rations).recorded(&asker);
        }
        self.counters.add("audit-pages", 1);
        let signature = page.sign(
            &self.me,
            self.deployment(),
            &self.name.genesis,
            &permit.hash,
        );
        let page = convert::audit_page(page, &self.principal, &signature);
        Ok(Outcome::Audit(page))
    }

    /// Runs what computes or waits for the disk on a thread of its own, a bounded number at a time.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Denial> {
        let broken = || Denial::new(Reason::Busy, "the computation was given up");
        let _place = self.computing.acquire().await.map_err(|_| broken())?;
        tokio::task::spawn_blocking(work).await.map_err(|_| {
            tracing::error!("a computation panicked");
            broken()
        })
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read_statement(bytes: &[u8], facts: &mut Facts) -> Result<VersionStatement, Denial> {
    let statement =
        VersionStatement::decode(bytes).map_err(|error| Denial::new(Reason::Malformed, error))?;
    facts.key = Some(statement.key);
    facts.version = Some(statement.version);
    facts.count = 1;
    Ok(statement)
}

impl Answering for Custodian {
    async fn answer(&self, asker: &Asker, ask: question::Ask) -> Result<Outcome, Refusal> {
        use question::Ask;
        let inner = &self.inner;
        let role = asker.role;
        if let Ask::Decrypt(_) | Ask::Ceremony(_) | Ask::HoldShare(_) | Ask::ShowShare(_) = &ask
            && let Err(denial) = inner.anchoring.expect()
        {
            // Nothing goes into the log either: a store that was put back would continue it as another one.
            inner.counters.add("denied", 1);
            inner.counters.add(denial.reason.code(), 1);
            return Err(denial.into());
        }
        let answer = match ask {
            Ask::Describe(v1::Describe {}) => Ok(Outcome::Description(inner.describe())),
            Ask::Decrypt(decrypt) => inner.decrypt(role, decrypt).await,
            Ask::Ceremony(ceremony) => inner.ceremony(role, ceremony).await,
            Ask::HoldShare(hold) => inner.hold_share(role, hold).await,
            Ask::ShowShare(show) => inner.show_share(role, show).await,
            Ask::Confirm(confirm) => inner.confirm(&confirm).await,
            Ask::Audit(audit) => inner.audit(audit).await,
            Ask::DealVersion(_) | Ask::Activate(_) => Err(Denial::new(
                Reason::PeerRole,
                "a custodian is asked what a worker does",
            )),
        };
        answer.map_err(Refusal::from)
    }
}

impl std::fmt::Debug for Custodian {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Custodian({})", self.inner.principal)
    }
}
