//! Buckets: owner-signed records, pinned to their name at first use.

use std::sync::Arc;

use domain::{BucketId, BucketName, KeyId, Principal, Profile};
use futures_util::{Stream, TryStreamExt as _, stream};
use sealed::{BucketRecord, VerifiedBucket};
use serde::{Deserialize, Serialize};
use wire::rest::BucketInfo;

use crate::client::{Client, Inner, no_bucket};
use crate::error::{Error, Result};
use crate::random;
use crate::state;
use crate::transport::now;

/// A bucket whose record was verified and compared with the pin.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// When the gateway registered it, in milliseconds since 1970.
    pub created_ms: u64,
    pub(crate) verified: VerifiedBucket,
}

/// `STATE/…/buckets/<name>`.
#[derive(Serialize, Deserialize)]
struct Pin {
    v: u32,
    id: BucketId,
    #[serde(with = "wire::rest::base64url")]
    record: Vec<u8>,
}

const PIN_VERSION: u32 = 1;

impl Bucket {
    /// Its id, which its name is pinned to.
    #[must_use]
    pub fn id(&self) -> BucketId {
        self.verified.id
    }

    /// Who signs its records.
    #[must_use]
    pub fn owner(&self) -> Principal {
        self.verified.owner
    }

    /// Coding of its chunks.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.verified.profile
    }

    /// Who may write, in ascending order.
    #[must_use]
    pub fn writers(&self) -> &[Principal] {
        self.verified.writers.writers()
    }

    /// Who may read besides, in ascending order.
    #[must_use]
    pub fn readers(&self) -> &[Principal] {
        self.verified.readers.list()
    }

    /// The named key that bucket keys are wrapped to; `None`: the writers' own identities.
    #[must_use]
    pub fn key(&self) -> Option<KeyId> {
        self.verified.key
    }

    /// How often somebody has lost a right: bucket keys of another generation take no new objects.
    #[must_use]
    pub fn key_generation(&self) -> u64 {
        self.verified.key_generation
    }
}

/// What the owner changes of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BucketChange {
    /// May read and write.
    AddWriter(Principal),
    /// May no longer write, nor read unless it is a reader. What it wrote stays readable.
    RemoveWriter(Principal),
    /// May fetch ciphertext. What opens it is a matter of keys.
    AddReader(Principal),
    /// May no longer fetch anything, unless it is a writer.
    RemoveReader(Principal),
    /// New objects come under new bucket keys: somebody lost what opens the present ones.
    NewKeys,
}

impl Client {
    /// Makes a bucket that this principal owns, and pins its name. Chunks are coded as `profile` says; objects of at
    /// most 256 KiB are always five copies. With a named key, what opens its objects is wrapped to that key and to nothing
    /// else.
    ///
    /// # Errors
    /// When the name is taken, this principal may not make buckets, or the gateway fails.
    pub async fn make_bucket(
        &self,
        name: &BucketName,
        profile: Profile,
        key: Option<KeyId>,
    ) -> Result<Arc<Bucket>> {
        let inner = &self.inner;
        if let Some(key) = key {
            // A bucket on a key that is not there, or opens nothing of a bucket's, would take no object.
            inner.named_keys().encapsulator(key).await?;
        }
        let deployment = *self.deployment_id();
        let mut bucket = sealed::Bucket::create(
            &mut random::rng(),
            &deployment,
            self.principal(),
            name.clone(),
            profile,
            now()?,
        );
        bucket.key = key;
        let id = bucket.id;
        let record = bucket.sign(&inner.config.identity, &deployment).encode();
        let info = inner.create_bucket(record).await?;
        if info.id != id {
            return Err(Error::integrity(
                format!("bucket `{name}`"),
                "the gateway registered another record than the one it was given",
            ));
        }
        // A pin of an earlier bucket of this name: its owner just made this one.
        state::remove(&inner.state.bucket(name.as_str()))?;
        inner.accept_bucket(name, &info)
    }

    /// Changes a bucket that this principal owns, on top of its present record; `None` when that says so already.
    ///
    /// Whoever loses a right keeps what they have fetched and unwrapped; new objects come under new bucket keys.
    ///
    /// # Errors
    /// [`Error::NotTheOwner`], when the lists are full, or the gateway fails; [`Error::Refused`] with `bucket_changed` when
    /// another change came first.
    pub async fn change_bucket(
        &self,
        name: &BucketName,
        change: BucketChange,
    ) -> Result<Option<Arc<Bucket>>> {
        let inner = &self.inner;
        let present = inner.refresh_bucket(name).await?;
        if present.owner() != self.principal() {
            return Err(Error::NotTheOwner(name.clone()));
        }
        let Some(next) = changed(&present.verified, change)? else {
            return Ok(None);
        };
        let record = next.sign(&inner.config.identity, self.deployment_id());
        let info = inner.change_bucket(name, record.encode()).await?;
        if info.record != record.encode() {
            return Err(Error::integrity(
                format!("bucket `{name}`"),
                "the gateway stored another record than the one it was given",
            ));
        }
        inner.accept_bucket(name, &info).map(Some)
    }

    /// The verified record of a bucket: from memory for a minute, else from the gateway, compared with the pin.
    ///
    /// # Errors
    /// [`Error::NoBucket`], [`Error::OtherBucket`], [`Error::Integrity`].
    pub async fn bucket(&self, name: &BucketName) -> Result<Arc<Bucket>> {
        if let Some(bucket) = self.inner.buckets.get(name) {
            return Ok(bucket);
        }
        self.inner.refresh_bucket(name).await
    }

    /// Removes an empty bucket, and what was remembered of it here.
    ///
    /// # Errors
    /// [`Error::NoBucket`], or when it is not empty.
    pub async fn remove_bucket(&self, name: &BucketName) -> Result<()> {
        let inner = &self.inner;
        let bucket = self.bucket(name).await?;
        inner
            .delete_bucket(name)
            .await
            .map_err(|error| no_bucket(error, name))?;
        state::remove(&inner.key_path(&bucket.id()))?;
        inner.writer_keys.lock().await.remove(&bucket.id());
        self.forget_bucket(name)
    }

    /// Forgets which bucket a name stood for: for a bucket that was made anew on purpose.
    ///
    /// # Errors
    /// [`Error::State`].
    pub fn forget_bucket(&self, name: &BucketName) -> Result<()> {
        self.inner.buckets.invalidate(name);
        state::remove(&self.inner.state.bucket(name.as_str()))
    }

    /// All buckets that this principal may read, in name order, page by page; each record is verified.
    pub fn buckets(&self) -> impl Stream<Item = Result<Bucket>> + Send + use<> {
        let client = self.clone();
        stream::try_unfold(Some(None), move |after: Option<Option<BucketName>>| {
            let client = client.clone();
            async move {
                let Some(after) = after else {
                    return Ok::<_, Error>(None);
                };
                let page = client.inner.bucket_page(after.as_ref()).await?;
                let buckets: Vec<Result<Bucket>> = page
                    .buckets
                    .iter()
                    .map(|info| client.inner.verify_bucket(&info.name, info))
                    .collect();
                Ok(Some((stream::iter(buckets), page.next.map(Some))))
            }
        })
        .try_flatten()
    }
}

/// The record after a change; `None` when nothing changes.
fn changed(known: &sealed::Bucket, change: BucketChange) -> Result<Option<sealed::Bucket>> {
    let mut next = known.clone();
    let full = |error: &dyn std::fmt::Display| Error::Unsupported(error.to_string());
    let readers = |list: Vec<Principal>| sealed::Readers::new(list).map_err(|error| full(&error));
    let mut list = known.readers.list().to_vec();
    let writers = &known.writers;
    let mut loses = false;
    let set = match change {
        BucketChange::AddWriter(who) if writers.contains(&who) => return Ok(None),
        BucketChange::RemoveWriter(who) if !writers.contains(&who) => return Ok(None),
        BucketChange::AddReader(who) if known.readers.contains(&who) => return Ok(None),
        BucketChange::RemoveReader(who) if !known.readers.contains(&who) => return Ok(None),
        BucketChange::AddWriter(who) => writers.adding(who),
        BucketChange::RemoveWriter(who) => {
            loses = true;
            writers.removing(who)
        }
        BucketChange::AddReader(who) => {
            list.push(who);
            next.readers = readers(list)?;
            writers.renewed()
        }
        BucketChange::RemoveReader(who) => {
            loses = true;
            list.retain(|other| *other != who);
            next.readers = readers(list)?;
            writers.renewed()
        }
        BucketChange::NewKeys => {
            loses = true;
            writers.renewed()
        }
    };
    next.writers = set.map_err(|error| full(&error))?;
    next.key_generation += u64::from(loses);
    Ok(Some(next))
}

impl Inner {
    /// Asks the gateway, whatever is in memory.
    pub(crate) async fn refresh_bucket(&self, name: &BucketName) -> Result<Arc<Bucket>> {
        let info = self
            .bucket_info(name)
            .await
            .map_err(|error| no_bucket(error, name))?;
        self.accept_bucket(name, &info)
    }

    fn verify_bucket(&self, name: &BucketName, info: &BucketInfo) -> Result<Bucket> {
        let what = || format!("the record of bucket `{name}`");
        let refused = |error: &dyn std::fmt::Display| Error::integrity(what(), error);
        let verified = BucketRecord::decode(&info.record)
            .map_err(|error| refused(&error))?
            .verify(self.transport.deployment())
            .map_err(|error| refused(&error))?;
        if verified.name != *name || verified.id != info.id || verified.owner != info.owner {
            return Err(refused(&"it is another bucket's"));
        }
        Ok(Bucket {
            name: name.clone(),
            created_ms: info.created_ms,
            verified,
        })
    }

    /// Verifies, compares with the pin (or pins), and remembers.
    fn accept_bucket(&self, name: &BucketName, info: &BucketInfo) -> Result<Arc<Bucket>> {
        let bucket = self.verify_bucket(name, info)?;
        let path = self.state.bucket(name.as_str());
        let pin: Option<Pin> = state::read_json(&path)?;
        if let Some(pin) = &pin {
            if pin.id != bucket.id() {
                return Err(Error::OtherBucket {
                    name: name.clone(),
                    pinned: pin.id,
                    found: bucket.id(),
                });
            }
            // The pin is the user's own file, verified when it was written; verified again all the same.
            let known = BucketRecord::decode(&pin.record)
                .ok()
                .and_then(|record| record.verify(self.transport.deployment()).ok());
            if let Some(known) = known {
                bucket
                    .verified
                    .expect_successor_of(&known)
                    .map_err(|error| {
                        Error::integrity(format!("the record of bucket `{name}`"), error)
                    })?;
            }
        }
        if pin.is_none_or(|pin| pin.record != info.record) {
            state::write_json(
                &path,
                &Pin {
                    v: PIN_VERSION,
                    id: bucket.id(),
                    record: info.record.clone(),
                },
            )?;
        }
        let bucket = Arc::new(bucket);
        self.buckets.insert(name.clone(), Arc::clone(&bucket));
        Ok(bucket)
    }
}
