//! Objects of many shapes through sealing, ranges and pages.

use std::ops::Range;

use crypto::{ChunkProof, ChunkSalt, Dek};
use domain::Cid;
use domain::limits::{BLOCK_PLAIN_BYTES, MANIFEST_PAGE_CHUNKS};
use proptest::prelude::*;
use sealed::manifest::{
    ChunkEntry, ChunkList, ContentManifest, EncodedPage, Geometry, ManifestBuilder, ManifestError,
};
use sealed::object::{ObjectOpener, ObjectSealer, ReadError};

use crate::support::{DEPLOYMENT, FixedRng, plaintext};

struct Stored {
    opener: ObjectOpener,
    pages: Vec<EncodedPage>,
    chunks: Vec<(Vec<u8>, ChunkProof)>,
    plain: Vec<u8>,
}

/// Seals `plain` in chunks of the given lengths, then a last one with the rest.
fn store(name: &str, len: usize, geometry: Geometry, lengths: &[usize]) -> Stored {
    let mut rng = FixedRng::new(name);
    let mut sealer = ObjectSealer::new(&mut rng, DEPLOYMENT, geometry);
    let plain = plaintext(name, len);
    let mut rest = plain.as_slice();
    let (mut chunks, mut pages) = (Vec::new(), Vec::new());
    let mut next = lengths.iter();
    loop {
        let wanted = next.next().copied().unwrap_or(geometry.chunk_plain_bytes());
        let (part, tail) = rest.split_at(wanted.min(rest.len()));
        rest = tail;
        let mut out = Vec::new();
        let sealed = sealer.seal_chunk(&mut rng, part, &mut out).unwrap();
        pages.extend(sealer.push(ChunkEntry::from(&sealed)).unwrap());
        chunks.push((out, sealed.proof));
        if rest.is_empty() {
            break;
        }
    }
    let (dek, finished) = sealer.finish().unwrap();
    pages.extend(finished.last_page);
    let opener = ObjectOpener::new(&finished.cid, &finished.root, dek).unwrap();
    assert_eq!(opener.size(), u64::try_from(len).unwrap());
    Stored {
        opener,
        pages,
        chunks,
        plain,
    }
}

/// Reads a range as a client would: missing pages, then blocks with their proofs.
fn read(stored: &mut Stored, range: Range<u64>) -> Result<Vec<u8>, ReadError> {
    for (index, cid) in stored.opener.missing_pages(&range) {
        let page = &stored.pages[index];
        assert_eq!((page.index, page.cid), (index, cid));
        stored.opener.add_page(index, &page.bytes)?;
    }
    let mut all = Vec::new();
    let mut out = Vec::new();
    for read in stored.opener.reads(&range)? {
        let (ciphertext, proof) = &stored.chunks[read.index];
        let proof = if read.is_whole() {
            ChunkProof::default()
        } else {
            proof.clone()
        };
        stored
            .opener
            .open_read(&read, &ciphertext[read.ciphertext.clone()], proof, &mut out)?;
        assert_eq!(out.len(), read.take);
        all.extend_from_slice(&out);
    }
    Ok(all)
}

fn whole(stored: &mut Stored) -> Vec<u8> {
    let range = 0..stored.opener.size();
    read(stored, range).unwrap()
}

#[test]
fn sizes_at_every_border_round_trip() {
    let small = Geometry::new(16).unwrap();
    let chunk = small.chunk_plain_bytes();
    let sizes = [
        0,
        1,
        65_519,
        65_520,
        65_521,
        262_143,
        262_144,
        262_145,
        chunk - 1,
        chunk,
        chunk + 1,
        2 * chunk,
    ];
    for size in sizes {
        let mut stored = store("borders", size, small, &[]);
        assert!(whole(&mut stored) == stored.plain, "{size}");
        assert_eq!(
            stored.opener.manifest().chunk_count(),
            size.div_ceil(chunk).max(1)
        );
    }
    let largest = Geometry::LARGEST.chunk_plain_bytes();
    for size in [largest - 1, largest, largest + 1] {
        let mut stored = store("borders", size, Geometry::LARGEST, &[]);
        assert!(whole(&mut stored) == stored.plain, "{size}");
    }
}

#[test]
fn an_empty_object_is_one_checked_chunk_of_nothing() {
    let mut stored = store("empty", 0, Geometry::LARGEST, &[]);
    assert_eq!(stored.chunks[0].0.len(), 16);
    assert_eq!(stored.opener.reads(&(0..0)).unwrap().len(), 1);
    assert_eq!(whole(&mut stored), b"");
    stored.chunks[0].0[3] ^= 1;
    assert!(matches!(
        read(&mut stored, 0..0),
        Err(ReadError::Chunk { index: 0, .. })
    ));
}

#[test]
fn ranges_that_are_none_are_refused() {
    let stored = store("ranges", 100, Geometry::LARGEST, &[]);
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "a backwards range is what is tested"
    )]
    for range in [
        0..0,
        5..5,
        7..3,
        0..101,
        100..101,
        100..100,
        0..u64::MAX,
        u64::MAX..u64::MAX,
    ] {
        let refused = ReadError::Range {
            size: 100,
            start: range.start,
            end: range.end,
        };
        assert_eq!(stored.opener.reads(&range), Err(refused));
    }
}

#[test]
fn a_range_read_asks_for_the_blocks_it_touches_only() {
    let stored = store("touch", 10 * BLOCK_PLAIN_BYTES, Geometry::LARGEST, &[]);
    let block = u64::try_from(BLOCK_PLAIN_BYTES).unwrap();
    let reads = stored
        .opener
        .reads(&(3 * block - 1..3 * block + 1))
        .unwrap();
    let [read] = reads.as_slice() else {
        panic!("one chunk")
    };
    assert_eq!(read.ciphertext, 2 * 65_536..4 * 65_536);
    assert_eq!(
        (read.first_block, read.skip, read.take),
        (2, BLOCK_PLAIN_BYTES - 1, 2)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_range_of_any_cut_is_the_plaintexts(
        lengths in prop::collection::vec(1_usize..140_000, 0..5),
        len in 1_usize..500_000,
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
    ) {
        let mut stored = store("any", len, Geometry::LARGEST, &lengths);
        let (a, b) = (a.index(len), b.index(len));
        let (start, end) = (a.min(b), a.max(b) + 1);
        let got = read(&mut stored, u64::try_from(start).unwrap()..u64::try_from(end).unwrap()).unwrap();
        prop_assert!(got == stored.plain[start..end]);
    }
}

#[test]
fn more_than_1024_chunks_go_into_pages() {
    let count = 2 * MANIFEST_PAGE_CHUNKS + 2;
    let mut stored = store("pages", 3 * count, Geometry::LARGEST, &vec![3; count]);
    assert_eq!(stored.pages.len(), 3);
    assert_eq!(stored.opener.manifest().chunk_count(), count);
    assert!(
        matches!(stored.opener.manifest().chunks(), ChunkList::Pages(pages) if pages.len() == 3)
    );
    // Nothing is loaded; a range over a page border needs two pages.
    let border = u64::try_from(3 * MANIFEST_PAGE_CHUNKS).unwrap();
    assert_eq!(
        stored.opener.reads(&(border..border + 1)),
        Err(ReadError::PageMissing(1))
    );
    let missing = stored.opener.missing_pages(&(border - 1..border + 1));
    assert_eq!(
        missing.iter().map(|(index, _)| *index).collect::<Vec<_>>(),
        [0, 1]
    );
    let got = read(&mut stored, border - 4..border + 4).unwrap();
    let at = 3 * MANIFEST_PAGE_CHUNKS;
    assert_eq!(got, &stored.plain[at - 4..at + 4]);
    assert!(stored.opener.missing_pages(&(0..1)).is_empty());
    stored.opener.drop_page(0);
    assert_eq!(stored.opener.missing_pages(&(0..1)).len(), 1);
    assert!(whole(&mut stored) == stored.plain);
}

#[test]
fn exactly_1024_chunks_stay_in_the_root_and_one_more_makes_two_pages() {
    for (count, pages) in [(MANIFEST_PAGE_CHUNKS, 0), (MANIFEST_PAGE_CHUNKS + 1, 2)] {
        let mut stored = store("edge", count, Geometry::LARGEST, &vec![1; count]);
        assert_eq!(stored.pages.len(), pages);
        assert!(whole(&mut stored) == stored.plain);
    }
}

#[test]
fn pages_of_others_are_refused() {
    let count = MANIFEST_PAGE_CHUNKS + 5;
    let mut stored = store("mine", count, Geometry::LARGEST, &vec![1; count]);
    let other = store("other", count, Geometry::LARGEST, &vec![1; count]);
    let refused = |index| Err(ManifestError::Page { index }.into());
    assert_eq!(stored.opener.add_page(0, &other.pages[0].bytes), refused(0));
    let (first, last) = (stored.pages[0].bytes.clone(), stored.pages[1].bytes.clone());
    assert_eq!(stored.opener.add_page(1, &first), refused(1));
    assert_eq!(stored.opener.add_page(2, &last), refused(2));
    let mut altered = last.clone();
    altered[40] ^= 1;
    assert_eq!(stored.opener.add_page(1, &altered), refused(1));
    assert_eq!(stored.opener.add_page(1, &last), Ok(()));
}

#[test]
fn the_builder_refuses_what_no_manifest_may_hold() {
    let dek = Dek::random(&mut FixedRng::new("dek"), DEPLOYMENT);
    let geometry = Geometry::new(16).unwrap();
    let chunk = |plain_len: usize| ChunkEntry {
        salt: ChunkSalt([0; 16]),
        plain_len: u32::try_from(plain_len).unwrap(),
        cid: Cid::of_raw(b"x"),
    };
    let full = geometry.chunk_plain_bytes();
    assert_eq!(
        ManifestBuilder::new(geometry).finish(&dek).unwrap_err(),
        ManifestError::Empty
    );
    let refused = |chunks: &[usize]| {
        let mut builder = ManifestBuilder::new(geometry);
        chunks
            .iter()
            .find_map(|len| builder.push(chunk(*len)).err())
    };
    assert!(matches!(
        refused(&[full + 1]),
        Some(ManifestError::Chunk { index: 0, .. })
    ));
    assert!(matches!(
        refused(&[5, 0]),
        Some(ManifestError::Chunk { index: 1, .. })
    ));
    assert!(matches!(
        refused(&[0, 5]),
        Some(ManifestError::Chunk { index: 1, .. })
    ));
    assert!(matches!(
        refused(&[0, 0]),
        Some(ManifestError::Chunk { index: 1, .. })
    ));
    assert_eq!(refused(&[full, 1, full]), None);
    for blocks in [0, 15, 65, 255] {
        assert!(Geometry::new(blocks).is_err(), "{blocks}");
    }
    let mut sealer = ObjectSealer::with_dek(dek, geometry);
    let mut rng = FixedRng::new("too long");
    assert!(
        sealer
            .seal_chunk(&mut rng, &vec![0; full + 1], &mut Vec::new())
            .is_err()
    );
    // Resume: what was acknowledged is pushed as it was, the rest is encrypted anew.
    let first = sealer
        .seal_chunk(&mut rng, b"first", &mut Vec::new())
        .unwrap();
    let again = sealer
        .seal_chunk(&mut rng, b"first", &mut Vec::new())
        .unwrap();
    assert_ne!(first.salt, again.salt);
    sealer.push(ChunkEntry::from(&first)).unwrap();
    let (dek, finished) = sealer.finish().unwrap();
    assert_eq!(
        ContentManifest::decode(&finished.root),
        Ok(finished.manifest.clone())
    );
    assert_eq!(finished.manifest.verify(&dek), Ok(()));
}
