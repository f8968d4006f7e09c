//! Bytes on disk, version 1. Integers are little-endian; "sum" is the first 8 bytes of a BLAKE3 hash.
//!
//! **Segment** `data/XXXXXXXX.seg` (8 hexadecimal digits of its number; numbers only grow, and a higher number was
//! written later): a header of 64 bytes, then records, then nothing, zeros or what an earlier use of the file left.
//!
//! | bytes | segment header |
//! |---|---|
//! | 0..8 | `SRSHARDS` |
//! | 8..12 | version, 1 |
//! | 12..16 | segment number |
//! | 16..48 | store key: 32 random bytes drawn when the store was made, the same in `metadata/store` |
//! | 48..56 | zero |
//! | 56..64 | sum of the 56 bytes before |
//!
//! **Record**: 84 bytes of header, the proof, the body, zeros up to a multiple of 4.
//!
//! | bytes | record header |
//! |---|---|
//! | 0..4 | `SRrc` |
//! | 4 | kind: 1 shard, 2 state (no proof, no body: a new tag or a move into or out of the trash) |
//! | 5 | tag kind, as `ShardTag::to_parts` |
//! | 6 | codec of the CID: 0 raw, 1 dag-cbor |
//! | 7 | flags: bit 0 in the trash |
//! | 8..12 | bytes of body |
//! | 12..16 | bytes of proof |
//! | 16..24 | tag epoch |
//! | 24..32 | milliseconds since 1970 of the deletion, 0 outside the trash |
//! | 32..36 | offset below which this segment was durable when the record was written |
//! | 36..68 | BLAKE3 of the body: the CID's digest |
//! | 68..76 | sum of the proof |
//! | 76..84 | sum of the 76 bytes before, keyed with the segment key |
//!
//! The **segment key** is BLAKE3 of `segment` and the number, keyed with the store key. So a record left over from an
//! earlier use of a recycled file never passes, and neither does one that a client has hidden inside a shard's bytes
//! for the search after a damaged header to find.
//!
//! The state of a shard is what its records say, read in order of segment and offset: the last shard record holds the
//! bytes, the last record of either kind holds tag and trash. What is below "durable" in any later record needs no
//! check after a crash; what is not is hashed, and dropped when torn.
//!
//! **Hint** `metadata/XXXXXXXX.hint`, only ever an optimisation: `SRHINT01`, segment number, count, end of the last
//! record (4 bytes each), 4 zeros; then for each record its offset and bytes 4..68 of its header; then 32 bytes of
//! BLAKE3 over all of it keyed with the segment key.
//!
//! **Dead list** `metadata/XXXXXXXX.dead`: 16 bytes for each shard record that must not come back when its tombstone
//! has been dropped: offset, segment number, sum of these keyed with the segment key.
//!
//! **Store file** `metadata/store`: `SRSTORE1`, store key, sum of these 40 bytes.

use std::ops::Range;

use domain::{Cid, Codec, ShardTag};

/// The version written and the newest read.
pub(crate) const VERSION: u32 = 1;
pub(crate) const SEGMENT_HEADER_BYTES: u32 = 64;
pub(crate) const RECORD_HEADER_BYTES: u32 = 84;
/// The same as a length in memory.
pub(crate) const RECORD_HEADER_LEN: usize = 84;
/// Records start at multiples of this.
pub(crate) const ALIGNMENT: u32 = 4;

const SEGMENT_MAGIC: [u8; 8] = *b"SRSHARDS";
const RECORD_MAGIC: [u8; 4] = *b"SRrc";
const HINT_MAGIC: [u8; 8] = *b"SRHINT01";
const STORE_MAGIC: [u8; 8] = *b"SRSTORE1";
const FLAG_TRASHED: u8 = 1;
/// The part of a record header that a hint repeats.
const HINTED: Range<usize> = 4..68;
const HINT_HEAD_LEN: usize = 24;
const HINT_ENTRY_LEN: usize = 68;
const HINT_SUM_LEN: usize = 32;
/// Bytes of one entry of a dead list.
pub(crate) const DEAD_ENTRY_LEN: usize = 16;

/// Drawn once per store. Not a secret to keep from its operator: it only keeps clients from forging records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoreKey(pub(crate) [u8; 32]);

/// Checks the records of one segment.
#[derive(Clone, Copy)]
pub(crate) struct SegmentKey([u8; 32]);

impl StoreKey {
    pub(crate) fn segment(&self, id: u32) -> SegmentKey {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"segment");
        hasher.update(&id.to_le_bytes());
        SegmentKey(*hasher.finalize().as_bytes())
    }

    /// The bytes of `metadata/store`.
    pub(crate) fn to_file(self) -> Vec<u8> {
        let mut bytes = [STORE_MAGIC.as_slice(), &self.0].concat();
        bytes.extend(sum(&bytes));
        bytes
    }

    pub(crate) fn from_file(bytes: &[u8]) -> Option<Self> {
        let (head, tail) = bytes.split_last_chunk::<8>()?;
        let key = head.strip_prefix(&STORE_MAGIC)?;
        (sum(head) == *tail).then_some(Self(key.try_into().ok()?))
    }
}

/// Whether a record brings bytes or only a new tag or trash state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Shard,
    State,
}

/// A record's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) cid: Cid,
    pub(crate) tag: ShardTag,
    /// When it was deleted, in milliseconds since 1970.
    pub(crate) trashed_at_ms: Option<u64>,
    pub(crate) body_bytes: u32,
    pub(crate) proof_bytes: u32,
    pub(crate) durable_before: u32,
    pub(crate) proof_sum: [u8; 8],
}

impl Record {
    /// Bytes on disk, header and padding included. Saturates on sizes that no valid record has.
    pub(crate) fn size(&self) -> u32 {
        record_size(self.proof_bytes, self.body_bytes)
    }

    pub(crate) fn encode(&self, key: &SegmentKey) -> [u8; RECORD_HEADER_LEN] {
        let (tag_kind, epoch) = self.tag.to_parts();
        let mut out = [0; RECORD_HEADER_LEN];
        let mut fill = Fill(&mut out);
        fill.put(&RECORD_MAGIC);
        let kind = match self.kind {
            Kind::Shard => 1,
            Kind::State => 2,
        };
        let codec = match self.cid.codec() {
            Codec::Raw => 0,
            Codec::DagCbor => 1,
        };
        let flags = if self.trashed_at_ms.is_some() {
            FLAG_TRASHED
        } else {
            0
        };
        fill.put(&[kind, tag_kind, codec, flags]);
        fill.put(&self.body_bytes.to_le_bytes());
        fill.put(&self.proof_bytes.to_le_bytes());
        fill.put(&epoch.to_le_bytes());
        fill.put(&self.trashed_at_ms.unwrap_or(0).to_le_bytes());
        fill.put(&self.durable_before.to_le_bytes());
        fill.put(self.cid.digest());
        fill.put(&self.proof_sum);
        let (head, tail) = out.split_at_mut(RECORD_HEADER_LEN - 8);
        tail.copy_from_slice(&keyed_sum(key, head));
        out
    }

    /// `None` for anything but a header that was written into this segment.
    pub(crate) fn decode(bytes: &[u8], key: &SegmentKey) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_LEN] = bytes.get(..RECORD_HEADER_LEN)?.try_into().ok()?;
        if !bytes.starts_with(&RECORD_MAGIC) {
            return None;
        }
        let (head, tail) = bytes.split_last_chunk::<8>()?;
        if keyed_sum(key, head) != *tail {
            return None;
        }
        let mut record = Self::decode_middle(bytes.get(HINTED)?)?;
        record.proof_sum = *head.last_chunk()?;
        Some(record)
    }

    /// Reads bytes 4..68 of a header; the proof's sum is left zero.
    fn decode_middle(bytes: &[u8]) -> Option<Self> {
        let mut take = Take(bytes);
        let [kind, tag_kind, codec, flags] = take.array()?;
        let body_bytes = take.u32()?;
        let proof_bytes = take.u32()?;
        let epoch = take.u64()?;
        let at_ms = take.u64()?;
        let durable_before = take.u32()?;
        let digest = take.array()?;
        let kind = match kind {
            1 => Kind::Shard,
            2 => Kind::State,
            _ => return None,
        };
        let codec = match codec {
            0 => Codec::Raw,
            1 => Codec::DagCbor,
            _ => return None,
        };
        let sizes_fit =
            body_bytes <= crate::BODY_BYTES_MAX && proof_bytes <= crate::PROOF_BYTES_MAX;
        let empty = body_bytes == 0 && proof_bytes == 0;
        if flags & !FLAG_TRASHED != 0 || !sizes_fit || (kind == Kind::State && !empty) {
            return None;
        }
        Some(Self {
            kind,
            cid: Cid::from_digest(codec, digest),
            tag: ShardTag::from_parts(tag_kind, epoch)?,
            trashed_at_ms: (flags & FLAG_TRASHED != 0).then_some(at_ms),
            body_bytes,
            proof_bytes,
            durable_before,
            proof_sum: [0; 8],
        })
    }
}

/// Bytes of a record on disk.
pub(crate) fn record_size(proof_bytes: u32, body_bytes: u32) -> u32 {
    RECORD_HEADER_BYTES
        .saturating_add(proof_bytes)
        .saturating_add(body_bytes)
        .checked_next_multiple_of(ALIGNMENT)
        .unwrap_or(u32::MAX)
}

/// Where the next record could start, searching `bytes` from a multiple of [`ALIGNMENT`].
pub(crate) fn find_magic(bytes: &[u8]) -> Option<usize> {
    let step = RECORD_MAGIC.len();
    bytes
        .chunks_exact(step)
        .position(|four| four == RECORD_MAGIC)
        .map(|index| index * step)
}

/// What the first 64 bytes of a segment say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) version: u32,
    pub(crate) id: u32,
    pub(crate) store_key: StoreKey,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; 64] {
        let mut out = [0; 64];
        let mut fill = Fill(&mut out);
        fill.put(&SEGMENT_MAGIC);
        fill.put(&self.version.to_le_bytes());
        fill.put(&self.id.to_le_bytes());
        fill.put(&self.store_key.0);
        let (head, tail) = out.split_at_mut(56);
        tail.copy_from_slice(&sum(head));
        out
    }

    /// `None` when the header is damaged. A sound header of another version is returned as it is.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, tail) = bytes.get(..64)?.split_last_chunk::<8>()?;
        let mut take = Take(head.strip_prefix(&SEGMENT_MAGIC)?);
        let version = take.u32()?;
        let id = take.u32()?;
        let store_key = StoreKey(take.array()?);
        (sum(head) == *tail).then_some(Self {
            version,
            id,
            store_key,
        })
    }
}

/// A segment's records as a hint repeats them, in order of offset.
pub(crate) struct Hint {
    pub(crate) records: Vec<(u32, Record)>,
    /// Where the last record ends.
    pub(crate) end: u32,
}

impl Hint {
    pub(crate) fn encode(&self, id: u32, key: &SegmentKey) -> Vec<u8> {
        let len = HINT_HEAD_LEN + self.records.len() * HINT_ENTRY_LEN + HINT_SUM_LEN;
        let mut out = Vec::with_capacity(len);
        out.extend(HINT_MAGIC);
        out.extend(id.to_le_bytes());
        // A segment of at most 1 GiB holds fewer than 2^32 records of 84 bytes.
        out.extend(
            u32::try_from(self.records.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        out.extend(self.end.to_le_bytes());
        out.extend([0; 4]);
        for (offset, record) in &self.records {
            out.extend(offset.to_le_bytes());
            out.extend_from_slice(record.encode(key).get(HINTED).unwrap_or_default());
        }
        let hash = blake3::keyed_hash(&key.0, &out);
        out.extend(hash.as_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], id: u32, key: &SegmentKey) -> Option<Self> {
        let (content, hash) = bytes.split_last_chunk::<HINT_SUM_LEN>()?;
        if blake3::keyed_hash(&key.0, content) != *hash {
            return None;
        }
        let mut take = Take(content.strip_prefix(&HINT_MAGIC)?);
        if take.u32()? != id {
            return None;
        }
        let count = usize::try_from(take.u32()?).ok()?;
        let end = take.u32()?;
        let _: [u8; 4] = take.array()?;
        let entries = take.0.chunks_exact(HINT_ENTRY_LEN);
        if entries.len() != count || !entries.remainder().is_empty() {
            return None;
        }
        let mut records = Vec::with_capacity(count);
        for entry in entries {
            let (offset, middle) = entry.split_first_chunk()?;
            records.push((u32::from_le_bytes(*offset), Record::decode_middle(middle)?));
        }
        Some(Self { records, end })
    }
}

/// One entry of a dead list.
pub(crate) fn encode_dead(id: u32, offset: u32, key: &SegmentKey) -> [u8; DEAD_ENTRY_LEN] {
    let mut out = [0; DEAD_ENTRY_LEN];
    let mut fill = Fill(&mut out);
    fill.put(&offset.to_le_bytes());
    fill.put(&id.to_le_bytes());
    let (head, tail) = out.split_at_mut(8);
    tail.copy_from_slice(&keyed_sum(key, head));
    out
}

/// The offsets in a dead list, sorted. Damaged entries are left out: a record that comes back wastes space and
/// hurts nobody.
pub(crate) fn decode_dead(bytes: &[u8], id: u32, key: &SegmentKey) -> Vec<u32> {
    let mut offsets: Vec<u32> = bytes
        .chunks_exact(DEAD_ENTRY_LEN)
        .filter_map(|entry| {
            let (head, tail) = entry.split_last_chunk::<8>()?;
            let mut take = Take(head);
            let offset = take.u32()?;
            (take.u32()? == id && keyed_sum(key, head) == *tail).then_some(offset)
        })
        .collect();
    offsets.sort_unstable();
    offsets
}

/// All decoders on the same bytes, with the checks of sums passed over where they hide the rest.
pub(crate) fn decode_anything(bytes: &[u8]) {
    let key = StoreKey([0; 32]).segment(1);
    let _ = StoreKey::from_file(bytes);
    let _ = SegmentHeader::decode(bytes);
    let _ = Record::decode(bytes, &key);
    if let Some(record) = Record::decode_middle(bytes) {
        assert!(
            record.size() >= RECORD_HEADER_BYTES,
            "a record smaller than its header"
        );
        let again = Record::decode(&record.encode(&key), &key);
        assert_eq!(again, Some(record), "a record that does not read back");
    }
    let _ = Hint::decode(bytes, 1, &key);
    let _ = decode_dead(bytes, 1, &key);
    let _ = find_magic(bytes);
    let hash = blake3::keyed_hash(&key.0, bytes);
    let _ = Hint::decode(&[bytes, hash.as_bytes()].concat(), 1, &key);
}

/// The first 8 bytes of BLAKE3.
pub(crate) fn sum(bytes: &[u8]) -> [u8; 8] {
    first_eight(&blake3::hash(bytes))
}

fn keyed_sum(key: &SegmentKey, bytes: &[u8]) -> [u8; 8] {
    first_eight(&blake3::keyed_hash(&key.0, bytes))
}

fn first_eight(hash: &blake3::Hash) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// Writes fields one after the other into a buffer of exactly the right size.
struct Fill<'a>(&'a mut [u8]);

impl Fill<'_> {
    fn put(&mut self, bytes: &[u8]) {
        let rest = std::mem::take(&mut self.0);
        // The layouts above are constants and every caller writes them in full: a field that does not fit is a bug.
        let (field, rest) = rest.split_at_mut(bytes.len());
        field.copy_from_slice(bytes);
        self.0 = rest;
    }
}

/// Reads fields one after the other.
struct Take<'a>(&'a [u8]);

impl Take<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*field)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: Kind) -> Record {
        Record {
            kind,
            cid: Cid::of(Codec::DagCbor, b"x"),
            tag: ShardTag::Small { epoch: u64::MAX },
            trashed_at_ms: Some(7),
            body_bytes: if kind == Kind::Shard { 5 } else { 0 },
            proof_bytes: if kind == Kind::Shard { 3 } else { 0 },
            durable_before: 64,
            proof_sum: [9; 8],
        }
    }

    #[test]
    fn a_record_header_reads_back_and_no_flipped_bit_passes() {
        let key = StoreKey([1; 32]).segment(5);
        for kind in [Kind::Shard, Kind::State] {
            let bytes = record(kind).encode(&key);
            assert_eq!(Record::decode(&bytes, &key), Some(record(kind)));
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes;
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Record::decode(&bad, &key), None, "bit {bit}");
            }
            assert_eq!(Record::decode(&bytes[..83], &key), None);
        }
    }

    #[test]
    fn a_record_of_another_segment_or_store_does_not_pass() {
        let bytes = record(Kind::Shard).encode(&StoreKey([1; 32]).segment(5));
        for other in [StoreKey([1; 32]).segment(6), StoreKey([2; 32]).segment(5)] {
            assert_eq!(Record::decode(&bytes, &other), None);
        }
    }

    #[test]
    fn sizes_over_the_limit_do_not_pass_even_with_a_right_sum() {
        let key = StoreKey([1; 32]).segment(5);
        let mut big = record(Kind::Shard);
        big.body_bytes = crate::BODY_BYTES_MAX + 1;
        assert_eq!(Record::decode(&big.encode(&key), &key), None);
        let mut state = record(Kind::State);
        state.body_bytes = 1;
        assert_eq!(Record::decode(&state.encode(&key), &key), None);
    }

    #[test]
    fn segment_headers_store_files_and_dead_lists_read_back_or_are_refused() {
        let store_key = StoreKey([3; 32]);
        let header = SegmentHeader {
            version: 1,
            id: 9,
            store_key,
        };
        let bytes = header.encode();
        assert!(SegmentHeader::decode(&bytes) == Some(header));
        let file = store_key.to_file();
        assert!(StoreKey::from_file(&file) == Some(store_key));
        let key = store_key.segment(9);
        let dead = encode_dead(9, 640, &key);
        assert_eq!(decode_dead(&dead, 9, &key), [640]);
        let check = |bytes: &[u8], passes: &dyn Fn(&[u8]) -> bool| {
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(!passes(&bad), "bit {bit}");
            }
        };
        check(&bytes, &|bad| SegmentHeader::decode(bad).is_some());
        check(&file, &|bad| StoreKey::from_file(bad).is_some());
        check(&dead, &|bad| !decode_dead(bad, 9, &key).is_empty());
    }

    #[test]
    fn a_hint_reads_back_and_a_damaged_one_is_ignored() {
        let key = StoreKey([1; 32]).segment(5);
        let hint = Hint {
            records: vec![(64, record(Kind::Shard)), (156, record(Kind::State))],
            end: 240,
        };
        let bytes = hint.encode(5, &key);
        let back = Hint::decode(&bytes, 5, &key).unwrap();
        assert_eq!((back.end, back.records.len()), (240, 2));
        assert_eq!(back.records[1].0, 156);
        assert_eq!(
            back.records[0].1,
            Record {
                proof_sum: [0; 8],
                ..record(Kind::Shard)
            }
        );
        assert!(Hint::decode(&bytes, 6, &key).is_none());
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(Hint::decode(&bad, 5, &key).is_none(), "byte {at}");
            assert!(Hint::decode(&bytes[..at], 5, &key).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn the_search_finds_magic_at_aligned_places_only() {
        assert_eq!(find_magic(b"....SRrc"), Some(4));
        assert_eq!(find_magic(b"..SRrc.."), None);
        assert_eq!(find_magic(b"SRr"), None);
    }

    #[test]
    fn records_are_padded_and_cost_less_than_a_hundred_bytes() {
        assert_eq!(record_size(0, 0), 84);
        assert_eq!(record_size(0, 1), 88);
        assert!(record_size(0, 4_096) - 4_096 < 100);
        assert_eq!(record_size(u32::MAX, 1), u32::MAX);
    }
}
