//! Encode and reconstruct at 10+4 with chunks of 4 MiB, one thread, beside memcpy and other implementations.
//!
//! `cargo bench -p erasure` prints markdown tables. Contenders take turns within each round, in an order that rotates, so
//! that a change of the machine's mood meets all of them; the figures are medians over the rounds. Chunks cycle through a
//! working set that no cache near the core holds; each has its own output buffer. Rates count the chunk's bytes.

#[path = "../tests/it/isal.rs"]
mod isal;

use std::time::Instant;

use erasure::{Codec, Kernel};
use isal::Isal;

const DATA: usize = 10;
const PARITY: usize = 4;
const CHUNK: usize = 4 << 20;
const CHUNKS: usize = 16;
const ROUNDS: usize = 21;
/// Passes over the working set in one turn of a contender.
const PASSES: u32 = 3;
/// The data shards to be given back in the second table: first, last and two between.
const LOST: [usize; PARITY] = [0, 3, 5, 9];

/// Something that does its work on chunk `n`.
struct Contender<'a> {
    name: String,
    work: Box<dyn FnMut(usize) + 'a>,
}

impl<'a> Contender<'a> {
    fn new(name: impl Into<String>, work: impl FnMut(usize) + 'a) -> Contender<'a> {
        Contender {
            name: name.into(),
            work: Box::new(work),
        }
    }
}

/// Bytes of a fixed linear congruential sequence: no contender's speed depends on their values.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs all contenders and prints a table with ratios to the first.
fn compare(title: &str, contenders: &mut [Contender<'_>]) {
    let mut seconds = vec![Vec::with_capacity(ROUNDS); contenders.len()];
    for round in 0..=ROUNDS {
        for turn in 0..contenders.len() {
            let index = (turn + round) % contenders.len();
            let mut pass = || (0..CHUNKS).for_each(|chunk| (contenders[index].work)(chunk));
            // Brings the contender's own buffers to where its working set lives.
            pass();
            let start = Instant::now();
            (0..PASSES).for_each(|_| pass());
            let elapsed = start.elapsed().as_secs_f64() / f64::from(PASSES);
            // The first round faults the pages in.
            if round > 0 {
                seconds[index].push(elapsed);
            }
        }
    }
    let bytes = f64::from(u32::try_from(CHUNK * CHUNKS).expect("fits"));
    println!("\n{title}\n\n| | GB/s | of memcpy |\n|---|---|---|");
    for (contender, times) in contenders.iter().zip(&seconds) {
        let ratios = seconds[0]
            .iter()
            .zip(times)
            .map(|(reference, time)| reference / time)
            .collect();
        println!(
            "| {} | {:.1} | {:.2} |",
            contender.name,
            bytes / median(times.clone()) / 1e9,
            median(ratios)
        );
    }
}

fn main() {
    println!(
        "Kernel chosen on this processor: {}",
        erasure::kernel_name()
    );
    let isal = Isal::open();
    if isal.is_none() {
        println!("libisal is not installed: it is left out (Debian: libisal2)");
    }
    let chunks: Vec<Vec<u8>> = (0..CHUNKS).map(|n| noise(CHUNK, n as u64)).collect();
    encode(isal.as_ref(), &chunks, DATA, PARITY);
    reconstruct(isal.as_ref(), &chunks);
    encode(isal.as_ref(), &chunks, 10, 10);
    fixed_cost();
}

/// The chunks with their padding, for those who need it in memory: `data` shards of `shard_len` bytes each.
fn pad(chunks: &[Vec<u8>], data: usize, shard_len: usize) -> Vec<Vec<u8>> {
    let mut padded = chunks.to_vec();
    padded
        .iter_mut()
        .for_each(|chunk| chunk.resize(data * shard_len, 0));
    padded
}

/// reed-solomon-simd computes in GF(2^16), so its shards have an even number of bytes.
fn even_shard_len(data: usize) -> usize {
    CHUNK.div_ceil(data).next_multiple_of(2)
}

fn encode(isal: Option<&Isal>, chunks: &[Vec<u8>], data: usize, parity: usize) {
    let shard_len = CHUNK.div_ceil(data);
    let even = even_shard_len(data);
    let padded = &pad(chunks, data, even);
    let buffers = || vec![vec![0_u8; shard_len * parity]; CHUNKS];
    let mut copies = vec![vec![0_u8; CHUNK]; CHUNKS];
    let mut copy = vec![0_u8; CHUNK];
    let mut contenders = vec![
        Contender::new("memcpy", |n| copies[n].copy_from_slice(&chunks[n])),
        Contender::new("memcpy into one buffer of 4 MiB", |n| {
            copy.copy_from_slice(&chunks[n]);
            std::hint::black_box(&mut copy);
        }),
    ];
    for kernel in Kernel::ALL
        .into_iter()
        .filter(|kernel| kernel.is_available())
    {
        let codec = Codec::with_kernel(data, parity, kernel).expect("available");
        let mut parity = buffers();
        contenders.push(Contender::new(
            format!("this crate, {}", kernel.name()),
            move |n| {
                codec
                    .encode_chunk_into(&chunks[n], &mut parity[n])
                    .expect("lengths");
            },
        ));
    }
    if let Some(isal) = isal {
        let tables = isal.tables(data, &isal.matrix(data, parity)[data * data..]);
        let mut parity = buffers();
        contenders.push(Contender::new("ISA-L", move |n| {
            let sources: Vec<&[u8]> = padded[n].chunks_exact(shard_len).take(data).collect();
            let mut outputs: Vec<&mut [u8]> = parity[n].chunks_exact_mut(shard_len).collect();
            isal.encode(&tables, &sources, &mut outputs);
        }));
    }
    let mut encoder =
        reed_solomon_simd::ReedSolomonEncoder::new(data, parity, even).expect("geometry");
    contenders.push(Contender::new("reed-solomon-simd", move |n| {
        for shard in padded[n].chunks_exact(even) {
            encoder.add_original_shard(shard).expect("length");
        }
        std::hint::black_box(encoder.encode().expect("complete").recovery_iter().count());
    }));
    let other = reed_solomon_erasure::galois_8::ReedSolomon::new(data, parity).expect("geometry");
    let mut other_parity = buffers();
    contenders.push(Contender::new(
        "reed-solomon-erasure (simd-accel)",
        move |n| {
            let sources: Vec<&[u8]> = padded[n].chunks_exact(shard_len).take(data).collect();
            let mut outputs: Vec<&mut [u8]> = other_parity[n].chunks_exact_mut(shard_len).collect();
            other.encode_sep(&sources, &mut outputs).expect("lengths");
        },
    ));
    compare(
        &format!("Encode {data}+{parity}, chunks of 4 MiB, working set 64 MiB"),
        &mut contenders,
    );
}

/// Shards that are present after the loss of [`LOST`]: all parity is used.
fn present(chunk: &[u8], parity: &[u8], shard_len: usize) -> Vec<(usize, Vec<u8>)> {
    chunk
        .chunks_exact(shard_len)
        .take(DATA)
        .chain(parity.chunks_exact(shard_len))
        .enumerate()
        .filter(|(index, _)| !LOST.contains(index))
        .map(|(index, shard)| (index, shard.to_vec()))
        .collect()
}

fn reconstruct(isal: Option<&Isal>, chunks: &[Vec<u8>]) {
    let codec = Codec::new(DATA, PARITY).expect("geometry");
    let shard_len = codec.shard_len(CHUNK);
    let even = even_shard_len(DATA);
    let padded = &pad(chunks, DATA, even);
    let shards: Vec<Vec<(usize, Vec<u8>)>> = chunks
        .iter()
        .zip(padded)
        .map(|(chunk, padded)| {
            let mut parity = Vec::new();
            codec.encode_chunk(chunk, &mut parity).expect("any chunk");
            present(padded, &parity, shard_len)
        })
        .collect();
    let shards = &shards;
    let buffers = || vec![vec![0_u8; shard_len * PARITY]; CHUNKS];
    let mut copies = vec![vec![0_u8; CHUNK]; CHUNKS];
    let mut contenders = vec![Contender::new("memcpy of the chunk", |n| {
        copies[n].copy_from_slice(&padded[n][..CHUNK])
    })];
    for kernel in Kernel::ALL
        .into_iter()
        .filter(|kernel| kernel.is_available())
    {
        let codec = Codec::with_kernel(DATA, PARITY, kernel).expect("available");
        let mut lost = buffers();
        contenders.push(Contender::new(
            format!("this crate, {}", kernel.name()),
            move |n| {
                let present: Vec<(usize, &[u8])> = shards[n]
                    .iter()
                    .map(|(index, shard)| (*index, shard.as_slice()))
                    .collect();
                let mut outputs: Vec<&mut [u8]> = lost[n].chunks_exact_mut(shard_len).collect();
                codec
                    .reconstruct(&present, &LOST, &mut outputs)
                    .expect("enough");
            },
        ));
    }
    if let Some(isal) = isal {
        // ISA-L leaves the inversion to its caller; the speed of the sum does not depend on the coefficients, so the
        // generator's rows stand for the inverted ones.
        let tables = isal.tables(DATA, &isal.matrix(DATA, PARITY)[DATA * DATA..]);
        let mut lost = buffers();
        contenders.push(Contender::new("ISA-L (without the inversion)", move |n| {
            let data: Vec<&[u8]> = shards[n]
                .iter()
                .map(|(_, shard)| shard.as_slice())
                .collect();
            let mut outputs: Vec<&mut [u8]> = lost[n].chunks_exact_mut(shard_len).collect();
            isal.encode(&tables, &data, &mut outputs);
        }));
    }
    let even_parity: Vec<Vec<Vec<u8>>> = padded
        .iter()
        .map(|chunk| {
            reed_solomon_simd::encode(DATA, PARITY, chunk.chunks_exact(even)).expect("lengths")
        })
        .collect();
    let mut decoder =
        reed_solomon_simd::ReedSolomonDecoder::new(DATA, PARITY, even).expect("geometry");
    contenders.push(Contender::new("reed-solomon-simd", move |n| {
        for (index, shard) in padded[n]
            .chunks_exact(even)
            .enumerate()
            .filter(|(index, _)| !LOST.contains(index))
        {
            decoder.add_original_shard(index, shard).expect("length");
        }
        for (index, shard) in even_parity[n].iter().enumerate() {
            decoder.add_recovery_shard(index, shard).expect("length");
        }
        std::hint::black_box(
            decoder
                .decode()
                .expect("complete")
                .restored_original_iter()
                .count(),
        );
    }));
    let other = reed_solomon_erasure::galois_8::ReedSolomon::new(DATA, PARITY).expect("geometry");
    let mut other_shards: Vec<Vec<(Vec<u8>, bool)>> = padded
        .iter()
        .map(|chunk| {
            let mut all: Vec<Vec<u8>> = chunk
                .chunks_exact(shard_len)
                .take(DATA)
                .map(<[u8]>::to_vec)
                .collect();
            all.resize(DATA + PARITY, vec![0; shard_len]);
            other.encode(&mut all).expect("lengths");
            all.into_iter().map(|shard| (shard, true)).collect()
        })
        .collect();
    contenders.push(Contender::new(
        "reed-solomon-erasure (simd-accel)",
        move |n| {
            for index in LOST {
                other_shards[n][index].1 = false;
            }
            other
                .reconstruct_data(&mut other_shards[n])
                .expect("enough");
        },
    ));
    compare(
        "Reconstruct 4 lost data shards of 10+4, chunks of 4 MiB, working set 64 MiB",
        &mut contenders,
    );
}

/// What a reconstruction costs beside its sums: inverting the matrix and laying out the coefficients.
fn fixed_cost() {
    const CALLS: u32 = 20_000;
    println!(
        "\nReconstruct as many shards as may be lost, of 64 bytes each\n\n| code | us per call |\n|---|---|"
    );
    for (data, parity) in [(10, 4), (10, 10), (1, 4), (100, 50)] {
        let codec = Codec::new(data, parity).expect("geometry");
        let source = vec![noise(64, 7); data];
        let slices: Vec<(usize, &[u8])> = source
            .iter()
            .enumerate()
            .map(|(n, shard)| (n + parity, shard.as_slice()))
            .collect();
        let wanted: Vec<usize> = (0..parity.min(data)).collect();
        let mut output = vec![vec![0; 64]; wanted.len()];
        let mut output: Vec<&mut [u8]> = output.iter_mut().map(Vec::as_mut_slice).collect();
        let calls = if data > 50 { CALLS / 100 } else { CALLS };
        let start = Instant::now();
        for _ in 0..calls {
            codec
                .reconstruct(&slices, &wanted, &mut output)
                .expect("enough");
        }
        println!(
            "| {data}+{parity} | {:.2} |",
            start.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
        );
    }
}
