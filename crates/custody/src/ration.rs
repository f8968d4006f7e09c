//! How many pages of an audit log anybody may ask for, and how often asking is written down.

use std::collections::HashMap;

use domain::{Principal, TimestampMs};

use crate::reason::{Denial, Reason};

/// Pages that one asker is given in a minute.
pub const PAGES_OF_ONE_MAX: u32 = 4_096;
/// Askers in a minute whose keys' entries, or everything, may be shown.
pub const ASKERS_MAX: usize = 1_024;
/// Pages in a minute that all others are given together: those who own none of the keys and do not govern.
pub const PAGES_OF_OTHERS_MAX: u32 = 1_024;
/// A minute.
const WINDOW_MS: u64 = 60_000;

/// Counts by the ledger's minutes. What it remembers is bounded, and none of it has to do with requests to decrypt.
#[derive(Debug, Default)]
pub struct Rations {
    minute: u64,
    of: HashMap<Principal, Ration>,
    others: u32,
}

#[derive(Debug, Default)]
struct Ration {
    pages: u32,
    recorded: bool,
}

impl Rations {
    /// One page more at `now`. `entitled`: whether entries of others may be shown, because the asker owns keys or governs.
    ///
    /// # Errors
    /// [`Reason::Busy`] at a bound.
    pub fn take(
        &mut self,
        asker: &Principal,
        entitled: bool,
        now: TimestampMs,
    ) -> Result<(), Denial> {
        let minute = now.0.checked_div(WINDOW_MS).unwrap_or(0);
        if minute > self.minute {
            *self = Self {
                minute,
                ..Self::default()
            };
        }
        let busy = |what: &str| Denial::new(Reason::Busy, what);
        if !entitled {
            if self.others >= PAGES_OF_OTHERS_MAX {
                return Err(busy("pages of the audit log in this minute"));
            }
            self.others = self.others.saturating_add(1);
            return Ok(());
        }
        if !self.of.contains_key(asker) && self.of.len() >= ASKERS_MAX {
            return Err(busy("askers for the audit log in this minute"));
        }
        let ration = self.of.entry(*asker).or_default();
        if ration.pages >= PAGES_OF_ONE_MAX {
            return Err(busy("pages of the audit log for this asker in this minute"));
        }
        ration.pages = ration.pages.saturating_add(1);
        Ok(())
    }

    /// Whether it is still to be written down that this asker is shown something: once in a minute, so that reading a log does not push
    /// out what is in it.
    #[must_use]
    pub fn is_due(&self, asker: &Principal) -> bool {
        self.of.get(asker).is_none_or(|ration| !ration.recorded)
    }

    /// It is written down.
    pub fn recorded(&mut self, asker: &Principal) {
        if let Some(ration) = self.of.get_mut(asker) {
            ration.recorded = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(number: u32) -> Principal {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Principal(bytes)
    }

    #[test]
    fn one_asker_has_a_bounded_number_of_pages_in_a_minute() {
        let mut rations = Rations::default();
        let at = |minute: u64| TimestampMs(minute * WINDOW_MS + 7);
        for _ in 0..PAGES_OF_ONE_MAX {
            rations.take(&person(1), true, at(5)).unwrap();
        }
        let refused = rations.take(&person(1), true, at(5)).unwrap_err();
        assert_eq!(refused.reason, Reason::Busy);
        rations.take(&person(2), true, at(5)).unwrap();
        // A time that goes back gives nothing new.
        assert!(rations.take(&person(1), true, at(4)).is_err());
        rations.take(&person(1), true, at(6)).unwrap();
    }

    #[test]
    fn strangers_share_one_ration_and_leave_the_others_theirs() {
        let mut rations = Rations::default();
        let now = TimestampMs(WINDOW_MS);
        for number in 0..PAGES_OF_OTHERS_MAX {
            rations.take(&person(number), false, now).unwrap();
        }
        assert!(rations.take(&person(9_999), false, now).is_err());
        assert!(rations.of.is_empty(), "nothing is remembered of them");
        rations.take(&person(1), true, now).unwrap();
    }

    #[test]
    fn the_number_of_askers_is_bounded() {
        let mut rations = Rations::default();
        let now = TimestampMs(0);
        for number in 0..u32::try_from(ASKERS_MAX).unwrap() {
            rations.take(&person(number), true, now).unwrap();
        }
        assert!(rations.take(&person(77_777), true, now).is_err());
        rations.take(&person(3), true, now).unwrap();
        assert_eq!(rations.of.len(), ASKERS_MAX);
    }

    #[test]
    fn asking_is_written_down_once_a_minute() {
        let mut rations = Rations::default();
        let who = person(1);
        rations.take(&who, true, TimestampMs(1)).unwrap();
        assert!(rations.is_due(&who));
        rations.recorded(&who);
        rations.take(&who, true, TimestampMs(2)).unwrap();
        assert!(!rations.is_due(&who));
        rations.take(&who, true, TimestampMs(WINDOW_MS)).unwrap();
        assert!(rations.is_due(&who));
    }
}
