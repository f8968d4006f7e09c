//! What the tests share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::TimestampMs;
use ledger::port::{Ledger as _, SubmitError};
use ledger::{Chain, Receipt};
use solo::{Solo, SoloConfig};

use crate::world::{People, START, VALIDATOR, anchor, genesis, person, signed};

/// No reserve, empty blocks only where a test wants them, a clock that stands still unless it is moved.
pub(crate) fn config(dir: &Path) -> SoloConfig {
    SoloConfig {
        reserve_bytes: 0,
        empty_block_every: Duration::from_secs(3_600),
        ..SoloConfig::new(dir, Arc::new(person(VALIDATOR)), Arc::new(|| START))
    }
}

pub(crate) fn clock(at: &Arc<AtomicU64>) -> solo::Now {
    let at = at.clone();
    Arc::new(move || TimestampMs(at.load(Ordering::SeqCst)))
}

/// A new ledger in a folder of its own.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) people: People,
    pub(crate) chain: Chain,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let genesis = genesis(true);
        Solo::create(dir.path(), &genesis).unwrap();
        Self {
            dir,
            people: People::default(),
            chain: Chain::from(&genesis),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn config(&self) -> SoloConfig {
        config(self.dir.path())
    }

    /// The n-th transaction of a person: an anchor.
    pub(crate) fn nth(&mut self, who: u64, nonce: u64) -> Bytes {
        signed(self.people.get(who), &self.chain, nonce, anchor(nonce + 1)).into()
    }

    pub(crate) fn submit(&self, solo: &Solo, bytes: Bytes) -> Result<Receipt, SubmitError> {
        self.runtime.block_on(solo.submit(bytes))
    }

    /// A ledger with `count` transactions, each in a block of its own, closed again.
    pub(crate) fn fill(&mut self, config: SoloConfig, from: u64, count: u64) {
        let (solo, _) = Solo::open(config).unwrap();
        for nonce in from..from + count {
            let bytes = self.nth(1, nonce);
            self.submit(&solo, bytes).unwrap();
        }
        solo.close();
    }
}
