//! Random operations against the database and against a few maps in memory; after each, both must agree.

use std::collections::{BTreeMap, BTreeSet};

use domain::{BucketId, UploadId, VersionId};
use objects::layout::NodeSlot;
use objects::metadata::{ListQuery, Metadata, MetadataError};

use crate::backend::Fixture;
use crate::make::{self, LATER, bucket, key, mutation};

crate::both_databases!(random_operations_match_a_model);

const STEPS: u32 = 500;
const KEYS: [&str; 7] = ["a", "b", "d/1", "d/2", "d/e/3", "f/", "g"];

/// SplitMix64 (Steele, Lea, Flood 2014): the seed is printed and replays.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len())])
    }
}

#[derive(Default)]
struct Model {
    /// Current version and its chunks, by key.
    heads: BTreeMap<String, (VersionId, Vec<u32>)>,
    /// Chunks acknowledged in each open upload, and its key.
    uploads: BTreeMap<UploadId, (String, Vec<u32>)>,
    /// Small records are numbered with their version, chunks of uploads apart.
    next: u32,
}

impl Model {
    fn fresh(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn live_chunks(&self) -> BTreeSet<u32> {
        let heads = self.heads.values().flat_map(|(_, chunks)| chunks);
        let open = self.uploads.values().flat_map(|(_, chunks)| chunks);
        heads.chain(open).copied().collect()
    }

    fn versions(&self) -> Vec<VersionId> {
        self.heads.values().map(|(version, _)| *version).collect()
    }
}

async fn random_operations_match_a_model(fixture: &Fixture) {
    let seed = match std::env::var("STRONGROOM_TEST_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!("STRONGROOM_TEST_SEED={seed}");
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut random = Random(seed);
    let mut model = Model::default();
    for _ in 0..STEPS {
        step(fixture, id, &mut random, &mut model).await;
        agree(fixture, id, &random, &model).await;
    }
    // Nothing is left once everything is deleted.
    for open in model.uploads.keys() {
        db.abort_upload(*open, mutation()).await.unwrap();
    }
    for name in model.heads.keys() {
        model.next += 1;
        let dead = make::tombstone(id, name, model.next);
        db.put_tombstone(dead, mutation()).await.unwrap();
    }
    make::assert_no_leak(db).await;
    db.delete_bucket(id, mutation()).await.unwrap();
    assert_eq!(db.space().await.unwrap().recovery_bytes, 0);
    make::assert_no_leak(db).await;
}

async fn step(fixture: &Fixture, id: BucketId, random: &mut Random, model: &mut Model) {
    let db = &fixture.db;
    let name = random.pick(&KEYS).unwrap();
    let present = model.heads.get(name).map(|(version, _)| *version);
    let n = model.fresh();
    let version = make::version(id, name, n);
    match random.below(12) {
        0..3 => {
            let mut put = make::small(id, name, n);
            // A third is conditional, half of those on something wrong.
            let guess = match random.below(6) {
                0 => Some(present),
                1 => Some(random.pick(&model.versions())),
                _ => None,
            };
            put.version.predecessor = guess;
            match db.put_small(put, mutation()).await {
                Ok(committed) => {
                    assert!(guess.is_none_or(|guess| guess == present));
                    assert_eq!(committed.replaced, present);
                    model
                        .heads
                        .insert(name.to_owned(), (version.version, vec![n]));
                }
                Err(MetadataError::Conflict { present: told }) => {
                    assert!(guess.is_some_and(|guess| guess != present));
                    assert_eq!(told, present);
                }
                Err(error) => panic!("{error}"),
            }
        }
        3 => {
            let answer = db
                .put_tombstone(make::tombstone(id, name, n), mutation())
                .await;
            match (answer, model.heads.remove(name)) {
                (Ok(committed), Some((version, _))) => {
                    assert_eq!(committed.replaced, Some(version));
                }
                (Err(MetadataError::NotFound("object")), None) => {}
                other => panic!("{other:?}"),
            }
        }
        4 | 5 => {
            let Some(source) = random.pick(&model.versions()) else {
                return;
            };
            let (from, chunks) = model
                .heads
                .iter()
                .find(|(_, (version, _))| *version == source)
                .map(|(name, (_, chunks))| (name.clone(), chunks.clone()))
                .unwrap();
            let mut copy = make::copy(source, version.clone(), n);
            let moves = random.below(2) == 0 && from != name;
            if moves {
                copy.tombstone = Some(make::tombstone(id, &from, model.fresh()));
            }
            let committed = db.copy_version(copy, mutation()).await.unwrap();
            assert_eq!(committed.replaced, present);
            if moves {
                model.heads.remove(&from);
            }
            model
                .heads
                .insert(name.to_owned(), (version.version, chunks));
        }
        6 => {
            let up = make::upload(db, id, name, n, 0..0).await;
            model.uploads.insert(up, (name.to_owned(), Vec::new()));
        }
        7 | 8 => {
            let open: Vec<_> = model.uploads.keys().copied().collect();
            let Some(up) = random.pick(&open) else {
                return;
            };
            // Now and then ciphertext that is there already.
            let held: Vec<u32> = model
                .uploads
                .values()
                .flat_map(|(_, chunks)| chunks.clone())
                .collect();
            let chunk = match random.below(4) {
                0 => random.pick(&held).unwrap_or(n),
                _ => n,
            };
            let chunks = &mut model.uploads.get_mut(&up).unwrap().1;
            let index = u32::try_from(chunks.len()).unwrap();
            let slot = db
                .plan_chunk(
                    up,
                    index,
                    make::chunk_cid(chunk),
                    make::layout(chunk),
                    make::NOW,
                )
                .await
                .unwrap();
            let pending = match random.below(3) {
                0 => vec![1, 13],
                _ => Vec::new(),
            };
            db.acknowledge_chunk(slot.chunk.id, make::layout(chunk), pending, make::NOW)
                .await
                .unwrap();
            chunks.push(chunk);
        }
        9 => {
            let open: Vec<_> = model.uploads.keys().copied().collect();
            let Some(up) = random.pick(&open) else {
                return;
            };
            let (name, chunks) = model.uploads.remove(&up).unwrap();
            if random.below(4) == 0 {
                db.abort_upload(up, mutation()).await.unwrap();
                return;
            }
            let version = make::version(id, &name, n);
            let mut complete = make::complete(up, version.clone(), 0..0);
            complete.recovery = vec![make::copies(4_000_000 + n).into()];
            complete.slots = (0..)
                .zip(&chunks)
                .map(|(n, &chunk)| objects::metadata::SlotChoice {
                    n,
                    cid: make::chunk_cid(chunk),
                })
                .collect();
            let present = model.heads.get(&name).map(|(version, _)| *version);
            let committed = db.complete_upload(complete, mutation()).await.unwrap();
            assert_eq!(committed.replaced, present);
            model.heads.insert(name, (version.version, chunks));
        }
        10 => {
            if let Some(shard) = db.pending_shards(0, 50).await.unwrap().last() {
                let node = shard.chunk.layout.shards[usize::from(shard.index)].node;
                db.shard_landed(shard.chunk.id, shard.index, node)
                    .await
                    .unwrap();
            } else if let Some(version) = random.pick(&model.versions())
                && let Some(chunk) = db.chunk(version, 0).await.unwrap()
            {
                db.shard_lost(chunk.id, 0).await.unwrap();
                db.shard_landed(chunk.id, 0, NodeSlot(0)).await.unwrap();
            }
        }
        _ => {
            make::confirm_deletions(db, LATER).await;
        }
    }
}

async fn agree(fixture: &Fixture, id: BucketId, random: &Random, model: &Model) {
    let db = &fixture.db;
    let at = random.0;
    for name in KEYS {
        let row = db.current(id, &key(name)).await.unwrap();
        let head = model.heads.get(name);
        assert_eq!(
            row.as_ref().map(|row| row.version.version),
            head.map(|(version, _)| *version),
            "{name} at {at}"
        );
        if let (Some(row), Some((version, chunks))) = (row, head) {
            let stored = db.chunks(*version, 0, 100).await.unwrap();
            assert_eq!(stored.len(), chunks.len(), "{name} at {at}");
            let pending: usize = stored.iter().map(|chunk| chunk.pending.len()).sum();
            assert_eq!(usize::try_from(row.pending_shards), Ok(pending));
        }
    }
    let query = ListQuery {
        prefix: String::new(),
        delimiter: None,
        after: None,
        limit: 100,
    };
    let page = db.list(id, query).await.unwrap();
    let listed: Vec<_> = page
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect();
    let wanted: Vec<_> = model.heads.keys().map(String::as_str).collect();
    assert_eq!(listed, wanted, "at {at}");
    // No chunk that is live is handed out for deletion.
    for deletion in make::due(db, LATER, 1_000).await {
        for &chunk in &model.live_chunks() {
            assert_ne!(deletion.chunk, make::chunk_cid(chunk), "at {at}");
        }
    }
    let space = db.space().await.unwrap();
    let live = u64::try_from(model.live_chunks().len()).unwrap();
    assert_eq!(space.chunks, live, "at {at}");
    assert_eq!(space.uploads, u64::try_from(model.uploads.len()).unwrap());
}
