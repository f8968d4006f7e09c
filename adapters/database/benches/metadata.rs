//! Rates and latencies of the metadata index, fsync on.
//!
//! `cargo bench -p database -- [--keys 100000] [--url sqlite:PATH|postgres://…]`; without a URL a SQLite file in the
//! folder that STRONGROOM_BENCH_FOLDER names, or in the working folder (a memory file system would hide the fsync).

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement that fails should stop, and its result is what it prints"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use database::Database;
use domain::{
    BucketId, Cid, Codec, ObjectKey, Principal, Profile, TimestampMs, UploadId, VersionId,
};
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::metadata::{
    BucketRow, ListQuery, Metadata, Mutation, NewVersion, PutSmall, RequestNonce, UploadRow,
};

const NOW: TimestampMs = TimestampMs(1_700_000_000_000);
const IN_FLIGHT: u32 = 32;
/// Bytes of a version record and of a small object's manifest, as sealed ones have them.
const RECORD_BYTES: usize = 520;
const MANIFEST_BYTES: usize = 180;

fn digest(kind: u8, n: u32) -> [u8; 32] {
    let mut input = vec![kind];
    input.extend(n.to_be_bytes());
    *blake3::hash(&input).as_bytes()
}

fn id16(kind: u8, n: u32) -> [u8; 16] {
    *digest(kind, n).first_chunk().unwrap()
}

fn bucket() -> BucketId {
    BucketId(digest(0, 0))
}

fn key(n: u32) -> ObjectKey {
    // Spread over the whole key space, as names of files are.
    let spread = n.wrapping_mul(2_654_435_761);
    format!("folder {:02}/object {spread:010}-{n}", n % 40)
        .parse()
        .unwrap()
}

fn layout(n: u32, profile: Profile) -> ChunkLayout {
    let shards = (0..u16::try_from(profile.total()).unwrap())
        .map(|node| ShardPlace {
            node: NodeSlot(node),
            cid: match profile.data() {
                1 => Cid::from_digest(Codec::Raw, digest(1, n)),
                _ => Cid::from_digest(Codec::Raw, digest(2, n * 16 + u32::from(node))),
            },
        })
        .collect();
    ChunkLayout {
        profile,
        chunk_bytes: 4_096,
        shards,
    }
}

fn mutation(n: u32) -> Mutation {
    Mutation {
        now: NOW,
        nonce: Some(RequestNonce {
            principal: Principal(digest(3, 0)),
            nonce: id16(4, n).to_vec(),
            expires: TimestampMs(NOW.0 + u64::from(n / 1_000) * 1_000),
        }),
    }
}

fn small(n: u32) -> PutSmall {
    PutSmall {
        version: NewVersion {
            bucket: bucket(),
            key: key(n),
            version: VersionId(id16(5, n)),
            writer: Principal(digest(3, 0)),
            record: vec![7; RECORD_BYTES],
            entry_hash: digest(6, n),
            manifest: Cid::from_digest(Codec::DagCbor, digest(7, n)),
            plain_bytes: 4_096,
            predecessor: None,
            modified: NOW,
        },
        manifest_root: vec![8; MANIFEST_BYTES],
        record_cid: Cid::from_digest(Codec::Raw, digest(1, n)),
        layout: layout(n, Profile::SMALL),
        pending: Vec::new(),
    }
}

/// Runs `work(n)` for n in `from..to` with [`IN_FLIGHT`] at a time; returns the latencies, sorted, and the time it took.
async fn spread<F, T>(from: u32, to: u32, work: F) -> (Vec<Duration>, Duration)
where
    F: Fn(u32) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send,
{
    let next = Arc::new(AtomicU32::new(from));
    let work = Arc::new(work);
    let start = Instant::now();
    let mut tasks = Vec::new();
    for _ in 0..IN_FLIGHT {
        let (next, work) = (Arc::clone(&next), Arc::clone(&work));
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= to {
                    return latencies;
                }
                let start = Instant::now();
                work(n).await;
                latencies.push(start.elapsed());
            }
        }));
    }
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    let took = start.elapsed();
    all.sort_unstable();
    (all, took)
}

fn report(what: &str, (latencies, took): &(Vec<Duration>, Duration), cpu: Duration) {
    let count = u32::try_from(latencies.len()).unwrap();
    let rate = f64::from(count) / took.as_secs_f64();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let each = cpu.as_secs_f64() * 1e6 / f64::from(count);
    println!(
        "{what:<44} {rate:>9.0}/s   p50 {:>7.2} ms   p99 {:>7.2} ms   {each:>6.0} us CPU each",
        at(50),
        at(99)
    );
}

/// CPU time of this process, all threads (fields 14 and 15 of /proc/self/stat, in hundredths of a second).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
    let ticks: u64 = fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn measure<F, T>(what: &str, from: u32, to: u32, work: F)
where
    F: Fn(u32) -> T + Send + Sync + 'static,
    T: Future<Output = ()> + Send,
{
    let before = cpu();
    let result = spread(from, to, work).await;
    report(what, &result, cpu().saturating_sub(before));
}

async fn run(db: Database, keys: u32) {
    let row = BucketRow {
        id: bucket(),
        name: "bench".parse().unwrap(),
        owner: Principal(digest(3, 0)),
        profile: Profile::DATACENTRE,
        record: vec![1; 300],
        created: NOW,
        recovery: Vec::new(),
    };
    db.create_bucket(row, mutation(u32::MAX)).await.unwrap();
    let puts = |db: Database| {
        move |n: u32| {
            let db = db.clone();
            async move {
                db.put_small(small(n), mutation(n)).await.unwrap();
            }
        }
    };
    let tenth = (keys / 10).max(1);
    measure(
        "put_small, 32 in flight, first tenth",
        0,
        tenth,
        puts(db.clone()),
    )
    .await;
    measure(
        "put_small, up to the last tenth",
        tenth,
        keys - tenth,
        puts(db.clone()),
    )
    .await;
    measure(
        "put_small, last tenth",
        keys - tenth,
        keys,
        puts(db.clone()),
    )
    .await;
    let reader = db.clone();
    measure("current_with_small, 32 in flight", 0, 60_000, move |n| {
        let db = reader.clone();
        let key = key(n.wrapping_mul(7_919) % keys);
        async move {
            let found = db.current_with_small(bucket(), &key).await.unwrap();
            assert!(found.is_some());
        }
    })
    .await;
    let overwriter = db.clone();
    measure(
        "put_small over existing keys",
        keys,
        keys + 10_000,
        move |n| {
            let db = overwriter.clone();
            let mut put = small(n);
            put.version.key = key(n - keys);
            async move {
                db.put_small(put, mutation(n)).await.unwrap();
            }
        },
    )
    .await;
    let upload = UploadRow {
        id: UploadId(id16(9, 0)),
        bucket: bucket(),
        key: key(u32::MAX),
        principal: Principal(digest(3, 0)),
        created: NOW,
        completed: None,
    };
    let id = upload.id;
    db.create_upload(upload, mutation(u32::MAX - 1))
        .await
        .unwrap();
    let chunks = db.clone();
    measure("plan_chunk + acknowledge_chunk", 0, 5_000, move |n| {
        let db = chunks.clone();
        async move {
            let layout = layout(n, Profile::DATACENTRE);
            let cid = Cid::from_digest(Codec::Raw, digest(10, n));
            let slot = db
                .plan_chunk(id, n, cid, layout.clone(), NOW)
                .await
                .unwrap();
            db.acknowledge_chunk(slot.chunk.id, layout, Vec::new(), NOW)
                .await
                .unwrap();
        }
    })
    .await;
    lists(&db, keys).await;
}

async fn lists(db: &Database, keys: u32) {
    for (what, prefix, delimiter) in [
        ("list of 1,000 keys", "", None),
        ("list by folder (40 folders)", "", Some("/")),
        ("list of 1,000 keys in one folder", "folder 07/", Some("/")),
    ] {
        let mut latencies = Vec::new();
        let (start, before) = (Instant::now(), cpu());
        for n in 0..200 {
            // From somewhere in the bucket, or in the folder.
            let after = key(n * 7_919 % keys);
            let query = ListQuery {
                prefix: prefix.to_owned(),
                delimiter: delimiter.map(str::to_owned),
                after: (delimiter.is_none()).then(|| after.as_str().to_owned()),
                limit: 1_000,
            };
            let start = Instant::now();
            db.list(bucket(), query).await.unwrap();
            latencies.push(start.elapsed());
        }
        latencies.sort_unstable();
        report(
            what,
            &(latencies, start.elapsed()),
            cpu().saturating_sub(before),
        );
    }
}

fn argument(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    arguments.nth(1)
}

fn main() {
    let keys = argument("--keys").map_or(100_000, |keys| keys.parse().unwrap());
    let folder = tempfile::tempdir_in(
        std::env::var("STRONGROOM_BENCH_FOLDER").unwrap_or_else(|_| ".".to_owned()),
    )
    .unwrap();
    let url = argument("--url")
        .unwrap_or_else(|| format!("sqlite:{}", folder.path().join("metadata.sqlite").display()));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            let db = Database::connect(&url).await.unwrap();
            println!("{keys} keys, {}", url.split(':').next().unwrap());
            run(db.clone(), keys).await;
            db.close().await;
        });
}
