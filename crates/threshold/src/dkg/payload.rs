//! Payloads: fixed layouts whose length follows from t and n.
//!
//! ```text
//! commit   coefficient commitments (32 * t)  proof of possession (64)  E (32)
//! deal     heads of all commits (96 * n)  hidden shares, the sender's own left out (32 * (n - 1))
//! ready    heads of all deals (96 * n)
//! missing  kind  set of senders (32)
//! abort    01  kind  set of senders (32)                               silence
//!          02  whole message                                           an invalid message
//!          03  kind  sender  head  head                                two messages where there is one
//!          04  accused's commit  accused's deal  own commit            a share that does not fit: the
//!              Diffie-Hellman element (32)  its proof (96)             three whole messages, and the pad's secret
//! ```
//! A set is a bit for each index, index 1 the highest bit of the first byte.

use std::collections::BTreeSet;

use crypto::ristretto::Element;
use domain::ShareIndex;

use super::message::{HEAD_BYTES, HEADER_BYTES, Head, Kind, SIGNATURE_BYTES, Setting};
use super::round::CommitBody;
use crate::bytes::Reader;
use crate::dleq::{PROOF_BYTES, Proof};

const COMMIT_FIXED_BYTES: usize = 64 + 32;
const GAP_BYTES: usize = 1 + 32;
const MESSAGE_FIXED_BYTES: usize = HEADER_BYTES + SIGNATURE_BYTES;

/// The heads of one round as a party saw them, in the order of the indices.
#[derive(Clone, Debug)]
pub(super) struct Echo(pub(super) Vec<Head>);

impl Echo {
    fn read(reader: &mut Reader<'_>, n: usize) -> Option<Self> {
        let heads: Option<Vec<Head>> = (0..n).map(|_| Head::read(reader)).collect();
        heads.map(Self)
    }

    fn write(&self, out: &mut Vec<u8>) {
        for head in &self.0 {
            head.write(out);
        }
    }

    pub(super) fn head(&self, index: ShareIndex) -> Option<&Head> {
        self.0.get(usize::from(index.get()).checked_sub(1)?)
    }
}

/// The second round.
#[derive(Clone, Debug)]
pub(super) struct DealBody {
    pub(super) echo: Echo,
    hidden: Vec<[u8; 32]>,
}

impl DealBody {
    /// `hidden` has one share for each party but `sender`, in the order of the indices.
    pub(super) fn encode(echo: &Echo, hidden: &[[u8; 32]]) -> Vec<u8> {
        let mut out = Vec::with_capacity(echo.0.len() * HEAD_BYTES + hidden.len() * 32);
        echo.write(&mut out);
        for share in hidden {
            out.extend_from_slice(share);
        }
        out
    }

    fn read(setting: &Setting, payload: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(payload);
        let echo = Echo::read(&mut reader, setting.n())?;
        let hidden: Option<Vec<[u8; 32]>> = (1..setting.n()).map(|_| reader.array()).collect();
        reader.end()?;
        Some(Self {
            echo,
            hidden: hidden?,
        })
    }

    /// The share that `from`, whose deal this is, hid for `to`.
    pub(super) fn hidden(&self, from: ShareIndex, to: ShareIndex) -> Option<&[u8; 32]> {
        let before = usize::from(to.get()).checked_sub(1)?;
        match to.cmp(&from) {
            std::cmp::Ordering::Less => self.hidden.get(before),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => self.hidden.get(before.checked_sub(1)?),
        }
    }
}

/// What a round's message says, once it is known that an honest party could have sent it.
#[derive(Debug)]
pub(super) enum Body {
    Commit(Box<CommitBody>),
    Deal(DealBody),
    Ready(Echo),
}

impl Body {
    /// Reads a round's payload. `knows` tells which heads the caller has checked already. `None` is the sender's fault, and
    /// everybody's answer is the same.
    pub(super) fn read(
        setting: &Setting,
        kind: Kind,
        sender: ShareIndex,
        payload: &[u8],
        knows: impl Fn(Kind, ShareIndex, &Head) -> bool,
    ) -> Option<Self> {
        let echoes = |kind: Kind, echo: &Echo| {
            setting.indices().zip(&echo.0).all(|(index, head)| {
                knows(kind, index, head) || setting.has_signed(kind, index, head)
            })
        };
        match kind {
            Kind::Commit => {
                let commit = CommitBody::read(setting, sender, payload)?;
                Some(Self::Commit(Box::new(commit)))
            }
            Kind::Deal => {
                let deal = DealBody::read(setting, payload)?;
                echoes(Kind::Commit, &deal.echo).then_some(Self::Deal(deal))
            }
            Kind::Ready => {
                let mut reader = Reader::new(payload);
                let echo = Echo::read(&mut reader, setting.n())?;
                reader.end()?;
                echoes(Kind::Deal, &echo).then_some(Self::Ready(echo))
            }
            Kind::Missing | Kind::Abort => None,
        }
    }
}

/// Encodes a ready.
pub(super) fn encode_ready(echo: &Echo) -> Vec<u8> {
    let mut out = Vec::with_capacity(echo.0.len() * HEAD_BYTES);
    echo.write(&mut out);
    out
}

/// Which senders' messages of a kind are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    pub(super) kind: Kind,
    pub(super) senders: BTreeSet<ShareIndex>,
}

impl Gap {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind.code());
        let mut set = [0_u8; 32];
        for sender in &self.senders {
            let position = sender.get() - 1;
            if let Some(byte) = set.get_mut(usize::from(position / 8)) {
                *byte |= 0x80 >> (position % 8);
            }
        }
        out.extend_from_slice(&set);
    }

    /// Refuses other kinds than a round's, the empty set, and indices beyond n.
    pub(super) fn read(setting: &Setting, reader: &mut Reader<'_>) -> Option<Self> {
        let kind = Kind::from_code(reader.byte()?).filter(|kind| kind.is_round())?;
        let set: [u8; 32] = reader.array()?;
        let mut senders = BTreeSet::new();
        let mut left = set;
        for index in setting.indices() {
            let position = index.get() - 1;
            let byte = left.get_mut(usize::from(position / 8))?;
            let bit = 0x80 >> (position % 8);
            if *byte & bit != 0 {
                *byte &= !bit;
                senders.insert(index);
            }
        }
        (left == [0; 32] && !senders.is_empty()).then_some(Self { kind, senders })
    }
}

/// Why an attempt ends.
#[derive(Clone, Debug)]
pub(super) enum Reason {
    Silent(Gap),
    /// A whole message.
    Invalid(Vec<u8>),
    Equivocated {
        kind: Kind,
        sender: ShareIndex,
        heads: Box<[Head; 2]>,
    },
    BadShare(Box<BadShare>),
}

/// The receiver's side of a share that does not fit.
#[derive(Clone, Debug)]
pub(super) struct BadShare {
    /// Whole messages.
    pub(super) accused_commit: Vec<u8>,
    pub(super) accused_deal: Vec<u8>,
    pub(super) own_commit: Vec<u8>,
    /// e_own * E_accused, which opens the pad of the share.
    pub(super) shared: Element,
    pub(super) proof: Proof,
}

impl Reason {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Silent(gap) => {
                out.push(1);
                gap.write(&mut out);
            }
            Self::Invalid(message) => {
                out.push(2);
                out.extend_from_slice(message);
            }
            Self::Equivocated {
                kind,
                sender,
                heads,
            } => {
                out.extend_from_slice(&[3, kind.code(), sender.get()]);
                for head in heads.iter() {
                    head.write(&mut out);
                }
            }
            Self::BadShare(evidence) => {
                out.push(4);
                out.extend_from_slice(&evidence.accused_commit);
                out.extend_from_slice(&evidence.accused_deal);
                out.extend_from_slice(&evidence.own_commit);
                out.extend_from_slice(evidence.shared.as_bytes());
                out.extend_from_slice(&evidence.proof.to_bytes());
            }
        }
        out
    }

    pub(super) fn read(setting: &Setting, payload: &[u8]) -> Option<Self> {
        let commit = MESSAGE_FIXED_BYTES + commit_bytes(setting);
        let deal = MESSAGE_FIXED_BYTES + deal_bytes(setting);
        let mut reader = Reader::new(payload);
        let reason = match reader.byte()? {
            1 => Self::Silent(Gap::read(setting, &mut reader)?),
            2 => Self::Invalid(reader.rest().to_vec()),
            3 => Self::Equivocated {
                kind: Kind::from_code(reader.byte()?).filter(|kind| kind.is_round())?,
                sender: ShareIndex::new(reader.byte()?).ok()?,
                heads: Box::new([Head::read(&mut reader)?, Head::read(&mut reader)?]),
            },
            4 => Self::BadShare(Box::new(BadShare {
                accused_commit: reader.slice(commit)?.to_vec(),
                accused_deal: reader.slice(deal)?.to_vec(),
                own_commit: reader.slice(commit)?.to_vec(),
                shared: Element::from_bytes(&reader.array::<32>()?).ok()?,
                proof: Proof::read(&mut reader)?,
            })),
            _ => return None,
        };
        reader.end()?;
        Some(reason)
    }
}

/// Whether messages of that kind have payloads of that length.
pub(super) fn has_length(setting: &Setting, kind: Kind, payload_bytes: usize) -> bool {
    match kind {
        Kind::Commit => payload_bytes == commit_bytes(setting),
        Kind::Deal => payload_bytes == deal_bytes(setting),
        Kind::Ready => payload_bytes == setting.n() * HEAD_BYTES,
        Kind::Missing => payload_bytes == GAP_BYTES,
        Kind::Abort => payload_bytes <= abort_bytes_max(setting),
    }
}

fn commit_bytes(setting: &Setting) -> usize {
    setting.t() * 32 + COMMIT_FIXED_BYTES
}

fn deal_bytes(setting: &Setting) -> usize {
    setting.n() * (HEAD_BYTES + 32) - 32
}

/// A complaint about a share is the longest reason: it carries one whole deal and more.
fn abort_bytes_max(setting: &Setting) -> usize {
    let commit = MESSAGE_FIXED_BYTES + commit_bytes(setting);
    let deal = MESSAGE_FIXED_BYTES + deal_bytes(setting);
    1 + 2 * commit + deal + 32 + PROOF_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dkg::{MESSAGE_BYTES_MAX, PARTIES_MAX};
    use crate::sharing::Sharing;
    use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, Threshold};

    fn setting(t: u8, n: u8) -> Setting {
        let sharing = Sharing {
            deployment: DeploymentId([1; 32]),
            key: KeyId([2; 32]),
            version: KeyVersion::FIRST,
            epoch: Epoch::FIRST,
            committee: CommitteeId([3; 32]),
            threshold: Threshold::new(t, n).unwrap(),
        };
        Setting::new(sharing, Vec::new(), 1)
    }

    #[test]
    fn the_longest_message_of_the_largest_ceremony_fits() {
        let longest = MESSAGE_FIXED_BYTES + abort_bytes_max(&setting(PARTIES_MAX, PARTIES_MAX));
        assert!(longest <= MESSAGE_BYTES_MAX, "{longest}");
    }

    #[test]
    fn gaps_have_one_encoding() {
        let setting = setting(2, 10);
        let gap = Gap {
            kind: Kind::Deal,
            senders: [1, 8, 9, 10].map(|i| ShareIndex::new(i).unwrap()).into(),
        };
        let mut bytes = Vec::new();
        gap.write(&mut bytes);
        let mut expected = vec![2, 0b1000_0001, 0b1100_0000];
        expected.extend([0; 30]);
        assert_eq!(bytes, expected);
        assert_eq!(Gap::read(&setting, &mut Reader::new(&bytes)), Some(gap));
        // Kinds that nobody waits for, nobody, and an eleventh of ten parties.
        for (at, byte) in [(0, 4), (0, 0), (0, 6), (2, 0b1110_0000), (32, 1)] {
            let mut bad = bytes.clone();
            bad[at] = byte;
            assert_eq!(Gap::read(&setting, &mut Reader::new(&bad)), None, "{at}");
        }
        let nobody = [&[1][..], &[0; 32]].concat();
        assert_eq!(Gap::read(&setting, &mut Reader::new(&nobody)), None);
    }

    #[test]
    fn a_deal_has_a_share_for_everyone_but_its_sender() {
        let hidden: Vec<[u8; 32]> = (1..5).map(|byte| [byte; 32]).collect();
        let deal = DealBody {
            echo: Echo(Vec::new()),
            hidden,
        };
        let index = |i| ShareIndex::new(i).unwrap();
        let found: Vec<Option<u8>> = (1..=6)
            .map(|to| deal.hidden(index(3), index(to)).map(|share| share[0]))
            .collect();
        assert_eq!(found, [Some(1), Some(2), None, Some(3), Some(4), None]);
    }
}
