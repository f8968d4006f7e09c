//! Bucket keys: one per writer and bucket, drawn here, used for at most 24 hours, kept in sealed local state between
//! runs; and the keys of others, unwrapped once and held in memory for five minutes.

use std::collections::HashMap;
use std::sync::Arc;

use crypto::kem::Encapsulator;
use crypto::wrap::{BucketKey, Passphrase, ReleasedKey, Wrap, WrapContext, WrapTo};
use crypto::{Dek, Secret};
use domain::{BucketId, BucketKeyId, BucketName, KeyId, KeyVersion, TimestampMs};
use sealed::{BucketKeyRecord, VersionRecord};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::bucket::Bucket;
use crate::client::Inner;
use crate::error::{Error, Result};
use crate::random;
use crate::state;
use crate::transport::now;

/// How long a writer uses one bucket key.
const WRITER_KEY_MS_MAX: u64 = 24 * 3_600_000;
const STATE_VERSION: u32 = 1;

/// The keys under which this principal writes, by bucket.
pub(crate) type WriterKeys = HashMap<BucketId, Arc<WriterKey>>;

/// An unwrapped bucket key.
#[derive(Debug)]
pub(crate) struct KnownKey(pub(crate) BucketKey);

/// The key under which this principal writes to one bucket.
#[derive(Debug)]
pub(crate) struct WriterKey {
    pub(crate) key: BucketKey,
    created: TimestampMs,
    made_for: MadeFor,
}

/// What a bucket key was made for: when the bucket's says something else, a new one is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct MadeFor {
    /// The bucket's key generation.
    #[serde(default)]
    generation: u64,
    /// The version of the named key that it is wrapped to.
    #[serde(default)]
    named: Option<(KeyId, KeyVersion)>,
}

/// `STATE/…/bucket-keys/<bucket id>`. Written only after the gateway has stored the key's record.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    v: u32,
    id: BucketKeyId,
    created: TimestampMs,
    #[serde(default)]
    made_for: MadeFor,
    /// The key, sealed to the identity for this bucket, id and time.
    #[serde(with = "wire::rest::base64url")]
    sealed: Vec<u8>,
}

impl WriterKey {
    /// A key from the future is the work of a wrong clock: not used either.
    fn usable(&self, now: TimestampMs, wanted: MadeFor) -> bool {
        self.made_for == wanted
            && now
                .0
                .checked_sub(self.created.0)
                .is_some_and(|age| age < WRITER_KEY_MS_MAX)
    }
}

impl Inner {
    /// The key for new versions in `bucket`: in memory, else from local state, else drawn and registered.
    pub(crate) async fn writer_key(&self, bucket: &Bucket) -> Result<Arc<WriterKey>> {
        if !bucket.writers().contains(&self.config.identity.principal()) {
            return Err(Error::NotAWriter(bucket.name.clone()));
        }
        let now = now()?;
        let id = bucket.id();
        let named = match bucket.key() {
            Some(key) => Some(self.named_keys().encapsulator(key).await?),
            None => None,
        };
        let wanted = MadeFor {
            generation: bucket.key_generation(),
            named: named.as_ref().map(|to| (to.key().key, to.key().version)),
        };
        // Held while a new key is registered, so that parallel puts do not each draw one.
        let mut keys = self.writer_keys.lock().await;
        if let Some(key) = keys.get(&id)
            && key.usable(now, wanted)
        {
            return Ok(Arc::clone(key));
        }
        let stored = self.stored_key(&id)?;
        let key = match stored.filter(|key| key.usable(now, wanted)) {
            Some(key) => key,
            None => self.new_key(bucket, now, wanted, named).await?,
        };
        let key = Arc::new(key);
        keys.insert(id, Arc::clone(&key));
        Ok(key)
    }

    fn stored_key(&self, bucket: &BucketId) -> Result<Option<WriterKey>> {
        let path = self.key_path(bucket);
        let Some(stored) = state::read_json::<StoredKey>(&path)? else {
            return Ok(None);
        };
        let deployment = *self.transport.deployment();
        let context = key_context(bucket, &stored.id, stored.created, stored.made_for);
        // What does not open (another identity's, another version's) is replaced by a new key.
        let secret = self
            .config
            .identity
            .open_local(&deployment, &context, &stored.sealed)
            .and_then(|key| Secret::from_slice(&key));
        Ok(secret.map(|secret| WriterKey {
            key: BucketKey::new(stored.id, *bucket, secret, deployment),
            created: stored.created,
            made_for: stored.made_for,
        }))
    }

    async fn new_key(
        &self,
        bucket: &Bucket,
        now: TimestampMs,
        made_for: MadeFor,
        named: Option<Arc<Encapsulator>>,
    ) -> Result<WriterKey> {
        let identity = Arc::clone(&self.config.identity);
        let passphrase = self.config.passphrase.clone();
        let deployment = *self.transport.deployment();
        let id = bucket.id();
        // Argon2id takes a tenth of a second and 64 MiB: not on an async thread.
        let (key, record) = blocking(move || {
            let rng = &mut random::rng();
            let key = BucketKey::random(rng, deployment, id);
            let own = identity.receiver_key(&deployment);
            let passphrase = passphrase.as_ref().map(|bytes| by_passphrase(bytes));
            let mut holders: Vec<&dyn WrapTo> = Vec::new();
            if let Some(named) = &named {
                // To the named key alone: whoever opens an object has been let by its custodians.
                holders.push(&**named);
            } else {
                holders.push(&own);
                if let Some(passphrase) = &passphrase {
                    holders.push(passphrase);
                }
            }
            let generation = made_for.generation;
            BucketKeyRecord::create(rng, &identity, &deployment, &key, now, generation, &holders)
                .map(|record| (key, record))
                .map_err(|error| Error::Internal(error.to_string()))
        })
        .await?;
        self.put_bucket_key(&bucket.name, &key.id, record.encode())
            .await?;
        let context = key_context(&id, &key.id, now, made_for);
        let sealed = self.config.identity.seal_local(
            &mut random::rng(),
            &deployment,
            &context,
            key.danger_key().expose(),
        );
        let stored = StoredKey {
            v: STATE_VERSION,
            id: key.id,
            created: now,
            made_for,
            sealed,
        };
        state::write_json(&self.key_path(&id), &stored)?;
        Ok(WriterKey {
            key,
            created: now,
            made_for,
        })
    }

    /// The DEK of a version: its bucket key from memory, from the record that came along, or asked for.
    pub(crate) async fn dek(
        &self,
        bucket: &Bucket,
        version: &VersionRecord,
        bucket_key_record: Option<&[u8]>,
    ) -> Result<Dek> {
        let protection = version.protection().ok_or_else(|| {
            Error::integrity(
                "the version record",
                "it is of a deletion, not of an object",
            )
        })?;
        let id = protection.bucket_key;
        let known = match self.keys.get(&(bucket.id(), id)) {
            Some(known) => known,
            None => {
                let record = match bucket_key_record {
                    Some(record) => record.to_vec(),
                    None => self.bucket_key(&bucket.name, &id).await?,
                };
                self.unwrap_bucket_key(bucket, id, &record).await?
            }
        };
        version.unwrap_dek(&known.0).map_err(|error| {
            Error::integrity(
                format!("the key of version {}", version.entry().version),
                error,
            )
        })
    }

    async fn unwrap_bucket_key(
        &self,
        bucket: &Bucket,
        id: BucketKeyId,
        record: &[u8],
    ) -> Result<Arc<KnownKey>> {
        let what = || format!("bucket key {id}");
        let record =
            BucketKeyRecord::decode(record).map_err(|error| Error::integrity(what(), error))?;
        if record.statement().id != id || record.statement().bucket != bucket.id() {
            return Err(Error::integrity(
                what(),
                "the gateway sent another bucket key",
            ));
        }
        let deployment = *self.transport.deployment();
        record
            .verify(&deployment)
            .map_err(|error| Error::integrity(what(), error))?;
        if let Some(key) = self.released(bucket, id, &record).await? {
            return Ok(self.know(bucket, id, key));
        }
        let identity = &*self.config.identity;
        let key = match (
            record.unwrap_key(&deployment, identity),
            &self.config.passphrase,
        ) {
            (Ok(key), _) => key,
            (Err(_), Some(passphrase)) => {
                let passphrase = Arc::clone(passphrase);
                blocking(move || {
                    record
                        .unwrap_key(&deployment, &by_passphrase(&passphrase))
                        .map_err(|error| no_key(id, &error))
                })
                .await?
            }
            (Err(error), None) => return Err(no_key(id, &error)),
        };
        Ok(self.know(bucket, id, key))
    }

    fn know(&self, bucket: &Bucket, id: BucketKeyId, key: BucketKey) -> Arc<KnownKey> {
        let known = Arc::new(KnownKey(key));
        self.keys.insert((bucket.id(), id), Arc::clone(&known));
        self.buckets_with_keys.insert(bucket.id(), ());
        known
    }

    /// A bucket key through the named key that it is wrapped to; `None` when this identity opens it by itself, or it is
    /// wrapped to no named key.
    async fn released(
        &self,
        bucket: &Bucket,
        id: BucketKeyId,
        record: &BucketKeyRecord,
    ) -> Result<Option<BucketKey>> {
        let me = self.config.identity.principal();
        let own = |wrap: &Wrap| matches!(wrap, Wrap::Identity { receiver, .. } if *receiver == me);
        let named = record.wraps().iter().find_map(|wrap| match wrap {
            Wrap::NamedKey(wrap) => Some(wrap),
            _ => None,
        });
        let Some(wrap) = named.filter(|_| !record.wraps().iter().any(own)) else {
            return Ok(None);
        };
        let deployment = *self.transport.deployment();
        let context = WrapContext::BucketKey {
            bucket: bucket.id(),
            key: id,
        };
        let shown = context.encryption_context().unwrap_or_default();
        let keys = self.named_keys();
        let released = ReleasedKey {
            kem_hash: wrap.kem_hash(&deployment, &context),
            key: keys
                .open(wrap.key, wrap.version, &wrap.ciphertext, &shown)
                .await?,
        };
        record
            .unwrap_key(&deployment, &released)
            .map(Some)
            .map_err(|error| no_key(id, &error))
    }
}

fn no_key(id: BucketKeyId, error: &dyn std::fmt::Display) -> Error {
    Error::NoKey {
        what: format!("bucket key {id}"),
        reason: error.to_string(),
    }
}

fn by_passphrase(bytes: &Zeroizing<Vec<u8>>) -> Passphrase<'_> {
    Passphrase { bytes, costs: None }
}

/// Binds a sealed key to what it is, so that files cannot be swapped.
fn key_context(
    bucket: &BucketId,
    id: &BucketKeyId,
    created: TimestampMs,
    made_for: MadeFor,
) -> Vec<u8> {
    let mut context = b"bucket-key".to_vec();
    context.extend_from_slice(bucket.as_bytes());
    context.extend_from_slice(id.as_bytes());
    context.extend_from_slice(&created.0.to_be_bytes());
    if made_for != MadeFor::default() {
        context.extend_from_slice(&made_for.generation.to_be_bytes());
    }
    if let Some((key, version)) = made_for.named {
        context.extend_from_slice(key.as_bytes());
        context.extend_from_slice(&version.get().to_be_bytes());
    }
    context
}

/// Runs CPU-bound work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal(format!("a worker stopped: {error}"))),
    }
}

/// For messages only.
pub(crate) fn object_name(bucket: &BucketName, key: &domain::ObjectKey) -> String {
    format!("object `{key}` in bucket `{bucket}`")
}
