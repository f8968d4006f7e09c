//! Records that lie on the nodes before anybody knows whether their version will be committed.
//!
//! Small and recovery records have no upload intent: they are stored first and committed then. In between the client may
//! vanish, a node quorum be missed, or the database not say what became of the commit. Whoever stores a record holds a
//! [`Claim`] on it; a claim that is dropped before it is settled leaves the record here, and upkeep asks metadata a
//! little later whether anything refers to it. What a crash forgets is found by the next start's clean-up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use objects::layout::ChunkLayout;
use objects::metadata::MetadataError;
use tokio::time::Instant;

/// How long a record is left alone when nobody knows what became of it: its last copies may still be on the way.
const VANISHED_AGE: Duration = Duration::from_secs(60);
/// Records that wait, at most (about 300 bytes each); beyond that the oldest are left to the next start's clean-up.
const WAITING_MAX: usize = 16_384;

/// Records that nobody settled.
#[derive(Debug, Default)]
pub struct Unsettled {
    waiting: Mutex<VecDeque<(Instant, ChunkLayout)>>,
}

impl Unsettled {
    /// A claim on a record that is about to be sent.
    #[must_use]
    pub fn claim(self: &Arc<Self>, layout: ChunkLayout) -> Claim {
        Claim {
            list: Arc::clone(self),
            layout: Some(layout),
        }
    }

    /// Records that may be looked at now, at most `limit`.
    #[must_use]
    pub fn ready(&self, limit: usize) -> Vec<ChunkLayout> {
        let now = Instant::now();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ready = Vec::new();
        let mut left = VecDeque::with_capacity(waiting.len());
        for (at, layout) in waiting.drain(..) {
            if at <= now && ready.len() < limit {
                ready.push(layout);
            } else {
                left.push_back((at, layout));
            }
        }
        *waiting = left;
        ready
    }

    /// Puts records back that could not be asked about.
    pub fn put_back(&self, layouts: Vec<ChunkLayout>) {
        for layout in layouts {
            self.push(VANISHED_AGE, layout);
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn push(&self, after: Duration, layout: ChunkLayout) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back((Instant::now() + after, layout));
    }
}

/// Responsibility for a stored record until its row is committed.
#[derive(Debug)]
pub struct Claim {
    list: Arc<Unsettled>,
    layout: Option<ChunkLayout>,
}

impl Claim {
    /// Its row is committed: the record belongs to it now.
    pub fn committed(mut self) {
        self.layout = None;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(layout) = self.layout.take() {
            self.list.push(VANISHED_AGE, layout);
        }
    }
}

/// The claims of one request, settled together.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Takes one more.
    pub fn add(&mut self, claim: Claim) {
        self.0.push(claim);
    }

    /// By the answer of metadata: whether a row was written for these records. Otherwise they are looked at later: copies may
    /// still be on their way to slow nodes, and where nobody knows whether it was committed they may be the only ones.
    pub fn settle<T>(self, result: &Result<T, MetadataError>, fresh: impl Fn(&T) -> bool) {
        if result.as_ref().is_ok_and(fresh) {
            self.0.into_iter().for_each(Claim::committed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{Cid, Profile};

    fn layout(n: u8) -> ChunkLayout {
        ChunkLayout {
            profile: Profile::SMALL,
            chunk_bytes: u32::from(n),
            shards: vec![objects::layout::ShardPlace {
                node: objects::layout::NodeSlot(0),
                cid: Cid::of_raw(&[n]),
            }],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_settled_is_looked_at_after_a_while() {
        let list = Arc::new(Unsettled::default());
        list.claim(layout(1)).committed();
        drop(list.claim(layout(2)));
        assert!(list.ready(9).is_empty(), "sends may still be under way");
        tokio::time::advance(VANISHED_AGE).await;
        assert_eq!(list.ready(9), [layout(2)]);
        assert!(list.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_metadata_settle_all_claims_of_a_request() {
        let list = Arc::new(Unsettled::default());
        let check = |result: Result<bool, MetadataError>, waiting: usize| {
            let mut claims = Claims::default();
            claims.add(list.claim(layout(1)));
            claims.add(list.claim(layout(2)));
            let before = list.len();
            claims.settle(&result, |fresh| *fresh);
            assert_eq!(list.len() - before, waiting, "{result:?}");
        };
        check(Ok(true), 0);
        check(Ok(false), 2);
        check(Err(MetadataError::Replayed), 2);
        check(Err(MetadataError::Unavailable(String::new())), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_is_bounded() {
        let list = Arc::new(Unsettled::default());
        for _ in 0..WAITING_MAX + 10 {
            drop(list.claim(layout(1)));
        }
        assert_eq!(list.len(), WAITING_MAX);
    }
}
