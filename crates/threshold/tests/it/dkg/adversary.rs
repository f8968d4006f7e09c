//! Parties that are not honest. They run the real machine and lie on top of it: sign with their real keys, see everything
//! that is sent to any of them, and choose whom to send what.

use std::collections::{BTreeMap, BTreeSet};

use crypto::{Identity, Label};
use domain::{DeploymentId, ShareIndex};
use rand_core::Rng as _;
use threshold::Sharing;
use threshold::dkg::{Ceremony, Effect, MESSAGE_BYTES_MAX, Plan};

use super::cluster::{Envelope, identity};
use crate::support::{Seeded, sharing};

pub const COMMIT: u8 = 1;
pub const DEAL: u8 = 2;
pub const READY: u8 = 3;
pub const ABORT: u8 = 5;

const HEADER_BYTES: usize = 1 + 1 + Sharing::BINDING_BYTES + 1 + 1;
const SIGNATURE_BYTES: usize = 64;
const HEAD_BYTES: usize = 96;

/// What one dishonest party does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Sends nothing at all.
    Dead,
    /// Is honest until its message of that kind, which it and all later ones never sends.
    DiesBefore(u8),
    /// Never sends its message of that kind to the first honest party.
    SkipsOne(u8),
    /// Sends each broadcast to the first honest party only.
    SendsToOne,
    /// Sends its message of that kind to one honest party only, and so late that others give up at about that time.
    LateToOne(u8),
    /// Makes two commits, and everything that follows from each: even parties get the one, odd ones the other.
    TwoFaces,
    /// Turns a bit of that byte of its message of that kind, and signs that.
    Garbles(u8, usize),
    /// Deals a wrong share to the first honest party.
    BadShare,
    /// Accuses others with evidence of that kind, which shows nothing, in the place of its last message.
    AccusesFalsely(u8),
    /// Sends what it saw before again and again, in pieces and altered, to everyone.
    Replays,
    /// Honest, but each message takes so many rounds.
    Slow(u32),
    /// Drops, repeats, delays, garbles, accuses and replays at random.
    Chaotic,
}

struct Puppet {
    behaviour: Behaviour,
    identity: Identity,
    machines: Vec<Ceremony>,
    rng: Seeded,
    is_dead: bool,
}

/// Everybody that is not honest.
pub struct Adversary {
    puppets: BTreeMap<ShareIndex, Puppet>,
    dishonest: BTreeSet<ShareIndex>,
    /// The first honest party.
    victim: ShareIndex,
    t: u8,
    n: u8,
    round: u32,
    seen: Vec<Vec<u8>>,
    delayed: Vec<(u32, Envelope)>,
}

impl Adversary {
    pub fn none((t, n): (u8, u8)) -> Self {
        Self::new(0, (t, n), &[])
    }

    pub fn new(seed: u64, (t, n): (u8, u8), behaviours: &[(ShareIndex, Behaviour)]) -> Self {
        let mut everyone = sharing(t, n).threshold.indices();
        let is_honest = |index: &ShareIndex| behaviours.iter().all(|(other, _)| other != index);
        let puppets = behaviours
            .iter()
            .map(|(index, behaviour)| {
                let puppet = Puppet {
                    behaviour: *behaviour,
                    identity: identity(*index),
                    machines: Vec::new(),
                    rng: Seeded::new(seed ^ (u64::from(index.get()) << 32)),
                    is_dead: *behaviour == Behaviour::Dead,
                };
                (*index, puppet)
            })
            .collect();
        Self {
            puppets,
            dishonest: behaviours.iter().map(|(index, _)| *index).collect(),
            victim: everyone.find(is_honest).unwrap(),
            t,
            n,
            round: 0,
            seen: Vec::new(),
            delayed: Vec::new(),
        }
    }

    pub fn owns(&self, index: ShareIndex) -> bool {
        self.dishonest.contains(&index)
    }

    fn everyone(&self) -> Vec<ShareIndex> {
        sharing(self.t, self.n).threshold.indices().collect()
    }

    pub fn start(&mut self, plan: &Plan) -> Vec<Envelope> {
        let mut sent = Vec::new();
        for index in self.everyone() {
            let Some(mut puppet) = self.puppets.remove(&index) else {
                continue;
            };
            let faces = if puppet.behaviour == Behaviour::TwoFaces {
                2
            } else {
                1
            };
            for face in 0..faces {
                let (machine, effects) =
                    Ceremony::start(plan.clone(), index, &puppet.identity, &mut puppet.rng)
                        .unwrap();
                puppet.machines.push(machine);
                self.act(index, &mut puppet, face, effects, &mut sent);
            }
            self.puppets.insert(index, puppet);
        }
        sent
    }

    pub fn receive(&mut self, to: ShareIndex, bytes: &[u8]) -> Vec<Envelope> {
        if self.seen.len() < 400 {
            self.seen.push(bytes.to_vec());
        }
        let mut sent = Vec::new();
        let Some(mut puppet) = self.puppets.remove(&to) else {
            return sent;
        };
        for face in 0..puppet.machines.len() {
            let effects = puppet.machines[face].receive(bytes, &puppet.identity, &mut puppet.rng);
            self.act(to, &mut puppet, face, effects, &mut sent);
        }
        self.puppets.insert(to, puppet);
        sent
    }

    pub fn tick(&mut self) -> Vec<Envelope> {
        self.round += 1;
        let mut sent = Vec::new();
        for index in self.everyone() {
            let Some(mut puppet) = self.puppets.remove(&index) else {
                continue;
            };
            for face in 0..puppet.machines.len() {
                let effects = puppet.machines[face].tick(&puppet.identity, &mut puppet.rng);
                self.act(index, &mut puppet, face, effects, &mut sent);
            }
            if puppet.behaviour == Behaviour::Replays
                || puppet.behaviour == Behaviour::Chaotic && puppet.rng.once_in(4)
            {
                self.replay(&mut puppet.rng, &mut sent);
            }
            if puppet.behaviour == Behaviour::Chaotic && puppet.rng.once_in(60) {
                let kind = u8::try_from(puppet.rng.below(6)).unwrap();
                self.accuse(index, &mut puppet, kind, &mut sent);
            }
            self.puppets.insert(index, puppet);
        }
        let round = self.round;
        let due = self.delayed.extract_if(.., |(when, _)| *when <= round);
        sent.extend(due.map(|(_, envelope)| envelope));
        sent
    }

    fn act(
        &mut self,
        index: ShareIndex,
        puppet: &mut Puppet,
        face: usize,
        effects: Vec<Effect>,
        sent: &mut Vec<Envelope>,
    ) {
        for effect in effects {
            match effect {
                Effect::Broadcast(bytes) => {
                    for to in self.everyone().into_iter().filter(|to| *to != index) {
                        let bytes = bytes.clone();
                        self.send(index, puppet, face, Envelope::new(to, bytes), sent);
                    }
                    if bytes[1] == READY
                        && let Behaviour::AccusesFalsely(kind) = puppet.behaviour
                    {
                        self.accuse(index, puppet, kind, sent);
                    }
                }
                Effect::Send { to, message } => {
                    self.send(index, puppet, face, Envelope::new(to, message), sent);
                }
                Effect::Store(outcome) => {
                    let (machine, rng) = (&mut puppet.machines[face], &mut puppet.rng);
                    let effects = machine.stored(outcome.attempt, &puppet.identity, rng);
                    self.act(index, puppet, face, effects, sent);
                }
                Effect::Finished { .. } | Effect::Aborted(_) => {}
            }
        }
    }

    /// One message from a dishonest party's machine, as it leaves.
    fn send(
        &mut self,
        from: ShareIndex,
        puppet: &mut Puppet,
        face: usize,
        mut envelope: Envelope,
        sent: &mut Vec<Envelope>,
    ) {
        let kind = envelope.bytes[1];
        let is_own = envelope.bytes[HEADER_BYTES - 1] == from.get();
        let is_first = envelope.to == self.victim;
        // Its own machine knows nothing of what was altered and would contradict it in the next round.
        let altered = match puppet.behaviour {
            Behaviour::Garbles(kind, _) => kind,
            Behaviour::BadShare => DEAL,
            _ => ABORT,
        };
        puppet.is_dead |= is_own && altered < kind && kind <= READY;
        match puppet.behaviour {
            Behaviour::Dead => puppet.is_dead = true,
            Behaviour::AccusesFalsely(_) => puppet.is_dead |= kind == READY,
            Behaviour::DiesBefore(last) => puppet.is_dead |= kind == last,
            Behaviour::SkipsOne(skipped) if is_own && kind == skipped && is_first => return,
            Behaviour::SendsToOne if is_own && !is_first => return,
            Behaviour::LateToOne(late) if is_own && kind == late => {
                if is_first {
                    let rounds = u32::try_from(26 + puppet.rng.below(6)).unwrap();
                    self.delayed.push((self.round + rounds, envelope));
                }
                return;
            }
            Behaviour::TwoFaces if usize::from(envelope.to.get()) % 2 != face => return,
            Behaviour::Garbles(garbled, at) if is_own && kind == garbled => {
                envelope.bytes = resigned(&envelope.bytes, &puppet.identity, |payload| {
                    let at = at % payload.len();
                    payload[at] ^= 1;
                });
            }
            Behaviour::BadShare if is_own && kind == DEAL => {
                let victim = self.victim;
                envelope.bytes = self.with_bad_share(from, victim, &envelope.bytes, puppet);
            }
            Behaviour::Slow(rounds) => {
                self.delayed.push((self.round + rounds, envelope));
                return;
            }
            Behaviour::Chaotic => {
                self.send_chaotically(puppet, envelope, sent);
                return;
            }
            _ => {}
        }
        if !puppet.is_dead {
            sent.push(envelope);
        }
    }

    fn send_chaotically(
        &mut self,
        puppet: &mut Puppet,
        mut envelope: Envelope,
        sent: &mut Vec<Envelope>,
    ) {
        let rng = &mut puppet.rng;
        match rng.below(40) {
            0..3 => return,
            3..6 => sent.push(envelope.clone()),
            6..14 => {
                let rounds = u32::try_from(rng.below(34)).unwrap();
                self.delayed.push((self.round + rounds, envelope));
                return;
            }
            14 => {
                let at = rng.below(envelope.bytes.len());
                envelope.bytes[at] ^= 0x40;
            }
            15 => {
                let at = rng.below(1 << 16);
                envelope.bytes = resigned(&envelope.bytes, &puppet.identity, |payload| {
                    let at = at % payload.len();
                    payload[at] ^= 0x04;
                });
            }
            _ => {}
        }
        sent.push(envelope);
    }

    /// A deal whose share for `victim` has a bit turned.
    fn with_bad_share(
        &self,
        from: ShareIndex,
        victim: ShareIndex,
        bytes: &[u8],
        puppet: &Puppet,
    ) -> Vec<u8> {
        let before = usize::from(victim.get()) - 1 - usize::from(victim > from);
        let at = usize::from(self.n) * HEAD_BYTES + before * 32;
        resigned(bytes, &puppet.identity, |payload| payload[at] ^= 1)
    }

    /// Old messages, whole, cut and altered, and noise.
    fn replay(&self, rng: &mut Seeded, sent: &mut Vec<Envelope>) {
        for to in self.everyone() {
            if self.seen.is_empty() || self.owns(to) {
                continue;
            }
            let mut bytes = self.seen[rng.below(self.seen.len())].clone();
            match rng.below(6) {
                0 => bytes.truncate(rng.below(bytes.len() + 1)),
                1 => {
                    let at = rng.below(bytes.len());
                    bytes[at] ^= 1 << rng.below(8);
                }
                2 => {
                    bytes = vec![0; rng.below(MESSAGE_BYTES_MAX + 2)];
                    rng.fill_bytes(&mut bytes);
                }
                _ => {}
            }
            sent.push(Envelope::new(to, bytes));
        }
    }

    /// An abort whose evidence shows nothing, or nothing against the accused.
    fn accuse(&self, from: ShareIndex, puppet: &mut Puppet, kind: u8, sent: &mut Vec<Envelope>) {
        let Some(own) = self.latest_header(from) else {
            return;
        };
        let victim = self.victim;
        let found = |kind: u8| {
            let of_victim = |bytes: &&Vec<u8>| {
                bytes.len() > HEADER_BYTES
                    && bytes[1] == kind
                    && bytes[HEADER_BYTES - 1] == victim.get()
                    && bytes[2..HEADER_BYTES - 1] == own[2..HEADER_BYTES - 1]
            };
            self.seen.iter().find(of_victim).cloned()
        };
        let mut payload = vec![kind];
        match kind {
            1 => {
                payload.push(COMMIT);
                let mut set = [0; 32];
                set[usize::from((victim.get() - 1) / 8)] = 0x80 >> ((victim.get() - 1) % 8);
                payload.extend(set);
            }
            2 => payload.extend(found(COMMIT).unwrap_or_default()),
            3 => {
                let Some(message) = found(COMMIT) else { return };
                let head = head(&message);
                payload.extend([COMMIT, victim.get()]);
                payload.extend(head);
                payload.extend(head);
            }
            4 => {
                // A true commit and deal of the victim, and a pad that is not theirs.
                let (Some(commit), Some(deal)) = (found(COMMIT), found(DEAL)) else {
                    return;
                };
                payload.extend(&commit);
                payload.extend(&deal);
                let mut mine = commit;
                mine[HEADER_BYTES - 1] = from.get();
                payload.extend(resigned(&mine, &puppet.identity, |_| {}));
                payload.extend([0xe2; 32]);
                payload.extend([7; 96]);
            }
            _ => payload.extend([9; 70]),
        }
        let mut header = own[..HEADER_BYTES].to_vec();
        header[1] = ABORT;
        let message = sign(&header, &payload, &puppet.identity);
        for to in self.everyone().into_iter().filter(|to| !self.owns(*to)) {
            sent.push(Envelope::new(to, message.clone()));
        }
    }

    /// The header of a message of the attempt that others are in, under this party's name.
    fn latest_header(&self, from: ShareIndex) -> Option<Vec<u8>> {
        let latest = self
            .seen
            .iter()
            .rev()
            .find(|bytes| bytes.len() > HEADER_BYTES)?;
        let mut header = latest[..HEADER_BYTES].to_vec();
        header[HEADER_BYTES - 1] = from.get();
        Some(header)
    }
}

/// Changes the payload and signs again: the wire format written down a second time.
pub fn resigned(bytes: &[u8], identity: &Identity, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (header, rest) = bytes.split_at(HEADER_BYTES);
    let mut payload = rest[..rest.len() - SIGNATURE_BYTES].to_vec();
    change(&mut payload);
    sign(header, &payload, identity)
}

fn sign(header: &[u8], payload: &[u8], identity: &Identity) -> Vec<u8> {
    let mut body = header[1..].to_vec();
    body.extend(hash(payload));
    let deployment = sharing(2, 2).deployment;
    let signature = identity.sign(Label::new("dkg-message"), &deployment, &body);
    [header, payload, &signature.0].concat()
}

fn hash(payload: &[u8]) -> [u8; 32] {
    let DeploymentId(deployment) = sharing(2, 2).deployment;
    let message = [b"strongroom/v1/dkg-payload\0", &deployment[..], payload].concat();
    *blake3::hash(&message).as_bytes()
}

/// Hash and signature of a message.
fn head(message: &[u8]) -> [u8; HEAD_BYTES] {
    let payload = &message[HEADER_BYTES..message.len() - SIGNATURE_BYTES];
    let mut out = [0; HEAD_BYTES];
    out[..32].copy_from_slice(&hash(payload));
    out[32..].copy_from_slice(&message[message.len() - SIGNATURE_BYTES..]);
    out
}
