//! A store in memory whose faults the test chooses; also what the hop benchmark serves from, to leave the disk out.

#![allow(
    dead_code,
    reason = "the tests and the benchmark each use a part of it"
)]

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use node::storage::{Refused, Scrubbed, Shard, Storage, StorageStats};
use transport::{ListFilter, Refusal, ShardState, ShardSummary, Stored, WriteState};

#[derive(Clone)]
struct Kept {
    tag: ShardTag,
    proof: Bytes,
    body: Bytes,
}

/// What the store does instead of what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Writes are refused with this.
    Writes(WriteState),
    /// Writes never end.
    HangingWrites,
    /// Writes take a while.
    SlowWrites,
    /// Reads find their record damaged.
    Damaged,
    /// Reads panic.
    Panic,
}

#[derive(Default)]
struct State {
    shards: BTreeMap<Cid, Kept>,
    trash: BTreeMap<Cid, Kept>,
}

/// A store in memory; clones are the same store.
#[derive(Clone)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    fault: Arc<Mutex<Fault>>,
    check: bool,
}

impl Memory {
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            fault: Arc::new(Mutex::new(Fault::None)),
            check: true,
        }
    }

    /// One that does not hash what it stores.
    #[allow(
        dead_code,
        reason = "the benchmark measures the hop with and without the hash"
    )]
    pub fn unchecked() -> Self {
        Self {
            check: false,
            ..Self::new()
        }
    }

    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    pub fn holds(&self, cid: &Cid) -> bool {
        self.state().shards.contains_key(cid)
    }

    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writable(&self) -> Result<(), Refused> {
        match self.fault() {
            Fault::Writes(WriteState::Full) => Err(Refused::new(Refusal::Full, "no room")),
            Fault::Writes(WriteState::ReadOnly) => {
                Err(Refused::new(Refusal::ReadOnly, "mounted so"))
            }
            Fault::Writes(WriteState::Poisoned) => {
                Err(Refused::new(Refusal::Poisoned, "a sync failed"))
            }
            _ => Ok(()),
        }
    }
}

impl Storage for Memory {
    async fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> Result<Stored, Refused> {
        self.writable()?;
        if self.fault() == Fault::HangingWrites {
            std::future::pending::<()>().await;
        }
        if self.fault() == Fault::SlowWrites {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        let body = match body.as_slice() {
            [one] => one.clone(),
            frames => Bytes::from(frames.concat()),
        };
        if self.check && Cid::of_raw(&body) != cid {
            return Err(Refused::new(Refusal::CidMismatch, "other bytes"));
        }
        let already = self
            .state()
            .shards
            .insert(cid, Kept { tag, proof, body })
            .is_some();
        Ok(Stored { already })
    }

    fn get(
        &self,
        cid: &Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Option<Shard>, Refused> {
        match self.fault() {
            Fault::Damaged => return Err(Refused::new(Refusal::Corrupt, "damaged")),
            Fault::Panic => panic!("the store panics, as the test wants"),
            _ => {}
        }
        let Some(kept) = self.state().shards.get(cid).cloned() else {
            return Ok(None);
        };
        let total_bytes = u32::try_from(kept.body.len()).unwrap_or(u32::MAX);
        let range = range.unwrap_or(0..total_bytes);
        if range.end > total_bytes {
            return Err(Refused::new(Refusal::BadRange, "beyond the end"));
        }
        let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(Some(Shard {
            tag: kept.tag,
            total_bytes,
            proof: (want_proof && !kept.proof.is_empty()).then_some(kept.proof),
            body: kept.body.slice(at(range.start)..at(range.end)),
        }))
    }

    fn verify(&self, cid: &Cid) -> Result<ShardState, Refused> {
        Ok(match self.state().shards.get(cid) {
            None => ShardState::Missing,
            Some(_) if self.fault() == Fault::Damaged => ShardState::Corrupt,
            Some(_) => ShardState::Intact,
        })
    }

    async fn delete(&self, cid: Cid, _now: TimestampMs) -> Result<bool, Refused> {
        self.writable()?;
        let mut state = self.state();
        let gone = state.shards.remove(&cid);
        let existed = gone.is_some();
        state.trash.extend(gone.map(|kept| (cid, kept)));
        Ok(existed)
    }

    async fn restore(&self, cid: Cid) -> Result<bool, Refused> {
        self.writable()?;
        let mut state = self.state();
        let back = state.trash.remove(&cid);
        let restored = back.is_some() || state.shards.contains_key(&cid);
        state.shards.extend(back.map(|kept| (cid, kept)));
        Ok(restored)
    }

    fn has(&self, cids: &[Cid]) -> Vec<bool> {
        let state = self.state();
        cids.iter()
            .map(|cid| state.shards.contains_key(cid))
            .collect()
    }

    fn list(&self, after: Option<&Cid>, filter: ListFilter, limit: usize) -> Vec<ShardSummary> {
        self.state()
            .shards
            .iter()
            .filter(|(cid, _)| after.is_none_or(|after| *cid > after))
            .map(|(cid, kept)| ShardSummary {
                cid: *cid,
                tag: kept.tag,
                total_bytes: u32::try_from(kept.body.len()).unwrap_or(u32::MAX),
            })
            .filter(|shard| {
                let (kind, epoch) = shard.tag.to_parts();
                filter.kind.is_none_or(|wanted| wanted == kind)
                    && filter.epoch_below.is_none_or(|below| epoch < below)
            })
            .take(limit)
            .collect()
    }

    fn stats(&self) -> StorageStats {
        let state = self.state();
        let sum = |shards: &BTreeMap<Cid, Kept>| {
            shards
                .values()
                .map(|kept| u64::try_from(kept.body.len()).unwrap_or(u64::MAX))
                .sum::<u64>()
        };
        let (live_bytes, trash_bytes) = (sum(&state.shards), sum(&state.trash));
        let (write_state, write_state_detail) = match self.fault() {
            Fault::Writes(state) => (state, "as the test wants".to_owned()),
            _ => (WriteState::Open, String::new()),
        };
        StorageStats {
            total_bytes: 1 << 40,
            used_bytes: live_bytes + trash_bytes,
            live_bytes,
            disk_free_bytes: 1 << 40,
            shard_count: u64::try_from(state.shards.len()).unwrap_or(u64::MAX),
            trash_count: u64::try_from(state.trash.len()).unwrap_or(u64::MAX),
            trash_bytes,
            write_state,
            write_state_detail,
        }
    }

    fn maintain(&self, _now: TimestampMs) -> Result<bool, Refused> {
        Ok(false)
    }

    fn scrub_next(&self) -> Result<Scrubbed, Refused> {
        let damaged = self.fault() == Fault::Damaged;
        let corrupt = self
            .state()
            .shards
            .keys()
            .filter(|_| damaged)
            .copied()
            .collect();
        Ok(Scrubbed {
            shards: 1,
            corrupt,
            pass_done: true,
        })
    }
}
