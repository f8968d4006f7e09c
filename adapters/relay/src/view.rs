//! What an enclave knows of the ledger, and holds requests against.
//!
//! Every few seconds the view draws a nonce and has the validators sign, over it, the height that is final now (a *tick*). A tick
//! counts when a header of at least that height is certified and the attestation policy was read with proofs at such a header.
//! From then on:
//!
//! - **floor**: proofs are taken at headers of at least the height of the tick *before* the last one, so that a client that fetched
//!   its proofs a moment ago is not refused; a confirmed height ([`View::confirm`]) raises it at once. Before the first tick nothing
//!   is new enough.
//! - **time** is that of the newest certified header.
//! - **fresh**: the last tick that counted was asked for less than 10 s ago. A view that is not fresh is of no use: deny. A tick
//!   that ends such a time takes its own height for the floor: what was known before the silence counts no more.
//!
//! With ticks every 5 s, what was revoked at some height is released on no proof from before it later than 10 s after, or 20 s
//! when the relay stops answering: the tick before the last may have been asked for just before the revocation, the last one 10 s
//! later, and it counts for 10 s more. The timeouts are measured with the process's monotonic clock, which a host can stop; the
//! headers' times are not its to choose.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use attestation::Policy;
use bytes::Bytes;
use domain::{Height, TimestampMs};
use ledger::header::{ValidatorSet, verify_certificate};
use ledger::port::{Answer, AnswerError, Freshness, READ_KEYS_MAX, ReadError};
use ledger::state::ValidatorsEntry;
use ledger::{Certificate, Genesis, Header, HeaderError, LightClient, Record as _, StateKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::client::RelayClient;
use crate::policy::{PolicyKeys, assemble};

/// How the view keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// From one tick to the next.
    pub every: Duration,
    /// From a tick that failed, or that found a policy that allows nothing, to the next.
    pub retry: Duration,
    /// How long one tick may take.
    pub tick: Duration,
    /// How long a tick counts.
    pub fresh_for: Duration,
}

impl Default for Options {
    /// A tick every 5 s, again after 1 s when one failed, 5 s for each, fresh for 10 s.
    fn default() -> Self {
        Self {
            every: Duration::from_secs(5),
            retry: Duration::from_secs(1),
            tick: Duration::from_secs(5),
            fresh_for: Duration::from_secs(10),
        }
    }
}

/// Why something was not learned from the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// The relay gave no answer, or one that does not parse.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An answer that shows nothing.
    #[error("the relay's answer does not hold: {0}")]
    Answer(#[from] AnswerError),
    /// A header below what validators have just said is final.
    #[error("the relay answers at height {got}, and height {needed} is final")]
    Old {
        /// What validators said.
        needed: Height,
        /// The answer's.
        got: Height,
    },
    /// Not within the time of a tick.
    #[error("the relay did not answer in time")]
    Slow,
    /// The system gave no randomness.
    #[error("no randomness for a nonce")]
    Randomness,
}

impl From<HeaderError> for ViewError {
    fn from(error: HeaderError) -> Self {
        Self::Answer(AnswerError::Header(error))
    }
}

/// Values that the ledger holds, proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The header that they were proved against.
    pub header: Header,
    /// One for each key that was asked for, in order; `None`: shown to be absent.
    pub values: Vec<Option<Bytes>>,
}

/// An enclave's view of the ledger. Cheap to clone; ends its ticks with the last clone.
#[derive(Clone)]
pub struct View(Arc<Handle>);

struct Handle {
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct State {
    client: RelayClient,
    genesis: Arc<Genesis>,
    options: Options,
    known: Mutex<Known>,
    policy: watch::Sender<Arc<Policy>>,
    ticks: watch::Sender<u64>,
}

struct Known {
    light: LightClient,
    policy_keys: PolicyKeys,
    /// Height of the last tick that counted.
    tick: Option<Height>,
    /// When it was asked for.
    asked: Option<Instant>,
    /// Time of the header of the first tick that counted.
    started: Option<TimestampMs>,
}

impl State {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Begins to keep up with the ledger that `genesis` began; the caller has pinned it. Waits for the first tick, good or not.
    pub async fn start(client: RelayClient, genesis: Arc<Genesis>, options: Options) -> Self {
        let state = Arc::new(State {
            known: Mutex::new(Known {
                light: LightClient::new(&genesis),
                policy_keys: PolicyKeys::new(),
                tick: None,
                asked: None,
                started: None,
            }),
            client,
            genesis,
            options,
            policy: watch::Sender::new(Arc::default()),
            ticks: watch::Sender::new(0),
        });
        let first = tick(&state).await;
        let task = tokio::spawn(keep_up(state.clone(), first));
        Self(Arc::new(Handle { state, task }))
    }

    /// Returns once a tick has counted.
    pub async fn until_fresh(&self) {
        let mut ticks = self.0.state.ticks.subscribe();
        // The sender lives as long as this view.
        let _ = ticks.wait_for(|ticks| *ticks > 0).await;
    }

    /// Returns once another tick has counted, which began after this call or was under way.
    pub async fn next_tick(&self) {
        let mut ticks = self.0.state.ticks.subscribe();
        ticks.mark_unchanged();
        let _ = ticks.changed().await;
    }

    /// What the ledger began with.
    #[must_use]
    pub fn genesis(&self) -> &Arc<Genesis> {
        &self.0.state.genesis
    }

    /// The way to the relay, for what needs no proof.
    #[must_use]
    pub fn client(&self) -> &RelayClient {
        &self.0.state.client
    }

    /// The newest certified header.
    #[must_use]
    pub fn newest(&self) -> Option<Header> {
        self.0.state.known().light.newest().cloned()
    }

    /// Its time; 0 before there is one.
    #[must_use]
    pub fn time(&self) -> TimestampMs {
        let known = self.0.state.known();
        known
            .light
            .newest()
            .map_or(TimestampMs(0), |header| header.time)
    }

    /// The time of the first header after this process began: what is older was made before, and may have been answered before.
    #[must_use]
    pub fn started(&self) -> Option<TimestampMs> {
        self.0.state.known().started
    }

    /// A clock that shows [`View::time`].
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Fn() -> TimestampMs + Send + Sync> {
        let view = self.clone();
        Arc::new(move || view.time())
    }

    /// The height below which no header is admitted; the largest number there is before the first tick that counts.
    #[must_use]
    pub fn floor(&self) -> Height {
        let known = self.0.state.known();
        match known.tick {
            Some(_) => known.light.fresh_height(),
            None => Height(u64::MAX),
        }
    }

    /// Whether the last tick that counted is recent enough. If not, deny.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let asked = self.0.state.known().asked;
        asked.is_some_and(|asked| asked.elapsed() < self.0.state.options.fresh_for)
    }

    /// Whether proofs against `header` may be judged: certified by a quorum, not below the floor, in no contradiction to what is known.
    /// Goes forward with a newer one. Does not look at [`View::is_fresh`].
    ///
    /// # Errors
    /// [`HeaderError`].
    pub fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        let mut known = self.0.state.known();
        if known.tick.is_none() {
            return Err(HeaderError::Stale {
                needed: Height(u64::MAX),
                got: header.height,
            });
        }
        known.light.admit(header, certificate, None)
    }

    /// Admits a header and nothing below it from then on. Returns the floor.
    ///
    /// # Errors
    /// [`HeaderError`]. A header below the floor that a quorum has certified is no error: what it asks for holds already.
    pub fn confirm(
        &self,
        header: &Header,
        certificate: &Certificate,
    ) -> Result<Height, HeaderError> {
        match self.admit(header, certificate) {
            Ok(()) => {}
            Err(HeaderError::Stale { .. }) => self.check_certified(header, certificate)?,
            Err(error) => return Err(error),
        }
        let mut known = self.0.state.known();
        known.light.require(header.height);
        Ok(known.light.fresh_height())
    }

    fn check_certified(
        &self,
        header: &Header,
        certificate: &Certificate,
    ) -> Result<(), HeaderError> {
        let state = &self.0.state;
        if header.genesis != state.genesis.hash() {
            return Err(HeaderError::AnotherLedger {
                expected: state.genesis.hash(),
                got: header.genesis,
            });
        }
        let validators = state.known().light.validators().clone();
        verify_certificate(&state.genesis.deployment, &validators, header, certificate)
    }

    /// The attestation policy: measurements and minimums as the last tick proved them. The empty one, which refuses everything, before
    /// the first. A changed policy has another version.
    #[must_use]
    pub fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.0.state.policy.subscribe()
    }

    /// Reads up to 64 values with proofs, at a header of at least `at_least` and the last tick's height.
    ///
    /// # Errors
    /// [`ViewError`].
    pub async fn read(&self, keys: &[StateKey], at_least: Height) -> Result<Proved, ViewError> {
        let state = &self.0.state;
        let tick = state.known().tick.unwrap_or(Height(0));
        let keys = keys.iter().map(|key| key.encode().into()).collect();
        let answer = read(state, keys, at_least.max(tick)).await?;
        Ok(Proved {
            values: answer
                .values
                .into_iter()
                .map(|proved| proved.value)
                .collect(),
            header: answer.last.header,
        })
    }
}

impl custody::LedgerView for View {
    fn newest(&self) -> Option<Header> {
        View::newest(self)
    }

    fn time(&self) -> TimestampMs {
        View::time(self)
    }

    fn started(&self) -> Option<TimestampMs> {
        View::started(self)
    }

    fn floor(&self) -> Height {
        View::floor(self)
    }

    fn is_fresh(&self) -> bool {
        View::is_fresh(self)
    }

    fn admit(&self, header: &Header, certificate: &Certificate) -> Result<(), HeaderError> {
        View::admit(self, header, certificate)
    }

    fn confirm(&self, header: &Header, certificate: &Certificate) -> Result<Height, HeaderError> {
        View::confirm(self, header, certificate)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("floor", &self.floor())
            .field("time", &self.time())
            .field("fresh", &self.is_fresh())
            .finish_non_exhaustive()
    }
}

/// Ticks for ever.
async fn keep_up(state: Arc<State>, first: Result<(), ViewError>) {
    let mut last = first;
    let mut said = false;
    loop {
        // A ledger that admits nobody yet is about to.
        let admits = !state.policy.borrow().allowed.is_empty();
        let pause = match &last {
            Ok(()) if admits => state.options.every,
            _ => state.options.retry,
        };
        sleep(pause).await;
        last = tick(&state).await;
        match &last {
            Ok(()) if said => tracing::info!("the ledger answers again"),
            // Once, not every second.
            Err(error) if !said => tracing::warn!(%error, "nothing fresh from the ledger"),
            _ => {}
        }
        said = last.is_err();
    }
}

async fn tick(state: &State) -> Result<(), ViewError> {
    timeout(state.options.tick, tick_in_time(state))
        .await
        .unwrap_or(Err(ViewError::Slow))
}

async fn tick_in_time(state: &State) -> Result<(), ViewError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|_| ViewError::Randomness)?;
    let asked = Instant::now();
    let answers = state.client.freshness(nonce).await?;
    let height = state.known().light.check_fresh(&nonce, &answers)?;
    let policy = read_policy(state, height).await?;
    {
        let mut known = state.known();
        // The one before the last, if the view was still fresh when this one was asked for. After a silence, and at the first
        // tick, this one's: it is known to be final already, and proofs from before may show what was revoked meanwhile.
        let fresh_for = state.options.fresh_for;
        let was_fresh = known
            .asked
            .is_some_and(|before| asked.duration_since(before) < fresh_for);
        let floor = known.tick.filter(|_| was_fresh).unwrap_or(height);
        known.light.require(floor);
        known.tick = Some(known.tick.map_or(height, |tick| tick.max(height)));
        known.asked = Some(asked);
        if known.started.is_none() {
            known.started = known.light.newest().map(|header| header.time);
        }
    }
    publish(state, policy, height);
    state.ticks.send_modify(|ticks| *ticks += 1);
    Ok(())
}

/// Publishes a policy that differs from the last one under a version of its own.
fn publish(state: &State, mut policy: Policy, height: Height) {
    state.policy.send_if_modified(|current| {
        policy.version = current.version;
        if **current == policy {
            return false;
        }
        policy.version = current.version.saturating_add(1).max(height.0);
        *current = Arc::new(std::mem::take(&mut policy));
        true
    });
}

/// The policy as of the newest header, from values proved at headers of at least `height`.
async fn read_policy(state: &State, height: Height) -> Result<Policy, ViewError> {
    let mut after = None;
    for _ in 0..LIST_PAGES_MAX {
        let prefix = ledger::StatePrefix::Measurements;
        let (listed, more) = state.client.list(prefix, after, LIST_KEYS).await?;
        let room = state
            .known()
            .policy_keys
            .add(listed.iter().map(|(key, _)| key));
        if !room {
            tracing::warn!("more measurements than a policy may have: the rest is not allowed");
        }
        let last = listed.last().map(|(key, _)| key.clone());
        if !more || !room || last.is_none() {
            break;
        }
        after = last;
    }
    let keys = state.known().policy_keys.all();
    let mut values = Vec::with_capacity(keys.len());
    for some in keys.chunks(READ_KEYS_MAX) {
        let answer = read(state, some.to_vec(), height).await?;
        values.extend(answer.values.into_iter().map(|proved| proved.value));
    }
    let pairs = || keys.iter().zip(values.iter().map(Option::as_ref));
    let now = {
        let mut known = state.known();
        // What a listing made up takes nobody's place for longer than this.
        let absent = pairs().filter(|(_, value)| value.is_none());
        known.policy_keys.forget(absent.map(|(key, _)| key));
        known.light.newest().map(|header| header.time)
    };
    Ok(assemble(
        &state.genesis,
        pairs(),
        now.unwrap_or(TimestampMs(0)),
    ))
}

/// Keys of one listing.
const LIST_KEYS: usize = 500;
/// Listings of one tick, at most: more than enough for as many measurements as a policy may have.
const LIST_PAGES_MAX: usize = 4;

/// Reads and checks values at a header of at least `height`, and goes forward with it.
async fn read(state: &State, keys: Vec<Bytes>, height: Height) -> Result<Answer, ViewError> {
    let freshness = Freshness::AtLeast(height);
    let answer = state.client.read(keys.clone(), freshness).await?;
    let got = answer.last.header.height;
    if got < height {
        return Err(ViewError::Old {
            needed: height,
            got,
        });
    }
    let verified = answer.verify(&mut state.known().light, &keys);
    match verified {
        Err(AnswerError::Header(HeaderError::NextValidators(_))) => {
            let next = next_validators(state, height).await?;
            let last = &answer.last;
            let light = &mut state.known().light;
            light.advance(&last.header, &last.certificate, Some(&next))?;
            answer.verify(light, &keys)?;
        }
        verified => verified?,
    }
    Ok(answer)
}

/// The set of validators that comes next, as the relay says; a header names its hash.
async fn next_validators(state: &State, height: Height) -> Result<ValidatorSet, ViewError> {
    let keys = vec![StateKey::Validators.encode().into()];
    let freshness = Freshness::AtLeast(height);
    let answer = state.client.read(keys, freshness).await?;
    let value = answer.values.into_iter().next().and_then(|one| one.value);
    let value = value.ok_or_else(|| crate::convert::bad("no validators"))?;
    let entry = ValidatorsEntry::decode(&value).map_err(crate::convert::bad)?;
    Ok(entry.validators)
}
