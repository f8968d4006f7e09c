//! Where each shard lies: a sorted list of sorted pieces, ordered by CID.
//!
//! 56 bytes per shard and a few more for the pieces' slack; an empty index costs nothing. A hash table of the same
//! entries costs 64 to 128 bytes each, copies everything when it grows, and cannot be listed in order.

use domain::{Cid, Codec, ShardTag};

/// Entries in one piece, at most; a full piece is split in half.
const PIECE_ENTRIES_MAX: usize = 256;
/// A piece grows by this many entries, so that little of it lies empty.
const PIECE_STEP: usize = 16;

const PROOF_MASK: u32 = (1 << 17) - 1;
const TAG_SHIFT: u32 = 17;
const TAG_MASK: u32 = 0b11 << TAG_SHIFT;
const DAG_CBOR: u32 = 1 << 19;
const TRASHED: u32 = 1 << 20;
const STATED: u32 = 1 << 21;
const SUSPECT: u32 = 1 << 22;

/// One shard. Packed by hand: this is what a node's memory goes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    digest: [u8; 32],
    pub(crate) segment: u32,
    pub(crate) offset: u32,
    pub(crate) body_bytes: u32,
    /// Bytes of proof in the low 17 bits, then tag kind and flags.
    packed: u32,
    /// The tag's epoch, high half first; two halves keep the alignment at 4.
    epoch: [u32; 2],
}

/// Where a shard record starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Location {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

impl Entry {
    pub(crate) fn new(
        cid: &Cid,
        at: Location,
        body_bytes: u32,
        proof_bytes: u32,
        tag: ShardTag,
        trashed: bool,
    ) -> Self {
        debug_assert!(
            proof_bytes <= PROOF_MASK,
            "a proof over its limit was let through"
        );
        let codec = match cid.codec() {
            Codec::Raw => 0,
            Codec::DagCbor => DAG_CBOR,
        };
        let mut entry = Self {
            digest: *cid.digest(),
            segment: at.segment,
            offset: at.offset,
            body_bytes,
            packed: (proof_bytes & PROOF_MASK) | codec,
            epoch: [0; 2],
        };
        entry.set_tag(tag);
        entry.set(TRASHED, trashed);
        entry
    }

    pub(crate) fn cid(&self) -> Cid {
        Cid::from_digest(self.codec(), self.digest)
    }

    fn codec(&self) -> Codec {
        if self.packed & DAG_CBOR == 0 {
            Codec::Raw
        } else {
            Codec::DagCbor
        }
    }

    fn key(&self) -> (Codec, &[u8; 32]) {
        (self.codec(), &self.digest)
    }

    pub(crate) fn location(&self) -> Location {
        Location {
            segment: self.segment,
            offset: self.offset,
        }
    }

    pub(crate) fn proof_bytes(&self) -> u32 {
        self.packed & PROOF_MASK
    }

    /// Bytes of the record on disk.
    pub(crate) fn size(&self) -> u32 {
        crate::format::record_size(self.proof_bytes(), self.body_bytes)
    }

    pub(crate) fn tag(&self) -> ShardTag {
        let kind = (self.packed & TAG_MASK) >> TAG_SHIFT;
        let [high, low] = self.epoch.map(u64::from);
        let kind = u8::try_from(kind).unwrap_or(u8::MAX);
        // Only `set_tag` writes these bits, from a tag.
        ShardTag::from_parts(kind, high << 32 | low).unwrap_or(ShardTag::Chunk)
    }

    pub(crate) fn set_tag(&mut self, tag: ShardTag) {
        let (kind, epoch) = tag.to_parts();
        self.packed = self.packed & !TAG_MASK | u32::from(kind) << TAG_SHIFT & TAG_MASK;
        let [a, b, c, d, e, f, g, h] = epoch.to_be_bytes();
        self.epoch = [
            u32::from_be_bytes([a, b, c, d]),
            u32::from_be_bytes([e, f, g, h]),
        ];
    }

    /// In the trash: not served, can be restored.
    pub(crate) fn trashed(&self) -> bool {
        self.packed & TRASHED != 0
    }

    pub(crate) fn set_trashed(&mut self, trashed: bool) {
        self.set(TRASHED, trashed);
    }

    /// A state record, not the shard record, holds the tag and the trash flag.
    pub(crate) fn stated(&self) -> bool {
        self.packed & STATED != 0
    }

    pub(crate) fn set_stated(&mut self) {
        self.set(STATED, true);
    }

    /// Found damaged: not served, and a put replaces it.
    pub(crate) fn suspect(&self) -> bool {
        self.packed & SUSPECT != 0
    }

    pub(crate) fn set_suspect(&mut self) {
        self.set(SUSPECT, true);
    }

    fn set(&mut self, bit: u32, on: bool) {
        if on {
            self.packed |= bit;
        } else {
            self.packed &= !bit;
        }
    }
}

/// All shards of a store.
#[derive(Default)]
pub(crate) struct Index {
    pieces: Vec<Vec<Entry>>,
    len: usize,
}

fn key(cid: &Cid) -> (Codec, &[u8; 32]) {
    (cid.codec(), cid.digest())
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The piece in which `cid` is or would be; the first for anything before all entries.
    fn piece_of(&self, cid: &Cid) -> usize {
        let after = self
            .pieces
            .partition_point(|piece| piece.first().is_some_and(|first| first.key() <= key(cid)));
        after.saturating_sub(1)
    }

    pub(crate) fn get(&self, cid: &Cid) -> Option<&Entry> {
        let piece = self.pieces.get(self.piece_of(cid))?;
        let at = piece
            .binary_search_by(|entry| entry.key().cmp(&key(cid)))
            .ok()?;
        piece.get(at)
    }

    pub(crate) fn get_mut(&mut self, cid: &Cid) -> Option<&mut Entry> {
        let at = self.piece_of(cid);
        let piece = self.pieces.get_mut(at)?;
        let at = piece
            .binary_search_by(|entry| entry.key().cmp(&key(cid)))
            .ok()?;
        piece.get_mut(at)
    }

    /// Returns the entry that it replaces.
    pub(crate) fn insert(&mut self, entry: Entry) -> Option<Entry> {
        let cid = entry.cid();
        if self.pieces.is_empty() {
            self.pieces.push(Vec::new());
        }
        let piece_at = self.piece_of(&cid);
        let piece = self.pieces.get_mut(piece_at)?;
        let at = match piece.binary_search_by(|other| other.key().cmp(&entry.key())) {
            Ok(at) => return piece.get_mut(at).map(|old| std::mem::replace(old, entry)),
            Err(at) => at,
        };
        if piece.len() == piece.capacity() {
            piece.reserve_exact(PIECE_STEP);
        }
        piece.insert(at, entry);
        self.len += 1;
        if piece.len() >= PIECE_ENTRIES_MAX {
            let upper = piece.split_off(PIECE_ENTRIES_MAX / 2);
            piece.shrink_to(PIECE_ENTRIES_MAX / 2 + PIECE_STEP);
            self.pieces.insert(piece_at + 1, upper);
        }
        None
    }

    pub(crate) fn remove(&mut self, cid: &Cid) -> Option<Entry> {
        let piece_at = self.piece_of(cid);
        let piece = self.pieces.get_mut(piece_at)?;
        let at = piece
            .binary_search_by(|entry| entry.key().cmp(&key(cid)))
            .ok()?;
        let entry = piece.remove(at);
        self.len -= 1;
        if piece.is_empty() {
            self.pieces.remove(piece_at);
        } else if piece.capacity() - piece.len() > 4 * PIECE_STEP {
            piece.shrink_to(piece.len() + PIECE_STEP);
        }
        Some(entry)
    }

    /// Entries in order, those after `cid` only.
    pub(crate) fn after<'a>(&'a self, cid: Option<&'a Cid>) -> impl Iterator<Item = &'a Entry> {
        let first = cid.map_or(0, |cid| self.piece_of(cid));
        self.pieces
            .get(first..)
            .unwrap_or_default()
            .iter()
            .flatten()
            .skip_while(move |entry| cid.is_some_and(|cid| entry.key() <= key(cid)))
    }

    /// Bytes of memory behind the entries.
    pub(crate) fn memory_bytes(&self) -> usize {
        let entries: usize = self.pieces.iter().map(Vec::capacity).sum();
        entries * size_of::<Entry>() + self.pieces.capacity() * size_of::<Vec<Entry>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn cid(number: u32) -> Cid {
        let codec = if number.is_multiple_of(3) {
            Codec::DagCbor
        } else {
            Codec::Raw
        };
        Cid::of(codec, &number.to_le_bytes())
    }

    fn entry(number: u32, offset: u32) -> Entry {
        let tag = ShardTag::Small {
            epoch: u64::from(number) << 33,
        };
        Entry::new(
            &cid(number),
            Location { segment: 1, offset },
            number,
            number & PROOF_MASK,
            tag,
            false,
        )
    }

    #[test]
    fn it_agrees_with_a_map_under_inserts_and_removals() {
        let mut index = Index::default();
        let mut model = BTreeMap::new();
        for step in 0..20_000u32 {
            let number = step.wrapping_mul(2_654_435_761) % 5_000;
            if step % 3 == 2 {
                assert_eq!(index.remove(&cid(number)), model.remove(&cid(number)));
            } else {
                let entry = entry(number, step);
                assert_eq!(index.insert(entry), model.insert(cid(number), entry));
            }
            assert_eq!(index.len(), model.len());
        }
        assert!(index.after(None).eq(model.values()));
        for number in 0..5_000 {
            assert_eq!(index.get(&cid(number)), model.get(&cid(number)));
            let after = cid(number);
            let want = model.range((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
            assert!(
                index
                    .after(Some(&after))
                    .take(3)
                    .eq(want.map(|(_, entry)| entry).take(3))
            );
        }
        for cid in model.keys() {
            assert!(index.remove(cid).is_some());
        }
        assert_eq!((index.len(), index.pieces.len()), (0, 0));
    }

    #[test]
    fn an_entry_keeps_its_fields_apart() {
        let mut entry = entry(3, 12);
        for tag in [
            ShardTag::Recovery { epoch: u64::MAX },
            ShardTag::Small { epoch: 1 << 40 },
            ShardTag::Chunk,
        ] {
            entry.set_tag(tag);
            entry.set_trashed(true);
            entry.set_stated();
            entry.set_suspect();
            assert_eq!(entry.tag(), tag);
            assert_eq!(
                (entry.cid(), entry.proof_bytes(), entry.body_bytes),
                (cid(3), 3, 3)
            );
            assert!(entry.trashed() && entry.stated() && entry.suspect());
            entry.set_trashed(false);
            assert!(!entry.trashed() && entry.stated() && entry.suspect());
        }
    }

    #[test]
    fn a_record_costs_at_most_64_bytes_of_memory() {
        assert_eq!(size_of::<Entry>(), 56);
        let mut index = Index::default();
        assert_eq!(index.memory_bytes(), 0);
        for number in 0..100_000 {
            index.insert(entry(number, 0));
        }
        let each = index.memory_bytes() / index.len();
        assert!(each <= 64, "{each} bytes per record");
    }
}
