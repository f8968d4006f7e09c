//! Unix sockets in a folder that only its owner can enter.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Bytes of a socket's path, at most (`sun_path` of Linux without its terminating zero).
const PATH_BYTES_MAX: usize = 107;

/// Listens at `path`. Makes its folder with mode 0700, refuses one that others can enter, removes the socket that a
/// killed process left, and refuses to take the place of a running one.
///
/// # Errors
/// [`io::Error`] whose text says what is wrong.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    let folder = folder_of(path)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    check_folder(folder)?;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} exists and is not a socket", path.display()),
            ));
        }
        Ok(_) => match connect(path).await {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    format!("{} is served by a running process", path.display()),
                ));
            }
            Err(_) => fs::remove_file(path)?,
        },
    }
    let short = Short::of(path)?;
    UnixListener::bind(&short.path)
}

/// Connects to the socket at `path`.
///
/// # Errors
/// [`io::Error`] of the connect.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = Short::of(path)?;
    UnixStream::connect(&short.path).await
}

fn folder_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(folder) => Ok(folder),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a socket needs a path with a folder",
        )),
    }
}

/// Everyone who can enter the folder could put a socket of their own in the place of ours.
fn check_folder(folder: &Path) -> io::Result<()> {
    let found = fs::metadata(folder)?;
    let refused = |why: String| {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{}: {why}", folder.display()),
        ))
    };
    if found.mode() & 0o077 != 0 {
        return refused(format!(
            "the socket's folder has mode {:04o}; it must be 0700",
            found.mode() & 0o7777
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return refused(format!(
            "the socket's folder belongs to user {}, not {own}",
            found.uid()
        ));
    }
    Ok(())
}

/// A path short enough for the kernel: a long one goes through a descriptor of its folder.
struct Short {
    path: PathBuf,
    _folder: Option<fs::File>,
}

impl Short {
    fn of(path: &Path) -> io::Result<Self> {
        if path.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _folder: None,
            });
        }
        let name = path
            .file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a socket needs a name"))?;
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY;
        let folder = fs::OpenOptions::new()
            .read(true)
            .custom_flags(i32::from_ne_bytes(flags.bits().to_ne_bytes()))
            .open(folder_of(path)?)?;
        let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
        Ok(Self {
            path: short,
            _folder: Some(folder),
        })
    }
}
