//! Random operations against a model, with restarts in between.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use proptest::prelude::*;
use shards::{StoreConfig, Stored, Verified};

use crate::support::{block_on, bytes, config, open};

const KEYS: u64 = 12;
const RETENTION_MS: u64 = 100;

#[derive(Clone, Debug)]
enum Action {
    Put {
        key: u64,
        tag: ShardTag,
    },
    Delete {
        key: u64,
    },
    Restore {
        key: u64,
    },
    Get {
        key: u64,
        range: Range<u32>,
    },
    /// Time passes, then maintenance runs until it has nothing more to do.
    Maintain {
        after_ms: u64,
    },
    Reopen,
}

/// Sizes from nothing to more than a segment.
fn content(key: u64) -> Bytes {
    let lens = [
        0, 1, 83, 900, 2_500, 4_096, 9_000, 20_000, 7, 300, 1_500, 3_000,
    ];
    bytes(key, lens[usize::try_from(key).unwrap()])
}

fn action() -> impl Strategy<Value = Action> {
    let key = 0..KEYS;
    let tag = prop_oneof![
        Just(ShardTag::Chunk),
        (0..3u64).prop_map(|epoch| ShardTag::Small { epoch }),
        (0..3u64).prop_map(|epoch| ShardTag::Recovery { epoch }),
    ];
    prop_oneof![
        6 => (key.clone(), tag).prop_map(|(key, tag)| Action::Put { key, tag }),
        3 => key.clone().prop_map(|key| Action::Delete { key }),
        1 => key.clone().prop_map(|key| Action::Restore { key }),
        2 => (key, 0..10_000u32, 0..10_000u32)
            .prop_map(|(key, a, b)| Action::Get { key, range: a.min(b)..a.max(b) }),
        2 => (0..80u64).prop_map(|after_ms| Action::Maintain { after_ms }),
        1 => Just(Action::Reopen),
    ]
}

#[derive(Clone, Copy, Debug)]
struct Known {
    tag: ShardTag,
    trashed_at_ms: Option<u64>,
}

fn run(actions: Vec<Action>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let config = || StoreConfig {
        segment_bytes: 8 << 10,
        preallocate_bytes: 4 << 10,
        trash_retention: std::time::Duration::from_millis(RETENTION_MS),
        maintain_bytes_max: 5_000,
        open_files_max: 2,
        ..config(dir.path())
    };
    let mut store = open(config()).0;
    let mut model: BTreeMap<u64, Known> = BTreeMap::new();
    let mut now_ms = 1_000;
    for action in actions {
        match action {
            Action::Put { key, tag } => {
                let body = content(key);
                let put = store.put(Cid::of_raw(&body), tag, bytes(key, 40), vec![body]);
                let there = model
                    .get(&key)
                    .is_some_and(|known| known.trashed_at_ms.is_none());
                let want = if there { Stored::Already } else { Stored::New };
                prop_assert_eq!(block_on(put).unwrap(), want);
                model.insert(
                    key,
                    Known {
                        tag,
                        trashed_at_ms: None,
                    },
                );
            }
            Action::Delete { key } => {
                let served = model
                    .get_mut(&key)
                    .filter(|known| known.trashed_at_ms.is_none());
                let deleted = store
                    .delete(&Cid::of_raw(&content(key)), TimestampMs(now_ms))
                    .unwrap();
                prop_assert_eq!(deleted, served.is_some());
                if let Some(known) = served {
                    known.trashed_at_ms = Some(now_ms);
                }
            }
            Action::Restore { key } => {
                let trashed = model
                    .get_mut(&key)
                    .filter(|known| known.trashed_at_ms.is_some());
                let restored = store.restore(&Cid::of_raw(&content(key))).unwrap();
                prop_assert_eq!(restored, trashed.is_some());
                if let Some(known) = trashed {
                    known.trashed_at_ms = None;
                }
            }
            Action::Get { key, range } => {
                let body = content(key);
                let [from, to] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
                let got = store.get(&Cid::of_raw(&body), Some(range), false);
                match model
                    .get(&key)
                    .filter(|known| known.trashed_at_ms.is_none())
                {
                    None => prop_assert_eq!(got.unwrap(), None),
                    Some(_) if to > body.len() => prop_assert!(got.is_err()),
                    Some(_) => prop_assert_eq!(got.unwrap().unwrap().body, body.slice(from..to)),
                }
            }
            Action::Maintain { after_ms } => {
                now_ms += after_ms;
                let mut runs = 0;
                while store.maintain(TimestampMs(now_ms)).unwrap().more {
                    runs += 1;
                    prop_assert!(runs < 1_000, "maintenance never ends");
                }
                let expired = |at_ms: u64| at_ms + RETENTION_MS <= now_ms;
                model.retain(|_, known| known.trashed_at_ms.is_none_or(|at_ms| !expired(at_ms)));
            }
            Action::Reopen => {
                drop(store);
                let report;
                (store, report) = open(config());
                let trashed = model
                    .values()
                    .filter(|known| known.trashed_at_ms.is_some())
                    .count();
                prop_assert_eq!(
                    (report.shards, report.trashed),
                    (model.len() - trashed, trashed)
                );
                prop_assert_eq!((report.torn_records, report.damaged_segments), (0, 0));
            }
        }
        // Everything, after each step.
        let mut listed = Vec::new();
        for key in 0..KEYS {
            let body = content(key);
            let cid = Cid::of_raw(&body);
            let served = model
                .get(&key)
                .filter(|known| known.trashed_at_ms.is_none());
            let shard = store.get(&cid, None, true).unwrap();
            let verified = store.verify(&cid).unwrap();
            match served {
                None => prop_assert_eq!((shard, verified), (None, Verified::Missing)),
                Some(known) => {
                    let shard = shard.unwrap();
                    prop_assert_eq!((&shard.body, shard.tag), (&body, known.tag));
                    prop_assert_eq!(
                        (shard.proof.unwrap(), verified),
                        (bytes(key, 40), Verified::Intact)
                    );
                    listed.push((cid, known.tag, u32::try_from(body.len()).unwrap()));
                }
            }
        }
        listed.sort();
        prop_assert_eq!(store.list(None, None, 99), listed);
        let stats = store.stats();
        prop_assert_eq!(stats.shards + stats.trashed, model.len());
        prop_assert_eq!(
            (stats.live_bytes == 0, stats.trash_bytes == 0),
            (stats.shards == 0, stats.trashed == 0)
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_does_what_a_map_would_do(actions in proptest::collection::vec(action(), 1..60)) {
        run(actions)?;
    }
}

fn cases() -> u32 {
    if std::env::var_os("STRONGROOM_SOAK").is_some() {
        400
    } else {
        40
    }
}
