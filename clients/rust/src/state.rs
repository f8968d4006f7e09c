//! What a client remembers on its own machine: pins, sealed bucket keys, transfers that can be resumed.
//!
//! ```text
//! STATE/endpoints/<hash>                                   deployment id found at first use (text)
//! STATE/<deployment>/<principal>/buckets/<name>            bucket id and owner-signed record (JSON)
//! STATE/<deployment>/<principal>/bucket-keys/<bucket id>   the writer's bucket key, sealed to the identity (JSON)
//! STATE/<deployment>/<principal>/uploads/<hash>            an upload in progress (JSON lines)
//! STATE/<deployment>/<principal>/downloads/<hash>          a download in progress (JSON lines)
//! ```
//! Folders have mode 0700, files 0600. A file is replaced in one step (written beside, synced, renamed), so that a
//! crash leaves the old or the new one. What is secret is sealed to the identity; what is not can be read by its owner.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use domain::{DeploymentId, Principal};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::random;

/// Bytes of a state file that are read, at most: an upload of 1,572,864 chunks at about 150 bytes a line.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The folder of one deployment and principal.
#[derive(Clone, Debug)]
pub(crate) struct State {
    root: PathBuf,
}

impl State {
    pub(crate) fn open(
        state_dir: &Path,
        deployment: &DeploymentId,
        me: &Principal,
    ) -> Result<Self> {
        let root = state_dir.join(deployment.to_string()).join(me.to_string());
        for part in ["buckets", "bucket-keys", "uploads", "downloads"] {
            make_dir(&root.join(part))?;
        }
        Ok(Self { root })
    }

    pub(crate) fn bucket(&self, name: &str) -> PathBuf {
        // A bucket's name has only a-z, 0-9, `.` and `-`, and begins with a letter or digit: no path in it.
        self.root.join("buckets").join(name)
    }

    pub(crate) fn bucket_key(&self, bucket: &str) -> PathBuf {
        self.root.join("bucket-keys").join(bucket)
    }

    pub(crate) fn upload(&self, parts: &[&[u8]]) -> PathBuf {
        self.root.join("uploads").join(hash(parts))
    }

    pub(crate) fn download(&self, parts: &[&[u8]]) -> PathBuf {
        self.root.join("downloads").join(hash(parts))
    }
}

/// The deployment that was found at this endpoint at first use.
///
/// # Errors
/// [`Error::State`] when the pin cannot be read.
pub fn endpoint_pin(state_dir: &Path, endpoint: &str) -> Result<Option<DeploymentId>> {
    let path = endpoint_path(state_dir, endpoint);
    match read(&path)? {
        None => Ok(None),
        Some(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map(Some)
            .ok_or_else(|| damaged(&path, "not a deployment id")),
    }
}

/// Remembers the deployment found at this endpoint.
pub(crate) fn pin_endpoint(state_dir: &Path, endpoint: &str, id: &DeploymentId) -> Result<()> {
    let path = endpoint_path(state_dir, endpoint);
    make_dir(&state_dir.join("endpoints"))?;
    write(&path, format!("{id}\n").as_bytes())
}

fn endpoint_path(state_dir: &Path, endpoint: &str) -> PathBuf {
    state_dir
        .join("endpoints")
        .join(hash(&[endpoint.as_bytes()]))
}

/// A file name for parts of any length and alphabet. Each part is preceded by its length, so none runs into the next.
fn hash(parts: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().to_hex().to_string()
}

/// The file's JSON, `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match read(path)? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| damaged(path, error)),
    }
}

/// Replaces the file in one step.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| damaged(path, error))?;
    write(path, &bytes)
}

/// The file's bytes, `None` when there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(damaged(path, error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| damaged(path, error))?;
    Ok(Some(bytes))
}

/// Replaces the file in one step: written beside, synced, renamed.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut nonce = [0; 8];
    random::fill(&mut nonce)?;
    let beside = path.with_extension(format!("{:016x}.new", u64::from_be_bytes(nonce)));
    let replace = || -> std::io::Result<()> {
        let mut file = private(OpenOptions::new().create_new(true).write(true)).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    replace().map_err(|error| {
        // What was written beside is of no use; that it stays is not worth a second error.
        let _ = fs::remove_file(&beside);
        damaged(path, error)
    })
}

/// Removes the file if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(damaged(path, error)),
        _ => Ok(()),
    }
}

/// A file that grows by whole JSON lines.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
}

impl Journal {
    /// Starts a new one with `head` as its first line, in place of an old one.
    pub(crate) fn create<T: Serialize>(path: &Path, head: &T) -> Result<Self> {
        let mut line = serde_json::to_vec(head).map_err(|error| damaged(path, error))?;
        line.push(b'\n');
        write(path, &line)?;
        Self::open(path)
    }

    /// Continues an existing one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = private(OpenOptions::new().append(true))
            .open(path)
            .map_err(|error| damaged(path, error))?;
        Ok(Self {
            file,
            path: path.to_owned(),
        })
    }

    /// Adds a line. Not synced: a line lost to a power cut costs one chunk that is sent again.
    pub(crate) fn append<T: Serialize>(&mut self, entry: &T) -> Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(|error| damaged(&self.path, error))?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(|error| damaged(&self.path, error))
    }
}

/// The head and the entries of a journal. A torn last line (a crash in the middle of a write) ends it; `None` when there
/// is no journal or not even a head.
pub(crate) fn read_journal<H: DeserializeOwned, E: DeserializeOwned>(
    path: &Path,
) -> Result<Option<(H, Vec<E>)>> {
    let Some(bytes) = read(path)? else {
        return Ok(None);
    };
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let Some(head) = lines
        .next()
        .and_then(|line| serde_json::from_slice::<H>(line).ok())
    else {
        return Ok(None);
    };
    let entries = lines
        .take_while(|line| line.ends_with(b"\n"))
        .map_while(|line| serde_json::from_slice::<E>(line).ok())
        .collect();
    Ok(Some((head, entries)))
}

pub(crate) fn make_dir(path: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| damaged(path, error))
}

fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

fn damaged(path: &Path, reason: impl ToString) -> Error {
    Error::State {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn state() -> (tempfile::TempDir, State) {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(dir.path(), &DeploymentId([1; 32]), &Principal([2; 32])).unwrap();
        (dir, state)
    }

    #[test]
    fn files_are_private_and_replaced_whole() {
        let (_dir, state) = state();
        let path = state.bucket("photos");
        assert!(read_json::<u32>(&path).unwrap().is_none());
        write_json(&path, &1).unwrap();
        write_json(&path, &2).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(2));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    #[test]
    fn a_torn_line_ends_a_journal() {
        let (_dir, state) = state();
        let path = state.upload(&[b"a", b"b"]);
        let mut journal = Journal::create(&path, &"head").unwrap();
        journal.append(&1).unwrap();
        drop(journal);
        let mut journal = Journal::open(&path).unwrap();
        journal.append(&2).unwrap();
        journal.file.write_all(b"3").unwrap();
        let (head, entries) = read_journal::<String, u32>(&path).unwrap().unwrap();
        assert_eq!((head.as_str(), entries), ("head", vec![1, 2]));
        fs::write(&path, b"").unwrap();
        assert!(read_journal::<String, u32>(&path).unwrap().is_none());
    }

    #[test]
    fn a_damaged_state_file_is_named() {
        let (_dir, state) = state();
        let path = state.bucket("photos");
        fs::write(&path, b"{").unwrap();
        let error = read_json::<u32>(&path).unwrap_err();
        assert!(error.to_string().contains("photos"), "{error}");
    }

    #[test]
    fn names_of_parts_do_not_run_into_each_other() {
        let (_dir, state) = state();
        assert_ne!(state.upload(&[b"ab", b"c"]), state.upload(&[b"a", b"bc"]));
    }

    #[test]
    fn endpoints_are_pinned_to_a_deployment() {
        let (dir, _state) = state();
        assert_eq!(endpoint_pin(dir.path(), "http://x").unwrap(), None);
        pin_endpoint(dir.path(), "http://x", &DeploymentId([9; 32])).unwrap();
        assert_eq!(
            endpoint_pin(dir.path(), "http://x").unwrap(),
            Some(DeploymentId([9; 32]))
        );
        assert_eq!(endpoint_pin(dir.path(), "http://y").unwrap(), None);
    }
}
