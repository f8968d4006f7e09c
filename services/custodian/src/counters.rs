//! Totals since the start, for whoever asks.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

/// Named totals. The names are fixed in the program, so their number is bounded.
#[derive(Debug, Default)]
pub(crate) struct Counters(Mutex<BTreeMap<&'static str, u64>>);

impl Counters {
    pub(crate) fn add(&self, name: &'static str, count: u64) {
        let mut totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry(name).or_default();
        *total = total.saturating_add(count);
    }

    pub(crate) fn all(&self) -> HashMap<String, u64> {
        let totals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        totals
            .iter()
            .map(|(name, total)| ((*name).to_owned(), *total))
            .collect()
    }
}
