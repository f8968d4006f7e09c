//! Kill -9 under load: whatever was acknowledged before is there afterwards, and no batch by half.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use sealing::{Change, StoreState};

use crate::support::{get, open, try_open};

const CHILD_DIR: &str = "STRONGROOM_SEALING_CHILD_DIR";
const CHILD_FIRST: &str = "STRONGROOM_SEALING_CHILD_FIRST";
const KEYS: u64 = 64;

/// Each batch writes these two records with one number: they are never seen apart.
fn keys(number: u64) -> ([u8; 9], [u8; 9]) {
    let key = |side: u8| {
        let mut out = [side; 9];
        out[1..].copy_from_slice(&(number % KEYS).to_be_bytes());
        out
    };
    (key(b'l'), key(b'r'))
}

/// The process that is killed: this very program, told to run only this.
#[test]
#[ignore = "started by the kill test, never by hand"]
fn child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else {
        return;
    };
    let first: u64 = std::env::var(CHILD_FIRST).unwrap().parse().unwrap();
    let store = open(Path::new(&dir));
    let writers: u64 = 4;
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let store = &store;
            scope.spawn(move || {
                // Writers never share a key: the numbers of each key grow.
                let mut number = first + writer;
                loop {
                    let (left, right) = keys(number);
                    let mut value = number.to_be_bytes().to_vec();
                    value.resize(8 + usize::try_from(number % 900).unwrap(), 7);
                    let state = store
                        .apply(&[
                            Change::Put {
                                key: &left,
                                value: &value,
                            },
                            Change::Put {
                                key: &right,
                                value: &value,
                            },
                        ])
                        .unwrap();
                    let line = format!("\nput {number} {}\n", state.counter);
                    std::io::stdout().write_all(line.as_bytes()).unwrap();
                    number += writers;
                }
            });
        }
        scope.spawn(|| {
            loop {
                store.compact().unwrap();
                let state = store.anchor().unwrap();
                let root: String = state
                    .root
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                let line = format!("\nanchor {} {root}\n", state.counter);
                std::io::stdout().write_all(line.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
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

enum Said {
    Put(u64, u64),
    Anchor(StoreState),
}

fn parse(line: &str) -> Option<Said> {
    let mut words = line.split(' ');
    match (words.next()?, words.next()?.parse().ok()?, words.next()?) {
        ("put", number, counter) => Some(Said::Put(number, counter.parse().ok()?)),
        ("anchor", counter, root) => {
            let mut bytes = [0; 32];
            if root.len() != 64 {
                return None;
            }
            for (at, byte) in bytes.iter_mut().enumerate() {
                *byte = u8::from_str_radix(root.get(2 * at..2 * at + 2)?, 16).ok()?;
            }
            Some(Said::Anchor(StoreState {
                counter,
                root: bytes,
            }))
        }
        _ => None,
    }
}

#[test]
fn killed_at_any_moment_it_keeps_every_acknowledged_batch() {
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some();
    let rounds = if soak { 200 } else { 20 };
    let seed = match std::env::var("STRONGROOM_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos(),
    };
    println!("STRONGROOM_SEED={seed} replays the moments of the kills");
    let mut random = u64::from(seed) | 1;
    let dir = tempfile::tempdir().unwrap();
    let mut latest: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut anchored, mut first, mut acknowledged) = (None, 0, 0);
    for round in 0..rounds {
        let mut child = start(dir.path(), first);
        let output = BufReader::new(child.stdout.take().unwrap());
        let (seen_one, wait_for_one) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut said = Vec::new();
            for line in output.lines() {
                // The last line may have been cut off by the kill, and then does not parse or lacks digits: a number
                // that is too small claims nothing.
                said.extend(parse(&line.unwrap()));
                if !said.is_empty() {
                    let _ = seen_one.send(());
                }
            }
            said
        });
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // Every fifth kill may hit a child that is still opening.
        if round % 5 != 4 {
            wait_for_one.recv_timeout(Duration::from_secs(60)).unwrap();
        }
        std::thread::sleep(Duration::from_micros(random % 120_000));
        assert!(
            child.try_wait().unwrap().is_none(),
            "the child ended by itself in round {round}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        for said in reader.join().unwrap() {
            match said {
                Said::Put(number, counter) => {
                    let newest = latest.entry(number % KEYS).or_default();
                    *newest = number.max(*newest);
                    first = first.max(number + KEYS);
                    acknowledged = counter.max(acknowledged);
                }
                Said::Anchor(state) => anchored = Some(state),
            }
        }
        // The ledger's state is the last that the child said: it is in the store's past.
        let (store, report) =
            try_open(dir.path(), anchored).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert!(
            store.state().counter >= acknowledged,
            "round {round}: {report:?}"
        );
        for slot in 0..KEYS {
            let (left, right) = keys(slot);
            let (left, right) = (get(&store, &left), get(&store, &right));
            assert_eq!(left, right, "round {round}: half a batch");
            let stored = left.map(|value| u64::from_be_bytes(*value.first_chunk().unwrap()));
            let known = latest.get(&slot).copied();
            assert!(
                stored >= known,
                "round {round}: key {slot} has {stored:?}, acknowledged {known:?}"
            );
            // Unacknowledged numbers are never used again.
            first = first.max(stored.map_or(0, |stored| stored + KEYS));
        }
        first = first.next_multiple_of(KEYS);
    }
    println!("{acknowledged} changes over {rounds} kills");
    assert!(acknowledged > 0 && anchored.is_some());
}
