//! Where certificate checks get their time from, so that tests can move it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use domain::TimestampMs;
use rustls_pki_types::UnixTime;

/// A source of the present time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimestampMs + Send + Sync>);

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| TimestampMs(UnixTime::now().as_secs().saturating_mul(1_000)))
    }

    /// A clock of the caller's.
    #[must_use]
    pub fn new(now: impl Fn() -> TimestampMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The present time.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        (self.0)()
    }

    pub(crate) fn unix(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_millis(self.now().0))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

impl rustls::time_provider::TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(self.unix())
    }
}
