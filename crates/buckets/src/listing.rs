//! Listing: prefix, delimiter, continuation and page size, as S3's ListObjectsV2 has them.
//!
//! Keys are ordered by their UTF-8 bytes. A key that contains the delimiter after the prefix is not listed itself; it is
//! rolled up into its common prefix: everything up to and including the first delimiter after the prefix. A page holds
//! keys and common prefixes in one order, and counts both. `after` names the last thing of the page before (a key or a
//! common prefix): only what sorts after it is listed, so a common prefix is never listed twice, whatever is written
//! under it between two pages.
//!
//! A page costs a bounded number of rows however many keys lie under one common prefix: the folder seeks past a prefix
//! as soon as it has seen one key of it, and asks for few rows at a time while prefixes dominate.

/// What to fetch next: keys from `from` (excluding `from` itself when `exclusive`) up to but not including `until`, in
/// byte order, at most `rows`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seek {
    /// Lower bound. Not always UTF-8: the first byte string after all keys with some prefix need not be.
    pub from: Vec<u8>,
    /// Whether a key equal to `from` is left out.
    pub exclusive: bool,
    /// Upper bound, exclusive; `None` without one.
    pub until: Option<Vec<u8>>,
    /// Number of rows, at least 1.
    pub rows: usize,
}

/// What to do after a key was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Offer the next key.
    Continue,
    /// The page is full, and there is more: stop.
    Stop,
}

/// A finished page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// Listed keys' items, in key order.
    pub items: Vec<T>,
    /// Common prefixes, in order.
    pub prefixes: Vec<String>,
    /// Pass as `after` to go on; `None` when there is nothing more.
    pub next: Option<String>,
}

/// Rows asked for at first, and after common prefixes made most rows useless.
const FEW_ROWS: usize = 16;

/// Folds sorted keys into one page.
#[derive(Clone, Debug)]
pub struct Folder<T> {
    prefix: String,
    delimiter: Option<String>,
    after: Option<String>,
    limit: usize,
    items: Vec<T>,
    prefixes: Vec<String>,
    /// The last thing listed: where the next page goes on.
    last: Option<String>,
    /// Where the next fetch starts.
    from: Vec<u8>,
    exclusive: bool,
    /// Keys below this are of a common prefix that is settled.
    skip_below: Vec<u8>,
    started: bool,
    /// Rows of the fetch under way: asked for, offered, of use.
    asked: usize,
    offered: usize,
    used: usize,
    more: bool,
}

/// The first byte string after every string that starts with `prefix`; `None` when there is none.
///
/// UTF-8 has no byte 0xFF, so for text only the empty prefix has no successor; the result need not be UTF-8 (after
/// U+10FFFF, say, nothing is).
#[must_use]
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = prefix.to_vec();
    while let Some(last) = bytes.pop() {
        if let Some(next) = last.checked_add(1) {
            bytes.push(next);
            return Some(bytes);
        }
    }
    None
}

impl<T> Folder<T> {
    /// Starts a page of at most `limit` keys and common prefixes (at least 1).
    ///
    /// An empty delimiter is no delimiter.
    #[must_use]
    pub fn new(prefix: &str, delimiter: Option<&str>, after: Option<&str>, limit: usize) -> Self {
        let mut folder = Self {
            prefix: prefix.to_owned(),
            delimiter: delimiter.filter(|d| !d.is_empty()).map(str::to_owned),
            after: after.map(str::to_owned),
            limit: limit.max(1),
            items: Vec::new(),
            prefixes: Vec::new(),
            last: None,
            from: prefix.as_bytes().to_vec(),
            exclusive: false,
            skip_below: Vec::new(),
            started: false,
            asked: 0,
            offered: 0,
            used: 0,
            more: false,
        };
        folder.asked = match folder.delimiter {
            Some(_) => FEW_ROWS,
            None => usize::MAX,
        };
        if let Some(after) = after.filter(|after| after.as_bytes() >= prefix.as_bytes()) {
            // Everything under the common prefix of `after` folds into something that does not sort after it.
            if let Some(settled) = folder
                .common_prefix(after)
                .and_then(|c| successor(c.as_bytes()))
            {
                folder.from = settled;
            } else {
                folder.from = after.as_bytes().to_vec();
                folder.exclusive = true;
            }
        }
        folder
    }

    /// What to fetch, or `None` when the page is done. Offer all of the answer, in order, then ask again.
    pub fn seek(&mut self) -> Option<Seek> {
        if self.more || (self.started && self.offered < self.asked) {
            return None;
        }
        let until = successor(self.prefix.as_bytes());
        if until.as_ref().is_some_and(|until| self.from >= *until) {
            return None;
        }
        // One row more than fits tells whether there is a next page.
        let fits = self.limit.saturating_sub(self.listed()).saturating_add(1);
        let wanted = if !self.started {
            self.asked
        } else if self.used.saturating_mul(2) < self.offered {
            FEW_ROWS
        } else {
            self.asked.saturating_mul(4)
        };
        self.started = true;
        self.asked = wanted.min(fits).max(1);
        self.offered = 0;
        self.used = 0;
        Some(Seek {
            from: self.from.clone(),
            exclusive: self.exclusive,
            until,
            rows: self.asked,
        })
    }

    /// Takes the next key in order; `item` is made only when the key itself is listed.
    ///
    /// # Errors
    /// Whatever `item` fails with.
    pub fn offer<E>(&mut self, key: &str, item: impl FnOnce() -> Result<T, E>) -> Result<Next, E> {
        self.offered = self.offered.saturating_add(1);
        if key.as_bytes() < self.skip_below.as_slice() {
            return Ok(Next::Continue);
        }
        if !self.in_range(key) {
            self.pass(key.as_bytes().to_vec(), true);
            return Ok(Next::Continue);
        }
        let common = self.common_prefix(key);
        let settled = common
            .as_ref()
            .is_some_and(|common| self.after.as_ref().is_some_and(|after| common <= after));
        if !settled && self.listed() >= self.limit {
            self.more = true;
            return Ok(Next::Stop);
        }
        self.used = self.used.saturating_add(1);
        match common {
            Some(common) => {
                let past = successor(common.as_bytes()).unwrap_or_default();
                self.skip_below.clone_from(&past);
                self.pass(past, false);
                if !settled {
                    self.last = Some(common.clone());
                    self.prefixes.push(common);
                }
            }
            None => {
                self.items.push(item()?);
                self.last = Some(key.to_owned());
                self.pass(key.as_bytes().to_vec(), true);
            }
        }
        Ok(Next::Continue)
    }

    /// The page. Call when [`Folder::seek`] has answered `None`.
    #[must_use]
    pub fn finish(self) -> Page<T> {
        Page {
            items: self.items,
            prefixes: self.prefixes,
            next: if self.more { self.last } else { None },
        }
    }

    fn listed(&self) -> usize {
        self.items.len().saturating_add(self.prefixes.len())
    }

    fn pass(&mut self, from: Vec<u8>, exclusive: bool) {
        self.from = from;
        self.exclusive = exclusive;
    }

    fn in_range(&self, key: &str) -> bool {
        key.starts_with(&self.prefix)
            && self.after.as_ref().is_none_or(|after| key > after.as_str())
    }

    /// Prefix and rest up to and including the first delimiter, when the key has one there.
    fn common_prefix(&self, key: &str) -> Option<String> {
        let delimiter = self.delimiter.as_deref()?;
        let rest = key.strip_prefix(self.prefix.as_str())?;
        let (head, _) = rest.split_once(delimiter)?;
        Some([self.prefix.as_str(), head, delimiter].concat())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    /// Drives the folder over a set of keys as a database would; also counts fetches and rows.
    fn page(
        keys: &BTreeSet<String>,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> (Page<String>, usize, usize) {
        let mut folder = Folder::new(prefix, delimiter, after, limit);
        let (mut fetches, mut rows) = (0, 0);
        while let Some(seek) = folder.seek() {
            fetches += 1;
            let in_range = |key: &&String| {
                let key = key.as_bytes();
                let low = if seek.exclusive {
                    key > seek.from.as_slice()
                } else {
                    key >= seek.from.as_slice()
                };
                low && seek.until.as_ref().is_none_or(|until| key < until)
            };
            for key in keys.iter().filter(in_range).take(seek.rows) {
                rows += 1;
                let next = folder.offer::<Infallible>(key, || Ok(key.clone()));
                if next == Ok(Next::Stop) {
                    break;
                }
            }
        }
        (folder.finish(), fetches, rows)
    }

    /// The definition, on all keys at once: what sorts after `after`, folded, cut at `limit`.
    fn expected(
        keys: &BTreeSet<String>,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Page<String> {
        let mut all: Vec<(String, bool)> = keys
            .iter()
            .filter_map(|key| key.strip_prefix(prefix))
            .map(|rest| {
                let folded = delimiter
                    .filter(|delimiter| !delimiter.is_empty())
                    .and_then(|delimiter| {
                        rest.split_once(delimiter)
                            .map(|(head, _)| (head, delimiter))
                    });
                match folded {
                    Some((head, delimiter)) => ([prefix, head, delimiter].concat(), true),
                    None => ([prefix, rest].concat(), false),
                }
            })
            .filter(|(name, _)| after.is_none_or(|after| name.as_str() > after))
            .collect();
        all.sort();
        all.dedup();
        let more = all.len() > limit;
        all.truncate(limit);
        let next = all.last().map(|(name, _)| name.clone()).filter(|_| more);
        let of = |folded: bool| {
            let names = all.iter().filter(|(_, is)| *is == folded);
            names.map(|(name, _)| name.clone()).collect()
        };
        Page {
            items: of(false),
            prefixes: of(true),
            next,
        }
    }

    #[test]
    fn successors_follow_every_extension() {
        let check = |prefix: &[u8], expected: Option<&[u8]>| {
            assert_eq!(successor(prefix).as_deref(), expected, "{prefix:?}");
        };
        check(b"", None);
        check(b"a", Some(b"b"));
        check(b"a/", Some(b"a0"));
        check(&[0xff, 0xff], None);
        check(&[1, 0xff], Some(&[2]));
        // After U+10FFFF no text sorts, but a byte string does.
        let last = "a\u{10ffff}";
        let next = successor(last.as_bytes()).unwrap_or_default();
        assert_eq!(next, [b'a', 0xf4, 0x8f, 0xbf, 0xc0]);
        assert!(format!("{last}\u{10ffff}").as_bytes() < next.as_slice());
        assert!(b"b".as_slice() > next.as_slice());
        // U+007F and U+0080 are neighbours that differ in length.
        let next = successor("\u{7f}".as_bytes()).unwrap_or_default();
        assert!("\u{7f}zzz".as_bytes() < next.as_slice());
        assert!("\u{80}".as_bytes() > next.as_slice());
    }

    #[test]
    fn a_folder_of_many_keys_costs_few_rows() {
        let keys: BTreeSet<String> = (0..20_000).map(|n| format!("{}/{n:05}", n % 4)).collect();
        let (page, fetches, rows) = page(&keys, "", Some("/"), None, 1_000);
        assert_eq!(page.prefixes, ["0/", "1/", "2/", "3/"]);
        assert_eq!(page.next, None);
        assert!(fetches <= 5 && rows <= 5 * FEW_ROWS, "{fetches} {rows}");
    }

    #[test]
    fn a_page_of_many_folders_is_bounded() {
        let keys: BTreeSet<String> = (0..40_000)
            .map(|n| format!("{:04}/{n}", n % 2_000))
            .collect();
        let (page, fetches, rows) = page(&keys, "", Some("/"), None, 1_000);
        assert_eq!(page.prefixes.len(), 1_000);
        assert_eq!(page.next.as_deref(), Some("0999/"));
        assert!(
            fetches <= 1_002 && rows <= 1_002 * FEW_ROWS,
            "{fetches} {rows}"
        );
    }

    #[test]
    fn keys_without_folders_are_fetched_at_once() {
        let keys: BTreeSet<String> = (0..5_000).map(|n| format!("{n:05}")).collect();
        let (all, fetches, rows) = page(&keys, "", None, None, 1_000);
        assert_eq!((all.items.len(), fetches, rows), (1_000, 1, 1_001));
        let (all, fetches, _) = page(&keys, "", Some("/"), None, 1_000);
        assert_eq!(all.items.len(), 1_000);
        assert!(fetches <= 5, "{fetches}");
    }

    #[test]
    fn after_settles_its_common_prefix() {
        let keys: BTreeSet<String> = ["a", "a/1", "a/2", "b", "b/1"].map(str::to_owned).into();
        let check = |after: &str, items: &[&str], prefixes: &[&str]| {
            let (page, _, _) = page(&keys, "", Some("/"), Some(after), 10);
            assert_eq!(page.items, items, "{after}");
            assert_eq!(page.prefixes, prefixes, "{after}");
        };
        check("a", &["b"], &["a/", "b/"]);
        check("a/", &["b"], &["b/"]);
        check("a/1", &["b"], &["b/"]);
        check("a/zzz", &["b"], &["b/"]);
        check("b/", &[], &[]);
    }

    fn key() -> impl Strategy<Value = String> {
        let piece =
            prop::sample::select(vec!["a", "b", "/", "//", "é", "\u{10ffff}", "\u{1}", "-"]);
        prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn pages_are_those_of_the_definition(
            keys in prop::collection::btree_set(key(), 0..80),
            prefix in prop_oneof![Just(String::new()), key()],
            delimiter in prop::option::of(prop::sample::select(vec!["/", "//", "a", "é", ""])),
            after in prop::option::of(key()),
            limit in 1_usize..20,
        ) {
            let (page, _, _) = page(&keys, &prefix, delimiter, after.as_deref(), limit);
            let wanted = expected(&keys, &prefix, delimiter, after.as_deref(), limit);
            prop_assert_eq!(page, wanted);
        }

        #[test]
        fn pages_put_together_are_the_whole(
            keys in prop::collection::btree_set(key(), 0..80),
            delimiter in prop::option::of(prop::sample::select(vec!["/", "a"])),
            limit in 1_usize..6,
        ) {
            let whole = expected(&keys, "", delimiter, None, usize::MAX);
            let (mut items, mut prefixes, mut after) = (Vec::new(), Vec::new(), None);
            loop {
                let (page, _, _) = page(&keys, "", delimiter, after.as_deref(), limit);
                items.extend(page.items);
                prefixes.extend(page.prefixes);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            prop_assert_eq!(items, whole.items);
            prop_assert_eq!(prefixes, whole.prefixes);
        }
    }
}
