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
