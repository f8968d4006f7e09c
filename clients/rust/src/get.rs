//! Reading: every byte is checked before it leaves.

use std::ops::Range;
use std::sync::Arc;

use crypto::ChunkProof;
use crypto::block_stream::OpenError;
use domain::limits::BLOCK_BYTES;
use domain::{BucketName, Cid, ObjectKey, Principal, VersionId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sealed::entry::EntryError;
use sealed::manifest::ChunkList;
use sealed::object::ReadError;
use sealed::{ChunkRead, ObjectOpener, VersionRecord};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::OwnedSemaphorePermit;
use wire::rest::ObjectAnswer;

use crate::Progress;
use crate::bucket::Bucket;
use crate::buffers::Buffer;
use crate::client::{Client, Inner, no_object};
use crate::error::{Error, Result};
use crate::key::{blocking, object_name};

/// How often a read into memory begins again because the object was replaced meanwhile.
const BYTES_ATTEMPTS: usize = 5;

/// Below this an opening costs less than handing it to another thread.
const INLINE_BYTES_MAX: usize = 2 * BLOCK_BYTES;

/// Plaintext that a long read begins with, by itself (two blocks): the first bytes wait neither for a whole chunk nor beside the
/// chunks that follow.
const LEAD_PLAIN_BYTES: u64 = 131_040;
/// Reads shorter than this have no lead: one request more would cost more than it gains.
const LEAD_FROM_BYTES: u64 = 4 << 20;

/// Which bytes of an object's plaintext.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteRange {
    /// All of them.
    #[default]
    All,
    /// From this byte to the end.
    From(u64),
    /// From the first to the last of these bytes, both included; the last may lie beyond the end.
    Span(u64, u64),
    /// So many bytes from the end.
    Last(u64),
}

/// How to read.
#[derive(Clone, Default)]
pub struct GetOptions {
    /// Which bytes.
    pub range: ByteRange,
    /// Lets the gateway check every shard it reads, which it otherwise does only when a check here fails.
    pub verify_full: bool,
    /// Told about verified bytes.
    pub progress: Option<Progress>,
}

/// What the writer signed about a version, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// The key.
    pub key: ObjectKey,
    /// The version.
    pub version: VersionId,
    /// CID of the content manifest.
    pub cid: Cid,
    /// Bytes of plaintext.
    pub size_bytes: u64,
    /// The writer's time, in milliseconds since 1970.
    pub modified_ms: u64,
    /// Who wrote it.
    pub writer: Principal,
    /// User metadata, opened.
    pub metadata: Option<Vec<u8>>,
    /// Whether every shard is on its node, as the gateway says.
    pub fully_placed: bool,
}

/// What [`Client::verify`] read and checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The version.
    pub head: ObjectHead,
    /// Chunks whose CID and tags hold.
    pub chunks: u64,
    /// Bytes of plaintext in them.
    pub bytes: u64,
}

/// A version whose entry, manifest and key were checked.
pub(crate) struct Opened {
    pub(crate) head: ObjectHead,
    pub(crate) record: VersionRecord,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) opener: Arc<ObjectOpener>,
    /// The ciphertext of a small object.
    small: Option<Vec<u8>>,
}

/// Verified plaintext, with its share of the byte budget.
pub(crate) struct Plain {
    pub(crate) buffer: Buffer,
    _permit: OwnedSemaphorePermit,
}

impl ByteRange {
    /// Bytes of an object of `size`.
    ///
    /// # Errors
    /// [`Error::Range`] when it starts beyond the end or is backwards.
    pub(crate) fn resolve(self, size: u64) -> Result<Range<u64>> {
        let range = match self {
            Self::All => return Ok(0..size),
            Self::From(start) => start..size,
            Self::Span(start, last) => start..last.saturating_add(1).min(size),
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.start >= range.end {
            return Err(Error::Range {
                start: range.start,
                size,
            });
        }
        Ok(range)
    }
}

impl Client {
    /// What the writer signed about the current version; reads no data (a small object's comes along unread).
    ///
    /// # Errors
    /// [`Error::NoObject`], [`Error::Integrity`], [`Error::NoKey`], or what the gateway says.
    pub async fn head(&self, bucket: &BucketName, key: &ObjectKey) -> Result<ObjectHead> {
        Ok(self.inner.open(bucket, key).await?.head)
    }

    /// Writes an object's plaintext to `sink`, in order; each chunk (or block, for a range) after it was checked.
    ///
    /// # Errors
    /// As [`Client::head`]; what was written until then is verified, and incomplete.
    pub async fn get<W: AsyncWrite + Unpin + Send>(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        options: &GetOptions,
        sink: &mut W,
    ) -> Result<ObjectHead> {
        let mut opened = self.inner.open(bucket, key).await?;
        let range = options.range.resolve(opened.head.size_bytes)?;
        let write_failed = |error| Error::io("writing what was read", error);
        if let Some(plain) = opened.open_small()? {
            let part = slice(&plain, &range)?;
            sink.write_all(part).await.map_err(write_failed)?;
            report(options.progress.as_ref(), part.len());
        } else {
            for window in opened.windows_with_lead(&range) {
                let reads = self.inner.window_reads(&mut opened, &window).await?;
                let mut plain = self.inner.chunks(&opened, reads, options.verify_full);
                while let Some((_, plain)) = plain.try_next().await? {
                    sink.write_all(&plain.buffer).await.map_err(write_failed)?;
                    report(options.progress.as_ref(), plain.buffer.len());
                }
            }
        }
        sink.flush().await.map_err(write_failed)?;
        Ok(opened.head)
    }

    /// An object's plaintext (or a range of it) in memory.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn get_bytes(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        range: ByteRange,
    ) -> Result<(ObjectHead, Vec<u8>)> {
        let opened = self.inner.open(bucket, key).await?;
        if let Some(plain) = opened.open_small()? {
            let range = range.resolve(opened.head.size_bytes)?;
            let plain = if range.end - range.start == opened.head.size_bytes {
                plain
            } else {
                slice(&plain, &range)?.to_vec()
            };
            return Ok((opened.head, plain));
        }
        let options = GetOptions {
            range,
            ..GetOptions::default()
        };
        // Nothing has been handed out yet, so a read that an overwrite overtook can begin again.
        let mut attempts = 0;
        loop {
            attempts += 1;
            let mut out = Vec::new();
            match self.get(bucket, key, &options, &mut out).await {
                Err(Error::Replaced) if attempts < BYTES_ATTEMPTS => {}
                done => return done.map(|head| (head, out)),
            }
        }
    }

    /// Reads an object again and checks every signature, CID and tag; with `full` the gateway also checks every shard
    /// that it reads.
    ///
    /// # Errors
    /// [`Error::Integrity`] names the first thing that does not hold; otherwise as [`Client::get`].
    pub async fn verify(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        full: bool,
        progress: Option<Progress>,
    ) -> Result<VerifyReport> {
        let mut opened = self.inner.open(bucket, key).await?;
        let (mut chunks, mut bytes) = (0, 0);
        let mut count = |len: usize| {
            chunks += 1;
            bytes += u64::try_from(len).unwrap_or(u64::MAX);
            report(progress.as_ref(), len);
        };
        if let Some(plain) = opened.open_small()? {
            count(plain.len());
        } else {
            for window in opened.windows(&(0..opened.head.size_bytes)) {
                let reads = self.inner.window_reads(&mut opened, &window).await?;
                let mut plain = self.inner.chunks(&opened, reads, full);
                while let Some((_, plain)) = plain.try_next().await? {
                    count(plain.buffer.len());
                }
            }
        }
        if bytes != opened.head.size_bytes {
            return Err(Error::integrity(
                object_name(bucket, key),
                format!(
                    "it has {bytes} bytes, its writer signed {}",
                    opened.head.size_bytes
                ),
            ));
        }
        Ok(VerifyReport {
            head: opened.head,
            chunks,
            bytes,
        })
    }
}

impl Inner {
    /// Asks for the current version and checks everything that can be checked before data is read.
    pub(crate) async fn open(
        self: &Arc<Self>,
        name: &BucketName,
        key: &ObjectKey,
    ) -> Result<Opened> {
        let client = Client {
            inner: Arc::clone(self),
        };
        let mut bucket = client.bucket(name).await?;
        let mut refreshed = false;
        loop {
            let with_key = !self.buckets_with_keys.contains_key(&bucket.id());
            let bytes = self
                .object(name, key, with_key)
                .await
                .map_err(|error| no_object(error, name, key))?;
            match self.check(&bucket, key, &bytes).await {
                // Written under a later writer set than the record in memory.
                Err(Checked::StaleBucket) if !refreshed => {
                    bucket = self.refresh_bucket(name).await?;
                    refreshed = true;
                }
                Err(Checked::StaleBucket) => {
                    return Err(Error::integrity(
                        object_name(name, key),
                        "it was written under a later writer set than the gateway's bucket record",
                    ));
                }
                Err(Checked::Failed(error)) => return Err(error),
                Ok(opened) => return Ok(opened),
            }
        }
    }

    async fn check(
        &self,
        bucket: &Arc<Bucket>,
        key: &ObjectKey,
        bytes: &[u8],
    ) -> std::result::Result<Opened, Checked> {
        let name = || object_name(&bucket.name, key);
        let answer = ObjectAnswer::decode(bytes).map_err(|error| {
            Checked::Failed(Error::Protocol {
                what: "reading an object",
                reason: error.to_string(),
            })
        })?;
        let refused =
            |error: &dyn std::fmt::Display| Checked::Failed(Error::integrity(name(), error));
        let record =
            VersionRecord::decode(&answer.version_record).map_err(|error| refused(&error))?;
        let entry = record.entry();
        match entry.verify_for(&bucket.verified, key, None) {
            Ok(()) => {}
            Err(EntryError::StaleBucketRecord { .. }) => return Err(Checked::StaleBucket),
            Err(error) => return Err(refused(&error)),
        }
        let dek = self
            .dek(bucket, &record, answer.bucket_key.as_deref())
            .await
            .map_err(Checked::Failed)?;
        let metadata = match &entry.metadata {
            None => None,
            Some(_) => Some(
                entry
                    .open_metadata(&dek)
                    .ok_or_else(|| refused(&"its metadata does not open"))?
                    .to_vec(),
            ),
        };
        let opener = ObjectOpener::for_entry(entry, &answer.manifest, dek)
            .map_err(|error| refused(&error))?;
        let (cid, size_bytes) = entry
            .object()
            .ok_or_else(|| refused(&"the version is a deletion"))?;
        Ok(Opened {
            head: ObjectHead {
                key: key.clone(),
                version: entry.version,
                cid,
                size_bytes,
                modified_ms: entry.time.0,
                writer: entry.writer,
                metadata,
                fully_placed: answer.fully_placed,
            },
            small: answer.chunk.map(std::borrow::Cow::into_owned),
            record,
            bucket: Arc::clone(bucket),
            opener: Arc::new(opener),
        })
    }

    /// The reads that a window needs; fetches its manifest page and forgets those before.
    pub(crate) async fn window_reads(
        &self,
        opened: &mut Opened,
        window: &Range<u64>,
    ) -> Result<Vec<ChunkRead>> {
        let missing = opened.opener.missing_pages(window);
        if !missing.is_empty() {
            let mut pages = Vec::with_capacity(missing.len());
            for (page, _) in missing {
                let bytes = self.manifest_page(&opened.head.version, page).await?;
                pages.push((page, bytes));
            }
            // Every reader of the window before has ended.
            let opener = Arc::get_mut(&mut opened.opener)
                .ok_or_else(|| Error::Internal("a manifest is still in use".to_owned()))?;
            for (page, bytes) in pages {
                opener
                    .add_page(page, &bytes)
                    .map_err(|error| Error::integrity(format!("manifest page {page}"), error))?;
                if let Some(before) = page.checked_sub(1) {
                    opener.drop_page(before);
                }
            }
        }
        opened
            .opener
            .reads(window)
            .map_err(|error| Error::Internal(error.to_string()))
    }

    /// Verified plaintext of `reads`, in their order, a bounded number at a time.
    pub(crate) fn chunks<'a>(
        self: &'a Arc<Self>,
        opened: &'a Opened,
        reads: Vec<ChunkRead>,
        verify_full: bool,
    ) -> impl stream::Stream<Item = Result<(ChunkRead, Plain)>> + Unpin + Send + use<'a> {
        let at_once = self.config.chunks_in_flight.max(1);
        let one = move |read: ChunkRead| async move {
            let plain = self.read_chunk(opened, &read, verify_full).await?;
            Ok((read, plain))
        };
        stream::iter(reads).map(one).buffered(at_once).boxed()
    }

    /// One chunk (or its needed blocks): fetched, checked, opened. What does not check is asked for once more, with the
    /// gateway checking every shard.
    pub(crate) async fn read_chunk(
        &self,
        opened: &Opened,
        read: &ChunkRead,
        verify_full: bool,
    ) -> Result<Plain> {
        match self.try_chunk(opened, read, verify_full).await {
            Err(Error::Integrity { what, reason }) if !verify_full => {
                tracing::warn!(%what, %reason, "a check failed, asking again with full verification");
                self.try_chunk(opened, read, true).await
            }
            result => result,
        }
    }

    async fn try_chunk(
        &self,
        opened: &Opened,
        read: &ChunkRead,
        verify_full: bool,
    ) -> Result<Plain> {
        // Ciphertext and plaintext.
        let permit = self.reserve(read.ciphertext.len() * 2).await?;
        let mut ciphertext = self.buffers.take();
        let proof = self
            .chunk(&opened.head.version, read, verify_full, &mut ciphertext)
            .await?;
        let mut plain = self.buffers.take();
        if ciphertext.len() <= INLINE_BYTES_MAX {
            open_chunk(&opened.opener, read, &ciphertext, proof, &mut plain)?;
        } else {
            let (opener, read) = (Arc::clone(&opened.opener), read.clone());
            plain = blocking(move || {
                open_chunk(&opener, &read, &ciphertext, proof, &mut plain)?;
                Ok(plain)
            })
            .await?;
        }
        Ok(Plain {
            buffer: plain,
            _permit: permit,
        })
    }
}

/// Why a version was not opened.
enum Checked {
    /// With a newer bucket record it may.
    StaleBucket,
    Failed(Error),
}

impl Opened {
    /// The plaintext of a small object; `None` for a chunked one.
    pub(crate) fn open_small(&self) -> Result<Option<Vec<u8>>> {
        let Some(ciphertext) = &self.small else {
            return Ok(None);
        };
        let mut plain = Vec::with_capacity(ciphertext.len());
        self.opener
            .open_chunk(0, ciphertext, &mut plain)
            .map_err(|error| Error::integrity(format!("version {}", self.head.version), error))?;
        if u64::try_from(plain.len()) != Ok(self.head.size_bytes) {
            return Err(Error::integrity(
                format!("version {}", self.head.version),
                "a small object has one chunk",
            ));
        }
        Ok(Some(plain))
    }

    /// Cuts a range where manifest pages end, so that one page is held at a time.
    pub(crate) fn windows(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let manifest = self.opener.manifest();
        let ChunkList::Pages(pages) = manifest.chunks() else {
            return vec![range.clone()];
        };
        let mut start = 0;
        let mut windows = Vec::new();
        for page in pages {
            let end = start + page.size;
            let window = range.start.max(start)..range.end.min(end);
            if window.start < window.end {
                windows.push(window);
            }
            start = end;
        }
        windows
    }

    /// As [`Opened::windows`]; a long range begins with a short window.
    fn windows_with_lead(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut windows = self.windows(range);
        if range.end - range.start >= LEAD_FROM_BYTES
            && let Some(first) = windows.first_mut()
            && first.end - first.start > LEAD_PLAIN_BYTES
        {
            let lead = first.start..first.start + LEAD_PLAIN_BYTES;
            first.start = lead.end;
            windows.insert(0, lead);
        }
        windows
    }
}

fn open_chunk(
    opener: &ObjectOpener,
    read: &ChunkRead,
    ciphertext: &[u8],
    proof: ChunkProof,
    plain: &mut Vec<u8>,
) -> Result<()> {
    opener
        .open_read(read, ciphertext, proof, plain)
        .map_err(|error| match &error {
            // Genuine bytes that do not open: asking again gives the same bytes.
            ReadError::Chunk {
                source: OpenError::Tag { .. },
                ..
            } => Error::NoKey {
                what: format!("chunk {}", read.index),
                reason: error.to_string(),
            },
            _ => Error::integrity(format!("chunk {}", read.index), &error),
        })
}

fn slice<'a>(plain: &'a [u8], range: &Range<u64>) -> Result<&'a [u8]> {
    let bounds = usize::try_from(range.start)
        .ok()
        .zip(usize::try_from(range.end).ok());
    bounds
        .and_then(|(start, end)| plain.get(start..end))
        .ok_or_else(|| Error::Internal("a range beyond the plaintext".to_owned()))
}

pub(crate) fn report(progress: Option<&Progress>, bytes: usize) {
    if let Some(progress) = progress {
        progress(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clipped_to_the_object() {
        let ok = |range: ByteRange, size| range.resolve(size).unwrap();
        assert_eq!(ok(ByteRange::All, 0), 0..0);
        assert_eq!(ok(ByteRange::All, 9), 0..9);
        assert_eq!(ok(ByteRange::From(3), 9), 3..9);
        assert_eq!(ok(ByteRange::Span(3, 4), 9), 3..5);
        assert_eq!(ok(ByteRange::Span(3, u64::MAX), 9), 3..9);
        assert_eq!(ok(ByteRange::Last(4), 9), 5..9);
        assert_eq!(ok(ByteRange::Last(40), 9), 0..9);
        for bad in [
            ByteRange::From(9),
            ByteRange::Span(9, 10),
            ByteRange::Span(4, 3),
            ByteRange::Last(0),
        ] {
            assert!(
                matches!(bad.resolve(9), Err(Error::Range { size: 9, .. })),
                "{bad:?}"
            );
        }
    }
}
