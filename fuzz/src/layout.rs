//! What the gateway keeps about a chunk, and what it rebuilds from shards.

use domain::{Cid, Profile};
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::{read, small_copy};

use crate::Target;

pub const LAYOUT_RECORD: Target = Target {
    name: "layout_record",
    run: layout_record,
    seeds: || {
        [Profile::DATACENTRE, Profile::UNTRUSTED, Profile::SMALL]
            .into_iter()
            .map(|profile| {
                let places = (0..u16::try_from(profile.total()).unwrap_or(u16::MAX)).map(|slot| {
                    ShardPlace {
                        node: NodeSlot(slot),
                        cid: Cid::of_raw(&slot.to_be_bytes()),
                    }
                });
                ChunkLayout {
                    profile,
                    chunk_bytes: 4 << 20,
                    shards: places.collect(),
                }
                .encode()
            })
            .collect()
    },
};

pub const SMALL_COPY: Target = Target {
    name: "small_copy",
    run: small_copy,
    seeds: || {
        [
            (&b"chunk"[..], &b"recovery"[..]),
            (b"", b""),
            (b"chunk", b""),
        ]
        .iter()
        .filter_map(|(chunk, recovery)| small_copy::encode(chunk, recovery).ok())
        .collect()
    },
};

pub const READ_PIECES: Target = Target {
    name: "read_pieces",
    run: read_pieces,
    seeds: || vec![vec![10, 0, 64, 0, 0, 5, 1, 0], vec![1, 0, 1, 0, 0, 1, 0, 0]],
};

pub const ERASURE: Target = Target {
    name: "erasure",
    run: erasure,
    seeds: || {
        vec![
            b"\x0a\x04\x00\x00\x00\x0fthe bytes of a chunk".to_vec(),
            b"\x01\x04\x00\x00\x00\x1e\x00".to_vec(),
        ]
    },
};

fn layout_record(input: &[u8]) -> bool {
    let Ok(layout) = ChunkLayout::decode(input) else {
        return false;
    };
    assert_eq!(layout.encode(), input, "one stored form for one layout");
    assert_eq!(layout.shards.len(), layout.profile.total());
    assert!(
        layout.shard_bytes() * layout.profile.data()
            >= usize::try_from(layout.chunk_bytes).unwrap_or(usize::MAX)
    );
    true
}

fn small_copy(input: &[u8]) -> bool {
    let Ok(range) = small_copy::chunk_range(input) else {
        return false;
    };
    let (chunk, recovery) = (&input[range.clone()], &input[range.end..]);
    assert_eq!(
        small_copy::encode(chunk, recovery).as_deref(),
        Ok(input),
        "one stored form for one copy"
    );
    true
}

/// `k, chunk length (3 bytes), start (2), length (2)`: the pieces of a range are that range, whatever the geometry.
fn read_pieces(input: &[u8]) -> bool {
    let [k, l0, l1, l2, s0, s1, n0, n1] = *input else {
        return false;
    };
    let number = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0);
    let (k, chunk) = (usize::from(k).max(1), number([l0, l1, l2, 0]));
    let shard = chunk.div_ceil(k);
    let start = (number([s0, s1, 0, 0]) * 64).min(chunk);
    let end = (start + number([n0, n1, 0, 0]) * 64).min(chunk);
    let pieces = read::pieces(start..end, shard);
    assert!(pieces.len() <= k);
    let mut at = start;
    for piece in &pieces {
        assert!(!piece.columns.is_empty() && piece.columns.end <= shard);
        assert_eq!(piece.shard * shard + piece.columns.start, at);
        at += piece.columns.len();
    }
    assert_eq!(at, end);
    let cover = read::covering(&pieces);
    assert!(
        pieces
            .iter()
            .all(|piece| cover.start <= piece.columns.start && piece.columns.end <= cover.end)
    );
    true
}

/// `k, m, which shards are lost (u32), chunk`: whatever m shards are lost, reconstruction gives them back.
fn erasure(input: &[u8]) -> bool {
    let Some((&[k, m, l0, l1, l2, l3], chunk)) = input.split_first_chunk::<6>() else {
        return false;
    };
    let (k, m) = (usize::from(k), usize::from(m));
    let Ok(codec) = erasure::Codec::new(k, m) else {
        assert!(k == 0 || k + m > erasure::SHARDS_MAX);
        return false;
    };
    let shard_len = codec.shard_len(chunk.len());
    let mut parity = Vec::new();
    assert_eq!(codec.encode_chunk(chunk, &mut parity), Ok(()));
    let mut shards = chunk.to_vec();
    shards.resize(k * shard_len, 0);
    shards.extend_from_slice(&parity);
    let shard = |index: usize| &shards[index * shard_len..(index + 1) * shard_len];

    let mut bits = u32::from_le_bytes([l0, l1, l2, l3]);
    let mut lost = Vec::new();
    for index in 0..codec.total() {
        if lost.len() < m && bits & 1 == 1 {
            lost.push(index);
        }
        bits = bits.rotate_right(1);
    }
    let present: Vec<(usize, &[u8])> = (0..codec.total())
        .filter(|index| !lost.contains(index))
        .map(|index| (index, shard(index)))
        .collect();
    let mut rebuilt = vec![vec![0xa5; shard_len]; lost.len()];
    let mut buffers: Vec<&mut [u8]> = rebuilt.iter_mut().map(Vec::as_mut_slice).collect();
    assert_eq!(codec.reconstruct(&present, &lost, &mut buffers), Ok(()));
    for (&index, rebuilt) in lost.iter().zip(&rebuilt) {
        assert_eq!(rebuilt, shard(index), "shard {index}");
    }
    true
}
