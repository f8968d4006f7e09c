//! The code as its definition says it, one byte at a time, sharing nothing with the crate under test.

use erasure::Kernel;

/// Carry-less product of `a` and `b`, divided by x^8 + x^4 + x^3 + x^2 + 1.
fn mul(a: u8, b: u8) -> u8 {
    let mut product = (0..8)
        .filter(|bit| b >> bit & 1 == 1)
        .fold(0_u32, |sum, bit| sum ^ u32::from(a) << bit);
    for bit in (8..16).rev().filter(|bit| *bit >= 8) {
        if product >> bit & 1 == 1 {
            product ^= 0x11D << (bit - 8);
        }
    }
    u8::try_from(product).expect("reduced")
}

/// 1 / a, by trying.
fn inverse(a: u8) -> u8 {
    (1..=255).find(|&b| mul(a, b) == 1).expect("not zero")
}

/// The `data + parity` rows of the generator matrix.
pub(crate) fn generator(data: usize, parity: usize) -> Vec<Vec<u8>> {
    let inverses: Vec<u8> = (0..=255)
        .map(|a| if a == 0 { 0 } else { inverse(a) })
        .collect();
    (0..data + parity)
        .map(|i| match (i, data) {
            (i, data) if i < data => (0..data).map(|j| u8::from(i == j)).collect(),
            (_, 1) => vec![1],
            (i, data) => (0..data).map(|j| inverses[i ^ j]).collect(),
        })
        .collect()
}

/// All shards of a chunk, each `ceil(len / data)` bytes.
pub(crate) fn shards(data: usize, parity: usize, chunk: &[u8]) -> Vec<Vec<u8>> {
    let shard_len = chunk.len().div_ceil(data);
    let byte =
        |shard: usize, column: usize| chunk.get(shard * shard_len + column).copied().unwrap_or(0);
    let rows = generator(data, parity);
    let mut products = vec![[0_u8; 256]; 256];
    for (a, row) in (0..=255).zip(&mut products) {
        for (b, product) in (0..=255).zip(row) {
            *product = mul(a, b);
        }
    }
    rows.iter()
        .map(|row| {
            (0..shard_len)
                .map(|column| {
                    row.iter()
                        .enumerate()
                        .fold(0, |sum, (shard, &coefficient)| {
                            sum ^ products[usize::from(coefficient)]
                                [usize::from(byte(shard, column))]
                        })
                })
                .collect()
        })
        .collect()
}

/// Bytes without a pattern, the same for the same seed.
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15;
    std::iter::repeat_with(|| {
        // xorshift64* (Vigna, An experimental exploration of Marsaglia's xorshift generators, scrambled).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_be_bytes()[0]
    })
    .take(length)
    .collect()
}

/// The kernels that this processor can run; says which it cannot.
pub(crate) fn kernels() -> Vec<Kernel> {
    let (available, missing): (Vec<Kernel>, Vec<Kernel>) = Kernel::ALL
        .into_iter()
        .partition(|kernel| kernel.is_available());
    for kernel in missing {
        eprintln!(
            "NOT TESTED: this processor cannot run the kernel {}",
            kernel.name()
        );
    }
    available
}
