//! Ciphertext and the proofs beside it, as nodes and gateways hand them out.

use crypto::block_stream::{self, ChunkOpener, ChunkSalt};
use crypto::{ChunkProof, ChunkVerifier};
use domain::Cid;
use domain::limits::BLOCK_BYTES;

use crate::{Target, fixed};

pub const CHUNK_PROOF: Target = Target {
    name: "chunk_proof",
    run: chunk_proof,
    seeds: || {
        [1, BLOCK_BYTES + 1, 64 * BLOCK_BYTES]
            .into_iter()
            .map(|length| {
                let proof =
                    ChunkProof::from_ciphertext(&vec![7; length]).expect("a chunk's length");
                let mut seed = u32::try_from(length)
                    .unwrap_or(u32::MAX)
                    .to_be_bytes()
                    .to_vec();
                seed.extend_from_slice(&proof.encode());
                seed
            })
            .collect()
    },
};

pub const CHUNK_OPEN: Target = Target {
    name: "chunk_open",
    run: chunk_open,
    seeds: || {
        [&b""[..], b"plaintext", &[7; BLOCK_BYTES + 100]]
            .into_iter()
            .map(|plain| {
                let mut out = Vec::new();
                block_stream::danger_seal_chunk_with_salt(&fixed::dek(), SALT, plain, &mut out)
                    .expect("shorter than a chunk");
                out
            })
            .collect()
    },
};

const SALT: ChunkSalt = ChunkSalt([0x5a; 16]);

/// `ciphertext length (u32 BE) proof`.
fn chunk_proof(input: &[u8]) -> bool {
    let Some((length, bytes)) = input.split_first_chunk::<4>() else {
        return false;
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    let Ok(proof) = ChunkProof::decode(bytes) else {
        return false;
    };
    assert_eq!(proof.encode(), bytes, "one form for one proof");
    assert_eq!(proof.encoded_len(), bytes.len());
    let cid = proof.root().unwrap_or_else(|| Cid::of_raw(b"x"));
    // Belonging to one chunk means belonging to no other.
    assert!(
        bytes.is_empty()
            || ChunkVerifier::new(Cid::of_raw(b"another"), length, proof.clone()).is_err()
    );
    let Ok(verifier) = ChunkVerifier::new(cid, length, proof) else {
        return false;
    };
    let blocks = length.div_ceil(BLOCK_BYTES);
    for index in [0, blocks.saturating_sub(1), blocks, usize::MAX] {
        // Whatever the proof says, bytes that nobody hashed are refused.
        assert!(verifier.check_block(index, b"never hashed").is_err());
    }
    true
}

/// Ciphertext of a chunk under a known key: what opens must seal to the same bytes again.
fn chunk_open(input: &[u8]) -> bool {
    let Some(plain_len) = block_stream::plain_len(input.len()) else {
        return false;
    };
    assert_eq!(block_stream::ciphertext_len(plain_len), input.len());
    let opener = ChunkOpener::new(&fixed::dek(), &SALT, plain_len).expect("shorter than a chunk");
    let mut plain = Vec::new();
    let cid = Cid::of_raw(input);
    let opened = opener.open_verified(&cid, input, &mut plain).is_ok();
    if opened {
        let mut sealed = Vec::new();
        block_stream::danger_seal_chunk_with_salt(&fixed::dek(), SALT, &plain, &mut sealed)
            .expect("shorter than a chunk");
        assert_eq!(sealed, input);
    } else {
        assert!(plain.is_empty(), "unchecked plaintext was handed out");
    }
    let mut other = vec![1, 2, 3];
    assert!(
        opener
            .open_verified(&Cid::of_raw(b"another"), input, &mut other)
            .is_err()
    );
    assert!(other.is_empty(), "unchecked plaintext was handed out");
    opened
}
