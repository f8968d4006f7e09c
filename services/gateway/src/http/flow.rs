//! Responses under way: how much of each has left, and connections on which one does not move.
//!
//! HTTP/2 gives every stream a window of its own, so a receiver can keep a response waiting for ever while its connection
//! looks alive. Each response therefore has to leave at a minimum rate of its own; one that does not ends its connection,
//! and with it gives back the share of the byte budget that its bytes hold.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::budget::BudgetGuard;

/// Patience with every response before its rate counts.
const GRACE: Duration = Duration::from_secs(10);
/// How often the responses of a connection are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// A response may be this much slower than a connection has to be: many share one.
const STREAMS_SHARE: u64 = 4;
/// Ended responses are swept out when there are this many entries.
const SWEEP_AT: usize = 64;

/// The responses of one connection.
#[derive(Debug)]
pub struct Flows {
    rate: u64,
    list: Mutex<(Vec<Weak<Flow>>, usize)>,
}

/// One response: what of it has left, and the budget that it holds until all has.
#[derive(Debug)]
pub struct Flow {
    begun: Instant,
    /// Bytes of frames that the connection has sent or dropped.
    gone: AtomicU64,
    /// Bytes of the largest frame: that much may be on its way without showing in `gone`.
    largest: u64,
    _guard: Option<BudgetGuard>,
}

impl Flows {
    /// For a connection that must move `min_rate` bytes per second.
    #[must_use]
    pub fn new(min_rate: u64) -> Self {
        Self {
            rate: (min_rate / STREAMS_SHARE).max(1),
            list: Mutex::new((Vec::new(), SWEEP_AT)),
        }
    }

    fn add(&self, flow: &Arc<Flow>) {
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        let (flows, sweep_at) = &mut *list;
        if flows.len() >= *sweep_at {
            flows.retain(|flow| flow.strong_count() > 0);
            *sweep_at = (flows.len() * 2).max(SWEEP_AT);
        }
        flows.push(Arc::downgrade(flow));
    }

    /// Whether a response has been slower than it may.
    #[must_use]
    pub fn stalled(&self) -> bool {
        let now = Instant::now();
        let mut list = self.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.0.retain(|flow| flow.strong_count() > 0);
        list.0
            .iter()
            .filter_map(Weak::upgrade)
            .any(|flow| now > flow.deadline(self.rate))
    }

    /// Ends when a response has been slower than it may.
    pub async fn watch(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.stalled() {
                return;
            }
        }
    }
}

impl Flow {
    fn deadline(&self, rate: u64) -> Instant {
        let earned = self.gone.load(Ordering::Relaxed) + self.largest;
        self.begun + GRACE + Duration::from_secs(earned / rate)
    }
}

/// A frame that says when it is gone.
struct Piece {
    bytes: Bytes,
    flow: Arc<Flow>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let bytes = u64::try_from(self.bytes.len()).unwrap_or(0);
        self.flow.gone.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Ties frames to a response of a connection: `guard` is held until the last of them has been sent or dropped, also by the
/// connection's own buffers.
pub fn tied(frames: Vec<Bytes>, guard: Option<BudgetGuard>, flows: &Flows) -> Vec<Bytes> {
    let length = |frame: &Bytes| u64::try_from(frame.len()).unwrap_or(0);
    let flow = Arc::new(Flow {
        begun: Instant::now(),
        gone: AtomicU64::new(0),
        largest: frames.iter().map(length).max().unwrap_or(0),
        _guard: guard,
    });
    flows.add(&flow);
    frames
        .into_iter()
        .map(|bytes| {
            let flow = Arc::clone(&flow);
            Bytes::from_owner(Piece { bytes, flow })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Budget, Share};
    use domain::Principal;

    const RATE: u64 = 16 << 10;

    async fn response(budget: &Budget, flows: &Flows, frames: usize) -> Vec<Bytes> {
        let guard = budget
            .take(Principal([1; 32]), Share::Get, frames << 20)
            .await
            .unwrap();
        let frames = vec![Bytes::from(vec![0; 1 << 20]); frames];
        tied(frames, Some(guard), flows)
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_held_until_the_last_byte_has_left() {
        let budget = Budget::new(96 << 20, None);
        let flows = Flows::new(RATE);
        let mut frames = response(&budget, &flows, 4).await;
        assert_eq!(budget.free_bytes(), 92 << 20);
        // What the connection's buffers still hold counts.
        let buffered = frames.pop().unwrap().slice(7..);
        drop(frames);
        assert_eq!(budget.free_bytes(), 92 << 20);
        drop(buffered);
        assert_eq!(budget.free_bytes(), 96 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_does_not_move_is_found() {
        let budget = Budget::new(96 << 20, None);
        let flows = Flows::new(RATE);
        let mut frames = response(&budget, &flows, 4).await;
        let per_frame = Duration::from_secs((1 << 20) / (RATE / STREAMS_SHARE));
        // One frame may be on its way all this time.
        tokio::time::advance(GRACE + per_frame).await;
        assert!(!flows.stalled());
        // Another one has left: that earns the next as much time.
        frames.pop();
        tokio::time::advance(per_frame).await;
        assert!(!flows.stalled());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(flows.stalled());
        drop(frames);
        assert!(!flows.stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn ended_responses_take_no_room() {
        let budget = Budget::new(96 << 20, None);
        let flows = Flows::new(RATE);
        let held = response(&budget, &flows, 1).await;
        for _ in 0..10_000 {
            drop(response(&budget, &flows, 1).await);
        }
        assert!(flows.list.lock().unwrap().0.len() <= SWEEP_AT + 1);
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(flows.stalled());
        drop(held);
    }
}
