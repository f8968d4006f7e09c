//! The port to the file system: as much of it as the store uses, so that tests can make it fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It must exist; only read.
    Read,
    /// It must exist; read and written.
    Write,
    /// Made anew, mode 0600; an existing one is emptied.
    Create,
    /// Read and written; made, mode 0600, when it does not exist.
    Append,
}

/// A file system.
pub(crate) trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>>;
    /// File names in a folder, in no order; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes renames and removals in `dir` durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged process may still write.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file. Every method takes positions: many threads read one handle.
pub(crate) trait DiskFile: Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    /// Appends exactly `len` bytes to `into`, or fails with `UnexpectedEof`.
    fn read(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()>;
    /// May write fewer bytes than given, as `pwritev` does.
    fn write(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;
    fn sync_data(&self) -> io::Result<()>;
    /// Reserves space and grows the file; what was not written reads as zeros.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Drops the range from the page cache, so that the next read comes from the medium. A hint.
    fn forget(&self, offset: u64, len: u64);
}

/// The operating system's.
pub(crate) struct OsDisk;

struct OsFile(File);

impl Disk for OsDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            Mode::Read => {}
            Mode::Write => {
                options.write(true);
            }
            Mode::Create => {
                options.write(true).create(true).truncate(true);
            }
            Mode::Append => {
                options.write(true).create(true).truncate(false);
            }
        }
        Ok(Arc::new(OsFile(options.open(path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        let end = into.len() + len;
        let mut at = offset;
        into.reserve_exact(len);
        while into.len() < end {
            // Fills spare capacity without zeroing it first. That may be a little more than was reserved.
            match rustix::io::pread(&self.0, rustix::buffer::spare_capacity(into), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => at += u64::try_from(read).unwrap_or(u64::MAX),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        into.truncate(end);
        Ok(())
    }

    fn write(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::io::pwritev(&self.0, slices, offset)
        })?)
    }

    fn sync_data(&self) -> io::Result<()> {
        // Never retried: after a failed sync the kernel may have dropped the pages and would then report success.
        Ok(rustix::fs::fdatasync(&self.0)?)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        Ok(rustix::io::retry_on_intr(|| {
            rustix::fs::fallocate(&self.0, FallocateFlags::empty(), offset, len)
        })?)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn forget(&self, offset: u64, len: u64) {
        // Only an advice: pages that cannot be dropped are read from memory, which is no error.
        let _ = rustix::fs::fadvise(
            &self.0,
            offset,
            std::num::NonZeroU64::new(len),
            Advice::DontNeed,
        );
    }
}

/// Writes all of `slices` at `offset`, continuing after short writes.
pub(crate) fn write_all(
    file: &dyn DiskFile,
    mut slices: &mut [IoSlice<'_>],
    mut offset: u64,
) -> io::Result<()> {
    /// Linux takes at most this many pieces in one call (`IOV_MAX`).
    const SLICES_MAX: usize = 1_024;
    while !slices.is_empty() {
        let now = slices.get(..SLICES_MAX).unwrap_or(slices);
        let wanted = now.iter().map(|slice| slice.len()).sum::<usize>();
        let written = file.write(now, offset)?;
        if written == 0 && wanted > 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += u64::try_from(written).unwrap_or(u64::MAX);
        IoSlice::advance_slices(&mut slices, written);
        // `advance_slices` stops before a leading empty slice only when it advanced by less; empty ones carry nothing.
        while slices.first().is_some_and(|slice| slice.is_empty()) {
            slices = slices.get_mut(1..).unwrap_or_default();
        }
    }
    Ok(())
}

/// Reads a whole small file.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Mode::Read)?;
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = Vec::new();
    file.read(0, len, &mut bytes)?;
    Ok(bytes)
}
