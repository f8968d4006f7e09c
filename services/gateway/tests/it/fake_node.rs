//! A node in memory behind the real port, with faults on demand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, NodeId, ShardTag};
use gateway::peers::{Peer, Peers};
use objects::layout::NodeSlot;
use objects::peer::{ListedShard, PeerError, PeerStats, ShardBytes, ShardPeer};

/// How a node behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Healthy,
    Dead,
    Hangs,
    Lies,
    /// Knows that its copies are damaged.
    Damaged,
    Full,
    Slow(Duration),
}

#[derive(Debug, Default)]
struct State {
    mood: Mood,
    shards: BTreeMap<Cid, (ShardTag, Bytes, Bytes)>,
}

#[derive(Clone, Debug, Default)]
pub struct FakeNode(Arc<Mutex<State>>);

impl FakeNode {
    pub fn set(&self, mood: Mood) {
        self.0.lock().unwrap().mood = mood;
    }

    pub fn forget_all(&self) {
        self.0.lock().unwrap().shards.clear();
    }

    pub fn count(&self) -> usize {
        self.0.lock().unwrap().shards.len()
    }

    async fn answer(&self) -> Result<Mood, PeerError> {
        let mood = self.0.lock().unwrap().mood;
        match mood {
            Mood::Dead => return Err(PeerError::Unavailable("connection refused".into())),
            Mood::Hangs => std::future::pending().await,
            Mood::Slow(pause) => tokio::time::sleep(pause).await,
            Mood::Healthy | Mood::Lies | Mood::Damaged | Mood::Full => {}
        }
        Ok(mood)
    }
}

impl ShardPeer for FakeNode {
    async fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> Result<(), PeerError> {
        if self.answer().await? == Mood::Full {
            return Err(PeerError::Refused("disk full".into()));
        }
        let body: Bytes = body.concat().into();
        if Cid::of_raw(&body) != cid {
            return Err(PeerError::Refused("the bytes are not the shard's".into()));
        }
        self.0
            .lock()
            .unwrap()
            .shards
            .insert(cid, (tag, proof, body));
        Ok(())
    }

    async fn get(
        &self,
        cid: Cid,
        columns: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<ShardBytes, PeerError> {
        let mood = self.answer().await?;
        if mood == Mood::Damaged {
            return Err(PeerError::Corrupt);
        }
        let (_, proof, body) = self
            .0
            .lock()
            .unwrap()
            .shards
            .get(&cid)
            .cloned()
            .ok_or(PeerError::NotFound)?;
        let columns = columns.map_or(0..body.len(), |c| c.start as usize..c.end as usize);
        let mut body = body.slice(columns).to_vec();
        if mood == Mood::Lies {
            body.iter_mut().for_each(|b| *b ^= 1);
        }
        Ok(ShardBytes {
            proof: want_proof.then_some(proof),
            body: vec![body.into()],
        })
    }

    async fn delete(&self, cid: Cid) -> Result<(), PeerError> {
        self.answer().await?;
        self.0.lock().unwrap().shards.remove(&cid);
        Ok(())
    }

    async fn holds(&self, cid: Cid) -> Result<bool, PeerError> {
        let mood = self.answer().await?;
        let held = self.0.lock().unwrap().shards.contains_key(&cid);
        if held && mood == Mood::Damaged {
            return Err(PeerError::Corrupt);
        }
        Ok(held)
    }

    async fn list_records(
        &self,
        recovery: bool,
        below: u64,
        after: Option<Cid>,
    ) -> Result<Vec<ListedShard>, PeerError> {
        self.answer().await?;
        let state = self.0.lock().unwrap();
        Ok(state
            .shards
            .iter()
            .filter(|(cid, (tag, ..))| {
                let wanted = match tag {
                    ShardTag::Chunk => false,
                    ShardTag::Small { epoch } => !recovery && *epoch < below,
                    ShardTag::Recovery { epoch } => recovery && *epoch < below,
                };
                wanted && after.is_none_or(|after| **cid > after)
            })
            .map(|(cid, (tag, _, body))| ListedShard {
                cid: *cid,
                tag: *tag,
                size_bytes: u32::try_from(body.len()).unwrap(),
            })
            .take(1_000)
            .collect())
    }

    async fn damaged(&self, after: Option<Cid>, limit: usize) -> Result<Vec<Cid>, PeerError> {
        let mood = self.answer().await?;
        let state = self.0.lock().unwrap();
        let damaged = state.shards.keys().filter(|_| mood == Mood::Damaged);
        let damaged = damaged.filter(|cid| after.is_none_or(|after| **cid > after));
        Ok(damaged.take(limit).copied().collect())
    }

    async fn stats(&self) -> Result<PeerStats, PeerError> {
        let mood = self.answer().await?;
        Ok(PeerStats {
            read_only: (mood == Mood::Full).then(|| "disk full".into()),
            ..PeerStats::default()
        })
    }
}

/// `count` nodes, each in a zone of its own.
pub fn cluster(count: u16) -> (Vec<FakeNode>, Arc<Peers<FakeNode>>) {
    let nodes: Vec<FakeNode> = (0..count).map(|_| FakeNode::default()).collect();
    let peers = (0..count)
        .zip(&nodes)
        .map(|(slot, node)| {
            let id = NodeId([u8::try_from(slot).unwrap(); 32]);
            Peer::new(
                NodeSlot(slot),
                id,
                format!("z{slot}"),
                format!("fake:{slot}"),
                1,
                node.clone(),
            )
        })
        .collect();
    (nodes, Arc::new(Peers::new(peers)))
}
