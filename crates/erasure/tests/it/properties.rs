//! Random geometries, chunks and losses.

use erasure::Codec;
use proptest::prelude::*;
use proptest::sample::subsequence;

use crate::reference::{kernels, noise, shards};

/// A geometry with a set of lost shards that it survives.
fn code_and_loss() -> impl Strategy<Value = (usize, usize, Vec<usize>)> {
    (1_usize..=40, 0_usize..=24).prop_flat_map(|(data, parity)| {
        let all: Vec<usize> = (0..data + parity).collect();
        (
            Just(data),
            Just(parity),
            subsequence(all, 0..=parity).prop_shuffle(),
        )
    })
}

proptest! {
    #[test]
    fn what_is_lost_comes_back(
        (data, parity, lost) in code_and_loss(),
        chunk_len in 0_usize..6_000,
        seed: u64,
        kernel in 0_usize..4,
    ) {
        let kernels = kernels();
        let codec = Codec::with_kernel(data, parity, kernels[kernel % kernels.len()]).expect("geometry");
        let chunk = noise(chunk_len, seed);
        let shard_len = codec.shard_len(chunk_len);
        let mut all: Vec<Vec<u8>> = (0..data).map(|index| {
            let mut shard = chunk[codec.data_range(chunk_len, index)].to_vec();
            shard.resize(shard_len, 0);
            shard
        }).collect();
        let mut contiguous = Vec::new();
        codec.encode_chunk(&chunk, &mut contiguous).expect("any chunk");
        prop_assert_eq!(contiguous.len(), parity * shard_len);
        all.extend((0..parity).map(|index| contiguous[index * shard_len..(index + 1) * shard_len].to_vec()));

        let present: Vec<(usize, &[u8])> =
            all.iter().map(Vec::as_slice).enumerate().filter(|(index, _)| !lost.contains(index)).collect();
        let mut output = vec![vec![0; shard_len]; lost.len()];
        let mut buffers: Vec<&mut [u8]> = output.iter_mut().map(Vec::as_mut_slice).collect();
        codec.reconstruct(&present, &lost, &mut buffers).expect("enough shards");
        for (index, shard) in lost.iter().zip(&output) {
            prop_assert_eq!(shard, &all[*index], "shard {}", index);
        }
        let joined = all[..data].concat();
        prop_assert_eq!(&joined[..chunk_len], &chunk[..]);
        prop_assert!(joined[chunk_len..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn all_kernels_give_the_bytes_of_the_definition(
        data in 1_usize..=32,
        parity in 0_usize..=16,
        chunk_len in 0_usize..4_000,
        seed: u64,
    ) {
        let chunk = noise(chunk_len, seed);
        let expected = shards(data, parity, &chunk)[data..].concat();
        for kernel in kernels() {
            let mut parity_bytes = Vec::new();
            let codec = Codec::with_kernel(data, parity, kernel).expect("geometry");
            codec.encode_chunk(&chunk, &mut parity_bytes).expect("any chunk");
            prop_assert_eq!(&parity_bytes, &expected, "{}", kernel.name());
        }
    }
}
