//! The log of one process: a file that never grows beyond its bound, with the one before it kept.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes of a log file before it becomes `log.1`.
pub const BYTES_MAX: u64 = 8 << 20;

/// Appends lines; `log` and `log.1` together stay below twice the bound.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl LogFile {
    /// Opens `path` for appending.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = File::options()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            bytes,
            bytes_max,
        })
    }

    /// Appends one line (its end is added).
    ///
    /// # Errors
    /// When it cannot be written; the next call tries again.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        let adds = u64::try_from(line.len())
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        if self.bytes > 0 && self.bytes.saturating_add(adds) > self.bytes_max {
            let mut before = self.path.as_os_str().to_owned();
            before.push(".1");
            std::fs::rename(&self.path, before)?;
            *self = Self::open(&self.path, self.bytes_max)?;
        }
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        self.file.write_all(&whole)?;
        self.bytes = self.bytes.saturating_add(adds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_and_keeps_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = LogFile::open(&path, 100).unwrap();
        for n in 0..50 {
            log.line(format!("line {n:04}").as_bytes()).unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        let before = dir.path().join("log.1");
        assert!(size(&path) <= 100 && size(&before) <= 100);
        let text =
            std::fs::read_to_string(&before).unwrap() + &std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 0049\n"));
        assert!(text.lines().count() > 10, "{text}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        // Opened again, it goes on where it was.
        let mut log = LogFile::open(&path, 100).unwrap();
        log.line(b"more").unwrap();
        assert!(size(&path) <= 100);
    }
}
