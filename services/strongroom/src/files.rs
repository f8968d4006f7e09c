//! Files on this machine: walking folders, globs, and what is left out.

use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use globset::{Glob, GlobBuilder, GlobMatcher};
use walkdir::WalkDir;

use crate::failure::{Failure, Outcome};
use crate::output::printable;

/// What starts a glob.
const GLOB: [char; 4] = ['*', '?', '[', '{'];

/// When a file was last seen changed, and its size: enough to see that it changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    /// Size in bytes.
    pub size: u64,
    /// Modification time in nanoseconds since 1970; files from before count as of then.
    pub modified_ns: u64,
}

/// A regular file below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its path below the folder, with `/` between names.
    pub relative: String,
    /// Its size and time.
    pub stamp: Stamp,
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub struct Walked {
    /// The files, by name.
    pub files: Vec<LocalFile>,
    /// What is neither file nor folder and was left out, with the reason.
    pub skipped: Vec<String>,
    /// What could not be read.
    pub failed: Vec<Failure>,
}

/// What is left out of a sync.
#[derive(Debug, Default)]
pub struct Excludes {
    names: Vec<GlobMatcher>,
    paths: Vec<GlobMatcher>,
}

impl Excludes {
    /// A pattern without a `/` matches a name anywhere; one with a `/` matches a path from the top. Whatever lies below
    /// a match is left out too.
    ///
    /// # Errors
    /// A usage failure for a broken pattern.
    pub fn new(patterns: &[String]) -> Outcome<Self> {
        let mut excludes = Self::default();
        for pattern in patterns {
            let trimmed = pattern.strip_suffix('/').unwrap_or(pattern);
            let from_top = trimmed.strip_prefix('/').unwrap_or(trimmed);
            let matcher = glob(from_top)?.compile_matcher();
            if trimmed.contains('/') {
                excludes.paths.push(matcher);
            } else {
                excludes.names.push(matcher);
            }
        }
        Ok(excludes)
    }

    /// Whether a path (with `/` between names) is left out.
    pub fn matches(&self, relative: &str) -> bool {
        let ends = relative
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([relative.len()]);
        self.paths.iter().any(|path| {
            ends.clone()
                .any(|end| path.is_match(relative.get(..end).unwrap_or(relative)))
        }) || relative
            .split('/')
            .any(|name| self.names.iter().any(|glob| glob.is_match(name)))
    }
}

/// Size and time of a file.
pub fn stamp(meta: &std::fs::Metadata) -> Stamp {
    let since = meta
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let modified_ns = since.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    Stamp {
        size: meta.len(),
        modified_ns,
    }
}

/// Every regular file below `root`, by name. Links are not followed.
pub fn walk(root: &Path, excludes: &Excludes) -> Walked {
    let mut walked = Walked::default();
    let relative_of = |path: &Path| -> Option<String> {
        let mut text = String::new();
        for part in path.strip_prefix(root).ok()?.components() {
            let Component::Normal(name) = part else {
                return None;
            };
            if !text.is_empty() {
                text.push('/');
            }
            text.push_str(name.to_str()?);
        }
        Some(text)
    };
    let entries = WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| {
            entry.depth() == 0
                || !(is_partial(entry.file_name())
                    || relative_of(entry.path()).is_some_and(|path| excludes.matches(&path)))
        });
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                let source = error
                    .into_io_error()
                    .unwrap_or_else(|| std::io::Error::other("a loop of links"));
                walked.failed.push(Failure::file("read", &path, &source));
                continue;
            }
        };
        let kind = entry.file_type();
        let name = || printable(&entry.path().to_string_lossy()).into_owned();
        if kind.is_dir() {
            continue;
        }
        if !kind.is_file() {
            let what = if kind.is_symlink() {
                "a symbolic link"
            } else {
                "not a regular file"
            };
            walked
                .skipped
                .push(format!("{} is {what}: left out", name()));
            continue;
        }
        let Some(relative) = relative_of(entry.path()).filter(|text| !text.is_empty()) else {
            walked.failed.push(Failure::usage(format!(
                "{} is not UTF-8 and cannot be a key",
                name()
            )));
            continue;
        };
        match entry.metadata() {
            Ok(meta) => walked.files.push(LocalFile {
                path: entry.path().to_owned(),
                relative,
                stamp: stamp(&meta),
            }),
            Err(error) => walked.failed.push(Failure::file(
                "read",
                entry.path(),
                &error
                    .into_io_error()
                    .unwrap_or_else(|| std::io::ErrorKind::Other.into()),
            )),
        }
    }
    walked
}

/// The part of a file that an interrupted get left for the next one: nobody's data yet.
fn is_partial(name: &std::ffi::OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(b".strongroom.part")
}

/// Paths that a quoted glob stands for, by name; a path that exists stands for itself.
///
/// # Errors
/// Not found when nothing matches.
pub fn expand(path: &Path) -> Outcome<Vec<PathBuf>> {
    let text = path.to_str().filter(|text| text.contains(GLOB));
    let Some(text) = text.filter(|_| path.symlink_metadata().is_err()) else {
        return Ok(vec![path.to_owned()]);
    };
    let matcher = glob(text)?.compile_matcher();
    let names: Vec<Component<'_>> = path.components().collect();
    let literal = |name: &Component<'_>| !name.as_os_str().to_string_lossy().contains(GLOB);
    let base: PathBuf = names.iter().take_while(|name| literal(name)).collect();
    let deep = text.contains("**");
    let below = names.iter().skip_while(|name| literal(name)).count();
    let walk = WalkDir::new(if base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &base
    })
    .min_depth(1)
    .max_depth(if deep { usize::MAX } else { below })
    .sort_by_file_name();
    let found: Vec<PathBuf> = walk
        .into_iter()
        .filter_map(Result::ok)
        .map(|entry| match entry.path().strip_prefix("./") {
            Ok(path) if base.as_os_str().is_empty() => path.to_owned(),
            _ => entry.into_path(),
        })
        .filter(|path| matcher.is_match(path))
        .collect();
    if found.is_empty() {
        return Err(
            Failure::file("read", path, &std::io::ErrorKind::NotFound.into())
                .advise("nothing matches this glob"),
        );
    }
    Ok(found)
}

/// A glob on the keys of a bucket: what all matches begin with, and the matcher. `None` when the text is no glob.
///
/// # Errors
/// A usage failure for a broken pattern.
pub fn key_glob(key: &str) -> Outcome<Option<(&str, GlobMatcher)>> {
    match key.find(GLOB) {
        None => Ok(None),
        Some(at) => Ok(Some((
            key.get(..at).unwrap_or_default(),
            glob(key)?.compile_matcher(),
        ))),
    }
}

/// `*` stops at a `/`, `**` does not; nothing is an escape.
fn glob(pattern: &str) -> Outcome<Glob> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .backslash_escape(false)
        .build()
        .map_err(|error| {
            Failure::usage(format!(
                "`{}` is not a glob: {}",
                printable(pattern),
                error.kind()
            ))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        dir
    }

    fn relatives(walked: &Walked) -> Vec<&str> {
        walked
            .files
            .iter()
            .map(|file| file.relative.as_str())
            .collect()
    }

    #[test]
    fn folders_are_walked_by_name_and_links_are_left_out() {
        let dir = tree(&["b/2", "a", "b/1", "c/d/e", "b/.2.strongroom.part"]);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        let walked = walk(dir.path(), &Excludes::default());
        assert_eq!(relatives(&walked), ["a", "b/1", "b/2", "c/d/e"]);
        assert_eq!(walked.skipped.len(), 1);
        assert_eq!(walked.files.first().unwrap().stamp.size, 1);
        assert!(walked.failed.is_empty());
    }

    #[test]
    fn names_that_are_not_utf8_are_reported() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tree(&["a"]);
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"x\xff")), "").unwrap();
        let walked = walk(dir.path(), &Excludes::default());
        assert_eq!(relatives(&walked), ["a"]);
        assert!(walked.failed.first().unwrap().message.contains("UTF-8"));
    }

    #[test]
    fn excludes_match_names_anywhere_and_paths_from_the_top() {
        let excludes =
            Excludes::new(&["*.o", "target", "/docs/*.html", "a/b/"].map(str::to_owned)).unwrap();
        for out in [
            "x.o",
            "d/e/x.o",
            "target",
            "target/debug/x",
            "d/target/y",
            "docs/i.html",
            "a/b",
            "a/b/c/d",
        ] {
            assert!(excludes.matches(out), "{out}");
        }
        for kept in [
            "x.oo",
            "targets",
            "docs/sub/i.html",
            "d/docs/i.html",
            "x/a/b",
            "a/bc",
        ] {
            assert!(!excludes.matches(kept), "{kept}");
        }
        let dir = tree(&["src/a.rs", "src/a.o", "target/x", "docs/i.html"]);
        assert_eq!(relatives(&walk(dir.path(), &excludes)), ["src/a.rs"]);
        assert!(Excludes::new(&["[".to_owned()]).is_err());
    }

    #[test]
    fn quoted_globs_are_expanded_and_existing_names_stand_for_themselves() {
        let dir = tree(&["a.jpg", "b.jpg", "c.png", "sub/d.jpg", "[x].jpg"]);
        let expanded = |pattern: &str| -> Vec<String> {
            expand(&dir.path().join(pattern))
                .unwrap()
                .iter()
                .map(|path| {
                    path.strip_prefix(dir.path())
                        .unwrap()
                        .to_string_lossy()
                        .into_owned()
                })
                .collect()
        };
        assert_eq!(expanded("*.jpg"), ["[x].jpg", "a.jpg", "b.jpg"]);
        assert_eq!(expanded("**/*.jpg").len(), 4);
        assert_eq!(expanded("s*/*"), ["sub/d.jpg"]);
        assert_eq!(expanded("[x].jpg"), ["[x].jpg"]);
        assert_eq!(expanded("{a,c}.*"), ["a.jpg", "c.png"]);
        assert!(expand(&dir.path().join("*.gif")).is_err());
        assert_eq!(expanded("missing"), ["missing"]);
    }

    #[test]
    fn globs_on_keys_know_their_prefix() {
        assert!(key_glob("a/b").unwrap().is_none());
        let (prefix, matcher) = key_glob("logs/2026-*/x?.gz").unwrap().unwrap();
        assert_eq!(prefix, "logs/2026-");
        assert!(matcher.is_match("logs/2026-11/x1.gz"));
        assert!(!matcher.is_match("logs/2026-11/a/x1.gz"));
        assert!(key_glob("a[").is_err());
    }
}
