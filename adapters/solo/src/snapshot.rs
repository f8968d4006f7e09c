//! Snapshots: the whole state at a height, so that little of the log is read at a start.
//!
//! `SRLS` || u32 version 1 || u32 length of the header || header || u32 length of the certificate || certificate || u64 number of entries ||
//! entries || BLAKE3 of everything before (32 bytes). An entry is u32 length of the key || u32 length of the value || key || value, in the
//! order of their places in the tree. Written under another name, synced, then renamed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Height;
use ledger::header::{Certificate, Header};
use ledger::merkle::Tree;
use ledger::port::FinalHeader;
use ledger::state::Entries;
use ledger::{Genesis, Record as _, State};

use crate::disk::{Disk, DiskFile};

const MAGIC: [u8; 4] = *b"SRLS";
const VERSION: u32 = 1;
/// Bytes of a key or value, at most.
const ITEM_BYTES_MAX: usize = 1 << 20;
const PIECE_BYTES: usize = 1 << 20;

pub(crate) fn path(dir: &Path, height: Height) -> PathBuf {
    dir.join(format!("snapshot-{:016x}", height.0))
}

/// Why a snapshot is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("damaged: {0}")]
    Damaged(&'static str),
}

/// Writes a snapshot durably; gives its length in bytes.
pub(crate) fn write(
    disk: &dyn Disk,
    dir: &Path,
    last: &FinalHeader,
    tree: &Tree,
) -> io::Result<u64> {
    let temporary = dir.join("snapshot.tmp");
    let file = disk.open(&temporary)?;
    file.set_len(0)?;
    let mut writer = Writer {
        file: &*file,
        hasher: blake3::Hasher::new(),
        buffer: Vec::with_capacity(PIECE_BYTES + (64 << 10)),
        offset: 0,
    };
    writer.put(&MAGIC)?;
    writer.put(&VERSION.to_be_bytes())?;
    for part in [last.header.encode(), last.certificate.encode()] {
        writer.put(&len32(&part))?;
        writer.put(&part)?;
    }
    writer.put(&u64::try_from(tree.len()).unwrap_or(u64::MAX).to_be_bytes())?;
    for (key, value) in tree.entries() {
        writer.put(&len32(key))?;
        writer.put(&len32(value))?;
        writer.put(key)?;
        writer.put(value)?;
    }
    let sum = *writer.hasher.finalize().as_bytes();
    writer.put(&sum)?;
    writer.flush()?;
    let len = writer.offset;
    file.sync_data()?;
    drop(file);
    disk.rename(&temporary, &path(dir, last.header.height))?;
    disk.sync_dir(dir)?;
    Ok(len)
}

fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()
}

struct Writer<'a> {
    file: &'a dyn DiskFile,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    offset: u64,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write(&self.buffer, self.offset)?;
        self.offset += u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.clear();
        Ok(())
    }
}

/// Reads a snapshot and checks that it comes to its header's root.
pub(crate) fn read(
    disk: &dyn Disk,
    dir: &Path,
    height: Height,
    genesis: &Genesis,
) -> Result<(FinalHeader, State), SnapshotError> {
    let file = disk.open(&path(dir, height))?;
    let len = file.len()?;
    let mut source = Source {
        file: Some(&*file),
        left: len.saturating_sub(32),
        hasher: blake3::Hasher::new(),
        buffer: Vec::new(),
        at: 0,
        offset: 0,
    };
    let (last, entries) = parse(&mut source)?;
    let sum = *source.hasher.finalize().as_bytes();
    let mut stored = [0; 32];
    file.read(len.saturating_sub(32), &mut stored)?;
    if sum != stored {
        return Err(SnapshotError::Damaged("its sum does not fit"));
    }
    if last.header.height != height {
        return Err(SnapshotError::Damaged("of another height"));
    }
    let state = State::from_entries(genesis.clone(), height, entries);
    if state.root() != last.header.state_root {
        return Err(SnapshotError::Damaged(
            "it does not come to its header's root",
        ));
    }
    Ok((last, state))
}

fn parse(source: &mut Source<'_>) -> Result<(FinalHeader, Entries), SnapshotError> {
    let damaged = SnapshotError::Damaged;
    if source.take::<4>()? != MAGIC || u32::from_be_bytes(source.take()?) != VERSION {
        return Err(damaged("no snapshot of version 1"));
    }
    let header = source.item()?;
    let certificate = source.item()?;
    let last = FinalHeader {
        header: Header::decode(&header).map_err(|_| damaged("its header does not parse"))?,
        certificate: Certificate::decode(&certificate)
            .map_err(|_| damaged("its certificate does not parse"))?,
    };
    let count = u64::from_be_bytes(source.take()?);
    // Each entry takes at least 8 bytes: what a damaged count says allocates nothing.
    if count > source.remaining() / 8 {
        return Err(damaged("more entries than it has room for"));
    }
    let mut entries = Vec::with_capacity(usize::try_from(count).unwrap_or(0));
    for _ in 0..count {
        let key = u32::from_be_bytes(source.take()?);
        let value = u32::from_be_bytes(source.take()?);
        let key: Arc<[u8]> = source.bytes(key)?.into();
        let value: Arc<[u8]> = source.bytes(value)?.into();
        entries.push((key, value));
    }
    if source.remaining() > 0 {
        return Err(damaged("bytes behind its last entry"));
    }
    Ok((last, entries))
}

/// Bytes of a file, or of a buffer alone.
struct Source<'a> {
    file: Option<&'a dyn DiskFile>,
    /// Bytes of the file that are not in the buffer yet.
    left: u64,
    hasher: blake3::Hasher,
    buffer: Vec<u8>,
    at: usize,
    offset: u64,
}

impl Source<'_> {
    /// Bytes that were not taken yet.
    fn remaining(&self) -> u64 {
        let buffered = self.buffer.len().saturating_sub(self.at);
        self.left
            .saturating_add(u64::try_from(buffered).unwrap_or(u64::MAX))
    }

    fn need(&mut self, wanted: usize) -> Result<(), SnapshotError> {
        let have = self.buffer.len() - self.at;
        if have >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let more = (wanted - have).max(PIECE_BYTES).min(left);
        let Some(file) = self.file.filter(|_| have + more >= wanted) else {
            return Err(SnapshotError::Damaged("it ends too early"));
        };
        self.buffer.resize(have + more, 0);
        if let Some(target) = self.buffer.get_mut(have..) {
            file.read(self.offset, target)?;
            self.hasher.update(target);
        }
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.offset += more;
        self.left -= more;
        Ok(())
    }

    fn slice(&mut self, len: usize) -> Result<&[u8], SnapshotError> {
        self.need(len)?;
        let from = self.at;
        self.at += len;
        self.buffer
            .get(from..self.at)
            .ok_or(SnapshotError::Damaged("it ends too early"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        self.slice(N)?
            .try_into()
            .map_err(|_| SnapshotError::Damaged("it ends too early"))
    }

    fn bytes(&mut self, len: u32) -> Result<&[u8], SnapshotError> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        if len > ITEM_BYTES_MAX {
            return Err(SnapshotError::Damaged("an item that is too long"));
        }
        self.slice(len)
    }

    fn item(&mut self) -> Result<Vec<u8>, SnapshotError> {
        let len = u32::from_be_bytes(self.take()?);
        Ok(self.bytes(len)?.to_vec())
    }
}

/// Parses bytes as a snapshot without its sum, for fuzzing.
pub(crate) fn decode_anything(bytes: &[u8]) {
    let mut source = Source {
        file: None,
        left: 0,
        hasher: blake3::Hasher::new(),
        buffer: bytes.to_vec(),
        at: 0,
        offset: 0,
    };
    let _ = parse(&mut source);
}
