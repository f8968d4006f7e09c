//! Which program runs: its file's hash.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use attestation::Measurement;

/// A program's file, at most: 1 GiB.
pub const PROGRAM_BYTES_MAX: u64 = 1 << 30;

/// A program that could not be measured.
#[derive(Debug, thiserror::Error)]
#[error("cannot measure {}: {source}", path.display())]
pub struct MeasureError {
    /// The program's file.
    pub path: PathBuf,
    /// The system's answer.
    pub source: io::Error,
}

/// Measures the program that is running, by the file it was started from even where another lies at its path by now.
///
/// # Errors
/// [`MeasureError`].
pub fn measure_self() -> Result<Measurement, MeasureError> {
    measure_file(Path::new("/proc/self/exe"))
}

/// Measures the program in a file, as whoever approves it does.
///
/// # Errors
/// [`MeasureError`]; also for a file of more than 1 GiB.
pub fn measure_file(path: &Path) -> Result<Measurement, MeasureError> {
    let failed = |source| MeasureError {
        path: path.to_path_buf(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.len() > PROGRAM_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(io::Read::take(file, PROGRAM_BYTES_MAX))
        .map_err(failed)?;
    Ok(Measurement::of_program(hasher.finalize().as_bytes()))
}
