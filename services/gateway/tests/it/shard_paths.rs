//! Write quorum, reads around failures, verification, rebuilding.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, Profile, ShardTag};
use gateway::codecs::Codecs;
use gateway::shard_io::read::{ReadError, Reader};
use gateway::shard_io::write::{Stored, Substitution, WriteError, Writer, encode};
use objects::layout::NodeSlot;
use objects::metadata::ChunkRow;

use crate::fake_node::{FakeNode, Mood, cluster};

struct Rig {
    nodes: Vec<FakeNode>,
    reader: Reader<FakeNode>,
    writer: Writer<FakeNode>,
    codecs: Arc<Codecs>,
    noted: Noted,
}

/// Substitutions that were written down; refuses when told to.
#[derive(Default)]
struct Noted {
    refuses: std::sync::atomic::AtomicBool,
    list: std::sync::Mutex<Vec<(u8, NodeSlot)>>,
}

impl Substitution for Noted {
    async fn substitute(&self, index: u8, node: NodeSlot) -> bool {
        if self.refuses.load(std::sync::atomic::Ordering::Relaxed) {
            return false;
        }
        self.list.lock().unwrap().push((index, node));
        true
    }
}

fn rig(count: u16) -> Rig {
    let (nodes, peers) = cluster(count);
    let codecs = Arc::new(Codecs::default());
    Rig {
        nodes,
        reader: Reader::new(Arc::clone(&peers), Arc::clone(&codecs)),
        writer: Writer::new(peers),
        codecs,
        noted: Noted::default(),
    }
}

fn noise(len: usize) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(b"noise")
        .finalize_xof()
        .fill(&mut out);
    out.into()
}

impl Rig {
    async fn put(&self, profile: Profile, chunk: &Bytes) -> Result<(ChunkRow, Stored), WriteError> {
        let encoded = encode(&self.codecs, profile, chunk, Bytes::from_static(b"proof"))?;
        let cid = Cid::of_raw(chunk);
        let layout = self.writer.plan(&encoded, &cid)?;
        let stored = self
            .writer
            .store(encoded, &layout, ShardTag::Chunk, (), &self.noted)
            .await?;
        let layout = stored.layout(layout);
        let row = ChunkRow {
            id: 1,
            cid,
            layout,
            pending: stored.pending.clone(),
        };
        Ok((row, stored))
    }

    async fn get(&self, row: &ChunkRow, range: std::ops::Range<usize>) -> Result<Bytes, ReadError> {
        let read = self.reader.range(row, range, false).await?;
        Ok(read.body.concat().into())
    }

    fn node_of(&self, row: &ChunkRow, shard: usize) -> &FakeNode {
        &self.nodes[usize::from(row.layout.shards[shard].node.0)]
    }
}

const DC: Profile = Profile::DATACENTRE;

#[tokio::test(start_paused = true)]
async fn any_range_comes_back_whole_with_any_four_nodes_dead() {
    let rig = rig(14);
    for len in [65_537, 100_000, (4 << 20) - 1, 4 << 20] {
        let chunk = noise(len);
        let (row, stored) = rig.put(DC, &chunk).await.unwrap();
        assert_eq!(
            stored,
            Stored {
                durable: 14,
                pending: vec![],
                moved: vec![],
            }
        );
        for dead in [
            vec![],
            vec![0],
            vec![0, 1, 2, 3],
            vec![0, 5, 9, 13],
            vec![10, 11, 12, 13],
        ] {
            dead.iter()
                .for_each(|&shard| rig.node_of(&row, shard).set(Mood::Dead));
            for range in [
                0..len,
                0..1,
                len - 1..len,
                1000..65_536,
                len / 3..len / 2,
                0..0,
            ] {
                let got = rig.get(&row, range.clone()).await.unwrap();
                assert!(
                    got == chunk.slice(range.clone()),
                    "{len} {dead:?} {range:?}"
                );
            }
            rig.nodes.iter().for_each(|node| node.set(Mood::Healthy));
            for node in 0..14 {
                // A probe brings nodes back.
                assert!(rig.peer(node).probe(Duration::from_secs(1)).await);
            }
        }
    }
}

impl Rig {
    fn peer(&self, slot: u16) -> &Arc<gateway::peers::Peer<FakeNode>> {
        self.reader
            .peers()
            .get(objects::layout::NodeSlot(slot))
            .unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn five_dead_nodes_give_a_refusal_that_counts() {
    let rig = rig(14);
    let chunk = noise(4 << 20);
    let (row, _) = rig.put(DC, &chunk).await.unwrap();
    for shard in [0, 3, 6, 9, 12] {
        rig.node_of(&row, shard).set(Mood::Dead);
    }
    let error = rig.get(&row, 0..chunk.len()).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::NotEnoughShards {
                found: 9,
                needed: 10,
                ..
            }
        ),
        "{error:?}"
    );
    // A range that touches only a living shard still works.
    let shard = row.layout.shard_bytes();
    assert_eq!(
        rig.get(&row, shard..shard + 100).await.unwrap(),
        chunk.slice(shard..shard + 100)
    );
}

#[tokio::test(start_paused = true)]
async fn a_hanging_node_is_hedged_around() {
    let rig = rig(14);
    let chunk = noise(4 << 20);
    let (row, _) = rig.put(DC, &chunk).await.unwrap();
    for hanging in [vec![4], vec![0, 1], vec![2, 5, 7, 9]] {
        hanging
            .iter()
            .for_each(|&shard| rig.node_of(&row, shard).set(Mood::Hangs));
        let begun = tokio::time::Instant::now();
        assert!(rig.get(&row, 0..chunk.len()).await.unwrap() == chunk);
        assert!(rig.get(&row, 900_000..900_010).await.unwrap() == chunk.slice(900_000..900_010));
        assert!(
            begun.elapsed() < Duration::from_millis(500),
            "{:?}",
            begun.elapsed()
        );
        rig.nodes.iter().for_each(|node| node.set(Mood::Healthy));
    }
}

#[tokio::test(start_paused = true)]
async fn writes_acknowledge_at_the_quorum_and_name_the_rest() {
    let rig = rig(14);
    let chunk = noise(1 << 20);
    rig.nodes[3].set(Mood::Dead);
    rig.nodes[7].set(Mood::Hangs);
    let begun = tokio::time::Instant::now();
    let (row, stored) = rig.put(DC, &chunk).await.unwrap();
    assert_eq!((stored.durable, stored.pending.len()), (12, 2));
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let pending: Vec<u16> = stored
        .pending
        .iter()
        .map(|&i| row.layout.shards[usize::from(i)].node.0)
        .collect();
    assert!(pending.contains(&3) && pending.contains(&7), "{pending:?}");
    assert!(rig.get(&row, 0..chunk.len()).await.unwrap() == chunk);
}

#[tokio::test(start_paused = true)]
async fn fewer_than_the_quorum_is_refused() {
    let rig = rig(14);
    let chunk = noise(1 << 20);
    for node in &rig.nodes[..3] {
        node.set(Mood::Full);
    }
    let error = rig.put(DC, &chunk).await.unwrap_err();
    assert!(
        matches!(
            error,
            WriteError::NoQuorum {
                reachable: 11,
                needed: 12,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(
        error.to_string().contains("11 nodes take writes"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn liars_are_named_and_survived_by_the_full_check() {
    let rig = rig(14);
    let chunk = noise(4 << 20);
    let (row, _) = rig.put(DC, &chunk).await.unwrap();
    for shard in [1, 8, 10] {
        rig.node_of(&row, shard).set(Mood::Lies);
    }
    rig.node_of(&row, 5).forget_all();
    // The plain path checks nothing: the reader's own check fails and asks for this one.
    let read = rig.reader.verified_chunk(&row).await.unwrap();
    assert!(read.body.concat() == chunk);
    let mut lost = read.lost;
    lost.sort_unstable();
    assert_eq!(lost, [1, 5, 8, 10]);
    rig.node_of(&row, 0).set(Mood::Lies);
    let error = rig.reader.verified_chunk(&row).await.unwrap_err();
    assert!(
        matches!(
            error,
            ReadError::NotEnoughShards {
                found: 9,
                needed: 10,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_its_node_knows_to_be_damaged_is_read_around_and_reported() {
    let rig = rig(14);
    let chunk = noise(4 << 20);
    let (row, _) = rig.put(DC, &chunk).await.unwrap();
    rig.node_of(&row, 6).set(Mood::Damaged);
    let read = rig.reader.range(&row, 0..chunk.len(), false).await.unwrap();
    assert!(read.body.concat() == chunk);
    assert_eq!(read.lost, [6]);
    assert_eq!(rig.reader.verified_chunk(&row).await.unwrap().lost, [6]);
}

#[tokio::test(start_paused = true)]
async fn lost_shards_are_rebuilt_bit_for_bit() {
    let rig = rig(14);
    let chunk = noise(3_000_001);
    let (row, _) = rig.put(DC, &chunk).await.unwrap();
    for wanted in [vec![0], vec![2, 9, 11, 13], vec![10, 11, 12, 13]] {
        wanted
            .iter()
            .for_each(|&shard| rig.node_of(&row, shard).set(Mood::Dead));
        let rebuilt = rig.reader.rebuilt_shards(&row, &wanted).await.unwrap();
        assert_eq!(rebuilt.proof, "proof");
        let rebuilt = rebuilt.shards;
        for (&shard, bytes) in wanted.iter().zip(&rebuilt) {
            assert_eq!(Cid::of_raw(bytes), row.layout.shards[shard].cid);
        }
        rig.nodes.iter().for_each(|node| node.set(Mood::Healthy));
        for node in 0..14 {
            rig.peer(node).probe(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn tail_chunks_are_five_copies_and_read_from_any() {
    let rig = rig(14);
    let chunk = noise(20);
    let (row, stored) = rig.put(DC, &chunk).await.unwrap();
    assert_eq!((row.layout.profile, stored.durable), (Profile::SMALL, 5));
    for shard in 0..4 {
        rig.node_of(&row, shard).set(if shard % 2 == 0 {
            Mood::Dead
        } else {
            Mood::Hangs
        });
    }
    for _ in 0..5 {
        assert_eq!(rig.get(&row, 3..20).await.unwrap(), chunk.slice(3..20));
    }
    assert_eq!(
        rig.reader
            .range(&row, 0..20, true)
            .await
            .unwrap()
            .proof
            .unwrap(),
        "proof"
    );
}

#[tokio::test(start_paused = true)]
async fn slow_nodes_do_not_stop_a_write_and_stragglers_finish() {
    let rig = rig(14);
    rig.nodes[2].set(Mood::Slow(Duration::from_secs(3)));
    let chunk = noise(1 << 20);
    let (_, stored) = rig.put(DC, &chunk).await.unwrap();
    assert_eq!(stored.pending.len(), 1);
    assert_eq!(rig.nodes[2].count(), 0);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(rig.nodes[2].count(), 1);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_hang_are_replaced_while_the_quorum_is_not_reached() {
    let chunk = noise(1 << 20);
    let cid = Cid::of_raw(&chunk);
    for hanging in [3, 4] {
        let rig = rig(20);
        let encoded = encode(&rig.codecs, DC, &chunk, Bytes::new()).unwrap();
        let planned = rig.writer.plan(&encoded, &cid).unwrap();
        let slow: Vec<NodeSlot> = planned.shards[..hanging].iter().map(|p| p.node).collect();
        for node in &slow {
            rig.nodes[usize::from(node.0)].set(Mood::Hangs);
        }
        let begun = tokio::time::Instant::now();
        let (row, stored) = rig.put(DC, &chunk).await.unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "{:?}",
            begun.elapsed()
        );
        assert_eq!((stored.durable, stored.moved.len()), (14, hanging));
        // Each was written down before it left, to a node that had no shard of the chunk.
        assert_eq!(*rig.noted.list.lock().unwrap(), stored.moved);
        let mut nodes: Vec<NodeSlot> = row.layout.shards.iter().map(|place| place.node).collect();
        assert!(slow.iter().all(|node| !nodes.contains(node)), "{nodes:?}");
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), 14);
        assert!(rig.get(&row, 0..chunk.len()).await.unwrap() == chunk);
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_refuse_are_replaced_at_once_and_only_by_plan() {
    let chunk = noise(1 << 20);
    let cid = Cid::of_raw(&chunk);
    for refuses in [false, true] {
        let rig = rig(18);
        let encoded = encode(&rig.codecs, DC, &chunk, Bytes::new()).unwrap();
        let planned = rig.writer.plan(&encoded, &cid).unwrap();
        for place in &planned.shards[5..8] {
            // The probe has not noticed yet that they are full.
            rig.nodes[usize::from(place.node.0)].set(Mood::Full);
        }
        rig.noted
            .refuses
            .store(refuses, std::sync::atomic::Ordering::Relaxed);
        let answer = rig.put(DC, &chunk).await;
        if refuses {
            assert!(
                matches!(answer, Err(WriteError::NoQuorum { reachable: 11, .. })),
                "{answer:?}"
            );
        } else {
            let (_, stored) = answer.unwrap();
            assert_eq!((stored.durable, stored.moved.len()), (14, 3));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn substitutes_that_are_slow_themselves_are_where_the_plan_says_last() {
    let chunk = noise(1 << 20);
    let cid = Cid::of_raw(&chunk);
    let rig = rig(20);
    let encoded = encode(&rig.codecs, DC, &chunk, Bytes::new()).unwrap();
    let planned = rig.writer.plan(&encoded, &cid).unwrap();
    let taken: Vec<NodeSlot> = planned.shards.iter().map(|place| place.node).collect();
    for node in &taken[..4] {
        rig.nodes[usize::from(node.0)].set(Mood::Hangs);
    }
    let spares = (0..20).filter(|slot| !taken.contains(&NodeSlot(*slot)));
    let spares: Vec<u16> = spares.collect();
    // Of four substitutes two answer, which makes a quorum, and two hang as well or are slow.
    let mut order = rig.writer.order(&planned.shards[0].cid);
    order.retain(|node| spares.contains(&node.0));
    rig.nodes[usize::from(order[0].0)].set(Mood::Hangs);
    rig.nodes[usize::from(order[1].0)].set(Mood::Slow(Duration::from_secs(3)));
    let (row, stored) = rig.put(DC, &chunk).await.unwrap();
    assert_eq!((stored.durable, stored.pending.len()), (12, 2));
    // The row names the substitutes, landed or not: their copies have a home, and nothing is looked for on the first nodes.
    assert_eq!(*rig.noted.list.lock().unwrap(), stored.moved);
    assert_eq!(stored.moved.len(), 4);
    for (index, node) in &stored.moved {
        assert_eq!(row.layout.shards[usize::from(*index)].node, *node);
    }
    assert!(
        row.layout
            .shards
            .iter()
            .all(|place| !taken[..4].contains(&place.node))
    );
}
