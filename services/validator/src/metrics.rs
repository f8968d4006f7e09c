//! What a validator counts, in Prometheus text form.

use std::time::{Duration, Instant};

use prometheus::{
    Encoder as _, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use solo::SoloStatus;

/// What is counted and timed apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A transaction, until its block is final.
    Submit,
    /// Values with proofs.
    Read,
    /// A listing.
    List,
    /// A header.
    Finality,
    /// A receipt.
    Receipt,
    /// An answer to a nonce.
    Freshness,
    /// The status.
    Status,
}

impl Operation {
    const ALL: [Self; 7] = [
        Self::Submit,
        Self::Read,
        Self::List,
        Self::Finality,
        Self::Receipt,
        Self::Freshness,
        Self::Status,
    ];

    /// The label's value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::List => "list",
            Self::Finality => "finality",
            Self::Receipt => "receipt",
            Self::Freshness => "freshness",
            Self::Status => "status",
        }
    }
}

/// The validator's counters. Label sets are closed: operations, and codes of rejection.
pub struct Metrics {
    registry: Registry,
    started: Instant,
    height: IntGauge,
    time: IntGauge,
    mempool: IntGauge,
    keys: IntGauge,
    applied: IntGauge,
    syncs: IntGauge,
    log_bytes: IntGauge,
    writable: IntGauge,
    uptime: IntGauge,
    requests: IntCounterVec,
    finality: HistogramVec,
}

impl Metrics {
    /// Fresh counters.
    ///
    /// # Errors
    /// [`prometheus::Error`] only when two metrics have one name, which a test rules out.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("strongroom_ledger".to_owned()), None)?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let requests = IntCounterVec::new(
            Opts::new(
                "requests_total",
                "Requests by operation and outcome (ok, refused, or the code of rejection)",
            ),
            &["operation", "status"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        let finality = HistogramVec::new(
            HistogramOpts::new(
                "finality_seconds",
                "Time to the answer; of a submit: until its block is final",
            )
            .buckets(vec![
                0.000_3, 0.001, 0.002, 0.003, 0.005, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
            ]),
            &["operation"],
        )?;
        registry.register(Box::new(finality.clone()))?;
        // Present from the first scrape on, so that a rate over them has a beginning.
        for operation in Operation::ALL {
            requests.with_label_values(&[operation.name(), "ok"]);
            finality.with_label_values(&[operation.name()]);
        }
        Ok(Self {
            height: gauge("height", "The newest block")?,
            time: gauge("header_timestamp_seconds", "Time of the newest header")?,
            mempool: gauge("mempool", "Transactions that wait or are being written")?,
            keys: gauge("state_keys", "Keys of the state that have a value")?,
            applied: gauge(
                "applied_transactions",
                "Transactions applied since the start",
            )?,
            syncs: gauge("syncs", "Syncs of the log since the start")?,
            log_bytes: gauge("log_bytes", "Bytes of the log file that is written")?,
            writable: gauge("writable", "1 when transactions are taken")?,
            uptime: gauge("uptime_seconds", "Seconds since the start")?,
            registry,
            started: Instant::now(),
            requests,
            finality,
        })
    }

    /// Counts one request.
    pub fn observe(&self, operation: Operation, status: &'static str, took: Duration) {
        self.requests
            .with_label_values(&[operation.name(), status])
            .inc();
        self.finality
            .with_label_values(&[operation.name()])
            .observe(took.as_secs_f64());
    }

    /// Time since the start.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// [`prometheus::Error`] when a metric cannot be written as text.
    pub fn text(&self, status: &SoloStatus) -> Result<Vec<u8>, prometheus::Error> {
        self.height.set(signed(status.height.0));
        self.time.set(signed(status.time.0 / 1_000));
        self.mempool.set(count(status.waiting));
        self.keys.set(count(status.keys));
        self.applied.set(signed(status.applied));
        self.syncs.set(signed(status.syncs));
        self.log_bytes.set(signed(status.log_bytes));
        self.writable.set(i64::from(status.writable.is_ok()));
        self.uptime.set(signed(self.uptime().as_secs()));
        let mut text = Vec::with_capacity(8 << 10);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
