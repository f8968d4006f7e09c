//! The writer's queue, bounded in bytes by the handle.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};

use bytes::Bytes;
use domain::{Cid, ShardTag};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::Stored;
use crate::error::WriteError;
use crate::index::Location;
use crate::sync::lock;

/// How a job's outcome gets back.
pub(crate) enum Reply {
    Put(oneshot::Sender<Result<Stored, WriteError>>),
    Done(mpsc::SyncSender<Result<bool, WriteError>>),
}

impl Reply {
    /// Sends the outcome; whoever has stopped waiting does not get it.
    pub(crate) fn send(self, result: Result<Outcome, WriteError>) {
        match self {
            Self::Put(sender) => {
                let _ = sender.send(result.map(|outcome| outcome.stored));
            }
            Self::Done(sender) => {
                let _ = sender.try_send(result.map(|outcome| outcome.changed));
            }
        }
    }
}

/// The answer to either kind of reply.
#[derive(Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) stored: Stored,
    pub(crate) changed: bool,
}

impl Outcome {
    pub(crate) const CHANGED: Self = Self {
        stored: Stored::New,
        changed: true,
    };
    pub(crate) const RETAGGED: Self = Self {
        stored: Stored::Already,
        changed: true,
    };
    pub(crate) const UNCHANGED: Self = Self {
        stored: Stored::Already,
        changed: false,
    };
}

/// Bytes of a shard on their way to disk.
pub(crate) struct Content {
    pub(crate) proof: Bytes,
    pub(crate) proof_sum: [u8; 8],
    pub(crate) body: Vec<Bytes>,
    pub(crate) body_bytes: u32,
}

pub(crate) enum Action {
    Put {
        tag: ShardTag,
        content: Content,
    },
    Delete {
        at_ms: u64,
    },
    Restore,
    /// Compaction: writes the shard again if the index still points at `from`.
    Move {
        from: Location,
        content: Content,
    },
    /// Compaction: writes tag and trash state again if a state record holds them.
    Restate,
}

pub(crate) enum Job {
    /// Concerns one shard.
    One {
        cid: Cid,
        action: Action,
        reply: Reply,
        _permit: Option<OwnedSemaphorePermit>,
    },
    /// Empties the trash of these, where they were deleted at or before the time.
    Purge {
        cids: Vec<Cid>,
        until_ms: u64,
        reply: Reply,
    },
}

impl Job {
    pub(crate) fn refuse(self, error: WriteError) {
        match self {
            Self::One { reply, .. } | Self::Purge { reply, .. } => reply.send(Err(error)),
        }
    }
}

#[derive(Default)]
pub(crate) struct Queue {
    jobs: Mutex<Waiting>,
    ready: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Queue {
    /// Jobs taken at once, at most: bounds the pieces of one write and the time until the first is acknowledged.
    const TAKE_MAX: usize = 1_024;

    pub(crate) fn push(&self, job: Job) {
        let mut waiting = lock(&self.jobs);
        if waiting.closed {
            drop(waiting);
            job.refuse(WriteError::Closing);
            return;
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.ready.notify_one();
    }

    /// Everything that waits, or `None` once the queue is closed and empty. There is no window: whoever arrives while
    /// the disk syncs is in the next batch.
    pub(crate) fn take(&self) -> Option<VecDeque<Job>> {
        let mut waiting = lock(&self.jobs);
        loop {
            if waiting.jobs.len() > Self::TAKE_MAX {
                return Some(waiting.jobs.drain(..Self::TAKE_MAX).collect());
            }
            if !waiting.jobs.is_empty() {
                return Some(std::mem::take(&mut waiting.jobs));
            }
            if waiting.closed {
                return None;
            }
            waiting = self
                .ready
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What waits is still done; what comes later is refused.
    pub(crate) fn close(&self) {
        lock(&self.jobs).closed = true;
        self.ready.notify_all();
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.jobs).jobs.len()
    }
}
