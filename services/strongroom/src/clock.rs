//! The wall clock of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

use domain::TimestampMs;

/// Now, in milliseconds since 1970; 0 on a clock before that.
pub fn now() -> TimestampMs {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    TimestampMs(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
