//! The log: files of records, one per block, appended and synced.

use std::io;
use std::path::{Path, PathBuf};

use domain::{GenesisHash, Height};
use ledger::port::Block;

use crate::disk::{Disk, DiskFile};
use crate::error::OpenError;
use crate::record::{HEAD_BYTES, MAGIC, Place, decode_block, frame, unframe};

/// Space is reserved in steps of this many bytes.
const RESERVE_STEP_BYTES: u64 = 4 << 20;
/// A file is read in pieces of this many bytes.
const READ_BYTES: usize = 4 << 20;

/// Path of the log file whose first block is `first`.
pub(crate) fn path(dir: &Path, first: Height) -> PathBuf {
    dir.join(format!("log-{:016x}", first.0))
}

/// First heights of the log files in a folder, ascending.
pub(crate) fn files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Height>> {
    numbered(disk, dir, "log-")
}

/// Heights in the names of files that begin with `prefix`, ascending.
pub(crate) fn numbered(disk: &dyn Disk, dir: &Path, prefix: &str) -> io::Result<Vec<Height>> {
    let mut heights: Vec<Height> = disk
        .list(dir)?
        .iter()
        .filter_map(|name| name.strip_prefix(prefix))
        .filter(|digits| digits.len() == 16)
        .filter_map(|digits| u64::from_str_radix(digits, 16).ok())
        .map(Height)
        .collect();
    heights.sort_unstable();
    Ok(heights)
}

/// The file that is written.
pub(crate) struct Log {
    file: Box<dyn DiskFile>,
    genesis: GenesisHash,
    first: Height,
    /// End of the last record.
    end: u64,
    /// Bytes reserved.
    reserved: u64,
}

impl Log {
    /// A new file for blocks from `first` on. Whatever a crash left under its name is emptied.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        genesis: GenesisHash,
        first: Height,
    ) -> io::Result<Self> {
        let file = disk.open(&path(dir, first))?;
        file.set_len(0)?;
        disk.sync_dir(dir)?;
        Ok(Self {
            file,
            genesis,
            first,
            end: 0,
            reserved: 0,
        })
    }

    /// Goes on behind the last record of a file that was read.
    pub(crate) fn resume(
        disk: &dyn Disk,
        dir: &Path,
        genesis: GenesisHash,
        first: Height,
        end: u64,
    ) -> io::Result<Self> {
        let file = disk.open(&path(dir, first))?;
        // What was torn must not be taken for a damaged record once there are others behind it.
        file.set_len(end)?;
        file.sync_data()?;
        Ok(Self {
            file,
            genesis,
            first,
            end,
            reserved: end,
        })
    }

    pub(crate) fn first(&self) -> Height {
        self.first
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Writes a record, not yet durable. After an error nothing of it counts.
    pub(crate) fn append(&mut self, payload: &[u8]) -> io::Result<()> {
        let place = Place {
            genesis: self.genesis,
            first: self.first,
            offset: self.end,
        };
        let record = frame(place, payload);
        let len = u64::try_from(record.len()).unwrap_or(u64::MAX);
        let end = self.end.saturating_add(len);
        if end > self.reserved {
            let more = (end - self.reserved).max(RESERVE_STEP_BYTES);
            match self.file.allocate(self.reserved, more) {
                Ok(()) => self.reserved += more,
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.reserved = u64::MAX;
                }
                Err(error) => return Err(error),
            }
        }
        self.file.write(&record, self.end)?;
        self.end = end;
        Ok(())
    }

    /// Takes the last, failed append back.
    pub(crate) fn forget_from(&mut self, end: u64) {
        self.end = end;
    }

    /// Cuts off what lies behind the last record (reserved space, or what a failed append left): the file is not written any more.
    pub(crate) fn seal(&self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_data()
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// How a file's records end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Zeros or nothing behind the last record.
    Clean,
    /// A record that was never whole, with nothing good behind it.
    Torn,
}

/// Reads a log file record by record.
pub(crate) struct Reader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    genesis: GenesisHash,
    first: Height,
    len: u64,
    /// Where the next record begins.
    offset: u64,
    /// Bytes of the file; those from `at` on begin at `offset`.
    buffer: Vec<u8>,
    at: usize,
}

impl Reader {
    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        genesis: GenesisHash,
        first: Height,
    ) -> io::Result<Self> {
        let path = path(dir, first);
        let file = disk.open(&path)?;
        let len = file.len()?;
        Ok(Self {
            file,
            path,
            genesis,
            first,
            len,
            offset: 0,
            buffer: Vec::new(),
            at: 0,
        })
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Sees what was appended since.
    pub(crate) fn refresh(&mut self) -> io::Result<()> {
        self.len = self.file.len()?;
        self.buffer.clear();
        self.at = 0;
        Ok(())
    }

    /// The next block; `None` where the good records end.
    pub(crate) fn next(&mut self) -> Result<Option<Block>, OpenError> {
        self.fill(HEAD_BYTES)?;
        let Some(len) = self.payload_len() else {
            return Ok(None);
        };
        self.fill(HEAD_BYTES.saturating_add(len))?;
        let Some(payload) = unframe(self.place(self.offset), self.rest()) else {
            return Ok(None);
        };
        let block = decode_block(payload).map_err(|error| OpenError::Wrong {
            path: self.path.clone(),
            height: self.first,
            reason: error.to_string(),
        })?;
        let taken = HEAD_BYTES + payload.len();
        self.at += taken;
        self.offset += u64::try_from(taken).unwrap_or(u64::MAX);
        Ok(Some(block))
    }

    /// What lies behind the last good record. A good record behind a bad one means that the middle is damaged.
    pub(crate) fn end(&mut self) -> Result<End, OpenError> {
        let start = self.offset;
        let rest = usize::try_from(self.len.saturating_sub(start)).unwrap_or(usize::MAX);
        self.fill(rest)?;
        let mut torn = false;
        let mut at = 0;
        while let Some(rest) = self.rest().get(at..) {
            // Nothing but zeros to the end: space that was reserved.
            let Some(skip) = rest.iter().position(|byte| *byte != 0) else {
                break;
            };
            torn = true;
            at += skip;
            let Some(found) = find(self.rest().get(at..).unwrap_or_default()) else {
                break;
            };
            at += found;
            let offset = start + u64::try_from(at).unwrap_or(u64::MAX);
            let candidate = self.rest().get(at..).unwrap_or_default();
            if unframe(self.place(offset), candidate).is_some() {
                return Err(OpenError::Corrupt {
                    path: self.path.clone(),
                    offset: start,
                });
            }
            at += 1;
        }
        Ok(if torn { End::Torn } else { End::Clean })
    }

    fn place(&self, offset: u64) -> Place {
        Place {
            genesis: self.genesis,
            first: self.first,
            offset,
        }
    }

    fn payload_len(&self) -> Option<usize> {
        let rest = self.rest().strip_prefix(&MAGIC)?;
        let len = rest.first_chunk::<4>()?;
        usize::try_from(u32::from_be_bytes(*len)).ok()
    }

    fn rest(&self) -> &[u8] {
        self.buffer.get(self.at..).unwrap_or_default()
    }

    /// Makes sure that `wanted` bytes from the offset on are in the buffer, or as many as the file has.
    fn fill(&mut self, wanted: usize) -> Result<(), OpenError> {
        let have = self.rest().len();
        if have >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let from = self
            .offset
            .saturating_add(u64::try_from(have).unwrap_or(u64::MAX));
        let left = usize::try_from(self.len.saturating_sub(from)).unwrap_or(usize::MAX);
        let more = (wanted - have).max(READ_BYTES).min(left);
        self.buffer.resize(have + more, 0);
        if let Some(target) = self.buffer.get_mut(have..) {
            self.file
                .read(from, target)
                .map_err(|error| OpenError::io("read", &self.path, error))?;
        }
        Ok(())
    }
}

fn find(bytes: &[u8]) -> Option<usize> {
    bytes
        .windows(MAGIC.len())
        .position(|window| window == MAGIC)
}
