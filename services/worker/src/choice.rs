//! Which custodians are asked first: at random, preferring those that answered quickly.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::Principal;

use crate::settings::Hedge;

/// Answers that the 95th percentile is taken of.
const RECENT_MAX: usize = 256;
/// Answers before it says anything.
const RECENT_MIN: usize = 16;
/// Custodians that are remembered.
const KNOWN_MAX: usize = 1_024;
/// One choice in so many looks at no speed, so that one that was slow once is tried again.
const EXPLORE_ONE_IN: u32 = 16;
/// What a failure counts as at least.
const FAILURE_MICROS_MIN: u64 = 100_000;
const FAILURE_MICROS_MAX: u64 = 10_000_000;

/// How quick custodians were lately.
#[derive(Debug)]
pub(crate) struct Speeds {
    hedge: Hedge,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Moving average by custodian, in microseconds.
    averages: HashMap<Principal, u64>,
    recent: Vec<Duration>,
    next: usize,
}

impl Speeds {
    pub(crate) fn new(hedge: Hedge) -> Self {
        Self {
            hedge,
            known: Mutex::default(),
        }
    }

    /// A custodian answered after `took`.
    pub(crate) fn answered(&self, custodian: &Principal, took: Duration) {
        let micros = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX)
            .min(FAILURE_MICROS_MAX);
        let mut known = self.lock();
        if known.recent.len() < RECENT_MAX {
            known.recent.push(took);
        } else {
            let next = known.next % RECENT_MAX;
            if let Some(slot) = known.recent.get_mut(next) {
                *slot = took;
            }
        }
        known.next = known.next.wrapping_add(1);
        known.update(custodian, |average| {
            average.map_or(micros, |average| (7 * average + micros) / 8)
        });
    }

    /// A custodian did not answer, or wrongly.
    pub(crate) fn failed(&self, custodian: &Principal) {
        self.lock().update(custodian, |average| {
            (2 * average.unwrap_or(0)).clamp(FAILURE_MICROS_MIN, FAILURE_MICROS_MAX)
        });
    }

    /// After how long one custodian more is asked: the 95th percentile of the recent answers.
    pub(crate) fn hedge_after(&self) -> Duration {
        let mut recent = {
            let known = self.lock();
            if known.recent.len() < RECENT_MIN {
                return self.hedge.first;
            }
            known.recent.clone()
        };
        // Below the length, as that is not 0.
        let at = recent.len() * 95 / 100;
        let (_, p95, _) = recent.select_nth_unstable(at);
        (*p95).clamp(self.hedge.least, self.hedge.most)
    }

    /// The order to ask in. `last` says who is asked after all others. `random` gives random numbers.
    pub(crate) fn order<T>(
        &self,
        candidates: &mut [T],
        principal: impl Fn(&T) -> Principal,
        last: impl Fn(&T) -> bool,
        mut random: impl FnMut() -> u32,
    ) {
        let explore = random().is_multiple_of(EXPLORE_ONE_IN);
        let known = self.lock();
        candidates.sort_by_cached_key(|candidate| {
            let average = known
                .averages
                .get(&principal(candidate))
                .copied()
                .unwrap_or(0);
            // Between half and one and a half of it; those not known yet come first.
            let factor = 512 + u64::from(random() % 1_024);
            let score = if explore {
                factor
            } else {
                average.saturating_mul(factor)
            };
            (last(candidate), score, random())
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn update(&mut self, custodian: &Principal, change: impl FnOnce(Option<u64>) -> u64) {
        if self.averages.len() >= KNOWN_MAX && !self.averages.contains_key(custodian) {
            self.averages.clear();
        }
        let average = change(self.averages.get(custodian).copied());
        self.averages.insert(*custodian, average);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn speeds() -> Speeds {
        Speeds::new(Settings::default().hedge)
    }

    fn person(byte: u8) -> Principal {
        Principal([byte; 32])
    }

    /// How often each of five is among the first three of a thousand choices.
    fn first_three(speeds: &Speeds, last: u8) -> [u32; 5] {
        let mut counts = [0; 5];
        let mut state = 7_u32;
        for _ in 0..1_000 {
            let mut all = [0_u8, 1, 2, 3, 4];
            let random = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 8
            };
            speeds.order(&mut all, |one| person(*one), |one| *one == last, random);
            for one in &all[..3] {
                counts[usize::from(*one)] += 1;
            }
        }
        counts
    }

    #[test]
    fn the_quick_are_asked_more_and_nobody_is_forgotten() {
        let speeds = speeds();
        for _ in 0..40 {
            for one in 0..4 {
                speeds.answered(&person(one), Duration::from_micros(900));
            }
            speeds.answered(&person(4), Duration::from_millis(40));
        }
        let counts = first_three(&speeds, 99);
        assert!(counts[..4].iter().all(|count| *count > 500), "{counts:?}");
        assert!((1..200).contains(&counts[4]), "{counts:?}");
        // One that fails falls behind at once, and comes back with good answers.
        for _ in 0..3 {
            speeds.failed(&person(0));
        }
        assert!(first_three(&speeds, 99)[0] < 300);
        for _ in 0..60 {
            speeds.answered(&person(0), Duration::from_micros(900));
        }
        assert!(first_three(&speeds, 99)[0] > 500);
        assert_eq!(first_three(&speeds, 1)[1], 0, "who is to be last is last");
    }

    #[test]
    fn one_more_is_asked_after_the_95th_percentile_within_bounds() {
        let speeds = speeds();
        assert_eq!(speeds.hedge_after(), Duration::from_millis(200));
        for ms in 1..=100 {
            speeds.answered(&person(1), Duration::from_millis(ms));
        }
        assert_eq!(speeds.hedge_after(), Duration::from_millis(96));
        for _ in 0..300 {
            speeds.answered(&person(1), Duration::from_micros(5));
        }
        assert_eq!(speeds.hedge_after(), Duration::from_millis(10));
        for _ in 0..300 {
            speeds.answered(&person(1), Duration::from_secs(9));
        }
        assert_eq!(speeds.hedge_after(), Duration::from_secs(2));
        for byte in 0..=255 {
            for other in 0..8 {
                let mut name = [byte; 32];
                name[0] = other;
                speeds.answered(&Principal(name), Duration::from_millis(1));
            }
        }
        assert!(speeds.lock().averages.len() <= KNOWN_MAX);
    }
}
