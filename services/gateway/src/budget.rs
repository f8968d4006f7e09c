//! Back-pressure by bytes: what puts and gets may hold in memory at once.
//!
//! One pool for both; puts may take two thirds of it, so that a third is always there for reads; each principal may
//! take a capped part. Whoever waits longer than [`WAIT`] is told to come back later.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::Principal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for its bytes.
pub const WAIT: Duration = Duration::from_secs(20);

/// Bytes of one permit.
const UNIT_BYTES: usize = 4_096;

/// No bytes came free in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway is at its memory budget")]
pub struct BudgetExhausted;

/// Which share a request draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Two thirds of the pool.
    Put,
    /// All of the pool.
    Get,
}

/// Bytes taken from the budget; they return when it is dropped.
#[derive(Debug)]
pub struct BudgetGuard {
    permits: [Option<OwnedSemaphorePermit>; 3],
}

impl BudgetGuard {
    /// Gives back what is more than `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let units = bytes.div_ceil(UNIT_BYTES).max(1);
        for permit in self.permits.iter_mut().flatten() {
            drop(permit.split(permit.num_permits().saturating_sub(units)));
        }
    }
}

/// The byte budget of a gateway.
#[derive(Debug)]
pub struct Budget {
    all: Arc<Semaphore>,
    puts: Arc<Semaphore>,
    all_units: usize,
    put_units: usize,
    principal_units: Option<usize>,
    principals: Mutex<HashMap<Principal, Arc<Semaphore>>>,
}

impl Budget {
    /// A pool of `bytes`, of which one principal may hold `principal_bytes`.
    #[must_use]
    pub fn new(bytes: usize, principal_bytes: Option<usize>) -> Self {
        let all_units = (bytes / UNIT_BYTES).max(3);
        let put_units = (all_units / 3 * 2).max(1);
        Self {
            all: Arc::new(Semaphore::new(all_units)),
            puts: Arc::new(Semaphore::new(put_units)),
            all_units,
            put_units,
            principal_units: principal_bytes.map(|bytes| (bytes / UNIT_BYTES).max(1)),
            principals: Mutex::new(HashMap::new()),
        }
    }

    /// Bytes that are not taken.
    #[must_use]
    pub fn free_bytes(&self) -> usize {
        self.all.available_permits() * UNIT_BYTES
    }

    /// Waits for `bytes`; a request larger than its whole share gets the whole share.
    ///
    /// # Errors
    /// [`BudgetExhausted`] after [`WAIT`].
    pub async fn take(
        &self,
        principal: Principal,
        share: Share,
        bytes: usize,
    ) -> Result<BudgetGuard, BudgetExhausted> {
        tokio::time::timeout(WAIT, self.take_unbounded(principal, share, bytes))
            .await
            .map_err(|_| BudgetExhausted)?
    }

    async fn take_unbounded(
        &self,
        principal: Principal,
        share: Share,
        bytes: usize,
    ) -> Result<BudgetGuard, BudgetExhausted> {
        let cap = match share {
            Share::Put => self.put_units,
            Share::Get => self.all_units,
        };
        let cap = self.principal_units.map_or(cap, |own| own.min(cap));
        let units = bytes.div_ceil(UNIT_BYTES).clamp(1, cap);
        // Narrow pools first, always in this order: nobody holds the common pool while waiting for a narrow one.
        let own = match self.principal_pool(principal) {
            Some(pool) => Some(acquire(pool, units).await?),
            None => None,
        };
        let put = match share {
            Share::Put => Some(acquire(Arc::clone(&self.puts), units).await?),
            Share::Get => None,
        };
        let all = acquire(Arc::clone(&self.all), units).await?;
        Ok(BudgetGuard {
            permits: [own, put, Some(all)],
        })
    }

    fn principal_pool(&self, principal: Principal) -> Option<Arc<Semaphore>> {
        let units = self.principal_units?;
        let mut pools = self
            .principals
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if pools.len() >= 1_024 {
            // Pools nobody holds or waits for are full and can be made again.
            pools.retain(|_, pool| Arc::strong_count(pool) > 1);
        }
        let pool = pools
            .entry(principal)
            .or_insert_with(|| Arc::new(Semaphore::new(units)));
        Some(Arc::clone(pool))
    }
}

async fn acquire(
    pool: Arc<Semaphore>,
    units: usize,
) -> Result<OwnedSemaphorePermit, BudgetExhausted> {
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    pool.acquire_many_owned(units)
        .await
        .map_err(|_| BudgetExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Principal = Principal([1; 32]);
    const B: Principal = Principal([2; 32]);

    #[tokio::test(start_paused = true)]
    async fn what_was_announced_for_nothing_goes_back() {
        let budget = Budget::new(96 << 20, Some(48 << 20));
        let mut guard = budget.take(A, Share::Put, 2 << 20).await.unwrap();
        guard.shrink_to(5_000);
        assert_eq!(budget.free_bytes(), (96 << 20) - 8_192);
        // Never more than was taken.
        guard.shrink_to(1 << 20);
        assert_eq!(budget.free_bytes(), (96 << 20) - 8_192);
        // The narrow pools have it again too.
        let own = budget.take(A, Share::Put, (48 << 20) - 8_192).await;
        assert!(own.is_ok());
        drop((guard, own));
        assert_eq!(budget.free_bytes(), 96 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn puts_leave_a_third_for_reads() {
        let budget = Budget::new(96 << 20, None);
        let mut held = Vec::new();
        for _ in 0..16 {
            held.push(budget.take(A, Share::Put, 4 << 20).await.unwrap());
        }
        assert_eq!(
            budget.take(A, Share::Put, 4 << 20).await.unwrap_err(),
            BudgetExhausted
        );
        for _ in 0..8 {
            held.push(budget.take(A, Share::Get, 4 << 20).await.unwrap());
        }
        assert_eq!(
            budget.take(A, Share::Get, 1).await.unwrap_err(),
            BudgetExhausted
        );
        held.clear();
        assert_eq!(budget.free_bytes(), 96 << 20);
    }

    #[tokio::test(start_paused = true)]
    async fn one_principal_cannot_starve_another() {
        let budget = Budget::new(96 << 20, Some(8 << 20));
        let _held = [
            budget.take(A, Share::Put, 4 << 20).await.unwrap(),
            budget.take(A, Share::Get, 4 << 20).await.unwrap(),
        ];
        assert!(budget.take(A, Share::Get, 1).await.is_err());
        assert!(budget.take(B, Share::Put, 4 << 20).await.is_ok());
    }

    #[tokio::test]
    async fn oversized_requests_take_the_whole_share_and_no_more() {
        let budget = Budget::new(12 * UNIT_BYTES, None);
        let guard = budget.take(A, Share::Put, usize::MAX).await.unwrap();
        assert_eq!(budget.free_bytes(), 4 * UNIT_BYTES);
        drop(guard);
    }
}
