//! Segment files: their names, the descriptors that stay open, and the walk over a segment's records.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::disk::{Disk, DiskFile, Mode};
use crate::format::{
    self, ALIGNMENT, RECORD_HEADER_BYTES, RECORD_HEADER_LEN, Record, SEGMENT_HEADER_BYTES,
    SegmentKey, StoreKey,
};
use crate::sync::lock;

/// Where a store's files lie.
pub(crate) struct Paths {
    pub(crate) data: PathBuf,
    pub(crate) metadata: PathBuf,
    pub(crate) temp: PathBuf,
}

impl Paths {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            data: dir.join("data"),
            metadata: dir.join("metadata"),
            temp: dir.join("temp"),
        }
    }

    pub(crate) fn segment(&self, id: u32) -> PathBuf {
        self.data.join(format!("{id:08x}.seg"))
    }

    /// A segment that is empty and waits for its next use, under its old number.
    pub(crate) fn free(&self, id: u32) -> PathBuf {
        self.data.join(format!("{id:08x}.free"))
    }

    pub(crate) fn hint(&self, id: u32) -> PathBuf {
        self.metadata.join(format!("{id:08x}.hint"))
    }

    pub(crate) fn dead(&self, id: u32) -> PathBuf {
        self.metadata.join(format!("{id:08x}.dead"))
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.metadata.join("store")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.metadata.join("lock")
    }

    pub(crate) fn temp(&self, name: &str) -> PathBuf {
        self.temp.join(name)
    }

    /// The number in a name like `0000000c.seg`.
    pub(crate) fn number(name: &str, extension: &str) -> Option<u32> {
        let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
        let strict = digits.len() == 8 && !digits.starts_with('+');
        strict
            .then(|| u32::from_str_radix(digits, 16).ok())
            .flatten()
            .filter(|number| *number <= NUMBER_MAX)
    }
}

/// No store gets this far (2^31 segments), so a file with a higher number is not ours; and a number that follows one of
/// ours always exists.
const NUMBER_MAX: u32 = u32::MAX / 2;

/// A segment file that is open, with the key of its records.
#[derive(Clone)]
pub(crate) struct OpenSegment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) key: SegmentKey,
}

/// Descriptors kept open, the longest unused closed first.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    store_key: StoreKey,
    open_max: usize,
    open: Mutex<OpenFiles>,
}

#[derive(Default)]
struct OpenFiles {
    by_id: HashMap<u32, (OpenSegment, u64)>,
    clock: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, store_key: StoreKey, open_max: usize) -> Self {
        Self {
            disk,
            store_key,
            open_max: open_max.max(1),
            open: Mutex::default(),
        }
    }

    /// The lock is held for the look-up only, not while a file is opened.
    pub(crate) fn get(&self, id: u32, paths: &Paths) -> io::Result<OpenSegment> {
        {
            let mut open = lock(&self.open);
            open.clock += 1;
            let clock = open.clock;
            if let Some((segment, used)) = open.by_id.get_mut(&id) {
                *used = clock;
                return Ok(segment.clone());
            }
        }
        let file = self.disk.open(&paths.segment(id), Mode::Read)?;
        Ok(self.insert(id, file))
    }

    /// Keeps `file` open for readers.
    pub(crate) fn insert(&self, id: u32, file: Arc<dyn DiskFile>) -> OpenSegment {
        let segment = OpenSegment {
            file,
            key: self.store_key.segment(id),
        };
        let mut open = lock(&self.open);
        open.clock += 1;
        let clock = open.clock;
        open.by_id.insert(id, (segment.clone(), clock));
        if open.by_id.len() > self.open_max {
            let oldest = open
                .by_id
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(id, _)| *id);
            oldest.and_then(|id| open.by_id.remove(&id));
        }
        segment
    }

    pub(crate) fn forget(&self, id: u32) {
        lock(&self.open).by_id.remove(&id);
    }
}

/// What a walk over a segment found.
pub(crate) struct Scan {
    /// Records in order of offset.
    pub(crate) records: Vec<(u32, Record)>,
    /// Where the last record ends.
    pub(crate) end: u32,
    /// Stretches before `end` that belong to no readable record: first offset, and the one where reading went on.
    pub(crate) gaps: Vec<(u32, u32)>,
}

impl Scan {
    /// Everything below this was synced before a later record was written.
    pub(crate) fn durable_before(&self) -> u32 {
        self.records
            .iter()
            .map(|(_, record)| record.durable_before)
            .max()
            .unwrap_or(0)
    }

    /// Bytes that were once durable and cannot be read. A gap in the last batch is only what a crash left.
    pub(crate) fn damaged_bytes(&self) -> u64 {
        let durable = self.durable_before();
        self.gaps
            .iter()
            .filter(|(from, _)| *from < durable)
            .map(|(from, to)| u64::from(to - from))
            .sum()
    }
}

/// Reads the headers of all records, skipping bodies.
///
/// After a header that does not pass, the walk searches for the next one that does: one damaged sector must not hide
/// every record behind it.
pub(crate) fn scan(segment: &OpenSegment, file_bytes: u64) -> io::Result<Scan> {
    let mut window = Window {
        file: &*segment.file,
        bytes: Vec::new(),
        start: 0,
        file_bytes,
    };
    let mut found = Scan {
        records: Vec::new(),
        end: SEGMENT_HEADER_BYTES,
        gaps: Vec::new(),
    };
    let mut offset = SEGMENT_HEADER_BYTES;
    let mut last_size = 0;
    loop {
        let header = window.at(u64::from(offset), RECORD_HEADER_LEN, last_size)?;
        let record = header.and_then(|bytes| Record::decode(bytes, &segment.key));
        let fits = record.and_then(|record| {
            let end = offset.checked_add(record.size())?;
            (u64::from(end) <= file_bytes).then_some((record, end))
        });
        if let Some((record, end)) = fits {
            if offset > found.end {
                found.gaps.push((found.end, offset));
            }
            found.records.push((offset, record));
            found.end = end;
            last_size = record.size();
            offset = end;
            continue;
        }
        let Some(from) = offset.checked_add(ALIGNMENT) else {
            break;
        };
        match window.search(from)? {
            Some(next) => offset = next,
            None => break,
        }
    }
    Ok(found)
}

/// A piece of a file in memory.
struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    start: u64,
    file_bytes: u64,
}

impl Window<'_> {
    /// Read at once where records are small, or in the search for one.
    const LARGE: u64 = 256 << 10;
    /// Read at once where records are larger than this: only their headers are wanted.
    const SMALL: u64 = 4 << 10;

    /// `len` bytes at `offset`; `None` when the file ends before.
    fn at(&mut self, offset: u64, len: usize, last_size: u32) -> io::Result<Option<&[u8]>> {
        let wanted = u64::try_from(len).unwrap_or(u64::MAX);
        if offset.saturating_add(wanted) > self.file_bytes {
            return Ok(None);
        }
        let held_until = self.start + u64::try_from(self.bytes.len()).unwrap_or(0);
        if offset < self.start || offset + wanted > held_until {
            let ahead = if u64::from(last_size) > Self::LARGE / 4 {
                Self::SMALL
            } else {
                Self::LARGE
            };
            self.load(offset, ahead)?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..from.saturating_add(len)))
    }

    fn load(&mut self, offset: u64, ahead: u64) -> io::Result<()> {
        let len = ahead.min(self.file_bytes.saturating_sub(offset));
        self.bytes.clear();
        self.start = offset;
        self.file
            .read(offset, usize::try_from(len).unwrap_or(0), &mut self.bytes)
    }

    /// The next place at or after `from` that looks like a record.
    fn search(&mut self, from: u32) -> io::Result<Option<u32>> {
        let mut offset = u64::from(from);
        while offset + u64::from(RECORD_HEADER_BYTES) <= self.file_bytes {
            let held_until = self.start + u64::try_from(self.bytes.len()).unwrap_or(0);
            if offset < self.start || offset + u64::from(ALIGNMENT) > held_until {
                self.load(offset, Self::LARGE)?;
            }
            let skip = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
            let held = self.bytes.get(skip..).unwrap_or_default();
            if let Some(at) = format::find_magic(held) {
                return Ok(u32::try_from(offset + u64::try_from(at).unwrap_or(0)).ok());
            }
            let whole = held.len() - held.len() % RECORD_HEADER_ALIGN;
            offset += u64::try_from(whole.max(RECORD_HEADER_ALIGN)).unwrap_or(u64::MAX);
        }
        Ok(None)
    }
}

/// [`ALIGNMENT`] as a length in memory.
const RECORD_HEADER_ALIGN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_a_store_writes_have_a_number() {
        for (name, number) in [
            ("00000000.seg", Some(0)),
            ("0000000c.seg", Some(12)),
            ("7fffffff.seg", Some(NUMBER_MAX)),
            ("80000000.seg", None),
            ("ffffffff.seg", None),
            ("c.seg", None),
            ("+000000c.seg", None),
            ("0000000c.hint", None),
            ("0000000c", None),
        ] {
            assert_eq!(Paths::number(name, "seg"), number, "{name}");
        }
    }
}
