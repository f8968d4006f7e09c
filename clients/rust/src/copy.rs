//! Copies, moves and deletions: new entries over chunks that stay where they are.

use domain::{BucketName, ObjectKey, VersionId};
use sealed::version::Protection;
use sealed::{Entry, Target, VersionRecord};
use wire::rest::{CopyBody, PutAnswer};

use crate::bucket::Bucket;
use crate::client::{Client, Inner, no_object};
use crate::error::{Error, Result};
use crate::put::{Condition, new_version};
use crate::random;
use crate::transport::now;

/// How to copy or move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// When the write of the target shall count.
    pub condition: Condition,
}

impl Client {
    /// Copies an object: same chunks, same manifest; its key is wrapped for the target and a new entry signed. No data
    /// moves.
    ///
    /// # Errors
    /// As reading the source and writing the target.
    pub async fn copy(
        &self,
        source: (&BucketName, &ObjectKey),
        target: (&BucketName, &ObjectKey),
        options: &CopyOptions,
    ) -> Result<PutAnswer> {
        self.transfer(source, target, options, false).await
    }

    /// Moves an object: the copy and the deletion of the source are one transaction. When the source was replaced in the
    /// meantime nothing happens.
    ///
    /// # Errors
    /// As [`Client::copy`]; [`Error::Conflict`] when the source was replaced.
    pub async fn rename(
        &self,
        source: (&BucketName, &ObjectKey),
        target: (&BucketName, &ObjectKey),
        options: &CopyOptions,
    ) -> Result<PutAnswer> {
        if source == target {
            return Err(Error::Unsupported(
                "source and target of a move are the same object".to_owned(),
            ));
        }
        self.transfer(source, target, options, true).await
    }

    /// Deletes an object with a signed tombstone; with `if_match` only when that is the present version.
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Conflict`], [`Error::NotAWriter`], or what the gateway says.
    pub async fn delete(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        if_match: Option<VersionId>,
    ) -> Result<PutAnswer> {
        let known = self.bucket(bucket).await?;
        let condition = if_match.map_or(Condition::Always, Condition::IfMatch);
        let tombstone = self.inner.tombstone(&known, key, condition)?;
        self.inner
            .put_tombstone(bucket, tombstone)
            .await
            .map_err(|error| no_object(error, bucket, key))
    }

    async fn transfer(
        &self,
        (from, from_key): (&BucketName, &ObjectKey),
        (to, to_key): (&BucketName, &ObjectKey),
        options: &CopyOptions,
        remove_source: bool,
    ) -> Result<PutAnswer> {
        let inner = &self.inner;
        let source = inner.open(from, from_key).await?;
        let target = self.bucket(to).await?;
        let writer_key = inner.writer_key(&target).await?;
        // In memory since the source was opened.
        let dek = inner.dek(&source.bucket, &source.record, None).await?;
        let version = new_version()?;
        let bucket = target.id();
        let rng = &mut random::rng();
        let entry = Entry {
            bucket,
            name: to_key.clone(),
            version,
            writer: self.principal(),
            writer_set: target.verified.writers.version(),
            time: now()?,
            target: Target::Object {
                manifest: source.head.cid,
                size: source.head.size_bytes,
            },
            predecessor: options.condition.predecessor(),
            metadata: source
                .head
                .metadata
                .as_deref()
                .map(|plain| dek.seal_metadata(rng, &bucket, &version, plain)),
        };
        let protection = Protection {
            bucket_key: writer_key.key.id,
            wrapped_dek: writer_key.key.wrap_dek(rng, &version, &dek),
        };
        let entry = entry.sign(&inner.config.identity, self.deployment_id());
        let record = VersionRecord::object(entry, protection, Vec::new())
            .map_err(|error| Error::Internal(error.to_string()))?;
        let tombstone = if remove_source {
            let present = Condition::IfMatch(source.head.version);
            Some(inner.tombstone(&source.bucket, from_key, present)?)
        } else {
            None
        };
        let body = CopyBody {
            source: source.head.version,
            version_record: record.encode(),
            tombstone,
        };
        inner
            .copy(to, &body)
            .await
            .map_err(|error| no_object(error, from, from_key))
    }
}

impl Inner {
    /// A signed entry that says "this name stands for nothing any more".
    fn tombstone(&self, bucket: &Bucket, key: &ObjectKey, condition: Condition) -> Result<Vec<u8>> {
        let writer = self.config.identity.principal();
        if !bucket.writers().contains(&writer) {
            return Err(Error::NotAWriter(bucket.name.clone()));
        }
        let entry = Entry {
            bucket: bucket.id(),
            name: key.clone(),
            version: new_version()?,
            writer,
            writer_set: bucket.verified.writers.version(),
            time: now()?,
            target: Target::Tombstone,
            predecessor: condition.predecessor(),
            metadata: None,
        };
        let entry = entry.sign(&self.config.identity, self.transport.deployment());
        Ok(entry.encode())
    }
}
