//! Puts a custodian together and serves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::{EvidenceSource, Role, SealingKeySource};
use attested::{Admit, Endpoint, Local, SessionError, Trust};
use domain::DeploymentId;
use enclave::{Hardened, MeasureError, PlatformError, SoftwarePlatform, measure_self};
use enclave_client::{Address, ServeBounds, serve, session_limits};
use ledger::{Genesis, Record as _};
use relay::{Options, RelayClient, View};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Bounds, Config, Platform};
use crate::custodian::{About, Custodian, CustodianError, rng};
use crate::store::{Store, StoreError};

/// Bytes of a genesis record, at most.
const GENESIS_BYTES_MAX: u64 = 16_384;

/// Why a custodian does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or socket.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The genesis file.
    #[error("{} is no genesis record: {reason}", path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The software platform in a deployment that is not for development.
    #[error(
        "the software platform protects nothing and is for development deployments only: the genesis says production"
    )]
    Production,
    /// The software platform's key is not the one that the genesis pins: no one would accept this process's evidence.
    #[error("the software platform's key is not the one that the genesis names")]
    AnotherRoot,
    /// The platform.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The own program.
    #[error(transparent)]
    Measure(#[from] MeasureError),
    /// The sealed store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The custodian.
    #[error(transparent)]
    Custodian(#[from] CustodianError),
    /// TLS.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A custodian that serves.
#[derive(Debug)]
pub struct Running {
    custodian: Arc<Custodian>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The custodian.
    #[must_use]
    pub fn custodian(&self) -> &Arc<Custodian> {
        &self.custodian
    }

    /// Stops serving; resolves when nothing runs any more.
    pub async fn stop(self) {
        // It may have ended already.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// What makes evidence and gives the sealing key, for one process.
trait PlatformPorts: EvidenceSource + SealingKeySource {}
impl<T: EvidenceSource + SealingKeySource> PlatformPorts for T {}

struct Parts {
    genesis: Arc<Genesis>,
    platform: Arc<SoftwarePlatform>,
    store: Arc<Store>,
    me: crypto::Identity,
    about: About,
}

/// Opens what lies on the disk, and makes what is missing.
fn open(config: &Config, hardened: Option<&Hardened>) -> Result<Parts, StartError> {
    let genesis = read_genesis(&config.genesis)?;
    let platform = open_platform(config, &genesis, hardened)?;
    let store = open_store(&config.data, genesis.deployment, &platform)?;
    let me = store.identity(&mut rng())?;
    let about = About {
        platform: EvidenceSource::platform(&platform),
        measurement: platform.measurement().0.to_vec(),
    };
    Ok(Parts {
        genesis: Arc::new(genesis),
        platform: Arc::new(platform),
        store: Arc::new(store),
        me,
        about,
    })
}

fn open_platform(
    config: &Config,
    genesis: &Genesis,
    hardened: Option<&Hardened>,
) -> Result<SoftwarePlatform, StartError> {
    let Platform::DangerSoftware(dir) = &config.platform;
    if !genesis.development {
        return Err(StartError::Production);
    }
    let platform = SoftwarePlatform::danger_open(
        dir,
        &config.data,
        genesis.deployment,
        measure_self()?,
        0,
        hardened,
    )?;
    if genesis.software_root != Some(platform.root()) {
        return Err(StartError::AnotherRoot);
    }
    Ok(platform)
}

fn open_store(
    data: &Path,
    deployment: DeploymentId,
    platform: &dyn PlatformPorts,
) -> Result<Store, StartError> {
    Ok(Store::open(&data.join("store"), deployment, platform)?)
}

/// Makes the sealed keys where there are none, and says who this is: what provisioning puts on the ledger.
///
/// # Errors
/// [`StartError`].
pub fn describe(config: &Config, hardened: Option<&Hardened>) -> Result<String, StartError> {
    let parts = open(config, hardened)?;
    let measurement: String = parts
        .about
        .measurement
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let about = serde_json::json!({
        "principal": parts.me.principal().to_string(),
        "role": Role::Custodian.name(),
        "platform": parts.about.platform.name(),
        "measurement": measurement,
    });
    Ok(about.to_string())
}

/// Starts a custodian; it listens on return. Without the proof that the process is hardened its evidence says `debug`, and nobody
/// accepts it.
///
/// # Errors
/// [`StartError`].
pub async fn start(
    config: &Config,
    bounds: Bounds,
    hardened: Option<&Hardened>,
) -> Result<Running, StartError> {
    let parts = tokio::task::block_in_place(|| open(config, hardened))?;
    let client = RelayClient::new(&config.relay);
    let view = View::start(client, parts.genesis.clone(), Options::default()).await;
    let trust = Trust {
        deployment: parts.genesis.deployment,
        verifiers: relay::verifiers(&parts.genesis),
        policy: view.policy(),
        now: view.clock(),
    };
    let local = Local::Enclave {
        role: Role::Custodian,
        source: parts.platform,
    };
    let endpoint = Arc::new(Endpoint::new(local, trust, session_limits())?);
    let custodian = tokio::task::block_in_place(|| {
        Custodian::new(parts.store, parts.me, view, parts.about, bounds)
    })?;
    let custodian = Arc::new(custodian);
    custodian.compare_with_anchor().await;
    let (stop, stopped) = oneshot::channel::<()>();
    let listener = Listener::bind(&config.listen).await?;
    let serving = custodian.clone();
    let task = tokio::spawn(async move {
        let stopped = async {
            // A dropped handle stops it too.
            let _ = stopped.await;
        };
        tokio::select! {
            () = listener.serve(endpoint, serving.clone()) => {}
            () = serving.keep_up() => {}
            () = stopped => {}
        }
        serving.anchor_at_stop().await;
    });
    Ok(Running {
        custodian,
        stop,
        task,
    })
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn bind(address: &Address) -> Result<Self, StartError> {
        match address {
            Address::Unix(path) => {
                let failed = |action| {
                    move |source| StartError::Io {
                        action,
                        path: path.clone(),
                        source,
                    }
                };
                // A socket that a killed predecessor left; the sealed store's lock keeps two from running.
                match std::fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(failed("remove the old socket")(error));
                    }
                    _ => {}
                }
                UnixListener::bind(path)
                    .map(Self::Unix)
                    .map_err(failed("listen on"))
            }
            Address::Tcp(host) => TcpListener::bind(host.as_str())
                .await
                .map(Self::Tcp)
                .map_err(|source| StartError::Io {
                    action: "listen on",
                    path: host.into(),
                    source,
                }),
        }
    }

    async fn serve(self, endpoint: Arc<Endpoint>, custodian: Arc<Custodian>) {
        let admit = Admit::roles(&[Role::Client, Role::Worker]);
        let bounds = ServeBounds::default();
        let never = std::future::pending();
        match self {
            Self::Unix(listener) => {
                serve(listener, endpoint, admit, custodian, bounds, never).await
            }
            Self::Tcp(listener) => serve(listener, endpoint, admit, custodian, bounds, never).await,
        }
    }
}

fn read_genesis(path: &Path) -> Result<Genesis, StartError> {
    use std::io::Read as _;
    let failed = |source| StartError::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .map_err(failed)?
        .take(GENESIS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    Genesis::decode(&bytes).map_err(|error| StartError::Genesis {
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}
