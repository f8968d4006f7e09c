//! Every kernel gives the bytes of the definition, and touches nothing else.

use erasure::{Codec, CodecError, Kernel, kernel_name};

use crate::reference::{kernels, noise, shards};

/// Geometries around the row groups of the kernels (4), the profiles, and the limits.
const GEOMETRIES: [(usize, usize); 21] = [
    (1, 0),
    (1, 1),
    (1, 4),
    (2, 1),
    (2, 2),
    (3, 2),
    (3, 3),
    (4, 4),
    (5, 5),
    (6, 6),
    (7, 7),
    (8, 8),
    (10, 4),
    (10, 9),
    (10, 10),
    (17, 3),
    (20, 13),
    (100, 20),
    (254, 1),
    (1, 254),
    (127, 128),
];

fn check(data: usize, parity: usize, chunk_len: usize) {
    let chunk = noise(
        chunk_len,
        (data * 1_000_003 + parity * 1_009 + chunk_len) as u64,
    );
    let expected = shards(data, parity, &chunk);
    let shard_len = chunk_len.div_ceil(data);
    for kernel in kernels() {
        let what = || format!("{} {data}+{parity}, {chunk_len} bytes", kernel.name());
        let codec = Codec::with_kernel(data, parity, kernel).expect("geometry");
        assert_eq!(codec.shard_len(chunk_len), shard_len);

        // A buffer that held something else before.
        let mut contiguous = noise(3 * shard_len + 5, 99);
        codec
            .encode_chunk(&chunk, &mut contiguous)
            .expect("any chunk");
        assert_eq!(
            contiguous,
            expected[data..].concat(),
            "encode_chunk, {}",
            what()
        );

        // Outputs with untouchable bytes between them.
        const GUARD: usize = 7;
        let mut guarded = vec![0xA5; parity * (shard_len + GUARD) + GUARD];
        let sources: Vec<&[u8]> = expected[..data].iter().map(Vec::as_slice).collect();
        let mut outputs: Vec<&mut [u8]> = guarded[GUARD..]
            .chunks_exact_mut(shard_len + GUARD)
            .map(|output| &mut output[..shard_len])
            .collect();
        codec.encode(&sources, &mut outputs).expect("lengths");
        let mut rest = guarded.as_slice();
        for shard in &expected[data..] {
            let (guard, behind) = rest.split_at(GUARD);
            assert_eq!(guard, [0xA5; GUARD], "written before an output, {}", what());
            let (output, behind) = behind.split_at(shard_len);
            assert!(output == shard, "encode, {}", what());
            rest = behind;
        }
        assert_eq!(
            rest,
            [0xA5; GUARD],
            "written behind the outputs, {}",
            what()
        );
    }
}

#[test]
fn all_give_the_bytes_of_the_definition_for_short_chunks() {
    for (data, parity) in GEOMETRIES {
        for chunk_len in [
            0,
            1,
            2,
            data - 1,
            data,
            data + 1,
            2 * data - 1,
            2 * data + 1,
        ] {
            check(data, parity, chunk_len);
        }
    }
}

#[test]
fn all_give_the_bytes_of_the_definition_around_register_widths() {
    for shard_len in [
        15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192, 193, 255, 256,
        257, 321,
    ] {
        for (data, parity) in [(1, 4), (2, 1), (3, 2), (5, 3), (10, 4), (6, 5)] {
            // Full, one byte short, and with whole shards of padding.
            check(data, parity, data * shard_len);
            check(data, parity, data * shard_len - 1);
            check(
                data,
                parity,
                (data * shard_len)
                    .saturating_sub(shard_len + shard_len / 2)
                    .max(1),
            );
        }
    }
}

#[test]
fn all_give_the_bytes_of_the_definition_where_columns_are_tiled() {
    check(10, 4, 65_536 * 2 + 3);
    check(10, 10, 100_003);
    check(3, 5, 100_000);
    check(100, 20, 120_001);
}

#[test]
fn the_padding_may_span_several_shards() {
    // 11 bytes in 10 shards of 2: five full shards, half a shard, four of padding alone.
    check(10, 4, 11);
    let codec = Codec::new(10, 4).expect("geometry");
    let lengths: Vec<usize> = (0..11)
        .map(|index| codec.data_range(11, index).len())
        .collect();
    assert_eq!(lengths, [2, 2, 2, 2, 2, 1, 0, 0, 0, 0, 0]);
    assert_eq!(codec.data_range(11, 5), 10..11);
    assert_eq!(codec.data_range(11, 9), 11..11);
    assert_eq!(codec.data_range(11, usize::MAX), 11..11);
}

#[test]
fn one_data_shard_is_replicated() {
    let chunk = noise(1_001, 5);
    for kernel in kernels() {
        let codec = Codec::with_kernel(1, 4, kernel).expect("geometry");
        let mut parity = Vec::new();
        codec.encode_chunk(&chunk, &mut parity).expect("any chunk");
        assert_eq!(parity, chunk.repeat(4));
    }
}

#[test]
fn the_default_is_the_first_that_runs() {
    assert_eq!(kernel_name(), kernels()[0].name());
    assert_eq!(Kernel::best(), kernels()[0]);
    assert!(Kernel::Portable.is_available());
}

#[test]
fn a_kernel_that_does_not_run_here_is_refused() {
    for kernel in Kernel::ALL {
        let refused = matches!(
            Codec::with_kernel(2, 1, kernel),
            Err(CodecError::KernelUnavailable { .. })
        );
        assert_eq!(refused, !kernel.is_available());
    }
}
