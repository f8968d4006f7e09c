//! The data path's cryptography against its ceilings, one thread: AEAD alone, BLAKE3 alone, sealing and opening chunks.
//!
//! `cargo bench -p crypto --bench datapath`. What is compared is interleaved: each round measures every line once, and the
//! best round counts. MB/s are 10^6 bytes of plaintext per second; CPU-s per GB are of this thread (wall time, as nothing
//! here waits). The working set is 64 MiB, so that bytes come from memory as they do in a stream, not from cache.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use crypto::block_stream::{ChunkOpener, SealedChunk, ciphertext_len, seal_chunk};
use crypto::chunk_proof::{ChunkVerifier, chunk_cid_and_proof};
use crypto::{Dek, Secret};
use domain::DeploymentId;
use domain::limits::{BLOCK_BYTES, BLOCK_PLAIN_BYTES, CHUNK_PLAIN_BYTES_MAX};
use getrandom::{SysRng, rand_core::UnwrapErr};

const CHUNKS: usize = 16;
const ROUNDS: usize = 7;

struct Line<'a> {
    name: &'static str,
    best: Duration,
    run: Box<dyn FnMut() + 'a>,
}

fn main() {
    let plain: Vec<Vec<u8>> = (0..CHUNKS)
        .map(|chunk| {
            (0..CHUNK_PLAIN_BYTES_MAX)
                .map(|i| ((i * 31 + chunk) % 251).to_le_bytes()[0])
                .collect()
        })
        .collect();
    let dek = Dek::new(Secret::take(&mut [7; 32]), DeploymentId([1; 32]));
    let mut rng = UnwrapErr(SysRng);
    let mut sealed: Vec<(SealedChunk, Vec<u8>)> = Vec::new();
    for chunk in &plain {
        let mut out = Vec::new();
        let made = seal_chunk(&dek, &mut rng, chunk, &mut out).expect("a full chunk");
        sealed.push((made, out));
    }

    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes"));
    let mut aead_out = vec![vec![0_u8; ciphertext_len(CHUNK_PLAIN_BYTES_MAX)]; CHUNKS];
    let mut copy_out = aead_out.clone();
    let mut seal_out = aead_out.clone();
    let mut open_out = vec![Vec::new(); CHUNKS];
    let mut range_out = Vec::new();

    let mut lines = vec![
        line("memcpy", || {
            for (from, to) in plain.iter().zip(&mut copy_out) {
                to[..from.len()].copy_from_slice(from);
                black_box(to);
            }
        }),
        line("AES-256-GCM alone, 64 KiB blocks", || {
            for (from, to) in plain.iter().zip(&mut aead_out) {
                for (index, (from, to)) in from
                    .chunks(BLOCK_PLAIN_BYTES)
                    .zip(to.chunks_mut(BLOCK_BYTES))
                    .enumerate()
                {
                    let mut nonce = [0; 12];
                    nonce[..8].copy_from_slice(&index.to_be_bytes());
                    let (body, tag) = to.split_at_mut(from.len());
                    key.seal_out_of_place_scatter(
                        Nonce::assume_unique_for_key(nonce),
                        Aad::empty(),
                        from,
                        body,
                        &[],
                        tag,
                    )
                    .expect("a block");
                }
            }
        }),
        line("BLAKE3 alone, 4 MiB at a time", || {
            for (_, ciphertext) in &sealed {
                black_box(blake3::hash(ciphertext));
            }
        }),
        line("CID and proof of a ciphertext", || {
            for (_, ciphertext) in &sealed {
                black_box(chunk_cid_and_proof(ciphertext).expect("a chunk"));
            }
        }),
        line("seal_chunk (AEAD, CID, proof)", || {
            for (from, to) in plain.iter().zip(&mut seal_out) {
                black_box(seal_chunk(&dek, &mut UnwrapErr(SysRng), from, to).expect("a chunk"));
            }
        }),
        line("open_verified (CID, tags)", || {
            for ((made, ciphertext), to) in sealed.iter().zip(&mut open_out) {
                let opener =
                    ChunkOpener::new(&dek, &made.salt, CHUNK_PLAIN_BYTES_MAX).expect("a chunk");
                opener
                    .open_verified(&made.cid, ciphertext, to)
                    .expect("genuine");
            }
        }),
        line("open_range_verified, 16 blocks at a time", || {
            for (made, ciphertext) in &sealed {
                let opener =
                    ChunkOpener::new(&dek, &made.salt, CHUNK_PLAIN_BYTES_MAX).expect("a chunk");
                let verifier = ChunkVerifier::new(made.cid, ciphertext.len(), made.proof.clone())
                    .expect("the chunk's proof");
                for (group, blocks) in ciphertext.chunks(16 * BLOCK_BYTES).enumerate() {
                    opener
                        .open_range_verified(&verifier, group * 16, blocks, &mut range_out)
                        .expect("genuine");
                }
            }
        }),
    ];
    for _ in 0..ROUNDS {
        for line in &mut lines {
            let start = Instant::now();
            (line.run)();
            line.best = line.best.min(start.elapsed());
        }
    }
    let gigabytes = f64::from(u32::try_from(CHUNKS * CHUNK_PLAIN_BYTES_MAX).expect("64 MiB")) / 1e9;
    println!(
        "{:<42} {:>9} {:>12}",
        "one thread, 64 MiB, best of 7", "MB/s", "CPU-s per GB"
    );
    for line in &lines {
        let per_gigabyte = line.best.as_secs_f64() / gigabytes;
        println!(
            "{:<42} {:>9.0} {:>12.3}",
            line.name,
            1e3 / per_gigabyte,
            per_gigabyte
        );
    }
}

fn line<'a>(name: &'static str, run: impl FnMut() + 'a) -> Line<'a> {
    Line {
        name,
        best: Duration::MAX,
        run: Box::new(run),
    }
}
