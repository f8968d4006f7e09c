//! Prometheus metrics of the gateway, under the names of `docs/operations`: bounded label sets, no ids in labels.

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// All metrics of one gateway.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by method, route and status.
    pub requests: IntCounterVec,
    /// Seconds by method and route.
    pub duration: HistogramVec,
    /// Body bytes of requests.
    pub request_bytes: IntCounter,
    /// Ciphertext bytes received.
    pub uploaded_bytes: IntCounter,
    /// Ciphertext bytes sent.
    pub downloaded_bytes: IntCounter,
    /// Requests told to come back later.
    pub rate_limited: IntCounter,
    /// Seconds of erasure encoding and hashing of a chunk.
    pub encode_duration: HistogramVec,
    /// Shards rebuilt and placed.
    pub repairs: IntCounter,
    /// Shards that went to another node because theirs was slow or silent.
    pub substitutions: IntCounter,
    /// Shards that a node's own scrub found damaged and that were given to repair.
    pub scrub_findings: IntCounter,
    /// Recovery records with fewer than five copies.
    pub pending_recovery: IntGauge,
    /// Shards that failed their CID check.
    pub corrupt_shards: IntCounter,
    /// Nodes by state.
    pub nodes: IntGaugeVec,
    /// Shards that have not reached their node.
    pub pending_shards: IntGauge,
    /// Chunks whose shards wait to be deleted.
    pub pending_deletions: IntGauge,
    /// Bytes of the memory budget in use.
    pub budget_used_bytes: IntGauge,
}

const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two metrics share a name: our bug, found by the first start.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("strongroom".to_owned()), None)?;
        let counter = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let metric = IntCounter::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let metric = IntGauge::new(name, help)?;
            registry.register(Box::new(metric.clone()))?;
            Ok(metric)
        };
        let histogram =
            |name: &str, help: &str, labels: &[&str]| -> Result<HistogramVec, prometheus::Error> {
                let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
                let metric = HistogramVec::new(options, labels)?;
                registry.register(Box::new(metric.clone()))?;
                Ok(metric)
            };
        let requests = IntCounterVec::new(
            Opts::new("requests_total", "Requests by method, route and status."),
            &["method", "endpoint", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let nodes = IntGaugeVec::new(Opts::new("nodes", "Storage nodes by state."), &["state"])?;
        registry.register(Box::new(nodes.clone()))?;
        Ok(Self {
            requests,
            nodes,
            duration: histogram(
                "request_duration_seconds",
                "Seconds until the answer's head, by method and route.",
                &["method", "endpoint"],
            )?,
            encode_duration: histogram(
                "erasure_encode_duration_seconds",
                "Seconds to check, encode and hash a chunk.",
                &["profile"],
            )?,
            request_bytes: counter("request_size_bytes", "Bytes of request bodies.")?,
            uploaded_bytes: counter("bytes_uploaded_total", "Ciphertext bytes received.")?,
            downloaded_bytes: counter("bytes_downloaded_total", "Ciphertext bytes sent.")?,
            rate_limited: counter("rate_limited_total", "Requests told to come back later.")?,
            repairs: counter("repair_total", "Shards rebuilt and placed.")?,
            substitutions: counter(
                "substituted_shards_total",
                "Shards that went to another node because theirs was slow or silent.",
            )?,
            scrub_findings: counter(
                "scrub_findings_total",
                "Damaged shards that a node found by itself and that were given to repair.",
            )?,
            pending_recovery: gauge(
                "pending_recovery_records",
                "Recovery records with fewer than five copies.",
            )?,
            corrupt_shards: counter(
                "corrupt_shards_total",
                "Shards that failed their CID check.",
            )?,
            pending_shards: gauge("pending_shards", "Shards that have not reached their node.")?,
            pending_deletions: gauge("pending_deletions", "Chunks waiting to be deleted.")?,
            budget_used_bytes: gauge("budget_used_bytes", "Bytes of the memory budget in use.")?,
            registry,
        })
    }

    /// The text exposition format.
    ///
    /// # Errors
    /// When a metric is malformed: our bug.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut out = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}
