//! The nodes as this gateway sees them: who answers, how fast, and who has lied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::{Cid, NodeId};
use objects::layout::NodeSlot;
use objects::peer::{PeerError, PeerStats, ShardPeer};
use objects::placement::Candidate;

/// After this long without an answer a node is given no new writes (objects.md: WARNING).
pub const WARNING_AFTER: Duration = Duration::from_secs(60);
/// After this long it counts as lost (OFFLINE).
pub const OFFLINE_AFTER: Duration = Duration::from_secs(300);

/// Coordinator's view of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeState {
    /// Answers, or did within the last minute.
    Online,
    /// Silent for a minute.
    Warning,
    /// Silent for five minutes.
    Offline,
}

impl NodeState {
    /// As status answers spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Warning => "warning",
            Self::Offline => "offline",
        }
    }
}

/// One node.
#[derive(Debug)]
pub struct Peer<P> {
    /// Its number in metadata.
    pub slot: NodeSlot,
    /// Its identity.
    pub id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Its address, for status answers.
    pub address: String,
    /// Its weight in placement.
    pub weight: u32,
    /// The connection.
    pub client: P,
    reachable: AtomicBool,
    last_seen: Mutex<Instant>,
    probe_micros: AtomicU64,
    stats: Mutex<PeerStats>,
    /// Shards that failed their CID check.
    pub corrupt_shards: AtomicU32,
    /// The last of the damaged shards that were taken up: the next turn goes on after it.
    pub findings_after: Mutex<Option<Cid>>,
    requests: AtomicU64,
    failures: AtomicU64,
}

impl<P: ShardPeer> Peer<P> {
    /// A node that has not been probed yet: it counts as reachable until a request fails.
    pub fn new(
        slot: NodeSlot,
        id: NodeId,
        zone: String,
        address: String,
        weight: u32,
        client: P,
    ) -> Self {
        Self {
            slot,
            id,
            zone,
            address,
            weight,
            client,
            reachable: AtomicBool::new(true),
            last_seen: Mutex::new(Instant::now()),
            probe_micros: AtomicU64::new(0),
            stats: Mutex::new(PeerStats::default()),
            corrupt_shards: AtomicU32::new(0),
            findings_after: Mutex::new(None),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    /// Whether the last request or probe got an answer.
    pub fn reachable(&self) -> bool {
        self.reachable.load(Ordering::Relaxed)
    }

    /// Whether it answers and takes writes.
    pub fn writable(&self) -> bool {
        self.reachable() && self.stats().read_only.is_none()
    }

    /// By the time since it was last heard of.
    pub fn state(&self) -> NodeState {
        if self.reachable() {
            return NodeState::Online;
        }
        let silent = self
            .last_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        if silent >= OFFLINE_AFTER {
            NodeState::Offline
        } else if silent >= WARNING_AFTER {
            NodeState::Warning
        } else {
            NodeState::Online
        }
    }

    /// What it said of itself when last probed.
    pub fn stats(&self) -> PeerStats {
        self.stats
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Requests and failures since start.
    pub fn counters(&self) -> (u64, u64) {
        (
            self.requests.load(Ordering::Relaxed),
            self.failures.load(Ordering::Relaxed),
        )
    }

    /// Notes how a request ended.
    pub fn note<T>(&self, result: &Result<T, PeerError>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        match result {
            Err(PeerError::Unavailable(reason)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                if self.reachable.swap(false, Ordering::Relaxed) {
                    tracing::warn!(node = self.slot.0, %reason, "node does not answer");
                }
            }
            Err(PeerError::Refused(_) | PeerError::Misbehaved(_) | PeerError::Corrupt) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) | Err(PeerError::NotFound) => {
                if !self.reachable.swap(true, Ordering::Relaxed) {
                    tracing::info!(node = self.slot.0, "node answers again");
                }
            }
        }
    }

    /// When it last answered a probe, in milliseconds since 1970; `None` before the first.
    pub fn last_seen_ms(&self, now_ms: u64) -> Option<u64> {
        self.probe_us()?;
        let since = self
            .last_seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        Some(now_ms.saturating_sub(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// How long the last answered probe took; `None` before the first.
    pub fn probe_us(&self) -> Option<u64> {
        Some(self.probe_micros.load(Ordering::Relaxed)).filter(|&micros| micros > 0)
    }

    /// Asks for its counters and notes the answer. Returns whether it answered.
    pub async fn probe(&self, deadline: Duration) -> bool {
        let begun = Instant::now();
        let answer = tokio::time::timeout(deadline, self.client.stats())
            .await
            .unwrap_or_else(|_| Err(PeerError::Unavailable("no answer to the probe".to_owned())));
        self.note(&answer);
        match answer {
            Ok(stats) => {
                let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.probe_micros.store(micros.max(1), Ordering::Relaxed);
                *self
                    .last_seen
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Instant::now();
                *self.stats.lock().unwrap_or_else(PoisonError::into_inner) = stats;
                true
            }
            Err(_) => false,
        }
    }
}

/// All nodes of the deployment.
#[derive(Debug)]
pub struct Peers<P> {
    by_slot: BTreeMap<NodeSlot, Arc<Peer<P>>>,
    /// How long shard reads take, over all nodes of this class.
    pub read_latency: LatencyWindow,
}

impl<P: ShardPeer> Peers<P> {
    /// From the configured nodes.
    pub fn new(peers: Vec<Peer<P>>) -> Self {
        Self {
            by_slot: peers
                .into_iter()
                .map(|peer| (peer.slot, Arc::new(peer)))
                .collect(),
            read_latency: LatencyWindow::default(),
        }
    }

    /// By slot; `None` for a node that is not configured any more.
    pub fn get(&self, slot: NodeSlot) -> Option<&Arc<Peer<P>>> {
        self.by_slot.get(&slot)
    }

    /// By slot order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Peer<P>>> {
        self.by_slot.values()
    }

    /// How many answer and take writes.
    pub fn writable_count(&self) -> usize {
        self.iter().filter(|peer| peer.writable()).count()
    }

    /// Nodes that may be given shards: those that are not silent for a minute, unless there are fewer than `needed` of
    /// these; then all (the shards of silent ones stay pending).
    pub fn candidates(&self, needed: usize) -> Vec<Candidate> {
        let candidate = |peer: &Arc<Peer<P>>| Candidate {
            node: peer.slot,
            zone: peer.zone.clone(),
            weight: peer.weight,
        };
        let online: Vec<_> = self
            .iter()
            .filter(|peer| peer.state() == NodeState::Online)
            .map(candidate)
            .collect();
        if online.len() >= needed {
            online
        } else {
            self.iter().map(candidate).collect()
        }
    }
}

/// The last 128 latencies, for a percentile.
#[derive(Debug, Default)]
pub struct LatencyWindow {
    samples: Mutex<(Vec<u32>, usize)>,
    p95_micros: AtomicU32,
}

const WINDOW: usize = 128;

impl LatencyWindow {
    /// Adds one.
    pub fn record(&self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        let mut guard = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (samples, next) = &mut *guard;
        if samples.len() < WINDOW {
            samples.push(micros);
        } else if let Some(oldest) = samples.get_mut(*next) {
            *oldest = micros;
        }
        *next = (*next + 1) % WINDOW;
        if *next % 16 == 0 {
            let mut sorted = samples.clone();
            sorted.sort_unstable();
            let p95 = sorted.get(sorted.len() * 95 / 100).copied().unwrap_or(0);
            self.p95_micros.store(p95, Ordering::Relaxed);
        }
    }

    /// The 95th percentile, within bounds: a hedge neither fires at every read nor waits for ever.
    pub fn hedge_after(&self) -> Duration {
        let p95 = Duration::from_micros(self.p95_micros.load(Ordering::Relaxed).into());
        p95.clamp(Duration::from_millis(10), Duration::from_millis(250))
    }
}
