//! Start and end of a gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use database::{ConnectError, Database, Options};
use objects::metadata::{Metadata as _, MetadataError};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use transport::client::{ClientOptions, NodeAddress, NodeClient};
use transport::{CertificateFiles, Clock, Credentials, LedgerClient};

use crate::app::{App, bucket_cache};
use crate::budget::Budget;
use crate::codecs::Codecs;
use crate::config::{GatewayConfig, NodeEndpoint, ServerCertificate};
use crate::custody::Custody;
use crate::http;
use crate::metrics::Metrics;
use crate::node_port::NodePort;
use crate::peers::{Peer, Peers};
use crate::recovery::Recovery;
use crate::shard_io::read::Reader;
use crate::shard_io::write::Writer;

/// How long the start waits for nodes that would hold this start's recovery session.
const SESSION_DEADLINE: Duration = Duration::from_secs(10);

/// Why a gateway did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Plain HTTP is for loopback alone.
    #[error(
        "{0} is not a loopback address: give the gateway a server certificate, plain HTTP is served on loopback only"
    )]
    PlainHttp(SocketAddr),
    /// The genesis of another deployment's ledger.
    #[error("the genesis is that of another deployment")]
    OtherGenesis,
    /// Custodians and workers cannot be reached as configured.
    #[error(transparent)]
    Custody(#[from] crate::custody::CustodyError),
    /// A node's address that cannot be read.
    #[error("node address {0:?} is neither unix:PATH nor tls:HOST:PORT")]
    NodeAddress(String),
    /// The private CA's certificates.
    #[error("certificates towards the nodes: {0}")]
    Credentials(#[from] transport::credentials::CredentialsError),
    /// The certificate shown to clients.
    #[error("server certificate: {0}")]
    ServerCertificate(String),
    /// The deployment's recovery key.
    #[error("the recovery key of the deployment is malformed: {0}")]
    RecoveryKey(#[from] crypto::hybrid::HybridError),
    /// The database cannot be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The database failed.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Metrics cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Listening or serving failed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The gRPC contract that was compiled in.
    #[error("the gRPC contract: {0}")]
    Contract(#[from] crate::grpc::ContractError),
    /// No randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// A gateway that listens and is ready to serve.
pub struct Gateway {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    grpc: Option<(TcpListener, SocketAddr)>,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Runs a gateway until `shutdown` resolves.
///
/// # Errors
/// [`GatewayError`].
pub async fn run(
    config: GatewayConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<(), GatewayError> {
    Gateway::start(config).await?.serve(shutdown).await
}

impl Gateway {
    /// Opens the database, registers the nodes, binds the listeners.
    ///
    /// # Errors
    /// [`GatewayError`].
    pub async fn start(config: GatewayConfig) -> Result<Self, GatewayError> {
        let tls = match &config.server_certificate {
            Some(files) => Some(acceptor(files)?),
            None => {
                let mut listens = std::iter::once(config.listen).chain(config.grpc_listen);
                if let Some(open) = listens.find(|address| !address.ip().is_loopback()) {
                    return Err(GatewayError::PlainHttp(open));
                }
                None
            }
        };
        let credentials = Credentials::load(
            CertificateFiles {
                ca: config.peers.ca.clone(),
                certificate: config.peers.certificate.clone(),
                key: config.peers.key.clone(),
            },
            config.deployment,
            Clock::system(),
        )?;
        let recovery = Recovery::start(&config.recovery_public, config.deployment)?;
        let url = config.database_url.clone().unwrap_or_else(|| {
            format!(
                "sqlite:{}",
                config.data_dir.join("metadata.sqlite").display()
            )
        });
        let grace_ms = u64::try_from(config.deletion_grace.as_millis()).unwrap_or(u64::MAX);
        let metadata = Database::connect_with(
            &url,
            Options {
                grace_ms,
                ..Options::default()
            },
        )
        .await?;
        let mut peers = Vec::with_capacity(config.nodes.len());
        for node in &config.nodes {
            peers.push(peer(&metadata, node, &credentials).await?);
        }
        let peers = Arc::new(Peers::new(peers));
        let codecs = Arc::new(Codecs::default());
        let (listener, bound) = bind(config.listen).await?;
        let grpc = match config.grpc_listen {
            Some(address) => Some(bind(address).await?),
            None => None,
        };
        let mut token = [0; 4];
        getrandom::fill(&mut token)?;
        let ledger = ledger_client(&config, &credentials)?;
        let mut app = App {
            epoch: 0,
            reader: Reader::new(Arc::clone(&peers), Arc::clone(&codecs)),
            writer: Writer::new(Arc::clone(&peers)),
            codecs,
            budget: Budget::new(config.budget_bytes, config.principal_budget_bytes),
            recovery,
            metrics: Metrics::new()?,
            credentials: Arc::clone(&credentials),
            pending_work: Notify::new(),
            placed: Notify::new(),
            custody: custody(&config, ledger.as_ref()).await?,
            ledger,
            unsettled: Arc::default(),
            started: Instant::now(),
            session_stored: AtomicBool::new(false),
            buckets_by_name: bucket_cache(),
            buckets_by_id: bucket_cache(),
            version_buckets: moka::sync::Cache::builder()
                .max_capacity(10_000)
                .time_to_live(Duration::from_secs(60))
                .build(),
            requests: AtomicU64::new(0),
            start_token: u32::from_be_bytes(token),
            metadata,
            peers,
            config,
        };
        app.epoch = app.metadata.start_epoch(app.now()).await?;
        Ok(Self {
            app: Arc::new(app),
            listener,
            address: bound,
            grpc,
            tls,
        })
    }

    /// Where it listens; tells the port when port 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where gRPC is served, if it is.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc.as_ref().map(|(_, address)| *address)
    }

    /// Serves until `shutdown` resolves.
    ///
    /// # Errors
    /// [`GatewayError::Listen`].
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), GatewayError> {
        let Self {
            app,
            listener,
            address,
            grpc,
            tls,
        } = self;
        app.probe_all().await;
        app.store_session_when_nodes_answer().await;
        app.spawn_upkeep();
        tracing::info!(%address, epoch = app.epoch, "gateway serves");
        let (connections, min_rate) = (app.config.connections_max, app.config.min_rate_bytes);
        // One end for all listeners.
        let (ended, end) = tokio::sync::watch::channel(false);
        let until = |mut end: tokio::sync::watch::Receiver<bool>| async move {
            let _ = end.wait_for(|ended| *ended).await;
        };
        let rest = {
            let router = http::router(Arc::clone(&app));
            let end = until(end.clone());
            http::server::serve(listener, tls.clone(), router, connections, min_rate, end)
        };
        let grpc = match grpc {
            None => None,
            Some((listener, address)) => {
                tracing::info!(%address, "gRPC is served");
                let router = crate::grpc::router(Arc::clone(&app)).await?;
                let end = until(end);
                let served = http::server::serve(listener, tls, router, connections, min_rate, end);
                Some((address, served))
            }
        };
        let rest = async {
            rest.await
                .map_err(|source| GatewayError::Listen { address, source })
        };
        let grpc = async {
            match grpc {
                None => Ok(()),
                Some((address, served)) => served
                    .await
                    .map_err(|source| GatewayError::Listen { address, source }),
            }
        };
        let mut both = std::pin::pin!(async { tokio::try_join!(rest, grpc) });
        let served = tokio::select! {
            served = &mut both => served,
            () = shutdown => {
                ended.send_replace(true);
                both.await
            }
        };
        app.metadata.close().await;
        served.map(|_| ())
    }
}

impl App {
    /// Puts this start's recovery session on the nodes. When they stay away the gateway serves reads all the same; the
    /// first write tries again and is refused if that fails.
    async fn store_session_when_nodes_answer(&self) {
        let deadline = Instant::now() + SESSION_DEADLINE;
        while let Err(crate::http::answer::Failure(error)) = self.require_session().await {
            if Instant::now() > deadline {
                tracing::error!(error = %error.detail, "too few nodes take this start's recovery session: no writes until they do");
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.probe_all().await;
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), GatewayError> {
    let failed = |source| GatewayError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn address_of(text: &str) -> Result<NodeAddress, GatewayError> {
    if let Some(path) = text.strip_prefix("unix:") {
        Ok(NodeAddress::Unix(path.into()))
    } else if let Some(address) = text.strip_prefix("tls:") {
        Ok(NodeAddress::Tls(address.to_owned()))
    } else {
        Err(GatewayError::NodeAddress(text.to_owned()))
    }
}

/// The client of the validator; connects when first used.
fn ledger_client(
    config: &GatewayConfig,
    credentials: &Arc<Credentials>,
) -> Result<Option<LedgerClient>, GatewayError> {
    let Some(custody) = &config.custody else {
        return Ok(None);
    };
    if custody.genesis.deployment != config.deployment {
        return Err(GatewayError::OtherGenesis);
    }
    let client = LedgerClient::new(
        address_of(&custody.validator)?,
        Arc::clone(&custody.genesis),
        Arc::clone(credentials),
        ClientOptions::default(),
    )?;
    Ok(Some(client))
}

/// Sessions with custodians and workers, where the deployment has them.
async fn custody(
    config: &GatewayConfig,
    ledger: Option<&LedgerClient>,
) -> Result<Option<Custody>, GatewayError> {
    match (&config.custody, ledger) {
        (Some(custody), Some(ledger)) if !custody.custodians.is_empty() => {
            Ok(Some(Custody::start(custody, ledger.clone()).await?))
        }
        _ => Ok(None),
    }
}

async fn peer(
    metadata: &Database,
    node: &NodeEndpoint,
    credentials: &Arc<Credentials>,
) -> Result<Peer<NodePort>, GatewayError> {
    let address = address_of(&node.address)?;
    let slot = metadata
        .register_node(node.id, &node.zone, &node.address, node.weight)
        .await?;
    let endpoint = transport::client::NodeEndpoint {
        address,
        slot: node.slot,
        node: Some(node.id),
    };
    let client = NodeClient::new(endpoint, Arc::clone(credentials), ClientOptions::default())?;
    Ok(Peer::new(
        slot,
        node.id,
        node.zone.clone(),
        node.address.clone(),
        node.weight,
        NodePort(client),
    ))
}

fn acceptor(files: &ServerCertificate) -> Result<tokio_rustls::TlsAcceptor, GatewayError> {
    use rustls_pki_types::pem::PemObject as _;
    let bad =
        |error: rustls_pki_types::pem::Error| GatewayError::ServerCertificate(error.to_string());
    let chain = rustls_pki_types::CertificateDer::pem_file_iter(&files.certificate)
        .map_err(bad)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(bad)?;
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(&files.key).map_err(bad)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tokio_rustls::TlsAcceptor::from(Arc::new(config)))
}
