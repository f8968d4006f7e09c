//! Envelopes on this machine: where they are read from and written to, whole or not at all.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crypto::EncryptionContext;
use sealed::Envelope;
use sealed::armor::{ArmorDecoder, ArmorEncoder, ArmorKind};
use sealed::envelope::{EnvelopeError, HeadReader, StreamError};

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// What an envelope's file is called after what is in it.
pub const EXTENSION: &str = ".sealed";
/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// What every armor begins with.
const ARMOR_BEGIN: &[u8] = b"-----BEGIN ";

/// A file or standard input, as it is called in sentences.
pub fn name(file: &OsStr) -> String {
    if file == "-" {
        return "standard input".to_owned();
    }
    output::printable(&file.to_string_lossy()).into_owned()
}

/// Where what comes of `file` goes: what was said, or its name with or without the extension.
///
/// # Errors
/// When a name cannot be told.
pub fn target(file: &OsStr, output: Option<&OsStr>, sealing: bool) -> Outcome<OsString> {
    if let Some(output) = output {
        return Ok(output.to_owned());
    }
    if file == "-" {
        return Ok("-".into());
    }
    if sealing {
        let mut name = file.to_owned();
        name.push(EXTENSION);
        return Ok(name);
    }
    let bytes = file.as_encoded_bytes();
    match bytes.strip_suffix(EXTENSION.as_bytes()) {
        Some(rest) if !rest.is_empty() && !rest.ends_with(b"/") => {
            let end = rest.len();
            Ok(file.to_string_lossy().get(..end).map_or_else(
                || Path::new(file).with_extension("").into_os_string(),
                OsString::from,
            ))
        }
        _ => Err(
            Failure::usage(format!("{} does not end in {EXTENSION}", name(file)))
                .advise("say where its content goes: -o FILE, or -o - for standard output"),
        ),
    }
}

/// `NAME=VALUE` pairs as an encryption context.
///
/// # Errors
/// A usage failure for a pair that is none, or a context beyond its bounds.
pub fn context(pairs: &[String]) -> Outcome<EncryptionContext> {
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let entry = pair
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--context {pair}: write NAME=VALUE")))?;
        entries.push(entry);
    }
    EncryptionContext::from_user(entries).map_err(|error| Failure::usage(error.to_string()))
}

/// A file or standard input, read in pieces.
pub struct Input {
    name: String,
    path: Option<PathBuf>,
    reader: Box<dyn Read + Send>,
}

impl Input {
    /// Opens it.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(file: &OsStr) -> Outcome<Self> {
        if file == "-" {
            return Ok(Self {
                name: name(file),
                path: None,
                reader: Box::new(io::stdin()),
            });
        }
        let path = Path::new(file);
        let failed = |error: io::Error| Failure::file("read", path, &error);
        let opened = File::open(path).map_err(failed)?;
        if opened.metadata().map_err(failed)?.is_dir() {
            return Err(Failure::usage(format!("{} is a folder", name(file)))
                .advise("make one file of it first, for example with tar"));
        }
        Ok(Self {
            name: name(file),
            path: Some(path.to_owned()),
            reader: Box::new(opened),
        })
    }

    /// The next piece, of at least one byte; `None` at the end.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&mut self) -> Outcome<Option<Vec<u8>>> {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let limit = u64::try_from(PIECE_BYTES).unwrap_or(u64::MAX);
        let read = (&mut self.reader).take(limit).read_to_end(&mut piece);
        read.map_err(|error| self.failed(&error))?;
        Ok((!piece.is_empty()).then_some(piece))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::file(
            "read",
            self.path.as_deref().unwrap_or(Path::new(&self.name)),
            error,
        )
    }
}

/// An envelope's file: its head is read, what follows waits.
pub struct Sealed {
    /// Its name in sentences.
    pub name: String,
    /// The head, or all of it.
    pub envelope: Envelope,
    /// Whether it is armored.
    pub armored: bool,
    input: Input,
    decoder: Option<ArmorDecoder>,
    ready: Vec<u8>,
    begun: bool,
}

impl Sealed {
    /// Opens a file and reads its head.
    ///
    /// # Errors
    /// When it cannot be read or is no envelope.
    pub fn open(file: &OsStr) -> Outcome<Self> {
        let mut input = Input::open(file)?;
        let first = input.next()?.unwrap_or_default();
        let armored = first.starts_with(ARMOR_BEGIN);
        let mut decoder = armored.then(|| ArmorDecoder::new(ArmorKind::Envelope));
        let mut piece = decode(&mut decoder, first, &input.name)?;
        let mut head = HeadReader::new();
        loop {
            let (taken, envelope) = head
                .push(&piece)
                .map_err(|error| explain(&error, &input.name))?;
            if let Some(envelope) = envelope {
                piece.drain(..taken);
                return Ok(Self {
                    name: input.name.clone(),
                    envelope,
                    armored,
                    input,
                    decoder,
                    ready: piece,
                    begun: false,
                });
            }
            let Some(next) = input.next()? else {
                let error = EnvelopeError::Length("cut off");
                return Err(explain(&error, &input.name));
            };
            piece = decode(&mut decoder, next, &input.name)?;
        }
    }

    /// The next bytes after the head; `None` at the end, where the armor's own is checked.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn next(&mut self) -> Outcome<Option<Vec<u8>>> {
        if !std::mem::replace(&mut self.begun, true) && !self.ready.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ready)));
        }
        loop {
            let Some(piece) = self.input.next()? else {
                if let Some(decoder) = self.decoder.take() {
                    decoder
                        .finish()
                        .map_err(|error| altered(&self.name, &error.to_string()))?;
                }
                return Ok(None);
            };
            let bytes = decode(&mut self.decoder, piece, &self.name)?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}

fn decode(decoder: &mut Option<ArmorDecoder>, piece: Vec<u8>, name: &str) -> Outcome<Vec<u8>> {
    let Some(decoder) = decoder else {
        return Ok(piece);
    };
    let mut out = Vec::with_capacity(piece.len());
    decoder
        .push(&piece, &mut out)
        .map_err(|error| altered(name, &error.to_string()))?;
    Ok(out)
}

/// A failure of an envelope as a sentence.
pub fn explain(error: &EnvelopeError, name: &str) -> Failure {
    match error {
        EnvelopeError::NotAnEnvelope | EnvelopeError::UnsupportedVersion(_) => {
            Failure::usage(format!("{name}: {error}"))
        }
        EnvelopeError::Unwrap(crypto::wrap::UnwrapError::NotForMe(_)) => {
            Failure::new(Exit::Refused, "not_for_me", format!("{name}: {error}"))
        }
        EnvelopeError::Unwrap(crypto::wrap::UnwrapError::Refused(_)) => {
            Failure::new(Exit::Refused, "refused", format!("{name}: {error}"))
        }
        other => altered(name, &other.to_string()),
    }
}

/// A failure of an envelope's stream.
pub fn stream_failure(error: StreamError, name: &str) -> Failure {
    altered(name, &error.to_string())
}

/// What is not what was sealed.
pub fn altered(name: &str, reason: &str) -> Failure {
    Failure::new(Exit::Integrity, "integrity", format!("{name}: {reason}"))
}

/// A file that appears whole or not at all, or standard output.
pub struct Target {
    name: String,
    armor: Option<ArmorEncoder>,
    sink: Sink,
    bytes: u64,
}

enum Sink {
    Stdout,
    File {
        file: File,
        beside: PathBuf,
        path: PathBuf,
        replace: bool,
    },
}

impl Target {
    /// Begins to write.
    ///
    /// # Errors
    /// A conflict when the file exists and is not to be replaced, and whatever the disk refuses.
    pub fn open(file: &OsStr, armored: bool, replace: bool) -> Outcome<Self> {
        let armor = armored.then(|| ArmorEncoder::new(ArmorKind::Envelope));
        if file == "-" {
            return Ok(Self {
                name: "standard output".to_owned(),
                armor,
                sink: Sink::Stdout,
                bytes: 0,
            });
        }
        let path = PathBuf::from(file);
        let failed = |error: io::Error| Failure::file("write", &path, &error);
        // A device or a pipe would be replaced by a file of its name.
        if std::fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
            return Err(Failure::usage(format!(
                "{} is there and is not a regular file",
                name(path.as_os_str())
            ))
            .advise("write to standard output instead: -o - > FILE"));
        }
        if !replace && path.symlink_metadata().is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into())
                .advise("use --force to replace it, or -o for another name"));
        }
        let mut beside = path.clone().into_os_string();
        beside.push(format!(".{}.new", std::process::id()));
        let beside = PathBuf::from(beside);
        let file = private_new(&beside).map_err(failed)?;
        Ok(Self {
            name: name(path.as_os_str()),
            armor,
            sink: Sink::File {
                file,
                beside,
                path,
                replace,
            },
            bytes: 0,
        })
    }

    /// Its name in sentences.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes bytes, armored where that was asked for.
    ///
    /// # Errors
    /// Whatever the disk refuses.
    pub fn write(&mut self, bytes: &[u8]) -> Outcome {
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match &mut self.armor {
            None => self.raw(bytes),
            Some(encoder) => {
                let mut text = Vec::with_capacity(bytes.len() + bytes.len() / 2);
                encoder.push(bytes, &mut text);
                self.raw(&text)
            }
        }
    }

    fn raw(&mut self, bytes: &[u8]) -> Outcome {
        match &mut self.sink {
            Sink::Stdout => {
                if let Err(error) = io::stdout().lock().write_all(bytes) {
                    output::stdout_failed(&error);
                }
                Ok(())
            }
            Sink::File { file, path, .. } => file
                .write_all(bytes)
                .map_err(|error| Failure::file("write", path, &error)),
        }
    }

    /// All is written: the file appears. How many bytes there are, before armor.
    ///
    /// # Errors
    /// Whatever the disk refuses; a conflict when somebody made such a file meanwhile.
    pub fn finish(mut self) -> Outcome<u64> {
        if let Some(encoder) = self.armor.take() {
            let mut text = Vec::new();
            encoder.finish(&mut text);
            self.raw(&text)?;
        }
        match &mut self.sink {
            Sink::Stdout => {
                if let Err(error) = io::stdout().lock().flush() {
                    output::stdout_failed(&error);
                }
            }
            Sink::File {
                file,
                beside,
                path,
                replace,
            } => {
                let done = file.sync_all().and_then(|()| {
                    if *replace {
                        std::fs::rename(&*beside, &*path)
                    } else {
                        // A link refuses to replace what somebody made meanwhile.
                        std::fs::hard_link(&*beside, &*path)
                    }
                });
                done.map_err(|error| Failure::file("write", path, &error))?;
            }
        }
        Ok(self.bytes)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Sink::File { beside, .. } = &self.sink {
            // Renamed away when all went well and replaced.
            let _ = std::fs::remove_file(beside);
        }
    }
}

fn private_new(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_gain_and_lose_the_extension() {
        let named = |file: &str, sealing| target(OsStr::new(file), None, sealing);
        assert_eq!(named("a.csv", true).unwrap(), "a.csv.sealed");
        assert_eq!(named("d/a.csv.sealed", false).unwrap(), "d/a.csv");
        assert_eq!(named("-", true).unwrap(), "-");
        assert_eq!(named("-", false).unwrap(), "-");
        for file in ["a.csv", ".sealed", "d/.sealed"] {
            assert_eq!(named(file, false).unwrap_err().exit, Exit::Usage, "{file}");
        }
        let said = target(OsStr::new("a"), Some(OsStr::new("b")), false);
        assert_eq!(said.unwrap(), "b");
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let mut given_up = Target::open(path.as_os_str(), false, false).unwrap();
        given_up.write(b"half").unwrap();
        drop(given_up);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        for replace in [false, true] {
            let mut target = Target::open(path.as_os_str(), false, replace).unwrap();
            target.write(b"whole").unwrap();
            assert_eq!(target.finish().unwrap(), 5);
            assert_eq!(std::fs::read(&path).unwrap(), b"whole");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        let refused = Target::open(path.as_os_str(), false, false).err().unwrap();
        assert_eq!(refused.exit, Exit::Conflict);
        // What is no file stays what it is, whoever asks: a device, a socket, a folder.
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for path in [Path::new("/dev/null"), &socket, dir.path()] {
            let refused = Target::open(path.as_os_str(), false, true).err().unwrap();
            assert_eq!(refused.exit, Exit::Usage, "{}", path.display());
        }
    }

    #[test]
    fn contexts_are_pairs() {
        let pairs = |text: &str| context(&[text.to_owned()]);
        assert_eq!(
            pairs("month=2026=11").unwrap().get("month"),
            Some("2026=11")
        );
        assert!(pairs("month").is_err());
        assert!(pairs("strongroom:bucket=x").is_err());
    }
}
