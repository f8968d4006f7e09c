//! Storing records of five copies: small objects and sealed recovery records.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use domain::{Cid, Profile, ShardTag};
use objects::layout::ChunkLayout;
use objects::peer::ShardPeer as _;

use crate::app::App;
use crate::budget::BudgetGuard;
use crate::recovery::Kind;
use crate::shard_io::write::{Encoded, Stored, WriteError};

/// The epoch under which sessions of recovery records are stored: no start's clean-up takes them.
const SESSION_EPOCH: u64 = u64::MAX;

/// A record on five nodes.
#[derive(Debug)]
pub struct StoredRecord {
    /// BLAKE3 of its bytes.
    pub cid: Cid,
    /// Where it lies.
    pub layout: ChunkLayout,
    /// How many copies are durable.
    pub stored: Stored,
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
        let cid = Cid::of_raw(&bytes);
        let chunk_bytes = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let profile = Profile::SMALL;
        let shards = vec![(cid, vec![Bytes::from(bytes)]); profile.total()];
        let encoded = Encoded {
            profile,
            chunk_bytes,
            shards,
            proof: Bytes::new(),
        };
        let layout = self.writer.plan(&encoded, &cid)?;
        let stored = self.writer.store(encoded, &layout, tag, guard).await?;
        Ok(StoredRecord {
            cid,
            layout,
            stored,
        })
    }

    /// Seals and stores a recovery record; the answer goes into the row of what it describes.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn store_recovery(
        &self,
        kind: Kind,
        parts: &[&[u8]],
    ) -> Result<ChunkLayout, WriteError> {
        self.require_session().await?;
        let sealed = self.recovery.seal(kind, parts);
        let tag = ShardTag::Recovery { epoch: self.epoch };
        Ok(self.store_record(sealed, tag, None).await?.layout)
    }

    /// Stores this start's sealed session, without which its recovery records cannot be opened.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn store_session(&self) -> Result<(), WriteError> {
        let bytes = self.recovery.session_record().to_vec();
        let tag = ShardTag::Recovery {
            epoch: SESSION_EPOCH,
        };
        self.store_record(bytes, tag, None).await?;
        self.session_stored.store(true, Ordering::Release);
        Ok(())
    }

    /// Nothing is acknowledged whose recovery record could not be opened: the session comes first.
    ///
    /// # Errors
    /// [`WriteError`] when too few nodes take it.
    pub async fn require_session(&self) -> Result<(), WriteError> {
        if self.session_stored.load(Ordering::Acquire) {
            return Ok(());
        }
        self.store_session().await
    }

    /// Deletes records whose row was not written. What a dead node keeps goes at the next start.
    pub async fn drop_recovery(&self, layouts: &[ChunkLayout]) {
        for place in layouts.iter().flat_map(|layout| &layout.shards) {
            if let Some(peer) = self.peers.get(place.node) {
                let result = peer.client.delete(place.cid).await;
                peer.note(&result);
            }
        }
    }
}
