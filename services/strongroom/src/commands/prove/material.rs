//! What a proof stores: a file made on the spot, and the files of a folder.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;

use crate::failure::{Failure, Outcome};
use crate::files::{Excludes, walk};
use crate::platform::DataFolder;

/// Folders that hold no sources.
const LEFT_OUT: [&str; 4] = ["target", "data", ".git", "node_modules"];

/// A file with the digest that it had before it was stored.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it is.
    pub path: PathBuf,
    /// Its key in the bucket.
    pub key: String,
    /// Its size.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub digest: blake3::Hash,
}

/// Makes a file of random bytes.
///
/// # Errors
/// When it cannot be written.
pub fn make_file(path: &Path, bytes: u64) -> Outcome<Item> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| Failure::usage(format!("the system gave no randomness: {error}")))?;
    let mut stream = blake3::Hasher::new_keyed(&seed).finalize_xof();
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let piece = buffer.get_mut(..count).unwrap_or_default();
        stream.fill(piece);
        hasher.update(piece);
        file.write_all(piece).map_err(failed)?;
        left -= u64::try_from(count).unwrap_or(left);
    }
    Ok(Item {
        path: path.to_owned(),
        key: "file.bin".to_owned(),
        bytes,
        digest: hasher.finalize(),
    })
}

/// The files of a folder: those that git tracks there, or all but build output.
///
/// # Errors
/// When a file cannot be read.
pub fn collect(root: &Path, data: &DataFolder) -> Outcome<Vec<Item>> {
    let relatives = match tracked(root) {
        Some(files) => files,
        None => {
            let excludes = Excludes::new(&LEFT_OUT.map(str::to_owned))?;
            walk(root, &excludes)
                .files
                .into_iter()
                .map(|file| file.relative)
                .collect()
        }
    };
    let mut items = Vec::with_capacity(relatives.len());
    for relative in relatives {
        let path = root.join(&relative);
        let regular = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
        let inside = std::path::absolute(&path).is_ok_and(|path| path.starts_with(data.path()));
        if !regular || inside {
            continue;
        }
        let (bytes, digest) = digest(&path)?;
        items.push(Item {
            path,
            key: format!("files/{relative}"),
            bytes,
            digest,
        });
    }
    Ok(items)
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let names = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty());
    let names: Vec<String> = names
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .collect();
    (!names.is_empty()).then_some(names)
}

fn digest(path: &Path) -> Outcome<(u64, blake3::Hash)> {
    let failed = |error: std::io::Error| Failure::file("read", path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            return Ok((hasher.count(), hasher.finalize()));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
    }
}

/// Hashes what is written to it.
#[derive(Debug, Default)]
pub struct HashSink {
    hasher: blake3::Hasher,
}

impl HashSink {
    /// BLAKE3 of everything so far.
    pub fn digest(&self) -> blake3::Hash {
        self.hasher.finalize()
    }
}

impl AsyncWrite for HashSink {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.hasher.update(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_made_file_has_its_size_and_digest_and_is_never_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let first = make_file(&path, (2 << 20) + 17).unwrap();
        let (bytes, found) = digest(&path).unwrap();
        assert_eq!((bytes, found), (first.bytes, first.digest));
        assert_eq!(bytes, (2 << 20) + 17);
        assert_ne!(
            make_file(&path, (2 << 20) + 17).unwrap().digest,
            first.digest
        );
        assert_eq!(make_file(&path, 0).unwrap().digest, blake3::hash(b""));
    }

    #[test]
    fn a_folder_is_collected_without_build_output_and_the_data_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "sub/b", "target/x", "platform/gateway/y"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let data = DataFolder::new(&dir.path().join("platform"));
        let keys: Vec<String> = collect(dir.path(), &data)
            .unwrap()
            .into_iter()
            .map(|item| item.key)
            .collect();
        assert_eq!(keys, ["files/a", "files/sub/b"]);
    }
}
