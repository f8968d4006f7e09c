//! Downloads to a file: chunks are opened and written where they belong, in any order, into a file beside the target
//! that takes its name at the end. An interrupted one goes on where it stopped; what is there is hashed first.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::{BucketName, Cid, ObjectKey, VersionId};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sealed::ChunkRead;
use serde::{Deserialize, Serialize};

use crate::Progress;
use crate::client::{Client, Inner};
use crate::error::{Error, Result};
use crate::get::{ObjectHead, Opened, Plain, report};
use crate::key::blocking;
use crate::state::{self, Journal};

const STATE_VERSION: u32 = 1;
/// Bytes hashed at a time when a download goes on.
const HASH_BYTES: usize = 1 << 20;

/// What [`Client::get_file`] wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// The version.
    pub head: ObjectHead,
    /// Bytes that an earlier, interrupted run had written and that were checked again.
    pub resumed_bytes: u64,
}

/// First line of the journal: for another version it starts afresh.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    v: u32,
    version: VersionId,
    cid: Cid,
    size: u64,
}

/// One chunk whose plaintext is in the file.
#[derive(Serialize, Deserialize)]
struct Line {
    n: usize,
    /// BLAKE3 of the plaintext.
    #[serde(with = "wire::rest::base64url")]
    hash: Vec<u8>,
}

impl Client {
    /// Writes an object to a file, which appears complete and verified or not at all. An interrupted run is resumed by
    /// the next one with the same object and path.
    ///
    /// # Errors
    /// As [`Client::get`], and [`Error::Io`] for the file.
    pub async fn get_file(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        path: &Path,
        verify_full: bool,
        progress: Option<Progress>,
    ) -> Result<Downloaded> {
        let opened = self.inner.open(bucket, key).await?;
        let target = Target::new(path)?;
        if let Some(plain) = opened.open_small()? {
            let len = plain.len();
            blocking(move || {
                fs::write(&target.part, &plain).map_err(|error| {
                    Error::io(format!("writing {}", target.part.display()), error)
                })?;
                let file = target.open_part()?;
                target.finish(&file)
            })
            .await?;
            report(progress.as_ref(), len);
            return Ok(Downloaded {
                head: opened.head,
                resumed_bytes: 0,
            });
        }
        self.inner
            .download(opened, target, verify_full, progress)
            .await
    }
}

/// The file to be written, and the one beside it that is written first.
#[derive(Clone, Debug)]
struct Target {
    path: PathBuf,
    part: PathBuf,
    folder: PathBuf,
}

impl Target {
    fn new(path: &Path) -> Result<Self> {
        // A device or a pipe would be replaced by a file of its name.
        if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            return Err(Error::Unsupported(format!(
                "{} is there and is not a regular file: what is read takes a file's place when it is whole; read it as a stream instead",
                path.display()
            )));
        }
        let name = path.file_name().ok_or_else(|| {
            Error::Unsupported(format!("{} is not the name of a file", path.display()))
        })?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
            _ => PathBuf::from("."),
        };
        let folder = folder
            .canonicalize()
            .map_err(|error| Error::io(format!("folder {}", folder.display()), error))?;
        let mut part = OsString::from(".");
        part.push(name);
        part.push(".strongroom.part");
        Ok(Self {
            path: folder.join(name),
            part: folder.join(part),
            folder,
        })
    }

    fn open_part(&self) -> Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&self.part)
            .map_err(|error| self.failed(error))
    }

    /// Makes the content durable, then visible under its name.
    fn finish(&self, file: &File) -> Result<()> {
        let visible = || -> std::io::Result<()> {
            file.sync_all()?;
            fs::rename(&self.part, &self.path)?;
            File::open(&self.folder)?.sync_all()
        };
        visible().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::io(format!("writing {}", self.path.display()), error)
    }
}

impl Inner {
    async fn download(
        self: &Arc<Self>,
        mut opened: Opened,
        target: Target,
        verify_full: bool,
        progress: Option<Progress>,
    ) -> Result<Downloaded> {
        let size = opened.head.size_bytes;
        let journal_path = self.state.download(&[
            opened.bucket.id().as_bytes(),
            opened.head.key.as_str().as_bytes(),
            target.path.as_os_str().as_encoded_bytes(),
        ]);
        let head = Head {
            v: STATE_VERSION,
            version: opened.head.version,
            cid: opened.head.cid,
            size,
        };
        let (file, mut journal, had) = {
            let target = target.clone();
            let journal_path = journal_path.clone();
            blocking(move || start(&target, &journal_path, &head)).await?
        };
        let file = Arc::new(file);
        let mut resumed_bytes = 0;
        let mut start_of_window = 0;
        for window in opened.windows(&(0..size)) {
            let reads = self.window_reads(&mut opened, &window).await?;
            let mut offset = start_of_window;
            let mut wanted = Vec::with_capacity(reads.len());
            for read in reads {
                let len = u64::from(read.chunk.plain_len);
                match had.get(&read.index) {
                    Some(hash) if holds(&file, &target, offset, len, *hash).await? => {
                        resumed_bytes += len;
                        report(progress.as_ref(), read.take);
                    }
                    _ => wanted.push((read, offset)),
                }
                offset += len;
            }
            start_of_window = offset;
            let (this, opened, file, target) = (self, &opened, &file, &target);
            let one = |(read, offset): (ChunkRead, u64)| async move {
                let plain = this.read_chunk(opened, &read, verify_full).await?;
                let line = write_chunk(file, target, read.index, offset, plain).await?;
                Ok::<_, Error>((line, read.take))
            };
            let mut written = stream::iter(wanted)
                .map(one)
                .buffer_unordered(self.config.chunks_in_flight.max(1))
                .boxed();
            while let Some((line, len)) = written.try_next().await? {
                journal.append(&line)?;
                report(progress.as_ref(), len);
            }
        }
        blocking(move || {
            target.finish(&file)?;
            state::remove(&journal_path)
        })
        .await?;
        Ok(Downloaded {
            head: opened.head,
            resumed_bytes,
        })
    }
}

/// Opens the file beside the target and the journal: those of an interrupted run when they are for this version.
fn start(
    target: &Target,
    journal_path: &Path,
    head: &Head,
) -> Result<(File, Journal, BTreeMap<usize, [u8; 32]>)> {
    let file = target.open_part()?;
    let len = file.metadata().map_err(|error| target.failed(error))?.len();
    if let Some((known, lines)) = state::read_journal::<Head, Line>(journal_path)?
        && known == *head
        && len == head.size
    {
        let had = lines
            .into_iter()
            .filter_map(|line| Some((line.n, <[u8; 32]>::try_from(line.hash).ok()?)))
            .collect();
        return Ok((file, Journal::open(journal_path)?, had));
    }
    // Emptied first, so that nothing of another version is left; then as long as it will be, so that a full disk is found
    // by its own error and not by a short file.
    file.set_len(0)
        .and_then(|()| file.set_len(head.size))
        .map_err(|error| target.failed(error))?;
    let journal = Journal::create(journal_path, head)?;
    Ok((file, journal, BTreeMap::new()))
}

/// Whether the file has, at `offset`, the plaintext that was verified when it was written.
async fn holds(
    file: &Arc<File>,
    target: &Target,
    offset: u64,
    len: u64,
    hash: [u8; 32],
) -> Result<bool> {
    let (file, target) = (Arc::clone(file), target.clone());
    blocking(move || {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; HASH_BYTES];
        let mut done = 0;
        while done < len {
            let step = usize::try_from(len - done).map_or(HASH_BYTES, |left| left.min(HASH_BYTES));
            let part = buffer.get_mut(..step).unwrap_or_default();
            file.read_exact_at(part, offset + done)
                .map_err(|error| target.failed(error))?;
            hasher.update(part);
            done += u64::try_from(step).unwrap_or(len);
        }
        Ok(*hasher.finalize().as_bytes() == hash)
    })
    .await
}

async fn write_chunk(
    file: &Arc<File>,
    target: &Target,
    n: usize,
    offset: u64,
    plain: Plain,
) -> Result<Line> {
    let (file, target) = (Arc::clone(file), target.clone());
    blocking(move || {
        file.write_all_at(&plain.buffer, offset)
            .map_err(|error| target.failed(error))?;
        Ok(Line {
            n,
            hash: blake3::hash(&plain.buffer).as_bytes().to_vec(),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(version: u8) -> Head {
        Head {
            v: STATE_VERSION,
            version: VersionId([version; 16]),
            cid: Cid::of(domain::Codec::DagCbor, b"manifest"),
            size: 10,
        }
    }

    #[tokio::test]
    async fn what_an_interrupted_run_wrote_is_checked_before_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::new(&dir.path().join("out")).unwrap();
        let journal_path = dir.path().join("journal");
        let (file, mut journal, had) = start(&target, &journal_path, &head(1)).unwrap();
        assert!(had.is_empty());
        file.write_all_at(b"01234", 0).unwrap();
        let hash = blake3::hash(b"01234");
        journal
            .append(&Line {
                n: 0,
                hash: hash.as_bytes().to_vec(),
            })
            .unwrap();

        let (file, _journal, had) = start(&target, &journal_path, &head(1)).unwrap();
        assert_eq!(had.get(&0), Some(hash.as_bytes()));
        let file = Arc::new(file);
        assert!(holds(&file, &target, 0, 5, *hash.as_bytes()).await.unwrap());
        file.write_all_at(b"X", 2).unwrap();
        assert!(!holds(&file, &target, 0, 5, *hash.as_bytes()).await.unwrap());

        let (file, _journal, had) = start(&target, &journal_path, &head(2)).unwrap();
        assert!(had.is_empty());
        let mut content = [1; 10];
        file.read_exact_at(&mut content, 0).unwrap();
        assert_eq!(content, [0; 10]);
    }

    #[test]
    fn the_target_appears_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let target = Target::new(&path).unwrap();
        let file = target.open_part().unwrap();
        file.write_all_at(b"done", 0).unwrap();
        assert!(!path.exists());
        target.finish(&file).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"done");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Target::new(Path::new("/")).is_err());
        assert!(Target::new(&dir.path().join("none/out")).is_err());
    }
}
