//! What a solo ledger does: transactions per second, how long a submit takes, and how long a start takes with many keys.
//!
//! `cargo bench -p solo`; `STRONGROOM_BENCH_KEYS=1000000` sets how many named keys the start has (200,000 by default: five values
//! of the state each).

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot set itself up fails"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use domain::{Height, KeyId, KeyVersion, Principal, TimestampMs};
use ledger::port::{Freshness, Ledger as _};
use ledger::records::{GrantEntry, KeyStatus, VersionEntry};
use ledger::state::Entries;
use ledger::{Chain, Record, State, StateKey};
use solo::{Solo, SoloConfig};

#[allow(dead_code, reason = "only parts of it are used here")]
#[path = "../../../crates/ledger/tests/it/world.rs"]
mod world;
use world::{People, VALIDATOR, anchor, genesis, person, signed};

fn now() -> TimestampMs {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    TimestampMs(u64::try_from(since.as_millis()).unwrap())
}

fn config(dir: &Path) -> SoloConfig {
    SoloConfig {
        waiting_max: 65_536,
        ..SoloConfig::new(dir, Arc::new(person(VALIDATOR)), Arc::new(now))
    }
}

fn main() {
    let dir = std::env::var_os("STRONGROOM_BENCH_DIR")
        .map_or_else(tempfile::tempdir, tempfile::tempdir_in)
        .unwrap();
    let load = dir.path().join("load");
    Solo::create(&load, &genesis(true)).unwrap();
    for (in_flight, each) in [(1, 400), (16, 400), (64, 300), (512, 80)] {
        submit(&load, in_flight, each);
    }
    restart(&dir.path().join("many"));
}

/// `in_flight` senders, each with one transaction at a time.
fn submit(dir: &Path, in_flight: u64, each: u64) {
    let (solo, _) = Solo::open(config(dir)).unwrap();
    let chain = Chain::from(solo.genesis());
    let mut people = People::default();
    let sent: Vec<Vec<Bytes>> = (0..in_flight)
        .map(|sender| {
            let who = people.get(10_000 * in_flight + sender);
            (0..each)
                .map(|nonce| signed(who, &chain, nonce, anchor(nonce + 1)).into())
                .collect()
        })
        .collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let syncs = solo.status().syncs;
    let start = Instant::now();
    let mut took: Vec<Duration> = runtime.block_on(async {
        let mut senders = tokio::task::JoinSet::new();
        for transactions in sent {
            let solo = solo.clone();
            senders.spawn(async move {
                let mut took = Vec::with_capacity(transactions.len());
                for transaction in transactions {
                    let start = Instant::now();
                    solo.submit(transaction).await.unwrap();
                    took.push(start.elapsed());
                }
                took
            });
        }
        senders.join_all().await.into_iter().flatten().collect()
    });
    let elapsed = start.elapsed();
    took.sort_unstable();
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    let rate = f64::from(u32::try_from(took.len()).unwrap()) / elapsed.as_secs_f64();
    println!(
        "{in_flight:>4} in flight: {rate:>7.0} tx/s, submit p50 {:?} p99 {:?}, {} transactions in {} syncs",
        at(50),
        at(99),
        took.len(),
        solo.status().syncs - syncs,
    );
}

/// Values of the shape and size of `keys` named keys with a version and a grant each.
fn entries(keys: u64) -> Entries {
    let mut world = world::World::ready();
    let key = world.active_key(1, "sample");
    let grant = world::grant(&mut world.people, 1, key, 2, 1);
    let action = world::grant_action(world.people.get(1), grant);
    world.run(1, action).unwrap();
    let (owner, grantee) = (world.people.principal(1), world.people.principal(2));
    let one = KeyVersion::FIRST;
    let creation = world
        .state
        .get(&StateKey::KeyCreation(key).encode())
        .unwrap();
    let status: KeyStatus = world.record(&StateKey::KeyStatus(key)).unwrap();
    let version: VersionEntry = world.record(&StateKey::KeyVersion(key, one)).unwrap();
    let grant: GrantEntry = world.record(&StateKey::KeyGrant(key, grantee)).unwrap();
    let mut out: Entries = State::genesis(genesis(true))
        .tree()
        .entries()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let (status, version, grant) = (status.encode(), version.encode(), grant.encode());
    for number in 0..keys {
        let id = KeyId(*blake3::hash(&number.to_be_bytes()).as_bytes());
        let name = format!("key-{number}").parse().unwrap();
        for (key, value) in [
            (StateKey::KeyCreation(id), creation.as_ref()),
            (StateKey::KeyStatus(id), status.as_slice()),
            (StateKey::KeyName(owner, name), id.0.as_slice()),
            (StateKey::KeyVersion(id, one), version.as_slice()),
            (StateKey::KeyGrant(id, Principal(id.0)), grant.as_slice()),
        ] {
            let mut value = value.to_vec();
            // No two values alike, so that nothing is shared by chance.
            value.extend(number.to_be_bytes());
            out.push((key.encode().into(), value.into()));
        }
    }
    let bytes: usize = out.iter().map(|(key, value)| key.len() + value.len()).sum();
    println!(
        "{keys} named keys: {} values, {} MiB of keys and values, {} bytes per named key",
        out.len(),
        bytes >> 20,
        bytes / usize::try_from(keys).unwrap(),
    );
    out
}

fn restart(dir: &Path) {
    let keys = std::env::var("STRONGROOM_BENCH_KEYS").map_or(200_000, |keys| keys.parse().unwrap());
    Solo::create(dir, &genesis(true)).unwrap();
    let start = Instant::now();
    let state = State::from_entries(genesis(true), Height(1), entries(keys));
    println!("built in {:?}", start.elapsed());
    let start = Instant::now();
    let bytes = solo::bench::seed(&config(dir), state).unwrap();
    println!(
        "snapshot of {} MiB written in {:?}",
        bytes >> 20,
        start.elapsed()
    );
    let start = Instant::now();
    let (solo, report) = Solo::open(config(dir)).unwrap();
    println!(
        "opened with {} values in {:?}",
        report.keys,
        start.elapsed()
    );
    let chain = Chain::from(solo.genesis());
    let mut people = People::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let rounds = 2_000_u32;
    let start = Instant::now();
    for nonce in 0..u64::from(rounds) {
        let bytes = signed(people.get(1), &chain, nonce, anchor(nonce + 1));
        runtime.block_on(solo.submit(bytes.into())).unwrap();
    }
    println!(
        "{rounds} submits one after the other: {:?} each",
        start.elapsed() / rounds
    );
    let wanted: Vec<Bytes> = (0..8_u64)
        .map(|number| {
            let id = KeyId(*blake3::hash(&number.to_be_bytes()).as_bytes());
            StateKey::KeyStatus(id).encode().into()
        })
        .collect();
    let start = Instant::now();
    for _ in 0..rounds {
        let answer = runtime
            .block_on(solo.read(wanted.clone(), Freshness::Local))
            .unwrap();
        assert!(answer.values.iter().all(|value| value.value.is_some()));
    }
    println!(
        "a read of 8 values with proofs: {:?}",
        start.elapsed() / rounds
    );
    drop(solo);
    let start = Instant::now();
    let (solo, report) = Solo::open(config(dir)).unwrap();
    println!(
        "restarted in {:?} with {} values, {} transactions replayed",
        start.elapsed(),
        report.keys,
        report.replayed_transactions
    );
    drop(solo);
}
