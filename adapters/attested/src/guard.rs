//! What ends a session from inside: its age, its evidence's end, a changed policy.

use std::future::Future;
use std::sync::Arc;

use attestation::Policy;
use domain::TimestampMs;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::endpoint::Now;
use crate::error::SessionError;

/// One half of a session's watch over itself.
#[derive(Clone)]
pub(crate) struct Guard {
    /// By the monotonic clock, which the host could stop; so `valid_until` is looked at as well.
    pub(crate) deadline: Instant,
    pub(crate) valid_until: TimestampMs,
    pub(crate) now: Now,
    /// The policy the peer was appraised under, and where changes appear; `None` for a peer that proved nothing.
    pub(crate) policy: Option<(u64, watch::Receiver<Arc<Policy>>)>,
}

impl Guard {
    /// Whether the session still counts.
    pub(crate) fn check(&self) -> Result<(), SessionError> {
        if Instant::now() >= self.deadline || (self.now)() >= self.valid_until {
            return Err(self.expired());
        }
        if let Some((appraised, policy)) = &self.policy {
            let now = policy.borrow().version;
            if now != *appraised {
                return Err(SessionError::PolicyChanged {
                    appraised: *appraised,
                    now,
                });
            }
        }
        Ok(())
    }

    /// Runs `work` for as long as the session counts.
    pub(crate) async fn during<T>(
        &mut self,
        work: impl Future<Output = Result<T, SessionError>>,
    ) -> Result<T, SessionError> {
        self.check()?;
        tokio::select! {
            biased;
            error = self.ended() => Err(error),
            result = work => result,
        }
    }

    async fn ended(&mut self) -> SessionError {
        let expired = self.expired();
        let over = tokio::time::sleep_until(self.deadline);
        let Some((appraised, policy)) = &mut self.policy else {
            over.await;
            return expired;
        };
        let appraised = *appraised;
        tokio::select! {
            biased;
            changed = policy.wait_for(|policy| policy.version != appraised) => match changed {
                Ok(policy) => SessionError::PolicyChanged { appraised, now: policy.version },
                Err(_) => SessionError::PolicyUnknown,
            },
            () = over => expired,
        }
    }

    fn expired(&self) -> SessionError {
        SessionError::Expired {
            valid_until: self.valid_until,
        }
    }
}
