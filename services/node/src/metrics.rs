//! What a node counts, in Prometheus text form.

use std::time::{Duration, Instant};

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// What is counted and timed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Store a shard.
    Put,
    /// Read a shard.
    Get,
    /// Move a shard into the trash.
    Delete,
    /// Take a shard out of the trash.
    Restore,
    /// Re-read and check a shard.
    Verify,
    /// List shards.
    List,
    /// Tell which shards are held.
    Has,
    /// Capacity and health.
    Stats,
}

impl Operation {
    const ALL: [Self; 8] = [
        Self::Put,
        Self::Get,
        Self::Delete,
        Self::Restore,
        Self::Verify,
        Self::List,
        Self::Has,
        Self::Stats,
    ];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Verify => "verify",
            Self::List => "list",
            Self::Has => "has",
            Self::Stats => "stats",
        }
    }
}

/// The node's counters. Label sets are closed: operations and refusal codes.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    storage_total: IntGauge,
    storage_used: IntGauge,
    shards: IntGauge,
    trash: IntGauge,
    writable: IntGauge,
    uptime: IntGauge,
    corrupt: IntGauge,
    scrubbed: IntGauge,
    requests: IntCounterVec,
    latency: HistogramVec,
}

/// What the store says at the moment of a scrape.
#[derive(Debug, Clone, Copy, Default)]
pub struct StorageGauges {
    /// Bytes that may be used.
    pub total_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Shards held.
    pub shard_count: u64,
    /// Bytes in the trash.
    pub trash_bytes: u64,
    /// Whether writes are taken.
    pub writable: bool,
    /// Shards found corrupted since the start.
    pub corrupt_count: u64,
    /// Shards that the scrub re-read since the start.
    pub scrubbed_count: u64,
}

impl Metrics {
    /// Fresh counters.
    ///
    /// # Errors
    /// [`prometheus::Error`] only when two metrics have one name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("strongroom_node".to_owned()), None)?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let requests = IntCounterVec::new(
            Opts::new(
                "requests_total",
                "Requests by operation and outcome (ok or the refusal)",
            ),
            &["operation", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let latency = HistogramVec::new(
            HistogramOpts::new(
                "request_latency_seconds",
                "Time from the request's head to the answer's",
            )
            .buckets(vec![
                0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
            ]),
            &["operation"],
        )?;
        registry.register(Box::new(latency.clone()))?;
        // Present from the first scrape on, so that a rate over them has a beginning.
        for operation in Operation::ALL {
            requests.with_label_values(&[operation.name(), "ok"]);
            latency.with_label_values(&[operation.name()]);
        }
        Ok(Self {
            storage_total: gauge("storage_total_bytes", "Bytes that the node may use")?,
            storage_used: gauge(
                "storage_used_bytes",
                "Bytes that the node uses, trash included",
            )?,
            shards: gauge("shard_count", "Shards that the node holds")?,
            trash: gauge(
                "trash_bytes",
                "Bytes of deleted shards that can still be restored",
            )?,
            writable: gauge("writable", "1 when the node takes writes")?,
            uptime: gauge("uptime_seconds", "Seconds since the start")?,
            corrupt: gauge("corrupt_shards", "Shards found corrupted since the start")?,
            scrubbed: gauge(
                "scrubbed_shards",
                "Shards that the scrub re-read since the start",
            )?,
            registry,
            started: Instant::now(),
            requests,
            latency,
        })
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// Counts one request; `status` is `ok` or a refusal code.
    pub fn observe(&self, operation: Operation, status: &'static str, took: Duration) {
        self.requests
            .with_label_values(&[operation.name(), status])
            .inc();
        self.latency
            .with_label_values(&[operation.name()])
            .observe(took.as_secs_f64());
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// [`prometheus::Error`] when a metric cannot be written as text.
    pub fn text(&self, storage: &StorageGauges) -> Result<Vec<u8>, prometheus::Error> {
        self.storage_total.set(signed(storage.total_bytes));
        self.storage_used.set(signed(storage.used_bytes));
        self.shards.set(signed(storage.shard_count));
        self.trash.set(signed(storage.trash_bytes));
        self.writable.set(i64::from(storage.writable));
        self.corrupt.set(signed(storage.corrupt_count));
        self.scrubbed.set(signed(storage.scrubbed_count));
        self.uptime.set(signed(self.uptime().as_secs()));
        let mut text = Vec::with_capacity(8 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_the_names_that_dashboards_read() {
        let metrics = Metrics::new().unwrap();
        metrics.observe(Operation::Put, "full", Duration::from_millis(2));
        let storage = StorageGauges {
            total_bytes: 7,
            ..StorageGauges::default()
        };
        let text = String::from_utf8(metrics.text(&storage).unwrap()).unwrap();
        for line in [
            "strongroom_node_storage_total_bytes 7",
            "strongroom_node_storage_used_bytes 0",
            "strongroom_node_shard_count 0",
            "strongroom_node_uptime_seconds 0",
            "strongroom_node_requests_total{operation=\"put\",status=\"full\"} 1",
            "strongroom_node_requests_total{operation=\"get\",status=\"ok\"} 0",
            "strongroom_node_request_latency_seconds_count{operation=\"put\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
