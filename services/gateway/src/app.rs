//! Everything a request can reach.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use database::Database;
use domain::{BucketId, BucketName, TimestampMs, VersionId};
use objects::metadata::{Metadata as _, Mutation};
use tokio::sync::Notify;
use transport::{Credentials, LedgerClient};

use crate::budget::Budget;
use crate::codecs::Codecs;
use crate::config::GatewayConfig;
use crate::custody::Custody;
use crate::http::Answer;
use crate::http::answer::Failure;
use crate::metrics::Metrics;
use crate::node_port::NodePort;
use crate::peers::Peers;
use crate::records::Bucket;
use crate::recovery::Recovery;
use crate::shard_io::read::Reader;
use crate::shard_io::write::Writer;
use crate::unsettled::Unsettled;

/// How long a bucket's record is believed without asking metadata: another gateway may have changed it.
const BUCKET_CACHE: Duration = Duration::from_secs(5);

/// A running gateway.
#[derive(Debug)]
pub struct App {
    /// What it was told.
    pub config: GatewayConfig,
    /// The index.
    pub metadata: Database,
    /// The nodes.
    pub peers: Arc<Peers<NodePort>>,
    /// Reads chunks.
    pub reader: Reader<NodePort>,
    /// Writes chunks.
    pub writer: Writer<NodePort>,
    /// Erasure codecs.
    pub codecs: Arc<Codecs>,
    /// Bytes in flight.
    pub budget: Budget,
    /// This start's number.
    pub epoch: u64,
    /// Seals recovery records.
    pub recovery: Recovery,
    /// Counters.
    pub metrics: Metrics,
    /// Certificates towards the nodes.
    pub credentials: Arc<Credentials>,
    /// Pending shards may be there.
    pub pending_work: Notify,
    /// Shards have landed: whoever waits for an object to be fully placed looks again.
    pub placed: Notify,
    /// The way to the ledger, where there is one.
    pub ledger: Option<LedgerClient>,
    /// The way to custodians and workers, where there are any.
    pub custody: Option<Custody>,
    /// Records on the nodes that nobody has settled.
    pub unsettled: Arc<Unsettled>,
    /// When it started.
    pub started: Instant,
    pub(crate) session_stored: AtomicBool,
    pub(crate) buckets_by_name: moka::sync::Cache<BucketName, Arc<Bucket>>,
    pub(crate) buckets_by_id: moka::sync::Cache<BucketId, Arc<Bucket>>,
    pub(crate) version_buckets: moka::sync::Cache<VersionId, BucketId>,
    pub(crate) requests: AtomicU64,
    pub(crate) start_token: u32,
}

/// Caches of one app, in one place for the constructor.
pub(crate) fn bucket_cache<K>() -> moka::sync::Cache<K, Arc<Bucket>>
where
    K: std::hash::Hash + Eq + Send + Sync + 'static,
{
    moka::sync::Cache::builder()
        .max_capacity(10_000)
        .time_to_live(BUCKET_CACHE)
        .build()
}

impl App {
    /// Now.
    #[must_use]
    pub fn now(&self) -> TimestampMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        TimestampMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// A mutation that no request asked for, or one whose nonce need not be remembered.
    #[must_use]
    pub fn own_mutation(&self) -> Mutation {
        Mutation {
            now: self.now(),
            nonce: None,
        }
    }

    /// An id for a request that came without one.
    pub(crate) fn fresh_request_id(&self) -> String {
        let count = self.requests.fetch_add(1, Ordering::Relaxed);
        format!("{:08x}-{count:x}", self.start_token)
    }

    /// A bucket by name, whether or not the caller may see it.
    pub(crate) async fn bucket_by_name(&self, name: &str) -> Answer<Arc<Bucket>> {
        let missing = || Failure::not_found("bucket");
        let name: BucketName = name.parse().map_err(|_| missing())?;
        if let Some(bucket) = self.buckets_by_name.get(&name) {
            return Ok(bucket);
        }
        let row = self
            .metadata
            .bucket_by_name(&name)
            .await?
            .ok_or_else(missing)?;
        let bucket = Arc::new(Bucket::from_row(row, &self.config.deployment)?);
        self.buckets_by_name.insert(name, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// A bucket by id.
    pub(crate) async fn bucket_by_id(&self, id: BucketId) -> Answer<Arc<Bucket>> {
        if let Some(bucket) = self.buckets_by_id.get(&id) {
            return Ok(bucket);
        }
        let row = self
            .metadata
            .bucket(id)
            .await?
            .ok_or_else(|| Failure::not_found("bucket"))?;
        let bucket = Arc::new(Bucket::from_row(row, &self.config.deployment)?);
        self.buckets_by_id.insert(id, Arc::clone(&bucket));
        Ok(bucket)
    }

    /// Forgets what is cached of a bucket.
    pub(crate) fn forget_bucket(&self, bucket: &Bucket) {
        self.buckets_by_name.invalidate(&bucket.row.name);
        self.buckets_by_id.invalidate(&bucket.row.id);
    }
}
