//! From remote keys to local files, never outside the target folder.
//!
//! Keys are chosen by whoever may write to a bucket and may hold anything: `..`, absolute paths, names that differ only in
//! case. A key is either mapped to a file strictly below the target folder, without passing a symbolic link, or refused
//! with a sentence that names it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat};
use unicode_normalization::UnicodeNormalization as _;

use crate::failure::{Exit, Failure, Outcome};
use crate::output::printable;

/// Bytes of one name on the file systems in use.
const NAME_BYTES_MAX: usize = 255;
/// Bytes of a path that the system takes.
const PATH_BYTES_MAX: usize = 4_095;

/// The relative path of a key, when it is one.
///
/// # Errors
/// Refused, naming the key and why.
pub fn relative_path(key: &str) -> Outcome<PathBuf> {
    let refuse = |why: &str| {
        Err(refusal(key, why)
            .advise("fetch it by itself under a name of your choice: strongroom get ADDRESS FILE"))
    };
    if key.starts_with('/') {
        return refuse("it is an absolute path");
    }
    let mut path = PathBuf::new();
    for name in key.split('/') {
        match name {
            "" => return refuse("it has an empty name between two slashes or at an end"),
            "." | ".." => return refuse("it has `.` or `..` in it, which would lead elsewhere"),
            _ if name.contains('\0') => return refuse("it has a NUL character"),
            _ if name.len() > NAME_BYTES_MAX => {
                return refuse("a name in it is longer than 255 bytes");
            }
            _ => path.push(name),
        }
    }
    Ok(path)
}

/// A folder that receives files, and what was given out in it.
#[derive(Debug)]
pub struct Target {
    root: PathBuf,
    folds_names: bool,
    /// By folded path: the key that took it. Folders are taken too, by the first key below them.
    taken: HashMap<String, Taken>,
}

#[derive(Debug)]
struct Taken {
    exact: String,
    key: String,
    is_folder: bool,
}

impl Target {
    /// A target folder; it is made when it is missing.
    ///
    /// # Errors
    /// When it is no folder and cannot be made one.
    pub fn new(root: &Path) -> Outcome<Self> {
        std::fs::create_dir_all(root)
            .map_err(|error| Failure::file("make the folder", root, &error))?;
        Ok(Self {
            root: root.to_owned(),
            folds_names: folds_names(root)?,
            taken: HashMap::new(),
        })
    }

    /// Reserves the place of `key` at `relative` and checks it against all given out before. The second value is a
    /// remark when the name would collide on other machines.
    ///
    /// # Errors
    /// A conflict that names both keys.
    pub fn reserve(&mut self, key: &str, relative: &Path) -> Outcome<Option<String>> {
        let mut remark = None;
        let text = relative.to_string_lossy();
        let ends: Vec<usize> = text
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([text.len()])
            .collect();
        for (i, end) in ends.iter().enumerate() {
            let part = text.get(..*end).unwrap_or_default();
            let is_folder = i + 1 < ends.len();
            let folded = fold(part);
            let Some(before) = self.taken.get(&folded) else {
                let taken = Taken {
                    exact: part.to_owned(),
                    key: key.to_owned(),
                    is_folder,
                };
                self.taken.insert(folded, taken);
                continue;
            };
            let same_name = before.exact == part;
            if (same_name || self.folds_names) && (!is_folder || !before.is_folder) {
                let why = if same_name && is_folder != before.is_folder {
                    "one is a file where the other needs a folder"
                } else {
                    "both would be the same file here"
                };
                return Err(Failure::new(
                    Exit::Conflict,
                    "names_collide",
                    format!(
                        "`{}` collides with `{}`: {why}",
                        printable(key),
                        printable(&before.key)
                    ),
                )
                .advise(
                    "fetch it by itself under a name of your choice: strongroom get ADDRESS FILE",
                ));
            }
            if !same_name && remark.is_none() {
                remark = Some(format!(
                    "`{}` and `{}` differ only in case or in the way their letters are composed; many file systems cannot hold both",
                    printable(key),
                    printable(&before.key)
                ));
            }
        }
        Ok(remark)
    }

    /// Makes the folders above `relative` and returns the path to write to. No symbolic link is passed or replaced.
    ///
    /// # Errors
    /// Refused when a link or something that is no folder is in the way; names the key.
    pub fn prepare(&self, key: &str, relative: &Path) -> Outcome<PathBuf> {
        let path = self.root.join(relative);
        if path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(refusal(
                key,
                "its path here would be longer than the system takes",
            ));
        }
        let failed = |errno: rustix::io::Errno, at: &Path| match errno {
            rustix::io::Errno::LOOP => refusal(
                key,
                &format!(
                    "{} is a symbolic link, which is not followed",
                    self.root.join(at).display()
                ),
            ),
            rustix::io::Errno::NOTDIR => refusal(
                key,
                &format!("{} is not a folder", self.root.join(at).display()),
            ),
            other => Failure::file("open the folder", &self.root.join(at), &other.into())
                .about(printable(key)),
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let mut folder: OwnedFd = openat(CWD, &self.root, flags, Mode::empty())
            .map_err(|errno| failed(errno, Path::new("")))?;
        let mut at = PathBuf::new();
        for name in relative.parent().into_iter().flat_map(Path::components) {
            at.push(name);
            let name = name.as_os_str();
            match mkdirat(&folder, name, Mode::RWXU | Mode::RWXG | Mode::RWXO) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno, &at)),
            }
            // Opened as a link, so that a link is seen instead of followed.
            let found = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|errno| failed(errno, &at))?;
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                return Err(failed(rustix::io::Errno::LOOP, &at));
            }
            folder = openat(&folder, name, flags | OFlags::NOFOLLOW, Mode::empty())
                .map_err(|errno| failed(errno, &at))?;
        }
        let Some(name) = relative.file_name() else {
            return Err(refusal(key, "it names no file"));
        };
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => Ok(path),
            Err(errno) => Err(failed(errno, relative)),
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile => Ok(path),
                FileType::Symlink => Err(failed(rustix::io::Errno::LOOP, relative)),
                FileType::Directory => {
                    Err(refusal(key, &format!("{} is a folder", path.display())))
                }
                _ => Err(refusal(
                    key,
                    &format!("{} is not a regular file", path.display()),
                )),
            },
        }
    }
}

fn refusal(key: &str, why: &str) -> Failure {
    Failure::new(
        Exit::Refused,
        "unsafe_name",
        format!(
            "the key `{}` cannot be a file in the target folder: {why}",
            printable(key)
        ),
    )
}

/// What names are equal on file systems that ignore case or compose letters.
fn fold(path: &str) -> String {
    path.nfd().flat_map(char::to_lowercase).nfc().collect()
}

/// Whether the file system takes two names for one that differ in case.
fn folds_names(root: &Path) -> Outcome<bool> {
    let name = format!(".strongroom-case-{}", std::process::id());
    let lower = root.join(&name);
    let made = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&lower);
    made.map_err(|error| Failure::file("write to the folder", root, &error))?;
    let folds = root.join(name.to_uppercase()).symlink_metadata().is_ok();
    let _ = std::fs::remove_file(&lower);
    Ok(folds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn target(dir: &Path, folds_names: bool) -> Target {
        Target {
            root: dir.to_owned(),
            folds_names,
            taken: HashMap::new(),
        }
    }

    #[test]
    fn keys_that_would_lead_elsewhere_are_refused_by_name() {
        for key in [
            "..",
            "../x",
            "a/../../x",
            "a/..",
            "/etc/passwd",
            "//x",
            "a//b",
            "a/",
            "./a",
            "a/./b",
            ".",
            "",
        ] {
            let failure = relative_path(key).unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{key}");
            assert!(failure.message.contains(&format!("`{key}`")), "{failure}");
        }
        assert!(relative_path(&format!("a/{}", "n".repeat(256))).is_err());
        assert!(relative_path("a\0b").is_err());
        for key in [
            "a",
            "a/b/c",
            "...",
            "..a/b..",
            "日本/語",
            " ",
            "~/x",
            "C:\\x",
            "-rf",
            &"n".repeat(255),
        ] {
            assert_eq!(relative_path(key).unwrap(), PathBuf::from(key));
        }
    }

    #[test]
    fn folders_are_made_below_the_target() {
        let dir = tempfile::tempdir().unwrap();
        let path = target(dir.path(), false)
            .prepare("a/b/c", Path::new("a/b/c"))
            .unwrap();
        assert_eq!(path, dir.path().join("a/b/c"));
        assert!(dir.path().join("a/b").is_dir());
        std::fs::write(&path, "x").unwrap();
        target(dir.path(), false)
            .prepare("a/b/c", Path::new("a/b/c"))
            .unwrap();
    }

    #[test]
    fn links_and_other_things_in_the_way_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink(outside.path(), at("link")).unwrap();
        symlink("/nonexistent", at("dangling")).unwrap();
        symlink(outside.path().join("file"), at("filelink")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        let check = |key: &str, part: &str| {
            let failure = target(dir.path(), false)
                .prepare(key, Path::new(key))
                .unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{key}");
            assert!(failure.message.contains(part), "{failure}");
            assert!(failure.message.contains(key), "{failure}");
        };
        check("link/x", "symbolic link");
        check("dangling/x", "symbolic link");
        check("filelink", "symbolic link");
        check("file/x", "not a folder");
        check("folder", "is a folder");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn collisions_are_conflicts_where_names_fold_and_remarks_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = |target: &mut Target, key: &str| target.reserve(key, Path::new(key));
        for (first, second) in [
            ("Readme", "README"),
            ("e\u{301}", "\u{e9}"),
            ("Dir/a", "dir/A"),
        ] {
            let mut folding = target(dir.path(), true);
            assert_eq!(reserve(&mut folding, first).unwrap(), None);
            let failure = reserve(&mut folding, second).unwrap_err();
            assert_eq!(failure.exit, Exit::Conflict);
            assert!(
                failure.message.contains(first) && failure.message.contains(second),
                "{failure}"
            );
            let mut exact = target(dir.path(), false);
            reserve(&mut exact, first).unwrap();
            assert!(
                reserve(&mut exact, second)
                    .unwrap()
                    .unwrap()
                    .contains(second)
            );
        }
        let mut exact = target(dir.path(), false);
        assert_eq!(reserve(&mut exact, "dir/a").unwrap(), None);
        assert_eq!(reserve(&mut exact, "dir/b").unwrap(), None);
        assert_eq!(reserve(&mut exact, "dir").unwrap_err().exit, Exit::Conflict);
        assert_eq!(
            reserve(&mut exact, "dir/a/c").unwrap_err().exit,
            Exit::Conflict
        );
    }

    #[test]
    fn a_target_is_made_and_left_clean() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("new/deep");
        let target = Target::new(&root).unwrap();
        assert!(
            !target.folds_names,
            "the tests run on a file system that tells cases apart"
        );
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        std::fs::write(dir.path().join("file"), "").unwrap();
        assert!(Target::new(&dir.path().join("file")).is_err());
    }
}
