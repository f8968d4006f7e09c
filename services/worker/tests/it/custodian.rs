//! A custodian that keeps its shares in memory: honest by the rules of `custody` and `threshold`, unless a test tells it to cheat.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crypto::{Identity, Secret};
use custody::version::{DhOutcome, Part, check_deal, check_show, hold};
use custody::{
    Ask, CiphertextBytes, Denial, Judge, LedgerName, LedgerView, Reason, ShareName, Shares,
};
use domain::{KeyId, KeyVersion, PlatformType, Slot};
use enclave_client::{Answering, Asker, Refusal};
use enclave_wire::proof::borrow;
use enclave_wire::secrets;
use enclave_wire::v1::{self, answer::Outcome, question::Ask as Question};
use getrandom::SysRng;
use ledger::Record as _;
use ledger::records::VersionStatement;
use rand_core::UnwrapErr;
use threshold::dkg::{Ceremony, Effect, Patience, Plan};
use threshold::{CustodianRecord, DhPublic, PqShare};

use crate::ledger_world::DEPLOYMENT;

/// What a custodian does besides, or instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Answers nothing at all, ever.
    Hang,
    /// Answers after so long.
    Late(Duration),
    /// Refuses whatever it is asked.
    Refuse(Reason),
    /// Releases random bytes as its share.
    Garbage,
    /// Releases a share of another key.
    AnotherKeysShare,
    /// Releases another custodian's share.
    ShiftedShare,
    /// Signs another request's hash.
    BadSignature,
    /// Releases too short a share.
    ShortShare,
    /// Refuses this step of making a key.
    FailAt(Step),
    /// Says of the key that was made another public key than the others.
    AnotherKeyMade,
    /// Signs something else than that it holds its share.
    BadAcknowledgement,
    /// Shows another share than it was dealt.
    BadShown,
    /// Releases partials that are not what it says: only the recipient can tell.
    BadPartials,
}

/// A step of making a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The n-th ceremony step.
    Ceremony(usize),
    Hold,
    Show,
}

struct Made {
    ceremony: Ceremony,
    outbox: Vec<(u8, Vec<u8>)>,
    outcomes: HashMap<u8, DhOutcome>,
    public: HashMap<u8, DhPublic>,
    finished: Option<u8>,
    steps: usize,
}

/// One custodian.
pub struct Custodian {
    pub me: Identity,
    slot: Slot,
    view: Arc<dyn LedgerView>,
    judge: Judge,
    name: LedgerName,
    pub fault: Mutex<Fault>,
    pub released: AtomicUsize,
    made: Mutex<HashMap<ShareName, Made>>,
    held: Held,
}

/// A statement and the record of the share that is held for it.
type Kept = (Vec<u8>, Vec<u8>);

#[derive(Default)]
struct Held(Mutex<HashMap<ShareName, Kept>>);

impl Shares for Held {
    fn share(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial> {
        let held = self.0.lock().unwrap();
        let read = |bytes: &Vec<u8>| CustodianRecord::decode(DEPLOYMENT, bytes).unwrap();
        Ok(held.get(name).map(|(_, record)| read(record)))
    }
}

fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

impl Custodian {
    pub fn new(me: Identity, slot: Slot, name: LedgerName, view: Arc<dyn LedgerView>) -> Self {
        Self {
            judge: Judge::new(name, me.principal()),
            name,
            me,
            slot,
            view,
            fault: Mutex::default(),
            released: AtomicUsize::new(0),
            made: Mutex::default(),
            held: Held::default(),
        }
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// The names of everything that is held, for tests that swap shares.
    pub fn shares(&self) -> Vec<ShareName> {
        self.held.0.lock().unwrap().keys().copied().collect()
    }

    fn decrypt(&self, asker: &Asker, ask: &v1::Decrypt, fault: Fault) -> Result<Outcome, Refusal> {
        assert!(
            ask.ciphertexts.iter().all(|one| one.pq.is_empty()),
            "custodians are not sent the post-quantum ciphertexts"
        );
        let proof = borrow(ask.proof.as_ref());
        let ciphertexts: Vec<CiphertextBytes<'_>> = ask
            .ciphertexts
            .iter()
            .map(|one| CiphertextBytes {
                dh: &one.dh,
                pq_hash: &one.pq_hash,
                context: &one.context,
            })
            .collect();
        let question = Ask {
            peer: asker.role,
            request: &ask.request,
            ciphertexts: &ciphertexts,
            proof: &proof,
        };
        let verdict = self
            .judge
            .decrypt(self.view.as_ref(), &self.held, &question, &mut rng());
        let permit = verdict.outcome.map_err(Refusal::from)?;
        let release = permit
            .release(&self.me, &mut rng())
            .map_err(Refusal::from)?;
        self.released.fetch_add(1, Ordering::SeqCst);
        let mut share = release.pq_share;
        let mut partials = release.partials;
        match fault {
            Fault::Garbage => share = Secret::random(&mut rng()),
            Fault::AnotherKeysShare => {
                let used = verdict.facts.key.unwrap();
                let other = self
                    .shares()
                    .into_iter()
                    .find(|name| name.key != used)
                    .unwrap();
                share = self.held.share(&other).unwrap().unwrap().pq().to_secret();
            }
            Fault::ShiftedShare => {
                let mut bytes = *share.expose();
                bytes[0] ^= 1;
                share = Secret::take(&mut bytes);
            }
            Fault::BadSignature => partials.signature.0[0] ^= 1,
            Fault::BadPartials => {
                // Signed as they are, and not what the recipient can open.
                let junk = custody::Recipient::generate(&mut rng());
                let mut request =
                    (*sealed::signed::Signed::<custody::DecryptRequest>::decode(&ask.request)
                        .unwrap())
                    .clone();
                let hash = request.hash(&DEPLOYMENT);
                request.recipient_dh = junk.dh();
                let record = self.held.share(&self.shares()[0]).unwrap().unwrap();
                partials = custody::SealedPartials::seal(
                    &mut rng(),
                    &self.me,
                    record.sharing(),
                    release.index,
                    (&request, &hash),
                    &[],
                )
                .unwrap();
            }
            _ => {}
        }
        let mut pq_share = secrets::put(&share);
        if fault == Fault::ShortShare {
            pq_share.truncate(95);
        }
        Ok(Outcome::Release(v1::Release {
            sealed_partials: partials.sealed.into(),
            pq_share,
            signature: Some(v1::CustodianSignature {
                index: u32::from(release.index.get()),
                principal: self.me.principal().0.to_vec().into(),
                signature: partials.signature.0.to_vec().into(),
            }),
        }))
    }

    /// Begins a key generation that the ledger has pending.
    fn begin(&self, name: &ShareName, ask: &v1::Ceremony) -> Result<Made, Refusal> {
        let proof = borrow(ask.proof.as_ref());
        let shown =
            custody::Shown::open(self.view.as_ref(), &DEPLOYMENT, &proof).map_err(Refusal::from)?;
        let creation = shown.creation(&name.key).map_err(Refusal::from)?;
        let part = Part::find(&DEPLOYMENT, &self.me.principal(), &shown, &creation, name)
            .map_err(Refusal::from)?;
        let now = self.view.time();
        check_deal(&self.name, &shown, &creation, name, &ask.request, now)
            .map_err(Refusal::from)?;
        let patience = Patience {
            ask_after: 4,
            give_up_after: 40,
        };
        let plan = Plan::new(part.sharing, part.roster, patience, 3).unwrap();
        let (ceremony, effects) = Ceremony::start(plan, part.index, &self.me, &mut rng()).unwrap();
        let mut made = Made {
            ceremony,
            outbox: Vec::new(),
            outcomes: HashMap::new(),
            public: HashMap::new(),
            finished: None,
            steps: 0,
        };
        made.follow(effects, &self.me);
        Ok(made)
    }

    fn ceremony(&self, ask: &v1::Ceremony, fault: Fault) -> Result<Outcome, Refusal> {
        let name = ShareName {
            key: KeyId(ask.key[..].try_into().unwrap()),
            version: KeyVersion::new(ask.version).unwrap(),
            fencing: ask.fencing,
        };
        let mut all = self.made.lock().unwrap();
        let made = match all.entry(name) {
            Entry::Occupied(made) => made.into_mut(),
            Entry::Vacant(place) => place.insert(self.begin(&name, ask)?),
        };
        made.steps += 1;
        if fault == Fault::FailAt(Step::Ceremony(made.steps)) {
            return Err(Refusal::from(Denial::from(Reason::Storage)));
        }
        if ask.messages.is_empty() {
            // Somebody came by and had nothing: that is how time passes here.
            let effects = made.ceremony.tick(&self.me, &mut rng());
            made.follow(effects, &self.me);
        }
        for message in &ask.messages {
            let effects = made.ceremony.receive(message, &self.me, &mut rng());
            made.follow(effects, &self.me);
        }
        let finished = made.finished.map(|attempt| {
            let public = &made.public[&attempt];
            let mut group = public.group().as_bytes().to_vec();
            if fault == Fault::AnotherKeyMade {
                group = public.shares()[0].as_bytes().to_vec();
            }
            v1::DhKey {
                attempt: u32::from(attempt),
                group: group.into(),
                shares: public
                    .shares()
                    .iter()
                    .map(|one| one.as_bytes().to_vec().into())
                    .collect(),
            }
        });
        Ok(Outcome::Ceremony(v1::CeremonyStep {
            messages: made
                .outbox
                .drain(..)
                .map(|(to, message)| v1::CeremonyMessage {
                    to: u32::from(to),
                    message: message.into(),
                })
                .collect(),
            finished,
            failed: None,
        }))
    }

    fn hold(&self, mut ask: v1::HoldShare, fault: Fault) -> Result<Outcome, Refusal> {
        let share = secrets::take(&mut ask.pq_share).unwrap();
        let statement = VersionStatement::decode(&ask.statement).unwrap();
        if fault == Fault::FailAt(Step::Hold) {
            return Err(Refusal::from(Denial::from(Reason::Storage)));
        }
        let name = ShareName::from(&statement);
        let mut held = self.held.0.lock().unwrap();
        if !self.slot.standby
            && held
                .get(&name)
                .is_none_or(|(known, _)| *known != ask.statement)
        {
            if held.contains_key(&name) {
                return Err(Refusal::from(Denial::from(Reason::Statement)));
            }
            let mut made = self.made.lock().unwrap();
            let made = made
                .get_mut(&name)
                .ok_or_else(|| Refusal::from(Denial::from(Reason::UnknownShare)))?;
            let attempt = u8::try_from(ask.attempt).unwrap();
            let outcome = made
                .outcomes
                .remove(&attempt)
                .ok_or_else(|| Refusal::from(Denial::from(Reason::UnknownShare)))?;
            let share = PqShare::from_secret(outcome.share.index(), &share).unwrap();
            let record = hold(
                &DEPLOYMENT,
                &name,
                outcome,
                PlatformType::Software,
                &statement,
                &ask.commitments,
                share,
            )
            .map_err(Refusal::from)?;
            held.insert(name, (ask.statement.to_vec(), record.encode().to_vec()));
        }
        let mut said = statement.acknowledge(&self.me, &DEPLOYMENT, self.slot);
        if fault == Fault::BadAcknowledgement {
            said.signature.0[5] ^= 1;
        }
        Ok(Outcome::Held(v1::Held {
            acknowledgement: Some(v1::Acknowledgement {
                index: u32::from(said.slot.index.get()),
                standby: said.slot.standby,
                signature: said.signature.0.to_vec().into(),
            }),
        }))
    }

    fn show(&self, ask: &v1::ShowShare, fault: Fault) -> Result<Outcome, Refusal> {
        if fault == Fault::FailAt(Step::Show) {
            return Err(Refusal::from(Denial::from(Reason::Storage)));
        }
        let statement = VersionStatement::decode(&ask.statement).unwrap();
        let name = ShareName::from(&statement);
        let proof = borrow(ask.proof.as_ref());
        let shown =
            custody::Shown::open(self.view.as_ref(), &DEPLOYMENT, &proof).map_err(Refusal::from)?;
        check_show(&shown, &name).map_err(Refusal::from)?;
        let record = self.held.share(&name).unwrap();
        let record = record.ok_or_else(|| Refusal::from(Denial::from(Reason::UnknownShare)))?;
        let mut bytes = *record.pq().to_secret().expose();
        if fault == Fault::BadShown {
            bytes[7] ^= 1;
        }
        Ok(Outcome::Shown(v1::Shown {
            pq_share: bytes.to_vec().into(),
        }))
    }
}

impl Made {
    fn follow(&mut self, effects: Vec<Effect>, me: &Identity) {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Broadcast(message) => self.outbox.push((0, message)),
                Effect::Send { to, message } => self.outbox.push((to.get(), message)),
                Effect::Store(outcome) => {
                    let kept = DhOutcome {
                        attempt: outcome.attempt,
                        share: outcome.share,
                        public: outcome.public.clone(),
                    };
                    self.outcomes.insert(outcome.attempt, kept);
                    self.public.insert(outcome.attempt, outcome.public);
                    effects.extend(self.ceremony.stored(outcome.attempt, me, &mut rng()));
                }
                Effect::Finished { attempt } => self.finished = Some(attempt),
                Effect::Aborted(_) => {}
            }
        }
    }
}

impl Answering for Custodian {
    async fn answer(&self, asker: &Asker, ask: Question) -> Result<Outcome, Refusal> {
        if matches!(ask, Question::Describe(_)) {
            return Ok(Outcome::Description(v1::Description {
                principal: self.me.principal().0.to_vec().into(),
                role: "custodian".to_owned(),
                ..v1::Description::default()
            }));
        }
        let fault = *self.fault.lock().unwrap();
        match fault {
            Fault::Hang => std::future::pending().await,
            Fault::Late(after) => tokio::time::sleep(after).await,
            Fault::Refuse(reason) => return Err(Denial::from(reason).into()),
            _ => {}
        }
        match ask {
            Question::Decrypt(ask) => self.decrypt(asker, &ask, fault),
            Question::Ceremony(ask) => self.ceremony(&ask, fault),
            Question::HoldShare(ask) => self.hold(ask, fault),
            Question::ShowShare(ask) => self.show(&ask, fault),
            _ => Err(Refusal::from(Denial::from(Reason::PeerRole))),
        }
    }
}
