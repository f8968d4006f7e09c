//! Parties, the network between them, and what must hold in the end.

use std::collections::BTreeMap;

use crypto::ristretto::SecretScalar;
use crypto::{Identity, Secret};
use curve25519_dalek::scalar::Scalar;
use domain::{Principal, ShareIndex};
use threshold::dkg::{Aborted, Ceremony, Effect, Outcome, Patience, Plan};

use super::adversary::Adversary;
use crate::support::{Seeded, element, sharing};

pub const PATIENCE: Patience = Patience {
    ask_after: 4,
    give_up_after: 34,
};

/// One honest party.
pub struct Party {
    pub ceremony: Ceremony,
    identity: Identity,
    rng: Seeded,
    /// Shares that its driver has stored, by attempt.
    pub stored: BTreeMap<u8, Outcome>,
    /// Stores that take until the next round.
    storing: Vec<Outcome>,
    pub finished: Option<u8>,
    pub aborts: Vec<Aborted>,
}

/// A message on its way.
#[derive(Clone)]
pub struct Envelope {
    pub to: ShareIndex,
    pub bytes: Vec<u8>,
    /// It has been kept back for a round already.
    waited: bool,
}

impl Envelope {
    pub fn new(to: ShareIndex, bytes: Vec<u8>) -> Self {
        let waited = false;
        Self { to, bytes, waited }
    }
}

/// All parties; those that are not in `honest` are the adversary's.
pub struct Cluster {
    pub t: u8,
    pub n: u8,
    pub honest: BTreeMap<ShareIndex, Party>,
    pub adversary: Adversary,
    network: Vec<Envelope>,
    pub rng: Seeded,
}

pub fn identity(index: ShareIndex) -> Identity {
    Identity::from_seed(Secret::take(&mut [index.get(); 32]))
}

pub fn plan(t: u8, n: u8, attempts: u8) -> Plan {
    let sharing = sharing(t, n);
    let roster: Vec<Principal> = sharing
        .threshold
        .indices()
        .map(|index| identity(index).principal())
        .collect();
    Plan::new(sharing, roster, PATIENCE, attempts).unwrap()
}

impl Cluster {
    pub fn new(seed: u64, (t, n): (u8, u8), attempts: u8, adversary: Adversary) -> Self {
        let mut cluster = Self {
            t,
            n,
            honest: BTreeMap::new(),
            adversary,
            network: Vec::new(),
            rng: Seeded::new(seed),
        };
        for index in sharing(t, n).threshold.indices() {
            if cluster.adversary.owns(index) {
                continue;
            }
            let identity = identity(index);
            let mut rng = Seeded::new(seed * 1_000 + u64::from(index.get()));
            let plan = plan(t, n, attempts);
            let (ceremony, effects) = Ceremony::start(plan, index, &identity, &mut rng).unwrap();
            let party = Party {
                ceremony,
                identity,
                rng,
                stored: BTreeMap::new(),
                storing: Vec::new(),
                finished: None,
                aborts: Vec::new(),
            };
            cluster.honest.insert(index, party);
            cluster.apply(index, effects);
        }
        let begun = cluster.adversary.start(&plan(t, n, attempts));
        cluster.network.extend(begun);
        cluster
    }

    /// Runs until every honest party is through, or the bound that the patience sets.
    pub fn run(&mut self, attempts: u32) {
        let rounds = attempts * 4 * (PATIENCE.give_up_after + 4);
        for _ in 0..rounds {
            self.round();
            if self.honest.values().all(Party::is_through) && self.network.is_empty() {
                return;
            }
        }
    }

    fn round(&mut self) {
        let mut now = std::mem::take(&mut self.network);
        // What is left over arrives in the next round.
        let mut steps = 0;
        while !now.is_empty() {
            steps += 1;
            assert!(steps < 100_000, "messages without end");
            let at = self.rng.below(now.len());
            let mut envelope = now.swap_remove(at);
            if !envelope.waited && self.rng.once_in(4) {
                envelope.waited = true;
                self.network.push(envelope);
                continue;
            }
            self.deliver(&envelope);
        }
        let due: Vec<ShareIndex> = self.honest.keys().copied().collect();
        for index in due {
            let Some(party) = self.honest.get_mut(&index) else {
                continue;
            };
            let mut effects = Vec::new();
            for outcome in std::mem::take(&mut party.storing) {
                let attempt = outcome.attempt;
                party.stored.insert(attempt, outcome);
                let (ceremony, rng) = (&mut party.ceremony, &mut party.rng);
                effects.extend(ceremony.stored(attempt, &party.identity, rng));
            }
            effects.extend(party.ceremony.tick(&party.identity, &mut party.rng));
            self.apply(index, effects);
        }
        let sent = self.adversary.tick();
        self.network.extend(sent);
    }

    fn deliver(&mut self, envelope: &Envelope) {
        if self.adversary.owns(envelope.to) {
            let sent = self.adversary.receive(envelope.to, &envelope.bytes);
            self.network.extend(sent);
            return;
        }
        let Some(party) = self.honest.get_mut(&envelope.to) else {
            return;
        };
        let ceremony = &mut party.ceremony;
        let effects = ceremony.receive(&envelope.bytes, &party.identity, &mut party.rng);
        self.apply(envelope.to, effects);
    }

    fn apply(&mut self, from: ShareIndex, effects: Vec<Effect>) {
        for effect in effects {
            let Some(party) = self.honest.get_mut(&from) else {
                return;
            };
            match effect {
                Effect::Broadcast(bytes) => {
                    let others = sharing(self.t, self.n).threshold.indices();
                    let others = others.filter(|to| *to != from);
                    let bytes = &bytes;
                    self.network
                        .extend(others.map(|to| Envelope::new(to, bytes.clone())));
                }
                Effect::Send { to, message } => self.network.push(Envelope::new(to, message)),
                Effect::Store(outcome) => party.storing.push(*outcome),
                Effect::Finished { attempt } => {
                    assert_eq!(party.finished, None, "finished twice");
                    party.finished = Some(attempt);
                }
                Effect::Aborted(aborted) => party.aborts.push(aborted),
            }
        }
    }

    /// What must hold whatever the adversary did.
    pub fn check(&self) {
        for (index, party) in &self.honest {
            assert!(
                party.is_through(),
                "party {index} neither finished nor gave up"
            );
            for aborted in &party.aborts {
                let verdict = &aborted.verdict;
                assert!(!verdict.culprits.is_empty(), "an abort without a culprit");
                let honest: Vec<&ShareIndex> = verdict
                    .culprits
                    .iter()
                    .filter(|culprit| self.honest.contains_key(culprit))
                    .collect();
                assert!(
                    honest.is_empty(),
                    "party {index} blames {honest:?}: {aborted:?}"
                );
            }
        }
        let attempts: Vec<u8> = self
            .honest
            .values()
            .filter_map(|party| party.finished)
            .collect();
        let Some(attempt) = attempts.first() else {
            return;
        };
        // A key exists for one honest party: every honest one holds a share of that very key and knows that it exists.
        assert!(
            attempts.iter().all(|other| other == attempt),
            "two keys: {attempts:?}"
        );
        let unaware: Vec<_> = self
            .honest
            .iter()
            .filter(|(_, party)| party.finished.is_none())
            .map(|(index, party)| (index, &party.aborts))
            .collect();
        assert!(unaware.is_empty(), "not everyone knows: {unaware:?}");
        let outcomes: Vec<&Outcome> = self
            .honest
            .values()
            .map(|party| party.stored.get(attempt).expect("a stored share"))
            .collect();
        let public = &outcomes[0].public;
        for outcome in &outcomes {
            assert_eq!(&outcome.public, public, "different public keys");
            let own = public.share(outcome.share.index()).expect("an own key");
            assert_eq!(outcome.share.public(), own);
        }
        // Any t of them open: the first t and the last t.
        let t = usize::from(self.t);
        for chosen in [&outcomes[..t], &outcomes[outcomes.len() - t..]] {
            assert_eq!(&element(&interpolate(chosen)), public.group());
        }
    }
}

impl Party {
    fn is_through(&self) -> bool {
        self.finished.is_some() || self.aborts.last().is_some_and(|aborted| aborted.last)
    }
}

/// The secret behind t shares, by Lagrange's formula: no party of a deployment ever computes it.
fn interpolate(outcomes: &[&Outcome]) -> Scalar {
    let x = |outcome: &Outcome| Scalar::from(outcome.share.index().get());
    outcomes
        .iter()
        .map(|own| {
            let others = outcomes.iter().filter(|other| x(other) != x(own));
            let weight: Scalar = others
                .map(|other| x(other) * (x(other) - x(own)).invert())
                .product();
            let share: &SecretScalar = own.share.danger_secret();
            weight * share.danger_scalar()
        })
        .sum()
}
