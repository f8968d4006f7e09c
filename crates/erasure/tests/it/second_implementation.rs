//! The parity bytes are those of ISA-L.

use erasure::Codec;

use crate::isal::Isal;
use crate::reference::{generator, kernels, noise};

/// ISA-L, or `None` with a message where it is not installed and not required.
fn isal() -> Option<Isal> {
    let isal = Isal::open();
    if isal.is_none() {
        let message = "libisal.so.2 cannot be opened, so the comparison with ISA-L did NOT run (Debian: libisal2)";
        assert!(
            std::env::var_os("STRONGROOM_REQUIRE_ISAL").is_none_or(|value| value != "1"),
            "{message}"
        );
        eprintln!("{message}");
    }
    isal
}

#[test]
fn the_generator_matrix_is_that_of_isal() {
    let Some(isal) = isal() else { return };
    for (data, parity) in [
        (2, 1),
        (4, 2),
        (10, 4),
        (10, 10),
        (20, 20),
        (127, 128),
        (254, 1),
    ] {
        assert_eq!(
            generator(data, parity).concat(),
            isal.matrix(data, parity),
            "{data}+{parity}"
        );
    }
}

#[test]
fn parity_bytes_are_those_of_isal() {
    let Some(isal) = isal() else { return };
    for (data, parity) in [
        (2, 1),
        (3, 2),
        (4, 4),
        (7, 5),
        (10, 4),
        (10, 10),
        (13, 7),
        (20, 20),
        (100, 30),
        (127, 128),
    ] {
        let tables = isal.tables(data, &isal.matrix(data, parity)[data * data..]);
        for chunk_len in [
            1,
            data - 1,
            data,
            data + 1,
            64 * data - 1,
            65 * data,
            1_000,
            9_973,
            40_961,
        ] {
            let chunk = noise(chunk_len, (chunk_len + data) as u64);
            let shard_len = chunk_len.div_ceil(data);
            let mut padded = chunk.clone();
            padded.resize(data * shard_len, 0);
            let mut expected = vec![0; parity * shard_len];
            let sources: Vec<&[u8]> = padded.chunks_exact(shard_len).collect();
            let mut outputs: Vec<&mut [u8]> = expected.chunks_exact_mut(shard_len).collect();
            isal.encode(&tables, &sources, &mut outputs);
            for kernel in kernels() {
                let codec = Codec::with_kernel(data, parity, kernel).expect("geometry");
                let mut found = Vec::new();
                codec.encode_chunk(&chunk, &mut found).expect("any chunk");
                assert!(
                    found == expected,
                    "{} {data}+{parity}, {chunk_len} bytes",
                    kernel.name()
                );
            }
        }
    }
}

#[test]
fn a_full_chunk_of_10_and_4_is_that_of_isal() {
    let Some(isal) = isal() else { return };
    let chunk = noise(4 << 20, 8);
    let codec = Codec::new(10, 4).expect("geometry");
    let shard_len = codec.shard_len(chunk.len());
    assert_eq!(shard_len, 419_431);
    let mut padded = chunk.clone();
    padded.resize(10 * shard_len, 0);
    let tables = isal.tables(10, &isal.matrix(10, 4)[100..]);
    let mut expected = vec![0; 4 * shard_len];
    let sources: Vec<&[u8]> = padded.chunks_exact(shard_len).collect();
    let mut outputs: Vec<&mut [u8]> = expected.chunks_exact_mut(shard_len).collect();
    isal.encode(&tables, &sources, &mut outputs);
    let mut found = Vec::new();
    codec.encode_chunk(&chunk, &mut found).expect("any chunk");
    assert!(found == expected);
}

/// Bytes that ISA-L 2.30 gave, kept so that the code cannot change where the library is missing.
#[test]
fn recorded_parity_bytes_of_isal() {
    let check = |data: usize, parity: usize, chunk: &[u8], expected: &[u8]| {
        if let Some(isal) = isal() {
            let shard_len = chunk.len().div_ceil(data);
            let mut padded = chunk.to_vec();
            padded.resize(data * shard_len, 0);
            let mut fresh = vec![0; parity * shard_len];
            let sources: Vec<&[u8]> = padded.chunks_exact(shard_len).collect();
            let mut outputs: Vec<&mut [u8]> = fresh.chunks_exact_mut(shard_len).collect();
            isal.encode(
                &isal.tables(data, &isal.matrix(data, parity)[data * data..]),
                &sources,
                &mut outputs,
            );
            assert_eq!(fresh, expected, "the record is not what ISA-L gives");
        }
        for kernel in kernels() {
            let mut found = Vec::new();
            let codec = Codec::with_kernel(data, parity, kernel).expect("geometry");
            codec.encode_chunk(chunk, &mut found).expect("any chunk");
            assert_eq!(found, expected, "{}", kernel.name());
        }
    };
    let counting: Vec<u8> = (1..=255).collect();
    check(4, 2, &counting[..11], &[0x4A, 0x12, 0xB1, 0xA4, 0xD5, 0x78]);
    check(
        10,
        4,
        &counting[..30],
        &[
            0x4F, 0x46, 0x77, 0xEA, 0x7E, 0x83, 0xEE, 0x61, 0x05, 0x88, 0x9C, 0x67,
        ],
    );
    check(
        10,
        4,
        &counting[..21],
        &[
            0x9B, 0x43, 0xB5, 0x61, 0x47, 0x87, 0xF8, 0x81, 0x0D, 0x7E, 0x04, 0x1E,
        ],
    );
}
