//! Distributed key generation for the threshold leg: n parties make a ristretto255 key of which each holds a share and
//! nobody ever holds the whole.
//!
//! The key generation is FROST's (Komlo and Goldberg, SAC 2020, figure 1; `frost-ristretto255`): every party deals a random
//! polynomial with Feldman commitments and a proof that it knows its constant term, and a share is the sum of what all
//! dealt. Around it stands what FROST assumes: an authenticated broadcast that is the same for everyone, private delivery,
//! and somebody to blame. The shape is that of SimplPedPoP with its equality check (Chu, Gerhart, Ruffing and Schröder,
//! CRYPTO 2023) and of EthDKG's public disputes (Schindler, Judmayer, Stifter and Weippl, 2019):
//!
//! 1. **Commit**: Feldman commitments, proof of possession, and an element E_i that is used in this attempt alone.
//! 2. **Deal**: for every other party its share, hidden by a pad from the Diffie-Hellman secret of E_i and E_j; and an echo
//!    of all commits as they came, hashes with their makers' signatures.
//! 3. The shares are checked and handed out to be stored durably. **Ready** says so, and echoes all deals.
//! 4. With n matching readies the key exists: every party holds a durable, checked share of it, or lied under its signature.
//!
//! All messages are broadcasts, signed with each party's long-term key and bound to deployment, key, version, epoch,
//! committee, threshold and attempt. They may travel through anyone: a relay can only stop them. Whoever signs two
//! different messages of a kind is shown up by the echoes; whoever deals a wrong share, by the receiver, who opens the pad of
//! that one share with a proof; whoever accuses falsely, by the accusation. Such verdicts are proven: everybody who sees the
//! evidence reaches the same. Silence cannot be proven. A party that misses a message asks everyone for it, and gives up
//! after its patience; who was silent is then named from what each party saw itself, which is right as long as messages
//! between honest parties arrive within the time between asking and giving up.
//!
//! An attempt needs all n parties, and any of them can stop it; none can bias it unseen beyond choosing, last, among
//! attempts that it lets succeed. It never gives a key that t honest shares cannot open, however many parties cheat, as
//! long as t are honest. After an abort everything is drawn anew, a bounded number of times.
//!
//! Time passes by [`Ceremony::tick`]; nothing here waits, sends or stores.

use std::collections::BTreeMap;

use crypto::identity::Signature;
use crypto::{Identity, Label};
use domain::{DeploymentId, Principal, ShareIndex};
use rand_core::CryptoRng;

use crate::dh::{DhPublic, DhShare};
use crate::sharing::Sharing;

mod attempt;
mod blame;
mod message;
mod payload;
mod round;

pub use message::Kind;

use attempt::Attempt;
use message::{Setting, Signed};

/// Parties in one ceremony, at most.
pub const PARTIES_MAX: u8 = 64;
/// Attempts in one ceremony, at most.
pub const ATTEMPTS_MAX: u8 = 8;
/// Bytes of the longest message; longer input is not looked at.
pub const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Signs as one party. Its principal stands in the roster at the party's index.
pub trait CeremonySigner {
    /// Signs label, deployment and body with the long-term key, as [`Identity::sign`] does.
    fn sign(&self, label: Label, deployment: &DeploymentId, body: &[u8]) -> Signature;
}

impl CeremonySigner for Identity {
    fn sign(&self, label: Label, deployment: &DeploymentId, body: &[u8]) -> Signature {
        Identity::sign(self, label, deployment, body)
    }
}

/// How long a party waits for the others, counted in ticks of one round.
///
/// Silence is blamed on the right party when `give_up_after >= 3 * ask_after + 10 * d`, where d is the number of ticks in
/// which a message between honest parties arrives for certain. Then: honest parties enter a round within
/// `ask_after + 3 * d` of each other, so that their messages come before a party is [`late`](Patience::late_after) for the
/// others, and what came before that has been passed on to whoever asks before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Ticks after which it asks everyone for what it misses, and again at every later one.
    pub ask_after: u32,
    /// Ticks after which it gives up and names who was silent.
    pub give_up_after: u32,
}

impl Patience {
    /// Ticks after which a message is later than an honest party's: half-way between asking and giving up.
    #[must_use]
    pub const fn late_after(self) -> u32 {
        self.ask_after.midpoint(self.give_up_after)
    }
}

/// Who makes a key, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    sharing: Sharing,
    roster: Vec<Principal>,
    patience: Patience,
    attempts: u8,
}

/// Why there can be no such ceremony.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// FROST's key generation needs 2 <= t; this one has at most 64 parties.
    #[error("a key is generated by 2 <= t <= n <= {PARTIES_MAX} parties")]
    Threshold,
    /// Not one principal for each index, or the same twice: somebody would hold two shares.
    #[error("a roster has n different principals")]
    Roster,
    /// Giving up must come after asking, and asking after at least one tick.
    #[error("patience must be 1 <= ask_after < give_up_after")]
    Patience,
    /// No attempt, or more than the bound.
    #[error("a ceremony has 1 to {ATTEMPTS_MAX} attempts")]
    Attempts,
}

impl Plan {
    /// Checks the parts. `roster` has the signing key of every index, from 1.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(
        sharing: Sharing,
        roster: Vec<Principal>,
        patience: Patience,
        attempts: u8,
    ) -> Result<Self, PlanError> {
        let threshold = sharing.threshold;
        if threshold.t() < 2 || threshold.n() > PARTIES_MAX {
            return Err(PlanError::Threshold);
        }
        let distinct: std::collections::BTreeSet<&Principal> = roster.iter().collect();
        let n = usize::from(threshold.n());
        if roster.len() != n || distinct.len() != n {
            return Err(PlanError::Roster);
        }
        if patience.ask_after == 0 || patience.give_up_after <= patience.ask_after {
            return Err(PlanError::Patience);
        }
        if attempts == 0 || attempts > ATTEMPTS_MAX {
            return Err(PlanError::Attempts);
        }
        Ok(Self {
            sharing,
            roster,
            patience,
            attempts,
        })
    }

    fn setting(&self, attempt: u8) -> Setting {
        Setting::new(self.sharing, self.roster.clone(), attempt)
    }
}

/// What one party has at the end.
#[derive(Debug)]
pub struct Outcome {
    /// Which attempt made it; a party may hold shares of several until the ledger says which key exists.
    pub attempt: u8,
    /// Its share.
    pub share: DhShare,
    /// Everybody's public keys.
    pub public: DhPublic,
}

/// What the driver must do. In order.
#[derive(Debug)]
pub enum Effect {
    /// Send to every other party.
    Broadcast(Vec<u8>),
    /// Send to one party.
    Send {
        /// To whom.
        to: ShareIndex,
        /// What.
        message: Vec<u8>,
    },
    /// Store the share durably as a pending one, then call [`Ceremony::stored`].
    Store(Box<Outcome>),
    /// The key of that attempt exists: every party has said that its share is stored.
    Finished {
        /// Which attempt.
        attempt: u8,
    },
    /// An attempt failed.
    Aborted(Aborted),
}

/// How an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// Which attempt.
    pub attempt: u8,
    /// Who is to blame and for what.
    pub verdict: Verdict,
    /// This party had already said that its share is stored. Others may hold the last missing message and consider the key
    /// made: keep the pending share until the ledger has another key for this version, or [`Effect::Finished`] comes.
    pub undecided: bool,
    /// No further attempt follows.
    pub last: bool,
}

/// Who is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// At least one party. Never an honest one when proven.
    pub culprits: Vec<ShareIndex>,
    /// What they did.
    pub fault: Fault,
}

/// What a party did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Sent nothing in time, or claims to have received nothing although it was relayed. Not provable.
    Silent(Kind),
    /// Signed a message that no honest party would: malformed, a proof that does not hold, an echo of a signature that
    /// nobody made.
    Invalid(Kind),
    /// Signed two different messages where there is one.
    Equivocated(Kind),
    /// Dealt a share that does not fit its own commitments.
    BadShare,
    /// Accused somebody with evidence that shows nothing.
    FalseAccusation,
    /// This party's own program failed: a bug of ours, not a fault of others.
    Broken,
}

impl Fault {
    /// Whether everyone who sees the evidence must agree.
    #[must_use]
    pub const fn is_proven(self) -> bool {
        !matches!(self, Self::Silent(_) | Self::Broken)
    }
}

/// One party's side of a ceremony: `(state, input) -> (state, effects)`.
#[derive(Debug)]
pub struct Ceremony {
    plan: Plan,
    me: ShareIndex,
    current: Attempt,
    /// An aborted attempt that may yet turn out to have succeeded.
    undecided: Option<Box<Attempt>>,
    /// Messages of the next attempt from parties that aborted this one earlier: one of each kind from each.
    early: BTreeMap<(Kind, ShareIndex), Vec<u8>>,
}

/// The signer's index is not in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("party {0} has no part in this ceremony")]
pub struct NotAParty(pub ShareIndex);

impl Ceremony {
    /// Begins the first attempt as party `me`.
    ///
    /// # Errors
    /// [`NotAParty`].
    pub fn start(
        plan: Plan,
        me: ShareIndex,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Vec<Effect>), NotAParty> {
        if !plan.sharing.threshold.has(me) {
            return Err(NotAParty(me));
        }
        let setting = plan.setting(1);
        let (current, effects) = Attempt::start(setting, me, plan.patience, signer, rng);
        let mut ceremony = Self {
            plan,
            me,
            current,
            undecided: None,
            early: BTreeMap::new(),
        };
        let effects = ceremony.after(effects, signer, rng);
        Ok((ceremony, effects))
    }

    /// Whether the key exists, as far as this party knows.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.current.is_done()
    }

    /// Takes a message from anywhere. What is not a signed message of this ceremony is ignored.
    #[must_use]
    pub fn receive(
        &mut self,
        bytes: &[u8],
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> Vec<Effect> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Vec::new();
        }
        let Some(attempt) = message::attempt_of(bytes) else {
            return Vec::new();
        };
        if attempt == self.current.number() {
            let effects = self.current.receive(bytes, signer, rng);
            return self.after(effects, signer, rng);
        }
        if let Some(earlier) = self
            .undecided
            .as_mut()
            .filter(|one| one.number() == attempt)
        {
            let effects = earlier.receive(bytes, signer, rng);
            if earlier.is_done()
                && let Some(done) = self.undecided.take()
            {
                self.current = *done;
                self.early.clear();
            }
            return effects;
        }
        if Some(attempt) == self.current.number().checked_add(1) && attempt <= self.plan.attempts {
            return self.receive_early(attempt, bytes);
        }
        Vec::new()
    }

    /// The share of that attempt is stored durably.
    #[must_use]
    pub fn stored(
        &mut self,
        attempt: u8,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> Vec<Effect> {
        if attempt != self.current.number() {
            return Vec::new();
        }
        let effects = self.current.stored(signer);
        self.after(effects, signer, rng)
    }

    /// Some time has passed: the unit of [`Patience`].
    #[must_use]
    pub fn tick(&mut self, signer: &dyn CeremonySigner, rng: &mut dyn CryptoRng) -> Vec<Effect> {
        let effects = self.current.tick(signer);
        self.after(effects, signer, rng)
    }

    /// Another party has gone on to the next attempt. Either it is right and this one will abort soon, or this party has
    /// finished and the other must learn that.
    fn receive_early(&mut self, attempt: u8, bytes: &[u8]) -> Vec<Effect> {
        let setting = self.plan.setting(attempt);
        let Some(signed) = Signed::decode(&setting, bytes) else {
            return Vec::new();
        };
        if self.current.is_done() {
            return self.current.readies_to(signed.sender);
        }
        if signed.kind.is_round() {
            let key = (signed.kind, signed.sender);
            self.early.entry(key).or_insert_with(|| bytes.to_vec());
        }
        Vec::new()
    }

    /// Begins the next attempt when `effects` say that this one failed.
    fn after(
        &mut self,
        mut effects: Vec<Effect>,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> Vec<Effect> {
        // Each round begins an attempt, and those are bounded.
        for _ in 0..=self.plan.attempts {
            let last = self.current.number() >= self.plan.attempts;
            let mut failed = false;
            for effect in &mut effects {
                if let Effect::Aborted(aborted) = effect
                    && aborted.attempt == self.current.number()
                {
                    aborted.last = last;
                    failed = true;
                }
            }
            let Some(next) = self
                .current
                .number()
                .checked_add(1)
                .filter(|_| failed && !last)
            else {
                break;
            };
            let setting = self.plan.setting(next);
            let (attempt, mut begun) =
                Attempt::start(setting, self.me, self.plan.patience, signer, rng);
            let previous = std::mem::replace(&mut self.current, attempt);
            if previous.is_undecided() {
                self.undecided = Some(Box::new(previous));
            }
            for bytes in std::mem::take(&mut self.early).into_values() {
                begun.append(&mut self.current.receive(&bytes, signer, rng));
            }
            effects.append(&mut begun);
        }
        effects
    }
}
