//! Every bound of a worker.

use std::time::Duration;

/// Bounds; the defaults suit a worker of some thousand operations a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Requests to decrypt at a time; further ones are refused as `busy`.
    pub decrypts_max: usize,
    /// Key versions being dealt or checked at a time.
    pub dealings_max: usize,
    /// Shares in locked memory at a time, 96 bytes each.
    pub shares_max: usize,
    /// Key versions whose public parts are remembered.
    pub versions_max: usize,
    /// A whole request to decrypt.
    pub decrypt: Duration,
    /// One custodian's answer to it.
    pub release: Duration,
    /// Before one custodian more is asked, while little is known of how quick they are; and the least and most once it is.
    pub hedge: Hedge,
    /// A whole dealing, activation included.
    pub deal: Duration,
    /// One step of it at one custodian.
    pub step: Duration,
    /// Before a dealing, for members and another worker that are not connected: they may have been started a moment ago.
    pub gather: Duration,
    /// Between two rounds of the key generation in which nobody had anything to say.
    pub pause: Duration,
    /// Rounds of the key generation.
    pub rounds_max: u32,
}

/// When one custodian more is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hedge {
    /// While fewer than 16 answers were timed.
    pub first: Duration,
    /// However quick the custodians are.
    pub least: Duration,
    /// However slow.
    pub most: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            decrypts_max: 128,
            dealings_max: 8,
            shares_max: 640,
            versions_max: 2_048,
            decrypt: Duration::from_secs(8),
            release: Duration::from_secs(4),
            hedge: Hedge {
                first: Duration::from_millis(200),
                least: Duration::from_millis(10),
                most: Duration::from_secs(2),
            },
            deal: Duration::from_secs(20),
            step: Duration::from_secs(5),
            gather: Duration::from_secs(2),
            pause: Duration::from_millis(20),
            rounds_max: 4_096,
        }
    }
}
