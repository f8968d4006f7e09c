//! Local state of an upload that can be resumed: which chunks of which file are acknowledged, under which DEK.
//!
//! Salts and CIDs are public; the DEK is sealed to the identity. A resumed upload skips acknowledged chunks and encrypts
//! the rest anew under fresh salts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crypto::{ChunkSalt, Dek, Secret};
use domain::{BucketId, Cid, ObjectKey, TimestampMs, UploadId};
use sealed::{ChunkEntry, Geometry};
use serde::{Deserialize, Serialize};
use wire::problem::Code;

use crate::client::Inner;
use crate::error::{Error, Result};
use crate::random;
use crate::state::{self, Journal};
use crate::transport::now;

const STATE_VERSION: u32 = 1;
/// The gateway undoes uploads that are a day old.
const UPLOAD_MS_MAX: u64 = 23 * 3_600_000;

/// What a file was when it was looked at. Any change makes another file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileIdentity {
    device: u64,
    inode: u64,
    pub(crate) size: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl From<&std::fs::Metadata> for FileIdentity {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// First line of the journal.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    upload: UploadId,
    bucket: BucketId,
    file: FileIdentity,
    chunk_blocks: u8,
    created: TimestampMs,
    /// The DEK, sealed to the identity for this upload.
    #[serde(with = "wire::rest::base64url")]
    dek: Vec<u8>,
}

/// One acknowledged chunk.
#[derive(Serialize, Deserialize)]
struct Line {
    n: usize,
    #[serde(with = "wire::rest::base64url")]
    salt: Vec<u8>,
    len: u32,
    cid: Cid,
}

/// An upload in progress with its journal, if it can be resumed.
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    pub(crate) dek: Dek,
    /// Acknowledged earlier, by index.
    pub(crate) done: BTreeMap<usize, ChunkEntry>,
    journal: Option<Journal>,
    path: Option<PathBuf>,
}

impl Upload {
    /// Notes an acknowledged chunk.
    pub(crate) fn acknowledged(&mut self, n: usize, chunk: &ChunkEntry) -> Result<()> {
        match &mut self.journal {
            None => Ok(()),
            Some(journal) => journal.append(&Line {
                n,
                salt: chunk.salt.0.to_vec(),
                len: chunk.plain_len,
                cid: chunk.cid,
            }),
        }
    }

    /// Forgets it: completed or ended.
    pub(crate) fn forget(&self) -> Result<()> {
        match &self.path {
            None => Ok(()),
            Some(path) => state::remove(path),
        }
    }

    /// Whether a later run can go on.
    pub(crate) fn resumable(&self) -> bool {
        self.journal.is_some()
    }
}

/// Where an upload goes.
pub(crate) struct Destination<'a> {
    pub(crate) bucket: &'a crate::Bucket,
    pub(crate) key: &'a ObjectKey,
}

impl Inner {
    /// An upload that is not resumed: from a stream.
    pub(crate) async fn begin(
        &self,
        to: &Destination<'_>,
        size_bytes: Option<u64>,
    ) -> Result<Upload> {
        let info = self
            .create_upload(&to.bucket.name, to.key, size_bytes)
            .await
            .map_err(|error| crate::client::no_bucket(error, &to.bucket.name))?;
        let deployment = *self.transport.deployment();
        Ok(Upload {
            id: info.upload,
            dek: Dek::random(&mut random::rng(), deployment),
            done: BTreeMap::new(),
            journal: None,
            path: None,
        })
    }

    /// Goes on with the upload of this very file to this very key, or begins one.
    pub(crate) async fn begin_or_resume(
        &self,
        to: &Destination<'_>,
        source: &Path,
        file: FileIdentity,
    ) -> Result<Upload> {
        let geometry = to.bucket.verified.geometry;
        let path = self.state.upload(&[
            to.bucket.id().as_bytes(),
            to.key.as_str().as_bytes(),
            source.as_os_str().as_encoded_bytes(),
        ]);
        if let Some((head, lines)) = state::read_journal::<Head, Line>(&path)? {
            if let Some(upload) = self.resume(&path, &head, lines, file, geometry).await? {
                return Ok(upload);
            }
            // The file changed, or the upload is too old: its chunks are of no more use. If it is gone already, so be it.
            if let Err(error) = self.abort_upload(&head.upload).await {
                tracing::debug!(%error, "a stale upload could not be ended");
            }
            state::remove(&path)?;
        }
        let mut upload = self.begin(to, Some(file.size)).await?;
        let created = now()?;
        let dek = self.config.identity.seal_local(
            &mut random::rng(),
            self.transport.deployment(),
            &context(&to.bucket.id(), &upload.id),
            upload.dek.danger_key().expose(),
        );
        let head = Head {
            v: STATE_VERSION,
            upload: upload.id,
            bucket: to.bucket.id(),
            file,
            chunk_blocks: geometry.chunk_blocks(),
            created,
            dek,
        };
        upload.journal = Some(Journal::create(&path, &head)?);
        upload.path = Some(path);
        Ok(upload)
    }

    async fn resume(
        &self,
        path: &Path,
        head: &Head,
        lines: Vec<Line>,
        file: FileIdentity,
        geometry: Geometry,
    ) -> Result<Option<Upload>> {
        let age = now()?.0.checked_sub(head.created.0);
        let current = head.v == STATE_VERSION
            && head.file == file
            && head.chunk_blocks == geometry.chunk_blocks()
            && age.is_some_and(|age| age < UPLOAD_MS_MAX);
        if !current {
            return Ok(None);
        }
        let Some(dek) = self.open_dek(head) else {
            return Ok(None);
        };
        let Some(acknowledged) = self.acknowledged(&head.upload).await? else {
            return Ok(None);
        };
        let done = lines
            .into_iter()
            .filter(|line| {
                acknowledged
                    .get(&line.n)
                    .is_some_and(|cids| cids.contains(&line.cid))
            })
            .filter_map(|line| {
                let salt = ChunkSalt(line.salt.try_into().ok()?);
                let chunk = ChunkEntry {
                    salt,
                    plain_len: line.len,
                    cid: line.cid,
                };
                Some((line.n, chunk))
            })
            .collect();
        Ok(Some(Upload {
            id: head.upload,
            dek,
            done,
            journal: Some(Journal::open(path)?),
            path: Some(path.to_owned()),
        }))
    }

    fn open_dek(&self, head: &Head) -> Option<Dek> {
        let deployment = self.transport.deployment();
        let context = context(&head.bucket, &head.upload);
        let key = self
            .config
            .identity
            .open_local(deployment, &context, &head.dek)?;
        Some(Dek::new(Secret::from_slice(&key)?, *deployment))
    }

    /// What the gateway has acknowledged, by index; `None` when the upload is gone or completed.
    async fn acknowledged(&self, upload: &UploadId) -> Result<Option<BTreeMap<usize, Vec<Cid>>>> {
        let mut slots: BTreeMap<usize, Vec<Cid>> = BTreeMap::new();
        let mut from = 0;
        loop {
            let status = match self.upload_status(upload, from).await {
                Ok(status) => status,
                Err(error) if error.code() == Some(Code::NotFound) => return Ok(None),
                Err(error) => return Err(error),
            };
            if status.completed.is_some() {
                return Ok(None);
            }
            for slot in status.slots.iter().filter(|slot| slot.acknowledged) {
                let n = usize::try_from(slot.n)
                    .map_err(|_| Error::Internal("a chunk's index".to_owned()))?;
                slots.entry(n).or_default().push(slot.cid);
            }
            match status.next {
                // A gateway that sends the same page again would keep us here for ever.
                Some(next) if next > from => from = next,
                _ => return Ok(Some(slots)),
            }
        }
    }
}

fn context(bucket: &BucketId, upload: &UploadId) -> Vec<u8> {
    [b"upload".as_slice(), bucket.as_bytes(), upload.as_bytes()].concat()
}
