//! What a node does unasked: tidies up, re-reads its shards, looks for a renewed certificate.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};
use transport::Credentials;

use crate::operations::Operations;
use crate::storage::Storage;

/// How long the scrub waits after the disk failed, and between passes of an empty store.
const SCRUB_PAUSE: Duration = Duration::from_secs(60);
/// The scrub is never in more of a hurry than this, whatever the period.
const SCRUB_STEP_MIN: Duration = Duration::from_millis(2);
/// And never slower, so that a store that grows is noticed.
const SCRUB_STEP_MAX: Duration = Duration::from_secs(60);

/// Tidies up for ever.
pub async fn maintain<S: Storage>(node: Arc<Operations<S>>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate, and the store has just been opened.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        loop {
            match node.maintain().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(refused) => {
                    tracing::error!(reason = %refused.reason, detail = %refused.detail, "the store cannot be tidied up");
                    break;
                }
            }
        }
    }
}

/// Re-reads every shard once per `period`, evenly spread.
pub async fn scrub<S: Storage>(node: Arc<Operations<S>>, period: Duration) {
    loop {
        sleep(step(period, node.own_stats().shard_count)).await;
        match node.scrub_next().await {
            Ok(step) if step.pass_done => tracing::debug!("the scrub has re-read every shard"),
            Ok(_) => {}
            Err(refused) => {
                tracing::error!(reason = %refused.reason, detail = %refused.detail, "the scrub cannot read");
                sleep(SCRUB_PAUSE).await;
            }
        }
    }
}

/// The pause between two shards.
fn step(period: Duration, shards: u64) -> Duration {
    let shards = u32::try_from(shards.max(1)).unwrap_or(u32::MAX);
    (period / shards).clamp(
        SCRUB_STEP_MIN,
        SCRUB_STEP_MAX.min(period.max(SCRUB_STEP_MIN)),
    )
}

/// Takes a renewed certificate without a restart.
pub async fn watch_certificate(credentials: Arc<Credentials>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Three small files; reading them in place is cheaper than a thread.
        match credentials.reload() {
            Ok(true) => tracing::info!("the certificate was renewed"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the certificate cannot be renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_of_the_scrub_fits_its_period() {
        let day = Duration::from_secs(86_400);
        assert_eq!(step(day, 86_400), Duration::from_secs(1));
        assert_eq!(step(day, 0), SCRUB_STEP_MAX);
        assert_eq!(step(day, u64::MAX), SCRUB_STEP_MIN);
        assert_eq!(step(Duration::from_millis(1), 1_000), SCRUB_STEP_MIN);
    }
}
