//! What a sync does, decided before anything is touched. Pure: two listings and what is remembered in, a plan out.

use std::collections::BTreeMap;

use domain::VersionId;
use serde::{Deserialize, Serialize};

use crate::files::Stamp;

/// Which side is made like the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Local to remote.
    Push,
    /// Remote to local.
    Pull,
}

/// An object below the remote folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteEntry {
    /// Plaintext bytes.
    pub size: u64,
    /// The present version.
    pub version: VersionId,
    /// When it was written, milliseconds since 1970.
    pub modified_ms: u64,
}

/// A file and an object that were alike once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// The file then.
    pub local: Stamp,
    /// The object then.
    pub version: VersionId,
}

/// Why something is transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// The target does not have it.
    New,
    /// The two differ.
    Changed,
}

/// What is to be done, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To transfer: path, bytes, reason.
    pub transfers: Vec<(String, u64, Why)>,
    /// To delete from the target.
    pub deletes: Vec<String>,
    /// Alike already.
    pub unchanged: Vec<String>,
}

impl Plan {
    /// Bytes of all transfers.
    pub fn bytes(&self) -> u64 {
        self.transfers.iter().map(|(_, bytes, _)| *bytes).sum()
    }
}

/// Compares both sides. What is excluded must be missing from both listings already.
pub fn plan(
    direction: Direction,
    local: &BTreeMap<String, Stamp>,
    remote: &BTreeMap<String, RemoteEntry>,
    remembered: &BTreeMap<String, Remembered>,
    delete: bool,
) -> Plan {
    let mut plan = Plan::default();
    let same = |path: &str, file: Stamp, object: RemoteEntry| {
        alike(direction, file, object, remembered.get(path))
    };
    match direction {
        Direction::Push => {
            for (path, file) in local {
                match remote.get(path) {
                    None => plan.transfers.push((path.clone(), file.size, Why::New)),
                    Some(object) if same(path, *file, *object) => plan.unchanged.push(path.clone()),
                    Some(_) => plan.transfers.push((path.clone(), file.size, Why::Changed)),
                }
            }
            if delete {
                plan.deletes.extend(
                    remote
                        .keys()
                        .filter(|path| !local.contains_key(*path))
                        .cloned(),
                );
            }
        }
        Direction::Pull => {
            for (path, object) in remote {
                match local.get(path) {
                    None => plan.transfers.push((path.clone(), object.size, Why::New)),
                    Some(file) if same(path, *file, *object) => plan.unchanged.push(path.clone()),
                    Some(_) => plan
                        .transfers
                        .push((path.clone(), object.size, Why::Changed)),
                }
            }
            if delete {
                plan.deletes.extend(
                    local
                        .keys()
                        .filter(|path| !remote.contains_key(*path))
                        .cloned(),
                );
            }
        }
    }
    plan
}

/// What was alike at the last sync and has not moved since is alike. Where nothing is remembered, size and time decide:
/// the target's copy must be at least as new as the source. (Hashes cannot: every version is encrypted with a key of its
/// own, so equal files have different CIDs.)
fn alike(
    direction: Direction,
    file: Stamp,
    object: RemoteEntry,
    remembered: Option<&Remembered>,
) -> bool {
    if let Some(then) = remembered {
        return then.local == file && then.version == object.version;
    }
    if file.size != object.size {
        return false;
    }
    let file_ms = file.modified_ns / 1_000_000;
    match direction {
        Direction::Push => file_ms <= object.modified_ms,
        Direction::Pull => file_ms >= object.modified_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: VersionId = VersionId([1; 16]);
    const V2: VersionId = VersionId([2; 16]);

    fn file(size: u64, ms: u64) -> Stamp {
        Stamp {
            size,
            modified_ns: ms * 1_000_000,
        }
    }

    fn object(size: u64, version: VersionId, modified_ms: u64) -> RemoteEntry {
        RemoteEntry {
            size,
            version,
            modified_ms,
        }
    }

    fn map<T>(entries: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
        entries
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    #[test]
    fn without_memory_size_and_time_decide() {
        use Direction::{Pull, Push};
        let check = |direction, file: Stamp, object: RemoteEntry, same| {
            assert_eq!(
                alike(direction, file, object, None),
                same,
                "{direction:?} {file:?} {object:?}"
            );
        };
        check(Push, file(5, 100), object(5, V1, 200), true);
        check(Push, file(5, 200), object(5, V1, 200), true);
        check(Push, file(5, 300), object(5, V1, 200), false);
        check(Push, file(6, 100), object(5, V1, 200), false);
        check(Pull, file(5, 100), object(5, V1, 200), false);
        check(Pull, file(5, 200), object(5, V1, 200), true);
        check(Pull, file(5, 300), object(5, V1, 200), true);
        check(Pull, file(6, 300), object(5, V1, 200), false);
    }

    #[test]
    fn memory_decides_where_there_is_one() {
        let then = Remembered {
            local: file(5, 100),
            version: V1,
        };
        for direction in [Direction::Push, Direction::Pull] {
            let check = |file, object, same| {
                assert_eq!(
                    alike(direction, file, object, Some(&then)),
                    same,
                    "{direction:?}"
                );
            };
            // Times of the two sides no longer matter.
            check(file(5, 100), object(5, V1, 900), true);
            check(file(5, 100), object(5, V1, 1), true);
            // Touched, changed in place with the same size, or written by somebody else.
            check(file(5, 101), object(5, V1, 900), false);
            check(file(4, 100), object(5, V1, 900), false);
            check(file(5, 100), object(5, V2, 1), false);
        }
    }

    #[test]
    fn plans_transfer_delete_and_skip() {
        let local = map([
            ("new", file(1, 9)),
            ("same", file(2, 1)),
            ("changed", file(3, 9)),
        ]);
        let remote = map([
            ("same", object(2, V1, 5)),
            ("changed", object(3, V1, 5)),
            ("gone", object(4, V1, 5)),
        ]);
        let none = BTreeMap::new();
        let push = plan(Direction::Push, &local, &remote, &none, true);
        assert_eq!(
            push.transfers,
            [
                ("changed".to_owned(), 3, Why::Changed),
                ("new".to_owned(), 1, Why::New)
            ]
        );
        assert_eq!(push.deletes, ["gone"]);
        assert_eq!(push.unchanged, ["same"]);
        assert_eq!(push.bytes(), 4);
        assert!(
            plan(Direction::Push, &local, &remote, &none, false)
                .deletes
                .is_empty()
        );
        let pull = plan(Direction::Pull, &local, &remote, &none, true);
        assert_eq!(pull.deletes, ["new"]);
        assert_eq!(
            pull.transfers,
            [
                ("gone".to_owned(), 4, Why::New),
                ("same".to_owned(), 2, Why::Changed)
            ]
        );
    }

    #[test]
    fn a_second_sync_has_nothing_to_do() {
        let local = map([("a", file(1, 10)), ("b/c", file(0, 20))]);
        let remote = map([("a", object(1, V1, 1)), ("b/c", object(0, V2, 1))]);
        let remembered = map([
            (
                "a",
                Remembered {
                    local: file(1, 10),
                    version: V1,
                },
            ),
            (
                "b/c",
                Remembered {
                    local: file(0, 20),
                    version: V2,
                },
            ),
        ]);
        for direction in [Direction::Push, Direction::Pull] {
            let plan = plan(direction, &local, &remote, &remembered, true);
            assert!(plan.transfers.is_empty() && plan.deletes.is_empty());
            assert_eq!(plan.unchanged.len(), 2);
        }
    }
}
