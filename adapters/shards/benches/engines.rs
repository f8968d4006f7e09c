//! The store's segments against fjall with key-value separation, and ways to preallocate against each other: sustained
//! durable puts from several threads, then random gets, then opening what was written.
//!
//! `cargo bench -p shards -- [--engines segments,fjall,append,allocated,zeroed,recycled] [--shard-bytes N]
//! [--total-bytes N] [--in-flight N] [--stores N] [--gets N] [--rounds N] [--dir DIR]`; sizes take K, M, G. The
//! default writes 64 MiB of 419,431-byte shards and 8 MiB of 4 KiB shards with each engine. Engines take turns within
//! a round, so that what else the machine does hits them alike. Files are removed afterwards.
//!
//! Every engine gets the same stream: unique bytes, whose CID is checked before they are written, and an
//! acknowledgement after one sync per drained queue.

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::{IoSlice, Write as _};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use shards::{ShardStore, StoreConfig};

/// A shard that was put, and into which store.
type Placed = (usize, Cid);

type Failure = Box<dyn Error + Send + Sync>;

const SEGMENT_BYTES: u64 = 64 << 20;

/// Something that stores shards durably.
trait Engine: Send + Sync {
    /// Returns once the shard is durable.
    fn put(&self, cid: Cid, body: Bytes) -> Result<(), Failure>;
    /// What an idle node would do before it stops.
    fn settle(&self) -> Result<(), Failure> {
        Ok(())
    }
    /// Bytes that were read; `None` where the engine only writes.
    fn get(&self, cid: &Cid) -> Result<Option<usize>, Failure>;
}

fn main() -> Result<(), Failure> {
    let options = Options::parse()?;
    println!(
        "{:<10} {:>9} {:>8} {:>7} {:>8} {:>8} {:>8} {:>7} {:>7} {:>9} {:>9} {:>8} {:>8}",
        "engine",
        "bytes",
        "MB",
        "MB/s",
        "put/s",
        "p50 us",
        "p99 us",
        "last/1",
        "written",
        "cpu s/GB",
        "get/s",
        "get MB/s",
        "open ms"
    );
    for _ in 0..options.rounds {
        for workload in &options.workloads {
            for engine in &options.engines {
                measure(engine, *workload, &options)?;
            }
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Workload {
    shard_bytes: u64,
    total_bytes: u64,
}

struct Options {
    engines: Vec<String>,
    workloads: Vec<Workload>,
    in_flight: u64,
    stores: u64,
    gets: u64,
    rounds: u64,
    dir: PathBuf,
}

impl Options {
    fn parse() -> Result<Self, Failure> {
        let mut options = Self {
            engines: vec!["segments".into(), "fjall".into()],
            workloads: Vec::new(),
            in_flight: 8,
            stores: 1,
            gets: 2_000,
            rounds: 1,
            dir: std::env::temp_dir(),
        };
        let (mut shard_bytes, mut total_bytes) = (None, None);
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            // What `cargo bench` adds.
            if name == "--bench" {
                continue;
            }
            let value = arguments
                .next()
                .ok_or_else(|| format!("{name} wants a value"))?;
            match name.as_str() {
                "--engines" => options.engines = value.split(',').map(String::from).collect(),
                "--shard-bytes" => shard_bytes = Some(size(&value)?),
                "--total-bytes" => total_bytes = Some(size(&value)?),
                "--in-flight" => options.in_flight = value.parse()?,
                "--stores" => options.stores = value.parse()?,
                "--gets" => options.gets = value.parse()?,
                "--rounds" => options.rounds = value.parse()?,
                "--dir" => options.dir = value.into(),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        options.workloads = match shard_bytes {
            Some(shard_bytes) => {
                vec![Workload {
                    shard_bytes,
                    total_bytes: total_bytes.unwrap_or(64 << 20),
                }]
            }
            None => vec![
                Workload {
                    shard_bytes: 419_431,
                    total_bytes: total_bytes.unwrap_or(64 << 20),
                },
                Workload {
                    shard_bytes: 4_096,
                    total_bytes: total_bytes.unwrap_or(64 << 20) / 8,
                },
            ],
        };
        Ok(options)
    }
}

fn size(text: &str) -> Result<u64, Failure> {
    let digits = text.trim_end_matches(['K', 'M', 'G']);
    let shift = match text.strip_prefix(digits) {
        Some("K") => 10,
        Some("M") => 20,
        Some("G") => 30,
        _ => 0,
    };
    Ok(digits.parse::<u64>()? << shift)
}

fn open(engine: &str, dir: &Path) -> Result<Arc<dyn Engine>, Failure> {
    Ok(match engine {
        "segments" => Arc::new(Segments(
            ShardStore::open(StoreConfig::new(dir), TimestampMs(0))?.0,
        )),
        "fjall" => {
            let sink = Fjall::open(dir)?;
            let keyspace = sink.keyspace.clone();
            Arc::new(Drained::new(sink, Some(keyspace)))
        }
        "append" => Arc::new(Drained::new(Raw::new(dir, Preallocation::None)?, None)),
        "allocated" => Arc::new(Drained::new(Raw::new(dir, Preallocation::Allocated)?, None)),
        "zeroed" => Arc::new(Drained::new(Raw::new(dir, Preallocation::Zeroed)?, None)),
        "recycled" => Arc::new(Drained::new(Raw::new(dir, Preallocation::Recycled)?, None)),
        _ => return Err(format!("unknown engine {engine}").into()),
    })
}

/// Prints one line.
fn measure(name: &str, workload: Workload, options: &Options) -> Result<(), Failure> {
    let dir = options
        .dir
        .join(format!("strongroom-engines-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let _cleanup = Cleanup(&dir);
    let dirs: Vec<PathBuf> = (0..options.stores)
        .map(|store| dir.join(store.to_string()))
        .collect();
    let mut engines = Vec::new();
    for dir in &dirs {
        fs::create_dir_all(dir)?;
        engines.push(open(name, dir)?);
    }
    let count = (workload.total_bytes / workload.shard_bytes).max(1);
    let (cpu, written) = (cpu_seconds()?, written_bytes()?);
    let begun = Instant::now();
    let (mut latencies, kept) = put_all(&engines, workload, count, options.in_flight)?;
    let took = begun.elapsed();
    let cpu = cpu_seconds()? - cpu;
    let written = written_bytes()? - written;
    // How the last fifth went compared with the first: does it keep its rate?
    let fifth = latencies.len() / 5;
    let mean = |part: &[Duration]| part.iter().sum::<Duration>().as_secs_f64();
    let slowdown = match (
        latencies.get(..fifth),
        latencies.get(latencies.len() - fifth..),
    ) {
        (Some(first), Some(last)) if fifth > 0 => mean(first) / mean(last),
        _ => 1.0,
    };
    latencies.sort_unstable();
    let at = |share: usize| {
        latencies
            .get(latencies.len() * share / 100)
            .map_or(0, Duration::as_micros)
    };
    let bytes = float(count * workload.shard_bytes);
    let (gets, get_bytes) = get_all(&engines, &kept, options.gets)?;
    for engine in &engines {
        engine.settle()?;
    }
    drop(engines);
    let begun = Instant::now();
    for dir in &dirs {
        if gets > 0.0 {
            drop(open(name, dir)?);
        }
    }
    println!(
        "{:<10} {:>9} {:>8.0} {:>7.0} {:>8.0} {:>8} {:>8} {:>7.2} {:>7.2} {:>9.2} {:>9.0} {:>8.0} {:>8.0}",
        name,
        workload.shard_bytes,
        bytes / 1e6,
        bytes / 1e6 / took.as_secs_f64(),
        float(count) / took.as_secs_f64(),
        at(50),
        at(99),
        slowdown,
        float(written) / bytes,
        cpu / bytes * 1e9,
        gets,
        get_bytes / 1e6,
        begun.elapsed().as_secs_f64() * 1e3,
    );
    Ok(())
}

struct Cleanup<'a>(&'a Path);

impl Drop for Cleanup<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

/// Puts `count` shards over the engines; returns latencies in order of completion, and some CIDs to read.
fn put_all(
    engines: &[Arc<dyn Engine>],
    workload: Workload,
    count: u64,
    in_flight: u64,
) -> Result<(Vec<Duration>, Vec<Placed>), Failure> {
    let template: Vec<u8> = {
        let mut bytes = vec![0; usize::try_from(workload.shard_bytes)?];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    };
    let keep_each = (count / 10_000).max(1);
    let next = AtomicU64::new(0);
    let done = Mutex::new((Vec::new(), Vec::new()));
    let failed = thread::scope(|scope| {
        let workers: Vec<_> = (0..in_flight)
            .map(|_| {
                scope.spawn(|| -> Result<(), Failure> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return Ok(());
                        }
                        let mut body = template.clone();
                        for (to, from) in body.iter_mut().zip(number.to_le_bytes()) {
                            *to = from;
                        }
                        let (cid, body) = (Cid::of_raw(&body), Bytes::from(body));
                        let at = usize::try_from(number % u64::try_from(engines.len())?)?;
                        let begun = Instant::now();
                        engines.get(at).ok_or("no engine")?.put(cid, body)?;
                        let took = begun.elapsed();
                        let mut done = done.lock().map_err(|_| "a thread panicked")?;
                        done.0.push(took);
                        if number.is_multiple_of(keep_each) {
                            done.1.push((at, cid));
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().find_map(|worker| match worker.join() {
            Ok(result) => result.err(),
            Err(_) => Some("a thread panicked".into()),
        })
    });
    failed.map_or(Ok(()), Err)?;
    Ok(done.into_inner().map_err(|_| "a thread panicked")?)
}

/// Gets in an order that jumps about; returns gets and bytes per second, or zeros.
fn get_all(
    engines: &[Arc<dyn Engine>],
    cids: &[Placed],
    count: u64,
) -> Result<(f64, f64), Failure> {
    let begun = Instant::now();
    let mut bytes = 0;
    for number in 0..count {
        let at = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let at = usize::try_from(at)? % cids.len();
        let (engine, cid) = cids.get(at).ok_or("nothing was put")?;
        match engines.get(*engine).ok_or("no engine")?.get(cid)? {
            Some(len) => bytes += u64::try_from(len)?,
            None => return Ok((0.0, 0.0)),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok((float(count) / seconds, float(bytes) / seconds))
}

#[expect(clippy::cast_precision_loss, reason = "a figure to print")]
fn float(number: u64) -> f64 {
    number as f64
}

/// User and system time of this process so far.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no command in stat")?;
    let mut ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(str::parse::<f64>);
    let (user, system) = (
        ticks.next().ok_or("no utime")??,
        ticks.next().ok_or("no stime")??,
    );
    Ok((user + system) / 100.0)
}

/// Bytes that this process made the disk write.
fn written_bytes() -> Result<u64, Failure> {
    let io = fs::read_to_string("/proc/self/io")?;
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.ok_or("no write_bytes")?.parse()?)
}

struct Segments(ShardStore);

impl Engine for Segments {
    fn put(&self, cid: Cid, body: Bytes) -> Result<(), Failure> {
        block_on(self.0.put(cid, ShardTag::Chunk, Bytes::new(), vec![body]))?;
        Ok(())
    }

    fn settle(&self) -> Result<(), Failure> {
        while self.0.maintain(TimestampMs(0))?.more {}
        Ok(())
    }

    fn get(&self, cid: &Cid) -> Result<Option<usize>, Failure> {
        let shard = self.0.get(cid, None, false)?.ok_or("a shard is missing")?;
        Ok(Some(shard.body.len()))
    }
}

type Waiting = (Cid, Bytes, mpsc::SyncSender<Result<(), String>>);

/// What makes a whole batch durable.
trait Sink: Send + 'static {
    fn commit(&mut self, batch: &[Waiting]) -> Result<(), Failure>;
}

/// Any sink behind the store's own discipline: check the CID, drain the queue, one commit for all.
struct Drained {
    queue: Option<mpsc::SyncSender<Waiting>>,
    writer: Option<thread::JoinHandle<()>>,
    keyspace: Option<Keyspace>,
}

impl Drained {
    fn new(mut sink: impl Sink, keyspace: Option<Keyspace>) -> Self {
        let (queue, waiting) = mpsc::sync_channel::<Waiting>(64);
        let writer = thread::spawn(move || {
            while let Ok(first) = waiting.recv() {
                let mut batch = vec![first];
                batch.extend(waiting.try_iter());
                let result = sink.commit(&batch).map_err(|error| error.to_string());
                for (_, _, reply) in batch {
                    let _ = reply.send(result.clone());
                }
            }
        });
        Self {
            queue: Some(queue),
            writer: Some(writer),
            keyspace,
        }
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Engine for Drained {
    fn put(&self, cid: Cid, body: Bytes) -> Result<(), Failure> {
        if Cid::of_raw(&body) != cid {
            return Err("wrong bytes".into());
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.queue
            .as_ref()
            .ok_or("closed")?
            .send((cid, body, reply))?;
        Ok(answer.recv()??)
    }

    fn get(&self, cid: &Cid) -> Result<Option<usize>, Failure> {
        let Some(keyspace) = &self.keyspace else {
            return Ok(None);
        };
        let value = keyspace.get(cid.digest())?.ok_or("a shard is missing")?;
        Ok(Some(value.len()))
    }
}

struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    fn open(dir: &Path) -> Result<Self, Failure> {
        // Values are ciphertext: nothing is compressed (the features for it are off). The rest is as it comes.
        let database = Database::builder(dir).open()?;
        let keyspace = database.keyspace("shards", || {
            KeyspaceCreateOptions::default()
                .with_kv_separation(Some(KvSeparationOptions::default()))
        })?;
        Ok(Self { database, keyspace })
    }
}

impl Sink for Fjall {
    fn commit(&mut self, batch: &[Waiting]) -> Result<(), Failure> {
        let mut write = self
            .database
            .batch()
            .durability(Some(PersistMode::SyncData));
        for (cid, body, _) in batch {
            write.insert(&self.keyspace, cid.digest(), &body[..]);
        }
        Ok(write.commit()?)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Preallocation {
    /// The file grows with every write.
    None,
    /// `fallocate`, in steps of 8 MiB.
    Allocated,
    /// Zeros are written ahead, in steps of 8 MiB.
    Zeroed,
    /// Files that were written before.
    Recycled,
}

/// Bare files: what the disk gives when nothing but the bytes is written.
struct Raw {
    dir: PathBuf,
    how: Preallocation,
    file: Option<File>,
    number: u64,
    offset: u64,
    ready: u64,
}

impl Raw {
    const STEP: u64 = 8 << 20;
    /// Files that are written over and over.
    const RECYCLED: u64 = 4;

    fn new(dir: &Path, how: Preallocation) -> Result<Self, Failure> {
        let raw = Self {
            dir: dir.into(),
            how,
            file: None,
            number: 0,
            offset: 0,
            ready: 0,
        };
        if how == Preallocation::Recycled {
            let zeros = vec![0; 1 << 20];
            for number in 0..Self::RECYCLED {
                let mut file = File::create(raw.path(number))?;
                for _ in 0..SEGMENT_BYTES >> 20 {
                    file.write_all(&zeros)?;
                }
                file.sync_all()?;
            }
        }
        Ok(raw)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(number.to_string())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        let number = match self.how {
            Preallocation::Recycled => self.number % Self::RECYCLED,
            _ => self.number,
        };
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(self.how != Preallocation::Recycled);
        self.file = Some(options.open(self.path(number))?);
        self.number += 1;
        self.offset = 0;
        self.ready = if self.how == Preallocation::Recycled {
            SEGMENT_BYTES
        } else {
            0
        };
        Ok(())
    }
}

impl Sink for Raw {
    fn commit(&mut self, batch: &[Waiting]) -> Result<(), Failure> {
        let len: usize = batch.iter().map(|(_, body, _)| body.len()).sum();
        let len = u64::try_from(len)?;
        if self.file.is_none() || self.offset + len > SEGMENT_BYTES {
            self.begin()?;
        }
        let file = self.file.as_ref().ok_or("no file")?;
        while self.ready < self.offset + len {
            match self.how {
                Preallocation::Allocated => {
                    let flags = rustix::fs::FallocateFlags::empty();
                    rustix::fs::fallocate(file, flags, self.ready, Self::STEP)?;
                }
                Preallocation::Zeroed => {
                    let zeros = vec![0; usize::try_from(Self::STEP)?];
                    rustix::io::pwrite(file, &zeros, self.ready)?;
                }
                Preallocation::None | Preallocation::Recycled => {}
            }
            self.ready += Self::STEP;
        }
        let mut slices: Vec<IoSlice<'_>> = batch
            .iter()
            .map(|(_, body, _)| IoSlice::new(body))
            .collect();
        let mut slices = slices.as_mut_slice();
        while !slices.is_empty() {
            let written = rustix::io::pwritev(file, slices, self.offset)?;
            self.offset += u64::try_from(written)?;
            IoSlice::advance_slices(&mut slices, written);
        }
        rustix::fs::fdatasync(file)?;
        Ok(())
    }
}

/// Runs one future on this thread.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        thread::park();
    }
}
