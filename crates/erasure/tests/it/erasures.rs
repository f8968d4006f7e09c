//! Whatever is lost, within the promise, comes back.

use erasure::Codec;

use crate::reference::{kernels, noise, shards};

/// Loses the shards of the bits in `lost` and asks for them all, from exactly the first `data` of the others.
fn check(codec: &Codec, all: &[Vec<u8>], lost: &[usize], what: &str) {
    let present: Vec<(usize, &[u8])> = all
        .iter()
        .map(Vec::as_slice)
        .enumerate()
        .filter(|(index, _)| !lost.contains(index))
        .collect();
    let mut output = vec![vec![0xEE; all[0].len()]; lost.len()];
    let mut buffers: Vec<&mut [u8]> = output.iter_mut().map(Vec::as_mut_slice).collect();
    codec
        .reconstruct(&present, lost, &mut buffers)
        .expect("enough shards");
    for (index, shard) in lost.iter().zip(&output) {
        assert_eq!(
            shard, &all[*index],
            "shard {index} after the loss of {lost:?}, {what}"
        );
    }
}

#[test]
fn every_loss_that_10_and_4_promises_to_survive() {
    let all = shards(10, 4, &noise(663, 1));
    assert_eq!(all[0].len(), 67);
    for kernel in kernels() {
        let codec = Codec::with_kernel(10, 4, kernel).expect("geometry");
        let mut patterns = 0;
        for bits in 0..1_u32 << 14 {
            if bits.count_ones() <= 4 {
                let lost: Vec<usize> = (0..14).filter(|index| bits >> index & 1 == 1).collect();
                check(&codec, &all, &lost, kernel.name());
                patterns += 1;
            }
        }
        assert_eq!(patterns, 1 + 14 + 91 + 364 + 1_001);
    }
}

#[test]
fn every_loss_of_small_codes() {
    for (data, parity) in [(1, 1), (1, 4), (2, 2), (3, 1), (4, 4), (3, 5)] {
        let all = shards(data, parity, &noise(data * 33 - data / 2, 2));
        for kernel in kernels() {
            let codec = Codec::with_kernel(data, parity, kernel).expect("geometry");
            for bits in 0_usize..1 << (data + parity) {
                let lost: Vec<usize> = (0..data + parity)
                    .filter(|index| bits >> index & 1 == 1)
                    .collect();
                if lost.len() <= parity {
                    check(&codec, &all, &lost, kernel.name());
                }
            }
        }
    }
}

#[test]
fn the_widest_codes_lose_all_they_may() {
    for (data, parity) in [(127, 128), (200, 55), (254, 1), (1, 254)] {
        let all = shards(data, parity, &noise(data * 3 - 1, 3));
        let codec = Codec::new(data, parity).expect("geometry");
        check(
            &codec,
            &all,
            &(0..parity).collect::<Vec<_>>(),
            "the first lost",
        );
        check(
            &codec,
            &all,
            &(data..data + parity).collect::<Vec<_>>(),
            "the parity lost",
        );
        check(
            &codec,
            &all,
            &(0..data + parity)
                .rev()
                .step_by(2)
                .take(parity)
                .collect::<Vec<_>>(),
            "every other lost",
        );
    }
}

#[test]
fn present_shards_may_come_in_any_order_and_more_than_needed() {
    let all = shards(10, 4, &noise(1_000, 4));
    let codec = Codec::new(10, 4).expect("geometry");
    let present: Vec<(usize, &[u8])> = [13, 4, 9, 0, 11, 6, 2, 12, 8, 1, 5, 7]
        .map(|index| (index, all[index].as_slice()))
        .to_vec();
    // Wanted out of order, one of them present, one twice.
    let wanted = [10, 3, 12, 3];
    let mut output = vec![vec![0; 100]; 4];
    let mut buffers: Vec<&mut [u8]> = output.iter_mut().map(Vec::as_mut_slice).collect();
    codec
        .reconstruct(&present, &wanted, &mut buffers)
        .expect("enough shards");
    for (index, shard) in wanted.iter().zip(&output) {
        assert_eq!(shard, &all[*index]);
    }
}

#[test]
fn a_column_range_is_reconstructed_from_the_same_range_of_others() {
    let all = shards(10, 4, &noise(5_003, 6));
    let codec = Codec::new(10, 4).expect("geometry");
    for range in [0..0, 0..1, 7..8, 3..300, 100..501, 500..501, 0..501] {
        let present: Vec<(usize, &[u8])> = (4..14)
            .map(|index| (index, &all[index][range.clone()]))
            .collect();
        let mut output = vec![vec![0; range.len()]; 4];
        let mut buffers: Vec<&mut [u8]> = output.iter_mut().map(Vec::as_mut_slice).collect();
        codec
            .reconstruct(&present, &[0, 1, 2, 3], &mut buffers)
            .expect("enough shards");
        for (index, part) in output.iter().enumerate() {
            assert_eq!(
                part,
                &all[index][range.clone()],
                "shard {index} of {range:?}"
            );
        }
    }
}

#[test]
fn a_whole_chunk_of_4_mib_comes_back() {
    let chunk = noise(4 << 20, 7);
    for kernel in kernels() {
        let codec = Codec::with_kernel(10, 4, kernel).expect("geometry");
        let mut parity = Vec::new();
        codec.encode_chunk(&chunk, &mut parity).expect("any chunk");
        let shard_len = codec.shard_len(chunk.len());
        let mut padded = chunk.clone();
        padded.resize(10 * shard_len, 0);
        let all: Vec<Vec<u8>> = padded
            .chunks_exact(shard_len)
            .chain(parity.chunks_exact(shard_len))
            .map(<[u8]>::to_vec)
            .collect();
        check(&codec, &all, &[0, 4, 8, 9], kernel.name());
        check(&codec, &all, &[1, 9, 11, 12], kernel.name());
    }
}
