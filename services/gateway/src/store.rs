//! Storing records of five copies: small objects and sealed recovery records.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use domain::{Cid, Profile, ShardTag};
use objects::layout::ChunkLayout;
use objects::metadata::{Metadata as _, RecoveryRecord};

use crate::app::App;
use crate::budget::BudgetGuard;
use crate::http::Answer;
use crate::recovery::Kind;
use crate::shard_io::write::{AsPlanned, Encoded, Stored, WriteError};
use crate::unsettled::{Claim, Claims};

/// The epoch under which sessions of recovery records are stored: no start's clean-up takes them.
pub(crate) const SESSION_EPOCH: u64 = u64::MAX;

/// A record on five nodes.
#[derive(Debug)]
pub struct StoredRecord {
    /// BLAKE3 of its bytes.
    pub cid: Cid,
    /// Where it lies.
    pub layout: ChunkLayout,
    /// How many copies are durable.
    pub stored: Stored,
    /// To be settled when its row is committed or refused.
    pub claim: Claim,
}

impl App {
    /// Stores `bytes` as five copies.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn store_record(
        &self,
        bytes: Vec<u8>,
        tag: ShardTag,
        guard: Option<BudgetGuard>,
    ) -> Result<StoredRecord, WriteError> {
        let (cid, encoded) = five_copies(bytes);
        let layout = self.writer.plan(&encoded, &cid)?;
        let claim = self.unsettled.claim(layout.clone());
        let stored = self
            .writer
            .store(encoded, &layout, tag, guard, &AsPlanned)
            .await?;
        Ok(StoredRecord {
            cid,
            layout,
            stored,
            claim,
        })
    }

    /// Seals and stores a recovery record; the answer goes into the row of what it describes, `claims` are settled with it.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn store_recovery(
        &self,
        kind: Kind,
        parts: &[&[u8]],
        claims: &mut Claims,
    ) -> Answer<RecoveryRecord> {
        self.require_session().await?;
        let sealed = self.recovery.seal(kind, parts);
        let tag = ShardTag::Recovery { epoch: self.epoch };
        let stored = self.store_record(sealed, tag, None).await?;
        claims.add(stored.claim);
        Ok(RecoveryRecord {
            layout: stored.layout,
            pending: stored.stored.pending,
        })
    }

    /// Stores this start's sealed session, without which its recovery records cannot be opened.
    ///
    /// # Errors
    /// Too few nodes, or metadata does not answer.
    pub async fn store_session(&self) -> Answer<()> {
        let bytes = self.recovery.session_record().to_vec();
        let tag = ShardTag::Recovery {
            epoch: SESSION_EPOCH,
        };
        // Without a claim: the next attempt brings the same bytes, and would have to wait until what an earlier one left
        // is cleared from nodes that may not answer.
        let (cid, encoded) = five_copies(bytes);
        let layout = self.writer.plan(&encoded, &cid)?;
        let stored = self.writer.store(encoded, &layout, tag, (), &AsPlanned);
        let record = RecoveryRecord {
            pending: stored.await?.pending,
            layout,
        };
        self.metadata.put_session(self.epoch, record).await?;
        self.session_stored.store(true, Ordering::Release);
        Ok(())
    }

    /// Nothing is acknowledged whose recovery record could not be opened: the session comes first.
    ///
    /// # Errors
    /// When too few nodes take it.
    pub async fn require_session(&self) -> Answer<()> {
        if self.session_stored.load(Ordering::Acquire) {
            return Ok(());
        }
        self.store_session().await
    }
}

/// A record as it goes to the nodes, and its CID.
fn five_copies(bytes: Vec<u8>) -> (Cid, Encoded) {
    let cid = Cid::of_raw(&bytes);
    let chunk_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let profile = Profile::SMALL;
    let encoded = Encoded {
        profile,
        chunk_bytes,
        shards: vec![(cid, vec![Bytes::from(bytes)]); profile.total()],
        proof: Bytes::new(),
    };
    (cid, encoded)
}
