//! Bucket keys: one per writer and bucket, drawn here, used for at most 24 hours, kept in sealed local state between
//! runs; and the keys of others, unwrapped once and held in memory for five minutes.

use std::collections::HashMap;
use std::sync::Arc;

use crypto::wrap::{BucketKey, Passphrase, WrapTo};
use crypto::{Dek, Secret};
use domain::{BucketId, BucketKeyId, BucketName, TimestampMs};
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
}

/// `STATE/…/bucket-keys/<bucket id>`. Written only after the gateway has stored the key's record.
#[derive(Serialize, Deserialize)]
struct StoredKey {
    v: u32,
    id: BucketKeyId,
    created: TimestampMs,
    /// The key, sealed to the identity for this bucket, id and time.
    #[serde(with = "wire::rest::base64url")]
    sealed: Vec<u8>,
}

impl WriterKey {
    /// A key from the future is the work of a wrong clock: not used either.
    fn usable(&self, now: TimestampMs) -> bool {
        now.0
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
        // Held while a new key is registered, so that parallel puts do not each draw one.
        let mut keys = self.writer_keys.lock().await;
        if let Some(key) = keys.get(&id)
            && key.usable(now)
        {
            return Ok(Arc::clone(key));
        }
        let key = match self.stored_key(&id)?.filter(|key| key.usable(now)) {
            Some(key) => key,
            None => self.new_key(bucket, now).await?,
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
        let context = key_context(bucket, &stored.id, stored.created);
        // What does not open (another identity's, another version's) is replaced by a new key.
        let secret = self
            .config
            .identity
            .open_local(&deployment, &context, &stored.sealed)
            .and_then(|key| Secret::from_slice(&key));
        Ok(secret.map(|secret| WriterKey {
            key: BucketKey::new(stored.id, *bucket, secret, deployment),
            created: stored.created,
        }))
    }

    async fn new_key(&self, bucket: &Bucket, now: TimestampMs) -> Result<WriterKey> {
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
            let mut holders: Vec<&dyn WrapTo> = vec![&own];
            if let Some(passphrase) = &passphrase {
                holders.push(passphrase);
            }
            BucketKeyRecord::create(rng, &identity, &deployment, &key, now, &holders)
                .map(|record| (key, record))
                .map_err(|error| Error::Internal(error.to_string()))
        })
        .await?;
        self.put_bucket_key(&bucket.name, &key.id, record.encode())
            .await?;
        let context = key_context(&id, &key.id, now);
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
            sealed,
        };
        state::write_json(&self.key_path(&id), &stored)?;
        Ok(WriterKey { key, created: now })
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
        let known = Arc::new(KnownKey(key));
        self.keys.insert((bucket.id(), id), Arc::clone(&known));
        self.buckets_with_keys.insert(bucket.id(), ());
        Ok(known)
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
fn key_context(bucket: &BucketId, id: &BucketKeyId, created: TimestampMs) -> Vec<u8> {
    let mut context = b"bucket-key".to_vec();
    context.extend_from_slice(bucket.as_bytes());
    context.extend_from_slice(id.as_bytes());
    context.extend_from_slice(&created.0.to_be_bytes());
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
