//! A validator from its configuration to its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use ledger::port::Ledger as _;
use solo::Solo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use transport::{Bound, Credentials, CredentialsError, Listener, Role, server};

use crate::config::ValidatorConfig;
use crate::metrics::Metrics;
use crate::routes::Routes;

/// Connections of monitors at once.
const MONITORS_MAX: usize = 8;
/// How long a monitor's request may take.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a validator does not run.
#[derive(Debug, thiserror::Error)]
pub enum ValidatorError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Its certificate cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate is not a validator's.
    #[error("the certificate is for `{0}`, not for a validator")]
    NotAValidator(Role),
    /// The ledger does not open.
    #[error(transparent)]
    Ledger(#[from] solo::OpenError),
    /// The ledger is of another deployment.
    #[error("the ledger is of another deployment")]
    OtherDeployment,
    /// It cannot listen.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The counters cannot be made.
    #[error("cannot make the counters: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The runtime or its signals cannot be set up.
    #[error("cannot start: {0}")]
    Runtime(io::Error),
}

/// A validator that listens and does not answer yet. Its ledger runs already.
pub struct Validator {
    config: ValidatorConfig,
    credentials: Arc<Credentials>,
    solo: Solo,
    routes: Arc<Routes>,
    listener: Listener,
    monitors: Option<TcpListener>,
}

impl Validator {
    /// Opens the ledger and listens.
    ///
    /// # Errors
    /// [`ValidatorError`].
    pub async fn start(config: ValidatorConfig) -> Result<Self, ValidatorError> {
        let credentials = Credentials::load(
            config.certificates.clone(),
            config.deployment,
            config.clock.clone(),
        )?;
        if credentials.own().role != Role::Validator {
            return Err(ValidatorError::NotAValidator(credentials.own().role));
        }
        let (solo, report) = Solo::open(config.solo.clone())?;
        if solo.genesis().deployment != config.deployment {
            return Err(ValidatorError::OtherDeployment);
        }
        tracing::info!(?report, "the ledger is open");
        let metrics = Arc::new(Metrics::new()?);
        let routes = Arc::new(Routes::new(
            solo.clone(),
            metrics,
            config.calls_max,
            config.subscriptions_max,
            config.call_timeout,
        ));
        let listener = Listener::bind(&config.listen, credentials.clone())
            .await
            .map_err(|source| ValidatorError::Listen {
                address: format!("{:?}", config.listen),
                source,
            })?;
        let monitors = match config.metrics_listen {
            None => None,
            Some(address) if !address.ip().is_loopback() => {
                return Err(ValidatorError::Config(format!(
                    "metrics are served without a certificate, so on a loopback address only, not on {address}"
                )));
            }
            Some(address) => {
                Some(
                    TcpListener::bind(address)
                        .await
                        .map_err(|source| ValidatorError::Listen {
                            address: address.to_string(),
                            source,
                        })?,
                )
            }
        };
        Ok(Self {
            config,
            credentials,
            solo,
            routes,
            listener,
            monitors,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn bound(&self) -> Bound {
        self.listener.bound()
    }

    /// Where monitors read, with the port that was picked.
    #[must_use]
    pub fn monitor_address(&self) -> Option<SocketAddr> {
        self.monitors
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// The ledger, for whoever runs the validator in its own process.
    #[must_use]
    pub fn solo(&self) -> Solo {
        self.solo.clone()
    }

    /// Answers until `shutdown` resolves; running requests finish first, then the ledger closes.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self {
            config,
            credentials,
            solo,
            routes,
            listener,
            monitors,
        } = self;
        let status = solo.status();
        tracing::info!(
            address = %listener.bound(),
            engine = status.engine,
            development = status.development,
            height = status.height.0,
            "the validator is up"
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_certificate(credentials, config.certificate_period));
        if let Some(monitors) = monitors {
            tasks.spawn(serve_monitors(monitors, routes.clone()));
        }
        let service = move |peer, request| {
            let routes = routes.clone();
            async move { routes.answer(peer, request).await }
        };
        server::serve(listener, config.clock, config.limits, service, shutdown).await;
        tasks.shutdown().await;
        // It waits for the disk.
        let _ = tokio::task::spawn_blocking(move || solo.close()).await;
        tracing::info!("the validator is down");
    }
}

/// Takes a renewed certificate without a restart.
async fn watch_certificate(credentials: Arc<Credentials>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match credentials.reload() {
            Ok(true) => tracing::info!("the certificate was renewed"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the certificate cannot be renewed"),
        }
    }
}

/// Plain HTTP/1 on a loopback address, for monitors.
async fn serve_monitors(listener: TcpListener, routes: Arc<Routes>) {
    let slots = Arc::new(Semaphore::new(MONITORS_MAX));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a monitor's connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let routes = routes.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(MONITOR_TIMEOUT)
                .keep_alive(false)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| routes.clone().answer_monitor(request)),
                );
            match tokio::time::timeout(MONITOR_TIMEOUT, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a monitor's connection broke"),
            }
        });
    }
}

/// Starts a validator and answers until `shutdown` resolves.
///
/// # Errors
/// [`ValidatorError`] when it does not start.
pub async fn run(
    config: ValidatorConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ValidatorError> {
    Validator::start(config).await?.serve(shutdown).await;
    Ok(())
}

/// Runs a validator on a runtime of its own until SIGTERM or SIGINT.
///
/// # Errors
/// [`ValidatorError`] when it does not start.
pub fn run_until_signal(config: ValidatorConfig) -> Result<(), ValidatorError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(ValidatorError::Runtime)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(ValidatorError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(ValidatorError::Runtime)?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run(config, shutdown).await
    })
}
