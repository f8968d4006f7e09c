//! Which requests were answered: each once, until its time is over.

use std::collections::{BTreeSet, HashMap, HashSet};

use domain::{Principal, TimestampMs};

use crate::reason::Reason;
use crate::request::RequestHash;

/// Requests that are remembered at once, at most.
pub const REMEMBERED_MAX: usize = 131_072;
/// Of one principal, at most: so that nobody keeps all others out.
pub const REMEMBERED_OF_ONE_MAX: usize = REMEMBERED_MAX / 2;

/// Requests for audit pages that are remembered at once, at most; they have a window of their own.
pub const AUDITS_MAX: usize = 65_536;
/// Of one principal, at most: two minutes' ration.
pub const AUDITS_OF_ONE_MAX: usize = 8_192;

/// Requests that were answered and whose time is not over.
#[derive(Debug)]
pub struct ReplayWindow {
    by_end: BTreeSet<(TimestampMs, RequestHash, Principal)>,
    seen: HashSet<RequestHash>,
    of: HashMap<Principal, usize>,
    max: usize,
    max_of_one: usize,
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::bounded(REMEMBERED_MAX, REMEMBERED_OF_ONE_MAX)
    }
}

impl ReplayWindow {
    /// With other bounds.
    #[must_use]
    pub fn bounded(max: usize, max_of_one: usize) -> Self {
        Self {
            by_end: BTreeSet::new(),
            seen: HashSet::new(),
            of: HashMap::new(),
            max,
            max_of_one,
        }
    }

    /// Whether a request was answered.
    #[must_use]
    pub fn contains(&self, request: &RequestHash) -> bool {
        self.seen.contains(request)
    }

    /// Remembers a request until `expires`, after forgetting those whose time is over at `now`. `now` never goes back.
    ///
    /// # Errors
    /// [`Reason::Replayed`] when it was answered before, [`Reason::Busy`] at the bounds: it must not be answered then.
    pub fn take(
        &mut self,
        request: RequestHash,
        principal: Principal,
        expires: TimestampMs,
        now: TimestampMs,
    ) -> Result<(), Reason> {
        while let Some(first) = self.by_end.first().copied()
            && first.0 <= now
        {
            self.forget(first);
        }
        if self.contains(&request) {
            return Err(Reason::Replayed);
        }
        let of_one = self.of.get(&principal).copied().unwrap_or(0);
        if self.by_end.len() >= self.max || of_one >= self.max_of_one {
            return Err(Reason::Busy);
        }
        self.by_end.insert((expires, request, principal));
        self.seen.insert(request);
        self.of.insert(principal, of_one.saturating_add(1));
        Ok(())
    }

    fn forget(&mut self, entry: (TimestampMs, RequestHash, Principal)) {
        self.by_end.remove(&entry);
        let (_, request, principal) = entry;
        self.seen.remove(&request);
        let left = self
            .of
            .get(&principal)
            .map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            self.of.remove(&principal);
        } else {
            self.of.insert(principal, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(
        window: &mut ReplayWindow,
        request: u8,
        who: u8,
        expires: u64,
        now: u64,
    ) -> Result<(), Reason> {
        window.take(
            RequestHash([request; 32]),
            Principal([who; 32]),
            TimestampMs(expires),
            TimestampMs(now),
        )
    }

    #[test]
    fn each_request_once_until_its_time_is_over() {
        let mut window = ReplayWindow::default();
        assert_eq!(take(&mut window, 1, 1, 100, 50), Ok(()));
        assert_eq!(take(&mut window, 1, 1, 100, 99), Err(Reason::Replayed));
        // Whoever asks: the hash covers the principal.
        assert_eq!(take(&mut window, 1, 2, 900, 99), Err(Reason::Replayed));
        assert!(window.contains(&RequestHash([1; 32])));
        // From here on its own end refuses it.
        assert_eq!(take(&mut window, 2, 1, 200, 100), Ok(()));
        assert!(!window.contains(&RequestHash([1; 32])));
    }

    #[test]
    fn full_means_no_and_nobody_fills_it_alone() {
        let mut window = ReplayWindow::bounded(4, 2);
        assert_eq!(take(&mut window, 1, 1, 100, 0), Ok(()));
        assert_eq!(take(&mut window, 2, 1, 100, 0), Ok(()));
        assert_eq!(take(&mut window, 3, 1, 100, 0), Err(Reason::Busy));
        assert_eq!(take(&mut window, 3, 2, 110, 0), Ok(()));
        assert_eq!(take(&mut window, 4, 3, 110, 0), Ok(()));
        assert_eq!(take(&mut window, 5, 4, 110, 0), Err(Reason::Busy));
        assert_eq!(take(&mut window, 5, 1, 110, 100), Ok(()));
        assert_eq!(take(&mut window, 6, 1, 110, 100), Ok(()));
        assert_eq!(take(&mut window, 7, 1, 110, 100), Err(Reason::Busy));
        assert_eq!(
            (window.by_end.len(), window.seen.len(), window.of.len()),
            (4, 4, 3)
        );
    }
}
