//! Kill -9 under load: whatever was acknowledged before is there afterwards, intact.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use domain::{Cid, TimestampMs};
use shards::{StoreConfig, Verified};

use crate::support::{body, bytes, config, open, put};

const CHILD_DIR: &str = "STRONGROOM_SHARDS_CHILD_DIR";
const CHILD_FIRST: &str = "STRONGROOM_SHARDS_CHILD_FIRST";
const WRITERS: u64 = 4;

/// What is known about a shard from what the child printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Put,
    /// A deletion was begun; its outcome was not seen.
    Deleting,
    Deleted,
}

/// From a few bytes to several pages, and now and then a large one.
fn content(seed: u64) -> Bytes {
    let len = match seed % 16 {
        0 => 419_431,
        rest => 8 + rest * 700,
    };
    bytes(seed, usize::try_from(len).unwrap())
}

fn child_config(dir: &Path) -> StoreConfig {
    StoreConfig {
        segment_bytes: 1 << 20,
        preallocate_bytes: 256 << 10,
        ..config(dir)
    }
}

/// Writes one line at once, so that a kill leaves no mixture.
fn say(word: &str, seed: u64) {
    let line = format!("\n{word} {seed}\n");
    std::io::stdout().write_all(line.as_bytes()).unwrap();
}

/// The process that is killed: this very program, told to run only this.
#[test]
#[ignore = "started by the kill test, never by hand"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let first: u64 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    let (store, _) = open(child_config(Path::new(&dir)));
    let next = AtomicU64::new(first);
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let cid = put(&store, &content(seed));
                    say("put", seed);
                    // Half of them go again.
                    if seed.is_multiple_of(2) {
                        say("deleting", seed);
                        assert!(store.delete(&cid, TimestampMs(1)).unwrap());
                        say("deleted", seed);
                    }
                }
            });
        }
        scope.spawn(|| {
            // Purges, compacts and recycles all the while.
            loop {
                store.maintain(TimestampMs(u64::MAX)).unwrap();
                std::thread::sleep(Duration::from_millis(3));
            }
        });
    });
}

fn start(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn killed_at_any_moment_it_keeps_every_acknowledged_shard() {
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some();
    let rounds = if soak { 50 } else { 5 };
    let seed = match std::env::var("STRONGROOM_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos(),
    };
    println!("STRONGROOM_SEED={seed} replays the moments of the kills");
    let mut random = u64::from(seed) | 1;
    let dir = tempfile::tempdir().unwrap();
    let mut fates: BTreeMap<u64, Fate> = BTreeMap::new();
    for round in 0..rounds {
        // Shards that a killed child had begun are never used again.
        let first = fates.last_key_value().map_or(1, |(last, _)| last + 100);
        let mut child = start(dir.path(), first);
        let output = BufReader::new(child.stdout.take().unwrap());
        let (first_seen, wait_for_first) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            for line in output.lines() {
                let line = line.unwrap();
                let Some((word, number)) = line.split_once(' ') else {
                    continue;
                };
                let fate = match word {
                    "put" => Fate::Put,
                    "deleting" => Fate::Deleting,
                    "deleted" => Fate::Deleted,
                    _ => continue,
                };
                // The last line may have been cut off by the kill.
                if let Ok(number) = number.parse::<u64>() {
                    seen.push((number, fate));
                    let _ = first_seen.send(());
                }
            }
            seen
        });
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Every fifth kill may hit a child that is still opening; the others wait until something is acknowledged,
        // however slow the machine.
        let any_time = round % 5 == 4;
        if !any_time {
            wait_for_first
                .recv_timeout(Duration::from_secs(60))
                .unwrap();
        }
        std::thread::sleep(Duration::from_micros(random % 400_000));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended by itself in round {round}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        let seen = reader.join().unwrap();
        fates.extend(seen);

        let (store, report) = open(child_config(dir.path()));
        assert_eq!(report.damaged_segments, 0, "round {round}: {report:?}");
        for (number, fate) in &fates {
            let data = content(*number);
            let cid = Cid::of_raw(&data);
            let verified = store.verify(&cid).unwrap();
            match fate {
                Fate::Put => {
                    assert_eq!(
                        verified,
                        Verified::Intact,
                        "round {round}: shard {number}, {report:?}"
                    );
                    assert_eq!(body(&store, &cid), Some(data));
                }
                Fate::Deleting => {
                    assert_ne!(verified, Verified::Corrupt, "round {round}: shard {number}")
                }
                Fate::Deleted => {
                    assert_eq!(verified, Verified::Missing, "round {round}: shard {number}")
                }
            }
        }
        // What is there without an acknowledgement is whole too.
        for (cid, _, _) in store.list(None, None, usize::MAX) {
            assert_eq!(
                store.verify(&cid).unwrap(),
                Verified::Intact,
                "round {round}"
            );
        }
        while store.maintain(TimestampMs(u64::MAX)).unwrap().more {}
    }
    println!("{} shards over {rounds} kills", fates.len());
}
