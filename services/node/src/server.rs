//! A node from its configuration to its end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use transport::{Bound, Credentials, CredentialsError, Listener, Role, server};

use crate::config::NodeConfig;
use crate::metrics::Metrics;
use crate::operations::Operations;
use crate::routes::{Routes, answer_monitor};
use crate::storage::Storage;
use crate::{background, shard_store};

/// Connections of monitors at once.
const MONITORS_MAX: usize = 8;
/// How long a monitor's request may take.
const MONITOR_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The configuration makes no sense.
    #[error("{0}")]
    Config(String),
    /// Its certificate cannot be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The certificate is not a node's.
    #[error("the certificate is for `{0}`, not for a node")]
    NotANode(Role),
    /// The shard store does not open.
    #[error(transparent)]
    Store(#[from] shards::OpenError),
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

/// A node that listens and does not answer yet.
pub struct Node<S> {
    config: NodeConfig,
    credentials: Arc<Credentials>,
    node: Arc<Operations<S>>,
    listener: Listener,
    monitors: Option<TcpListener>,
}

impl Node<shard_store::Store> {
    /// Opens the shard store and listens.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let credentials = credentials(&config)?;
        let store = shard_store::Store::open(&config)?;
        Self::with_store(config, credentials, store).await
    }
}

/// Loads what the node speaks for itself with.
///
/// # Errors
/// [`NodeError`] when it is not a node's certificate of this deployment, valid now.
pub fn credentials(config: &NodeConfig) -> Result<Arc<Credentials>, NodeError> {
    let credentials = Credentials::load(
        config.certificates.clone(),
        config.deployment,
        config.clock.clone(),
    )?;
    match credentials.own().role {
        Role::Node { .. } => Ok(credentials),
        other => Err(NodeError::NotANode(other)),
    }
}

impl<S: Storage> Node<S> {
    /// Listens, with shards in `store`.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn with_store(
        config: NodeConfig,
        credentials: Arc<Credentials>,
        store: S,
    ) -> Result<Self, NodeError> {
        let node = Arc::new(Operations::new(
            store,
            credentials.own().node_id(),
            config.clock.clone(),
            config.limits.clone(),
            Metrics::new()?,
        ));
        let listener = Listener::bind(&config.listen, credentials.clone())
            .await
            .map_err(|source| NodeError::Listen {
                address: format!("{:?}", config.listen),
                source,
            })?;
        let monitors = match config.metrics_listen {
            None => None,
            Some(address) if !address.ip().is_loopback() => {
                return Err(NodeError::Config(format!(
                    "metrics are served without a certificate, so on a loopback address only, not on {address}"
                )));
            }
            Some(address) => {
                Some(
                    TcpListener::bind(address)
                        .await
                        .map_err(|source| NodeError::Listen {
                            address: address.to_string(),
                            source,
                        })?,
                )
            }
        };
        Ok(Self {
            config,
            credentials,
            node,
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

    /// Its credentials; [`Credentials::reload`] takes a renewed certificate at once.
    #[must_use]
    pub fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    /// Answers until `shutdown` resolves; running requests finish first.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let Self {
            config,
            credentials,
            node,
            listener,
            monitors,
        } = self;
        tracing::info!(
            node = %node.node_id().to_string().chars().take(8).collect::<String>(),
            role = %credentials.own().role,
            address = %listener.bound(),
            "the node is up"
        );
        let mut tasks = JoinSet::new();
        tasks.spawn(background::maintain(
            node.clone(),
            config.maintenance_period,
        ));
        if !config.scrub_period.is_zero() {
            tasks.spawn(background::scrub(node.clone(), config.scrub_period));
        }
        tasks.spawn(background::watch_certificate(
            credentials.clone(),
            config.certificate_period,
        ));
        if let Some(monitors) = monitors {
            tasks.spawn(serve_monitors(monitors, node.clone()));
        }
        let routes = Arc::new(Routes::new(node));
        let service = move |peer, request| {
            let routes = routes.clone();
            async move { routes.answer(peer, request).await }
        };
        server::serve(
            listener,
            config.clock,
            config.limits.server,
            service,
            shutdown,
        )
        .await;
        tasks.shutdown().await;
        tracing::info!("the node is down");
    }
}

/// Plain HTTP/1 on a loopback address, for monitors.
async fn serve_monitors<S: Storage>(listener: TcpListener, node: Arc<Operations<S>>) {
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
        let node = node.clone();
        tokio::spawn(async move {
            let _slot = slot;
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(MONITOR_TIMEOUT)
                .keep_alive(false)
                .serve_connection(
                    TokioIo::new(stream),
                    service_fn(move |request| answer_monitor(node.clone(), request)),
                );
            match tokio::time::timeout(MONITOR_TIMEOUT, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a monitor's connection broke"),
            }
        });
    }
}

/// Starts a node and answers until `shutdown` resolves.
///
/// # Errors
/// [`NodeError`] when it does not start.
pub async fn run(config: NodeConfig, shutdown: impl Future<Output = ()>) -> Result<(), NodeError> {
    Node::start(config).await?.serve(shutdown).await;
    Ok(())
}

/// The runtime that suits a node: one thread for its connections, few for its disk.
///
/// # Errors
/// [`io::Error`] when the system gives no threads or descriptors.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_name("node-disk")
        .build()
}

/// Threads that wait for the disk, at most: reads in flight, and deletes that wait for a sync together.
const BLOCKING_THREADS: usize = 24;

/// Runs a node on a runtime of its own until SIGTERM or SIGINT.
///
/// # Errors
/// [`NodeError`] when it does not start.
pub fn run_until_signal(config: NodeConfig) -> Result<(), NodeError> {
    let runtime = runtime().map_err(NodeError::Runtime)?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).map_err(NodeError::Runtime)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(NodeError::Runtime)?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        run(config, shutdown).await
    })
}
