//! Named keys: how fast one is made, envelopes are sealed and opened, and what a named key costs a read.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use client::keys::CreateKey;
use crypto::EncryptionContext;
use domain::{BucketName, KeyId, KeyName, Profile};
use ledger::records::ContextPolicy;
use sealed::Envelope;

use super::report::{Measured, percentile};
use super::{Bench, get, lock};
use crate::address::Remote;
use crate::clock::now;
use crate::commands::decrypt::through_custodians;
use crate::failure::{Failure, Outcome};
use crate::identity::rng;
use crate::store::explain;
use crate::units::float;

/// What an envelope holds.
const PAYLOAD_BYTES: usize = 1 << 10;
/// Envelopes in a batch.
const BATCH: usize = 64;
/// Envelopes that are opened again and again: custodians keep no plaintext, so every opening is a new one.
const ENVELOPES: usize = 512;
/// Bytes of an object that is read with a named key and without.
const OBJECT_BYTES: usize = 1 << 20;
/// Objects of each kind.
const OBJECTS: usize = 32;
const READERS: u16 = 8;

impl Bench<'_> {
    pub(super) async fn keys(&self, in_flight: u16) -> Outcome<Vec<Measured>> {
        let load = "named keys";
        let keys = Arc::new(self.store.keys().await?);
        let stamp = now().0;
        let create = move |n: u64| -> Outcome<CreateKey> {
            let name: Result<KeyName, _> = format!("bench-{stamp}-{n}").parse();
            Ok(CreateKey {
                name: name.map_err(|error| Failure::usage(error.to_string()))?,
                committee: None,
                context: ContextPolicy::requiring(Vec::new())
                    .map_err(|error| Failure::usage(error.to_string()))?,
            })
        };
        let (key, _) = keys.create(&create(0)?).await.map_err(explain)?;
        let made = Arc::new(Mutex::new(vec![key.id]));
        let mut measured = Vec::new();
        {
            let (keys, made) = (keys.clone(), made.clone());
            let row = self.measure(load, "create", 1, move |n| {
                let (keys, made, what) = (keys.clone(), made.clone(), create(n + 1));
                async move {
                    let begun = Instant::now();
                    let (info, _) = keys.create(&what?).await.map_err(explain)?;
                    let total = begun.elapsed();
                    lock(&made).push(info.id);
                    Ok(Some((None, total, 0)))
                }
            });
            measured.push(row.await?);
        }

        let encapsulator = keys
            .encapsulator(&key.id, &EncryptionContext::default())
            .await
            .map_err(explain)?;
        let deployment = encapsulator.key().deployment;
        let seal = move |plain: &[u8]| {
            let context = EncryptionContext::default();
            Envelope::seal(&mut rng(), &deployment, context, &[&*encapsulator], plain)
                .map_err(|error| crate::envelopes::explain(&error, "the envelope"))
        };
        let plain: Arc<[u8]> = self.payload.get(..PAYLOAD_BYTES).unwrap_or_default().into();
        let envelopes: Outcome<Vec<Envelope>> = (0..ENVELOPES).map(|_| seal(&plain)).collect();
        let envelopes = Arc::new(envelopes?);
        {
            let plain = plain.clone();
            let row = self.measure(load, "seal 1 KiB", 1, move |_| {
                let begun = Instant::now();
                let sealed = seal(&plain);
                let total = begun.elapsed();
                async move { sealed.map(|_| Some((None, total, 0))) }
            });
            measured.push(row.await?);
        }

        // Opened and its content compared: what counts is the whole of it.
        let open = move |from: u64, count: usize| {
            let (keys, envelopes, plain) = (keys.clone(), envelopes.clone(), plain.clone());
            async move {
                let from = usize::try_from(from).unwrap_or(0).wrapping_mul(count);
                let asked: Vec<&Envelope> = (from..from.wrapping_add(count))
                    .filter_map(|at| envelopes.get(at % ENVELOPES))
                    .collect();
                let deks = through_custodians(&keys, &asked).await;
                for (envelope, dek) in asked.iter().zip(deks) {
                    let opened = envelope
                        .open(&dek?)
                        .map_err(|error| crate::envelopes::explain(&error, "the envelope"))?;
                    if *opened != *plain {
                        return Err(crate::envelopes::altered("the envelope", "another content"));
                    }
                }
                Ok::<(), Failure>(())
            }
        };
        let mut rate = 0.0;
        for (operation, count, in_flight) in [
            ("open", 1, in_flight),
            ("open, one after the other", 1, 1),
            ("open a batch of 64", BATCH, (in_flight / 4).max(1)),
        ] {
            let open = open.clone();
            let row = self.measure(load, operation, in_flight, move |n| {
                let (open, begun) = (open.clone(), Instant::now());
                async move {
                    open(n, count).await?;
                    Ok(Some((None, begun.elapsed(), 0)))
                }
            });
            let row = row.await?;
            if operation == "open" {
                rate = row.objects_per_s;
            }
            measured.push(row);
        }
        // At half of that rate, at times that do not wait for answers: a late answer counts from when it was due.
        let every = Duration::from_secs_f64(2.0 / rate.max(1.0));
        let start = Instant::now();
        let row = self.measure(load, "open, at half of that rate", in_flight, move |n| {
            let (open, due) = (open.clone(), start + every.mul_f64(float(n)));
            async move {
                tokio::time::sleep_until(due.into()).await;
                open(n, 1).await?;
                Ok(Some((None, due.elapsed(), 0)))
            }
        });
        measured.push(row.await?);
        measured.extend(self.reads_behind_a_key(key.id).await?);
        // They cannot be removed; nobody is to encrypt to them.
        let keys = self.store.keys().await?;
        let made = std::mem::take(&mut *lock(&made));
        for id in made {
            let at = keys.ledger().time().await.map_err(explain)?;
            keys.retire(&id, None, Some(at)).await.map_err(explain)?;
        }
        Ok(measured)
    }

    /// The same objects in a bucket with a named key and in one without, read in turn by the same readers: one row for each.
    async fn reads_behind_a_key(&self, key: KeyId) -> Outcome<Vec<Measured>> {
        let load = "1 MiB";
        let name: Result<BucketName, _> = format!("{}-named", self.bucket.bucket).parse();
        let name = name.map_err(|error| Failure::usage(error.to_string()))?;
        let made = self
            .store
            .make_bucket(&name, Profile::DATACENTRE, Some(key));
        made.await?;
        let named = Remote {
            bucket: name.clone(),
            key: String::new(),
        };
        let content = self.payload.get(..OBJECT_BYTES).unwrap_or_default();
        let mut objects = Vec::new();
        for _ in 0..OBJECTS {
            for bucket in [&self.bucket, &named] {
                let n = self.serial.fetch_add(1, Ordering::Relaxed);
                let object = bucket.join(&format!("{n:08}"))?;
                self.store.put_bytes(content, &object).await?;
                objects.push(object);
            }
        }
        let objects = Arc::new(objects);
        let times: Arc<[Mutex<Vec<Duration>>; 2]> = Arc::default();
        let both = {
            let (objects, store, times) = (objects.clone(), self.store.clone(), times.clone());
            self.measure(load, "GET", READERS, move |n| {
                let (objects, store, times) = (objects.clone(), store.clone(), times.clone());
                async move {
                    let at = usize::try_from(n).unwrap_or(0) % objects.len().max(1);
                    let Some(object) = objects.get(at) else {
                        return Ok(None);
                    };
                    let (first, total, bytes) = get(&store, object).await?;
                    if let Some(times) = times.get(at % 2) {
                        lock(times).push(total);
                    }
                    Ok(Some((first, total, bytes)))
                }
            })
            .await?
        };
        self.delete(objects.iter().cloned().collect()).await;
        self.store.remove_bucket(&name).await?;
        let row = |operation, times: &Mutex<Vec<Duration>>| {
            let mut times = std::mem::take(&mut *lock(times));
            let spent = times.iter().sum::<Duration>().as_secs_f64().max(1e-9);
            let objects = u64::try_from(times.len()).unwrap_or(u64::MAX);
            // Readers were busy with one kind or the other all the time.
            let per_s = float(objects) * f64::from(READERS) / spent;
            let bytes = objects * u64::try_from(OBJECT_BYTES).unwrap_or(0);
            Measured {
                operation,
                objects,
                bytes,
                objects_per_s: per_s,
                mb_per_s: per_s * float(bytes) / float(objects.max(1)) / 1e6,
                first_byte_p50_ms: None,
                first_byte_p99_ms: None,
                total_p50_ms: percentile(&mut times, 50).unwrap_or_default(),
                total_p99_ms: percentile(&mut times, 99).unwrap_or_default(),
                ..both.clone()
            }
        };
        let [plain, behind] = &*times;
        Ok(vec![
            row("GET, in turn", plain),
            row("GET, named key", behind),
        ])
    }
}
