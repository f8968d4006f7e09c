//! One supervisor per data folder: an advisory lock that the kernel drops with the process.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::{FlockOperation, flock};

use super::DataFolder;
use crate::failure::{Exit, Failure, Outcome};

/// Held until dropped.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

/// Takes the lock of a data folder that exists.
///
/// # Errors
/// A conflict that names the process which has it.
pub fn take(folder: &DataFolder) -> Outcome<FolderLock> {
    let path = folder.lock_file();
    let failed = |error: std::io::Error| Failure::file("lock", &path, &error);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            let _ = (&mut file).take(32).read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(Failure::new(
                Exit::Conflict,
                "folder_in_use",
                format!("{} is in use by {holder}", folder.path().display()),
            )
            .advise("stop that one first, or choose another folder with --data"));
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    // The number is for the sentence above alone; the lock does not depend on it.
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed)?;
    Ok(FolderLock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_taker_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(dir.path());
        let first = take(&folder).unwrap();
        let refused = take(&folder).unwrap_err();
        assert_eq!(refused.exit, Exit::Conflict);
        assert!(
            refused.message.contains(&std::process::id().to_string()),
            "{refused}"
        );
        drop(first);
        take(&folder).unwrap();
    }
}
