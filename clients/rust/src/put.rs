//! Storing: plaintext is encrypted here, chunk by chunk, while earlier chunks are on the wire.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use domain::limits::{OBJECT_CHUNKS_MAX, SMALL_PLAIN_BYTES_MAX};
use domain::{BucketName, Cid, ObjectKey, VersionId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sealed::entry::METADATA_BYTES_MAX;
use sealed::small::SmallHead;
use sealed::version::Protection;
use sealed::{ChunkEntry, Entry, ObjectSealer, Predecessor, SmallRecord, Target, VersionRecord};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use wire::rest::{CompleteBody, PutAnswer};

use crate::Progress;
use crate::bucket::Bucket;
use crate::buffers::Buffer;
use crate::client::{Client, Inner};
use crate::error::{Error, Result};
use crate::get::report;
use crate::key::blocking;
use crate::random;
use crate::transport::now;
use crate::upload::{Destination, FileIdentity, Upload};

/// When a write shall count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Always.
    #[default]
    Always,
    /// Only when the key is free.
    IfAbsent,
    /// Only when this is the present version.
    IfMatch(VersionId),
}

impl Condition {
    pub(crate) fn predecessor(self) -> Option<Predecessor> {
        match self {
            Self::Always => None,
            Self::IfAbsent => Some(Predecessor::Nothing),
            Self::IfMatch(version) => Some(Predecessor::Version(version)),
        }
    }
}

/// How to store.
#[derive(Clone, Default)]
pub struct PutOptions {
    /// When the write shall count; decided by the gateway in the transaction that makes the object visible.
    pub condition: Condition,
    /// Waits until every shard is on its node, not only the write quorum.
    pub wait_placed: bool,
    /// User metadata, sealed under the object's key: at most 8,160 bytes.
    pub metadata: Option<Vec<u8>>,
    /// Told about acknowledged bytes (resumed ones at once).
    pub progress: Option<Progress>,
}

/// What was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The version that is now current, and its placement.
    pub answer: PutAnswer,
    /// CID of the content manifest: the object's CID.
    pub cid: Cid,
    /// Bytes of plaintext.
    pub size_bytes: u64,
    /// Bytes that an earlier, interrupted run had stored.
    pub resumed_bytes: u64,
}

impl Client {
    /// Stores bytes that are in memory.
    ///
    /// # Errors
    /// [`Error::NotAWriter`], [`Error::Conflict`] for a condition that does not hold, or what the gateway says.
    pub async fn put_bytes(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        bytes: &[u8],
        options: &PutOptions,
    ) -> Result<Stored> {
        if bytes.len() <= SMALL_PLAIN_BYTES_MAX {
            let bucket = self.bucket(bucket).await?;
            check_metadata(options)?;
            return self
                .inner
                .put_small_object(&bucket, key, bytes, options)
                .await;
        }
        let size = Some(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let mut source = bytes;
        self.put_reader(bucket, key, &mut source, size, options)
            .await
    }

    /// Stores what `source` gives until its end. An interrupted upload is undone: there is nothing to resume from.
    ///
    /// # Errors
    /// As [`Client::put_bytes`], and [`Error::Io`] when the source fails.
    pub async fn put_reader<R: AsyncRead + Unpin + Send>(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        source: &mut R,
        size_hint: Option<u64>,
        options: &PutOptions,
    ) -> Result<Stored> {
        let bucket = self.bucket(bucket).await?;
        check_metadata(options)?;
        let inner = &self.inner;
        let full = bucket.verified.geometry.chunk_plain_bytes();
        let small = size_hint.is_some_and(|size| size <= SMALL_MAX);
        if small {
            // Most objects: no 4 MiB buffer for a few bytes.
            let mut plain = Vec::with_capacity(SMALL_PLAIN_BYTES_MAX.min(full));
            read_until(source, SMALL_PLAIN_BYTES_MAX + 1, &mut plain).await?;
            if plain.len() <= SMALL_PLAIN_BYTES_MAX {
                return inner.put_small_object(&bucket, key, &plain, options).await;
            }
            let mut first = inner.buffers.take();
            first.clear();
            first.extend_from_slice(&plain);
            read_until(source, full, &mut first).await?;
            return inner
                .put_stream(&bucket, key, first, source, size_hint, options)
                .await;
        }
        let mut first = inner.buffers.take();
        first.clear();
        read_until(source, full, &mut first).await?;
        if first.len() <= SMALL_PLAIN_BYTES_MAX {
            return inner.put_small_object(&bucket, key, &first, options).await;
        }
        inner
            .put_stream(&bucket, key, first, source, size_hint, options)
            .await
    }

    /// Stores a file. An interrupted run is resumed by the next one with the same file, bucket and key, unless the file
    /// changed; what was acknowledged is not sent again.
    ///
    /// # Errors
    /// As [`Client::put_bytes`], [`Error::Io`], and [`Error::SourceChanged`] when the file changes under our hands.
    pub async fn put_file(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        path: &Path,
        options: &PutOptions,
    ) -> Result<Stored> {
        let bucket = self.bucket(bucket).await?;
        check_metadata(options)?;
        let inner = &self.inner;
        let shown = path.to_owned();
        let (file, identity, canonical) = blocking(move || {
            let failed = |error| Error::io(format!("reading {}", shown.display()), error);
            let file = File::open(&shown).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(Error::Unsupported(format!(
                    "{} is not a regular file: give its content on standard input",
                    shown.display()
                )));
            }
            let canonical = shown.canonicalize().map_err(failed)?;
            Ok((file, FileIdentity::from(&metadata), canonical))
        })
        .await?;
        let source = Arc::new(Source {
            file,
            identity,
            path: path.to_owned(),
        });
        if identity.size <= SMALL_MAX {
            let plain = {
                let source = Arc::clone(&source);
                blocking(move || source.read_all()).await?
            };
            return inner.put_small_object(&bucket, key, &plain, options).await;
        }
        inner
            .put_source(&bucket, key, &source, &canonical, options)
            .await
    }
}

const SMALL_MAX: u64 = SMALL_PLAIN_BYTES_MAX as u64;

/// A file that must not change while it is stored.
struct Source {
    file: File,
    identity: FileIdentity,
    path: std::path::PathBuf,
}

impl Source {
    fn failed(&self, error: std::io::Error) -> Error {
        match error.kind() {
            // Shorter than it was.
            std::io::ErrorKind::UnexpectedEof => Error::SourceChanged(self.path.clone()),
            _ => Error::io(format!("reading {}", self.path.display()), error),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.file
            .read_exact_at(buffer, offset)
            .map_err(|error| self.failed(error))
    }

    fn read_all(&self) -> Result<Vec<u8>> {
        let size = usize::try_from(self.identity.size)
            .map_err(|_| Error::Internal("a small file's size".to_owned()))?;
        let mut plain = vec![0; size];
        self.read_at(0, &mut plain)?;
        self.check_unchanged()?;
        Ok(plain)
    }

    fn check_unchanged(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(|error| self.failed(error))?;
        if FileIdentity::from(&metadata) == self.identity {
            Ok(())
        } else {
            Err(Error::SourceChanged(self.path.clone()))
        }
    }
}

impl Inner {
    async fn put_small_object(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        plain: &[u8],
        options: &PutOptions,
    ) -> Result<Stored> {
        let writer_key = self.writer_key(bucket).await?;
        let head = SmallHead {
            bucket: bucket.id(),
            name: key.clone(),
            writer_set: bucket.verified.writers.version(),
            time: now()?,
            predecessor: options.condition.predecessor(),
        };
        let record = SmallRecord::seal(
            &mut random::rng(),
            self.transport.deployment(),
            &self.config.identity,
            &writer_key.key,
            head,
            plain,
            options.metadata.as_deref(),
        )
        .map_err(|error| Error::Internal(error.to_string()))?;
        let entry = record.version().entry();
        let version = entry.version;
        let (cid, size_bytes) = entry
            .object()
            .ok_or_else(|| Error::Internal("a small record without an object".to_owned()))?;
        let bytes = record.encode();
        self.pace.pass(bytes.len()).await;
        let answer = self
            .put_small(&bucket.name, key, bytes, options.wait_placed)
            .await
            .map_err(|error| crate::client::no_bucket(error, &bucket.name))?;
        report(options.progress.as_ref(), plain.len());
        stored(answer, version, cid, size_bytes, 0)
    }

    /// A stream whose first chunk was read.
    async fn put_stream<R: AsyncRead + Unpin + Send>(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        first: Buffer,
        source: &mut R,
        size_hint: Option<u64>,
        options: &PutOptions,
    ) -> Result<Stored> {
        let to = Destination { bucket, key };
        let mut upload = self.begin(&to, size_hint).await?;
        let result = self
            .send_stream(&to, &mut upload, first, source, options)
            .await;
        if result.is_err() {
            self.undo(&upload).await;
        }
        result
    }

    async fn send_stream<R: AsyncRead + Unpin + Send>(
        &self,
        to: &Destination<'_>,
        upload: &mut Upload,
        first: Buffer,
        source: &mut R,
        options: &PutOptions,
    ) -> Result<Stored> {
        let geometry = to.bucket.verified.geometry;
        let full = geometry.chunk_plain_bytes();
        let sealer = self.sealer(upload, geometry)?;
        let id = upload.id;
        let pieces =
            stream::try_unfold((0, Some(first), source), |(n, ready, source)| async move {
                let (piece, more) = match ready {
                    Some(first) => {
                        let more = first.len() == full;
                        (first, more)
                    }
                    None => {
                        let mut piece = self.buffers.take();
                        piece.clear();
                        read_until(source, full, &mut piece).await?;
                        let more = piece.len() == full;
                        (piece, more)
                    }
                };
                if piece.is_empty() {
                    return Ok(None);
                }
                // Past the end the next read gives nothing, and ends the stream there.
                let next = if more { None } else { Some(self.empty()) };
                Ok::<_, Error>(Some(((n, piece), (n + 1, next, source))))
            });
        let sealer_of = &sealer;
        let mut acknowledged = pieces
            .map_ok(|(n, piece): (usize, Buffer)| async move {
                let permit = self.reserve(full * 2).await?;
                let chunk = self
                    .seal_and_send(sealer_of, &id, n, permit, move |plain| {
                        let mut piece = piece;
                        std::mem::swap(plain, &mut *piece);
                        Ok(())
                    })
                    .await?;
                Ok((n, chunk))
            })
            .try_buffer_unordered(self.config.chunks_in_flight.max(1))
            .boxed();
        let mut chunks = Vec::new();
        while let Some((n, chunk)) = acknowledged.try_next().await? {
            if n >= OBJECT_CHUNKS_MAX {
                return Err(too_large());
            }
            report(options.progress.as_ref(), chunk.plain_bytes());
            chunks.push((n, chunk));
        }
        drop(acknowledged);
        self.finish(to, upload, sealer, chunks, options, 0).await
    }

    /// A file, in pieces that are read where they are encrypted.
    async fn put_source(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        source: &Arc<Source>,
        canonical: &Path,
        options: &PutOptions,
    ) -> Result<Stored> {
        let geometry = bucket.verified.geometry;
        let full = u64::try_from(geometry.chunk_plain_bytes())
            .map_err(|_| Error::Internal("a chunk's size".to_owned()))?;
        let size = source.identity.size;
        let count = usize::try_from(size.div_ceil(full)).map_err(|_| too_large())?;
        if count > OBJECT_CHUNKS_MAX {
            return Err(too_large());
        }
        let to = Destination { bucket, key };
        let mut upload = self
            .begin_or_resume(&to, canonical, source.identity)
            .await?;
        let result = self
            .send_source(&to, &mut upload, source, (count, full), options)
            .await;
        // An upload that can be resumed waits for that; of a file that changed nothing is of use.
        if matches!(result, Err(Error::SourceChanged(_)))
            || (result.is_err() && !upload.resumable())
        {
            self.undo(&upload).await;
        }
        result
    }

    async fn send_source(
        &self,
        to: &Destination<'_>,
        upload: &mut Upload,
        source: &Arc<Source>,
        (count, full): (usize, u64),
        options: &PutOptions,
    ) -> Result<Stored> {
        let size = source.identity.size;
        let sealer = self.sealer(upload, to.bucket.verified.geometry)?;
        let id = upload.id;
        let done = std::mem::take(&mut upload.done);
        let mut chunks: Vec<(usize, ChunkEntry)> = done
            .into_iter()
            .filter(|(n, chunk)| {
                *n < count && u64::from(chunk.plain_len) == piece(*n, full, size).1
            })
            .collect();
        let resumed_bytes: u64 = chunks
            .iter()
            .map(|(_, chunk)| u64::from(chunk.plain_len))
            .sum();
        if let Some(progress) = &options.progress
            && resumed_bytes > 0
        {
            progress(resumed_bytes);
        }
        let have: std::collections::BTreeSet<usize> = chunks.iter().map(|(n, _)| *n).collect();
        let sealer_of = &sealer;
        let one = |n: usize| {
            let source = Arc::clone(source);
            async move {
                let (offset, len) = piece(n, full, size);
                let len = usize::try_from(len).map_err(|_| too_large())?;
                let permit = self.reserve(len * 2).await?;
                let chunk = self
                    .seal_and_send(sealer_of, &id, n, permit, move |plain| {
                        plain.resize(len, 0);
                        source.read_at(offset, plain)
                    })
                    .await?;
                Ok::<_, Error>((n, chunk))
            }
        };
        let mut acknowledged = stream::iter((0..count).filter(|n| !have.contains(n)))
            .map(one)
            .buffer_unordered(self.config.chunks_in_flight.max(1))
            .boxed();
        while let Some((n, chunk)) = acknowledged.try_next().await? {
            upload.acknowledged(n, &chunk)?;
            report(options.progress.as_ref(), chunk.plain_bytes());
            chunks.push((n, chunk));
        }
        drop(acknowledged);
        {
            let source = Arc::clone(source);
            blocking(move || source.check_unchanged()).await?;
        }
        self.finish(to, upload, sealer, chunks, options, resumed_bytes)
            .await
    }

    /// Seals one chunk on a blocking thread, where `fill` puts its plaintext, and sends it until it is acknowledged.
    async fn seal_and_send(
        &self,
        sealer: &Arc<ObjectSealer>,
        upload: &domain::UploadId,
        n: usize,
        permit: tokio::sync::OwnedSemaphorePermit,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<()> + Send + 'static,
    ) -> Result<ChunkEntry> {
        let (mut plain, mut ciphertext) = (self.buffers.take(), self.buffers.take());
        let sealer = Arc::clone(sealer);
        let (chunk, ciphertext) = blocking(move || {
            fill(&mut plain)?;
            let chunk = sealer
                .seal_chunk(&mut random::rng(), &plain, &mut ciphertext)
                .map_err(|error| Error::Internal(error.to_string()))?;
            Ok((ChunkEntry::from(&chunk), ciphertext))
        })
        .await?;
        self.put_chunk(upload, n, chunk.cid, ciphertext.into_bytes())
            .await?;
        drop(permit);
        Ok(chunk)
    }

    fn sealer(&self, upload: &Upload, geometry: sealed::Geometry) -> Result<Arc<ObjectSealer>> {
        // The sealer owns its DEK; the upload keeps one for the journal's sake.
        let key = crypto::Secret::from_slice(upload.dek.danger_key().expose())
            .ok_or_else(|| Error::Internal("a DEK's length".to_owned()))?;
        let dek = crypto::Dek::new(key, *self.transport.deployment());
        Ok(Arc::new(ObjectSealer::with_dek(dek, geometry)))
    }

    /// Manifest, entry, completion.
    async fn finish(
        &self,
        to: &Destination<'_>,
        upload: &Upload,
        sealer: Arc<ObjectSealer>,
        mut chunks: Vec<(usize, ChunkEntry)>,
        options: &PutOptions,
        resumed_bytes: u64,
    ) -> Result<Stored> {
        let mut sealer = Arc::into_inner(sealer)
            .ok_or_else(|| Error::Internal("a chunk is still being encrypted".to_owned()))?;
        chunks.sort_unstable_by_key(|(n, _)| *n);
        let failed = |error: sealed::manifest::ManifestError| Error::Internal(error.to_string());
        // Pages go ahead of the completion one by one: those of a large object would not fit it.
        for (_, chunk) in chunks {
            if let Some(page) = sealer.push(chunk).map_err(failed)? {
                self.put_page(&upload.id, page.index, page.bytes).await?;
            }
        }
        let (dek, finished) = sealer.finish().map_err(failed)?;
        if let Some(page) = finished.last_page {
            self.put_page(&upload.id, page.index, page.bytes).await?;
        }
        let writer_key = self.writer_key(to.bucket).await?;
        let version = new_version()?;
        let (bucket, rng) = (to.bucket.id(), &mut random::rng());
        let metadata = options.metadata.as_deref();
        let entry = Entry {
            bucket,
            name: to.key.clone(),
            version,
            writer: self.config.identity.principal(),
            writer_set: to.bucket.verified.writers.version(),
            time: now()?,
            target: Target::Object {
                manifest: finished.cid,
                size: finished.manifest.size(),
            },
            predecessor: options.condition.predecessor(),
            metadata: metadata.map(|plain| dek.seal_metadata(rng, &bucket, &version, plain)),
        };
        let protection = Protection {
            bucket_key: writer_key.key.id,
            wrapped_dek: writer_key.key.wrap_dek(rng, &version, &dek),
        };
        let entry = entry.sign(&self.config.identity, self.transport.deployment());
        let record = VersionRecord::object(entry, protection, Vec::new())
            .map_err(|error| Error::Internal(error.to_string()))?;
        let body = CompleteBody {
            version_record: record.encode(),
            manifest: finished.root,
            pages: Vec::new(),
        };
        let answer = self
            .complete(&upload.id, &body, options.wait_placed)
            .await?;
        upload.forget()?;
        stored(
            answer,
            version,
            finished.cid,
            finished.manifest.size(),
            resumed_bytes,
        )
    }

    /// Gives the space back. When that fails too, the gateway does it within a day.
    async fn undo(&self, upload: &Upload) {
        let ended = self.abort_upload(&upload.id).await;
        if let Err(error) = ended.and_then(|()| upload.forget()) {
            tracing::debug!(%error, "an upload could not be ended");
        }
    }

    fn empty(&self) -> Buffer {
        let mut buffer = self.buffers.take();
        buffer.clear();
        buffer
    }
}

/// Offset and length of piece `n`.
fn piece(n: usize, full: u64, size: u64) -> (u64, u64) {
    let offset = u64::try_from(n).unwrap_or(u64::MAX).saturating_mul(full);
    (offset, size.saturating_sub(offset).min(full))
}

/// Fills `buffer` up to `len`, or to the end of the source.
async fn read_until<R: AsyncRead + Unpin>(
    source: &mut R,
    len: usize,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let missing = len.saturating_sub(buffer.len());
    let limit = u64::try_from(missing).unwrap_or(u64::MAX);
    source
        .take(limit)
        .read_to_end(buffer)
        .await
        .map(|_| ())
        .map_err(|error| Error::io("reading the source", error))
}

fn check_metadata(options: &PutOptions) -> Result<()> {
    // Sealing adds a salt and a tag of 16 bytes each.
    match &options.metadata {
        Some(plain) if plain.len() + 32 > METADATA_BYTES_MAX => Err(Error::Unsupported(format!(
            "user metadata has at most {} bytes, this has {}",
            METADATA_BYTES_MAX - 32,
            plain.len()
        ))),
        _ => Ok(()),
    }
}

fn too_large() -> Error {
    Error::Unsupported("too large for one object: about 6 TiB is the most; split it".to_owned())
}

pub(crate) fn new_version() -> Result<VersionId> {
    let mut version = [0; VersionId::LEN];
    random::fill(&mut version)?;
    Ok(VersionId(version))
}

fn stored(
    answer: PutAnswer,
    version: VersionId,
    cid: Cid,
    size_bytes: u64,
    resumed_bytes: u64,
) -> Result<Stored> {
    if answer.version != version {
        return Err(Error::Protocol {
            what: "storing an object",
            reason: format!("it acknowledged version {}, not {version}", answer.version),
        });
    }
    Ok(Stored {
        answer,
        cid,
        size_bytes,
        resumed_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_file_without_gap_or_overlap() {
        for (size, full) in [(1_u64, 10), (10, 10), (11, 10), (99, 10), (100, 10)] {
            let count = usize::try_from(size.div_ceil(full)).unwrap();
            let mut next = 0;
            for n in 0..count {
                let (offset, len) = piece(n, full, size);
                assert_eq!(offset, next);
                assert!(len > 0 && len <= full);
                next += len;
            }
            assert_eq!(next, size);
        }
    }

    #[tokio::test]
    async fn reads_stop_at_the_length_or_the_end() {
        let mut buffer = vec![1];
        let mut source: &[u8] = &[2, 3, 4];
        read_until(&mut source, 3, &mut buffer).await.unwrap();
        assert_eq!(buffer, [1, 2, 3]);
        read_until(&mut source, 9, &mut buffer).await.unwrap();
        assert_eq!(buffer, [1, 2, 3, 4]);
    }
}
