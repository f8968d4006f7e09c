//! Carrying the messages of a key generation between custodians. They are signed by their senders and hidden from everyone but
//! their receivers: whoever carries them can only stop them.

use std::collections::VecDeque;

use bytes::Bytes;
use crypto::ristretto::Element;
use custody::Reason;
use domain::ShareIndex;
use enclave_client::Refusal;
use enclave_wire::{CEREMONY_BYTES_MAX, CEREMONY_MESSAGES_MAX, v1};
use threshold::DhPublic;
use threshold::dkg::MESSAGE_BYTES_MAX;

use super::{Place, Wanted, all, failed, name};
use crate::refusal::{CHEATED, deny};
use crate::state::Worker;

/// Messages that wait for one custodian, at most.
const INBOX_MAX: usize = 4_096;

/// The threshold leg, as every custodian has said.
pub(super) struct Generated {
    /// Which attempt made it.
    pub(super) attempt: u32,
    /// The public keys, known to belong together.
    pub(super) public: DhPublic,
}

/// One custodian's side, as seen from here.
struct Party<'a> {
    place: &'a Place,
    begun: bool,
    inbox: VecDeque<Bytes>,
    finished: Option<v1::DhKey>,
}

impl Worker {
    /// Goes from custodian to custodian with what they say to each other, until all have said that the key exists. Standbys take no
    /// part.
    pub(super) async fn generate(
        &self,
        wanted: &Wanted,
        places: &[Place],
        ask: &v1::DealVersion,
    ) -> Result<Generated, Refusal> {
        let mut parties: Vec<Party<'_>> = places
            .iter()
            .filter(|place| !place.member.slot.standby)
            .map(|place| Party {
                place,
                begun: false,
                inbox: VecDeque::new(),
                finished: None,
            })
            .collect();
        for _ in 0..self.settings.rounds_max {
            let step = parties.iter_mut().enumerate().filter_map(|(at, party)| {
                let question = party.question(wanted, ask)?;
                let (place, within) = (party.place, self.settings.step);
                Some(async move { (at, place.peer.ceremony(question, within).await) })
            });
            let mut said = Vec::new();
            for (at, answer) in all(step).await {
                let Some(party) = parties.get_mut(at) else {
                    continue;
                };
                let slot = party.place.member.slot;
                let answer = answer.map_err(|error| failed(slot, &error))?;
                if let Some(reason) = answer.failed {
                    let detail = format!("{}: {}", name(slot), Refusal::from(reason.clone()));
                    return Err(Refusal::new(&Refusal::from(reason).code, detail, true));
                }
                if answer.finished.is_some() {
                    party.finished = answer.finished;
                }
                said.extend(answer.messages.into_iter().map(|one| (slot.index, one)));
            }
            let quiet = said.is_empty();
            for (from, message) in said {
                pass_on(&mut parties, from, message)?;
            }
            let keys: Option<Vec<(ShareIndex, &v1::DhKey)>> =
                parties.iter().map(Party::key).collect();
            if let Some(keys) = keys {
                return agreed(wanted, &keys);
            }
            if quiet && parties.iter().all(|party| party.inbox.is_empty()) {
                tokio::time::sleep(self.settings.pause).await;
            }
        }
        Err(deny(
            Reason::Busy,
            "the key generation did not come to an end",
        ))
    }
}

impl Party<'_> {
    /// What this custodian is to be asked now: it has not begun, has messages, or has to be asked whether it has got further.
    fn question(&mut self, wanted: &Wanted, ask: &v1::DealVersion) -> Option<v1::Ceremony> {
        if self.begun && self.inbox.is_empty() && self.finished.is_some() {
            return None;
        }
        let mut messages = Vec::new();
        let mut bytes = 0;
        while messages.len() < CEREMONY_MESSAGES_MAX {
            let fits = |message: &Bytes| bytes + message.len() <= CEREMONY_BYTES_MAX;
            if !self.inbox.front().is_some_and(fits) {
                break;
            }
            let Some(message) = self.inbox.pop_front() else {
                break;
            };
            bytes += message.len();
            messages.push(message);
        }
        let first = !std::mem::replace(&mut self.begun, true);
        Some(v1::Ceremony {
            key: wanted.key.0.to_vec().into(),
            version: wanted.version.get(),
            fencing: wanted.fencing,
            messages,
            proof: ask.proof.clone().filter(|_| first),
            request: if first {
                ask.request.clone()
            } else {
                Bytes::new()
            },
        })
    }

    fn key(&self) -> Option<(ShareIndex, &v1::DhKey)> {
        let key = self.finished.as_ref()?;
        Some((self.place.member.slot.index, key))
    }
}

/// Puts a message into the inbox of whoever it is for.
fn pass_on(
    parties: &mut [Party<'_>],
    from: ShareIndex,
    message: v1::CeremonyMessage,
) -> Result<(), Refusal> {
    if message.message.len() > MESSAGE_BYTES_MAX {
        let detail = format!("custodian {from} sent a message that is too long");
        return Err(Refusal::new(CHEATED, detail, true));
    }
    for party in parties {
        let index = party.place.member.slot.index;
        let meant = message.to == 0 || message.to == u32::from(index.get());
        if index == from || !meant {
            continue;
        }
        if party.inbox.len() >= INBOX_MAX {
            let detail = format!("custodian {from} sent more messages than may wait");
            return Err(Refusal::new(CHEATED, detail, true));
        }
        party.inbox.push_back(message.message.clone());
    }
    Ok(())
}

/// The key, if all custodians say the same and it is one that t of them hold.
fn agreed(wanted: &Wanted, keys: &[(ShareIndex, &v1::DhKey)]) -> Result<Generated, Refusal> {
    let same = |key: &v1::DhKey| keys.iter().filter(|(_, other)| *other == key).count();
    let most = keys.iter().max_by_key(|(_, key)| same(key));
    let Some((_, most)) = most else {
        return Err(deny(Reason::Proof, "a committee without members"));
    };
    let others: Vec<String> = keys
        .iter()
        .filter(|(_, key)| key != most)
        .map(|(index, _)| index.to_string())
        .collect();
    if !others.is_empty() {
        let detail = format!(
            "custodians do not say the same of the key that they made; different from most: {}",
            others.join(", ")
        );
        return Err(Refusal::new(CHEATED, detail, true));
    }
    let element = |bytes: &[u8]| Element::from_bytes(bytes).ok();
    let wrong = |what: String| Refusal::new(CHEATED, what, true);
    let group = element(&most.group)
        .ok_or_else(|| wrong("what custodians made is no public key".to_owned()))?;
    let shares: Option<Vec<Element>> = most.shares.iter().map(|share| element(share)).collect();
    let shares = shares.ok_or_else(|| wrong("a share's public key is none".to_owned()))?;
    let public = DhPublic::new(wanted.sharing, group, shares).map_err(|e| wrong(e.to_string()))?;
    Ok(Generated {
        attempt: most.attempt,
        public,
    })
}
