//! Key generations that this custodian takes part in. Workers carry the messages; they are signed, so a worker can only stop them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crypto::Identity;
use custody::version::Part;
use custody::{Denial, Reason, ShareName};
use domain::TimestampMs;
use rand_core::CryptoRng;
use threshold::DhPublic;
use threshold::dkg::{Ceremony, Effect, Patience, Plan};

/// How long one tick of a ceremony is.
pub const TICK: Duration = Duration::from_millis(500);
/// Ticks until a custodian asks for what it misses, and until it gives up: 2 s and 20 s. A worker comes by several times a second, so
/// a message between custodians takes at most two ticks, and 40 >= 3 * 4 + 10 * 2 as [`Patience`] asks.
pub const PATIENCE: Patience = Patience {
    ask_after: 4,
    give_up_after: 40,
};
/// Attempts of one ceremony.
pub const ATTEMPTS: u8 = 3;
/// A ceremony that no worker has come by for this long is forgotten.
pub const IDLE_MAX: Duration = Duration::from_secs(300);
/// Messages of one ceremony that wait for a worker, at most; the oldest go first, and are asked for again by whoever misses them.
pub const OUTBOX_MAX: usize = 1_024;
/// Messages in one step, at most.
pub const STEP_MESSAGES_MAX: usize = 256;

/// What this custodian has to say in one step.
#[derive(Debug, Default)]
pub struct Step {
    /// To whom (0: everyone), and what.
    pub messages: Vec<(u8, Vec<u8>)>,
    /// The attempt that made the key, and its public keys, once the key exists.
    pub finished: Option<(u8, DhPublic)>,
    /// Why no further attempt follows.
    pub failed: Option<Denial>,
}

/// Makes the outcome of a key generation durable.
pub trait KeepOutcome {
    /// Durable on return.
    ///
    /// # Errors
    /// [`Denial`]; the ceremony is then given up.
    fn keep(&self, name: &ShareName, outcome: &threshold::dkg::Outcome) -> Result<(), Denial>;
}

/// All of them, a bounded number.
#[derive(Debug)]
pub struct Ceremonies {
    running: Mutex<HashMap<ShareName, Arc<Mutex<Running>>>>,
    max: usize,
}

#[derive(Debug)]
struct Running {
    name: ShareName,
    ceremony: Ceremony,
    deadline: TimestampMs,
    outbox: VecDeque<(u8, Vec<u8>)>,
    made: HashMap<u8, DhPublic>,
    finished: Option<u8>,
    failed: Option<Denial>,
    touched: Instant,
}

impl Ceremonies {
    /// None yet.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            running: Mutex::default(),
            max,
        }
    }

    /// Whether one is running.
    #[must_use]
    pub fn has(&self, name: &ShareName) -> bool {
        lock(&self.running).contains_key(name)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.running).len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins one; nothing when it is there already.
    ///
    /// # Errors
    /// [`Reason::Busy`] at the bound, [`Reason::Proof`] when the committee cannot make keys.
    pub fn begin(
        &self,
        name: ShareName,
        part: Part,
        me: &Identity,
        keep: &dyn KeepOutcome,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), Denial> {
        let mut running = lock(&self.running);
        if running.contains_key(&name) {
            return Ok(());
        }
        if running.len() >= self.max {
            return Err(Denial::new(Reason::Busy, "key generations"));
        }
        let plan = Plan::new(part.sharing, part.roster, PATIENCE, ATTEMPTS)
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        let (ceremony, effects) = Ceremony::start(plan, part.index, me, rng)
            .map_err(|error| Denial::new(Reason::NotAMember, error))?;
        let mut begun = Running {
            name,
            ceremony,
            deadline: part.pending.deadline,
            outbox: VecDeque::new(),
            made: HashMap::new(),
            finished: None,
            failed: None,
            touched: Instant::now(),
        };
        begun.follow(effects, me, keep, rng);
        running.insert(name, Arc::new(Mutex::new(begun)));
        Ok(())
    }

    /// Takes messages of others, and gives what this custodian says. `None`: no such ceremony runs here.
    pub fn step<'a>(
        &self,
        name: &ShareName,
        messages: impl Iterator<Item = &'a [u8]>,
        me: &Identity,
        keep: &dyn KeepOutcome,
        rng: &mut dyn CryptoRng,
    ) -> Option<Step> {
        let running = lock(&self.running).get(name).cloned()?;
        let mut running = lock(&running);
        running.touched = Instant::now();
        for message in messages.take(STEP_MESSAGES_MAX) {
            let effects = running.ceremony.receive(message, me, rng);
            running.follow(effects, me, keep, rng);
        }
        Some(running.step())
    }

    /// Time has passed for all of them: the unit of [`PATIENCE`]. Those that nobody comes by for, and those whose deadline is over at
    /// `now`, are forgotten; shares that they stored are not.
    pub fn tick(
        &self,
        now: TimestampMs,
        me: &Identity,
        keep: &dyn KeepOutcome,
        rng: &mut dyn CryptoRng,
    ) {
        let all: Vec<_> = lock(&self.running).values().cloned().collect();
        for running in all {
            let mut running = lock(&running);
            if running.touched.elapsed() > IDLE_MAX || now >= running.deadline {
                lock(&self.running).remove(&running.name);
                continue;
            }
            let effects = running.ceremony.tick(me, rng);
            running.follow(effects, me, keep, rng);
        }
    }

    /// Forgets one: its share is held, or will never be.
    pub fn forget(&self, name: &ShareName) {
        lock(&self.running).remove(name);
    }
}

impl Running {
    fn follow(
        &mut self,
        effects: Vec<Effect>,
        me: &Identity,
        keep: &dyn KeepOutcome,
        rng: &mut dyn CryptoRng,
    ) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Broadcast(message) => self.say(0, message),
                Effect::Send { to, message } => self.say(to.get(), message),
                Effect::Store(outcome) => match keep.keep(&self.name, &outcome) {
                    Ok(()) => {
                        let attempt = outcome.attempt;
                        self.made.insert(attempt, outcome.public);
                        effects.extend(self.ceremony.stored(attempt, me, rng));
                    }
                    // Not stored, so never said to be: the others give up in time.
                    Err(denial) => self.failed = Some(denial),
                },
                Effect::Finished { attempt } => {
                    self.finished = Some(attempt);
                    self.failed = None;
                }
                Effect::Aborted(aborted) => {
                    tracing::warn!(
                        key = %self.name.key, version = %self.name.version, attempt = aborted.attempt,
                        culprits = ?aborted.verdict.culprits, fault = ?aborted.verdict.fault,
                        "an attempt of a key generation failed"
                    );
                    if aborted.last {
                        let verdict = aborted.verdict;
                        let detail =
                            format!("custodians {:?}: {:?}", verdict.culprits, verdict.fault);
                        self.failed = Some(Denial::new(Reason::KeyState, detail));
                    }
                }
            }
        }
    }

    fn say(&mut self, to: u8, message: Vec<u8>) {
        if self.outbox.len() >= OUTBOX_MAX {
            self.outbox.pop_front();
        }
        self.outbox.push_back((to, message));
    }

    fn step(&mut self) -> Step {
        let count = self.outbox.len().min(STEP_MESSAGES_MAX);
        Step {
            messages: self.outbox.drain(..count).collect(),
            finished: self
                .finished
                .and_then(|attempt| Some((attempt, self.made.get(&attempt)?.clone()))),
            failed: self.failed.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
