//! `bench`: measures a running platform through this client, as a user would see it.

mod first_byte;
mod keys;
mod report;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use client::ByteRange;
use domain::Profile;
use tokio::io::AsyncWrite;
use tokio::task::JoinSet;

use super::{Context, block_on};
use crate::address::Remote;
use crate::args::{BenchArgs, BenchLoad};
use crate::clock::now;
use crate::failure::{Failure, Outcome};
use crate::platform::DataFolder;
use crate::proc;
use crate::progress::Bar;
use crate::store::Store;
use crate::units::{self, float};
use report::{Measured, percentile, render};

/// Objects that a mixed load starts with.
const MIXED_START: usize = 256;
/// Sizes of a mixed load's objects.
const MIXED_SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];

/// Durations of single operations.
#[derive(Debug, Default)]
struct Samples {
    first_byte: Vec<Duration>,
    total: Vec<Duration>,
    bytes: u64,
    failed: u64,
    first_failure: Option<Failure>,
}

struct Bench<'a> {
    context: &'a Context,
    store: Arc<Store>,
    bucket: Remote,
    payload: Arc<Vec<u8>>,
    time: Duration,
    folder: DataFolder,
    processes: Option<Vec<(String, u32)>>,
    serial: Arc<AtomicU64>,
}

/// Runs `bench`.
///
/// # Errors
/// When the platform cannot be used at all; single failures are counted.
pub fn run(context: &Context, args: &BenchArgs) -> Outcome {
    let folder = DataFolder::new(&context.settings.data_dir(args.data.as_deref()));
    block_on(async {
        let store = Arc::new(Store::open(context, None).await?);
        let bucket = Remote::parse(&format!("sr://bench-{}", now().0))?;
        store
            .make_bucket(&bucket.bucket, Profile::DATACENTRE, None)
            .await?;
        let processes = proc::platform(&folder);
        if processes.is_none() {
            context.output.warn(format!(
                "no platform runs from {}: its CPU and memory are not measured (--data names its folder)",
                folder.path().display()
            ));
        }
        let bench = Bench {
            context,
            store,
            bucket,
            payload: Arc::new(random_bytes(64 << 20)),
            time: args.time,
            folder,
            processes,
            serial: Arc::default(),
        };
        let idle = bench.processes.as_deref().map(proc::memory);
        let outcome = bench.all(args).await;
        bench.clean_up().await;
        let measured = outcome?;
        let failed: u64 = measured.iter().map(|measured| measured.failed).sum();
        context.output.result(
            &serde_json::json!({ "idle": idle, "measured": measured }),
            || render(idle.as_ref(), &measured),
        );
        if failed > 0 {
            return Err(Failure::new(
                crate::failure::Exit::Partial,
                "partial",
                format!("{failed} operations failed; the figures count the others"),
            ));
        }
        Ok(())
    })
}

impl Bench<'_> {
    async fn all(&self, args: &BenchArgs) -> Outcome<Vec<Measured>> {
        const ALL: [BenchLoad; 6] = [
            BenchLoad::Keys,
            BenchLoad::FirstByte,
            BenchLoad::Small,
            BenchLoad::Medium,
            BenchLoad::Large,
            BenchLoad::Mixed,
        ];
        let loads = if args.loads.is_empty() {
            ALL.to_vec()
        } else {
            args.loads.clone()
        };
        let mut measured = Vec::new();
        for load in loads {
            let (name, bytes, in_flight) = match load {
                BenchLoad::Small => ("4 KiB", 4 << 10, 32),
                BenchLoad::Medium => ("1 MiB", 1 << 20, 8),
                BenchLoad::Large => ("64 MiB", 64 << 20, 4),
                BenchLoad::Mixed => ("mixed", 0, 32),
                BenchLoad::FirstByte => ("first byte of 1 GiB", 0, 1),
                BenchLoad::Keys => ("named keys", 0, 16),
            };
            let in_flight = args.in_flight.unwrap_or(in_flight);
            self.context
                .output
                .note(format!("measuring {name}, {in_flight} in flight ..."));
            match load {
                BenchLoad::Mixed => measured.push(self.mixed(name, in_flight).await?),
                BenchLoad::FirstByte => measured.extend(self.first_byte().await?),
                BenchLoad::Keys => measured.extend(self.keys(in_flight).await?),
                _ => measured.extend(self.put_get(name, bytes, in_flight).await?),
            }
        }
        Ok(measured)
    }

    async fn put_get(
        &self,
        load: &'static str,
        bytes: usize,
        in_flight: u16,
    ) -> Outcome<Vec<Measured>> {
        let keys: Arc<Mutex<Vec<Remote>>> = Arc::default();
        let put = {
            let (keys, folder, serial) = (keys.clone(), self.bucket.clone(), self.serial.clone());
            let (store, payload) = (self.store.clone(), self.payload.clone());
            self.measure(load, "PUT", in_flight, move |_| {
                let (keys, folder, serial) = (keys.clone(), folder.clone(), serial.clone());
                let (store, payload) = (store.clone(), payload.clone());
                async move {
                    let key =
                        folder.join(&format!("{:08}", serial.fetch_add(1, Ordering::Relaxed)))?;
                    let started = Instant::now();
                    store
                        .put_bytes(payload.get(..bytes).unwrap_or(&payload), &key)
                        .await?;
                    let total = started.elapsed();
                    lock(&keys).push(key);
                    Ok(Some((None, total, bytes)))
                }
            })
            .await?
        };
        let keys = lock(&keys).clone();
        if keys.is_empty() {
            return Ok(vec![put]);
        }
        let keys = Arc::new(keys);
        let get = {
            let (keys, store) = (keys.clone(), self.store.clone());
            self.measure(load, "GET", in_flight, move |n| {
                let (keys, store) = (keys.clone(), store.clone());
                async move {
                    let index = usize::try_from(n).unwrap_or(0) % keys.len();
                    let Some(key) = keys.get(index) else {
                        return Ok(None);
                    };
                    get(&store, key).await.map(Some)
                }
            })
            .await?
        };
        self.delete(keys.iter().cloned().collect()).await;
        Ok(vec![put, get])
    }

    async fn mixed(&self, load: &'static str, in_flight: u16) -> Outcome<Measured> {
        let keys: Arc<Mutex<VecDeque<Remote>>> = Arc::default();
        for n in 0..MIXED_START {
            let key = self.bucket.join(&format!(
                "mixed/{:08}",
                self.serial.fetch_add(1, Ordering::Relaxed)
            ))?;
            let size = MIXED_SIZES
                .get(n % MIXED_SIZES.len())
                .copied()
                .unwrap_or(4 << 10);
            self.store
                .put_bytes(self.payload.get(..size).unwrap_or_default(), &key)
                .await?;
            lock(&keys).push_back(key);
        }
        let measured = {
            let (keys, folder, serial) = (keys.clone(), self.bucket.clone(), self.serial.clone());
            let (store, payload) = (self.store.clone(), self.payload.clone());
            self.measure(load, "45/30/15/10", in_flight, move |n| {
                let (keys, folder, serial) = (keys.clone(), folder.clone(), serial.clone());
                let (store, payload) = (store.clone(), payload.clone());
                async move {
                    let dice = scatter(n);
                    let pick = |keys: &VecDeque<Remote>| {
                        let index = usize::try_from(dice >> 16).unwrap_or(0) % keys.len().max(1);
                        keys.get(index).cloned()
                    };
                    let started = Instant::now();
                    match dice % 100 {
                        0..45 => {
                            let Some(key) = pick(&lock(&keys)) else {
                                return Ok(None);
                            };
                            match get(&store, &key).await {
                                // Deleted by another worker between choice and read: nothing to measure.
                                Err(failure) if failure.exit == crate::failure::Exit::NotFound => {
                                    Ok(None)
                                }
                                other => other.map(Some),
                            }
                        }
                        45..75 => {
                            let Some(key) = pick(&lock(&keys)) else {
                                return Ok(None);
                            };
                            match store.stat(&key).await {
                                Err(failure) if failure.exit == crate::failure::Exit::NotFound => {
                                    Ok(None)
                                }
                                Err(failure) => Err(failure),
                                Ok(_) => Ok(Some((None, started.elapsed(), 0))),
                            }
                        }
                        75..90 => {
                            let key = folder.join(&format!(
                                "mixed/{:08}",
                                serial.fetch_add(1, Ordering::Relaxed)
                            ))?;
                            let index = usize::try_from(dice >> 8).unwrap_or(0) % MIXED_SIZES.len();
                            let size = MIXED_SIZES.get(index).copied().unwrap_or(4 << 10);
                            store
                                .put_bytes(payload.get(..size).unwrap_or_default(), &key)
                                .await?;
                            let total = started.elapsed();
                            lock(&keys).push_back(key);
                            Ok(Some((None, total, size)))
                        }
                        _ => {
                            let Some(key) = lock(&keys).pop_front() else {
                                return Ok(None);
                            };
                            store.delete(&key).await?;
                            Ok(Some((None, started.elapsed(), 0)))
                        }
                    }
                }
            })
            .await?
        };
        let rest = std::mem::take(&mut *lock(&keys));
        self.delete(rest.into()).await;
        Ok(measured)
    }

    /// Runs `operation` in so many tasks until the time is over. Its argument counts up; `None` is not counted.
    async fn measure<F, R>(
        &self,
        load: &'static str,
        operation: &'static str,
        in_flight: u16,
        work: F,
    ) -> Outcome<Measured>
    where
        F: Fn(u64) -> R + Clone + Send + 'static,
        R: Future<Output = Outcome<Option<(Option<Duration>, Duration, usize)>>> + Send,
    {
        if let Some(processes) = &self.processes {
            proc::reset_peaks(processes);
        }
        let before = self.processes.as_deref().map(proc::usage);
        let own_before = proc::cpu(std::process::id()).unwrap_or_default();
        let started = Instant::now();
        let deadline = started + self.time;
        let counter = Arc::new(AtomicU64::new(0));
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (work, counter) = (work.clone(), counter.clone());
            workers.spawn(async move {
                let mut samples = Samples::default();
                while Instant::now() < deadline {
                    match work(counter.fetch_add(1, Ordering::Relaxed)).await {
                        Ok(Some((first_byte, total, bytes))) => {
                            samples.first_byte.extend(first_byte);
                            samples.total.push(total);
                            samples.bytes += u64::try_from(bytes).unwrap_or(0);
                        }
                        Ok(None) => {}
                        Err(failure) => {
                            samples.failed += 1;
                            samples.first_failure.get_or_insert(failure);
                            // A platform that is gone must not be asked a million times.
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                    }
                }
                samples
            });
        }
        let mut all = Samples::default();
        while let Some(samples) = workers.join_next().await {
            let samples = samples.map_err(|error| {
                Failure::new(
                    crate::failure::Exit::Failure,
                    "internal",
                    format!("a worker ended: {error}"),
                )
            })?;
            all.first_byte.extend(samples.first_byte);
            all.total.extend(samples.total);
            all.bytes += samples.bytes;
            all.failed += samples.failed;
            all.first_failure = all.first_failure.or(samples.first_failure);
        }
        let elapsed = started.elapsed();
        if let Some(failure) = &all.first_failure {
            if all.total.is_empty() {
                return Err(failure.clone());
            }
            self.context.output.warn(format!(
                "{} {load} {operation} failed, first: {failure}",
                all.failed
            ));
        }
        let after = self.processes.as_deref().map(proc::usage);
        let own = proc::cpu(std::process::id())
            .unwrap_or_default()
            .saturating_sub(own_before);
        let objects = u64::try_from(all.total.len()).unwrap_or(u64::MAX);
        let mut cpu_s = before
            .zip(after.as_ref())
            .map(|(before, after)| after.cpu_since(&before))
            .unwrap_or_default();
        cpu_s.insert("client".to_owned(), own.as_secs_f64());
        Ok(Measured {
            load,
            operation,
            in_flight,
            objects,
            bytes: all.bytes,
            seconds: elapsed.as_secs_f64(),
            objects_per_s: float(objects) / elapsed.as_secs_f64(),
            mb_per_s: units::mb_per_s(all.bytes, elapsed),
            first_byte_p50_ms: percentile(&mut all.first_byte, 50),
            first_byte_p99_ms: percentile(&mut all.first_byte, 99),
            total_p50_ms: percentile(&mut all.total, 50).unwrap_or_default(),
            total_p99_ms: percentile(&mut all.total, 99).unwrap_or_default(),
            cpu_s,
            gateway_peak_bytes: after.as_ref().map(|usage| usage.gateway_peak_bytes),
            platform_pss_bytes: after.map(|usage| usage.pss_bytes),
            failed: all.failed,
        })
    }

    async fn delete(&self, keys: Vec<Remote>) {
        use futures_util::StreamExt as _;
        futures_util::stream::iter(keys)
            .for_each_concurrent(16, |key| async move {
                let _ = self.store.delete(&key).await;
            })
            .await;
    }

    /// Best effort: whatever an interrupted measurement left goes with the next run's clean-up by hand.
    async fn clean_up(&self) {
        let mut left = Vec::new();
        let _ = crate::find::each_page(&self.store, &self.bucket.bucket, "", None, |page| {
            left.extend(page.objects.into_iter().map(|info| Remote {
                bucket: self.bucket.bucket.clone(),
                key: info.key.to_string(),
            }));
        })
        .await;
        self.delete(left).await;
        if let Err(failure) = self.store.remove_bucket(&self.bucket.bucket).await {
            self.context
                .output
                .warn(format!("{} was left behind: {failure}", self.bucket));
        }
    }
}

async fn get(store: &Store, key: &Remote) -> Outcome<(Option<Duration>, Duration, usize)> {
    let started = Instant::now();
    let mut sink = Discard {
        first: None,
        bytes: 0,
    };
    store
        .get_stream(key, ByteRange::All, &mut sink, &Bar::default())
        .await?;
    let first = sink.first.map(|first| first.duration_since(started));
    Ok((first, started.elapsed(), sink.bytes))
}

/// Notes when the first byte came, and forgets the bytes.
struct Discard {
    first: Option<Instant>,
    bytes: usize,
}

impl AsyncWrite for Discard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if self.first.is_none() && !buf.is_empty() {
            self.first = Some(Instant::now());
        }
        self.bytes += buf.len();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Spreads a counter over all numbers (the finaliser of SplitMix64), so that a load is the same in every run.
fn scatter(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut seed = [0; 32];
    // Only compressibility matters here; without randomness the fixed seed does.
    let _ = getrandom::fill(&mut seed);
    blake3::Hasher::new_keyed(&seed)
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mixed_load_has_its_shares() {
        let mut shares = [0_u32; 4];
        for n in 0..100_000 {
            let share = match scatter(n) % 100 {
                0..45 => 0,
                45..75 => 1,
                75..90 => 2,
                _ => 3,
            };
            shares[share] += 1;
        }
        for (share, percent) in shares.iter().zip([45, 30, 15, 10]) {
            assert!(share.abs_diff(percent * 1_000) < 700, "{shares:?}");
        }
    }
}
