//! The write path of one chunk: encode, send to all nodes, acknowledge at the quorum, leave the rest as pending.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Cid, Codec as CidCodec, Profile, ShardTag};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::peer::{PeerError, ShardPeer};
use objects::placement::{TooFewNodes, place};

use crate::codecs::Codecs;
use crate::peers::Peers;

/// A chunk whose quorum is not reached by then is refused.
pub const QUORUM_DEADLINE: Duration = Duration::from_secs(30);

/// A node that takes this many times longer than the fastest k is replaced while the quorum is not reached.
pub const SLOW_FACTOR: u32 = 3;
/// But not before this.
const SLOW_MIN: Duration = Duration::from_millis(50);

/// Chunks of at most this many bytes are kept as copies (1+4) whatever the bucket's profile: shards of a few bytes would
/// cost more than they hold, and could collide by content.
pub const COPIES_BELOW_BYTES: usize = 65_536;

static ZEROS: [u8; 256] = [0; 256];

/// Why a chunk was not stored.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The deployment has fewer nodes than the profile has shards.
    #[error(transparent)]
    TooFewNodes(#[from] TooFewNodes),
    /// Fewer nodes answer than the write quorum.
    #[error("{reachable} nodes take writes, {needed} are needed")]
    NoQuorum {
        /// Nodes that hold the chunk's shard or could have.
        reachable: usize,
        /// The write quorum.
        needed: usize,
        /// What the nodes said, first reason.
        reason: String,
    },
    /// Our bug: the codec refused.
    #[error("encoding failed: {0}")]
    Encode(#[from] erasure::CodecError),
}

/// A chunk cut into shards, ready to send.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// k and m.
    pub profile: Profile,
    /// Bytes of the chunk.
    pub chunk_bytes: u32,
    /// By shard index: CID and bytes (data shards are slices of the chunk).
    pub shards: Vec<(Cid, Vec<Bytes>)>,
    /// Lies beside every data shard.
    pub proof: Bytes,
}

impl Encoded {
    /// The layout with shard `i` on `order[i]`.
    #[must_use]
    pub fn layout(&self, order: &[NodeSlot]) -> ChunkLayout {
        ChunkLayout {
            profile: self.profile,
            chunk_bytes: self.chunk_bytes,
            shards: self
                .shards
                .iter()
                .zip(order)
                .map(|((cid, _), &node)| ShardPlace { node, cid: *cid })
                .collect(),
        }
    }
}

/// What was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Shards that are durable on their nodes.
    pub durable: usize,
    /// Indices of the others.
    pub pending: Vec<u8>,
    /// Shards that are on another node than was planned, or on the way to one.
    pub moved: Vec<(u8, NodeSlot)>,
}

impl Stored {
    /// Where the shards are, given where they were planned.
    #[must_use]
    pub fn layout(&self, mut planned: ChunkLayout) -> ChunkLayout {
        for &(index, node) in &self.moved {
            if let Some(place) = planned.shards.get_mut(usize::from(index)) {
                place.node = node;
            }
        }
        planned
    }
}

/// Writes down that a shard goes to another node, before it is sent there: no shard leaves without an intent.
pub trait Substitution: Sync {
    /// Whether shard `index` may be sent to `node` instead.
    fn substitute(&self, index: u8, node: NodeSlot) -> impl Future<Output = bool> + Send;
}

/// Every shard goes where it was planned or nowhere: for what has no intent that could be changed.
#[derive(Clone, Copy, Debug)]
pub struct AsPlanned;

impl Substitution for AsPlanned {
    async fn substitute(&self, _: u8, _: NodeSlot) -> bool {
        false
    }
}

/// Cuts a chunk into shards. CPU work: call it on a blocking thread.
///
/// # Errors
/// [`WriteError::Encode`].
pub fn encode(
    codecs: &Codecs,
    profile: Profile,
    chunk: &Bytes,
    proof: Bytes,
) -> Result<Encoded, WriteError> {
    let profile = if chunk.len() <= COPIES_BELOW_BYTES {
        Profile::SMALL
    } else {
        profile
    };
    let chunk_bytes = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
    if profile.data() == 1 {
        let cid = Cid::of_raw(chunk);
        let shards = vec![(cid, vec![chunk.clone()]); profile.total()];
        return Ok(Encoded {
            profile,
            chunk_bytes,
            shards,
            proof,
        });
    }
    let codec = codecs.get(profile)?;
    let mut parity = Vec::new();
    codec.encode_chunk(chunk, &mut parity)?;
    let parity = Bytes::from(parity);
    let shard_bytes = profile.shard_bytes(chunk.len());
    let mut shards = Vec::with_capacity(profile.total());
    for index in 0..profile.data() {
        let mut frames = Vec::with_capacity(2);
        let data = codec.data_range(chunk.len(), index);
        let mut padding = shard_bytes - data.len();
        if !data.is_empty() {
            frames.push(chunk.slice(data));
        }
        while padding > 0 {
            let zeros = padding.min(ZEROS.len());
            frames.push(Bytes::from_static(&ZEROS).slice(..zeros));
            padding -= zeros;
        }
        shards.push((cid_of(&frames), frames));
    }
    for index in 0..profile.parity() {
        let frames = vec![parity.slice(index * shard_bytes..(index + 1) * shard_bytes)];
        shards.push((cid_of(&frames), frames));
    }
    Ok(Encoded {
        profile,
        chunk_bytes,
        shards,
        proof,
    })
}

fn cid_of(frames: &[Bytes]) -> Cid {
    let mut hasher = blake3::Hasher::new();
    for frame in frames {
        hasher.update(frame);
    }
    Cid::from_digest(CidCodec::Raw, *hasher.finalize().as_bytes())
}

/// Writes chunks to the nodes.
#[derive(Debug)]
pub struct Writer<P> {
    peers: Arc<Peers<P>>,
}

impl<P: ShardPeer> Writer<P> {
    /// A writer over these nodes.
    pub fn new(peers: Arc<Peers<P>>) -> Self {
        Self { peers }
    }

    /// Chooses nodes for a chunk: nodes that take writes first, so that a silent node gets a shard only when there is no
    /// other.
    ///
    /// # Errors
    /// [`WriteError::TooFewNodes`], or [`WriteError::NoQuorum`] when too few nodes answer to begin at all.
    pub fn plan(&self, encoded: &Encoded, key: &Cid) -> Result<ChunkLayout, WriteError> {
        let total = encoded.profile.total();
        let quorum = encoded.profile.write_quorum();
        let reachable = self.peers.writable_count();
        if reachable < quorum {
            let reason = self
                .peers
                .iter()
                .find_map(|peer| peer.stats().read_only)
                .unwrap_or_else(|| "the others do not answer".to_owned());
            return Err(WriteError::NoQuorum {
                reachable,
                needed: quorum,
                reason,
            });
        }
        let order = place(key, total, &self.peers.candidates(total))?;
        let writes = |slot: &NodeSlot| self.peers.get(*slot).is_some_and(|peer| peer.writable());
        let (mut chosen, silent): (Vec<_>, Vec<_>) = order.into_iter().partition(writes);
        chosen.extend(silent);
        Ok(encoded.layout(&chosen))
    }

    /// All nodes that take writes, in the order in which placement prefers them for this chunk.
    pub fn order(&self, key: &Cid) -> Vec<NodeSlot> {
        let writes = |slot: &NodeSlot| self.peers.get(*slot).is_some_and(|peer| peer.writable());
        place(key, 0, &self.peers.candidates(0))
            .map(|order| order.into_iter().filter(writes).collect())
            .unwrap_or_default()
    }

    /// Sends every shard to its node and returns once the quorum is durable and a short grace for the others is over;
    /// `keep` (the byte budget) is held until the last send has ended.
    ///
    /// Until the quorum is reached, a node that fails, or is slower than [`SLOW_FACTOR`] times the fastest k, is replaced by
    /// one that has no shard of the chunk, if there is one and `substitution` agrees.
    ///
    /// # Errors
    /// [`WriteError::NoQuorum`].
    pub async fn store<G: Send + Sync + 'static>(
        &self,
        encoded: Encoded,
        layout: &ChunkLayout,
        tag: ShardTag,
        keep: G,
        substitution: &impl Substitution,
    ) -> Result<Stored, WriteError> {
        let total = encoded.profile.total();
        let quorum = encoded.profile.write_quorum();
        let data = encoded.profile.data();
        let begun = Instant::now();
        let keep = Arc::new(keep);
        let (report, mut reports) = tokio::sync::mpsc::channel(total.max(1) * 2);
        let send = |index: usize, node: NodeSlot| {
            let (cid, body) = encoded.shards.get(index)?.clone();
            let proof = if index < data || data == 1 {
                encoded.proof.clone()
            } else {
                Bytes::new()
            };
            let peer = self
                .peers
                .get(node)
                .filter(|peer| peer.reachable())
                .cloned();
            Some(async move {
                let result = match peer {
                    None => Err(PeerError::Unavailable(
                        "the node does not answer".to_owned(),
                    )),
                    Some(peer) => {
                        let put = peer.client.put(cid, tag, proof, body);
                        let result = tokio::time::timeout(QUORUM_DEADLINE, put)
                            .await
                            .unwrap_or_else(|_| {
                                Err(PeerError::Unavailable("no answer to a put".to_owned()))
                            });
                        peer.note(&result);
                        result
                    }
                };
                (index, node, result)
            })
        };
        let mut sends: FuturesUnordered<_> = layout
            .shards
            .iter()
            .enumerate()
            .filter_map(|(index, place)| send(index, place.node))
            .collect();
        let first_report = report.clone();
        let kept = Arc::clone(&keep);
        // The sends outlive this call: stragglers finish, and are counted when the pending shards are looked at.
        tokio::spawn(async move {
            let _keep = kept;
            while let Some(outcome) = sends.next().await {
                // The receiver may be gone: the quorum was enough.
                let _ = first_report.send(outcome).await;
            }
        });

        let mut landed: Vec<Option<NodeSlot>> = vec![None; total];
        let mut durable = 0;
        let mut first_reason = None;
        let mut deadline = tokio::time::Instant::now() + QUORUM_DEADLINE;
        // Sends that have not ended. Nodes that have no shard of this chunk, best last; shards that had their second try.
        let mut running = total;
        let mut spares: Option<Vec<NodeSlot>> = None;
        let mut substituted: Vec<Option<NodeSlot>> = vec![None; total];
        let mut failed = vec![false; total];
        let mut slow_at = None;
        while running > 0 || slow_at.is_some() {
            let until = slow_at.unwrap_or(deadline).min(deadline);
            let outcome = match tokio::time::timeout_at(until, reports.recv()).await {
                Ok(Some(outcome)) => Some(outcome),
                Ok(None) => break,
                Err(_) if tokio::time::Instant::now() >= deadline => break,
                Err(_) => None,
            };
            // Nodes that failed are replaced at once, those that are slow when the fastest k have long been done.
            let is_slow = outcome.is_none();
            if is_slow {
                slow_at = None;
            }
            if outcome.is_some() {
                running -= 1;
            }
            match outcome {
                None => {}
                Some((index, node, Ok(()))) => {
                    let Some(place) = landed.get_mut(index).filter(|place| place.is_none()) else {
                        continue;
                    };
                    *place = Some(node);
                    durable += 1;
                    if durable == data.min(quorum) && durable < quorum {
                        let slow = (begun.elapsed() * SLOW_FACTOR).max(SLOW_MIN);
                        slow_at =
                            Some(tokio::time::Instant::now() + slow - begun.elapsed().min(slow));
                    }
                    if durable == quorum {
                        slow_at = None;
                        let grace = (begun.elapsed() / 2).max(Duration::from_millis(5));
                        deadline = tokio::time::Instant::now() + grace;
                    }
                }
                Some((index, _, Err(error))) => {
                    first_reason = first_reason.or(Some(error.to_string()));
                    if let Some(flag) = failed.get_mut(index) {
                        *flag = true;
                    }
                }
            }
            if durable == total {
                break;
            }
            if durable >= quorum {
                continue;
            }
            for index in 0..total {
                let late = is_slow || failed.get(index) == Some(&true);
                let done = landed.get(index).is_none_or(Option::is_some)
                    || substituted.get(index) != Some(&None);
                if !late || done {
                    continue;
                }
                let spares = spares.get_or_insert_with(|| {
                    let used = |node: &NodeSlot| layout.shards.iter().any(|p| p.node == *node);
                    let mut spares = self.order(&layout_key(layout));
                    spares.retain(|node| !used(node));
                    spares.reverse();
                    spares
                });
                let (Some(node), Ok(number)) = (spares.pop(), u8::try_from(index)) else {
                    break;
                };
                if !substitution.substitute(number, node).await {
                    break;
                }
                if let (Some(place), Some(send)) = (substituted.get_mut(index), send(index, node)) {
                    *place = Some(node);
                    running += 1;
                    let (report, kept) = (report.clone(), Arc::clone(&keep));
                    tokio::spawn(async move {
                        let outcome = send.await;
                        drop(kept);
                        // As above.
                        let _ = report.send(outcome).await;
                    });
                }
            }
        }
        if durable < quorum {
            let reason = first_reason.unwrap_or_else(|| "the others were too slow".to_owned());
            return Err(WriteError::NoQuorum {
                reachable: durable,
                needed: quorum,
                reason,
            });
        }
        let pending = landed
            .iter()
            .enumerate()
            .filter(|(_, landed)| landed.is_none())
            .filter_map(|(index, _)| u8::try_from(index).ok())
            .collect();
        // What has not landed is expected where it was written down last: there it is covered, and completed.
        let moved = (0..=u8::MAX)
            .zip(&layout.shards)
            .zip(landed.iter().zip(&substituted))
            .filter_map(|((index, planned), (landed, substitute))| {
                landed
                    .or(*substitute)
                    .filter(|node| *node != planned.node)
                    .map(|node| (index, node))
            })
            .collect();
        Ok(Stored {
            durable,
            pending,
            moved,
        })
    }
}

/// Spares are ordered by the first shard: any key will do, as long as chunks do not all have the same favourite.
fn layout_key(layout: &ChunkLayout) -> Cid {
    layout
        .shards
        .first()
        .map_or_else(|| Cid::of_raw(&[]), |place| place.cid)
}
