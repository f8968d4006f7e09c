//! Bytes of the store's file. All integers are big-endian.
//!
//! ```text
//! 0       header: magic(8) version(4) deployment(32) role(1) store id(16) owner length(1) owner HMAC(32)
//! 4096    head, first place:  counter(8) root(32) end(8) HMAC(32)
//! 8192    head, second place
//! 12288   frames
//!
//! frame   length of the body(4) kind(1) number(4) body
//! body    session, base: salt(32) sealed; any other: sealed
//! ```
//!
//! A body is sealed under its session's key with the frame's number as nonce and the frame's first 9 bytes as AAD,
//! followed in a session's first frame by counter(8) and root(32).

use crypto::sealed_store::{SessionKey, StoreKeys, TAG_BYTES};
use domain::DeploymentId;
use zeroize::Zeroizing;

use crate::store::StoreState;

/// Bytes of a key, at most.
pub const KEY_BYTES_MAX: usize = 128;
/// Bytes of a value, at most.
pub const VALUE_BYTES_MAX: usize = 65_536;

pub(crate) const MAGIC: [u8; 8] = *b"SRSEALED";
pub(crate) const VERSION: u32 = 1;
/// Header and heads each have a page of their own.
pub(crate) const PAGE: u64 = 4_096;
pub(crate) const FRAMES_FROM: u64 = 3 * PAGE;
pub(crate) const OWNER_BYTES_MAX: usize = 64;
pub(crate) const HEAD_BYTES: usize = 80;
pub(crate) const FRAME_HEAD_BYTES: usize = 9;
pub(crate) const SALT_BYTES: usize = 32;
/// Bytes of a body, at most: the largest value, or a base with all its marks.
pub(crate) const BODY_BYTES_MAX: usize =
    VALUE_BYTES_MAX + 1 + KEY_BYTES_MAX + SALT_BYTES + TAG_BYTES;
/// Anchored states that a store remembers.
pub(crate) const MARKS_MAX: usize = 1_024;
const STATE_BYTES: usize = 40;
const HEADER_FIXED: usize = 62;
const MAC_BYTES: usize = 32;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process begins to append.
    Session,
    /// First frame of a file: the state that the file begins with.
    Base,
    Put,
    Delete,
    /// An anchored state.
    Mark,
    /// A record that a compaction carried over; no change of its own.
    Live,
}

const KINDS: [(u8, Kind); 6] = [
    (1, Kind::Session),
    (2, Kind::Base),
    (3, Kind::Put),
    (4, Kind::Delete),
    (5, Kind::Mark),
    (6, Kind::Live),
];
/// Added to a kind when its batch goes on.
const MORE: u8 = 0x80;

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: Kind,
    /// Whether the batch goes on after this frame.
    pub(crate) more: bool,
    pub(crate) number: u32,
    pub(crate) body_bytes: usize,
}

impl FrameHead {
    pub(crate) fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let length = u32::try_from(self.body_bytes)
            .unwrap_or(u32::MAX)
            .to_be_bytes();
        let kind = KINDS
            .iter()
            .find_map(|(code, kind)| (*kind == self.kind).then_some(*code))
            .unwrap_or(0);
        let kind = kind | if self.more { MORE } else { 0 };
        let number = self.number.to_be_bytes();
        let mut out = [0; FRAME_HEAD_BYTES];
        let bytes = length.into_iter().chain([kind]).chain(number);
        out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        out
    }

    /// `None` for anything that [`FrameHead::encode`] does not write.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let (code, number) = rest.split_first()?;
        let (_, kind) = KINDS.iter().find(|(known, _)| *known == code & !MORE)?;
        let body_bytes = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let least = match kind {
            Kind::Session | Kind::Base => SALT_BYTES + TAG_BYTES,
            _ => TAG_BYTES,
        };
        (least..=BODY_BYTES_MAX)
            .contains(&body_bytes)
            .then_some(Self {
                kind: *kind,
                more: code & MORE != 0,
                number: u32::from_be_bytes(number.try_into().ok()?),
                body_bytes,
            })
    }
}

/// Appends a frame that `key` seals; `body` is its plaintext.
pub(crate) fn push_frame(
    out: &mut Vec<u8>,
    key: &SessionKey,
    kind: Kind,
    more: bool,
    number: u32,
    body: &[&[u8]],
) {
    let plain: usize = body.iter().map(|part| part.len()).sum();
    let head = FrameHead {
        kind,
        more,
        number,
        body_bytes: plain + TAG_BYTES,
    };
    let head = head.encode();
    out.extend_from_slice(&head);
    let from = out.len();
    for part in body {
        out.extend_from_slice(part);
    }
    key.danger_seal(number, &head, out, from);
}

/// Appends the first frame of a session under a fresh salt: number 0.
pub(crate) fn push_session(
    out: &mut Vec<u8>,
    key: &SessionKey,
    salt: &[u8; SALT_BYTES],
    kind: Kind,
    before: &StoreState,
    body: &[u8],
) {
    let head = FrameHead {
        kind,
        more: false,
        number: 0,
        body_bytes: SALT_BYTES + body.len() + TAG_BYTES,
    };
    let head = head.encode();
    out.extend_from_slice(&head);
    out.extend_from_slice(salt);
    let from = out.len();
    out.extend_from_slice(body);
    key.danger_seal(0, &session_aad(&head, kind, before), out, from);
}

/// Opens the first frame of a session; the key and the plaintext.
pub(crate) fn open_session(
    keys: &StoreKeys,
    head: &FrameHead,
    body: &[u8],
    before: &StoreState,
) -> Option<(SessionKey, Zeroizing<Vec<u8>>)> {
    let (salt, sealed) = body.split_first_chunk::<SALT_BYTES>()?;
    let key = keys.session(salt);
    let plain = key.open(0, &session_aad(&head.encode(), head.kind, before), sealed)?;
    (head.number == 0 && !head.more).then_some((key, plain))
}

/// A later session is bound to all that was before it; a base begins anew.
fn session_aad(head: &[u8], kind: Kind, before: &StoreState) -> Vec<u8> {
    let mut aad = head.to_vec();
    if kind == Kind::Session {
        aad.extend_from_slice(&encode_state(before));
    }
    aad
}

/// A put's or live record's plaintext apart: key and value.
pub(crate) fn split_record(plain: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = plain.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

pub(crate) fn encode_state(state: &StoreState) -> [u8; STATE_BYTES] {
    let mut out = [0; STATE_BYTES];
    let bytes = state.counter.to_be_bytes().into_iter().chain(state.root);
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    out
}

fn decode_state(bytes: &[u8]) -> Option<(StoreState, &[u8])> {
    let (counter, rest) = bytes.split_first_chunk::<8>()?;
    let (root, rest) = rest.split_first_chunk::<32>()?;
    let state = StoreState {
        counter: u64::from_be_bytes(*counter),
        root: *root,
    };
    Some((state, rest))
}

/// What a file begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) state: StoreState,
    /// How many live records follow.
    pub(crate) live: u64,
    pub(crate) marks: Vec<StoreState>,
}

impl Base {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = encode_state(&self.state).to_vec();
        out.extend_from_slice(&self.live.to_be_bytes());
        for mark in &self.marks {
            out.extend_from_slice(&encode_state(mark));
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (state, rest) = decode_state(bytes)?;
        let (live, mut rest) = rest.split_first_chunk::<8>()?;
        let mut marks = Vec::new();
        while !rest.is_empty() {
            let (mark, after) = decode_state(rest)?;
            marks.push(mark);
            rest = after;
        }
        (marks.len() <= MARKS_MAX).then_some(Self {
            state,
            live: u64::from_be_bytes(*live),
            marks,
        })
    }
}

/// Whose store a file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) deployment: DeploymentId,
    pub(crate) role: u8,
    pub(crate) store_id: [u8; 16],
    pub(crate) owner: Vec<u8>,
}

/// Why a header is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    NotAStore,
    Version(u32),
    Malformed,
}

impl Header {
    /// Without its HMAC, which [`Header::seal`] appends.
    fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(self.deployment.as_bytes());
        out.push(self.role);
        out.extend_from_slice(&self.store_id);
        out.push(u8::try_from(self.owner.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&self.owner);
        out
    }

    /// The header's page.
    pub(crate) fn seal(&self, keys: &StoreKeys) -> Vec<u8> {
        let mut out = self.encode();
        let tag = keys.authenticate(&tagged(b'h', &out));
        out.extend_from_slice(&tag);
        out.resize(usize::try_from(PAGE).unwrap_or(0), 0);
        out
    }

    /// Reads a page; nothing is authenticated yet.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, HeaderError> {
        let rest = page.strip_prefix(&MAGIC).ok_or(HeaderError::NotAStore)?;
        let (version, rest) = rest.split_first_chunk().ok_or(HeaderError::Malformed)?;
        match u32::from_be_bytes(*version) {
            VERSION => {}
            version => return Err(HeaderError::Version(version)),
        }
        let parse = || {
            let (deployment, rest) = rest.split_first_chunk()?;
            let (role, rest) = rest.split_first()?;
            let (store_id, rest) = rest.split_first_chunk()?;
            let (length, rest) = rest.split_first()?;
            let owner = rest.get(..usize::from(*length))?;
            (owner.len() <= OWNER_BYTES_MAX).then(|| Self {
                deployment: DeploymentId(*deployment),
                role: *role,
                store_id: *store_id,
                owner: owner.to_vec(),
            })
        };
        parse().ok_or(HeaderError::Malformed)
    }

    /// Whether the page that this was read from is authentic.
    pub(crate) fn is_authentic(&self, keys: &StoreKeys, page: &[u8]) -> bool {
        let end = HEADER_FIXED + self.owner.len();
        page.get(end..end + MAC_BYTES)
            .is_some_and(|tag| keys.is_authentic(&tagged(b'h', &self.encode()), tag))
    }
}

/// The last acknowledged state, as the file itself knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) state: StoreState,
    /// Where the file's frames ended.
    pub(crate) end: u64,
}

impl Head {
    pub(crate) fn seal(&self, keys: &StoreKeys) -> Vec<u8> {
        let mut out = encode_state(&self.state).to_vec();
        out.extend_from_slice(&self.end.to_be_bytes());
        let tag = keys.authenticate(&tagged(b's', &out));
        out.extend_from_slice(&tag);
        out
    }

    /// `None` for one that is not authentic: torn, or never written.
    pub(crate) fn open(keys: &StoreKeys, bytes: &[u8]) -> Option<Self> {
        let (head, tag) = bytes
            .get(..HEAD_BYTES)?
            .split_at_checked(HEAD_BYTES - MAC_BYTES)?;
        if !keys.is_authentic(&tagged(b's', head), tag) {
            return None;
        }
        let (state, end) = decode_state(head)?;
        Some(Self {
            state,
            end: u64::from_be_bytes(end.try_into().ok()?),
        })
    }
}

/// What is authenticated begins with what it is.
fn tagged(what: u8, bytes: &[u8]) -> Vec<u8> {
    [&[what], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::Secret;

    fn keys() -> StoreKeys {
        StoreKeys::derive(
            &Secret::take(&mut [1; 32]),
            &DeploymentId([2; 32]),
            1,
            &[3; 16],
        )
    }

    #[test]
    fn frame_heads_are_strict() {
        for (_, kind) in KINDS {
            for more in [false, true] {
                let head = FrameHead {
                    kind,
                    more,
                    number: 7,
                    body_bytes: 300,
                };
                assert_eq!(FrameHead::decode(&head.encode()), Some(head));
            }
        }
        let head = |body_bytes, kind| {
            FrameHead {
                kind,
                more: false,
                number: 0,
                body_bytes,
            }
            .encode()
        };
        assert!(FrameHead::decode(&head(16, Kind::Delete)).is_some());
        assert!(FrameHead::decode(&head(15, Kind::Delete)).is_none());
        assert!(FrameHead::decode(&head(47, Kind::Session)).is_none());
        assert!(FrameHead::decode(&head(BODY_BYTES_MAX, Kind::Put)).is_some());
        assert!(FrameHead::decode(&head(BODY_BYTES_MAX + 1, Kind::Put)).is_none());
        assert!(FrameHead::decode(&[0; 9]).is_none());
        let mut unknown = head(16, Kind::Put);
        unknown[4] = 7;
        assert!(FrameHead::decode(&unknown).is_none());
    }

    #[test]
    fn a_base_with_all_its_marks_fits_a_frame() {
        let mark = StoreState {
            counter: 9,
            root: [9; 32],
        };
        let base = |marks| Base {
            state: mark,
            live: 5,
            marks: vec![mark; marks],
        };
        let full = base(MARKS_MAX);
        assert!(full.encode().len() + SALT_BYTES + TAG_BYTES <= BODY_BYTES_MAX);
        assert_eq!(Base::decode(&full.encode()), Some(full));
        assert_eq!(Base::decode(&base(MARKS_MAX + 1).encode()), None);
        let bytes = base(1).encode();
        assert_eq!(Base::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn headers_and_heads_are_authenticated_apart() {
        let keys = keys();
        let header = Header {
            deployment: DeploymentId([2; 32]),
            role: 1,
            store_id: [3; 16],
            owner: b"slot 4".to_vec(),
        };
        let page = header.seal(&keys);
        assert_eq!(Header::decode(&page), Ok(header.clone()));
        assert!(header.is_authentic(&keys, &page));
        for byte in 0..HEADER_FIXED + header.owner.len() + MAC_BYTES {
            let mut altered = page.clone();
            altered[byte] ^= 1;
            let refused = Header::decode(&altered)
                .map_or(true, |header| !header.is_authentic(&keys, &altered));
            assert!(refused, "byte {byte}");
        }
        let head = Head {
            state: StoreState {
                counter: 5,
                root: [6; 32],
            },
            end: 99,
        };
        let bytes = head.seal(&keys);
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::open(&keys, &bytes), Some(head));
        for byte in 0..HEAD_BYTES {
            let mut altered = bytes.clone();
            altered[byte] ^= 0x40;
            assert_eq!(Head::open(&keys, &altered), None, "byte {byte}");
        }
        assert_eq!(Head::open(&keys, &[0; HEAD_BYTES]), None);
    }
}
