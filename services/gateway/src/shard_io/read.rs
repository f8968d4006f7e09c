//! The read path: k nodes first, more after the recent p95 or at once on a failure; take what suffices, drop the rest.
//!
//! Nothing is hashed here in the ordinary case: whoever decrypts checks. [`Reader::verified_chunk`] is the exception
//! that a failed check asks for.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::Cid;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use objects::layout::ChunkLayout;
use objects::metadata::ChunkRow;
use objects::peer::{PeerError, ShardBytes, ShardPeer};
use objects::read::{Piece, covering, pieces};
use tokio::sync::Semaphore;

use crate::codecs::Codecs;
use crate::peers::Peers;

/// Whole-chunk checks at once (`verify=full`): each holds all shards of a chunk.
const FULL_CHECKS_MAX: usize = 2;

/// How often more shards are asked for because some are slow.
const HEDGES_MAX: usize = 4;

/// After the last hedge, what has not arrived by then never will.
const READ_DEADLINE: Duration = Duration::from_secs(15);

/// Shard reads per chunk read beyond which nothing more is tried: every shard twice.
const FETCHES_MAX: usize = 2 * domain::limits::SHARDS_MAX;

/// Why a chunk could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Fewer than k shards answer.
    #[error("{found} of the {needed} shards that are needed answer")]
    NotEnoughShards {
        /// Shards that answered (and, when checked, were intact).
        found: usize,
        /// k.
        needed: usize,
        /// Shard indices whose node answers and does not hold them, or holds other bytes: repair work.
        lost: Vec<u8>,
    },
    /// k intact shards do not give the chunk that its CID names: the chunk was stored wrong.
    #[error("the shards are intact but do not make up the chunk")]
    WrongChunk,
    /// Our bug: a range outside the chunk, or a layout that the codec refuses.
    #[error("inconsistent layout: {0}")]
    Layout(String),
}

/// Bytes of a chunk, in order, and what was noticed on the way.
#[derive(Debug, Default)]
pub struct ChunkBytes {
    /// The bytes.
    pub body: Vec<Bytes>,
    /// The chunk proof, when it was asked for and a node had it.
    pub proof: Option<Bytes>,
    /// Shard indices whose node does not hold them or holds other bytes: repair work.
    pub lost: Vec<u8>,
}

/// Shards made again from others.
#[derive(Debug)]
pub struct Rebuilt {
    /// In the order they were asked for.
    pub shards: Vec<Bytes>,
    /// The chunk proof that a node had beside its shard: to be checked before it is stored again.
    pub proof: Bytes,
    /// Further shards that were found missing or damaged on the way.
    pub lost: Vec<u8>,
}

/// Reads chunks from the nodes.
#[derive(Debug)]
pub struct Reader<P> {
    peers: Arc<Peers<P>>,
    codecs: Arc<Codecs>,
    turn: AtomicUsize,
    full_checks: Semaphore,
}

impl<P: ShardPeer> Reader<P> {
    /// A reader over these nodes.
    pub fn new(peers: Arc<Peers<P>>, codecs: Arc<Codecs>) -> Self {
        Self {
            peers,
            codecs,
            turn: AtomicUsize::new(0),
            full_checks: Semaphore::new(FULL_CHECKS_MAX),
        }
    }

    /// The nodes.
    pub fn peers(&self) -> &Arc<Peers<P>> {
        &self.peers
    }

    /// Bytes `range` of a chunk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn range(
        &self,
        chunk: &ChunkRow,
        range: Range<usize>,
        want_proof: bool,
    ) -> Result<ChunkBytes, ReadError> {
        let layout = &chunk.layout;
        let chunk_bytes = usize::try_from(layout.chunk_bytes).unwrap_or(usize::MAX);
        if range.start > range.end || range.end > chunk_bytes {
            return Err(ReadError::Layout(format!(
                "range {range:?} of {chunk_bytes} bytes"
            )));
        }
        let mut wanted = pieces(range, layout.shard_bytes());
        if layout.profile.data() == 1 {
            // Copies: any one will do, so take turns.
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let copies = layout.shards.len();
            let choice = (0..copies)
                .map(|n| (turn + n) % copies)
                .find(|&shard| self.usable(chunk, shard))
                .unwrap_or(0);
            for piece in &mut wanted {
                piece.shard = choice;
            }
        }
        Gather::new(self, chunk, wanted, want_proof).run().await
    }

    /// All of a chunk, every shard checked against its CID and the whole against the chunk's: names the liars.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn verified_chunk(&self, chunk: &ChunkRow) -> Result<ChunkBytes, ReadError> {
        let _turn = self.full_checks.acquire().await;
        let (intact, lost, _) = self.intact_shards(chunk).await;
        let layout = &chunk.layout;
        let needed = layout.profile.data();
        if intact.len() < needed {
            return Err(ReadError::NotEnoughShards {
                found: intact.len(),
                needed,
                lost,
            });
        }
        let wanted: Vec<usize> = (0..needed).collect();
        let shards = self.rebuild(layout, &intact, &wanted)?;
        let mut left = usize::try_from(layout.chunk_bytes).unwrap_or(usize::MAX);
        let mut body = Vec::with_capacity(shards.len());
        let mut hasher = blake3::Hasher::new();
        for mut shard in shards {
            shard.truncate(left);
            left -= shard.len();
            hasher.update(&shard);
            body.push(shard);
        }
        if hasher.finalize().as_bytes() != chunk.cid.digest() {
            return Err(ReadError::WrongChunk);
        }
        Ok(ChunkBytes {
            body,
            proof: None,
            lost,
        })
    }

    /// Rebuilds shards from k others, each checked against its CID before and after; with them comes the chunk proof that
    /// lies beside data shards.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn rebuilt_shards(
        &self,
        chunk: &ChunkRow,
        wanted: &[usize],
    ) -> Result<Rebuilt, ReadError> {
        let _turn = self.full_checks.acquire().await;
        let (intact, lost, proof) = self.intact_shards(chunk).await;
        let needed = chunk.layout.profile.data();
        if intact.len() < needed {
            return Err(ReadError::NotEnoughShards {
                found: intact.len(),
                needed,
                lost,
            });
        }
        let rebuilt = self.rebuild(&chunk.layout, &intact, wanted)?;
        for (&index, bytes) in wanted.iter().zip(&rebuilt) {
            let place = chunk.layout.shards.get(index);
            if place.is_none_or(|place| Cid::of_raw(bytes) != place.cid) {
                return Err(ReadError::WrongChunk);
            }
        }
        Ok(Rebuilt {
            shards: rebuilt,
            proof,
            lost,
        })
    }

    /// Fetches every shard that should be there and keeps those that hash to their CID.
    async fn intact_shards(&self, chunk: &ChunkRow) -> (Vec<(usize, Bytes)>, Vec<u8>, Bytes) {
        let mut fetches: FuturesUnordered<_> = (0..chunk.layout.shards.len())
            .filter(|&shard| self.usable(chunk, shard))
            .map(|shard| async move { (shard, self.fetch(&chunk.layout, shard, None, true).await) })
            .collect();
        let mut intact = Vec::new();
        let mut lost = Vec::new();
        let mut proof = Bytes::new();
        while let Some((shard, result)) = fetches.next().await {
            let Some(place) = chunk.layout.shards.get(shard) else {
                continue;
            };
            match result {
                Ok(answer) => {
                    let bytes = answer.contiguous();
                    if proof.is_empty() {
                        proof = answer.proof.unwrap_or_default();
                    }
                    if Cid::of_raw(&bytes) == place.cid {
                        intact.push((shard, bytes));
                    } else {
                        if let Some(peer) = self.peers.get(place.node) {
                            peer.corrupt_shards.fetch_add(1, Ordering::Relaxed);
                        }
                        tracing::error!(
                            node = place.node.0,
                            shard,
                            "node returned bytes that are not the shard's"
                        );
                        lost.extend(u8::try_from(shard));
                    }
                }
                Err(PeerError::NotFound | PeerError::Corrupt) => lost.extend(u8::try_from(shard)),
                Err(_) => {}
            }
        }
        intact.sort_by_key(|(shard, _)| *shard);
        (intact, lost, proof)
    }

    fn rebuild(
        &self,
        layout: &ChunkLayout,
        intact: &[(usize, Bytes)],
        wanted: &[usize],
    ) -> Result<Vec<Bytes>, ReadError> {
        let missing: Vec<usize> = wanted
            .iter()
            .copied()
            .filter(|w| !intact.iter().any(|(shard, _)| shard == w))
            .collect();
        let present: Vec<(usize, &[u8])> = intact
            .iter()
            .take(layout.profile.data())
            .map(|(shard, bytes)| (*shard, bytes.as_ref()))
            .collect();
        let rebuilt = reconstruct(
            &self.codecs,
            layout,
            &present,
            &missing,
            layout.shard_bytes(),
        )?;
        Ok(wanted
            .iter()
            .filter_map(|w| {
                intact
                    .iter()
                    .chain(&rebuilt)
                    .find(|(shard, _)| shard == w)
                    .map(|(_, b)| b.clone())
            })
            .collect())
    }

    /// Whether a shard should be on a node that answers.
    fn usable(&self, chunk: &ChunkRow, shard: usize) -> bool {
        let pending = u8::try_from(shard).is_ok_and(|index| chunk.pending.contains(&index));
        let place = chunk.layout.shards.get(shard);
        !pending
            && place
                .and_then(|p| self.peers.get(p.node))
                .is_some_and(|peer| peer.reachable())
    }

    async fn fetch(
        &self,
        layout: &ChunkLayout,
        shard: usize,
        columns: Option<Range<usize>>,
        want_proof: bool,
    ) -> Result<ShardBytes, PeerError> {
        let no_node = || PeerError::Unavailable("its node is not configured".to_owned());
        let place = layout.shards.get(shard).ok_or_else(no_node)?;
        let peer = self.peers.get(place.node).ok_or_else(no_node)?;
        let expected = columns
            .as_ref()
            .map_or_else(|| layout.shard_bytes(), Range::len);
        let columns = columns.map(|c| bound(c.start)..bound(c.end));
        let begun = Instant::now();
        let mut result = peer.client.get(place.cid, columns, want_proof).await;
        if let Ok(bytes) = &result
            && bytes.len() != expected
        {
            result = Err(PeerError::Misbehaved(format!(
                "{} bytes instead of {expected}",
                bytes.len()
            )));
        }
        peer.note(&result);
        if result.is_ok() {
            self.peers.read_latency.record(begun.elapsed());
        }
        result
    }
}

fn bound(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn reconstruct(
    codecs: &Codecs,
    layout: &ChunkLayout,
    present: &[(usize, &[u8])],
    wanted: &[usize],
    columns: usize,
) -> Result<Vec<(usize, Bytes)>, ReadError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let bug = |e: erasure::CodecError| ReadError::Layout(e.to_string());
    let codec = codecs.get(layout.profile).map_err(bug)?;
    let mut out = vec![vec![0; columns]; wanted.len()];
    let mut views: Vec<&mut [u8]> = out.iter_mut().map(Vec::as_mut_slice).collect();
    codec
        .reconstruct(present, wanted, &mut views)
        .map_err(bug)?;
    Ok(wanted
        .iter()
        .copied()
        .zip(out.into_iter().map(Bytes::from))
        .collect())
}

/// Columns of a shard that have arrived.
struct Arrived {
    shard: usize,
    columns: Range<usize>,
    bytes: ShardBytes,
}

impl Arrived {
    fn covers(&self, columns: &Range<usize>) -> bool {
        self.columns.start <= columns.start && columns.end <= self.columns.end
    }
}

/// One read in progress.
struct Gather<'a, P> {
    reader: &'a Reader<P>,
    chunk: &'a ChunkRow,
    wanted: Vec<Piece>,
    want_proof: bool,
    arrived: Vec<Arrived>,
    proof: Option<Bytes>,
    /// Shards that failed or were found missing: not asked again.
    failed: BTreeSet<usize>,
    lost: Vec<u8>,
    /// (shard, columns, whether it was asked in place of another).
    asked: Vec<(usize, Range<usize>, bool)>,
    hedges: usize,
    /// How many substitutes may still be asked for shards that are slow.
    allowance: usize,
}

impl<'a, P: ShardPeer> Gather<'a, P> {
    fn new(
        reader: &'a Reader<P>,
        chunk: &'a ChunkRow,
        wanted: Vec<Piece>,
        want_proof: bool,
    ) -> Self {
        Self {
            reader,
            chunk,
            wanted,
            want_proof,
            arrived: Vec::new(),
            proof: None,
            failed: BTreeSet::new(),
            lost: Vec::new(),
            asked: Vec::new(),
            hedges: 0,
            allowance: 0,
        }
    }

    async fn run(mut self) -> Result<ChunkBytes, ReadError> {
        let (reader, chunk, want_proof) = (self.reader, self.chunk, self.want_proof);
        let fetch = |shard: usize, columns: Range<usize>| async move {
            let result = reader
                .fetch(&chunk.layout, shard, Some(columns.clone()), want_proof)
                .await;
            (shard, columns, result)
        };
        let mut flight = FuturesUnordered::new();
        for piece in self.wanted.clone() {
            if reader.usable(chunk, piece.shard) {
                self.asked.push((piece.shard, piece.columns.clone(), false));
                flight.push(fetch(piece.shard, piece.columns));
            } else {
                self.failed.insert(piece.shard);
            }
        }
        let pause = reader.peers.read_latency.hedge_after();
        let mut hedge = Box::pin(tokio::time::sleep(pause));
        loop {
            let missing = self.missing();
            if missing.is_empty() {
                return self.assemble(&[]);
            }
            let cover = covering(&missing);
            if self.covering_shards(&cover) >= self.needed() {
                return self.reconstructed(&missing, &cover);
            }
            for shard in self.substitutes(&missing, &cover) {
                self.asked.push((shard, cover.clone(), true));
                flight.push(fetch(shard, cover.clone()));
            }
            tokio::select! {
                next = flight.next() => match next {
                    None => {
                        let found = self.covering_shards(&cover);
                        return Err(self.not_enough(found));
                    }
                    Some((shard, columns, result)) => self.landed(shard, columns, result),
                },
                () = &mut hedge => {
                    self.hedges += 1;
                    if self.hedges > HEDGES_MAX {
                        let found = self.covering_shards(&cover);
                        return Err(self.not_enough(found));
                    }
                    // Whoever has not answered by now is no longer counted on. A wide read waits for one or two
                    // stragglers, so two more suffice; a read of one or two shards needs k others, of few columns each.
                    let cap = if self.wanted.len() <= 2 { self.needed() } else { 2 * self.hedges };
                    self.allowance = (self.needed() - self.covering_shards(&cover)).min(cap);
                    let next = if self.hedges < HEDGES_MAX { pause * 4 } else { READ_DEADLINE };
                    hedge.as_mut().reset(tokio::time::Instant::now() + next);
                }
            }
        }
    }

    fn not_enough(&mut self, found: usize) -> ReadError {
        ReadError::NotEnoughShards {
            found,
            needed: self.needed(),
            lost: std::mem::take(&mut self.lost),
        }
    }

    fn needed(&self) -> usize {
        self.chunk.layout.profile.data()
    }

    fn missing(&self) -> Vec<Piece> {
        self.wanted
            .iter()
            .filter(|piece| {
                !self
                    .arrived
                    .iter()
                    .any(|a| a.shard == piece.shard && a.covers(&piece.columns))
            })
            .cloned()
            .collect()
    }

    fn covering_shards(&self, cover: &Range<usize>) -> usize {
        let shards: BTreeSet<usize> = self
            .arrived
            .iter()
            .filter(|a| a.covers(cover))
            .map(|a| a.shard)
            .collect();
        shards.len()
    }

    fn landed(
        &mut self,
        shard: usize,
        columns: Range<usize>,
        result: Result<ShardBytes, PeerError>,
    ) {
        let is_it = |(s, c, _): &(usize, Range<usize>, bool)| *s == shard && *c == columns;
        let was_extra = self.asked.iter().any(|asked| is_it(asked) && asked.2);
        self.asked.retain(|asked| !is_it(asked));
        match result {
            Ok(mut bytes) => {
                self.proof = self.proof.take().or(bytes.proof.take());
                self.arrived.push(Arrived {
                    shard,
                    columns,
                    bytes,
                });
            }
            Err(error) => {
                self.failed.insert(shard);
                if was_extra {
                    self.allowance += 1;
                }
                if matches!(error, PeerError::NotFound | PeerError::Corrupt) {
                    self.lost.extend(u8::try_from(shard));
                }
            }
        }
    }

    /// Which further shards to ask for `cover` now.
    fn substitutes(&mut self, missing: &[Piece], cover: &Range<usize>) -> Vec<usize> {
        let covers = |c: &Range<usize>| c.start <= cover.start && cover.end <= c.end;
        let usable = self.covering_shards(cover);
        let coming = self.asked.iter().filter(|(_, c, _)| covers(c)).count();
        let lost = missing
            .iter()
            .any(|piece| self.failed.contains(&piece.shard));
        let for_lost = if lost {
            self.needed().saturating_sub(usable + coming)
        } else {
            0
        };
        let more = for_lost.max(self.allowance);
        if more == 0 || self.asked.len() + self.arrived.len() >= FETCHES_MAX {
            return Vec::new();
        }
        let taken = |shard: usize| {
            self.failed.contains(&shard)
                || self
                    .arrived
                    .iter()
                    .any(|a| a.shard == shard && a.covers(cover))
                || self.asked.iter().any(|(s, c, _)| *s == shard && covers(c))
        };
        let chosen: Vec<usize> = (0..self.chunk.layout.shards.len())
            .filter(|&shard| !taken(shard) && self.reader.usable(self.chunk, shard))
            .take(more)
            .collect();
        self.allowance = self.allowance.saturating_sub(chosen.len());
        chosen
    }

    fn reconstructed(
        self,
        missing: &[Piece],
        cover: &Range<usize>,
    ) -> Result<ChunkBytes, ReadError> {
        let mut seen = BTreeSet::new();
        let parts: Vec<(usize, Bytes)> = self
            .arrived
            .iter()
            .filter(|a| a.covers(cover) && seen.insert(a.shard))
            .take(self.needed())
            .map(|a| {
                let skip = cover.start - a.columns.start;
                (
                    a.shard,
                    a.bytes.contiguous().slice(skip..skip + cover.len()),
                )
            })
            .collect();
        let present: Vec<(usize, &[u8])> = parts.iter().map(|(s, b)| (*s, b.as_ref())).collect();
        let wanted: Vec<usize> = missing
            .iter()
            .map(|p| p.shard)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let rebuilt = if self.needed() == 1 {
            // Copies: whichever arrived stands for the one that was asked first.
            let copy = parts
                .into_iter()
                .next()
                .map(|(_, bytes)| bytes)
                .unwrap_or_default();
            wanted
                .into_iter()
                .map(|shard| (shard, copy.clone()))
                .collect()
        } else {
            reconstruct(
                &self.reader.codecs,
                &self.chunk.layout,
                &present,
                &wanted,
                cover.len(),
            )?
        };
        let rebuilt: Vec<Arrived> = rebuilt
            .into_iter()
            .map(|(shard, bytes)| Arrived {
                shard,
                columns: cover.clone(),
                bytes: ShardBytes {
                    proof: None,
                    body: vec![bytes],
                },
            })
            .collect();
        self.assemble(&rebuilt)
    }

    /// Joins the wanted pieces; every one is covered by what arrived or was rebuilt.
    fn assemble(self, rebuilt: &[Arrived]) -> Result<ChunkBytes, ReadError> {
        let mut body = Vec::new();
        for piece in &self.wanted {
            let source = self
                .arrived
                .iter()
                .chain(rebuilt)
                .find(|a| a.shard == piece.shard && a.covers(&piece.columns))
                .ok_or_else(|| ReadError::Layout(format!("shard {} is missing", piece.shard)))?;
            let skip = piece.columns.start - source.columns.start;
            body.extend(frames(&source.bytes.body, skip, piece.columns.len()));
        }
        Ok(ChunkBytes {
            body,
            proof: self.proof,
            lost: self.lost,
        })
    }
}

/// `len` bytes from `skip` on, without copying.
fn frames(body: &[Bytes], mut skip: usize, mut len: usize) -> Vec<Bytes> {
    let mut out = Vec::with_capacity(body.len());
    for frame in body {
        if len == 0 {
            break;
        }
        if skip >= frame.len() {
            skip -= frame.len();
            continue;
        }
        let take = len.min(frame.len() - skip);
        out.push(frame.slice(skip..skip + take));
        skip = 0;
        len -= take;
    }
    out
}
