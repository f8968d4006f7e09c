//! Whether the pages of an audit log make one whole log: from the first entry that is kept to the end that was signed first, with what was
//! seen of it before and what its custodian has put on the ledger in it.

use crate::audit::{AuditHead, AuditStart, Page};

/// How often a check begins anew because entries were dropped while it read.
pub const RESTARTS_MAX: u32 = 3;

/// Why a log is not what it should be. Each is the custodian's doing, or of whoever holds its store: pages are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It ends before what the ledger holds of it.
    #[error(
        "it ends at entry {end}, and its custodian has put entry {anchored} on the ledger: it was rolled back"
    )]
    BehindLedger {
        /// Where it ends.
        end: u64,
        /// What the ledger has.
        anchored: u64,
    },
    /// Another entry than the one on the ledger.
    #[error("entry {0} is not the one that its custodian has put on the ledger")]
    NotAnchored(u64),
    /// It ends before what was seen of it.
    #[error("it ends at entry {end}, and entry {seen} was seen before")]
    Shorter {
        /// Where it ends.
        end: u64,
        /// What was seen.
        seen: u64,
    },
    /// Another entry than the one that was seen.
    #[error("entry {0} is not the one that was seen before")]
    NotSeen(u64),
    /// Another entry than the one that the log was signed to end with.
    #[error("entry {0} is not the one that the log was signed to end with")]
    End(u64),
    /// It goes on, but no more is shown.
    #[error("nothing is shown after entry {0} although it goes on")]
    Nothing(u64),
    /// Entries go faster than they can be read.
    #[error("entries were dropped while it was read, each time anew")]
    Dropping,
}

/// What to do after a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Ask for the page that follows this entry; it must continue it.
    Page(AuditHead),
    /// Entries were dropped meanwhile: begin at the first one that is kept.
    Restart,
    /// It is whole.
    Done(Whole),
}

/// A log that was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole {
    /// What it begins after, and since when.
    pub start: AuditStart,
    /// The last entry.
    pub last: AuditHead,
    /// How many entries.
    pub entries: u64,
    /// Whether what was seen before is in it; `None` when that was dropped since, or there was nothing.
    pub seen: Option<u64>,
    /// What the ledger holds of it and it contains; `None` when that was dropped since, or there was nothing.
    pub anchored: Option<u64>,
}

/// The state of a check. Pages must have been verified ([`Page::verify`], [`crate::audit::verify_page`]).
#[derive(Debug)]
pub struct LogCheck {
    seen: Option<AuditHead>,
    anchored: Option<AuditHead>,
    reading: Option<Reading>,
    restarts: u32,
}

#[derive(Debug)]
struct Reading {
    start: AuditStart,
    end: AuditHead,
    last: AuditHead,
    entries: u64,
}

impl LogCheck {
    /// With what was seen of the log before and what the ledger holds of it; both read before the first page.
    #[must_use]
    pub fn new(seen: Option<AuditHead>, anchored: Option<AuditHead>) -> Self {
        let some = |head: Option<AuditHead>| head.filter(|head| head.sequence > 0);
        Self {
            seen: some(seen),
            anchored: some(anchored),
            reading: None,
            restarts: 0,
        }
    }

    /// Takes the next page: at first one from the beginning, then those that are asked for.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn page(&mut self, page: &Page) -> Result<Next, LogError> {
        let mut reading = match self.reading.take() {
            Some(reading) if page.start.before.sequence > reading.last.sequence => {
                self.restarts = self.restarts.saturating_add(1);
                return if self.restarts > RESTARTS_MAX {
                    Err(LogError::Dropping)
                } else {
                    Ok(Next::Restart)
                };
            }
            Some(reading) => reading,
            None => {
                let reading = Reading {
                    start: page.start,
                    end: page.head,
                    last: page.start.before,
                    entries: 0,
                };
                self.begins(&reading)?;
                reading
            }
        };
        if page.head.sequence < reading.end.sequence {
            return Err(LogError::Shorter {
                end: page.head.sequence,
                seen: reading.end.sequence,
            });
        }
        for entry in &page.entries {
            if entry.sequence > reading.end.sequence {
                break;
            }
            reading.last = AuditHead {
                sequence: entry.sequence,
                hash: entry.hash,
            };
            reading.entries = reading.entries.saturating_add(1);
            self.compare(&reading.last)?;
            if entry.sequence == reading.end.sequence && entry.hash != reading.end.hash {
                return Err(LogError::End(entry.sequence));
            }
        }
        if reading.last.sequence < reading.end.sequence {
            if page.entries.is_empty() {
                return Err(LogError::Nothing(reading.last.sequence));
            }
            let last = reading.last;
            self.reading = Some(reading);
            return Ok(Next::Page(last));
        }
        let kept = |head: Option<AuditHead>| {
            let head = head.filter(|head| head.sequence >= reading.start.before.sequence);
            head.map(|head| head.sequence)
        };
        Ok(Next::Done(Whole {
            start: reading.start,
            last: reading.last,
            entries: reading.entries,
            seen: kept(self.seen),
            anchored: kept(self.anchored),
        }))
    }

    fn begins(&self, reading: &Reading) -> Result<(), LogError> {
        let end = reading.end.sequence;
        if let Some(anchored) = self.anchored.filter(|head| head.sequence > end) {
            let anchored = anchored.sequence;
            return Err(LogError::BehindLedger { end, anchored });
        }
        if let Some(seen) = self.seen.filter(|head| head.sequence > end) {
            let seen = seen.sequence;
            return Err(LogError::Shorter { end, seen });
        }
        self.compare(&reading.last)
    }

    /// An entry against what is known of its place.
    fn compare(&self, entry: &AuditHead) -> Result<(), LogError> {
        let differs = |known: Option<AuditHead>| {
            known.is_some_and(|known| known.sequence == entry.sequence && known.hash != entry.hash)
        };
        if differs(self.anchored) {
            return Err(LogError::NotAnchored(entry.sequence));
        }
        if differs(self.seen) {
            return Err(LogError::NotSeen(entry.sequence));
        }
        Ok(())
    }
}
