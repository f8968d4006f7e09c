//! What the tests share.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use shards::{RecoveryReport, ShardStore, StoreConfig, Stored, WriteError};

/// Small segments and no reserve, so that a test meets every border quickly.
pub(crate) fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        preallocate_bytes: 16 << 10,
        reserve_bytes: 0,
        ..StoreConfig::new(dir)
    }
}

pub(crate) fn open(config: StoreConfig) -> (ShardStore, RecoveryReport) {
    ShardStore::open(config, TimestampMs(0)).unwrap()
}

/// Bytes that depend on `seed` alone and look random.
pub(crate) fn bytes(seed: u64, len: usize) -> Bytes {
    let mut out = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut out);
    out.into()
}

pub(crate) fn put_tagged(
    store: &ShardStore,
    tag: ShardTag,
    body: &Bytes,
) -> Result<Stored, WriteError> {
    let proof = bytes(u64::try_from(body.len()).unwrap(), 100);
    block_on(store.put(Cid::of_raw(body), tag, proof, vec![body.clone()]))
}

pub(crate) fn put(store: &ShardStore, body: &Bytes) -> Cid {
    put_tagged(store, ShardTag::Chunk, body).unwrap();
    Cid::of_raw(body)
}

pub(crate) fn body(store: &ShardStore, cid: &Cid) -> Option<Bytes> {
    store.get(cid, None, false).unwrap().map(|shard| shard.body)
}

/// Runs one future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
