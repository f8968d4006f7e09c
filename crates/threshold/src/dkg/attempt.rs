//! One attempt, as one party sees it.

use std::collections::{BTreeMap, BTreeSet};

use domain::ShareIndex;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::blame::{self, Judgement};
use super::message::{Head, Kind, Setting, Signed};
use super::payload::{self, BadShare, Body, DealBody, Echo, Gap, Reason};
use super::round::{self, CommitBody, Dealt, Opening, Refused};
use super::{Aborted, CeremonySigner, Effect, Fault, Outcome, Patience, Verdict};

/// How often one message is sent again to one party that asks for it.
const SERVES_MAX: u8 = 4;

/// State of one attempt.
#[derive(Debug)]
pub(super) struct Attempt {
    setting: Setting,
    me: ShareIndex,
    patience: Patience,
    phase: Phase,
    /// Ticks in this phase.
    ticks: u32,
    /// The first message of each kind from each party.
    held: BTreeMap<(Kind, ShareIndex), Held>,
    /// Heads that others echoed, whether or not the message has come.
    heard: BTreeMap<(Kind, ShareIndex), Head>,
    commits: BTreeMap<ShareIndex, CommitBody>,
    deals: BTreeMap<ShareIndex, DealBody>,
    /// Readies that echo the deals which this party holds, whole.
    readies: BTreeMap<ShareIndex, Vec<u8>>,
    /// Readies that came before this party held all deals.
    echoes: BTreeMap<ShareIndex, Echo>,
    /// Who asked for what that had not come yet.
    wanted: BTreeSet<(ShareIndex, Kind, ShareIndex)>,
    /// How often each was sent again to each.
    served: BTreeMap<(ShareIndex, Kind, ShareIndex), u8>,
}

#[derive(Debug)]
enum Phase {
    /// Waits for commits.
    Committing(Box<Opening>),
    /// Waits for deals.
    Dealing(Box<Dealt>),
    /// Waits for the driver to store the share.
    Storing,
    /// Waits for readies.
    Confirming,
    /// All readies are there.
    Done,
    /// Failed. The abort message is repeated to whoever has not noticed.
    Aborted {
        message: Option<Vec<u8>>,
        undecided: bool,
    },
    /// Between two phases, never seen outside a transition.
    Moving,
}

#[derive(Debug)]
struct Held {
    message: Signed,
    /// It came later than an honest party's could.
    late: bool,
}

impl Attempt {
    pub(super) fn start(
        setting: Setting,
        me: ShareIndex,
        patience: Patience,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> (Self, Vec<Effect>) {
        let mut attempt = Self {
            setting,
            me,
            patience,
            phase: Phase::Moving,
            ticks: 0,
            held: BTreeMap::new(),
            heard: BTreeMap::new(),
            commits: BTreeMap::new(),
            deals: BTreeMap::new(),
            readies: BTreeMap::new(),
            echoes: BTreeMap::new(),
            wanted: BTreeSet::new(),
            served: BTreeMap::new(),
        };
        let mut effects = Vec::new();
        match round::commit(&attempt.setting, me, rng) {
            Ok((opening, payload)) => {
                attempt.phase = Phase::Committing(Box::new(opening));
                attempt.send_round(Kind::Commit, payload, signer, &mut effects);
            }
            Err(Refused) => attempt.give_up_on_ourselves(&mut effects),
        }
        (attempt, effects)
    }

    pub(super) fn number(&self) -> u8 {
        self.setting.attempt()
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    pub(super) fn is_undecided(&self) -> bool {
        matches!(
            self.phase,
            Phase::Aborted {
                undecided: true,
                ..
            }
        )
    }

    /// All readies, for a party that does not know that the key exists.
    pub(super) fn readies_to(&mut self, to: ShareIndex) -> Vec<Effect> {
        let count = self.served.entry((to, Kind::Abort, to)).or_default();
        if to == self.me || *count >= SERVES_MAX {
            return Vec::new();
        }
        *count += 1;
        let readies = self.readies.values().cloned();
        readies
            .map(|message| Effect::Send { to, message })
            .collect()
    }

    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
    ) -> Vec<Effect> {
        let Some(signed) = Signed::decode(&self.setting, bytes) else {
            return Vec::new();
        };
        let mut effects = Vec::new();
        // What comes back under one's own name says nothing new.
        if signed.sender == self.me {
            return effects;
        }
        match signed.kind {
            Kind::Missing => self.serve(&signed, &mut effects),
            Kind::Abort => self.take_abort(&signed, &mut effects),
            Kind::Commit | Kind::Deal | Kind::Ready => {
                self.take_round(signed, signer, rng, &mut effects);
            }
        }
        effects
    }

    pub(super) fn stored(&mut self, signer: &dyn CeremonySigner) -> Vec<Effect> {
        let mut effects = Vec::new();
        if matches!(self.phase, Phase::Storing) {
            self.enter(Phase::Confirming);
            let heads = self.heads(Kind::Deal);
            self.send_round(
                Kind::Ready,
                payload::encode_ready(&heads),
                signer,
                &mut effects,
            );
            self.confirm(&mut effects);
        }
        effects
    }

    pub(super) fn tick(&mut self, signer: &dyn CeremonySigner) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(kind) = self.awaited() else {
            return effects;
        };
        self.ticks = self.ticks.saturating_add(1);
        let gap = Gap {
            kind,
            senders: self.missing(kind),
        };
        if self.ticks >= self.patience.give_up_after {
            let verdict = Verdict {
                culprits: gap.senders.iter().copied().collect(),
                fault: Fault::Silent(kind),
            };
            self.accuse(&Reason::Silent(gap), verdict, signer, &mut effects);
        } else if self.ticks >= self.patience.ask_after {
            let mut payload = Vec::new();
            gap.write(&mut payload);
            let message = Signed::sign(&self.setting, Kind::Missing, self.me, payload, signer);
            effects.push(Effect::Broadcast(message.bytes().to_vec()));
        }
        effects
    }

    /// What this phase waits for.
    fn awaited(&self) -> Option<Kind> {
        match self.phase {
            Phase::Committing(_) => Some(Kind::Commit),
            Phase::Dealing(_) => Some(Kind::Deal),
            Phase::Confirming => Some(Kind::Ready),
            Phase::Storing | Phase::Done | Phase::Aborted { .. } | Phase::Moving => None,
        }
    }

    fn missing(&self, kind: Kind) -> BTreeSet<ShareIndex> {
        self.setting
            .indices()
            .filter(|index| !self.held.contains_key(&(kind, *index)))
            .collect()
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.ticks = 0;
    }

    /// Signs, keeps and broadcasts this party's message of a round.
    fn send_round(
        &mut self,
        kind: Kind,
        payload: Vec<u8>,
        signer: &dyn CeremonySigner,
        effects: &mut Vec<Effect>,
    ) {
        let message = Signed::sign(&self.setting, kind, self.me, payload, signer);
        effects.push(Effect::Broadcast(message.bytes().to_vec()));
        let body = Body::read(&self.setting, kind, self.me, &message.payload, |_, _, _| {
            true
        });
        match body {
            Some(body) => self.keep(message, body),
            None => self.give_up_on_ourselves(effects),
        }
    }

    fn keep(&mut self, message: Signed, body: Body) {
        let sender = message.sender;
        match body {
            Body::Commit(commit) => {
                self.commits.insert(sender, *commit);
            }
            Body::Deal(deal) => {
                self.deals.insert(sender, deal);
            }
            Body::Ready(echo) => {
                self.echoes.insert(sender, echo);
            }
        }
        let late = self.has_waited_for(message.kind);
        self.held
            .insert((message.kind, sender), Held { message, late });
    }

    fn take_round(
        &mut self,
        signed: Signed,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let key = (signed.kind, signed.sender);
        match &self.phase {
            Phase::Done => return,
            Phase::Aborted { undecided, .. } => {
                if *undecided && signed.kind == Kind::Ready {
                    self.take_late_ready(&signed, effects);
                } else {
                    self.repeat_abort(signed.sender, effects);
                }
                return;
            }
            _ => {}
        }
        let known = self.held.get(&key).map(|held| held.message.head);
        if known.is_some_and(|head| head.hash == signed.head.hash) {
            return;
        }
        let other = known.or_else(|| self.heard.get(&key).copied());
        if let Some(other) = other.filter(|head| head.hash != signed.head.hash) {
            self.accuse_of_equivocation(key, [other, signed.head], signer, effects);
            return;
        }
        let body = Body::read(
            &self.setting,
            signed.kind,
            signed.sender,
            &signed.payload,
            |kind, index, head| self.knows(kind, index, head),
        );
        let Some(body) = body else {
            let verdict = Verdict {
                culprits: vec![signed.sender],
                fault: Fault::Invalid(signed.kind),
            };
            let reason = Reason::Invalid(signed.bytes().to_vec());
            self.accuse(&reason, verdict, signer, effects);
            return;
        };
        let echoed = match &body {
            Body::Commit(_) => None,
            Body::Deal(deal) => Some((Kind::Commit, &deal.echo)),
            Body::Ready(echo) => Some((Kind::Deal, echo)),
        };
        if let Some((kind, echo)) = echoed
            && let Some((sender, heads)) = self.hear(kind, echo)
        {
            self.accuse_of_equivocation((kind, sender), heads, signer, effects);
            return;
        }
        let bytes = signed.bytes().to_vec();
        self.keep(signed, body);
        let waiting: Vec<ShareIndex> = self
            .wanted
            .iter()
            .filter(|(_, kind, sender)| (*kind, *sender) == key)
            .map(|(requester, ..)| *requester)
            .collect();
        for to in waiting {
            self.wanted.remove(&(to, key.0, key.1));
            self.send_again(to, key, bytes.clone(), effects);
        }
        self.advance(signer, rng, effects);
    }

    /// Whether this very head was checked before.
    fn knows(&self, kind: Kind, index: ShareIndex, head: &Head) -> bool {
        let key = (kind, index);
        self.held.get(&key).map(|held| &held.message.head) == Some(head)
            || self.heard.get(&key) == Some(head)
    }

    /// Remembers echoed heads, whose signatures hold; gives the first that contradicts what is known.
    fn hear(&mut self, kind: Kind, echo: &Echo) -> Option<(ShareIndex, [Head; 2])> {
        for (index, head) in self.setting.indices().zip(&echo.0) {
            let key = (kind, index);
            let held = self.held.get(&key).map(|held| held.message.head);
            let known = held.unwrap_or(*self.heard.entry(key).or_insert(*head));
            if known.hash != head.hash {
                return Some((index, [known, *head]));
            }
        }
        None
    }

    fn heads(&self, kind: Kind) -> Echo {
        let heads = self
            .setting
            .indices()
            .filter_map(|index| Some(self.held.get(&(kind, index))?.message.head));
        Echo(heads.collect())
    }

    /// Goes through every phase for which everything is there.
    fn advance(
        &mut self,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        if matches!(self.phase, Phase::Committing(_)) && self.missing(Kind::Commit).is_empty() {
            self.deal(signer, effects);
        }
        if matches!(self.phase, Phase::Dealing(_)) && self.missing(Kind::Deal).is_empty() {
            self.collect(signer, rng, effects);
        }
        self.confirm(effects);
    }

    fn deal(&mut self, signer: &dyn CeremonySigner, effects: &mut Vec<Effect>) {
        let Phase::Committing(opening) = std::mem::replace(&mut self.phase, Phase::Moving) else {
            return;
        };
        match round::deal(&self.setting, self.me, *opening, &self.commits) {
            Ok((dealt, hidden)) => {
                self.enter(Phase::Dealing(Box::new(dealt)));
                let payload = DealBody::encode(&self.heads(Kind::Commit), &hidden);
                self.send_round(Kind::Deal, payload, signer, effects);
            }
            Err(Refused) => self.give_up_on_ourselves(effects),
        }
    }

    /// Opens and checks the shares; hands out the sum, or complains about the first that does not fit.
    fn collect(
        &mut self,
        signer: &dyn CeremonySigner,
        rng: &mut dyn CryptoRng,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Dealing(dealt) = std::mem::replace(&mut self.phase, Phase::Moving) else {
            return;
        };
        match self.open_shares(&dealt) {
            Ok(Opened::Shares(shares)) => {
                match dealt.finish(&self.setting, self.me, &self.commits, &shares) {
                    Ok((share, public)) => {
                        self.enter(Phase::Storing);
                        let attempt = self.number();
                        effects.push(Effect::Store(Box::new(Outcome {
                            attempt,
                            share,
                            public,
                        })));
                    }
                    Err(Refused) => self.give_up_on_ourselves(effects),
                }
            }
            Ok(Opened::Bad(dealer)) => match self.complain(&dealt, dealer, rng) {
                Some(reason) => {
                    let verdict = Verdict {
                        culprits: vec![dealer],
                        fault: Fault::BadShare,
                    };
                    self.accuse(&reason, verdict, signer, effects);
                }
                None => self.give_up_on_ourselves(effects),
            },
            Err(Refused) => self.give_up_on_ourselves(effects),
        }
    }

    fn open_shares(&self, dealt: &Dealt) -> Result<Opened, Refused> {
        let own = self.commits.get(&self.me).ok_or(Refused)?;
        let mut shares = BTreeMap::new();
        for (from, deal) in self.deals.iter().filter(|(from, _)| **from != self.me) {
            let commit = self.commits.get(from).ok_or(Refused)?;
            let hidden = deal.hidden(*from, self.me).ok_or(Refused)?;
            let share = dealt.open(&self.setting, (*from, self.me), (commit, own), hidden)?;
            if !commit.fits(self.me, &share) {
                return Ok(Opened::Bad(*from));
            }
            shares.insert(*from, share);
        }
        Ok(Opened::Shares(shares))
    }

    fn complain(
        &self,
        dealt: &Dealt,
        dealer: ShareIndex,
        rng: &mut dyn CryptoRng,
    ) -> Option<Reason> {
        let message = |kind, sender| {
            let held = self.held.get(&(kind, sender))?;
            Some(held.message.bytes().to_vec())
        };
        let commits = (self.commits.get(&dealer)?, self.commits.get(&self.me)?);
        let (shared, proof) = dealt
            .show(&self.setting, (dealer, self.me), commits, rng)
            .ok()?;
        Some(Reason::BadShare(Box::new(BadShare {
            accused_commit: message(Kind::Commit, dealer)?,
            accused_deal: message(Kind::Deal, dealer)?,
            own_commit: message(Kind::Commit, self.me)?,
            shared,
            proof,
        })))
    }

    /// Counts readies once this party's own is sent. Echoes cannot differ from what is held: that ends the attempt when it
    /// comes in.
    fn confirm(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Confirming) {
            return;
        }
        for (sender, echo) in std::mem::take(&mut self.echoes) {
            if self.echoes_our_deals(&echo)
                && let Some(held) = self.held.get(&(Kind::Ready, sender))
            {
                self.readies.insert(sender, held.message.bytes().to_vec());
            }
        }
        self.finish_if_confirmed(effects);
    }

    fn finish_if_confirmed(&mut self, effects: &mut Vec<Effect>) {
        if self.readies.len() == self.setting.n() {
            self.enter(Phase::Done);
            let attempt = self.number();
            effects.push(Effect::Finished { attempt });
        }
    }

    fn echoes_our_deals(&self, echo: &Echo) -> bool {
        self.setting.indices().all(|index| {
            let held = self.held.get(&(Kind::Deal, index));
            echo.head(index).map(|head| head.hash) == held.map(|held| held.message.head.hash)
        })
    }

    /// After an abort, a full set of readies still shows that every party stored its share.
    fn take_late_ready(&mut self, signed: &Signed, effects: &mut Vec<Effect>) {
        let body = Body::read(
            &self.setting,
            Kind::Ready,
            signed.sender,
            &signed.payload,
            |kind, index, head| self.knows(kind, index, head),
        );
        if let Some(Body::Ready(echo)) = body
            && self.echoes_our_deals(&echo)
        {
            let bytes = signed.bytes().to_vec();
            if self.readies.insert(signed.sender, bytes.clone()).is_none() {
                // Others that have aborted may lack the same one.
                effects.push(Effect::Broadcast(bytes));
            }
            self.finish_if_confirmed(effects);
        }
    }

    /// Answers who asks for messages; remembers what cannot be answered yet.
    fn serve(&mut self, request: &Signed, effects: &mut Vec<Effect>) {
        let to = request.sender;
        if matches!(self.phase, Phase::Aborted { .. }) {
            self.repeat_abort(to, effects);
            return;
        }
        let mut reader = crate::bytes::Reader::new(&request.payload);
        let Some(gap) = Gap::read(&self.setting, &mut reader) else {
            return;
        };
        for sender in gap.senders {
            let key = (gap.kind, sender);
            match self.held.get(&key) {
                Some(held) => {
                    let bytes = held.message.bytes().to_vec();
                    self.send_again(to, key, bytes, effects);
                }
                None => {
                    self.wanted.insert((to, gap.kind, sender));
                }
            }
        }
    }

    fn send_again(
        &mut self,
        to: ShareIndex,
        (kind, sender): (Kind, ShareIndex),
        message: Vec<u8>,
        effects: &mut Vec<Effect>,
    ) {
        let count = self.served.entry((to, kind, sender)).or_default();
        if *count < SERVES_MAX {
            *count += 1;
            effects.push(Effect::Send { to, message });
        }
    }

    fn repeat_abort(&mut self, to: ShareIndex, effects: &mut Vec<Effect>) {
        if let Phase::Aborted {
            message: Some(message),
            ..
        } = &self.phase
        {
            let message = message.clone();
            self.send_again(to, (Kind::Abort, self.me), message, effects);
        }
    }

    /// Somebody has aborted what this party knows to have succeeded. Who passed the abort on does not stand in it, so
    /// everybody is shown the readies, once for each accuser.
    fn show_readies(&mut self, accuser: ShareIndex, effects: &mut Vec<Effect>) {
        let count = self
            .served
            .entry((self.me, Kind::Abort, accuser))
            .or_default();
        if *count == 0 {
            *count += 1;
            effects.extend(self.readies.values().cloned().map(Effect::Broadcast));
        }
    }

    fn take_abort(&mut self, signed: &Signed, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Done => {
                self.show_readies(signed.sender, effects);
                return;
            }
            Phase::Aborted { .. } => return,
            _ => {}
        }
        let verdict = match blame::judge(&self.setting, signed.sender, &signed.payload) {
            Judgement::Proven(verdict) => verdict,
            Judgement::Claimed(gap) => self.judge_silence(signed.sender, &gap),
        };
        // As it came: everyone judges the accuser's own words.
        self.abort(Some(signed.bytes().to_vec()), verdict, effects);
    }

    /// Somebody claims not to have got what it asked for. Whoever was late for this party too was probably silent; when
    /// nobody was, the claim is probably a lie, as this party would have passed on what it had.
    fn judge_silence(&self, accuser: ShareIndex, gap: &Gap) -> Verdict {
        let others = gap.senders.iter().filter(|sender| **sender != self.me);
        let mut culprits: BTreeSet<ShareIndex> = others
            .copied()
            .filter(|sender| match self.held.get(&(gap.kind, *sender)) {
                Some(held) => held.late,
                None => self.has_waited_for(gap.kind),
            })
            .collect();
        let mut fault = Fault::Silent(gap.kind);
        if gap.senders.contains(&self.me) && !self.held.contains_key(&(gap.kind, self.me)) {
            // This party has not come so far: because of those that it waits for itself, or of its own slow store.
            match self.awaited() {
                Some(kind) if self.has_waited_for(kind) => {
                    culprits.extend(self.missing(kind));
                    fault = Fault::Silent(kind);
                }
                Some(_) => {}
                None => {
                    culprits.insert(self.me);
                }
            }
        }
        if culprits.is_empty() {
            culprits.insert(accuser);
        }
        Verdict {
            culprits: culprits.into_iter().collect(),
            fault,
        }
    }

    /// Whether this party has waited for messages of a kind for so long that an honest party's would be there.
    fn has_waited_for(&self, kind: Kind) -> bool {
        self.awaited() == Some(kind) && self.ticks >= self.patience.late_after()
    }

    fn accuse_of_equivocation(
        &mut self,
        (kind, sender): (Kind, ShareIndex),
        heads: [Head; 2],
        signer: &dyn CeremonySigner,
        effects: &mut Vec<Effect>,
    ) {
        let verdict = Verdict {
            culprits: vec![sender],
            fault: Fault::Equivocated(kind),
        };
        let reason = Reason::Equivocated {
            kind,
            sender,
            heads: Box::new(heads),
        };
        self.accuse(&reason, verdict, signer, effects);
    }

    fn accuse(
        &mut self,
        reason: &Reason,
        verdict: Verdict,
        signer: &dyn CeremonySigner,
        effects: &mut Vec<Effect>,
    ) {
        let message = Signed::sign(&self.setting, Kind::Abort, self.me, reason.encode(), signer);
        self.abort(Some(message.bytes().to_vec()), verdict, effects);
    }

    /// The library refused what had been checked. Others will find this party silent.
    fn give_up_on_ourselves(&mut self, effects: &mut Vec<Effect>) {
        let verdict = Verdict {
            culprits: vec![self.me],
            fault: Fault::Broken,
        };
        self.abort(None, verdict, effects);
    }

    fn abort(&mut self, message: Option<Vec<u8>>, verdict: Verdict, effects: &mut Vec<Effect>) {
        let undecided = matches!(self.phase, Phase::Confirming);
        if let Some(message) = &message {
            effects.push(Effect::Broadcast(message.clone()));
        }
        self.enter(Phase::Aborted { message, undecided });
        effects.push(Effect::Aborted(Aborted {
            attempt: self.number(),
            verdict,
            undecided,
            last: false,
        }));
    }
}

enum Opened {
    Shares(BTreeMap<ShareIndex, Zeroizing<[u8; 32]>>),
    Bad(ShareIndex),
}
