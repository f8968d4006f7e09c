//! What a validator is told at its start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use domain::DeploymentId;
use solo::SoloConfig;
use transport::server::ServerLimits;
use transport::{CertificateFiles, Clock, Listen};

/// How a validator runs. [`ValidatorConfig::new`] gives what `strongroom up` uses.
#[derive(Debug, Clone)]
pub struct ValidatorConfig {
    /// The validator's own folder: `identity/` (certificates), and `solo/` with genesis, log and snapshots.
    pub data_dir: PathBuf,
    /// The deployment that it belongs to.
    pub deployment: DeploymentId,
    /// Where it is reached.
    pub listen: Listen,
    /// Where `/health` and `/metrics` are readable without a certificate; loopback addresses only.
    pub metrics_listen: Option<SocketAddr>,
    /// Its certificate, key and CA.
    pub certificates: CertificateFiles,
    /// Where certificate checks get their time from.
    pub clock: Clock,
    /// The ledger, with the key that signs headers.
    pub solo: SoloConfig,
    /// Connections and streams.
    pub limits: ServerLimits,
    /// Calls that are being answered at once; subscriptions apart.
    pub calls_max: usize,
    /// Subscriptions at once.
    pub subscriptions_max: usize,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How often the certificate files are looked at.
    pub certificate_period: Duration,
}

impl ValidatorConfig {
    /// The defaults, with certificates in `data_dir/identity` and the ledger in `data_dir/solo`. Block times come from `clock`.
    #[must_use]
    pub fn new(
        data_dir: &Path,
        deployment: DeploymentId,
        listen: Listen,
        signer: Arc<Identity>,
        clock: Clock,
    ) -> Self {
        let now = clock.clone();
        Self {
            data_dir: data_dir.to_owned(),
            deployment,
            listen,
            metrics_listen: None,
            certificates: CertificateFiles::in_dir(&data_dir.join("identity")),
            clock,
            solo: SoloConfig::new(data_dir.join("solo"), signer, Arc::new(move || now.now())),
            limits: ServerLimits::default(),
            calls_max: 4_096,
            subscriptions_max: 64,
            call_timeout: Duration::from_secs(12),
            certificate_period: Duration::from_secs(60),
        }
    }
}
