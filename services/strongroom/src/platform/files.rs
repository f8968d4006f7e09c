//! Folders and files that hold secrets or must not be lost.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Outcome};

/// Makes a folder that its owner alone may enter.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(path: &Path) -> Outcome {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::file("make the folder", path, &error))
}

/// Writes a file that must not exist yet, whole or not at all.
///
/// # Errors
/// A conflict when it exists, and whatever the disk refuses.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    if path.symlink_metadata().is_ok() {
        return Err(Failure::file(
            "write",
            path,
            &std::io::ErrorKind::AlreadyExists.into(),
        ));
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = std::fs::File::options()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        // A link refuses to replace what somebody made meanwhile.
        std::fs::hard_link(&temporary, path)
    };
    let written = write();
    let _ = std::fs::remove_file(&temporary);
    written.map_err(failed)?;
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}

/// Replaces a file as a whole.
///
/// # Errors
/// Whatever the disk refuses.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> Outcome {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = std::fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        failed(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Exit;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn new_files_are_whole_and_never_replace() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_new(&path, b"secret", 0o600).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            write_new(&path, b"other", 0o600).unwrap_err().exit,
            Exit::Conflict
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"secret");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
