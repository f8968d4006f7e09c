//! Bad input gives an error that says what is wrong; never a panic, never wrong bytes.

use erasure::{Codec, CodecError};

#[test]
fn geometries_outside_the_limits_are_refused() {
    for (data, parity) in [
        (0, 0),
        (0, 4),
        (256, 0),
        (1, 255),
        (128, 128),
        (usize::MAX, 1),
        (1, usize::MAX),
    ] {
        assert_eq!(
            Codec::new(data, parity).err(),
            Some(CodecError::Geometry { data, parity })
        );
    }
    for (data, parity) in [(1, 0), (255, 0), (1, 254), (254, 1), (127, 128)] {
        let codec = Codec::new(data, parity).expect("within the limits");
        assert_eq!(
            (codec.data(), codec.parity(), codec.total()),
            (data, parity, data + parity)
        );
    }
}

/// Encodes shards of the given lengths on 3+2.
fn encode(data: &[usize], parity: &[usize]) -> Result<(), CodecError> {
    let data: Vec<Vec<u8>> = data.iter().map(|&length| vec![1; length]).collect();
    let mut parity: Vec<Vec<u8>> = parity.iter().map(|&length| vec![0xEE; length]).collect();
    let sources: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let mut outputs: Vec<&mut [u8]> = parity.iter_mut().map(Vec::as_mut_slice).collect();
    let result = Codec::new(3, 2)
        .expect("geometry")
        .encode(&sources, &mut outputs);
    if result.is_err() {
        assert!(
            parity.iter().flatten().all(|&byte| byte == 0xEE),
            "an output was written despite the error"
        );
    }
    result
}

#[test]
fn encode_checks_its_slices() {
    use CodecError::{DataCount, ParityCount, UnequalLength};
    let check =
        |data: &[usize], parity: &[usize], expected| assert_eq!(encode(data, parity), expected);
    check(&[9, 9, 9], &[9, 9], Ok(()));
    check(&[0, 0, 0], &[0, 0], Ok(()));
    check(
        &[],
        &[9, 9],
        Err(DataCount {
            expected: 3,
            found: 0,
        }),
    );
    check(
        &[9, 9],
        &[9, 9],
        Err(DataCount {
            expected: 3,
            found: 2,
        }),
    );
    check(
        &[9, 9, 9, 9],
        &[9, 9],
        Err(DataCount {
            expected: 3,
            found: 4,
        }),
    );
    check(
        &[9, 9, 9],
        &[],
        Err(ParityCount {
            expected: 2,
            found: 0,
        }),
    );
    check(
        &[9, 9, 9],
        &[9, 9, 9],
        Err(ParityCount {
            expected: 2,
            found: 3,
        }),
    );
    check(
        &[9, 9, 8],
        &[9, 9],
        Err(UnequalLength {
            index: 2,
            expected: 9,
            found: 8,
        }),
    );
    check(
        &[9, 10, 9],
        &[9, 9],
        Err(UnequalLength {
            index: 1,
            expected: 9,
            found: 10,
        }),
    );
    check(
        &[9, 9, 9],
        &[9, 8],
        Err(UnequalLength {
            index: 4,
            expected: 9,
            found: 8,
        }),
    );
    check(
        &[9, 9, 9],
        &[10, 9],
        Err(UnequalLength {
            index: 3,
            expected: 9,
            found: 10,
        }),
    );
}

#[test]
fn a_parity_buffer_of_the_wrong_length_is_refused() {
    let codec = Codec::new(3, 2).expect("geometry");
    for found in [0, 5, 7] {
        let mut parity = vec![0xEE; found];
        let expected = CodecError::ParityLength { expected: 6, found };
        assert_eq!(codec.encode_chunk_into(&[1; 8], &mut parity), Err(expected));
        assert!(parity.iter().all(|&byte| byte == 0xEE));
    }
    assert_eq!(codec.encode_chunk_into(&[1; 8], &mut [0; 6]), Ok(()));
    assert_eq!(codec.encode_chunk_into(&[], &mut []), Ok(()));
}

/// Reconstructs on 3+2 from shards of the given indexes and lengths.
fn reconstruct(
    present: &[(usize, usize)],
    wanted: &[usize],
    outputs: &[usize],
) -> Result<(), CodecError> {
    let present: Vec<(usize, Vec<u8>)> = present
        .iter()
        .map(|&(index, length)| (index, vec![1; length]))
        .collect();
    let present: Vec<(usize, &[u8])> = present
        .iter()
        .map(|(index, bytes)| (*index, bytes.as_slice()))
        .collect();
    let mut outputs: Vec<Vec<u8>> = outputs.iter().map(|&length| vec![0xEE; length]).collect();
    let mut buffers: Vec<&mut [u8]> = outputs.iter_mut().map(Vec::as_mut_slice).collect();
    let result = Codec::new(3, 2)
        .expect("geometry")
        .reconstruct(&present, wanted, &mut buffers);
    if result.is_err() {
        assert!(
            outputs.iter().flatten().all(|&byte| byte == 0xEE),
            "an output was written despite the error"
        );
    }
    result
}

#[test]
fn reconstruct_checks_its_slices() {
    use CodecError::{DuplicateShard, NoSuchShard, OutputCount, TooFewShards, UnequalLength};
    type Case<'a> = (
        &'a [(usize, usize)],
        &'a [usize],
        &'a [usize],
        Result<(), CodecError>,
    );
    let cases: [Case<'_>; 16] = [
        (&[(0, 5), (3, 5), (4, 5)], &[1, 2], &[5, 5], Ok(())),
        (&[(0, 5), (3, 5), (4, 5)], &[], &[], Ok(())),
        (&[(0, 0), (3, 0), (4, 0)], &[1], &[0], Ok(())),
        (
            &[(0, 5), (1, 5), (2, 5), (3, 5), (4, 5)],
            &[1],
            &[5],
            Ok(()),
        ),
        (
            &[],
            &[],
            &[],
            Err(TooFewShards {
                needed: 3,
                found: 0,
            }),
        ),
        (
            &[(0, 5), (3, 5)],
            &[1],
            &[5],
            Err(TooFewShards {
                needed: 3,
                found: 2,
            }),
        ),
        // Also when what is wanted happens to be there.
        (
            &[(0, 5), (3, 5)],
            &[0],
            &[5],
            Err(TooFewShards {
                needed: 3,
                found: 2,
            }),
        ),
        (
            &[(0, 5), (3, 5), (3, 5)],
            &[1],
            &[5],
            Err(DuplicateShard { index: 3 }),
        ),
        (
            &[(0, 5), (1, 5), (5, 5)],
            &[2],
            &[5],
            Err(NoSuchShard { index: 5, total: 5 }),
        ),
        (
            &[(0, 5), (1, 5), (usize::MAX, 5)],
            &[2],
            &[5],
            Err(NoSuchShard {
                index: usize::MAX,
                total: 5,
            }),
        ),
        (
            &[(0, 5), (1, 5), (3, 5)],
            &[5],
            &[5],
            Err(NoSuchShard { index: 5, total: 5 }),
        ),
        (
            &[(0, 5), (1, 5), (3, 5)],
            &[2],
            &[],
            Err(OutputCount {
                wanted: 1,
                found: 0,
            }),
        ),
        (
            &[(0, 5), (1, 5), (3, 5)],
            &[2],
            &[5, 5],
            Err(OutputCount {
                wanted: 1,
                found: 2,
            }),
        ),
        (
            &[(0, 5), (1, 4), (3, 5)],
            &[2],
            &[5],
            Err(UnequalLength {
                index: 1,
                expected: 5,
                found: 4,
            }),
        ),
        (
            &[(0, 5), (1, 5), (3, 6)],
            &[2],
            &[5],
            Err(UnequalLength {
                index: 3,
                expected: 5,
                found: 6,
            }),
        ),
        (
            &[(0, 5), (1, 5), (3, 5)],
            &[0, 2],
            &[5, 6],
            Err(UnequalLength {
                index: 2,
                expected: 5,
                found: 6,
            }),
        ),
    ];
    for (present, wanted, outputs, expected) in cases {
        assert_eq!(
            reconstruct(present, wanted, outputs),
            expected,
            "{present:?} {wanted:?} {outputs:?}"
        );
    }
}

#[test]
fn errors_are_sentences() {
    let error = Codec::new(0, 4).expect_err("no data shard");
    assert_eq!(
        error.to_string(),
        "a code needs at least 1 data shard and at most 255 shards in all, not 0 + 4"
    );
}
